//! A log that is not what was signed is told, by its own checkpoints or by one that was kept elsewhere.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::customer::CustomerTrees;
use coffre_storage::audit::record::{decode_record, encode_record, outline};
use coffre_storage::audit::writer::{AuditPosition, AuditWriter, Signed};
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::id::{CommitNumber, RecordNumber};
use coffre_storage::keys::{GatewayKey, GatewayLabel, Secret32};
use coffre_storage::record::RecordKey;
use coffre_storage::time::UnixNanos;
use coffre_tests::gateway::binary;
use coffre_tests::{Gateway, run, run_ok};

use super::{audit_directory, framed, newest_note};
use crate::tamper::{Flipped, positions, used_len};

#[test]
fn a_flipped_byte_in_the_audit_log_is_found_offline() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    gateway.sftp_batch("mkdir a\nmkdir b\nrmdir a\nls b\n")?;
    gateway.stop()?;
    let original = audit_directory(&gateway);
    let copy = work.path().join("copy");
    let verify = || -> Result<bool> {
        let finished = run(Command::new(binary()?).args(["audit", "verify"]).arg(&copy), b"")?;
        ensure!(finished.status.code().is_some(), "verify was killed by a signal: {}", finished.stderr);
        Ok(finished.status.success())
    };
    run_ok(Command::new("cp").arg("-r").arg(original.join("audit")).arg(&copy))?;
    // `audit verify` takes the directory that holds `audit/`, as well as a copy of `audit/` alone.
    if !verify()? {
        fs::remove_dir_all(&copy)?;
        fs::create_dir(&copy)?;
        run_ok(Command::new("cp").arg("-r").arg(original.join("audit")).arg(&copy))?;
        ensure!(verify()?, "the copy verifies");
    }
    let mut tried = 0;
    for entry in walkdir::WalkDir::new(&copy) {
        let entry = entry?;
        if !entry.file_type().is_file() || used_len(entry.path())? == 0 {
            continue;
        }
        for position in positions(used_len(entry.path())?) {
            let flipped = Flipped::at(entry.path(), position)?;
            ensure!(!verify()?, "byte {position} of {} was flipped and not found", entry.path().display());
            drop(flipped);
            tried += 1;
        }
    }
    ensure!(tried > 0 && verify()?, "clean after the bytes were put back");
    Ok(())
}

#[test]
fn an_audit_log_cut_short_is_found() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    gateway.sftp_batch("mkdir a\nmkdir b\nrmdir a\nls b\n")?;
    gateway.stop()?;
    ensure!(gateway.coffre(&["audit", "verify"])?.status.success(), "whole before");
    let largest = walkdir::WalkDir::new(audit_directory(&gateway).join("audit"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .context("an audit file")?
        .into_path();
    let used = used_len(&largest)?;
    let mut file = OpenOptions::new().write(true).open(&largest)?;
    // The last quarter, as someone would do who wants the end to be forgotten.
    let kept = used * 3 / 4;
    file.seek(SeekFrom::Start(kept))?;
    file.write_all(&vec![0; usize::try_from(used - kept)?])?;
    file.set_len(kept)?;
    drop(file);
    ensure!(!gateway.coffre(&["audit", "verify"])?.status.success(), "a shortened log verifies");
    Ok(())
}

/// Verifies a copy; what it says is wrong.
fn verdict(copy: &Path, checkpoint: Option<&Path>) -> Result<Option<String>> {
    let mut command = Command::new(binary()?);
    command.args(["--json", "audit", "verify"]).arg(copy);
    if let Some(checkpoint) = checkpoint {
        command.arg("--checkpoint").arg(checkpoint);
    }
    let finished = run(&mut command, b"")?;
    let said: serde_json::Value =
        serde_json::from_slice(&finished.stdout).context(finished.stderr.clone())?;
    ensure!(finished.status.success() == said["damage"].is_null(), "{said}");
    Ok(said["damage"].as_str().map(str::to_owned))
}

fn copied(gateway: &Gateway, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    run_ok(Command::new("cp").arg("-r").arg(audit_directory(gateway).join("audit")).arg(to))?;
    Ok(())
}

/// What somebody with the signing key can do: other records, whatever they are, numbered and signed like real ones.
fn signed_anew(gateway: &Gateway, to: &Path, records: &[Vec<u8>]) -> Result<()> {
    fs::create_dir_all(to.join("audit"))?;
    let digits = fs::read_to_string(gateway.data.join("secrets/gateway.key"))?;
    let number = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16);
    let mut secret = [0; 32];
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = number(at)?;
    }
    let seed = GatewayKey::from_secret(Secret32::new(secret)).derive(GatewayLabel::AuditSigning);
    let blobs: Arc<dyn BlobStore> = Arc::new(DiskBlobs::new(to)?);
    let mut writer = AuditWriter::open(blobs, &seed, AuditPosition::default(), CustomerTrees::default())?;
    let details = RecordKey::new(&Secret32::new([1; 32]));
    for (at, bytes) in records.iter().enumerate() {
        let (record, number) = (decode_record(bytes).context("a record")?, RecordNumber(at as u64));
        // One that kept its number is left as it is.
        let renumbered = encode_record(&record.draft, number, record.utc, record.boot_nanos, &details)?;
        writer.append(number, if record.number == number { bytes } else { &renumbered });
    }
    writer.flush()?;
    writer.sign_checkpoint(CommitNumber(1_000_000), UnixNanos(1), Signed::All)?;
    Ok(())
}

#[test]
fn a_log_that_was_signed_anew_verifies_alone_and_not_against_a_checkpoint_kept_elsewhere() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    gateway.sftp_batch("mkdir a\nmkdir b\nrmdir a\nls b\n")?;
    gateway.stop()?;
    let kept = work.path().join("kept");
    fs::write(&kept, newest_note(&gateway, "checkpoints", None)?)?;
    let of_customer = work.path().join("kept-of-customer");
    fs::write(&of_customer, newest_note(&gateway, "customer-checkpoints", None)?)?;
    let records = framed(&audit_directory(&gateway).join("audit/segment-0000000000000000.log"), 16)?;
    let last = records.len() - 1;
    // Two in a row that are the customer's.
    let of_customer_too = |at: &usize| {
        records[*at..*at + 2].iter().all(|bytes| outline(bytes).is_some_and(|seen| seen.customer.is_some()))
    };
    let middle = (records.len() / 2..last).find(of_customer_too).context("records of the customer")?;
    let tampered = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut records = records.clone();
        change(&mut records);
        records
    };
    let edited = |records: &mut Vec<Vec<u8>>| {
        let record = decode_record(&records[middle]).map(|mut record| {
            record.draft.reason = Some("nothing happened".to_owned());
            record
        });
        let key = RecordKey::new(&Secret32::new([1; 32]));
        if let Some(record) = record
            && let Ok(bytes) =
                encode_record(&record.draft, record.number, record.utc, record.boot_nanos, &key)
        {
            records[middle] = bytes;
        }
    };
    let cases: [(&str, Vec<Vec<u8>>, &str); 6] = [
        ("untouched", records.clone(), ""),
        ("deleted", tampered(&|all| drop(all.remove(middle))), "records"),
        ("edited", tampered(&edited), "the log was rewritten"),
        ("swapped", tampered(&|all| all.swap(middle, middle + 1)), "the log was rewritten"),
        ("reordered", tampered(&|all| all[1..].reverse()), "the log was rewritten"),
        ("cut short", tampered(&|all| all.truncate(middle)), "the log was cut short or set back"),
    ];
    for (what, records, said) in cases {
        let copy = work.path().join(what);
        signed_anew(&gateway, &copy, &records)?;
        ensure!(
            verdict(&copy, None)?.is_none(),
            "{what}: alone nobody can tell: {:?}",
            verdict(&copy, None)?
        );
        for kept in [&kept, &of_customer] {
            let told = verdict(&copy, Some(kept))?;
            if what == "untouched" {
                ensure!(told.is_none(), "{what}: {told:?}");
            } else {
                let told = told.with_context(|| format!("{what} is not told by {}", kept.display()))?;
                ensure!(kept == &of_customer || told.contains(said), "{what}: {told}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_fork_and_a_log_set_back_are_told_by_a_checkpoint_of_the_other_one() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (one, other) = (work.path().join("one"), work.path().join("other"));
    let mut gateway = Gateway::start_on(&one, &work.path().join("one.log"))?;
    gateway.sftp_batch("mkdir a\n")?;
    gateway.stop()?;
    // The same store, twice: each goes its own way.
    run_ok(Command::new("cp").arg("-r").arg(&one).arg(&other))?;
    let mut first = Gateway::start_on(&one, &work.path().join("one.log"))?;
    first.sftp_batch("mkdir b\nmkdir c\n")?;
    first.stop()?;
    let mut second = Gateway::start_on(&other, &work.path().join("other.log"))?;
    let set_back = work.path().join("set-back");
    copied(&second, &set_back)?;
    second.sftp_batch("mkdir d\nmkdir e\nmkdir f\n")?;
    second.stop()?;
    let kept = work.path().join("kept");
    fs::write(&kept, newest_note(&first, "checkpoints", None)?)?;
    for copy in [&one, &other] {
        ensure!(verdict(copy, None)?.is_none(), "alone each is whole");
    }
    ensure!(verdict(&one, Some(&kept))?.is_none(), "it is its own checkpoint");
    let told = verdict(&other, Some(&kept))?.context("a fork")?;
    ensure!(told.contains("there are two"), "{told}");
    let told = verdict(&set_back, Some(&kept))?.context("a log that was set back")?;
    ensure!(told.contains("set back"), "{told}");
    // The same on the store itself, and a note that somebody else signed.
    let refused = second.coffre(&["audit", "verify", "--checkpoint", &kept.display().to_string()])?;
    ensure!(!refused.status.success() && refused.text().contains("there are two"), "{}", refused.text());
    fs::write(&kept, fs::read_to_string(&kept)?.replace("commit ", "commit 1"))?;
    let refused =
        run(Command::new(binary()?).args(["audit", "verify"]).arg(&one).arg("--checkpoint").arg(&kept), b"")?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("not signed by this log's key"),
        "{}",
        refused.stderr
    );
    Ok(())
}
