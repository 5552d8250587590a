//! A customer's auditor gets one customer, and can verify it alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::gateway::binary;
use coffre_tests::{Fixture, Gateway, run, run_ok};
use serde_json::Value;

use super::newest_note;
use super::proofs::stranger;
use crate::tamper::{Flipped, positions, used_len};

fn verify(directory: &Path, more: &[&Path]) -> Result<(bool, Value)> {
    let mut command = Command::new(binary()?);
    command.args(["--json", "audit", "verify"]).arg(directory).args(more);
    let finished = run(&mut command, b"")?;
    ensure!(finished.status.code().is_some(), "verify was killed by a signal: {}", finished.stderr);
    Ok((finished.status.success(), serde_json::from_slice(&finished.stdout).unwrap_or_default()))
}

fn lines(directory: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(directory.join("records.jsonl"))?;
    text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

#[test]
fn an_auditor_sees_one_customer_with_what_operators_did_and_verifies_it_alone() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    gateway.admin(&["customer", "add", "clinic"])?;
    gateway.admin(&["vault", "add", "clinic/files"])?;
    gateway.admin(&["user", "add", "clinic/nurse"])?;
    let issued = gateway.add_token("clinic/nurse", &[])?;
    let url = gateway.url("secret-plan");
    run_ok(gateway.curl_as("clinic/nurse", &issued.secret).args(["--fail", "-X", "MKCOL", &url]))?;
    gateway.sftp_batch("mkdir of-the-demo\n")?;
    gateway.admin(&["vault", "retention", "clinic/files", "60d"])?;
    gateway.admin(&["vault", "snapshot", "clinic/files", "named"])?;
    let first = work.path().join("first");
    gateway.admin(&["audit", "export", "--customer", "clinic", &first.display().to_string()])?;
    let (good, said) = verify(&first, &[])?;
    ensure!(good && said["state"] == "verified" && said["customer"] == "clinic", "{said}");
    let records = lines(&first)?;
    let id = records[0]["customer"].as_str().context("a customer")?.to_owned();
    ensure!(records.iter().all(|row| row["customer"] == records[0]["customer"]), "of one customer only");
    let done: Vec<&str> = records.iter().filter_map(|row| row["action"].as_str()).collect();
    let expected = [
        "customer-add",
        "vault-add",
        "user-add",
        "credential-add",
        "login",
        "directory-create",
        "vault-change",
        "snapshot-add",
        "audit-read",
    ];
    ensure!(done == expected, "{done:?}");
    ensure!(
        records[6]["actor"] == "operator" && records[5]["details"]["path"] == "/secret-plan",
        "{records:?}"
    );
    // Nothing of the other one: no name, no identifier.
    let other = gateway.coffre_json(&["customer", "show", "demo"])?;
    let foreign = [other["id"].as_str().context("an id")?, "of-the-demo", "demo/demo"];
    holds_nothing_of(&first, &foreign)?;
    let key = first.join("checkpoint.pub");
    ensure!(stranger(&first, &key)?, "a verifier made from the documents agrees");

    // After a crash and a restart the same tree goes on.
    gateway.kill()?;
    let mut again = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    run_ok(again.curl_as("clinic/nurse", &issued.secret).args([
        "--fail",
        "-X",
        "MKCOL",
        &again.url("later"),
    ]))?;
    let second = work.path().join("second");
    again.admin(&["audit", "export", "--customer", "clinic", "--sealed", &second.display().to_string()])?;
    let kept = work.path().join("kept");
    let origin = format!("coffre/audit/{id}");
    fs::write(&kept, last_note(&first)?)?;
    ensure!(fs::read_to_string(&kept)?.starts_with(&origin), "the customer's own checkpoint");
    let against: [&Path; 4] = ["--checkpoint".as_ref(), &kept, "--verifier".as_ref(), &key];
    let (good, said) = verify(&second, &against)?;
    ensure!(good && said["details"] == "sealed", "{said}");
    ensure!(lines(&second)?.iter().all(|row| row["details"] == serde_json::json!({})), "names stay sealed");
    ensure!(stranger(&second, &key)?);
    // The newest checkpoint is not that of the older export.
    fs::write(&kept, newest_note(&again, "customer-checkpoints", Some(&origin))?)?;
    let (good, said) = verify(&first, &["--checkpoint".as_ref(), &kept])?;
    ensure!(!good && said["damage"].as_str().is_some_and(|damage| damage.contains("were signed")), "{said}");
    again.stop()?;
    let (good, said) = verify(&work.path().join("data"), &["--checkpoint".as_ref(), &kept])?;
    ensure!(
        good && said["customers"].as_u64() >= Some(2),
        "the whole log has the customers' trees too: {said}"
    );
    Ok(())
}

fn holds_nothing_of(directory: &Path, foreign: &[&str]) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let bytes = fs::read(entry?.path())?;
        for name in foreign {
            ensure!(!String::from_utf8_lossy(&bytes).contains(name), "{name} is in the export");
        }
    }
    Ok(())
}

fn last_note(directory: &Path) -> Result<String> {
    let notes = super::framed(&directory.join("checkpoints"), 0)?;
    Ok(String::from_utf8(notes.into_iter().next_back().context("a note")?)?)
}

#[test]
fn a_byte_changed_anywhere_in_what_an_auditor_was_given_is_told() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    gateway.sftp_batch("mkdir a\nrmdir a\n")?;
    let given = work.path().join("given");
    gateway.admin(&["audit", "export", "--customer", "demo", &given.display().to_string()])?;
    ensure!(verify(&given, &[])?.0);
    for name in ["records", "records.jsonl", "checkpoints", "checkpoint.pub", "export"] {
        let path = given.join(name);
        for position in positions(used_len(&path)?) {
            let flipped = Flipped::at(&path, position)?;
            ensure!(!verify(&given, &[])?.0, "byte {position} of {name} was flipped and not found");
            drop(flipped);
        }
    }
    // A line left out, or one more.
    let (path, text) = (given.join("records.jsonl"), fs::read_to_string(given.join("records.jsonl"))?);
    for changed in [text.lines().skip(1).collect::<Vec<_>>().join("\n"), format!("{text}{{}}\n")] {
        fs::write(&path, changed)?;
        ensure!(!verify(&given, &[])?.0);
    }
    let again = gateway.coffre(&["audit", "export", "--customer", "demo", &given.display().to_string()])?;
    ensure!(!again.status.success() && again.stderr.contains("new directory"), "{}", again.stderr);
    Ok(())
}

#[test]
fn a_customers_tree_goes_on_after_a_restore_and_after_a_recovery_from_packs() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
    gateway.sftp_batch("mkdir a\nmkdir b\n")?;
    let (first, kept) = (work.path().join("first"), work.path().join("kept"));
    gateway.admin(&["audit", "export", "--customer", "demo", &first.display().to_string()])?;
    fs::write(&kept, last_note(&first)?)?;
    let backup = work.path().join("backup");
    gateway.admin(&["backup", &backup.display().to_string()])?;
    gateway.stop()?;
    let (key, packs) = (gateway.data.join("secrets/gateway.key"), gateway.data.join("store/packs"));
    let (restored, recovered) = (work.path().join("restored"), work.path().join("recovered"));
    let coffre = || -> Result<Command> { Ok(Command::new(binary()?)) };
    run_ok(coffre()?.arg("--data").arg(&restored).arg("restore").arg(&backup).arg("--key").arg(&key))?;
    run_ok(
        coffre()?
            .arg("recover")
            .arg("--packs")
            .arg(&packs)
            .arg("--key")
            .arg(&key)
            .arg("--to")
            .arg(&recovered),
    )?;
    for data in [&restored, &recovered] {
        let again = work.path().join(format!("of-{}", data.file_name().unwrap_or_default().display()));
        run_ok(
            coffre()?.arg("--data").arg(data).args(["audit", "export", "--customer", "demo"]).arg(&again),
        )?;
        let (good, said) = verify(&again, &["--checkpoint".as_ref(), &kept])?;
        ensure!(
            good && said["records"].as_u64() > Some(lines(&first)?.len() as u64),
            "{}: {said}",
            data.display()
        );
        ensure!(said["checkpoints"].as_u64() > Some(1), "those that were signed before are kept: {said}");
        let (good, said) = verify(data, &["--checkpoint".as_ref(), &kept])?;
        ensure!(good && said["customer_checkpoints"].as_u64() > Some(1), "{}: {said}", data.display());
    }
    Ok(())
}

#[test]
fn customers_of_the_first_release_get_trees_over_all_of_their_older_records() -> Result<()> {
    for name in ["clean", "killed"] {
        let fixture = Fixture::unpack("v1", name)?;
        let coffre = || -> Result<Command> {
            let mut command = Command::new(binary()?);
            command.args(["--json", "--data"]).arg(&fixture.data);
            Ok(command)
        };
        let customers = run_ok(coffre()?.args(["customer", "list"]))?.text();
        for customer in customers.lines() {
            let customer: Value = serde_json::from_str(customer)?;
            let called = customer["name"].as_str().context("a name")?;
            let directory = fixture.work().join(format!("of-{called}"));
            run_ok(coffre()?.args(["audit", "export", "--customer", called]).arg(&directory))?;
            let (good, said) = verify(&directory, &[])?;
            ensure!(good, "{name}: {said}");
            let records = lines(&directory)?;
            ensure!(records[0]["action"] == "customer-add", "from its first record on: {}", records[0]);
            ensure!(records.len() > 2, "{name}, {called}: {said}");
        }
        ensure!(verify(&fixture.data, &[])?.0, "{name}");
    }
    Ok(())
}
