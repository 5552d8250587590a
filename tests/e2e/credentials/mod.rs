//! Who gets in with what: every combination of factors with the programs that people have, and every factor alone.

mod combinations;
mod enrolment;
mod once;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use coffre::clock::SystemClock;
use coffre_storage::time::Clock;
use coffre_tests::accounts::keygen;
use coffre_tests::{Finished, Gateway, run};

/// A password that is taken.
const PASSWORD: &str = "wagon saffron lattice umbrella";

/// A person of the demo customer, with a key that needs something beside it.
struct Person {
    name: &'static str,
    key: PathBuf,
    work: tempfile::TempDir,
}

/// What `credential add-totp` told, as an authenticator app keeps it.
struct Device(Vec<u8>);

impl Device {
    /// The code that the app shows `steps` half minutes from now.
    fn code(&self, steps: i64) -> Result<String> {
        let step = SystemClock.now().0.div_euclid(30_000_000_000) + steps;
        let mac =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0), &step.to_be_bytes());
        let at = usize::from(mac.as_ref()[19] & 15);
        let word = u32::from_be_bytes(mac.as_ref()[at..at + 4].try_into()?);
        Ok(format!("{:06}", (word & 0x7fff_ffff) % 1_000_000))
    }
}

fn base32(text: &str) -> Result<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes() {
        let digit = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter);
        bits = (bits << 5) | u32::try_from(digit.context("base32")?)?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff)?);
        }
    }
    Ok(bytes)
}

impl Person {
    fn new(gateway: &Gateway, name: &'static str) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let full = format!("demo/{name}");
        gateway.admin(&["user", "add", &full, "--mount", "/=demo"])?;
        gateway.admin(&["customer", "set", "demo", "--login", "default"])?;
        let key = keygen(work.path(), "key", &["ed25519"])?;
        let public = key.with_extension("pub").display().to_string();
        gateway.coffre_json(&["credential", "add-key", &full, &public])?;
        Ok(Self { name, key, work })
    }

    fn full(&self) -> String {
        format!("demo/{}", self.name)
    }

    fn set_password(&self, gateway: &Gateway, password: &str) -> Result<Finished> {
        let mut command = gateway.coffre_command(&["credential", "add-password", &self.full(), "--json"])?;
        run(&mut command, password.as_bytes())
    }

    /// A device that is confirmed by the code of the step before this one: the one of now is good for a login.
    fn add_device(&self, gateway: &Gateway) -> Result<Device> {
        let (device, id) = self.add_unconfirmed(gateway)?;
        gateway.admin(&["credential", "confirm", &id, &device.code(-1)?])?;
        Ok(device)
    }

    fn add_unconfirmed(&self, gateway: &Gateway) -> Result<(Device, String)> {
        let added = gateway.coffre_json(&["credential", "add-totp", &self.full()])?;
        let secret = added["secret"].as_str().context("secret")?;
        let uri = added["uri"].as_str().context("uri")?;
        ensure!(uri.starts_with("otpauth://totp/Coffre:demo%2F") && uri.contains(secret), "{uri}");
        Ok((Device(base32(secret)?), added["id"].as_str().context("id")?.to_owned()))
    }

    fn recovery_codes(&self, gateway: &Gateway) -> Result<Vec<String>> {
        let added = gateway.coffre_json(&["credential", "add-codes", &self.full()])?;
        let codes = added["codes"].as_array().context("codes")?.iter();
        Ok(codes.filter_map(|code| code.as_str().map(str::to_owned)).collect())
    }

    /// OpenSSH's sftp, with a program in the place of whoever types: it answers each prompt that holds the first text with the
    /// second.
    fn sftp(&self, gateway: &Gateway, with_key: bool, answers: &[(&str, &str)]) -> Result<Command> {
        let asked = self.work.path().join("askpass");
        let cases: Vec<String> =
            answers.iter().map(|(prompt, answer)| format!("*{prompt}*) echo '{answer}';;\n")).collect();
        let script = format!(
            "#!/bin/sh\necho \"$1\" >> {0}.log\ncase \"$1\" in\n{1}*) exit 1;;\nesac\n",
            asked.display(),
            cases.concat()
        );
        fs::write(&asked, script)?;
        fs::set_permissions(&asked, fs::Permissions::from_mode(0o700))?;
        let key = self.key.display().to_string();
        let mut sftp = Command::new("sftp");
        let options = gateway.ssh_options_with(&key);
        let batch =
            options.iter().map(|option| if option == "BatchMode=yes" { "BatchMode=no" } else { option });
        sftp.args(batch).args(["-o", "NumberOfPasswordPrompts=1"]);
        if !with_key {
            sftp.args(["-o", "PubkeyAuthentication=no"]);
        }
        sftp.arg(format!("{}@127.0.0.1", self.name));
        sftp.env("SSH_ASKPASS", &asked).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", "none");
        Ok(sftp)
    }

    /// Whether somebody gets in so.
    fn is_let_in(&self, gateway: &Gateway, with_key: bool, answers: &[(&str, &str)]) -> Result<bool> {
        let finished = run(&mut self.sftp(gateway, with_key, answers)?, b"pwd\n")?;
        Ok(finished.status.success() && finished.text().contains("Remote working directory"))
    }

    /// What the program in the place of whoever types was asked.
    fn prompts(&self) -> Result<String> {
        Ok(fs::read_to_string(self.work.path().join("askpass.log"))?)
    }
}

/// Audit records of logins, the newest last: action, outcome and factors.
fn logins(gateway: &Gateway) -> Result<Vec<String>> {
    let tail = gateway.admin(&["audit", "tail", "-n", "200", "--json"])?.text();
    let shown = |record: serde_json::Value| {
        let action = record["action"].as_str().unwrap_or_default().to_owned();
        let factors = record["factors"].as_array().cloned().unwrap_or_default();
        let factors: Vec<&str> = factors.iter().filter_map(serde_json::Value::as_str).collect();
        let outcome = record["outcome"].as_str().unwrap_or_default();
        action.starts_with("login").then(|| format!("{action} {outcome} {}", factors.join("+")))
    };
    Ok(tail.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(shown).collect())
}

fn path_of(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}
