//! Floods of HTTP/2 by a client of our own: each ends its connection, and nobody else notices.

use std::fs;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_http_2::{END_HEADERS, END_STREAM, kind, literal};
use coffre_tests::{Gateway, RawHttp2, run_ok};

/// Mebibytes that a server may grow by under a flood of one connection.
const GROWTH_MIB_MAX: u64 = 64;
/// `ENHANCE_YOUR_CALM`
const CALM: u32 = 11;
/// `CANCEL`
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// The most memory that the server ever held.
fn most_mib(gateway: &Gateway) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", gateway.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

fn assert_serves(gateway: &Gateway) -> Result<()> {
    assert_eq!(gateway.curl_status(&[&gateway.url("/")])?, 200);
    Ok(())
}

/// The server's last word to a client that it sends away, and that it closed.
fn sent_away(client: &mut RawHttp2) -> Result<Option<u32>> {
    let word = client.next_of(kind::GOAWAY)?.and_then(|frame| frame.number(4));
    while client.next_frame()?.is_some() {}
    Ok(word)
}

#[test]
fn a_flood_of_streams_that_are_reset_at_once_ends_its_connection() -> Result<()> {
    let gateway = Gateway::start()?;
    assert_serves(&gateway)?;
    let before = most_mib(&gateway)?;
    let mut client = RawHttp2::connect(&gateway, &[])?;
    let headers = client.headers("GET", "/", &[]);
    let mut flood = Vec::new();
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        flood.extend(RawHttp2::frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &headers));
        flood.extend(RawHttp2::frame(kind::RST_STREAM, 0, stream, &CANCEL));
    }
    // The server may close before all of it was sent.
    drop(client.send_bytes(&flood));
    let word = sent_away(&mut client)?;
    ensure!(word.is_none_or(|word| word == CALM), "the server said {word:?}");
    assert_serves(&gateway)?;
    let grown = most_mib(&gateway)?.saturating_sub(before);
    ensure!(grown <= GROWTH_MIB_MAX, "{grown} MiB more");
    Ok(())
}

#[test]
fn headers_that_never_end_end_their_connection() -> Result<()> {
    let gateway = Gateway::start()?;
    assert_serves(&gateway)?;
    let before = most_mib(&gateway)?;
    for piece in [literal("x-padding", &"p".repeat(8000)), Vec::new()] {
        let mut client = RawHttp2::connect(&gateway, &[])?;
        let headers = client.headers("GET", "/", &[]);
        client.send(kind::HEADERS, END_STREAM, 1, &headers)?;
        let flood = RawHttp2::frame(kind::CONTINUATION, 0, 1, &piece).repeat(16);
        let mut sent = 0_usize;
        while client.send_bytes(&flood).is_ok() {
            sent += 1;
            ensure!(sent < 20_000, "the server took {sent} times 16 frames of {} bytes", piece.len());
        }
    }
    assert_serves(&gateway)?;
    let grown = most_mib(&gateway)?.saturating_sub(before);
    ensure!(grown <= GROWTH_MIB_MAX, "{grown} MiB more");
    Ok(())
}

#[test]
fn the_bounds_of_a_connection_are_announced_and_kept() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut client = RawHttp2::connect(&gateway, &[])?;
    let settings = client.next_of(kind::SETTINGS)?.context("settings")?.settings();
    let value = |number: u16| settings.iter().find(|(known, _)| *known == number).map(|(_, value)| *value);
    let streams = value(3).context("streams at a time")?;
    ensure!(streams <= 32, "{streams} streams at a time");
    ensure!(value(4).is_some_and(|window| window <= 1 << 20), "a window of {:?}", value(4));
    ensure!(value(6).is_some_and(|list| list <= 32 << 10), "headers of {:?}", value(6));
    // Uploads that do not begin are under way; the one too many is refused.
    for number in 0..=streams {
        let headers = client.headers("PUT", &format!("/file-{number}"), &[]);
        client.send(kind::HEADERS, END_HEADERS, 2 * number + 1, &headers)?;
    }
    let refused = client.next_of(kind::RST_STREAM)?.context("a refusal")?;
    assert_eq!((refused.stream, refused.number(0)), (2 * streams + 1, Some(7)), "REFUSED_STREAM");
    assert_serves(&gateway)
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 16 << 20), 1_500_000_000)?;
    run_ok(gateway.curl().arg("-T").arg(&file).arg(gateway.url("file")))?;
    let before = most_mib(&gateway)?;
    // A client that takes everything, and reads nothing.
    let mut client = RawHttp2::connect(&gateway, &[(4, 0x7fff_ffff)])?;
    client.send(kind::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes())?;
    let headers = client.headers("GET", "/file", &[]);
    for number in 0..32 {
        client.send(kind::HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &headers)?;
    }
    for _ in 0..20 {
        assert_serves(&gateway)?;
    }
    let grown = most_mib(&gateway)?.saturating_sub(before);
    ensure!(grown <= GROWTH_MIB_MAX, "{grown} MiB more");
    Ok(())
}
