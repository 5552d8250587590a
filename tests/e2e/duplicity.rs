//! duplicity over SFTP (its paramiko back end).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Finished, Gateway, Names, listing, run, run_ok, sample_tree};

fn duplicity(gateway: &Gateway, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("duplicity");
    command
        .args(arguments)
        .args(["--no-encryption", "--archive-dir"])
        .arg(home.join("archive"))
        .arg(format!("--ssh-options=-oIdentityFile={}", gateway.key_file.display()))
        .env("HOME", home);
    command
}

#[test]
fn duplicity_backs_up_fully_and_incrementally_verifies_and_restores() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, home) = (work.path().join("here"), work.path().join("home"));
    fs::create_dir_all(home.join(".ssh"))?;
    fs::copy(&gateway.known_hosts, home.join(".ssh/known_hosts"))?;
    sample_tree(&here, Names::Utf8)?;
    let source = here.display().to_string();
    let there = format!("sftp://{}@127.0.0.1:{}//backup", gateway.user, gateway.sftp_port());
    let ok = |arguments: &[&str]| -> Result<Finished> { run_ok(&mut duplicity(&gateway, &home, arguments)) };
    ok(&["full", &source, &there])?;
    let first = listing(&here)?;
    ok(&["verify", "--compare-data", &there, &source])?;
    write_file(&here.join("medium.bin"), &noise(78, 1_000_000), 1_700_000_000)?;
    write_file(&here.join("new"), b"new", 1_700_000_001)?;
    fs::remove_dir_all(here.join("many"))?;
    let differs = run(&mut duplicity(&gateway, &home, &["verify", "--compare-data", &there, &source]), b"")?;
    ensure!(!differs.status.success(), "verify sees what changed");
    ok(&["incremental", &source, &there])?;
    ok(&["verify", "--compare-data", &there, &source])?;
    // From the server alone, as after the loss of the machine.
    fs::remove_dir_all(home.join("archive"))?;
    let back = work.path().join("back");
    ok(&["restore", &there, &back.display().to_string()])?;
    same_listing("restored", &listing(&here)?, &listing(&back)?)?;
    ensure!(listing(&here)? != first);
    Ok(())
}
