//! The servers that are measured: started on a free loopback port with a directory of their own, stopped when dropped.

use std::fmt;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coffre_tests::accounts::keygen;
use coffre_tests::{Gateway, run, run_ok, until};
use tempfile::TempDir;

/// Seconds a server may take to listen.
const START_SECS_MAX: u64 = 30;
/// Seconds that one client's run may take: only a hang is that slow.
const CLIENT_SECS_MAX: u64 = 1800;

/// Whose figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Ours.
    Coffre,
    /// `sshd` with `internal-sftp` on a plain directory.
    Plain,
    /// The same on gocryptfs.
    Gocryptfs,
    /// `rclone serve sftp` over a crypt remote.
    Rclone,
}

impl Side {
    /// In the table's order.
    pub(crate) const ALL: [Self; 4] = [Self::Coffre, Self::Plain, Self::Gocryptfs, Self::Rclone];

    /// A peer by its name in `peers=`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "plain" => Ok(Self::Plain),
            "gocryptfs" => Ok(Self::Gocryptfs),
            "rclone" => Ok(Self::Rclone),
            _ => bail!("{name} is none of plain, gocryptfs, rclone"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Coffre => "Coffre",
            Self::Plain => "OpenSSH",
            Self::Gocryptfs => "OpenSSH on gocryptfs",
            Self::Rclone => "rclone crypt",
        })
    }
}

/// What keeps a side alive.
#[derive(Debug)]
enum Life {
    Gateway(Box<Gateway>),
    Programs(Vec<Child>),
}

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
    mount: Option<PathBuf>,
    life: Life,
    // Last: it is removed when everything has stopped.
    _home: TempDir,
}

/// Starts the sides of a measurement, each with nothing in it.
pub(crate) fn start_all(work: &Path, sides: &[Side]) -> Result<Vec<Server>> {
    sides.iter().map(|side| Server::start(work, *side).with_context(|| format!("starting {side}"))).collect()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn known_hosts(home: &Path, port: u16, host_key: &Path) -> Result<PathBuf> {
    let public = fs::read_to_string(host_key.with_extension("pub"))?;
    let path = home.join("known_hosts");
    fs::write(&path, format!("[127.0.0.1]:{port} {public}"))?;
    Ok(path)
}

fn await_port(port: u16) -> Result<()> {
    until("a server that listens", START_SECS_MAX, || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()))
}

fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("{command:?}"))
}

impl Server {
    fn start(work: &Path, side: Side) -> Result<Self> {
        let home = TempDir::with_prefix_in("server.", work)?;
        match side {
            Side::Coffre => Self::coffre(home),
            Side::Plain => {
                let directory = home.path().join("plain");
                fs::create_dir(&directory)?;
                Self::sshd(side, home, &directory, Vec::new())
            }
            Side::Gocryptfs => Self::gocryptfs(home),
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
            mount: None,
            life: Life::Gateway(Box::new(gateway)),
            _home: home,
        })
    }

    fn gocryptfs(home: TempDir) -> Result<Self> {
        let at = |name: &str| home.path().join(name);
        let (sealed, mount, phrase) = (at("sealed"), at("mount"), at("passphrase"));
        fs::create_dir(&sealed)?;
        fs::create_dir(&mount)?;
        fs::write(&phrase, "bench\n")?;
        run_ok(Command::new("gocryptfs").args(["-q", "-init", "-passfile"]).arg(&phrase).arg(&sealed))?;
        let mut program = Command::new("gocryptfs");
        program.args(["-q", "-fg", "-nosyslog", "-passfile"]).arg(&phrase).arg(&sealed).arg(&mount);
        let child = spawn(&mut program, &at("gocryptfs.log"))?;
        let is_mounted = || Ok(run(Command::new("mountpoint").arg("-q").arg(&mount), b"")?.status.success());
        let mounted = until("gocryptfs that is mounted", START_SECS_MAX, is_mounted);
        let server = Self::sshd(Side::Gocryptfs, home, &mount, vec![child])?;
        mounted?;
        Ok(server)
    }

    /// An `sshd` as Debian ships it, but for its port and keys, and that it takes all sessions at once.
    fn sshd(side: Side, home: TempDir, directory: &Path, mut below: Vec<Child>) -> Result<Self> {
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
        below.push(spawn(&mut program, &home.path().join("sshd.log"))?);
        let server = Self {
            side,
            port,
            user: run_ok(Command::new("id").arg("-un"))?.text().trim().to_owned(),
            key,
            known_hosts: known_hosts(home.path(), port, &host)?,
            root: format!("{}/", directory.display()),
            mount: (side == Side::Gocryptfs).then(|| directory.to_owned()),
            life: Life::Programs(below),
            _home: home,
        };
        await_port(port)?;
        Ok(server)
    }

    fn rclone(home: TempDir) -> Result<Self> {
        let port = free_port()?;
        let (host, key) =
            (keygen(home.path(), "host", &["ed25519"])?, keygen(home.path(), "key", &["ed25519"])?);
        let sealed = home.path().join("sealed");
        fs::create_dir(&sealed)?;
        let phrase = run_ok(Command::new("rclone").args(["obscure", "bench"]))?.text();
        let mut program = Command::new("rclone");
        program
            .args([
                "--config",
                "/dev/null",
                "serve",
                "sftp",
                "crypt:",
                "--addr",
                &format!("127.0.0.1:{port}"),
            ])
            .arg("--key")
            .arg(&host)
            .arg("--authorized-keys")
            .arg(key.with_extension("pub"))
            .env("RCLONE_CONFIG_CRYPT_TYPE", "crypt")
            .env("RCLONE_CONFIG_CRYPT_REMOTE", &sealed)
            .env("RCLONE_CONFIG_CRYPT_PASSWORD", phrase.trim());
        let child = spawn(&mut program, &home.path().join("rclone.log"))?;
        let server = Self {
            side: Side::Rclone,
            port,
            user: "bench".to_owned(),
            key,
            known_hosts: known_hosts(home.path(), port, &host)?,
            root: String::new(),
            mount: None,
            life: Life::Programs(vec![child]),
            _home: home,
        };
        await_port(port)?;
        Ok(server)
    }

    /// The processes whose CPU and memory are the server's.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match &self.life {
            Life::Gateway(gateway) => vec![gateway.pid()],
            Life::Programs(programs) => programs.iter().map(Child::id).collect(),
        }
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

impl Drop for Server {
    fn drop(&mut self) {
        if let Life::Programs(programs) = &mut self.life {
            // The last one started stands on those before it, and the mount between them.
            for program in programs.iter_mut().rev() {
                stop(program);
                if let Some(mount) = self.mount.take() {
                    drop(run(Command::new("fusermount3").args(["-u", "-z"]).arg(mount), b""));
                }
            }
        }
    }
}

fn stop(program: &mut Child) {
    let pid = rustix::process::Pid::from_child(program);
    let is_gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err();
    if coffre_tests::wait(program, 10).is_err() && !is_gone {
        eprintln!("a server had to be killed");
    }
}

/// Seconds that a client's run takes; it must succeed.
pub(crate) fn timed(command: &mut Command, input: &str) -> Result<f64> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let pid = rustix::process::Pid::from_child(&child);
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let outcome = watched.recv_timeout(Duration::from_secs(CLIENT_SECS_MAX));
        let is_late = outcome == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if is_late && rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok() {
            eprintln!("a client took more than {CLIENT_SECS_MAX} s");
        }
    });
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let seconds = begin.elapsed().as_secs_f64();
    drop(done);
    watchdog.join().map_err(|_| anyhow::anyhow!("the watchdog"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(seconds)
}

/// Seconds of a run, and the CPU seconds that the server spent for it.
pub(crate) fn timed_with_cpu(server: &Server, command: &mut Command, input: &str) -> Result<(f64, f64)> {
    let processes = server.processes();
    let before = super::cpu::seconds_settled(&processes)?;
    let wall = timed(command, input)?;
    Ok((wall, super::cpu::seconds_settled(&processes)? - before))
}
