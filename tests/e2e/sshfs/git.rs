//! git in a mount: repositories, their objects, locks and packs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Listing, Mount, Names, listing, run_ok, sample_tree};

/// git with a name and without the settings of whoever runs the tests.
fn git(at: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command
        .current_dir(at)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "gc.auto=0"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    Ok(run_ok(&mut command)?.text())
}

/// What a checkout holds; git keeps no times.
fn checked_out(root: &Path) -> Result<Listing> {
    let mut found = listing(root)?;
    found.retain(|name, _| name != b".git" && !name.starts_with(b".git/"));
    found.values_mut().for_each(|line| line.1 = 0);
    Ok(found)
}

#[test]
fn git_clones_commits_packs_and_pushes_in_a_mount() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let origin = work.path().join("origin");
    sample_tree(&origin, Names::Utf8)?;
    git(&origin, &["init", "-q", "-b", "main"])?;
    git(&origin, &["add", "."])?;
    git(&origin, &["commit", "-q", "-m", "first"])?;

    let mount = Mount::new(&gateway, &[])?;
    let source = format!("file://{}", origin.display());
    git(mount.path(), &["clone", "-q", &source, "clone"])?;
    let clone = mount.path().join("clone");
    for number in 0..5 {
        write_file(&clone.join(format!("change-{number}")), &noise(number, 10_000), 1_700_000_000)?;
        fs::write(clone.join("a/b/c/d/e/f/g/deep.txt"), format!("deeper {number}"))?;
        git(&clone, &["add", "-A"])?;
        git(&clone, &["commit", "-q", "-m", &format!("change {number}")])?;
    }
    git(&clone, &["branch", "side", "HEAD~2"])?;
    git(&clone, &["checkout", "-q", "side"])?;
    ensure!(!clone.join("change-4").exists() && clone.join("change-2").exists(), "the older state");
    git(&clone, &["checkout", "-q", "main"])?;
    git(&clone, &["gc", "-q", "--prune=now"])?;
    git(&clone, &["fsck", "--full", "--strict"])?;
    ensure!(git(&clone, &["status", "--porcelain"])?.is_empty(), "nothing differs from the last commit");

    // A bare repository in the mount takes a push, and gives it to a disk.
    git(mount.path(), &["init", "-q", "--bare", "-b", "main", "bare.git"])?;
    git(&clone, &["push", "-q", "../bare.git", "main", "side"])?;
    let head = git(&clone, &["rev-parse", "main"])?;
    let sent = checked_out(&clone)?;
    mount.unmount()?;

    let mount = Mount::new(&gateway, &[])?;
    let bare = mount.path().join("bare.git");
    git(&bare, &["fsck", "--full", "--strict"])?;
    let back = work.path().join("back");
    git(work.path(), &["clone", "-q", &format!("file://{}", bare.display()), "back"])?;
    ensure!(git(&back, &["rev-parse", "main"])? == head, "the same commit");
    same_listing("pushed and cloned", &sent, &checked_out(&back)?)?;
    same_listing("in the mount", &sent, &checked_out(&mount.path().join("clone"))?)
}
