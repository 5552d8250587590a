//! The programs that are measured: peers started on a free loopback port, stopped when dropped; clients with a time limit.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Side, cpu};
use crate::{Gateway, run, run_ok, until, wait};

/// Seconds a server may take to listen.
const START_SECS_MAX: u64 = 30;
/// Seconds that one client's run may take: only a hang is that slow.
const CLIENT_SECS_MAX: u64 = 1800;

/// A server that is measured.
pub trait Served {
    /// Which one.
    fn side(&self) -> Side;
    /// The processes whose CPU and memory are the server's.
    fn processes(&self) -> Vec<u32>;
}

/// What keeps a side alive.
#[derive(Debug)]
pub enum Life {
    /// Ours.
    Gateway(Box<Gateway>),
    /// A peer's.
    Programs(Programs),
}

impl Life {
    /// Its processes.
    pub fn processes(&self) -> Vec<u32> {
        match self {
            Self::Gateway(gateway) => vec![gateway.pid()],
            Self::Programs(programs) => programs.0.iter().map(|(program, _)| program.id()).collect(),
        }
    }
}

/// Programs that stand on those before them, each with what it has mounted.
#[derive(Debug, Default)]
pub struct Programs(Vec<(Child, Option<PathBuf>)>);

impl Programs {
    /// Starts one more; what it says goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, command: &mut Command, log: &Path) -> Result<()> {
        let log = fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.0.push((child.with_context(|| format!("{command:?}"))?, None));
        Ok(())
    }

    /// A gocryptfs in a directory, and where it is mounted.
    ///
    /// # Errors
    /// When it is not mounted in time.
    pub fn gocryptfs(home: &Path, more: &[&str]) -> Result<(Self, PathBuf)> {
        let at = |name: &str| home.join(name);
        let (sealed, mount, phrase) = (at("sealed"), at("mount"), at("passphrase"));
        fs::create_dir(&sealed)?;
        fs::create_dir(&mount)?;
        fs::write(&phrase, "bench\n")?;
        run_ok(Command::new("gocryptfs").args(["-q", "-init", "-passfile"]).arg(&phrase).arg(&sealed))?;
        let mut program = Command::new("gocryptfs");
        program.args(["-q", "-fg", "-nosyslog"]).args(more);
        program.arg("-passfile").arg(&phrase).arg(&sealed).arg(&mount);
        let mut programs = Self::default();
        programs.start(&mut program, &at("gocryptfs.log"))?;
        programs.0[0].1 = Some(mount.clone());
        let is_mounted = || Ok(run(Command::new("mountpoint").arg("-q").arg(&mount), b"")?.status.success());
        until("gocryptfs that is mounted", START_SECS_MAX, is_mounted)?;
        Ok((programs, mount))
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        while let Some((mut program, mount)) = self.0.pop() {
            stop(&mut program);
            if let Some(mount) = mount {
                drop(run(Command::new("fusermount3").args(["-u", "-z"]).arg(mount), b""));
            }
        }
    }
}

fn stop(program: &mut Child) {
    let pid = rustix::process::Pid::from_child(program);
    let is_gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err();
    if wait(program, 10).is_err() && !is_gone {
        eprintln!("a server had to be killed");
    }
}

/// An `rclone serve` of a protocol over a crypt remote in a directory; more arguments follow.
///
/// # Errors
/// When rclone does not obscure the passphrase.
pub fn rclone_serve(protocol: &str, home: &Path, port: u16) -> Result<Command> {
    let sealed = home.join("sealed");
    fs::create_dir(&sealed)?;
    let phrase = run_ok(Command::new("rclone").args(["obscure", "bench"]))?.text();
    let mut program = Command::new("rclone");
    program
        .args(["--config", "/dev/null", "serve", protocol, "crypt:"])
        .args(["--addr", &format!("127.0.0.1:{port}")])
        .env("RCLONE_CONFIG_CRYPT_TYPE", "crypt")
        .env("RCLONE_CONFIG_CRYPT_REMOTE", &sealed)
        .env("RCLONE_CONFIG_CRYPT_PASSWORD", phrase.trim());
    Ok(program)
}

/// A port of loopback that nobody listens on.
///
/// # Errors
/// The system's.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits for somebody to listen.
///
/// # Errors
/// When nobody does in time.
pub fn await_port(port: u16) -> Result<()> {
    until("a server that listens", START_SECS_MAX, || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()))
}

/// Seconds that a client's run takes; it must succeed.
///
/// # Errors
/// When it does not, with all that it printed.
pub fn timed(command: &mut Command, input: &str) -> Result<f64> {
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
///
/// # Errors
/// When the client does not succeed.
pub fn timed_with_cpu(server: &impl Served, command: &mut Command, input: &str) -> Result<(f64, f64)> {
    let processes = server.processes();
    let before = cpu::seconds_settled(&processes)?;
    let wall = timed(command, input)?;
    Ok((wall, cpu::seconds_settled(&processes)? - before))
}

/// What has been written goes to the disk now, not into the next measurement.
///
/// # Errors
/// The system's.
pub fn sync() -> Result<()> {
    run_ok(&mut Command::new("sync"))?;
    Ok(())
}

/// Forgets what the kernel keeps of files, as if they had been written long ago.
///
/// # Errors
/// The system's.
pub fn forget_pages() -> Result<()> {
    sync()?;
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}
