//! Parts of files: PUT with Content-Range, PATCH with X-Update-Range.

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::raw_http::status_of;
use coffre_tests::{Gateway, RawHttp};

use super::{ask, get, holds, put, records};

const PATCH: &str = "Content-Type: application/x-sabredav-partialupdate";

fn patch(gateway: &Gateway, path: &str, headers: &str, body: &[u8]) -> Result<String> {
    RawHttp::exchange(gateway, &format!("PATCH /{path}"), &format!("{PATCH}\r\n{headers}"), body)
}

#[test]
fn a_partial_put_changes_its_range_and_nothing_else() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut content = noise(1, 3_000_000);
    put(&gateway, "file", &content)?;
    let before = ask(&gateway, "HEAD", "file", &[], None)?.header("ETag").context("a tag")?.to_owned();
    for (from, len) in [(0, 1), (1_000_001, 700_000), (2_999_999, 1), (2_900_000, 400_000)] {
        let piece = noise(from as u64 + 7, len);
        content.resize(content.len().max(from + len), 0);
        content[from..from + len].copy_from_slice(&piece);
        let total = content.len();
        let range = format!("Content-Range: bytes {from}-{}/{total}", from + len - 1);
        let answer = ask(&gateway, "PUT", "file", &[&range], Some(&piece))?;
        ensure!(
            answer.status == 204 && answer.header("ETag").is_some_and(|tag| tag != before),
            "{}",
            answer.head
        );
        holds(&gateway, "file", &content)?;
    }
    // A new file may begin so, but only at its beginning.
    ensure!(ask(&gateway, "PUT", "new", &["Content-Range: bytes 0-3/*"], Some(b"new!"))?.status == 201);
    ensure!(ask(&gateway, "PUT", "none", &["Content-Range: bytes 4-7/8"], Some(b"tail"))?.status == 416);
    ensure!(ask(&gateway, "GET", "none", &[], None)?.status == 404);
    ensure!(
        ask(&gateway, "PUT", "new", &["Content-Range: bytes 5-8/9"], Some(b"tail"))?.status == 416,
        "a gap"
    );
    ensure!(ask(&gateway, "PUT", "new", &["Content-Range: bytes 4-7/8"], Some(b"tail"))?.status == 204);
    holds(&gateway, "new", b"new!tail")?;
    for bad in ["bytes 0-3/3", "bytes 3-0/8", "lines 0-3/8", "bytes */8", "bytes 0-2/8", "bytes 0-3", "x"] {
        let answer = ask(&gateway, "PUT", "new", &[&format!("Content-Range: {bad}")], Some(b"evil"))?;
        ensure!(answer.status == 400, "{bad}: {}", answer.head);
    }
    holds(&gateway, "new", b"new!tail")?;
    ensure!(gateway.coffre(&["check", "--read-data"])?.status.success());
    Ok(())
}

#[test]
fn a_patch_writes_where_sabre_says() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", b"0123456789")?;
    for (range, body, expected) in [
        ("bytes=3-5", &b"abc"[..], &b"012abc6789"[..]),
        ("bytes=8-", b"XYZ", b"012abc67XYZ"),
        ("bytes=-3", b"end", b"012abc67end"),
        ("append", b"++", b"012abc67end++"),
        ("bytes=13-14", b"??", b"012abc67end++??"),
    ] {
        let answer = patch(&gateway, "file", &format!("X-Update-Range: {range}\r\n"), body)?;
        ensure!(status_of(&answer) == 204 && answer.to_lowercase().contains("etag: "), "{range}: {answer}");
        holds(&gateway, "file", expected)?;
    }
    for (headers, body, status) in [
        ("", &b"x"[..], 400),
        ("X-Update-Range: bytes=1\r\n", b"x", 400),
        ("X-Update-Range: bytes=5-3\r\n", b"x", 416),
        ("X-Update-Range: bytes=0-5\r\n", b"x", 416),
        ("X-Update-Range: bytes=16-16\r\n", b"x", 416),
        ("X-Update-Range: bytes=-99\r\n", b"x", 416),
        ("X-Update-Range: append\r\nContent-Encoding: gzip\r\n", b"x", 415),
        ("X-Update-Range: append\r\nIf-Match: \"other\"\r\n", b"x", 412),
    ] {
        let answer = patch(&gateway, "file", headers, body)?;
        ensure!(status_of(&answer) == status, "{headers}: {answer}");
    }
    let kind = "Content-Type: text/plain\r\nX-Update-Range: append\r\n";
    ensure!(status_of(&RawHttp::exchange(&gateway, "PATCH /file", kind, b"x")?) == 415);
    ensure!(status_of(&patch(&gateway, "absent", "X-Update-Range: append\r\n", b"x")?) == 404);
    gateway.curl_status(&["-X", "MKCOL", &gateway.url("dir")])?;
    ensure!(status_of(&patch(&gateway, "dir", "X-Update-Range: append\r\n", b"x")?) == 405);
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request(
        "PATCH /file",
        &format!("{PATCH}\r\nX-Update-Range: append\r\nTransfer-Encoding: chunked\r\n"),
    )?;
    ensure!(raw.status()? == Some(411), "without a length");
    holds(&gateway, "file", b"012abc67end++??")?;
    let options = ask(&gateway, "OPTIONS", "", &[], None)?;
    ensure!(options.header("Allow").is_some_and(|allow| allow.contains("PATCH")), "{}", options.head);
    Ok(())
}

#[test]
fn a_broken_part_leaves_the_old_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(2, 2_000_000);
    put(&gateway, "file", &content)?;
    for head in [
        "Content-Range: bytes 1000000-1999999/2000000\r\nContent-Length: 1000000\r\n",
        "Content-Range: bytes 1000000-1999999/2000000\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request("PUT /file", head)?;
        let piece = noise(3, 600_000);
        if head.contains("chunked") {
            raw.send(format!("{:x}\r\n", piece.len()).as_bytes())?;
        }
        raw.send(&piece)?;
        drop(raw);
        holds(&gateway, "file", &content)?;
    }
    // Whole, and shorter than its range.
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /file", "Content-Range: bytes 0-99/2000000\r\nTransfer-Encoding: chunked\r\n")?;
    raw.send(b"3\r\nabc\r\n0\r\n\r\n")?;
    ensure!(raw.status()? == Some(400));
    let wrong = format!("OC-Checksum: MD5:{}", "0".repeat(32));
    let range = "Content-Range: bytes 0-2/2000000";
    ensure!(ask(&gateway, "PUT", "file", &[range, &wrong], Some(b"abc"))?.status == 400);
    holds(&gateway, "file", &content)
}

#[test]
fn a_part_heeds_locks_and_conditions_and_what_came_meanwhile() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", b"0123456789")?;
    let lock =
        b"<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let locked = ask(&gateway, "LOCK", "file", &["Depth: 0"], Some(lock))?;
    let token = locked.header("Lock-Token").context("a token")?.to_owned();
    let range = "Content-Range: bytes 0-0/10";
    ensure!(ask(&gateway, "PUT", "file", &[range], Some(b"x"))?.status == 423);
    ensure!(status_of(&patch(&gateway, "file", "X-Update-Range: append\r\n", b"x")?) == 423);
    let held = format!("If: ({token})");
    ensure!(ask(&gateway, "PUT", "file", &[range, &held], Some(b"x"))?.status == 204);
    let answer = patch(&gateway, "file", &format!("X-Update-Range: append\r\n{held}\r\n"), b"y")?;
    ensure!(status_of(&answer) == 204, "{answer}");
    ensure!(ask(&gateway, "UNLOCK", "file", &[&format!("Lock-Token: {token}")], None)?.status == 204);
    holds(&gateway, "file", b"x123456789y")?;
    let tag = ask(&gateway, "HEAD", "file", &[], None)?.header("ETag").context("a tag")?.to_owned();
    ensure!(ask(&gateway, "PUT", "file", &[range, "If-None-Match: *"], Some(b"z"))?.status == 412);
    ensure!(ask(&gateway, "PUT", "file", &[range, &format!("If-Match: {tag}")], Some(b"z"))?.status == 204);
    ensure!(ask(&gateway, "PUT", "file", &[range, &format!("If-Match: {tag}")], Some(b"w"))?.status == 412);

    // Somebody else's whole file came while a part was on its way: it is not undone.
    for status in [409, 412] {
        let condition = if status == 409 { String::new() } else { if_match(&gateway)? };
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request(
            "PUT /file",
            &format!("{range}\r\nContent-Length: 1\r\nExpect: 100-continue\r\n{condition}"),
        )?;
        ensure!(raw.status()? == Some(100));
        let newer = format!("newer than {status}");
        put(&gateway, "file", newer.as_bytes())?;
        raw.send(b"!")?;
        ensure!(raw.status()? == Some(status));
        holds(&gateway, "file", newer.as_bytes())?;
    }
    let writes = records(&gateway)?;
    let parts = writes.iter().filter(|record| record["action"] == "file-write" && record["bytes"] == 1);
    ensure!(parts.count() == 3, "one record of each part");
    Ok(())
}

fn if_match(gateway: &Gateway) -> Result<String> {
    get(gateway, "file")?;
    let head = ask(gateway, "HEAD", "file", &[], None)?;
    Ok(format!("If-Match: {}\r\n", head.header("ETag").context("a tag")?))
}

#[test]
fn a_part_that_has_no_room_is_refused_before_it_comes() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", &noise(4, 900_000))?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "1000000"])?;
    let mut raw = RawHttp::connect(&gateway)?;
    let range =
        "Content-Range: bytes 800000-1000000/1000001\r\nContent-Length: 200001\r\nExpect: 100-continue\r\n";
    raw.request("PUT /file", range)?;
    ensure!(raw.status()? == Some(507));
    let fits = "Content-Range: bytes 800000-999999/1000000";
    ensure!(ask(&gateway, "PUT", "file", &[fits], Some(&noise(5, 200_000)))?.status == 204);
    ensure!(get(&gateway, "file")?.len() == 1_000_000);
    Ok(())
}
