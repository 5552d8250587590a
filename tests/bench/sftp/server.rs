//! The servers that are measured: started on a free loopback port with a directory of their own, stopped when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::accounts::keygen;
use coffre_tests::measure::programs::{Life, await_port, free_port, rclone_serve};
use coffre_tests::measure::{Programs, Served, Side};
use coffre_tests::{Gateway, run, run_ok};
use tempfile::TempDir;

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) side: Side,
    /// Its port on loopback.
    pub(crate) port: u16,
    user: String,
    key: PathBuf,
    known_hosts: PathBuf,
    /// Remote directory to work in, ending with a slash; empty where a login begins in it.
    pub(crate) root: String,
    life: Life,
    // Last: it is removed when everything has stopped.
    _home: TempDir,
}

/// Starts the sides of a measurement, each with nothing in it.
pub(crate) fn start_all(work: &Path, sides: &[Side]) -> Result<Vec<Server>> {
    sides.iter().map(|side| Server::start(work, *side).with_context(|| format!("starting {side}"))).collect()
}

fn known_hosts(home: &Path, port: u16, host_key: &Path) -> Result<PathBuf> {
    let public = fs::read_to_string(host_key.with_extension("pub"))?;
    let path = home.join("known_hosts");
    fs::write(&path, format!("[127.0.0.1]:{port} {public}"))?;
    Ok(path)
}

impl Server {
    fn start(work: &Path, side: Side) -> Result<Self> {
        let home = TempDir::with_prefix_in("server.", work)?;
        match side {
            Side::Coffre => Self::coffre(home),
            Side::Plain => {
                let directory = home.path().join("plain");
                fs::create_dir(&directory)?;
                Self::sshd(side, home, &directory, Programs::default())
            }
            Side::Gocryptfs => {
                let (programs, directory) = Programs::gocryptfs(home.path(), &[])?;
                Self::sshd(side, home, &directory, programs)
            }
            Side::Rclone => Self::rclone(home),
        }
    }

    fn coffre(home: TempDir) -> Result<Self> {
        let gateway = Gateway::start_on(&home.path().join("data"), &home.path().join("server.log"))?;
        Ok(Self {
            side: Side::Coffre,
            port: gateway.sftp_port().parse()?,
            user: gateway.user.clone(),
            key: gateway.key_file.clone(),
            known_hosts: gateway.known_hosts.clone(),
            root: String::new(),
            life: Life::Gateway(Box::new(gateway)),
            _home: home,
        })
    }

    /// An `sshd` as Debian ships it, but for its port and keys, and that it takes all sessions at once.
    fn sshd(side: Side, home: TempDir, directory: &Path, mut programs: Programs) -> Result<Self> {
        let port = free_port()?;
        let (host, key) =
            (keygen(home.path(), "host", &["ed25519"])?, keygen(home.path(), "key", &["ed25519"])?);
        let configuration = home.path().join("sshd.conf");
        let lines = [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {}", host.display()),
            format!("AuthorizedKeysFile {}", key.with_extension("pub").display()),
            "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password".to_owned(),
            "MaxStartups 1000\nSubsystem sftp internal-sftp".to_owned(),
            // What a user's shell does when it starts is not sshd's.
            format!("SetEnv HOME={}\n", home.path().display()),
        ];
        fs::write(&configuration, lines.join("\n"))?;
        // Where sshd separates privileges; there is none on a machine whose own sshd never ran.
        fs::create_dir_all("/run/sshd")?;
        let mut program = Command::new("/usr/sbin/sshd");
        program.args(["-D", "-e", "-f"]).arg(&configuration);
        programs.start(&mut program, &home.path().join("sshd.log"))?;
        let server = Self {
            side,
            port,
            user: run_ok(Command::new("id").arg("-un"))?.text().trim().to_owned(),
            key,
            known_hosts: known_hosts(home.path(), port, &host)?,
            root: format!("{}/", directory.display()),
            life: Life::Programs(programs),
            _home: home,
        };
        await_port(port)?;
        Ok(server)
    }

    fn rclone(home: TempDir) -> Result<Self> {
        let port = free_port()?;
        let (host, key) =
            (keygen(home.path(), "host", &["ed25519"])?, keygen(home.path(), "key", &["ed25519"])?);
        let mut program = rclone_serve("sftp", home.path(), port)?;
        program.arg("--key").arg(&host).arg("--authorized-keys").arg(key.with_extension("pub"));
        let mut programs = Programs::default();
        programs.start(&mut program, &home.path().join("rclone.log"))?;
        let server = Self {
            side: Side::Rclone,
            port,
            user: "bench".to_owned(),
            key,
            known_hosts: known_hosts(home.path(), port, &host)?,
            root: String::new(),
            life: Life::Programs(programs),
            _home: home,
        };
        await_port(port)?;
        Ok(server)
    }

    /// Options of OpenSSH's programs; more may follow.
    pub(crate) fn ssh_options(&self, more: &[&str]) -> Vec<String> {
        let mut options: Vec<String> = ["-F", "/dev/null", "-q", "-i"].map(str::to_owned).to_vec();
        options.push(self.key.display().to_string());
        let own = [
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "StrictHostKeyChecking=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
        ];
        for option in own.into_iter().chain(more.iter().map(|option| (*option).to_owned())) {
            options.extend(["-o".to_owned(), option]);
        }
        // The first value counts: a port among `more` is before this one.
        options.extend(["-o".to_owned(), format!("Port={}", self.port)]);
        options
    }

    /// `USER@127.0.0.1`
    pub(crate) fn address(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// Who logs in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// An `sftp` with these options that reads its commands from a batch.
    pub(crate) fn sftp(&self, more: &[&str]) -> Command {
        let mut command = Command::new("sftp");
        command.args(self.ssh_options(more)).args(["-b", "-"]).arg(self.address());
        command
    }

    /// An rclone whose remote is `bench:`; paths begin with [`Self::root`].
    pub(crate) fn rclone_client(&self) -> Command {
        let mut command = Command::new("rclone");
        command
            .args(["--config", "/dev/null"])
            .env("RCLONE_CONFIG_BENCH_TYPE", "sftp")
            .env("RCLONE_CONFIG_BENCH_HOST", "127.0.0.1")
            .env("RCLONE_CONFIG_BENCH_PORT", self.port.to_string())
            .env("RCLONE_CONFIG_BENCH_USER", &self.user)
            .env("RCLONE_CONFIG_BENCH_KEY_FILE", &self.key)
            .env("RCLONE_CONFIG_BENCH_KNOWN_HOSTS_FILE", &self.known_hosts);
        command
    }

    /// Mounts [`Self::root`] with sshfs; unmounted by the caller.
    pub(crate) fn sshfs(&self, at: &Path) -> Result<()> {
        let ssh = format!("ssh {}", self.ssh_options(&[]).join(" "));
        let mut command = Command::new("sshfs");
        command.arg(format!("{}:{}", self.address(), self.root)).arg(at);
        run_ok(command.args(["-o", &format!("ssh_command={ssh}")]))?;
        Ok(())
    }

    /// Whether it speaks this cipher.
    pub(crate) fn speaks(&self, cipher: &str) -> Result<bool> {
        let logs_in = |options: &[&str]| Ok(run(&mut self.sftp(options), b"pwd\n")?.status.success());
        // Whoever answers no cipher at all has another trouble.
        ensure!(logs_in(&[])?, "{} lets nobody in", self.side);
        logs_in(&[&format!("Ciphers={cipher}")])
    }
}

impl Served for Server {
    fn side(&self) -> Side {
        self.side
    }

    fn processes(&self) -> Vec<u32> {
        self.life.processes()
    }
}
