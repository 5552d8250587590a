//! curl over WebDAV.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use coffre_tests::files::{noise, write_file};
use coffre_tests::{Gateway, run_ok};

#[test]
fn curl_puts_gets_ranges_and_sees_one_etag() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    let content = noise(5, 5_000_000);
    write_file(&file, &content, 1_500_000_000)?;
    let url = gateway.url("file.bin");
    let from = file.display().to_string();
    assert_eq!(gateway.curl_status(&["-T", &from, &url])?, 201);
    assert_eq!(gateway.curl_status(&["-T", &from, &url])?, 204);
    assert!(run_ok(gateway.curl().arg(&url))?.stdout == content);
    for (range, expected) in [
        ("0-0", &content[..1]),
        ("1000000-1999999", &content[1_000_000..2_000_000]),
        ("4999990-", &content[4_999_990..]),
        ("-77", &content[content.len() - 77..]),
    ] {
        assert!(run_ok(gateway.curl().args(["--range", range, &url]))?.stdout == expected, "range {range}");
        assert_eq!(gateway.curl_status(&["--range", range, &url])?, 206);
    }
    assert_eq!(gateway.curl_status(&["--range", "5000000-", &url])?, 416);
    let head = run_ok(gateway.curl().args(["--head", &url]))?.text().to_lowercase();
    assert!(head.contains("content-length: 5000000"), "{head}");
    let etag =
        head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().trim().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 4, "{etag}");
    let properties =
        run_ok(gateway.curl().args(["-X", "PROPFIND", "-H", "Depth: 0", &url]))?.text().to_lowercase();
    assert!(
        properties.contains(&etag) || properties.contains(&etag.replace('"', "&quot;")),
        "{etag} in {properties}"
    );
    assert_eq!(gateway.curl_status(&["-H", &format!("If-None-Match: {etag}"), &url])?, 304);
    assert_eq!(gateway.curl_status(&["-H", "If-Match: \"other\"", "-T", &from, &url])?, 412);
    assert_eq!(gateway.curl_status(&["-H", "If-None-Match: *", "-T", &from, &url])?, 412);
    Ok(())
}

#[test]
fn curl_makes_moves_copies_and_deletes() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let from = file.display().to_string();
    let dir = gateway.url("dir");
    assert_eq!(gateway.curl_status(&["-X", "MKCOL", &dir])?, 201);
    assert_eq!(gateway.curl_status(&["-X", "MKCOL", &dir])?, 405);
    assert_eq!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("no/parent")])?, 409);
    assert_eq!(gateway.curl_status(&["-T", &from, &gateway.url("no/file")])?, 409);
    assert_eq!(gateway.curl_status(&["-T", &from, &gateway.url("dir/a")])?, 201);
    let destination = |path: &str| format!("Destination: {}", gateway.url(path));
    assert_eq!(
        gateway.curl_status(&["-X", "COPY", "-H", &destination("dir/b"), &gateway.url("dir/a")])?,
        201
    );
    assert_eq!(gateway.curl_status(&["-X", "COPY", "-H", &destination("copy"), &dir])?, 201);
    assert_eq!(
        gateway.curl_status(&[
            "-X",
            "MOVE",
            "-H",
            &destination("dir/b"),
            "-H",
            "Overwrite: F",
            &gateway.url("dir/a")
        ])?,
        412
    );
    assert_eq!(
        gateway.curl_status(&["-X", "MOVE", "-H", &destination("dir/b"), &gateway.url("dir/a")])?,
        204
    );
    assert_eq!(gateway.curl_status(&[&gateway.url("dir/a")])?, 404);
    assert_eq!(run_ok(gateway.curl().arg(gateway.url("copy/a")))?.stdout, b"content");
    assert_eq!(gateway.curl_status(&["-X", "DELETE", &dir])?, 204);
    assert_eq!(gateway.curl_status(&[&gateway.url("dir/b")])?, 404);
    assert_eq!(run_ok(gateway.curl().arg(gateway.url("copy/b")))?.stdout, b"content");
    Ok(())
}

#[test]
fn a_broken_upload_leaves_the_old_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"the old content", 1_500_000_000)?;
    let url = gateway.url("file");
    assert_eq!(gateway.curl_status(&["-T", &file.display().to_string(), &url])?, 201);
    let big = work.path().join("big");
    write_file(&big, &noise(3, 64 << 20), 1_500_000_000)?;
    // curl gives up in the middle of the body.
    let broken = coffre_tests::run(
        gateway.curl().args(["--limit-rate", "8M", "--max-time", "1", "-T"]).arg(&big).arg(&url),
        b"",
    )?;
    assert!(!broken.status.success());
    assert_eq!(run_ok(gateway.curl().arg(&url))?.stdout, b"the old content");
    // A new name that broke is not there at all.
    let fresh = gateway.url("fresh");
    let broken = coffre_tests::run(
        gateway.curl().args(["--limit-rate", "8M", "--max-time", "1", "-T"]).arg(&big).arg(&fresh),
        b"",
    )?;
    assert!(!broken.status.success());
    assert_eq!(gateway.curl_status(&[&fresh])?, 404);
    Ok(())
}

#[test]
fn an_upload_of_unknown_length_arrives_whole() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(4, 3_333_333);
    let sent = coffre_tests::run(gateway.curl().args(["-T", "-"]).arg(gateway.url("stream")), &content)?;
    assert!(sent.status.success(), "{}", sent.stderr);
    assert!(run_ok(gateway.curl().arg(gateway.url("stream")))?.stdout == content);
    Ok(())
}

#[test]
fn plain_http_and_old_tls_are_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    let address = gateway.webdav.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let mut plain = TcpStream::connect(&address)?;
    plain.write_all(
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic eDp5\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    // A reset is as good a refusal as a TLS alert.
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.windows(5).any(|window| window == b"HTTP/"), "answered in clear");
    let old = coffre_tests::run(gateway.curl().args(["--tls-max", "1.1", &gateway.url("")]), b"")?;
    assert!(!old.status.success());
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        assert_eq!(
            gateway.curl_status(&[version, "-X", "PROPFIND", "-H", "Depth: 0", &gateway.url("")])?,
            207
        );
    }
    Ok(())
}
