//! Append-only: programs finish what they upload, and destroy nothing.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::mount::NO_CACHES;
use coffre_tests::{Gateway, Mount, Names, listing, run, run_ok, sample_tree};

use super::Narrow;

#[test]
fn rclone_copies_under_append_only_and_its_sync_deletes_and_overwrites_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::Utf8)?;
    let narrow = Narrow::new(&gateway, work.path(), "append-only")?;
    run_ok(narrow.rclone_sftp(&gateway).arg("copy").arg(&here).arg("coffre:by-sftp"))?;
    run_ok(narrow.rclone_webdav(&gateway)?.arg("copy").arg(&here).arg("coffre:by-webdav"))?;
    let before = listing(&here)?;
    // Another credential made nothing of this: for it everything is old.
    let later = work.path().join("later");
    fs::create_dir(&later)?;
    let other = Narrow::new(&gateway, &later, "append-only")?;
    fs::remove_file(here.join("chunk"))?;
    fs::remove_dir_all(here.join("a"))?;
    write_file(&here.join("many/file-000"), &noise(99, 5000), 1_700_000_000)?;
    write_file(&here.join("new"), b"new", 1_700_000_001)?;
    let synced = run(other.rclone_sftp(&gateway).arg("sync").arg(&here).arg("coffre:by-sftp"), b"")?;
    ensure!(!synced.status.success(), "a sync that could delete nothing says so");
    let synced = run(other.rclone_webdav(&gateway)?.arg("sync").arg(&here).arg("coffre:by-webdav"), b"")?;
    ensure!(!synced.status.success(), "a sync that could delete nothing says so");
    for from in ["coffre:by-sftp", "coffre:by-webdav"] {
        let back = work.path().join(from.replace(':', "-"));
        run_ok(gateway.rclone_sftp().args(["copy", from]).arg(&back))?;
        let mut got = listing(&back)?;
        got.remove(&b"new"[..]);
        let mut sent = before.clone();
        // Plain WebDAV keeps no times.
        if from.ends_with("webdav") {
            sent.values_mut().chain(got.values_mut()).for_each(|line| line.1 = 0);
        }
        same_listing(from, &sent, &got)?;
    }
    Ok(())
}

#[test]
fn what_winscp_and_psftp_do_to_finish_an_upload_works_once_under_append_only() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 300_000), 1_500_000_000)?;
    let narrow = Narrow::new(&gateway, work.path(), "append-only")?;
    let sftp = |batch: &str| gateway.sftp_as(&gateway.user, &narrow.key, batch);
    // WinSCP: under another name, then resumed, then its time, then the rename.
    let half = work.path().join("half");
    write_file(&half, &noise(1, 300_000)[..100_000], 1_500_000_000)?;
    let done = sftp(&format!("put {} report.filepart\n", half.display()))?;
    ensure!(done.status.success(), "{}", done.stderr);
    let done = sftp(&format!("reput {} report.filepart\n", file.display()))?;
    ensure!(done.status.success(), "{}", done.stderr);
    let done = sftp("chmod 640 report.filepart\nrename report.filepart report\n")?;
    ensure!(done.status.success(), "in a later session: {}", done.stderr);
    let again = sftp("rename report elsewhere\n")?;
    ensure!(!again.status.success(), "once");
    let over = sftp(&format!("put {} other.filepart\nrename other.filepart report\n", file.display()))?;
    ensure!(over.status.success(), "a fresh one may take the place of a fresh one: {}", over.stderr);
    Ok(())
}

#[test]
fn a_mounted_drive_under_append_only_takes_copies_and_keeps_what_is_there() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 3_000_000), 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} old\n", file.display()))?;
    let narrow = Narrow::new(&gateway, work.path(), "append-only")?;
    let mounted = Mount::with(&gateway, &gateway.ssh_options_with(&narrow.key), NO_CACHES)?;
    let mount = mounted.path();
    run_ok(Command::new("cp").arg("-p").arg(&file).arg(mount.join("new")))?;
    ensure!(fs::read(mount.join("new"))? == fs::read(&file)?);
    ensure!(fs::write(mount.join("old"), b"over").is_err(), "overwriting");
    ensure!(fs::remove_file(mount.join("old")).is_err(), "removing");
    ensure!(fs::rename(mount.join("old"), mount.join("moved")).is_err(), "moving");
    ensure!(fs::OpenOptions::new().write(true).open(mount.join("old")).is_err(), "opening to write");
    mounted.unmount()?;
    let got = work.path().join("got");
    gateway.sftp_batch(&format!("get old {}\n", got.display()))?;
    ensure!(fs::read(&got)? == fs::read(&file)?);
    Ok(())
}
