//! Every access has its record, and the log verifies.

mod customer;
mod dossier;
mod exact;
mod proofs;
mod search;
mod tampering;
mod witness;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use coffre_tests::files::write_file;
use coffre_tests::gateway::binary;
use coffre_tests::{Gateway, run, run_ok};

#[test]
fn a_scripted_session_leaves_one_record_for_each_access_refusals_included() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    gateway.sftp_batch(&format!(
        "mkdir folder\nput {} folder/file\nget folder/file /dev/null\nls folder\nrename folder/file folder/moved\nrm folder/moved\nrmdir folder\n",
        file.display()
    ))?;
    assert_eq!(gateway.curl_status(&["-T", &file.display().to_string(), &gateway.url("dav-file")])?, 201);
    assert_eq!(gateway.curl_status(&[&gateway.url("dav-file")])?, 200);
    assert_eq!(gateway.curl_status(&["--user", "demo:cofr_wrong", &gateway.url("dav-file")])?, 401);
    let records = tail(&gateway)?;
    for (action, protocol, outcome, path) in [
        ("login", "sftp", "done", None),
        ("directory-create", "sftp", "done", Some("/folder")),
        ("file-write", "sftp", "done", Some("/folder/file")),
        ("file-read", "sftp", "done", Some("/folder/file")),
        ("directory-list", "sftp", "done", Some("/folder")),
        ("rename", "sftp", "done", Some("/folder/file")),
        ("remove", "sftp", "done", Some("/folder/moved")),
        ("remove", "sftp", "done", Some("/folder")),
        ("session-close", "sftp", "done", None),
        ("file-write", "webdav", "done", Some("/dav-file")),
        ("file-read", "webdav", "done", Some("/dav-file")),
        ("login", "webdav", "refused", None),
    ] {
        let found = records.iter().any(|record| {
            record["action"] == action
                && record["protocol"] == protocol
                && record["outcome"] == outcome
                && path.is_none_or(|path| record["details"]["path"] == path)
        });
        assert!(found, "no record {action} {protocol} {outcome} {path:?} in {records:#?}");
    }
    gateway.stop()?;
    let verified = gateway.coffre(&["audit", "verify"])?;
    assert!(verified.status.success(), "{}{}", verified.text(), verified.stderr);
    // Offline, on a copy, with no key at hand.
    let copy = work.path().join("copy");
    run_ok(Command::new("cp").arg("-r").arg(audit_directory(&gateway)).arg(&copy))?;
    let offline = run(Command::new(binary()?).args(["audit", "verify"]).arg(&copy), b"")?;
    assert!(offline.status.success(), "{}{}", offline.text(), offline.stderr);
    Ok(())
}

/// The directory that holds `audit/`.
pub(super) fn audit_directory(gateway: &Gateway) -> std::path::PathBuf {
    gateway.data.join("store")
}

fn tail(gateway: &Gateway) -> Result<Vec<serde_json::Value>> {
    let finished = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?;
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.text().lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

/// Pieces of a file, each with its length in front, from an offset on.
fn framed(path: &Path, offset: usize) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let (mut rest, mut found) = (bytes.get(offset..).context("a header")?, Vec::new());
    while let Some((len, body)) = rest.split_first_chunk::<4>() {
        let (piece, behind) = body.split_at_checked(u32::from_le_bytes(*len) as usize).context("a piece")?;
        found.push(piece.to_vec());
        rest = behind;
    }
    Ok(found)
}

/// The last note in a file of the log, of this customer if one is named.
fn newest_note(gateway: &Gateway, file: &str, origin: Option<&str>) -> Result<String> {
    let notes = framed(&audit_directory(gateway).join("audit").join(file), 0)?;
    let mut texts = notes.into_iter().rev().filter_map(|note| String::from_utf8(note).ok());
    texts
        .find(|note| origin.is_none_or(|origin| note.lines().next() == Some(origin)))
        .context("a signed note")
}
