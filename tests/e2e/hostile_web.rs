//! What attackers do over HTTP, byte by byte.

use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_http::status_of;
use coffre_tests::{Gateway, RawHttp, run, run_ok, wait};

/// Seconds after which a silent connection must be over: 30 s of grace, and room for a busy machine.
const GRACE_SECS_MAX: u64 = 60;

fn with_victim() -> Result<Gateway> {
    let gateway = Gateway::start()?;
    put(&gateway, "victim", b"the victim's content")?;
    Ok(gateway)
}

fn put(gateway: &Gateway, path: &str, content: &[u8]) -> Result<()> {
    let finished = run(gateway.curl().args(["--fail", "-T", "-"]).arg(gateway.url(path)), content)?;
    ensure!(finished.status.success(), "PUT {path}: {}", finished.stderr);
    Ok(())
}

fn assert_holds(gateway: &Gateway, path: &str, content: &[u8]) -> Result<()> {
    let found = run_ok(gateway.curl().arg("--fail").arg(gateway.url(path)))?.stdout;
    ensure!(found == content, "{path} holds {:?}", String::from_utf8_lossy(&found));
    Ok(())
}

fn assert_victim(gateway: &Gateway) -> Result<()> {
    assert_holds(gateway, "victim", b"the victim's content")
}

fn assert_refused(what: &str, answer: &str) -> Result<()> {
    ensure!((400..500).contains(&status_of(answer)), "{what}: {answer:?}");
    Ok(())
}

#[test]
fn xml_nested_5000_deep_is_refused_and_the_server_lives() -> Result<()> {
    let gateway = with_victim()?;
    for (method, root) in [("PROPFIND", "propfind"), ("PROPPATCH", "propertyupdate"), ("LOCK", "lockinfo")] {
        for depth in [40, 5000] {
            let body =
                format!("<{root} xmlns='DAV:'>{}{}</{root}>", "<a>".repeat(depth), "</a>".repeat(depth));
            let answer =
                RawHttp::exchange(&gateway, &format!("{method} /victim"), "Depth: 0\r\n", body.as_bytes())?;
            assert_refused(&format!("{method} {depth} deep"), &answer)?;
        }
        let unclosed = format!("<{root} xmlns='DAV:'>{}", "<a>".repeat(10_000));
        let answer =
            RawHttp::exchange(&gateway, &format!("{method} /victim"), "Depth: 0\r\n", unclosed.as_bytes())?;
        assert_refused(&format!("{method} unclosed"), &answer)?;
    }
    assert_victim(&gateway)
}

#[test]
fn document_types_and_entities_are_refused() -> Result<()> {
    let gateway = with_victim()?;
    let laughs: Vec<String> = (1..20)
        .map(|level| format!("<!ENTITY l{level} \"{}\">", format!("&l{};", level - 1).repeat(10)))
        .collect();
    let bomb = format!("<!DOCTYPE p [<!ENTITY l0 \"ha\">{}]><p>&l19;</p>", laughs.concat());
    for body in [
        "<!DOCTYPE p [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><propfind xmlns='DAV:'><prop><a>&x;</a></prop></propfind>",
        "<!DOCTYPE p SYSTEM 'http://127.0.0.1:9/x.dtd'><propfind xmlns='DAV:'><allprop/></propfind>",
        "<?xml version='1.0'?><!DOCTYPE propfind><propfind xmlns='DAV:'><allprop/></propfind>",
        bomb.as_str(),
    ] {
        for method in ["PROPFIND", "PROPPATCH", "LOCK"] {
            let answer =
                RawHttp::exchange(&gateway, &format!("{method} /victim"), "Depth: 0\r\n", body.as_bytes())?;
            assert_refused(method, &answer)?;
            ensure!(!answer.contains("root:"), "{answer}");
        }
    }
    assert_victim(&gateway)
}

#[test]
fn an_xml_body_over_64_kib_is_refused() -> Result<()> {
    let gateway = with_victim()?;
    let body = format!("<propfind xmlns='DAV:'><prop>{}</prop></propfind>", "<a/>".repeat(20_000));
    let answer = RawHttp::exchange(&gateway, "PROPFIND /victim", "Depth: 0\r\n", body.as_bytes())?;
    assert_refused("a large body", &answer)
}

#[test]
fn a_body_is_asked_for_only_after_the_credential_was_checked() -> Result<()> {
    let gateway = with_victim()?;
    for method in ["PUT /victim", "PROPFIND /"] {
        let mut raw = RawHttp::connect(&gateway)?;
        let headers = "Content-Length: 1000000\r\nExpect: 100-continue\r\nDepth: 0\r\n";
        raw.request_without_credentials(method, headers)?;
        ensure!(raw.status()? == Some(401), "{method}");
    }
    assert_victim(&gateway)
}

#[test]
fn depth_infinity_and_a_missing_depth_are_refused_as_the_standard_says() -> Result<()> {
    let gateway = with_victim()?;
    for headers in
        ["", "Depth: infinity\r\n", "X-Litmus: 1\r\n", "X-Litmus: 1\r\nDepth: infinity\r\n", "Depth: 2\r\n"]
    {
        let answer = RawHttp::exchange(&gateway, "PROPFIND /", headers, b"")?;
        ensure!(matches!(status_of(&answer), 400 | 403), "{headers:?}: {answer}");
        ensure!(!answer.contains("victim"), "{headers:?} walked: {answer}");
        ensure!(status_of(&answer) == 400 || answer.contains("propfind-finite-depth"), "{answer}");
    }
    Ok(())
}

#[test]
fn a_destination_on_another_host_or_outside_is_refused() -> Result<()> {
    let gateway = with_victim()?;
    for destination in [
        "https://evil.example/moved",
        "http://evil.example:1/moved",
        "//evil.example/moved",
        "https://127.0.0.1:1/moved",
        "ftp://127.0.0.1/moved",
        "moved",
        "",
        "https://",
        "%zz",
    ] {
        for method in ["MOVE", "COPY"] {
            let header = format!("Destination: {destination}\r\n");
            let answer = RawHttp::exchange(&gateway, &format!("{method} /victim"), &header, b"")?;
            let status = status_of(&answer);
            ensure!((400..500).contains(&status) || status == 502, "{method} to {destination:?}: {answer}");
            assert_victim(&gateway)?;
        }
    }
    ensure!(gateway.curl_status(&[&gateway.url("moved")])? == 404, "something arrived");
    Ok(())
}

#[test]
fn a_move_or_copy_onto_its_own_parent_or_into_itself_destroys_nothing() -> Result<()> {
    let gateway = with_victim()?;
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("a")])? == 201);
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("a/b")])? == 201);
    put(&gateway, "a/kept", b"kept")?;
    put(&gateway, "a/b/inner", b"inner")?;
    for (from, to) in
        [("a/b", "a"), ("a", "a/b"), ("a", "a/b/c"), ("a", "a"), ("a/kept", "a/kept"), ("a", "")]
    {
        for method in ["MOVE", "COPY"] {
            let header = format!("Destination: {}\r\n", gateway.url(to));
            let answer = RawHttp::exchange(&gateway, &format!("{method} /{from}"), &header, b"")?;
            ensure!((400..500).contains(&status_of(&answer)), "{method} {from} onto {to}: {answer}");
            assert_holds(&gateway, "a/kept", b"kept")?;
            assert_holds(&gateway, "a/b/inner", b"inner")?;
        }
    }
    Ok(())
}

#[test]
fn overwrite_f_in_any_case_overwrites_nothing() -> Result<()> {
    let gateway = with_victim()?;
    put(&gateway, "other", b"other")?;
    for spelling in ["F", "f"] {
        for method in ["MOVE", "COPY"] {
            let header = format!("Destination: {}\r\nOverwrite: {spelling}\r\n", gateway.url("victim"));
            let answer = RawHttp::exchange(&gateway, &format!("{method} /other"), &header, b"")?;
            ensure!(matches!(status_of(&answer), 400 | 412), "{method} {spelling}: {answer}");
            assert_victim(&gateway)?;
        }
    }
    Ok(())
}

#[test]
fn a_body_shorter_than_it_said_leaves_the_old_file() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /victim", "Content-Length: 100000\r\n")?;
    raw.send(b"half of a file")?;
    drop(raw);
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /victim", "Transfer-Encoding: chunked\r\n")?;
    raw.send(b"5\r\nwrong\r\n")?;
    drop(raw);
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /victim", "Transfer-Encoding: chunked\r\n")?;
    raw.send(b"5\r\nwrong\r\nnot a length\r\n")?;
    ensure!(raw.status()?.is_none_or(|status| status >= 400), "a broken chunk was taken");
    drop(raw);
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /fresh", "Content-Length: 100000\r\n")?;
    raw.send(&noise(1, 50_000))?;
    drop(raw);
    // Requests that come later see what these left.
    assert_victim(&gateway)?;
    ensure!(gateway.curl_status(&[&gateway.url("fresh")])? == 404, "half a file is visible");
    assert_victim(&gateway)
}

#[test]
fn malformed_conditions_refuse_a_change_and_the_server_lives() -> Result<()> {
    let gateway = with_victim()?;
    for header in [
        "If: (<urn:x",
        "If: (<urn:uuid:0>)",
        "If: garbage",
        "If-Match: \"",
        "If-Match: garbage",
        "If: (Not",
        "If: ((((((",
    ] {
        let answer = RawHttp::exchange(&gateway, "PUT /victim", &format!("{header}\r\n"), b"lost update")?;
        ensure!(matches!(status_of(&answer), 400 | 412), "{header}: {answer:?}");
        assert_victim(&gateway)?;
    }
    // Joplin's unquoted one on a read is ignored.
    let answer = RawHttp::exchange(&gateway, "GET /victim", "If-None-Match: garbage\r\n", b"")?;
    ensure!(status_of(&answer) == 200, "{answer:?}");
    Ok(())
}

#[test]
fn no_spelling_of_a_path_leaves_the_namespace() -> Result<()> {
    let gateway = with_victim()?;
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e%2fetc%2fpasswd",
        "//etc/passwd",
        "/etc/passwd%00.txt",
        "/victim%00",
        "/victim/../../../etc/passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "/..\\..\\etc\\passwd",
        "/victim%2f..%2f..%2fetc%2fpasswd",
    ] {
        for method in ["GET", "PROPFIND", "DELETE", "PUT"] {
            let answer = RawHttp::exchange(&gateway, &format!("{method} {path}"), "Depth: 0\r\n", b"")?;
            let status = status_of(&answer);
            // A PUT may take a strange name for what it is, a name.
            ensure!(status >= 400 || (method == "PUT" && status == 201), "{method} {path}: {answer}");
            ensure!(!answer.contains("root:"), "{method} {path}: {answer}");
        }
    }
    assert_victim(&gateway)
}

#[test]
fn times_and_ranges_beyond_reason_do_not_stop_the_server() -> Result<()> {
    let gateway = with_victim()?;
    for time in ["-1", "253402300800", "99999999999999999999", "1e9", "-9223372036854775808", ""] {
        let answer = RawHttp::exchange(&gateway, "PUT /timed", &format!("X-OC-Mtime: {time}\r\n"), b"x")?;
        ensure!(status_of(&answer) >= 200, "{time}: {answer:?}");
        let answer = RawHttp::exchange(&gateway, "PROPFIND /", "Depth: 1\r\n", b"")?;
        ensure!(status_of(&answer) == 207, "after {time}: {answer:?}");
    }
    for range in
        ["bytes=18446744073709551615-", "bytes=-18446744073709551615", "bytes=5-1", "bytes=a-b", "lines=1-2"]
    {
        let answer = RawHttp::exchange(&gateway, "GET /victim", &format!("Range: {range}\r\n"), b"")?;
        ensure!(matches!(status_of(&answer), 200 | 206 | 400 | 416), "{range}: {answer:?}");
    }
    let many: String = vec!["0-0"; 2000].join(",");
    let answer = RawHttp::exchange(&gateway, "GET /victim", &format!("Range: bytes={many}\r\n"), b"")?;
    ensure!(status_of(&answer) >= 200 && answer.len() < 100_000, "2,000 ranges: {} bytes", answer.len());
    assert_victim(&gateway)
}

#[test]
fn a_silent_or_slow_connection_is_closed_before_it_has_logged_in() -> Result<()> {
    let gateway = Gateway::start()?;
    let address = gateway.webdav.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let mut silent = TcpStream::connect(address)?;
    silent.set_read_timeout(Some(Duration::from_secs(GRACE_SECS_MAX)))?;
    let mut half = RawHttp::connect(&gateway)?;
    half.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")?;
    let started = Instant::now();
    let mut all = Vec::new();
    silent.read_to_end(&mut all).context("a connection without a handshake lives on")?;
    ensure!(
        half.status()
            .context("a connection with half a request lives on")?
            .is_none_or(|status| status == 408)
    );
    ensure!(started.elapsed() < Duration::from_secs(GRACE_SECS_MAX));
    Ok(())
}

#[test]
fn a_revoked_token_ends_its_live_download_and_upload_within_seconds() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let big = work.path().join("big");
    write_file(&big, &noise(1, 48 << 20), 1_500_000_000)?;
    ensure!(gateway.curl_status(&["-T", &big.display().to_string(), &gateway.url("big")])? == 201);
    let token = gateway.add_token(&gateway.user, &[])?;
    let got = work.path().join("got");
    let mut download = gateway
        .curl_as(&gateway.user, &token.secret)
        .args(["--limit-rate", "2M", "--output"])
        .arg(&got)
        .arg(gateway.url("big"))
        .stderr(Stdio::null())
        .spawn()?;
    let mut upload = gateway
        .curl_as(&gateway.user, &token.secret)
        .args(["--limit-rate", "2M", "-T"])
        .arg(&big)
        .arg(gateway.url("uploaded"))
        .stderr(Stdio::null())
        .spawn()?;
    coffre_tests::until("the download is under way", 30, || {
        Ok(std::fs::metadata(&got).is_ok_and(|metadata| metadata.len() > 1 << 20))
    })?;
    gateway.admin(&["credential", "revoke", &token.id])?;
    let started = Instant::now();
    let (down, up) = (wait(&mut download, 20)?, wait(&mut upload, 20)?);
    println!("both ended after {:?}", started.elapsed());
    ensure!(!up.success() || gateway.curl_status(&[&gateway.url("uploaded")])? == 404, "the upload went on");
    ensure!(!down.success(), "the download went on to its end");
    ensure!(std::fs::metadata(&got)?.len() < 40 << 20, "the download went on for long");
    ensure!(gateway.curl_status(&[&gateway.url("uploaded")])? == 404, "a revoked upload became a file");
    Ok(())
}

#[test]
fn a_lock_holds_against_others_and_its_token_is_not_shown_in_errors() -> Result<()> {
    let gateway = with_victim()?;
    let body =
        "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let answer = RawHttp::exchange(&gateway, "LOCK /victim", "Depth: 0\r\n", body.as_bytes())?;
    ensure!(status_of(&answer) == 200, "{answer}");
    let token = answer
        .lines()
        .find_map(|line| line.to_lowercase().starts_with("lock-token:").then(|| line[11..].trim().to_owned()))
        .context("a lock token")?;
    let bare = token.trim_matches(['<', '>']).to_owned();
    let refused = RawHttp::exchange(&gateway, "PUT /victim", "", b"over the lock")?;
    ensure!(status_of(&refused) == 423 && !refused.contains(&bare), "{refused}");
    assert_victim(&gateway)?;
    // Another user of the same vault, with the token in hand.
    gateway.admin(&["user", "add", "demo/eve", "--mount", "/=demo"])?;
    let eve = gateway.add_token("demo/eve", &[])?;
    for arguments in [
        &["-X", "UNLOCK", "-H", &format!("Lock-Token: {token}")][..],
        &["-X", "PUT", "--data", "stolen", "-H", &format!("If: ({token})")],
        &["-X", "DELETE", "-H", &format!("If: ({token})")],
    ] {
        let mut curl = gateway.curl_as("eve", &eve.secret);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
        let status = run_ok(curl.arg(gateway.url("victim")))?.text();
        ensure!(matches!(status.as_str(), "403" | "409" | "412" | "423"), "{arguments:?}: {status}");
    }
    assert_victim(&gateway)?;
    let header = format!("Lock-Token: {token}\r\n");
    let answer = RawHttp::exchange(&gateway, "UNLOCK /victim", &header, b"")?;
    ensure!(status_of(&answer) == 204, "{answer}");
    Ok(())
}

#[test]
fn a_stored_page_comes_as_an_attachment_that_runs_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "page.html", b"<script>alert(1)</script>")?;
    let answer = RawHttp::exchange(&gateway, "GET /page.html", "", b"")?.to_lowercase();
    ensure!(answer.contains("content-disposition: attachment"), "{answer}");
    ensure!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    ensure!(answer.contains("content-security-policy:"), "{answer}");
    Ok(())
}

#[test]
fn a_listing_page_escapes_the_names_it_shows() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "%3Cscript%3Ealert(1)%3C%2fscript%3E".replace("%2f", "").as_str(), b"x")?;
    for (method, depth) in [("GET", "0"), ("PROPFIND", "1")] {
        let answer =
            RawHttp::exchange(&gateway, &format!("{method} /"), &format!("Depth: {depth}\r\n"), b"")?;
        ensure!(!answer.contains("<script>"), "{method}: {answer}");
    }
    Ok(())
}
