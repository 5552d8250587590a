//! A running gateway with its demo user, and the clients' command lines for it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Finished, run, run_ok, wait};

/// Seconds a gateway may take to say that it serves.
const START_SECS_MAX: u64 = 60;
/// Seconds a gateway may take to drain and stop.
const STOP_SECS_MAX: u64 = 60;

/// A gateway, its addresses and its demo user's credentials.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    directory: Option<TempDir>,
    /// The data directory.
    pub data: PathBuf,
    /// `127.0.0.1:PORT`.
    pub sftp: String,
    /// `https://127.0.0.1:PORT/`.
    pub webdav: String,
    /// The demo user.
    pub user: String,
    /// Its private key.
    pub key_file: PathBuf,
    /// Its app token.
    pub token: String,
    /// The certificate that signs the WebDAV one.
    pub ca_file: PathBuf,
    /// The SFTP host keys.
    pub known_hosts: PathBuf,
    /// Where the server's log goes.
    pub log: PathBuf,
}

/// The built `coffre` program.
///
/// # Errors
/// When it is not there.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).context("target directory")?;
    let found = target.join("coffre");
    if !found.exists() {
        bail!("{} is missing: run `cargo build --bin coffre` first, as ./tests/run does", found.display());
    }
    Ok(found)
}

impl Gateway {
    /// Starts a gateway on an empty data directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        let mut gateway = Self::start_on(&data, &directory.path().join("server.log"))?;
        gateway.directory = Some(directory);
        Ok(gateway)
    }

    /// Starts a gateway on a data directory of the caller's; its log goes to `log`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_on(data: &Path, log: &Path) -> Result<Self> {
        let complaints = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        // Temporary files land where tests look for what must not be there.
        let temporary = log.with_file_name("tmp");
        std::fs::create_dir_all(&temporary)?;
        let mut child = Command::new(binary()?)
            .env("TMPDIR", &temporary)
            .args(["quickstart", "--json", "--sftp", "127.0.0.1:0", "--webdav", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()?;
        let stdout = child.stdout.take().context("standard output")?;
        let reader = thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let deadline = Instant::now() + Duration::from_secs(START_SECS_MAX);
        while !reader.is_finished() {
            if Instant::now() > deadline {
                child.kill()?;
                bail!("no answer from quickstart in {START_SECS_MAX} s");
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let line = reader.join().map_err(|_| anyhow::anyhow!("reader"))??;
        let ready: Value = serde_json::from_str(&line).with_context(|| {
            format!("quickstart said {line:?}\n{}", std::fs::read_to_string(log).unwrap_or_default())
        })?;
        let text = |name: &str| -> Result<String> {
            Ok(ready
                .get(name)
                .and_then(Value::as_str)
                .with_context(|| format!("{name} in {line}"))?
                .to_owned())
        };
        Ok(Self {
            child,
            directory: None,
            data: data.to_owned(),
            sftp: text("sftp")?,
            webdav: text("webdav")?,
            user: text("user")?,
            key_file: text("key_file")?.into(),
            token: text("token")?,
            ca_file: text("ca_file")?.into(),
            known_hosts: text("known_hosts_file")?.into(),
            log: log.to_owned(),
        })
    }

    /// Starts a gateway whose configuration file was edited after `coffre init` had written it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_configured(edit: impl FnOnce(String) -> String) -> Result<Self> {
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        Self::configure(&data, edit)?;
        let mut gateway = Self::start_on(&data, &directory.path().join("server.log"))?;
        gateway.directory = Some(directory);
        Ok(gateway)
    }

    /// Makes a data directory and edits its configuration file.
    ///
    /// # Errors
    /// When `coffre init` fails.
    pub fn configure(data: &Path, edit: impl FnOnce(String) -> String) -> Result<()> {
        run_ok(Command::new(binary()?).args(["init", "--data"]).arg(data))?;
        let config = data.join("coffre.toml");
        Ok(std::fs::write(&config, edit(std::fs::read_to_string(&config)?))?)
    }

    /// Takes over the temporary directory of a gateway that was stopped on the same data.
    pub fn keep_directory_of(&mut self, mut stopped: Self) {
        self.directory = stopped.directory.take();
    }

    /// The process, for signals and figures.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The SFTP port.
    pub fn sftp_port(&self) -> &str {
        self.sftp.rsplit(':').next().unwrap_or_default()
    }

    /// Ends it as a power switch would.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as an operator would, and waits.
    ///
    /// # Errors
    /// When it does not stop, or stops with an error.
    pub fn stop(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.wait_stopped()
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it does not stop, or stops with an error.
    pub fn wait_stopped(&mut self) -> Result<()> {
        let status = wait(&mut self.child, STOP_SECS_MAX)
            .with_context(|| format!("stopping the gateway: {}", self.log_text()))?;
        ensure!(status.success(), "the gateway stopped with {status}: {}", self.log_text());
        Ok(())
    }

    /// What the server logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs the command line against this data directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn coffre(&self, arguments: &[&str]) -> Result<Finished> {
        run(&mut self.coffre_command(arguments)?, b"")
    }

    /// An admin command on the gateway's data, not run yet.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn coffre_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--data").arg(&self.data).args(arguments);
        Ok(command)
    }

    /// Runs a command that must succeed, and reads its JSON.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn coffre_json(&self, arguments: &[&str]) -> Result<Value> {
        let finished =
            run_ok(Command::new(binary()?).arg("--data").arg(&self.data).arg("--json").args(arguments))?;
        serde_json::from_slice(&finished.stdout)
            .with_context(|| format!("{arguments:?} printed {}", finished.text()))
    }

    /// Options of OpenSSH's programs (`sftp`, `scp`, `ssh`) for the demo user, without the port's letter.
    pub fn ssh_options(&self) -> Vec<String> {
        vec![
            "-F".into(),
            "/dev/null".into(),
            "-i".into(),
            self.key_file.display().to_string(),
            "-o".into(),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "-o".into(),
            "StrictHostKeyChecking=yes".into(),
            "-o".into(),
            "IdentitiesOnly=yes".into(),
            "-o".into(),
            "BatchMode=yes".into(),
            "-o".into(),
            format!("Port={}", self.sftp_port()),
        ]
    }

    /// An OpenSSH `sftp` that will read its commands from standard input.
    pub fn sftp_command(&self) -> Command {
        let mut command = Command::new("sftp");
        command.args(self.ssh_options()).args(["-b", "-"]).arg(format!("{}@127.0.0.1", self.user));
        command
    }

    /// Runs an sftp batch that must succeed.
    ///
    /// # Errors
    /// When any of its commands fails.
    pub fn sftp_batch(&self, commands: &str) -> Result<Finished> {
        let finished = run(&mut self.sftp_command(), commands.as_bytes())?;
        if !finished.status.success() {
            bail!("sftp ended with {}\n{}\n{}", finished.status, finished.text(), finished.stderr);
        }
        Ok(finished)
    }

    /// A `curl` that trusts the gateway and knows the token.
    pub fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--cacert"]).arg(&self.ca_file);
        command.arg("--user").arg(format!("{}:{}", self.user, self.token));
        command
    }

    /// The WebDAV address of a path that needs no encoding.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}", self.webdav, path.trim_start_matches('/'))
    }

    /// The HTTP status that curl gets.
    ///
    /// # Errors
    /// When curl fails for another reason than the status.
    pub fn curl_status(&self, arguments: &[&str]) -> Result<u16> {
        let finished = run_ok(
            self.curl().args(["--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments),
        )?;
        Ok(finished.text().parse()?)
    }

    /// An rclone over SFTP; remote paths are `coffre:PATH`.
    pub fn rclone_sftp(&self) -> Command {
        let mut command = Command::new("rclone");
        command
            .args(["--config", "/dev/null"])
            .env("RCLONE_CONFIG_COFFRE_TYPE", "sftp")
            .env("RCLONE_CONFIG_COFFRE_HOST", "127.0.0.1")
            .env("RCLONE_CONFIG_COFFRE_PORT", self.sftp_port())
            .env("RCLONE_CONFIG_COFFRE_USER", &self.user)
            .env("RCLONE_CONFIG_COFFRE_KEY_FILE", &self.key_file)
            .env("RCLONE_CONFIG_COFFRE_KNOWN_HOSTS_FILE", &self.known_hosts);
        command
    }

    /// An rclone over WebDAV; remote paths are `coffre:PATH`.
    ///
    /// # Errors
    /// When rclone does not obscure the token.
    pub fn rclone_webdav(&self) -> Result<Command> {
        let obscured = run_ok(Command::new("rclone").args(["obscure", &self.token]))?.text();
        let mut command = Command::new("rclone");
        command
            .args(["--config", "/dev/null", "--ca-cert"])
            .arg(&self.ca_file)
            .env("RCLONE_CONFIG_COFFRE_TYPE", "webdav")
            .env("RCLONE_CONFIG_COFFRE_URL", &self.webdav)
            .env("RCLONE_CONFIG_COFFRE_VENDOR", "other")
            .env("RCLONE_CONFIG_COFFRE_USER", &self.user)
            .env("RCLONE_CONFIG_COFFRE_PASS", obscured.trim());
        Ok(command)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log_text());
        }
    }
}
