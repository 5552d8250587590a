//! GET and HEAD of ranges, and of everything that is no file.

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::{Gateway, run_ok};

use super::{Answered, ask, put};

/// The parts of a multipart answer: what each says its range is, and its bytes.
fn parts(answer: &Answered) -> Result<Vec<(String, Vec<u8>)>> {
    let kind = answer.header("Content-Type").context("a type")?;
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").context("several parts")?;
    let mut rest = answer.body.as_slice();
    let mut found = Vec::new();
    let mark = format!("\r\n--{boundary}");
    loop {
        rest = rest.strip_prefix(mark.as_bytes()).context("a boundary")?;
        if rest == b"--\r\n" {
            return Ok(found);
        }
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").context("a part's head")?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let range =
            head.lines().find_map(|line| line.strip_prefix("Content-Range: ")).context("its range")?;
        let (from, to) = range
            .trim_start_matches("bytes ")
            .split_once('/')
            .context("/")?
            .0
            .split_once('-')
            .context("-")?;
        let len = to.parse::<usize>()? - from.parse::<usize>()? + 1;
        rest = &rest[end + 4..];
        found.push((range.to_owned(), rest[..len].to_vec()));
        rest = &rest[len..];
    }
}

#[test]
fn several_ranges_come_in_one_answer_and_abuse_gets_no_byte_twice() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(1, 2_500_000);
    put(&gateway, "file", &content)?;
    let asked = |spec: &str| ask(&gateway, "GET", "file", &[&format!("Range: bytes={spec}")], None);
    let answer = asked("2000000-2000009,0-0,1000000-1999999,-5")?;
    ensure!(answer.status == 206, "{}", answer.head);
    ensure!(
        answer.header("Content-Length") == Some(answer.body.len().to_string().as_str()),
        "{}",
        answer.head
    );
    let found = parts(&answer)?;
    let expected = [(1_000_000, 2_000_010), (0, 1), (2_499_995, 2_500_000)];
    ensure!(found.len() == expected.len(), "ranges that touch are one: {:?}", answer.head);
    for ((range, bytes), (from, to)) in found.iter().zip(expected) {
        ensure!(
            *range == format!("bytes {from}-{}/2500000", to - 1) && *bytes == content[from..to],
            "{range}"
        );
    }
    // A hundred times the whole, and a thousand single bytes.
    for abuse in [
        vec!["0-"; 100].join(","),
        (0..1000).map(|at| format!("{0}-{0}", at * 1000)).collect::<Vec<_>>().join(","),
    ] {
        let answer = asked(&abuse)?;
        ensure!(answer.status == 200 && answer.body == content, "{}", answer.head);
    }
    let answer = asked("0-9,5-14")?;
    ensure!(
        answer.status == 206 && answer.header("Content-Range") == Some("bytes 0-14/2500000"),
        "{}",
        answer.head
    );
    ensure!(asked("9000000-,8000000-8000001")?.status == 416);

    let tag = answer.header("ETag").context("a tag")?.to_owned();
    let two = "Range: bytes=0-0,1000-1000";
    for (condition, status) in
        [(tag.as_str(), 206), ("\"other\"", 200), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)]
    {
        let answer = ask(&gateway, "GET", "file", &[two, &format!("If-Range: {condition}")], None)?;
        ensure!(answer.status == status, "{condition}: {}", answer.head);
    }
    let weak = format!("If-Range: W/{tag}");
    ensure!(ask(&gateway, "GET", "file", &[two, &weak], None)?.status == 200, "a weak tag proves nothing");
    let head = ask(&gateway, "HEAD", "file", &[two], None)?;
    ensure!(head.status == 200 && head.header("Content-Length") == Some("2500000"), "{}", head.head);
    Ok(())
}

#[test]
fn stored_bytes_come_as_they_are_whatever_encoding_is_accepted() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = b"compresses well ".repeat(10_000);
    put(&gateway, "file", &content)?;
    let answer = ask(&gateway, "GET", "file", &["Accept-Encoding: gzip, deflate, br, zstd"], None)?;
    ensure!(answer.header("Content-Encoding").is_none() && answer.body == content, "{}", answer.head);
    Ok(())
}

#[test]
fn head_is_answered_everywhere_and_ranges_are_read_in_the_past_too() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", b"0123456789")?;
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("dir")])? == 201);
    gateway.admin(&["vault", "snapshot", "demo/demo", "then"])?;
    put(&gateway, "file", b"something else")?;
    for path in ["", "dir", "dir/", ".snapshots/", ".snapshots/then/", ".snapshots/then/dir/"] {
        let head = ask(&gateway, "HEAD", path, &[], None)?;
        ensure!(head.status == 200 && head.body.is_empty(), "{path}: {}", head.head);
    }
    let old = ".snapshots/then/file";
    let head = ask(&gateway, "HEAD", old, &[], None)?;
    ensure!(head.status == 200 && head.header("Content-Length") == Some("10"), "{}", head.head);
    ensure!(ask(&gateway, "HEAD", ".snapshots/then/none", &[], None)?.status == 404);
    ensure!(run_ok(gateway.curl().args(["--range", "2-4", &gateway.url(old)]))?.stdout == b"234");
    ensure!(run_ok(gateway.curl().args(["--range", "-3", &gateway.url(old)]))?.stdout == b"789");
    ensure!(gateway.curl_status(&["--range", "10-", &gateway.url(old)])? == 416);
    let refused = ask(&gateway, "PUT", old, &["Content-Range: bytes 0-0/10"], Some(b"x"))?;
    ensure!(refused.status == 403, "{}", refused.head);
    Ok(())
}
