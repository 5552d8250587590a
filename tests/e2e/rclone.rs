//! rclone over both protocols.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Names, listing, run, run_ok, sample_tree, until, wait};

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

#[test]
fn rclone_tells_space_and_sizes_moves_and_purges_over_sftp() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "1G"])?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::Utf8)?;
    let json = |arguments: &[&str]| -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&run_ok(gateway.rclone_sftp().args(arguments))?.stdout)?)
    };
    run_ok(arguments(&mut gateway.rclone_sftp(), "copy", &here, "coffre:tree"))?;
    let about = json(&["about", "--json", "coffre:"])?;
    ensure!(about["total"] == 1 << 30 && about["used"].as_u64() > Some(4_000_000), "{about}");
    let (there, local) =
        (json(&["size", "--json", "coffre:tree"])?, json(&["size", "--json", &here.display().to_string()])?);
    ensure!(there["bytes"] == local["bytes"] && there["count"] == local["count"], "{there} {local}");
    // Moved within the server, looked at, emptied.
    run_ok(gateway.rclone_sftp().args(["moveto", "coffre:tree/chunk", "coffre:moved/there"]))?;
    ensure!(
        run_ok(gateway.rclone_sftp().args(["cat", "coffre:moved/there"]))?.stdout
            == fs::read(here.join("chunk"))?
    );
    run_ok(gateway.rclone_sftp().args(["purge", "coffre:tree"]))?;
    let left = run_ok(gateway.rclone_sftp().args(["lsf", "-R", "coffre:"]))?.text();
    ensure!(left == "moved/\nmoved/there\n", "{left}");
    Ok(())
}

#[test]
fn rclone_mounts_a_vault_over_sftp() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, mount) = (work.path().join("here"), work.path().join("mount"));
    sample_tree(&here, Names::Utf8)?;
    fs::create_dir(&mount)?;
    let mounted = || Ok(run(Command::new("mountpoint").arg("-q").arg(&mount), b"")?.status.success());
    let mut rclone = gateway.rclone_sftp();
    rclone.args(["mount", "--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--cache-dir"]);
    let mut rclone = rclone.arg(work.path().join("cache")).arg("coffre:").arg(&mount).spawn()?;
    let outcome = until("rclone mounts", 30, mounted).and_then(|()| {
        run_ok(Command::new("cp").args(["-r", "--preserve=timestamps"]).arg(&here).arg(mount.join("there")))?;
        same_listing("through the mount", &listing(&here)?, &listing(&mount.join("there"))?)
    });
    // Unmounting writes back what is not there yet.
    run_ok(Command::new("fusermount3").arg("-u").arg(&mount))?;
    let ended = wait(&mut rclone, 60)?;
    outcome?;
    ensure!(ended.success(), "{ended}");
    run_ok(arguments(&mut gateway.rclone_sftp(), "check", &here, "coffre:there").arg("--download"))?;
    Ok(())
}
