//! Keys that are in no file: on a smart card (`SoftHSM2` behind PKCS#11, as OpenSSH asks a card), and in a security key.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::{Finished, Gateway, run, run_ok};
use serde_json::Value;
use tempfile::TempDir;

/// The PKCS#11 module of `SoftHSM2`.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "314159";

/// A token with an ECDSA and an RSA key that never leave it.
struct Card {
    home: TempDir,
}

impl Card {
    fn new() -> Result<Self> {
        let card = Self { home: TempDir::new()? };
        std::fs::create_dir(card.home.path().join("tokens"))?;
        let tokens = card.home.path().join("tokens");
        std::fs::write(card.configuration(), format!("directories.tokendir = {}\n", tokens.display()))?;
        let asks = "#!/bin/sh\necho \"$PIN\"\n";
        std::fs::write(card.askpass(), asks)?;
        run_ok(Command::new("chmod").arg("700").arg(card.askpass()))?;
        let label = ["--init-token", "--free", "--label", "card", "--pin", PIN, "--so-pin", "271828"];
        run_ok(card.command("softhsm2-util").args(label))?;
        for (id, kind) in [("01", "EC:prime256v1"), ("02", "rsa:3072"), ("03", "rsa:2048")] {
            let make = ["--module", MODULE, "--token-label", "card", "--login", "--pin", PIN, "--keypairgen"];
            run_ok(card.command("pkcs11-tool").args(make).args([
                "--key-type",
                kind,
                "--id",
                id,
                "--label",
                id,
            ]))?;
        }
        Ok(card)
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("softhsm2.conf")
    }

    fn askpass(&self) -> PathBuf {
        self.home.path().join("askpass")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.configuration());
        command
    }

    /// The public half of a key on it, as a file.
    fn public(&self, label: &str) -> Result<PathBuf> {
        let all = run_ok(self.command("ssh-keygen").args(["-D", MODULE]))?.text();
        let line = all.lines().find(|line| line.ends_with(&format!(" {label}"))).context("a key")?;
        let path = self.home.path().join(format!("{label}.pub"));
        std::fs::write(&path, format!("{line}\n"))?;
        Ok(path)
    }

    /// Opens sftp with a key on it, as people do who have a card and know its PIN.
    fn sftp(&self, gateway: &Gateway, public: &Path, pin: &str) -> Result<Finished> {
        let mut options = gateway.ssh_options_with(&public.display().to_string());
        // The PIN is asked for.
        options
            .iter_mut()
            .filter(|option| *option == "BatchMode=yes")
            .for_each(|option| "BatchMode=no".clone_into(option));
        let mut command = self.command("sftp");
        command.args(options).args([
            "-o",
            &format!("PKCS11Provider={MODULE}"),
            "-o",
            "PreferredAuthentications=publickey",
        ]);
        command.env("SSH_ASKPASS", self.askpass()).env("SSH_ASKPASS_REQUIRE", "force").env("PIN", pin);
        command.arg(format!("{}@127.0.0.1", gateway.user));
        run(&mut command, b"pwd\n")
    }
}

fn factors(gateway: &Gateway, credential: &str) -> Result<Vec<String>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let own = all.iter().filter(|record| record["action"] == "login" && record["credential"] == credential);
    Ok(own.map(|record| record["factors"].to_string()).collect())
}

#[test]
fn ecdsa_and_rsa_keys_on_a_smart_card_open_sftp_with_their_pin_and_weak_ones_do_not() -> Result<()> {
    let (gateway, card) = (Gateway::start()?, Card::new()?);
    for label in ["01", "02"] {
        let public = card.public(label)?;
        ensure!(!card.sftp(&gateway, &public, PIN)?.status.success(), "not registered");
        let file = public.display().to_string();
        let added = gateway.coffre_json(&["credential", "add-key", &gateway.user, &file, "--piv"])?;
        assert_eq!(added["kind"], "smart card");
        let id = added["id"].as_str().context("id")?;
        let opened = card.sftp(&gateway, &public, PIN)?;
        ensure!(opened.status.success(), "{label}: {}", opened.stderr);
        ensure!(factors(&gateway, id)?.iter().all(|factors| factors.contains("smart-card")), "{label}");
        ensure!(!card.sftp(&gateway, &public, "000000")?.status.success(), "{label}: another PIN");
        gateway.admin(&["credential", "revoke", id])?;
        ensure!(!card.sftp(&gateway, &public, PIN)?.status.success(), "{label}: revoked");
    }
    let weak = card.public("03")?.display().to_string();
    ensure!(!gateway.coffre(&["credential", "add-key", &gateway.user, &weak, "--piv"])?.status.success());
    Ok(())
}

#[test]
fn a_security_key_is_one_factor_and_never_more_whether_it_was_touched_or_not() -> Result<()> {
    let (home, gateway) = (TempDir::new()?, Gateway::start()?);
    let key = home.path().join("device");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/certificates/security_key.py");
    let device = |arguments: &[&str]| run(Command::new("/usr/bin/python3").arg(script).args(arguments), b"");
    let path = key.display().to_string();
    ensure!(device(&["make", &path])?.status.success());
    let log_in = |flags: &str| device(&["use", &path, gateway.sftp_port(), &gateway.user, flags]);
    ensure!(!log_in("1")?.status.success(), "not registered");
    let public = format!("{path}.pub");
    // It has no PIN that anybody looked at, and vouches for nobody else.
    for more in [
        ["credential", "add-key", &gateway.user, &public, "--piv"].as_slice(),
        &["credential", "add-authority", "demo", &public],
    ] {
        ensure!(!gateway.coffre(more)?.status.success(), "{more:?}");
    }
    // One factor, which is enough only where the customer says so.
    let added = gateway.coffre_json(&["credential", "add-key", &gateway.user, &public])?;
    ensure!(!log_in("1")?.status.success(), "a person's key alone");
    gateway.admin(&["customer", "set", "demo", "--login", "key,machine-key"])?;
    let id = added["id"].as_str().context("id")?.to_owned();
    for flags in ["1", "0"] {
        let opened = log_in(flags)?;
        ensure!(opened.status.success(), "{}", opened.stderr);
    }
    let factors = factors(&gateway, &id)?;
    ensure!(factors.len() == 2 && factors.iter().all(|factors| factors == "[\"ssh-key\"]"), "{factors:?}");
    Ok(())
}
