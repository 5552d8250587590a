//! HTTP/1.1 and HTTP/2 beside each other.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_http_2::{END_HEADERS, END_STREAM, kind};
use coffre_tests::{Gateway, RawHttp, RawHttp2, run_ok};
use serde_json::Value;

use super::{records, with_setting};

#[test]
fn who_offers_both_gets_http_1_and_who_insists_gets_http_2() -> Result<()> {
    let gateway = Gateway::start()?;
    let agreed = |offered: &[&str]| -> Result<Option<String>> {
        Ok(RawHttp::connect_offering(&gateway, offered, b"")?.protocol())
    };
    assert_eq!(agreed(&["h2", "http/1.1"])?.as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&["h2"])?.as_deref(), Some("h2"));
    assert_eq!(agreed(&[])?, None);
    ensure!(agreed(&["spdy/3"]).is_err(), "a protocol that nobody speaks");
    Ok(())
}

/// A client that speaks nothing but HTTP/2; it does not look at certificates.
fn nghttp(gateway: &Gateway, method: &str, path: &str) -> Command {
    let credentials = STANDARD.encode(format!("{}:{}", gateway.user, gateway.token));
    let mut command = Command::new("nghttp");
    command.arg(format!("--header=authorization: Basic {credentials}"));
    command.args([&format!("--header=:method: {method}"), "--no-dep", "--timeout=60"]);
    command.arg(gateway.url(path));
    command
}

#[test]
fn files_go_in_and_come_out_over_http_2() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    let content = noise(1, 5_000_001);
    write_file(&file, &content, 1_500_000_000)?;
    run_ok(nghttp(&gateway, "PUT", "file").arg("--data").arg(&file))?;
    ensure!(run_ok(gateway.curl().arg(gateway.url("file")))?.stdout == content, "over HTTP/1.1");
    ensure!(run_ok(&mut nghttp(&gateway, "GET", "file"))?.stdout == content, "over HTTP/2");
    let listed = run_ok(nghttp(&gateway, "PROPFIND", "").arg("--header=depth: 1"))?.text();
    ensure!(listed.contains("/file</"), "{listed}");
    let destination = format!("--header=destination: {}", gateway.url("moved"));
    run_ok(nghttp(&gateway, "MOVE", "file").arg(destination))?;
    assert_eq!(gateway.curl_status(&[&gateway.url("file")])?, 404);
    ensure!(run_ok(&mut nghttp(&gateway, "GET", "moved"))?.stdout == content, "where it was moved to");
    Ok(())
}

#[test]
fn a_body_that_lies_about_its_length_over_http_2_leaves_the_old_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"the old content", 1_500_000_000)?;
    run_ok(gateway.curl().arg("-T").arg(&file).arg(gateway.url("file")))?;
    for said in ["3", "300"] {
        let mut client = RawHttp2::connect(&gateway, &[])?;
        let headers = client.headers("PUT", "/file", &[("content-length", said)]);
        client.send(kind::HEADERS, END_HEADERS, 1, &headers)?;
        client.send(kind::DATA, END_STREAM, 1, b"another content")?;
        let refused = loop {
            let frame = client.next_frame()?.context("an answer")?;
            if frame.stream == 1 && matches!(frame.kind, kind::HEADERS | kind::RST_STREAM) {
                break frame;
            }
        };
        ensure!(
            refused.kind == kind::RST_STREAM || refused.status().is_none_or(|status| status >= 400),
            "length {said}: {refused:?}"
        );
    }
    assert_eq!(run_ok(gateway.curl().arg(gateway.url("file")))?.text(), "the old content");
    Ok(())
}

#[test]
fn a_balancers_header_counts_through_tls_for_both_versions() -> Result<()> {
    let gateway = with_setting("proxy_from = [\"127.0.0.1/32\"]")?;
    let last_login = || -> Result<(Value, Value)> {
        let login = records(&gateway, "login")?.pop().context("a login")?;
        Ok((login["source"].clone(), login["outcome"].clone()))
    };
    assert_eq!(gateway.curl_status(&["--haproxy-protocol", &gateway.url("/")])?, 200);
    assert_eq!(last_login()?, ("127.0.0.1".into(), "done".into()));
    let header = b"PROXY TCP4 127.0.0.81 192.0.2.1 5000 443\r\n";
    let mut raw = RawHttp::connect_offering(&gateway, &["http/1.1"], header)?;
    raw.request("OPTIONS /", "")?;
    assert_eq!((raw.status()?, last_login()?), (Some(200), ("127.0.0.81".into(), "done".into())));
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x52\xc0\0\x02\x01\x13\x88\x01\xbb";
    let mut raw = RawHttp2::connect_after(&gateway, &[], header)?;
    let headers = raw.headers("OPTIONS", "/", &[]);
    raw.send(kind::HEADERS, END_HEADERS | END_STREAM, 1, &headers)?;
    let answer = raw.next_of(kind::HEADERS)?.context("an answer")?;
    assert_eq!((answer.status(), last_login()?), (Some(200), ("127.0.0.82".into(), "done".into())));
    // Nobody comes in without one, and a token that is bound to a network is good from where the balancer says.
    ensure!(RawHttp::connect(&gateway).is_err(), "without a header");
    let bound = gateway.add_token("demo", &["--from", "127.0.0.83/32"])?.secret;
    for (from, status) in [("127.0.0.83", 200), ("127.0.0.84", 401)] {
        let header = format!("PROXY TCP4 {from} 192.0.2.1 5000 443\r\n");
        let mut raw = RawHttp::connect_offering(&gateway, &[], header.as_bytes())?;
        let credentials = STANDARD.encode(format!("{}:{bound}", gateway.user));
        raw.request_without_credentials("OPTIONS /", &format!("Authorization: Basic {credentials}\r\n"))?;
        assert_eq!(raw.status()?, Some(status), "from {from}");
    }
    Ok(())
}
