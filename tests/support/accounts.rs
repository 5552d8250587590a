//! Users and credentials of a test's own, made the way an operator makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Gateway;
use crate::process::{Finished, run, run_ok};

/// Makes a key pair with `ssh-keygen`; returns the private half's path.
///
/// # Errors
/// When ssh-keygen refuses.
pub fn keygen(directory: &Path, name: &str, kind: &[&str]) -> Result<PathBuf> {
    let path = directory.join(name);
    run_ok(Command::new("ssh-keygen").args(["-q", "-N", "", "-t"]).args(kind).arg("-f").arg(&path))?;
    Ok(path)
}

/// A credential that was just made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What `credential revoke` takes.
    pub id: String,
    /// The token, or the private key's path.
    pub secret: String,
}

impl Gateway {
    /// Runs an admin command that must succeed.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub fn admin(&self, arguments: &[&str]) -> Result<Finished> {
        let finished = self.coffre(arguments)?;
        if !finished.status.success() {
            bail!("coffre {arguments:?}: {}\n{}\n{}", finished.status, finished.text(), finished.stderr);
        }
        Ok(finished)
    }

    /// Issues an app token.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_token(&self, user: &str, more: &[&str]) -> Result<Issued> {
        let added = self.coffre_json(&[&["credential", "add-token", user], more].concat())?;
        let text = |name: &str| -> Result<String> { Ok(added[name].as_str().context("a field")?.to_owned()) };
        Ok(Issued { id: text("id")?, secret: text("token")? })
    }

    /// Registers a public key as a machine's on this one: nothing else is asked of it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn register_key(&self, user: &str, public: &Path, more: &[&str]) -> Result<String> {
        let public = public.display().to_string();
        let fixed = ["credential", "add-key", user, &public, "--machine"];
        let from: &[&str] = if more.contains(&"--from") { &[] } else { &["--from", "127.0.0.0/8"] };
        let added = self.coffre_json(&[&fixed, from, more].concat())?;
        Ok(added["id"].as_str().context("id")?.to_owned())
    }

    /// Makes and registers an Ed25519 key of a machine.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_key(&self, user: &str, directory: &Path, name: &str, more: &[&str]) -> Result<Issued> {
        let key = keygen(directory, name, &["ed25519"])?;
        let id = self.register_key(user, &key.with_extension("pub"), more)?;
        Ok(Issued { id, secret: key.display().to_string() })
    }

    /// Options of OpenSSH's programs with another private key.
    pub fn ssh_options_with(&self, key: &str) -> Vec<String> {
        let mut options = self.ssh_options();
        let at = options.iter().position(|option| option == "-i").map_or(0, |at| at + 1);
        key.clone_into(&mut options[at]);
        options
    }

    /// Runs an sftp batch as another user; it may fail.
    ///
    /// # Errors
    /// When sftp cannot be started.
    pub fn sftp_as(&self, user: &str, key: &str, batch: &str) -> Result<Finished> {
        let mut command = Command::new("sftp");
        command.args(self.ssh_options_with(key)).args(["-b", "-"]).arg(format!("{user}@127.0.0.1"));
        run(&mut command, batch.as_bytes())
    }

    /// OpenSSH's `sftp` or `ssh` that logs in with a password only; the user is still to be named.
    pub fn with_password(&self, program: &str, password: &str) -> Command {
        let mut command = Command::new("sshpass");
        command.args(["-e", program, "-F", "/dev/null", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        command.args(["-o", "PubkeyAuthentication=no", "-o", "KbdInteractiveAuthentication=no"]);
        command.args(["-o", "NumberOfPasswordPrompts=1"]);
        command.args(["-o", &format!("Port={}", self.sftp_port())]).env("SSHPASS", password);
        command
    }

    /// An sftp that logs in with a password only; it reads its commands from standard input.
    pub fn sftp_with_password(&self, user: &str, password: &str) -> Command {
        let mut command = self.with_password("sftp", password);
        command.arg(format!("{user}@127.0.0.1"));
        command
    }

    /// A `curl` that trusts the gateway and is another user.
    pub fn curl_as(&self, user: &str, token: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--cacert"]).arg(&self.ca_file);
        command.arg("--user").arg(format!("{user}:{token}"));
        command
    }

    /// Bytes of memory that the server holds now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }
}
