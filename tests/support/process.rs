//! Programs as a user would run them, with a time limit so that a hang is a failure.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Seconds any one program may take: only a hang is that slow.
const PROGRAM_SECS_MAX: u64 = 600;

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Finished> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let mut stdin = child.stdin.take().context("standard input")?;
    let mut stdout = child.stdout.take().context("standard output")?;
    let mut stderr = child.stderr.take().context("standard error")?;
    let input = input.to_vec();
    let feed = thread::spawn(move || stdin.write_all(&input));
    let out = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let complaints = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let status = wait(&mut child, PROGRAM_SECS_MAX).with_context(|| shown)?;
    // A program may end without having read its input: that is its right.
    drop(feed.join());
    let stdout = out.join().map_err(|_| anyhow::anyhow!("reader"))??;
    let stderr = complaints.join().map_err(|_| anyhow::anyhow!("reader"))??;
    Ok(Finished { status, stdout, stderr })
}

/// Runs a program that must succeed.
///
/// # Errors
/// When it fails, with all that it printed.
pub fn run_ok(command: &mut Command) -> Result<Finished> {
    let finished = run(command, b"")?;
    if !finished.status.success() {
        bail!("{command:?} ended with {}\n{}\n{}", finished.status, finished.text(), finished.stderr);
    }
    Ok(finished)
}

/// Waits for a program to end, and kills it when it takes longer.
///
/// # Errors
/// When it did not end in time.
pub fn wait(child: &mut Child, secs_max: u64) -> Result<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(secs_max);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end in {secs_max} s");
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Asks until the answer is yes.
///
/// # Errors
/// The asking's, or when it is not yes in time.
pub fn until(what: &str, secs_max: u64, mut asked: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(secs_max);
    while !asked()? {
        if Instant::now() > deadline {
            bail!("{what}: not within {secs_max} s");
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}
