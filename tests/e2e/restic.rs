//! restic over SFTP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Finished, Gateway, Names, listing, run_ok, sample_tree};

/// restic with a repository at `/repository` and a cache of its own.
fn restic(options: &[String], user: &str, cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("restic");
    command
        .arg("-o")
        .arg(format!("sftp.command=ssh {} {user}@127.0.0.1 -s sftp", options.join(" ")))
        .args(["-r", &format!("sftp:{user}@127.0.0.1:/repository"), "--cache-dir"])
        .arg(cache)
        .args(arguments)
        .env("RESTIC_PASSWORD", "correct horse");
    command
}

#[test]
fn restic_backs_up_checks_forgets_prunes_and_restores() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, cache) = (work.path().join("here"), work.path().join("cache"));
    sample_tree(&here, Names::AnyByte)?;
    let restic = |arguments: &[&str]| -> Result<Finished> {
        run_ok(restic(&gateway.ssh_options(), &gateway.user, &cache, arguments).current_dir(&here))
    };
    restic(&["init"])?;
    restic(&["backup", "."])?;
    let first = listing(&here)?;
    write_file(&here.join("medium.bin"), &noise(77, 2_000_000), 1_700_000_000)?;
    std::fs::remove_file(here.join("chunk"))?;
    restic(&["backup", "."])?;
    let second = listing(&here)?;
    restic(&["check", "--read-data"])?;
    let back = work.path().join("back");
    restic(&["restore", "latest", "--target", &back.display().to_string()])?;
    same_listing("the second snapshot", &second, &listing(&back)?)?;
    let oldest = restic(&["snapshots", "--json"])?.text();
    let snapshots: serde_json::Value = serde_json::from_str(&oldest)?;
    let oldest = snapshots[0]["short_id"].as_str().unwrap_or_default().to_owned();
    let earlier = work.path().join("earlier");
    restic(&["restore", &oldest, "--target", &earlier.display().to_string()])?;
    same_listing("the first snapshot", &first, &listing(&earlier)?)?;
    restic(&["forget", "--keep-last", "1", "--prune"])?;
    restic(&["check", "--read-data"])?;
    let after = work.path().join("after");
    restic(&["restore", "latest", "--target", &after.display().to_string()])?;
    same_listing("after pruning", &second, &listing(&after)?)
}

fn owner_backup(gateway: &Gateway, cache: &Path) -> Command {
    restic(&gateway.ssh_options(), &gateway.user, cache, &["backup", "."])
}

#[test]
fn restic_backs_up_with_a_credential_that_cannot_destroy_what_it_made() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, cache) = (work.path().join("here"), work.path().join("cache"));
    sample_tree(&here, Names::Utf8)?;
    run_ok(&mut restic(&gateway.ssh_options(), &gateway.user, &cache, &["init"]))?;
    let key = gateway.add_key("demo", work.path(), "append", &["--rights", "append-only"])?.secret;
    let options = gateway.ssh_options_with(&key);
    // Once its snapshot is saved, restic tries for minutes to remove its lock: nobody needs to wait for that.
    let mut backup = restic(&options, &gateway.user, &cache, &["backup", "."])
        .current_dir(&here)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(backup.stdout.take().context("standard output")?).lines();
    let is_saved = lines.any(|line| line.is_ok_and(|line| line.ends_with(" saved")));
    backup.kill()?;
    backup.wait()?;
    ensure!(is_saved, "restic ended before its snapshot was saved");
    // A lock is a file like any other: it stays, and the owner removes it.
    ensure!(gateway.sftp_batch("ls -1 /repository/locks\n")?.text().lines().count() > 1, "the lock stays");
    let removed = gateway.sftp_as(&gateway.user, &key, "rm /repository/snapshots/*\n")?;
    ensure!(!removed.status.success(), "{}", removed.text());

    let owner =
        |arguments: &[&str]| run_ok(&mut restic(&gateway.ssh_options(), &gateway.user, &cache, arguments));
    owner(&["unlock", "--remove-all"])?;
    run_ok(owner_backup(&gateway, &cache).current_dir(&here))?;
    // restic tries each removal again for minutes: its first word about one is enough.
    let mut forget = restic(&options, &gateway.user, &cache, &["forget", "--keep-last", "1", "--prune"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(forget.stderr.take().context("standard error")?).lines();
    let is_refused = said.any(|line| line.is_ok_and(|line| line.starts_with("Remove(<snapshot/")));
    forget.kill()?;
    forget.wait()?;
    ensure!(is_refused, "restic was not refused the removal of a snapshot");
    owner(&["unlock", "--remove-all"])?;
    let snapshots: serde_json::Value = serde_json::from_str(&owner(&["snapshots", "--json"])?.text())?;
    ensure!(snapshots.as_array().is_some_and(|kept| kept.len() == 2), "{snapshots}");
    owner(&["check", "--read-data"])?;
    let back = work.path().join("back");
    owner(&["restore", "latest", "--target", &back.display().to_string()])?;
    same_listing("restored", &listing(&here)?, &listing(&back)?)
}
