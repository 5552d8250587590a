//! Requests that two readers could understand differently (request smuggling), and requests of WebDAV that are meant to
//! take memory or to reach elsewhere: each gets its status, and changes nothing.

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::raw_http::status_of;
use coffre_tests::{Gateway, RawHttp, run, run_ok};

/// Bytes that the server may hold more after an attack: what its caches and allocator take anyway.
const GROWN_BYTES_MAX: u64 = 48 << 20;

fn with_victim() -> Result<Gateway> {
    let gateway = Gateway::start()?;
    let finished = run(gateway.curl().args(["--fail", "-T", "-"]).arg(gateway.url("victim")), b"content")?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    Ok(gateway)
}

fn assert_victim(gateway: &Gateway, after: &str) -> Result<()> {
    let found = run_ok(gateway.curl().arg("--fail").arg(gateway.url("victim"))).context(after.to_owned())?;
    ensure!(found.stdout == b"content", "after {after}: {:?}", String::from_utf8_lossy(&found.stdout));
    ensure!(gateway.curl_status(&[&gateway.url("hidden")])? == 404, "after {after}: the hidden request ran");
    Ok(())
}

/// All that is answered on one connection.
fn answers(gateway: &Gateway, head: &str, rest: &[u8]) -> Result<Vec<u16>> {
    let mut raw = RawHttp::connect(gateway)?;
    drop(raw.request("PUT /put", head).and_then(|()| raw.send(rest)));
    let mut statuses = Vec::new();
    let text = String::from_utf8_lossy(&raw.rest()?).into_owned();
    for (at, _) in text.match_indices("HTTP/1.1 ") {
        statuses.push(status_of(&text[at..]));
    }
    Ok(statuses)
}

#[test]
fn a_body_whose_length_is_said_twice_hides_no_second_request() -> Result<()> {
    let gateway = with_victim()?;
    let hidden = |gateway: &Gateway| {
        let host = gateway.webdav.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let raw = RawHttp::authorization(gateway);
        format!("PUT /hidden HTTP/1.1\r\nHost: {host}\r\nAuthorization: {raw}\r\nContent-Length: 1\r\n\r\nx")
    };
    let hidden = hidden(&gateway);
    let chunked = format!("0\r\n\r\n{hidden}");
    let length = chunked.len();
    for (what, head) in [
        ("length, then chunked", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")),
        ("chunked, then length", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")),
        ("two lengths", format!("Content-Length: 5\r\nContent-Length: {length}\r\n")),
        ("two lengths in one line", format!("Content-Length: 5, {length}\r\n")),
        ("a length with a sign", "Content-Length: +5\r\n".to_owned()),
        ("a negative length", "Content-Length: -1\r\n".to_owned()),
        ("a length in hexadecimal", "Content-Length: 0x5\r\n".to_owned()),
        ("a length of no number", "Content-Length: 99999999999999999999\r\n".to_owned()),
        ("another encoding", "Transfer-Encoding: gzip\r\n".to_owned()),
        ("chunked not last", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("an encoding with a tab before its colon", "Transfer-Encoding\t: chunked\r\n".to_owned()),
        ("a space before the colon", "Content-Length : 5\r\n".to_owned()),
        ("a folded header", "Transfer-Encoding:\r\n chunked\r\n".to_owned()),
        ("a folded length", format!("X: y\r\n\tz\r\nContent-Length:\r\n {length}\r\n")),
        ("a header with NUL", "X: a\0b\r\nContent-Length: 0\r\n".to_owned()),
        ("a header without a name", ": chunked\r\nContent-Length: 0\r\n".to_owned()),
    ] {
        let statuses = answers(&gateway, &head, chunked.as_bytes())?;
        ensure!(statuses.len() <= 1, "{what}: {statuses:?}");
        assert_victim(&gateway, what)?;
    }
    Ok(())
}

#[test]
fn chunks_of_odd_lengths_are_refused_and_store_nothing() -> Result<()> {
    let gateway = with_victim()?;
    for chunks in [
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "1 1\r\nx\r\n0\r\n\r\n",
        "\r\nx\r\n0\r\n\r\n",
        "g\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "2\r\nx\r\n0\r\n\r\n",
        "1\rx\r0\r\r",
        "1;name=\n\r\nx\r\n0\r\n\r\n",
    ] {
        let statuses = answers(&gateway, "Transfer-Encoding: chunked\r\n", chunks.as_bytes())?;
        ensure!(statuses.iter().all(|status| (400..500).contains(status)), "{chunks:?}: {statuses:?}");
        ensure!(gateway.curl_status(&[&gateway.url("put")])? == 404, "{chunks:?} was stored");
        assert_victim(&gateway, chunks)?;
    }
    // Names of extensions without end, and trailers without end, end the request.
    let endless = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(1 << 20));
    let trailers = format!("1\r\nx\r\n0\r\n{}\r\n", "A: b\r\n".repeat(100_000));
    for chunks in [endless, trailers] {
        let statuses = answers(&gateway, "Transfer-Encoding: chunked\r\n", chunks.as_bytes())?;
        ensure!(statuses.iter().all(|status| (400..500).contains(status)), "{statuses:?}");
        ensure!(gateway.curl_status(&[&gateway.url("put")])? == 404, "it was stored");
    }
    Ok(())
}

#[test]
fn bare_line_feeds_and_strange_request_lines_run_nothing_hidden() -> Result<()> {
    let gateway = with_victim()?;
    let host = gateway.webdav.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let credentials = format!("Host: {host}\r\nAuthorization: {}", RawHttp::authorization(&gateway));
    for request in [
        format!("DELETE /victim HTTP/1.1\r\n{credentials}\r\nX: y\nIf-Match: \"stale\"\r\n\r\n"),
        format!("DELETE /victim HTTP/1.1\r\n{credentials}\rX: y\r\n\r\n"),
        format!("DELETE  /victim HTTP/1.1\r\n{credentials}\r\n\r\n"),
        format!("DELETE /victim\r\n{credentials}\r\n\r\n"),
        format!("DELETE /victim HTTP/3.7\r\n{credentials}\r\n\r\n"),
        format!("DELETE\t/victim\tHTTP/1.1\r\n{credentials}\r\n\r\n"),
        format!("DELETE /victim HTTP/1.1 x\r\n{credentials}\r\n\r\n"),
        format!("DELETE victim HTTP/1.1\r\n{credentials}\r\n\r\n"),
        format!("DELETE * HTTP/1.1\r\n{credentials}\r\n\r\n"),
        format!("DEL\0ETE /victim HTTP/1.1\r\n{credentials}\r\n\r\n"),
    ] {
        let mut raw = RawHttp::connect(&gateway)?;
        drop(raw.send(request.as_bytes()));
        let text = raw.status()?;
        ensure!(text.is_none_or(|status| (400..600).contains(&status)), "{request:?}: {text:?}");
        assert_victim(&gateway, &request)?;
    }
    Ok(())
}

#[test]
fn heads_and_bodies_without_end_take_no_memory() -> Result<()> {
    let gateway = with_victim()?;
    let before = gateway.resident_bytes()?;
    let long = "x".repeat(1 << 20);
    let many: Vec<String> = (0..20_000)
        .map(|number| {
            format!(
                "X-{number}: y
"
            )
        })
        .collect();
    let lists = format!("If: {}\r\n", "(<urn:x>)".repeat(10_000));
    for (line, headers) in [
        (format!("GET /{long}"), String::new()),
        ("GET /victim".to_owned(), format!("X: {long}\r\n")),
        ("PUT /victim".to_owned(), many.concat()),
        ("PUT /victim".to_owned(), lists),
        ("PUT /victim".to_owned(), format!("If-Match: {}\r\n", "\"a\",".repeat(20_000))),
    ] {
        let answer = RawHttp::exchange(&gateway, &line, &headers, b"")?;
        ensure!(answer.is_empty() || (400..500).contains(&status_of(&answer)), "{answer}");
        assert_victim(&gateway, "a head without end")?;
    }
    // A body that says it is small and goes on, and one that says it is huge and is not.
    for method in ["PROPFIND", "PROPPATCH", "LOCK", "MKCOL"] {
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request(&format!("{method} /victim"), "Depth: 0\r\nTransfer-Encoding: chunked\r\n")?;
        let piece = noise(1, 32_768);
        for _ in 0..256 {
            let sent = raw.send(b"8000\r\n").and_then(|()| raw.send(&piece)).and_then(|()| raw.send(b"\r\n"));
            if sent.is_err() {
                break;
            }
        }
        let status = raw.status()?;
        ensure!(status.is_none_or(|status| (400..500).contains(&status)), "{method}: {status:?}");
        let answer = RawHttp::exchange(
            &gateway,
            &format!("{method} /victim"),
            "Depth: 0\r\nContent-Length: 4611686018427387904\r\n",
            b"<",
        )?;
        ensure!(answer.is_empty() || (400..500).contains(&status_of(&answer)), "{method}: {answer}");
        assert_victim(&gateway, method)?;
    }
    let after = gateway.resident_bytes()?;
    ensure!(after < before + GROWN_BYTES_MAX, "from {before} to {after} bytes");
    Ok(())
}

#[test]
fn a_destination_in_another_users_vault_or_through_another_spelling_is_refused() -> Result<()> {
    let gateway = with_victim()?;
    gateway.admin(&["customer", "add", "other"])?;
    gateway.admin(&["vault", "add", "other/theirs"])?;
    gateway.admin(&["user", "add", "other/them", "--mount", "/theirs=other/theirs"])?;
    let host = gateway.webdav.trim_end_matches('/').to_owned();
    for destination in [
        format!("{host}/../theirs/x"),
        format!("{host}/%2e%2e/theirs/x"),
        format!("{host}/theirs/x"),
        format!("{host}/a%2fb"),
        format!("{host}/a%00b"),
        format!("{host}/{}", "a".repeat(256)),
        format!("{host}/{}", "a/".repeat(4000)),
        format!("{host}/.snapshots/now/x"),
        host.replace("127.0.0.1", "127.0.0.1:1@evil.example") + "/x",
        format!("{host}.evil.example/x"),
        format!("{host}\\@evil.example/x"),
        "https://[::1]/x".to_owned(),
        "/victim".to_owned(),
    ] {
        for method in ["MOVE", "COPY"] {
            let header = format!("Destination: {destination}\r\n");
            let answer = RawHttp::exchange(&gateway, &format!("{method} /victim"), &header, b"")?;
            let status = status_of(&answer);
            ensure!((400..500).contains(&status) || status == 502, "{method} to {destination}: {answer}");
            assert_victim(&gateway, &destination)?;
        }
    }
    // Two of them: neither counts.
    let header = format!("Destination: {host}/one\r\nDestination: {host}/two\r\n");
    let answer = RawHttp::exchange(&gateway, "MOVE /victim", &header, b"")?;
    ensure!((400..500).contains(&status_of(&answer)), "{answer}");
    assert_victim(&gateway, "two destinations")
}
