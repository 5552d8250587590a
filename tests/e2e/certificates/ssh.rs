//! OpenSSH user certificates, made by `ssh-keygen -s` and used by OpenSSH's programs: what opens sftp, and everything that does not.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_tests::accounts::keygen;
use coffre_tests::{Finished, Gateway, run_ok, until, wait};
use serde_json::Value;
use tempfile::TempDir;

/// Seconds in which a session must be over: a second is promised, the rest is for a busy machine.
const OVER_SECS_MAX: u64 = 10;
/// An SFTP client's first packet.
const INIT: [u8; 9] = [0, 0, 0, 5, 1, 0, 0, 0, 3];

/// A gateway whose demo customer trusts an authority, and a key that nobody registered.
struct Bed {
    home: TempDir,
    gateway: Gateway,
    authority: PathBuf,
    /// As `credential list` shows it.
    id: String,
    key: PathBuf,
}

impl Bed {
    fn new(more: &[&str]) -> Result<Self> {
        let (home, gateway) = (TempDir::new()?, Gateway::start()?);
        let authority = keygen(home.path(), "authority", &["ed25519"])?;
        let id = trust(&gateway, "demo", &authority, more)?;
        let key = keygen(home.path(), "user", &["ed25519"])?;
        Ok(Self { home, gateway, authority, id, key })
    }

    /// Logs in with a certificate that is made with these arguments.
    fn sftp(&self, arguments: &[&str]) -> Result<Finished> {
        sign(&self.authority, &self.key, arguments)?;
        self.login("pwd\n")
    }

    fn login(&self, batch: &str) -> Result<Finished> {
        self.gateway.sftp_as("demo", &self.key.display().to_string(), batch)
    }

    /// A session that lives until its input ends.
    fn session(&self) -> Result<Child> {
        let mut child = Command::new("ssh")
            .args(self.gateway.ssh_options_with(&self.key.display().to_string()))
            .args(["-s", "demo@127.0.0.1", "sftp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        child.stdin.as_mut().context("standard input")?.write_all(&INIT)?;
        child.stdout.as_mut().context("standard output")?.read_exact(&mut [0; 9])?;
        Ok(child)
    }
}

fn trust(gateway: &Gateway, customer: &str, authority: &Path, more: &[&str]) -> Result<String> {
    let public = authority.with_extension("pub").display().to_string();
    let added = gateway.coffre_json(&[&["credential", "add-authority", customer, &public], more].concat())?;
    Ok(added["id"].as_str().context("id")?.to_owned())
}

/// Puts a certificate beside a key, where OpenSSH looks for it.
fn sign(authority: &Path, key: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.arg("-q").arg("-s").arg(authority).args(arguments).arg(key.with_extension("pub"));
    run_ok(&mut command).map(drop)
}

/// Why logins were refused, oldest first.
fn refusals(gateway: &Gateway) -> Result<Vec<String>> {
    Ok(logins(gateway)?
        .iter()
        .filter(|record| record["outcome"] == "refused")
        .filter_map(|record| record["reason"].as_str().map(str::to_owned))
        .collect())
}

fn logins(gateway: &Gateway) -> Result<Vec<Value>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record["action"] == "login").collect())
}

#[test]
fn a_certificate_of_the_customers_authority_opens_sftp_and_its_record_says_which_one_it_was() -> Result<()> {
    let bed = Bed::new(&["--rights", "read-only"])?;
    let opened = bed.sftp(&["-I", "dr.house@2026", "-z", "4711", "-n", "demo", "-V", "+24h"])?;
    ensure!(opened.status.success(), "{}", opened.stderr);
    let login = logins(&bed.gateway)?.into_iter().find(|record| record["credential"] == bed.id.as_str());
    let login = login.context("a record of the login")?;
    ensure!(login["factors"].to_string().contains("ssh-certificate"), "{login}");
    let shown = login.to_string();
    ensure!(shown.contains("4711") && shown.contains("dr.house@2026"), "{shown}");
    // The authority's rights count.
    let source = bed.home.path().join("file");
    std::fs::write(&source, "content")?;
    ensure!(!bed.login(&format!("put {}\n", source.display()))?.status.success());
    // So does the full name, as a principal and on the wire; the list shows whose certificates are taken.
    sign(&bed.authority, &bed.key, &["-I", "x", "-n", "other,demo/demo", "-V", "+1h"])?;
    let full = bed.gateway.sftp_as("demo/demo", &bed.key.display().to_string(), "pwd\n")?;
    ensure!(full.status.success(), "{}", full.stderr);
    let list = bed.gateway.admin(&["credential", "list"])?.text();
    ensure!(list.contains("ssh authority") && list.contains(&bed.id), "{list}");
    ensure!(bed.gateway.admin(&["check"])?.status.success());
    Ok(())
}

#[test]
fn each_flaw_of_a_certificate_refuses_it_and_the_record_says_why() -> Result<()> {
    let bed = Bed::new(&[])?;
    let good = ["-I", "x", "-n", "demo", "-V", "+1h"];
    ensure!(bed.sftp(&good)?.status.success());
    let flaws: [(&[&str], &str); 10] = [
        (&["-I", "x", "-V", "+1h"], "names no principal"),
        (&["-I", "x", "-n", "other", "-V", "+1h"], "do not name the user"),
        (&["-I", "x", "-n", "DEMO,demo/", "-V", "+1h"], "do not name the user"),
        (&["-I", "x", "-n", "demo", "-V", "+25h"], "valid for longer"),
        (&["-I", "x", "-n", "demo", "-V", "always:forever"], "valid for longer"),
        (
            &["-I", "x", "-n", "demo", "-V", "+1h", "-O", "source-address=192.0.2.0/24"],
            "not for this address",
        ),
        (&["-I", "x", "-n", "demo", "-V", "+1h", "-O", "force-command=ls"], "critical option"),
        (&["-I", "x", "-n", "demo", "-V", "+1h", "-O", "verify-required"], "critical option"),
        (&["-I", "x", "-n", "demo", "-V", "+1h", "-O", "critical:a@example.org=b"], "critical option"),
        (&["-I", &"x".repeat(1025), "-n", "demo", "-V", "+1h"], "key id is too long"),
    ];
    for (arguments, reason) in flaws {
        let before = refusals(&bed.gateway)?.len();
        ensure!(!bed.sftp(arguments)?.status.success(), "{arguments:?}");
        let told = refusals(&bed.gateway)?;
        ensure!(
            told.len() > before && told.last().is_some_and(|told| told.contains(reason)),
            "{reason}: {told:?}"
        );
        // Failures would make the next one wait.
        ensure!(bed.sftp(&good)?.status.success(), "after {reason}");
    }
    // A host's, and those out of their dates, come no further than the library, or no client sends them.
    for arguments in [
        &["-h", "-I", "x", "-n", "demo", "-V", "+1h"][..],
        &["-I", "x", "-n", "demo", "-V", "-2h:-1h"],
        &["-I", "x", "-n", "demo", "-V", "+1h:+2h"],
    ] {
        ensure!(!bed.sftp(arguments)?.status.success(), "{arguments:?}");
        ensure!(bed.sftp(&good)?.status.success());
    }
    ensure!(
        bed.sftp(&["-I", "x", "-n", "demo", "-V", "+1h", "-O", "source-address=127.0.0.1"])?.status.success()
    );
    // What no option forbids to a client that has no shell anyway is let be.
    ensure!(bed.sftp(&["-I", "x", "-n", "demo", "-V", "+1h", "-O", "clear"])?.status.success());
    Ok(())
}

#[test]
fn certificates_of_others_of_weak_keys_and_signed_with_sha1_are_refused() -> Result<()> {
    let bed = Bed::new(&[])?;
    let good = ["-I", "x", "-n", "demo", "-V", "+1h"];
    // Of nobody's authority, and of another customer's.
    let stranger = keygen(bed.home.path(), "stranger", &["ed25519"])?;
    sign(&stranger, &bed.key, &good)?;
    ensure!(!bed.login("pwd\n")?.status.success());
    bed.gateway.admin(&["customer", "add", "other"])?;
    trust(&bed.gateway, "other", &stranger, &[])?;
    ensure!(!bed.login("pwd\n")?.status.success());
    ensure!(refusals(&bed.gateway)?.iter().all(|reason| reason.contains("not one of the customer's")));
    ensure!(bed.sftp(&good)?.status.success());
    // An authority of a weak key is not taken, and what it signs neither.
    let weak = keygen(bed.home.path(), "weak", &["rsa", "-b", "2048"])?;
    ensure!(trust(&bed.gateway, "demo", &weak, &[]).is_err());
    sign(&weak, &bed.key, &good)?;
    ensure!(!bed.login("pwd\n")?.status.success());
    ensure!(bed.sftp(&good)?.status.success());
    // One that may be is, but not with SHA-1.
    let strong = keygen(bed.home.path(), "strong", &["rsa", "-b", "3072"])?;
    trust(&bed.gateway, "demo", &strong, &[])?;
    sign(&strong, &bed.key, &good)?;
    ensure!(bed.login("pwd\n")?.status.success());
    sign(&strong, &bed.key, &[&["-t", "ssh-rsa"], &good[..]].concat())?;
    ensure!(!bed.login("pwd\n")?.status.success());
    ensure!(bed.sftp(&good)?.status.success());
    // A weak key does not become a strong one by being certified; RSA and ECDSA keys that may be are.
    for (name, kind, may) in [
        ("rsa2048", &["rsa", "-b", "2048"][..], false),
        ("rsa3072", &["rsa", "-b", "3072"], true),
        ("ecdsa", &["ecdsa"], true),
    ] {
        let key = keygen(bed.home.path(), name, kind)?;
        sign(&bed.authority, &key, &good)?;
        let opened = bed.gateway.sftp_as("demo", &key.display().to_string(), "pwd\n")?;
        assert_eq!(opened.status.success(), may, "{name}: {}", opened.stderr);
    }
    // A certificate is neither a key to be registered nor an authority.
    let certificate = bed.home.path().join("user-cert.pub").display().to_string();
    for command in [["credential", "add-key", "demo"], ["credential", "add-authority", "demo"]] {
        ensure!(!bed.gateway.coffre(&[&command[..], &[certificate.as_str()]].concat())?.status.success());
    }
    Ok(())
}

#[test]
fn a_revoked_certificate_ends_its_live_session_and_stays_out_over_a_restart() -> Result<()> {
    let mut bed = Bed::new(&[])?;
    let shown = run_ok(Command::new("ssh-keygen").arg("-lf").arg(bed.key.with_extension("pub")))?.text();
    let fingerprint = shown.split_whitespace().nth(1).context("a fingerprint")?.to_owned();
    let fresh = |bed: &Bed, serial: &str, id: &str| {
        sign(&bed.authority, &bed.key, &["-I", id, "-z", serial, "-n", "demo", "-V", "+1h"])
    };
    for (serial, id, mark) in [
        ("7", "first", ["--serial", "7"]),
        ("8", "second", ["--key-id", "second"]),
        ("9", "third", ["--fingerprint", fingerprint.as_str()]),
    ] {
        fresh(&bed, serial, id)?;
        let mut session = bed.session()?;
        bed.gateway.admin(&[&["credential", "revoke-certificate", &bed.id], &mark[..]].concat())?;
        wait(&mut session, OVER_SECS_MAX).with_context(|| format!("revoked by {mark:?}"))?;
        ensure!(!bed.login("pwd\n")?.status.success(), "{mark:?}");
        ensure!(refusals(&bed.gateway)?.last().is_some_and(|reason| reason.contains("is revoked")));
    }
    bed.gateway.stop()?;
    let mut again = Gateway::start_on(&bed.gateway.data.clone(), &bed.gateway.log.clone())?;
    again.keep_directory_of(bed.gateway);
    bed.gateway = again;
    ensure!(!bed.login("pwd\n")?.status.success(), "revoked by its key's fingerprint");
    // Another key's goes on; a mark that is none, or none at all, is refused.
    bed.key = keygen(bed.home.path(), "another", &["ed25519"])?;
    fresh(&bed, "10", "fourth")?;
    ensure!(bed.login("pwd\n")?.status.success());
    for bad in [&["--fingerprint", "MD5:00"][..], &[], &["--serial", "1", "--key-id", "x"]] {
        let command = [&["credential", "revoke-certificate", &bed.id], bad].concat();
        ensure!(!bed.gateway.coffre(&command)?.status.success(), "{bad:?}");
    }
    // An authority's end is the end of all of them, and added again it still knows what was revoked.
    let mut session = bed.session()?;
    bed.gateway.admin(&["credential", "revoke", &bed.id])?;
    wait(&mut session, OVER_SECS_MAX).context("the authority is revoked")?;
    ensure!(!bed.login("pwd\n")?.status.success());
    trust(&bed.gateway, "demo", &bed.authority, &[])?;
    ensure!(bed.login("pwd\n")?.status.success());
    fresh(&bed, "7", "fifth")?;
    ensure!(!bed.login("pwd\n")?.status.success(), "serial 7 was revoked");
    Ok(())
}

#[test]
fn a_session_ends_when_its_certificates_time_or_its_user_does() -> Result<()> {
    let bed = Bed::new(&[])?;
    sign(&bed.authority, &bed.key, &["-I", "x", "-n", "demo", "-V", "-1m:+8s"])?;
    let mut session = bed.session()?;
    wait(&mut session, 8 + OVER_SECS_MAX).context("its time has ended")?;
    sign(&bed.authority, &bed.key, &["-I", "x", "-n", "demo", "-V", "+1h"])?;
    let mut session = bed.session()?;
    bed.gateway.admin(&["user", "disable", "demo"])?;
    wait(&mut session, OVER_SECS_MAX).context("the user is disabled")?;
    ensure!(!bed.login("pwd\n")?.status.success());
    Ok(())
}

#[test]
fn who_takes_certificates_answers_every_name_and_every_key_alike() -> Result<()> {
    let bed = Bed::new(&[])?;
    let registered = bed.gateway.key_file.display().to_string();
    let asked = |user: &str, key: &str| -> Result<bool> {
        let mut command = Command::new("ssh");
        command.args(bed.gateway.ssh_options_with(key)).args([
            "-v",
            "-s",
            &format!("{user}@127.0.0.1"),
            "sftp",
        ]);
        Ok(coffre_tests::run(&mut command, b"")?.stderr.contains("Server accepts key"))
    };
    let stranger = keygen(bed.home.path(), "stranger", &["ed25519"])?.display().to_string();
    for (user, key) in
        [("demo", &registered), ("demo", &stranger), ("nobody", &registered), ("nobody", &stranger)]
    {
        ensure!(asked(user, key)?, "{user}");
    }
    // A client that tries a dozen keys of its agent before the right one is not made to wait: that is one record, and no failure.
    let vain = "no key that was offered is accepted";
    until("the records of three connections", OVER_SECS_MAX, || Ok(refusals(&bed.gateway)?.len() >= 3))?;
    ensure!(refusals(&bed.gateway)?.iter().all(|reason| reason == vain), "{:?}", refusals(&bed.gateway)?);
    until("the demo user's own key", OVER_SECS_MAX, || {
        Ok(bed.gateway.sftp_as("demo", &registered, "pwd\n")?.status.success())
    })
}
