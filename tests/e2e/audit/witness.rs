//! Checkpoints reach their witness, and a log that is not what the witness saw is told.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffre_tests::gateway::binary;
use coffre_tests::process::until;
use coffre_tests::{Gateway, run, run_ok};

use super::newest_note;

fn with_witness(data: &Path, setting: &str) -> Result<()> {
    Gateway::configure(data, |config| format!("{config}\n[audit]\n{setting}\n"))
}

/// Texts of the notes over the whole log that a directory has, by their size.
fn witnessed(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for day in fs::read_dir(directory)? {
        for note in fs::read_dir(day?.path())? {
            let text = fs::read_to_string(note?.path())?;
            if text.starts_with("coffre/audit\n") {
                found.push(text);
            }
        }
    }
    let size = |text: &String| text.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
    found.sort_by_key(size);
    Ok(found)
}

#[test]
fn a_server_that_was_set_back_does_not_start_beside_its_witness() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, log, witness) =
        (work.path().join("data"), work.path().join("log"), work.path().join("witness"));
    with_witness(&data, &format!("witness = {witness:?}"))?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.stop()?;
    let older = work.path().join("older");
    run_ok(Command::new("cp").arg("-r").arg(&data).arg(&older))?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.sftp_batch("mkdir a\n")?;
    gateway.stop()?;
    let notes = witnessed(&witness)?;
    ensure!(notes.len() >= 3, "each start and each end: {}", notes.len());
    ensure!(fs::read_dir(&witness)?.count() <= 2, "by day");
    // A restart of the real one is no rollback; a crash is none either.
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.sftp_batch("mkdir b\n")?;
    let exported = work.path().join("exported").display().to_string();
    gateway.admin(&["audit", "export", "--customer", "demo", &exported])?;
    let newest = newest_note(&gateway, "checkpoints", None)?;
    until("the newest note to be witnessed", 20, || Ok(witnessed(&witness)?.contains(&newest)))?;
    ensure!(gateway.coffre(&["audit", "verify"])?.status.success());
    gateway.kill()?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.stop()?;
    // The older state, whole, in the place of the newer one.
    fs::remove_dir_all(&data)?;
    fs::rename(&older, &data)?;
    let config = data.join("coffre.toml");
    let refused = run(Command::new(binary()?).arg("serve").arg("--config").arg(&config), b"")?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("set back or rewritten"),
        "{}",
        refused.stderr
    );
    let verify = run(Command::new(binary()?).arg("--data").arg(&data).args(["audit", "verify"]), b"")?;
    ensure!(
        !verify.status.success() && verify.text().contains("set back"),
        "{}{}",
        verify.text(),
        verify.stderr
    );
    // With a new witness it goes on, and the old one stays for those concerned.
    let text = fs::read_to_string(&config)?.replace("witness\"", "witness-2\"");
    fs::write(&config, text)?;
    Gateway::start_on(&data, &log)?.stop()?;
    ensure!(witness.exists() && !witnessed(&work.path().join("witness-2"))?.is_empty());
    Ok(())
}

/// Answers each POST and hands its body over.
fn receiver(listener: TcpListener) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || -> Result<()> {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut reader = BufReader::new(stream.try_clone()?);
            let (mut line, mut bytes) = (String::new(), 0);
            while reader.read_line(&mut line)? > 2 {
                if let Some(len) = line.to_lowercase().strip_prefix("content-length:") {
                    bytes = len.trim().parse()?;
                }
                line.clear();
            }
            let mut body = vec![0; bytes];
            reader.read_exact(&mut body)?;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            tell.send(String::from_utf8(body)?)?;
        }
        Ok(())
    });
    told
}

#[test]
fn a_witness_out_of_reach_is_an_incident_and_gets_what_it_missed() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, log) = (work.path().join("data"), work.path().join("log"));
    // A port that nobody listens on until later.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    with_witness(&data, &format!("witness_url = \"http://127.0.0.1:{port}/notes\""))?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    until("the incident", 20, || Ok(gateway.coffre(&["incidents"])?.text().contains("witness")))?;
    let told = receiver(TcpListener::bind(("127.0.0.1", port))?);
    let exported = work.path().join("exported").display().to_string();
    gateway.admin(&["audit", "export", "--customer", "demo", &exported])?;
    let newest = newest_note(&gateway, "checkpoints", None)?;
    let of_customer = newest_note(&gateway, "customer-checkpoints", None)?;
    let mut seen = Vec::new();
    while !(seen.contains(&newest) && seen.contains(&of_customer)) {
        seen.push(told.recv_timeout(Duration::from_secs(90)).context("the notes that were missed")?);
    }
    ensure!(seen[0].starts_with("coffre/audit\n"), "in their order: {seen:?}");
    let incidents = gateway.coffre(&["incidents"])?.text();
    let told_of = incidents.lines().filter(|line| line.contains(&format!("127.0.0.1:{port}"))).count();
    ensure!(told_of == 1, "once for each time that it is out of reach: {incidents}");
    gateway.stop()?;
    Ok(())
}
