//! What is proven convinces a program that shares nothing with ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::gateway::binary;
use coffre_tests::{Gateway, run, run_ok};

use super::{audit_directory, newest_note};

/// The verifier that was written from the documents.
pub(super) fn stranger(what: &Path, key: &Path) -> Result<bool> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/audit/verifier.py");
    Ok(run(Command::new("/usr/bin/python3").arg(script).arg(what).arg(key), b"")?.status.success())
}

fn ours(what: &Path, key: &Path) -> Result<bool> {
    let mut command = Command::new(binary()?);
    command.args(["audit", "verify"]).arg(what).arg("--verifier").arg(key);
    Ok(run(&mut command, b"")?.status.success())
}

#[test]
fn a_proof_convinces_a_verifier_that_was_written_from_the_documents_and_a_changed_one_nobody() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    gateway.sftp_batch("mkdir a\nmkdir b\n")?;
    let key = audit_directory(&gateway).join("audit/checkpoint.pub");
    let proof = |name: &str, asked: &[&str]| -> Result<PathBuf> {
        let path = work.path().join(name);
        gateway.admin(&[&["audit", "prove"], asked, &["--to", &path.display().to_string()]].concat())?;
        Ok(path)
    };
    let rows = gateway.admin(&["--json", "audit", "search", "--action", "directory-create"])?.text();
    let row: serde_json::Value = serde_json::from_str(rows.lines().next().context("a record")?)?;
    let number = row["number"].to_string();
    let mut proofs = vec![proof("record", &[&number])?, proof("first", &["0"])?];
    // From each older checkpoint to the newest.
    let old = work.path().join("old");
    fs::write(&old, newest_note(&gateway, "checkpoints", None)?)?;
    for step in 0..4 {
        gateway.sftp_batch(&format!("mkdir step-{step}\n"))?;
        proofs.push(proof(&format!("since-{step}"), &["--since", &old.display().to_string()])?);
    }
    for path in &proofs {
        let text = fs::read_to_string(path)?;
        ensure!(ours(path, &key)? && stranger(path, &key)?, "{}: {text}", path.display());
        let changed = work.path().join("changed");
        // Each line but the first and those that repeat what is in others, with one letter changed.
        for (nth, line) in text.lines().enumerate().filter(|(_, line)| line.len() > 10) {
            let at = text.lines().take(nth).map(|line| line.len() + 1).sum::<usize>() + line.len() / 2;
            let mut bytes = text.clone().into_bytes();
            if !bytes[at].is_ascii_alphanumeric() {
                continue;
            }
            bytes[at] = if bytes[at] == b'5' { b'6' } else { b'5' };
            fs::write(&changed, &bytes)?;
            ensure!(
                !ours(&changed, &key)? && !stranger(&changed, &key)?,
                "line {nth} of {}: {line}",
                path.display()
            );
        }
    }
    let said: serde_json::Value = serde_json::from_slice(
        &run_ok(
            Command::new(binary()?)
                .args(["--json", "audit", "verify"])
                .arg(&proofs[0])
                .arg("--verifier")
                .arg(&key),
        )?
        .stdout,
    )?;
    ensure!(
        said["record"]["action"] == "directory-create" && said["record"]["number"] == row["number"],
        "{said}"
    );
    // In the customer's own log, with the customer's own key.
    let of_customer = proof("of-customer", &[&number, "--customer", "demo"])?;
    let own = work.path().join("own.pub");
    let id = row["customer"].as_str().context("a customer")?;
    let note = newest_note(&gateway, "customer-checkpoints", Some(&format!("coffre/audit/{id}")))?;
    ensure!(fs::read_to_string(&of_customer)?.ends_with(&note), "the customer's newest checkpoint");
    let exported = work.path().join("exported");
    gateway.admin(&["audit", "export", "--customer", "demo", &exported.display().to_string()])?;
    fs::copy(exported.join("checkpoint.pub"), &own)?;
    ensure!(ours(&of_customer, &own)? && stranger(&of_customer, &own)?);
    for (asked, said) in [
        (vec!["audit", "prove", "999999"], "no record 999999"),
        (vec!["audit", "prove", "0", "--customer", "demo"], "record 0 is not this customer's"),
        (vec!["audit", "prove", "0", "--customer", "nobody"], "nobody"),
    ] {
        let refused = gateway.coffre(&asked)?;
        ensure!(!refused.status.success() && refused.stderr.contains(said), "{}", refused.stderr);
    }
    Ok(())
}
