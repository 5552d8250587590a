//! What a transfer may hold of memory, and what an interrupted one leaves.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::{Gateway, RawHttp, until};

use super::{ask, holds, put};

/// Clients at once.
const CLIENTS: u64 = 32;
/// Bytes of memory that each of them may cost, all told.
const CLIENT_BYTES_MAX: u64 = 4 << 20;

/// The most that the server holds during two seconds, beyond what it held before.
fn grown(gateway: &Gateway, before: u64) -> Result<u64> {
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(gateway.resident_bytes()?);
        thread::park_timeout(Duration::from_millis(100));
    }
    Ok(most.saturating_sub(before))
}

#[test]
fn many_slow_writers_hold_little_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "warm", &noise(1, 4 << 20))?;
    let before = gateway.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request(&format!("PUT /slow-{number}"), "Content-Length: 100000000\r\n")?;
        // As much as nobody may keep in memory, and then nothing more.
        raw.send(&noise(number, 7_000_000))?;
        clients.push(raw);
    }
    let grown = grown(&gateway, before)?;
    ensure!(grown <= CLIENTS * CLIENT_BYTES_MAX, "{grown} bytes for {CLIENTS} slow writers");
    put(&gateway, "other", b"goes on")?;
    drop(clients);
    until("uploads end with their clients", 30, || {
        Ok(ask(&gateway, "GET", "slow-0", &[], None)?.status == 404)
    })
}

#[test]
fn many_slow_readers_hold_little_memory_and_others_go_on() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "big", &noise(2, 48 << 20))?;
    let before = gateway.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut raw = RawHttp::connect(&gateway)?;
        // From places of their own, so that no cache serves them all; some of several ranges.
        let from = number << 20;
        let ranges = if number % 4 == 0 { format!("{from}-,0-{}", 1 << 18) } else { format!("{from}-") };
        raw.request("GET /big", &format!("Range: bytes={ranges}\r\n"))?;
        ensure!(matches!(raw.status()?, Some(200 | 206)));
        clients.push(raw);
    }
    let grown = grown(&gateway, before)?;
    ensure!(grown <= CLIENTS * CLIENT_BYTES_MAX, "{grown} bytes for {CLIENTS} slow readers");
    put(&gateway, "other", b"goes on")?;
    holds(&gateway, "other", b"goes on")?;
    drop(clients);
    Ok(())
}

#[test]
fn an_upload_interrupted_at_every_64_kib_leaves_the_old_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let old = noise(3, 200_000);
    put(&gateway, "file", &old)?;
    let new = noise(4, 20 * 65_536);
    for cut in (0..new.len()).step_by(65_536) {
        for (line, head) in [
            ("PUT /file", format!("Content-Length: {}\r\n", new.len())),
            ("PUT /file", "Transfer-Encoding: chunked\r\n".to_owned()),
            ("PUT /fresh", format!("Content-Length: {}\r\n", new.len())),
        ] {
            let mut raw = RawHttp::connect(&gateway)?;
            raw.request(line, &head)?;
            if head.contains("chunked") {
                raw.send(format!("{:x}\r\n", new.len()).as_bytes())?;
            }
            raw.send(&new[..cut])?;
            drop(raw);
        }
        holds(&gateway, "file", &old)?;
    }
    ensure!(ask(&gateway, "GET", "fresh", &[], None)?.status == 404);
    put(&gateway, "file", &new)?;
    holds(&gateway, "file", &new)?;
    ensure!(gateway.coffre(&["check"])?.status.success());
    Ok(())
}
