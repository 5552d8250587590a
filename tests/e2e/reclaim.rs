//! Space comes back by itself and on demand, while clients work; retention, holds and compression as an operator sees them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::{noise, sha256};
use serde_json::Value;

const MIB: u64 = 1024 * 1024;
/// More than a pack holds.
const LARGE_BYTES: usize = 280 * 1024 * 1024;
/// Seconds in which space must come back when everything is set to seconds.
const RECLAIM_SECS_MAX: u64 = 120;

/// A gateway whose times are seconds.
fn quick() -> Result<Gateway> {
    Gateway::start_configured(|config| {
        format!(
            "{config}\n[storage]\nretention_grace = \"1s\"\nreclaim_grace = \"1s\"\nreclaim_interval = \"1s\"\n\
             reclaim_rate = \"1G\"\nexport_interval = \"1s\"\n"
        )
    })
}

/// A gateway that reclaims only when it is asked.
fn manual() -> Result<Gateway> {
    Gateway::start_configured(|config| format!("{config}\n[storage]\nretention_grace = \"1s\"\n"))
}

fn pack_bytes(data: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(data.join("store/packs"))? {
        use std::os::unix::fs::MetadataExt;
        // One may be unlinked between the two calls.
        bytes += entry?.metadata().map_or(0, |found| found.blocks() * 512);
    }
    Ok(bytes)
}

fn keep_for_a_second(gateway: &Gateway) -> Result<()> {
    gateway.admin(&["vault", "retention", "demo/demo", "1s"])?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while show(gateway)?["retention_secs"] != 1 {
        ensure!(Instant::now() < deadline, "the grace time passed");
    }
    Ok(())
}

fn show(gateway: &Gateway) -> Result<Value> {
    gateway.coffre_json(&["vault", "show", "demo/demo"])
}

#[test]
fn gc_gives_the_space_of_deleted_files_back_and_keeps_the_others_whole() -> Result<()> {
    let mut gateway = manual()?;
    let work = tempfile::tempdir()?;
    let (gone, kept) = (work.path().join("gone"), work.path().join("kept"));
    std::fs::write(&gone, noise(1, LARGE_BYTES))?;
    std::fs::write(&kept, noise(2, 40 << 20))?;
    gateway.sftp_batch(&format!("put {} gone\nput {} kept\n", gone.display(), kept.display()))?;
    let full = pack_bytes(&gateway.data)?;
    gateway.sftp_batch("rm gone\n")?;
    let early = gateway.coffre_json(&["gc", "--grace", "1s"])?;
    ensure!(early["inodes_pruned"] == 0, "its 30 days are not over: {early}");
    keep_for_a_second(&gateway)?;
    let first = gateway.coffre_json(&["gc", "--grace", "1s"])?;
    ensure!(first["inodes_pruned"].as_u64() > Some(0), "{first}");
    let deadline = Instant::now() + Duration::from_secs(RECLAIM_SECS_MAX);
    while pack_bytes(&gateway.data)? + 240 * MIB > full {
        ensure!(Instant::now() < deadline, "{} of {full} bytes are still there", pack_bytes(&gateway.data)?);
        gateway.coffre_json(&["gc", "--grace", "1s"])?;
    }
    let back = work.path().join("back");
    gateway.sftp_batch(&format!("get kept {}\n", back.display()))?;
    ensure!(sha256(&back)? == sha256(&kept)?);
    gateway.admin(&["check", "--read-data"])?;
    gateway.stop()?;
    gateway.admin(&["check", "--read-data"])?;
    let records = gateway.coffre(&["--json", "audit", "tail", "-n", "100000"])?.text();
    ensure!(records.contains("history-prune") && records.contains("pack-remove"), "{records}");
    Ok(())
}

#[test]
fn space_comes_back_by_itself_while_clients_work() -> Result<()> {
    let gateway = quick()?;
    keep_for_a_second(&gateway)?;
    let work = tempfile::tempdir()?;
    let (large, small) = (work.path().join("large"), work.path().join("small"));
    std::fs::write(&large, noise(3, LARGE_BYTES))?;
    std::fs::write(&small, noise(4, 3 << 20))?;
    gateway.sftp_batch(&format!("put {} large\n", large.display()))?;
    let full = pack_bytes(&gateway.data)?;
    gateway.sftp_batch("rm large\n")?;
    let deadline = Instant::now() + Duration::from_secs(RECLAIM_SECS_MAX);
    let back = work.path().join("back");
    let mut rounds = 0;
    while pack_bytes(&gateway.data)? + 200 * MIB > full {
        ensure!(
            Instant::now() < deadline,
            "{} of {full}: {}",
            pack_bytes(&gateway.data)?,
            gateway.log_text()
        );
        rounds += 1;
        gateway.sftp_batch(&format!("put {} small-{}\n", small.display(), rounds % 3))?;
        gateway.sftp_batch(&format!("get small-{} {}\n", rounds % 3, back.display()))?;
        ensure!(sha256(&back)? == sha256(&small)?, "round {rounds}");
    }
    gateway.admin(&["check", "--read-data"])?;
    Ok(())
}

#[test]
fn a_hold_stops_gc_and_a_retention_cannot_be_shortened_at_once() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir case\nput /etc/hostname case/evidence\nrm case/evidence\n")?;
    let shortened = gateway.coffre_json(&["vault", "retention", "demo/demo", "1s"])?;
    ensure!(show(&gateway)?["retention_secs"] == 30 * 86_400, "it waits for seven days: {shortened}");
    ensure!(show(&gateway)?["retention_shortening"]["secs"] == 1);
    gateway.admin(&["vault", "retention", "demo/demo", "60d"])?;
    ensure!(show(&gateway)?["retention_secs"] == 60 * 86_400, "a longer one counts at once");
    ensure!(show(&gateway)?["retention_shortening"].is_null(), "and takes the shorter one back");

    let held = gateway.coffre_json(&["vault", "hold", "demo/demo", "/case", "--reason", "order 7"])?;
    let number = held["number"].as_u64().context("a number")?.to_string();
    ensure!(show(&gateway)?["holds"][0]["reason"] == "order 7");
    ensure!(!gateway.coffre(&["vault", "hold", "demo/demo", "/none", "--reason", "x"])?.status.success());
    gateway.admin(&["vault", "lift", "demo/demo", &number])?;
    ensure!(!gateway.coffre(&["vault", "lift", "demo/demo", &number])?.status.success());
    let records = gateway.coffre(&["--json", "audit", "tail", "-n", "30"])?.text();
    ensure!(records.matches("vault-change").count() >= 4, "{records}");
    Ok(())
}

#[test]
fn text_takes_less_room_than_it_has_bytes_unless_compression_is_off() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let lines =
        (0..200_000_u64).map(|line| format!("patient;{line};{};value {}\n", line * 7 % 1009, line % 97));
    let text: String = lines.collect();
    let path = work.path().join("export.csv");
    std::fs::write(&path, &text)?;
    gateway.sftp_batch(&format!("put {} a.csv\n", path.display()))?;
    let packed = show(&gateway)?;
    let (unique, stored) = (packed["bytes_unique"].as_u64(), packed["bytes_stored"].as_u64());
    ensure!(unique >= Some(text.len() as u64 - 1), "{packed}");
    ensure!(stored < unique.map(|bytes| bytes * 7 / 8), "{packed}");
    let back = work.path().join("back");
    gateway.sftp_batch(&format!("get a.csv {}\n", back.display()))?;
    ensure!(std::fs::read(&back)? == text.as_bytes());
    gateway.admin(&["vault", "compression", "demo/demo", "off"])?;
    let other: String = text.replace("patient", "analysis");
    std::fs::write(&path, &other)?;
    gateway.sftp_batch(&format!("put {} b.csv\n", path.display()))?;
    let plain = show(&gateway)?;
    let grown = |name: &str| plain[name].as_u64().zip(packed[name].as_u64()).map(|(now, then)| now - then);
    ensure!(grown("bytes_stored") >= Some(other.len() as u64), "{packed} {plain}");
    ensure!(plain["compression"] == "off");
    gateway.admin(&["check", "--read-data"])?;
    Ok(())
}
