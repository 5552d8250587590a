//! SQLite in a mount: journals, fsync, and what is left when the server dies.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, Mount, run_ok, wait};

/// Transactions of the test in which nothing breaks.
const TRANSACTIONS: u32 = 60;
/// Transactions after which the server is killed.
const BEFORE_THE_KILL: u32 = 25;

/// `write` COUNT transactions, each with a printed number once it is committed, or `check`.
fn client(at: &Path, journal: &str, verb: &str, count: u32) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/sshfs/sqlite_client.py"))
        .arg(at.join(format!("{journal}.db")))
        .args([journal, verb, &count.to_string()]);
    command
}

fn transactions_hold(journal: &str) -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, &[])?;
    run_ok(&mut client(mount.path(), journal, "write", TRANSACTIONS))?;
    run_ok(&mut client(mount.path(), journal, "check", TRANSACTIONS))?;
    mount.unmount()?;
    let mount = Mount::new(&gateway, &[])?;
    run_ok(&mut client(mount.path(), journal, "check", TRANSACTIONS))?;
    mount.unmount()
}

#[test]
fn sqlite_keeps_its_promises_with_a_rollback_journal() -> Result<()> {
    transactions_hold("delete")
}

#[test]
fn sqlite_keeps_its_promises_with_a_journal_that_is_truncated() -> Result<()> {
    transactions_hold("truncate")
}

#[test]
fn sqlite_keeps_its_promises_with_a_write_ahead_log() -> Result<()> {
    transactions_hold("wal")
}

#[test]
fn what_sqlite_committed_before_the_server_was_killed_is_there_after() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, log) = (directory.path().join("data"), directory.path().join("server.log"));
    let mut gateway = Gateway::start_on(&data, &log)?;
    let mount = Mount::new(&gateway, &[])?;
    let mut writing = client(mount.path(), "delete", "write", u32::MAX)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(writing.stdout.take().context("standard output")?).lines();
    let mut acknowledged = 0;
    while acknowledged < BEFORE_THE_KILL {
        acknowledged = lines.next().context("the client ended")??.parse()?;
    }
    gateway.kill()?;
    // What was said between the last number that was read and the kill counts too.
    for line in lines {
        acknowledged = line?.parse()?;
    }
    ensure!(!wait(&mut writing, 60)?.success(), "a transaction without a server must fail");
    drop(mount);

    let gateway = Gateway::start_on(&data, &log)?;
    let mount = Mount::new(&gateway, &[])?;
    run_ok(&mut client(mount.path(), "delete", "check", acknowledged))?;
    // It goes on where it was.
    run_ok(&mut client(mount.path(), "delete", "write", 5))?;
    run_ok(&mut client(mount.path(), "delete", "check", acknowledged + 5))?;
    Ok(())
}
