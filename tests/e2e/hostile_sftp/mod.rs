//! What attackers do over an SFTP channel, byte by byte.

mod endings;
mod floods;
mod frames;
mod handles;
mod paths;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;

/// Memory that a flood may not reach: the bound of the acceptance list.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;

fn with_victim() -> Result<Gateway> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"the victim's content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} victim\n", file.display()))?;
    Ok(gateway)
}

fn content(gateway: &Gateway, path: &str) -> Result<Vec<u8>> {
    let work = tempfile::tempdir()?;
    let got = work.path().join("got");
    gateway.sftp_batch(&format!("get {path} {}\n", got.display()))?;
    Ok(std::fs::read(&got)?)
}

fn assert_victim(gateway: &Gateway) -> Result<()> {
    let found = content(gateway, "victim")?;
    ensure!(found == b"the victim's content", "the victim holds {found:?}");
    Ok(())
}

/// Looks at the server's memory while a flood runs against it.
fn watch_memory(gateway: &Gateway) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(6);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gateway.resident_bytes()?);
        ensure!(most < RESIDENT_BYTES_MAX, "the server holds {} MiB", most >> 20);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("the server held {} MiB", most >> 20);
    Ok(())
}
