//! The rehearsal: ransomware with valid credentials, and the way back.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::moments::Instant;
use coffre_tests::{Finished, Gateway, Listing, listing, run, run_ok};

/// Files of the tree that is attacked.
const FILES: u64 = 300;

fn records(root: &Path) -> Result<Listing> {
    for number in 0..FILES {
        let path = root.join(format!("ward-{}/patient-{number:03}/record.pdf", number % 7));
        write_file(&path, &noise(number, usize::try_from(number * 411 % 120_000)?), 1_600_000_000 + number)?;
    }
    write_file(&root.join("scan.dcm"), &noise(999, 9_000_000), 1_600_000_999)?;
    write_file(&root.join("empty"), b"", 1_600_001_000)?;
    listing(root)
}

/// Runs the attack as a user; it tells the first step that was refused, if any was.
fn attack(gateway: &Gateway, user: &str, key: &str, how: &str) -> Result<Finished> {
    run(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/ransomware_client.py"))
            .args([gateway.sftp_port(), user, key, how]),
        b"",
    )
}

fn assert_tree(gateway: &Gateway, expected: &Listing, what: &str) -> Result<()> {
    let work = tempfile::tempdir()?;
    gateway.sftp_batch(&format!("get -pr /. {}\n", work.path().display()))?;
    same_listing(what, expected, &listing(work.path())?)
}

fn restore(gateway: &Gateway, at: Instant) -> Result<serde_json::Value> {
    gateway.coffre_json(&["vault", "restore", "demo/demo", "/", "--at", &at.name()])
}

#[test]
fn after_ransomware_with_valid_credentials_the_tree_is_put_back_byte_for_byte() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    let tree = records(&here)?;
    gateway.sftp_batch(&format!("put -pr {}/. /\n", here.display()))?;
    let before = Instant::now();
    let key = gateway.key_file.display().to_string();
    for how in ["in-place", "new-files", "wipe"] {
        let attacked = attack(&gateway, &gateway.user, &key, how)?;
        ensure!(attacked.status.success(), "{how}: {}", attacked.stderr);
        let damaged = tempfile::tempdir()?;
        gateway.sftp_batch(&format!("get -pr /. {}\n", damaged.path().display()))?;
        let left = listing(damaged.path())?;
        let whole =
            tree.iter().filter(|(name, line)| line.0 != "dir" && left.get(*name) == Some(line)).count();
        ensure!(whole == 0, "{how} left {whole} files as they were");
        // With a server, and without one.
        let report = if how == "new-files" {
            gateway.stop()?;
            let report = restore(&gateway, before)?;
            let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
            again.keep_directory_of(gateway);
            gateway = again;
            report
        } else {
            restore(&gateway, before)?
        };
        ensure!(report["restored"].as_u64() >= Some(FILES), "{how}: {report}");
        assert_tree(&gateway, &tree, how)?;
        let again = restore(&gateway, before)?;
        ensure!(again["restored"] == 0 && again["removed"] == 0, "{how}: a second run says {again}");
    }
    let checked = gateway.coffre(&["check", "--read-data"])?;
    ensure!(checked.status.success(), "{}{}", checked.text(), checked.stderr);
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "100000"])?.text();
    let count = |action: &str| told.matches(&format!("\"action\":\"{action}\"")).count();
    ensure!(count("restore-begin") == 6 && count("restore-end") == 6, "a begin and an end for each run");
    ensure!(count("restored") >= 3 * usize::try_from(FILES)?, "{} names", count("restored"));
    // What the attacker left is in history, for those who look into it.
    gateway.stop()
}

#[test]
fn ransomware_with_an_append_only_credential_is_refused_at_each_first_step() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    let tree = records(&here)?;
    gateway.sftp_batch(&format!("put -pr {}/. /\n", here.display()))?;
    let append = ["--rights", "append-only"];
    let key = gateway.add_key(&gateway.user, work.path(), "append", &append)?.secret;
    for how in ["in-place", "rename", "remove", "wipe"] {
        let attacked = attack(&gateway, &gateway.user, &key, how)?;
        ensure!(!attacked.status.success(), "{how} went through");
        ensure!(attacked.stderr.contains("PermissionError"), "{how}: {}", attacked.stderr);
        ensure!(attacked.text().is_empty(), "{how} got as far as {}", attacked.text());
    }
    assert_tree(&gateway, &tree, "after the attacks")
}

#[test]
fn a_part_is_put_back_in_its_place_or_beside_it() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    let tree = records(&here)?;
    gateway.sftp_batch(&format!("put -pr {}/. /\n", here.display()))?;
    let before = Instant::now();
    run_ok(gateway.curl().args(["--fail", "-X", "DELETE"]).arg(gateway.url("ward-3")))?;
    run_ok(gateway.curl().args(["--fail", "-X", "DELETE"]).arg(gateway.url("ward-4")))?;
    let at = ["--at", &before.plain_name()];
    let to = [&["vault", "restore", "demo/demo", "/ward-3"], &at[..], &["--to", "/rescued/ward-3"]].concat();
    let refused = gateway.coffre(&to)?;
    ensure!(!refused.status.success() && refused.stderr.contains("does not exist"), "{}", refused.stderr);
    gateway.sftp_batch("mkdir rescued\n")?;
    gateway.admin(&to)?;
    let refused = gateway.coffre(&to)?;
    ensure!(!refused.status.success() && refused.stderr.contains("exists already"), "{}", refused.stderr);
    gateway
        .admin(&[&["vault", "restore", "demo/demo", "ward-3/patient-003/record.pdf"], &at[..]].concat())?;
    let back = work.path().join("back");
    fs::create_dir(&back)?;
    gateway.sftp_batch(&format!("get -pr /. {}\n", back.display()))?;
    let got = listing(&back)?;
    for (name, line) in tree.iter().filter(|(name, _)| name.starts_with(b"ward-3/")) {
        let beside = [b"rescued/", &name[..]].concat();
        ensure!(got.get(&beside) == Some(line), "{} beside", name.escape_ascii());
        let one = &b"ward-3/patient-003/record.pdf"[..];
        ensure!(got.contains_key(name) == one.starts_with(name), "{} in its place", name.escape_ascii());
    }
    ensure!(!got.keys().any(|name| name.starts_with(b"ward-4")), "what was not asked for");
    for (at, reason) in [
        ("1999-12-31", "keeps nothing of"),
        ("2100-01-01T00:00:00Z", "keeps nothing of"),
        ("yesterday", "neither a time"),
    ] {
        let refused = gateway.coffre(&["vault", "restore", "demo/demo", "/", "--at", at])?;
        ensure!(!refused.status.success() && refused.stderr.contains(reason), "{at}: {}", refused.stderr);
    }
    let nothing = gateway.coffre(&["vault", "restore", "demo/demo", "/no/where", at[0], at[1]])?;
    ensure!(!nothing.status.success() && nothing.stderr.contains("there was no"), "{}", nothing.stderr);
    Ok(())
}
