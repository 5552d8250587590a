//! A locked vault shows that it is locked, and nothing else, by every way to it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::write_file;
use coffre_tests::gateway::binary;
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{RawSftp, run, run_ok, until, wait};

use super::{CANARY, Held, SECOND, tell, told};

#[test]
fn a_locked_vault_is_refused_and_neither_empty_nor_missing() -> Result<()> {
    let held = Held::new(&[])?;
    let file = held.fill()?;
    tell(&held.gateway, &["vault", "lock", "demo/held"], &[])?;
    let mut raw = RawSftp::start_with(&held.gateway.ssh_options_with(&held.key), "holder")?;
    // SSH_FXF_READ, and SSH_FXF_WRITE with SSH_FXF_CREAT; then no attributes.
    let (reading, writing) = ([0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0x0a, 0, 0, 0, 0]);
    for path in ["/held", "/held/there", "/held/nothing"] {
        let (path, to) = (string(path.as_bytes()), string(b"/held/elsewhere"));
        let requests: [(u8, Vec<&[u8]>); 9] = [
            (kind::STAT, vec![&path]),
            (kind::LSTAT, vec![&path]),
            (kind::OPENDIR, vec![&path]),
            (kind::OPEN, vec![&path, &reading]),
            (kind::OPEN, vec![&path, &writing]),
            (kind::REMOVE, vec![&path]),
            (kind::MKDIR, vec![&path, &[0; 4]]),
            (kind::RENAME, vec![&path, &to]),
            (kind::READLINK, vec![&path]),
        ];
        for (asked, rest) in requests {
            let answer = raw.ask(asked, &rest)?;
            // SSH_FX_PERMISSION_DENIED
            ensure!(answer.status() == Some(3), "{asked} {path:?}: {:?}", answer.status());
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(text.contains("this vault is locked"), "{asked} {path:?}: {text}");
        }
    }
    for batch in ["ls held", "mkdir held/new", "rm held/there"] {
        let refused = held.sftp(&format!("{batch}\n"))?;
        ensure!(!refused.status.success(), "{batch}: {}", refused.text());
    }
    let from = file.display().to_string();
    let to = format!("Destination: {}", held.gateway.url("held/elsewhere"));
    let requests: [&[&str]; 9] = [
        &[],
        &["--head"],
        &["-T", &from],
        &["-X", "PROPFIND", "-H", "Depth: 0"],
        &["-X", "PROPFIND", "-H", "Depth: 1"],
        &["-X", "DELETE"],
        &["-X", "MKCOL"],
        &["-X", "MOVE", "-H", &to],
        &["-X", "COPY", "-H", &to],
    ];
    for request in requests {
        for path in ["held", "held/there", "held/there/nothing"] {
            let status = held.status(request, path)?;
            ensure!(status == 423, "{request:?} {path}: {status}");
        }
    }
    // What is beside it goes on; its own name is the user's.
    let listed = held.sftp("ls /\nmkdir beside/new\n")?;
    ensure!(listed.status.success() && listed.text().contains("held"), "{}{}", listed.text(), listed.stderr);
    ensure!(held.status(&["-X", "PROPFIND", "-H", "Depth: 1"], "")? == 207);
    // Who has nothing else is told at once.
    held.gateway.admin(&["user", "add", "demo/only", "--mount", "/=held,read-write"])?;
    let key = held.gateway.add_key("demo/only", held.work.path(), "only", &[])?.secret;
    let only = held.gateway.sftp_as("only", &key, "ls /\n")?;
    ensure!(!only.status.success() && only.stderr.contains("this vault is locked"), "{}", only.stderr);
    let mut curl = held.gateway.curl_as("holder", &held.token);
    let told = run(curl.arg(held.gateway.url("held/there")), b"")?;
    ensure!(told.text().contains("this vault is locked"), "{}", told.text());

    held.unlock("1h")?;
    let got = held.work.path().join("got");
    ensure!(held.get(&got)?.status.success() && std::fs::read(&got)? == std::fs::read(&file)?);
    ensure!(held.status(&[], &format!("held/there/{CANARY}"))? == 200);
    Ok(())
}

#[test]
fn a_vault_unlocks_by_its_passphrase_only_and_every_attempt_is_on_record() -> Result<()> {
    let held = Held::new(&[])?;
    let unlock = ["vault", "unlock", "demo/held"];
    let refused = told(&held.gateway, &unlock, &[SECOND])?;
    ensure!(!refused.status.success() && refused.stderr.contains("no passphrase slot"), "{}", refused.stderr);
    ensure!(!held.sftp("ls held\n")?.status.success());
    let weak = ["vault", "add", "demo/weak", "--key", "passphrase"];
    let refused = told(&held.gateway, &weak, &["password123"])?;
    ensure!(!refused.status.success() && refused.stderr.contains("too weak"), "{}", refused.stderr);
    ensure!(!held.gateway.coffre(&["vault", "show", "demo/weak"])?.status.success());

    held.unlock("1h")?;
    // A new passphrase takes the place of the old one in one step.
    tell(&held.gateway, &["vault", "slot", "change", "demo/held"], &[super::PASSPHRASE, SECOND])?;
    ensure!(!told(&held.gateway, &unlock, &[super::PASSPHRASE])?.status.success());
    tell(&held.gateway, &unlock, &[SECOND])?;
    let slots = tell(&held.gateway, &["--json", "vault", "slots", "demo/held"], &[])?;
    let first: serde_json::Value = serde_json::from_str(slots.lines().next().context("a slot")?)?;
    let slot = first["slot"].to_string();
    let last = told(&held.gateway, &["vault", "slot", "remove", "demo/held", &slot], &[])?;
    ensure!(!last.status.success() && last.stderr.contains("last way"), "{}", last.stderr);

    let records = held.gateway.admin(&["audit", "tail", "--lines", "1000"])?.text();
    for word in ["vault-unlock", "refused", "slot-add"] {
        ensure!(records.contains(word), "{word}: {records}");
    }
    ensure!(!records.contains(super::PASSPHRASE) && !records.contains(SECOND));
    Ok(())
}

#[test]
fn what_is_open_ends_within_a_second_when_its_vault_is_locked_or_its_time_is_over() -> Result<()> {
    let held = Held::new(&[])?;
    held.fill()?;
    for (by_time, time) in [(false, "1h"), (true, "4s")] {
        held.unlock(time)?;
        let begun = Instant::now();
        let got = held.work.path().join(format!("got-{by_time}"));
        let mut command = Command::new("sftp");
        // 50 kB a second: more than ten seconds.
        command
            .args(["-l", "400", "-B", "8192", "-R", "1"])
            .args(held.gateway.ssh_options_with(&held.key))
            .args(["-b", "-"]);
        command.arg("holder@127.0.0.1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut session = command.spawn()?;
        let batch = format!("get held/there/{CANARY} {}\n", got.display());
        session.stdin.take().context("standard input")?.write_all(batch.as_bytes())?;
        until("its first bytes", 3, || Ok(std::fs::metadata(&got).is_ok_and(|got| got.len() > 0)))?;
        let due = if by_time { begun + Duration::from_secs(4) } else { Instant::now() };
        if !by_time {
            tell(&held.gateway, &["vault", "lock", "demo/held"], &[])?;
            ensure!(held.status(&[], "held/there")? == 423);
        }
        let status = wait(&mut session, 10)?;
        ensure!(!status.success(), "the download went on to its end");
        let late = Instant::now().saturating_duration_since(due);
        ensure!(Instant::now() >= due && late < Duration::from_secs(3), "{late:?}");
        ensure!(held.status(&[], "held/there")? == 423);
    }
    Ok(())
}

#[test]
fn a_restart_locks_and_everything_in_the_background_goes_on_beside_a_locked_vault() -> Result<()> {
    let mut held = Held::new(&[])?;
    held.fill()?;
    held.gateway.stop()?;
    let again = coffre_tests::Gateway::start_on(&held.gateway.data, &held.gateway.log)?;
    let stopped = std::mem::replace(&mut held.gateway, again);
    held.gateway.keep_directory_of(stopped);
    ensure!(!held.sftp("ls held\n")?.status.success());
    ensure!(held.gateway.sftp_batch("mkdir beside\nls\n")?.text().contains("beside"));
    let backup = held.work.path().join("backup");
    std::fs::create_dir(&backup)?;
    for command in [
        &["check", "--read-data"][..],
        &["check", "--repair", "--read-data"],
        &["gc"],
        &["status"],
        &["vault", "show", "demo/held"],
        &["audit", "tail"],
        &["audit", "verify"],
        &["backup", &backup.display().to_string()],
    ] {
        held.gateway.admin(command)?;
    }
    ensure!(held.gateway.coffre_json(&["check"])?["vaults_locked"] == 1, "it is said what was left out");
    let export = held.gateway.coffre(&["vault", "locks", "demo/held"])?;
    ensure!(!export.status.success() && export.stderr.contains("this vault is locked"), "{}", export.stderr);
    held.unlock("1h")?;
    let got = held.work.path().join("got");
    ensure!(held.get(&got)?.status.success());
    Ok(())
}

#[test]
fn what_is_reclaimed_backed_up_and_restored_while_a_vault_is_locked_opens_by_its_passphrase() -> Result<()> {
    let mut held = Held::new(&[])?;
    let file = held.fill()?;
    // Something of the same packs is given up beside it.
    let noise = held.work.path().join("noise");
    write_file(&noise, &coffre_tests::files::noise(5, 8 << 20), 1_500_000_000)?;
    held.gateway.sftp_batch(&format!("put {} noise\nrm noise\n", noise.display()))?;
    held.gateway.admin(&["vault", "retention", "demo/demo", "1s"])?;
    held.gateway.admin(&["vault", "lock", "demo/held"])?;
    held.gateway.admin(&["gc", "--grace", "1s"])?;
    held.gateway.admin(&["check", "--repair", "--read-data"])?;
    let backup = held.work.path().join("backup");
    std::fs::create_dir(&backup)?;
    held.gateway.admin(&["backup", &backup.display().to_string()])?;
    let key = held.gateway.data.join("secrets/gateway.key").display().to_string();
    let elsewhere = held.work.path().join("elsewhere");
    let mut restore = Command::new(binary()?);
    restore.arg("--data").arg(&elsewhere).arg("restore").arg(&backup).args(["--key", &key]);
    run_ok(&mut restore)?;
    let again = coffre_tests::Gateway::start_on(&elsewhere, &held.work.path().join("log"))?;
    let former = std::mem::replace(&mut held.gateway, again);
    let got = held.work.path().join("got");
    ensure!(!held.get(&got)?.status.success(), "it is locked there, too");
    held.unlock("1h")?;
    ensure!(held.get(&got)?.status.success() && std::fs::read(&got)? == std::fs::read(&file)?);
    held.gateway.admin(&["check", "--read-data"])?;
    held.gateway = former;
    held.unlock("1h")?;
    ensure!(held.get(&got)?.status.success() && std::fs::read(&got)? == std::fs::read(&file)?);
    held.gateway.admin(&["check", "--read-data"])?;
    Ok(())
}
