//! What is refused before a body was asked for, and bodies of every shape that clients send.

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::{Gateway, RawHttp};

use super::{ask, holds, put};

#[test]
fn no_refusal_that_the_head_allows_comes_after_a_100() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", b"the old content")?;
    put(&gateway, "locked", b"locked")?;
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("dir")])? == 201);
    let lock =
        b"<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let locked = ask(&gateway, "LOCK", "locked", &["Depth: 0"], Some(lock))?;
    locked.header("Lock-Token").context("a token")?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "1000000"])?;
    let known = "Content-Length: 10\r\n";
    for (path, headers, status) in [
        ("PUT /file", "Content-Length: 10\r\nIf-Match: \"other\"\r\n", 412),
        ("PUT /file", "Content-Length: 10\r\nIf-None-Match: *\r\n", 412),
        ("PUT /file", "Content-Length: 10\r\nIf: (<urn:uuid:0>)\r\n", 412),
        ("PUT /locked", known, 423),
        ("PUT /dir", known, 405),
        ("PUT /dir/", known, 405),
        ("PUT /none/file", known, 409),
        ("PUT /.snapshots/x", known, 403),
        ("PUT /file", "Content-Length: 5000000\r\n", 507),
        ("PUT /file", "Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: 5000000\r\n", 507),
        ("PUT /file", "Content-Length: 10\r\nContent-Encoding: gzip\r\n", 415),
        ("PUT /file", "Content-Length: 10\r\nOC-Checksum: x\r\n", 400),
        ("PUT /file", "Content-Length: 10\r\nX-OC-Mtime: x\r\n", 400),
        ("PUT /file", "Content-Length: 10\r\nContent-Range: bytes 0-3/4\r\n", 400),
        ("PATCH /file", known, 415),
    ] {
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request(path, &format!("{headers}Expect: 100-continue\r\n"))?;
        let answer = raw.status()?;
        ensure!(answer == Some(status), "{path} {headers}: {answer:?}");
    }
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request_without_credentials("PUT /file", "Content-Length: 10\r\nExpect: 100-continue\r\n")?;
    ensure!(raw.status()? == Some(401));
    holds(&gateway, "file", b"the old content")?;

    let mut raw = RawHttp::connect(&gateway)?;
    raw.request("PUT /file", "Content-Length: 3\r\nExpect: 100-continue\r\n")?;
    ensure!(raw.status()? == Some(100));
    raw.send(b"new")?;
    ensure!(raw.status()? == Some(204));
    holds(&gateway, "file", b"new")
}

/// As Finder does it: nothing first, then the bytes without a length in the head.
#[test]
fn a_body_in_chunks_is_as_long_as_finder_says_or_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    ensure!(ask(&gateway, "PUT", "film", &[], Some(b""))?.status == 201);
    let content = noise(6, 700_000);
    let send = |promised: usize, pieces: &[&[u8]]| -> Result<Option<u16>> {
        let mut raw = RawHttp::connect(&gateway)?;
        let length = format!("X-Expected-Entity-Length: {promised}\r\nTransfer-Encoding: chunked\r\n");
        raw.request("PUT /film", &length)?;
        for piece in pieces {
            raw.send(format!("{:x}\r\n", piece.len()).as_bytes())?;
            raw.send(piece)?;
            raw.send(b"\r\n")?;
        }
        raw.send(b"0\r\n\r\n")?;
        raw.status()
    };
    let (first, second) = content.split_at(123_457);
    ensure!(send(content.len(), &[first, second])? == Some(204));
    holds(&gateway, "film", &content)?;
    ensure!(send(content.len() + 1, &[first, second])? == Some(400), "cut short");
    // The rest may find the connection closed.
    ensure!(matches!(send(3, &[first, second]), Ok(Some(400) | None) | Err(_)), "longer than it said");
    ensure!(ask(&gateway, "PUT", "film", &["X-Expected-Entity-Length: x"], Some(b"x"))?.status == 400);
    holds(&gateway, "film", &content)
}

#[test]
fn an_encoded_body_is_refused_and_identity_is_none() -> Result<()> {
    let gateway = Gateway::start()?;
    for encoding in ["gzip", "deflate", "br", "identity, gzip"] {
        let answer = ask(&gateway, "PUT", "file", &[&format!("Content-Encoding: {encoding}")], Some(b"x"))?;
        ensure!(answer.status == 415, "{encoding}: {}", answer.head);
    }
    ensure!(ask(&gateway, "PUT", "file", &["Content-Encoding: identity"], Some(b"x"))?.status == 201);
    holds(&gateway, "file", b"x")
}
