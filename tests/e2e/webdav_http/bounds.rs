//! Bounds of heads, bodies and connections, and what every answer carries.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_http::status_of;
use coffre_tests::raw_http_2::kind;
use coffre_tests::{Gateway, RawHttp, RawHttp2, run_ok, until};

use super::with_setting;

/// The value of a header in an answer.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn ask(gateway: &Gateway, line: &str, headers: &str) -> Result<String> {
    RawHttp::exchange(gateway, line, headers, b"")
}

#[test]
fn a_head_or_a_body_that_is_too_large_is_refused_by_its_own_status() -> Result<()> {
    let gateway = Gateway::start()?;
    let long = "x".repeat(13_000);
    assert_eq!(status_of(&ask(&gateway, &format!("GET /{long}"), "")?), 414);
    // Larger than a whole head may be.
    assert_eq!(status_of(&ask(&gateway, &format!("GET /{}", "x".repeat(70_000)), "")?), 431);
    assert_eq!(status_of(&ask(&gateway, "GET /", &format!("X-Long: {}\r\n", "x".repeat(40_000)))?), 431);
    let many = "X-Again: x\r\n".repeat(300);
    assert_eq!(status_of(&ask(&gateway, "GET /", &many)?), 431);
    let body = format!("<propfind xmlns='DAV:'><allprop/>{}</propfind>", " ".repeat(70_000));
    let answer = RawHttp::exchange(&gateway, "PROPFIND /", "Depth: 0\r\n", body.as_bytes())?;
    assert_eq!(status_of(&answer), 413);
    assert_eq!(status_of(&ask(&gateway, "GET /", "")?), 200);
    Ok(())
}

#[test]
fn each_answer_has_a_number_of_its_own_and_a_clients_is_not_taken_over() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut seen = BTreeSet::new();
    let own = "X-Request-Id: chosen-by-the-client\r\n";
    for line in ["GET /", "GET /missing", "BREW /", "PUT /a/b", "GET /..%2f"] {
        let answer = ask(&gateway, line, own)?;
        let number = header(&answer, "x-request-id").with_context(|| format!("{line}: {answer}"))?;
        ensure!(number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()), "{number}");
        ensure!(seen.insert(number.to_owned()), "{number} twice");
    }
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request_without_credentials("GET /", &format!("Connection: close\r\n{own}"))?;
    let answer = String::from_utf8_lossy(&raw.rest()?).into_owned();
    assert_eq!(status_of(&answer), 401);
    ensure!(header(&answer, "x-request-id").is_some(), "{answer}");
    ensure!(!gateway.log_text().contains("chosen-by-the-client"), "{}", gateway.log_text());
    Ok(())
}

#[test]
fn answers_tell_the_time_and_not_what_serves_them() -> Result<()> {
    let gateway = Gateway::start()?;
    for line in ["GET /", "GET /missing", "OPTIONS *", "GET no-slash", "GET / nonsense"] {
        let answer = ask(&gateway, line, "")?;
        ensure!(status_of(&answer) != 0, "{line}: {answer:?}");
        ensure!(header(&answer, "date").is_some(), "{line}: {answer}");
        for name in ["server", "x-powered-by", "via"] {
            ensure!(header(&answer, name).is_none(), "{line}: {answer}");
        }
    }
    Ok(())
}

#[test]
fn browsers_are_told_to_come_over_tls_only_where_they_can_come_back() -> Result<()> {
    let strict = |gateway: &Gateway| -> Result<Option<String>> {
        Ok(header(&ask(gateway, "GET /", "")?, "strict-transport-security").map(str::to_owned))
    };
    assert_eq!(strict(&Gateway::start()?)?, None, "a self-signed certificate");
    assert_eq!(strict(&with_setting("hsts = '365d'")?)?.as_deref(), Some("max-age=31536000"));
    assert_eq!(strict(&with_setting("hsts = 'off'")?)?, None);
    Ok(())
}

#[test]
fn one_address_has_its_share_of_connections_and_gets_it_back() -> Result<()> {
    let gateway = with_setting("source_connections_max = 2")?;
    let held = [RawHttp::connect(&gateway)?, RawHttp::connect(&gateway)?];
    ensure!(RawHttp::connect(&gateway).is_err(), "a third connection");
    let elsewhere = run_ok(gateway.curl().args(["--interface", "127.0.0.9", "-I"]).arg(gateway.url("/")))?;
    ensure!(elsewhere.text().starts_with("HTTP/1.1 200"), "{}", elsewhere.text());
    drop(held);
    until("room for another", 20, || Ok(RawHttp::connect(&gateway).is_ok()))
}

#[test]
fn an_http_2_connection_without_a_request_is_closed() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut client = RawHttp2::connect(&gateway, &[])?;
    let begun = Instant::now();
    // Told to go, or cut: either is an end.
    client.next_of(kind::GOAWAY)?;
    ensure!((20..60).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    Ok(())
}

/// Both ways at once: each takes as long as the window in which too little moves.
#[test]
fn who_trickles_is_cut_off_and_who_is_slow_and_goes_on_is_served() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 64 << 20), 1_500_000_000)?;
    run_ok(gateway.curl().arg("-T").arg(&file).arg(gateway.url("large")))?;
    let gateway = &gateway;
    thread::scope(|scope| {
        // It stops before it is cut off, so that it hears why.
        let trickle = scope.spawn(move || sends(gateway, "trickle", 1000, (1, 110)));
        let slow = scope.spawn(move || sends(gateway, "slow", 150 * 150, (150, 150)));
        let deaf = scope.spawn(move || reads_nothing(gateway));
        let joined = |ended: thread::Result<Result<u16>>| ended.map_err(|_| anyhow::anyhow!("a thread"))?;
        assert_eq!(joined(trickle.join())?, 408);
        assert_eq!(joined(slow.join())?, 201);
        assert_eq!(joined(deaf.join())?, 0, "cut off before all of it was sent");
        anyhow::Ok(())
    })?;
    assert_eq!(gateway.curl_status(&[&gateway.url("trickle")])?, 404);
    Ok(())
}

/// Sends so many bytes each second for so many seconds, of a body of this length; the status.
fn sends(gateway: &Gateway, name: &str, length: usize, (bytes, seconds): (usize, usize)) -> Result<u16> {
    let mut raw = RawHttp::connect(gateway)?;
    raw.request(&format!("PUT /{name}"), &format!("Content-Length: {length}\r\n"))?;
    for _ in 0..seconds {
        thread::park_timeout(Duration::from_secs(1));
        raw.send(&vec![b'x'; bytes])?;
    }
    Ok(raw.status()?.unwrap_or(0))
}

/// Asks for a large file and reads nothing for longer than a window; 200 when all of it was sent nevertheless.
fn reads_nothing(gateway: &Gateway) -> Result<u16> {
    let mut raw = RawHttp::connect(gateway)?;
    raw.request("GET /large", "Connection: close\r\n")?;
    thread::park_timeout(Duration::from_secs(150));
    let all = raw.rest()?;
    Ok(if all.len() >= 64 << 20 { 200 } else { 0 })
}
