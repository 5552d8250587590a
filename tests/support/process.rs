//! Programs as a user would run them, with a time limit so that a hang is a failure.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
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
    pub fn text(&self) -> String { String::from_utf8_lossy(&self.stdout).into_owned() }
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
    let deadline = Instant::now() + Duration::from_secs(PROGRAM_SECS_MAX);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            bail!("{shown} did not end in {PROGRAM_SECS_MAX} s");
        }
        thread::park_timeout(Duration::from_millis(5));
    };
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
