//! rclone over both protocols.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Names, listing, run, run_ok, sample_tree};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Kept,
    /// Plain WebDAV has no way to set one.
    Lost,
}

fn arguments<'c>(command: &'c mut Command, verb: &str, from: &Path, to: &str) -> &'c mut Command {
    command.arg(verb).arg(from).arg(to)
}

#[test]
fn rclone_copies_checks_and_syncs_over_sftp() -> Result<()> {
    let gateway = Gateway::start()?;
    copies_checks_and_syncs(&|| Ok(gateway.rclone_sftp()), Times::Kept)
}

#[test]
fn rclone_copies_checks_and_syncs_over_webdav() -> Result<()> {
    let gateway = Gateway::start()?;
    copies_checks_and_syncs(&|| gateway.rclone_webdav(), Times::Lost)
}

fn copies_checks_and_syncs(rclone: &dyn Fn() -> Result<Command>, times: Times) -> Result<()> {
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    run_ok(arguments(&mut rclone()?, "copy", &here, "coffre:tree").args(["--transfers", "8"]))?;
    run_ok(arguments(&mut rclone()?, "check", &here, "coffre:tree").arg("--download"))?;
    run_ok(rclone()?.args(["copy", "coffre:tree"]).arg(&back))?;
    let (mut sent, mut received) = (listing(&here)?, listing(&back)?);
    if times == Times::Lost {
        sent.values_mut().chain(received.values_mut()).for_each(|line| line.1 = 0);
    }
    same_listing("there and back", &sent, &received)?;

    fs::remove_file(here.join("chunk"))?;
    fs::remove_dir_all(here.join("a"))?;
    write_file(&here.join("many/file-000"), &noise(99, 5000), 1_700_000_000)?;
    write_file(&here.join("new"), b"new", 1_700_000_001)?;
    run_ok(arguments(&mut rclone()?, "sync", &here, "coffre:tree"))?;
    run_ok(arguments(&mut rclone()?, "check", &here, "coffre:tree").arg("--download"))?;
    let gone = run(rclone()?.args(["cat", "coffre:tree/chunk"]), b"")?;
    assert!(!gone.status.success(), "sync removed it");
    Ok(())
}
