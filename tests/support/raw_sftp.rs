//! SFTP packets byte by byte, through `ssh -s`: what no polite client sends.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Gateway;
use crate::process::wait;

/// Seconds to wait for an answer.
const ANSWER_SECS_MAX: u64 = 60;

/// `SSH_FXP_*` (draft-ietf-secsh-filexfer-02 section 3).
pub mod kind {
    #![allow(missing_docs, reason = "the draft's names")]
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
}

/// An SFTP packet of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `SSH_FXP_*`.
    pub kind: u8,
    /// What follows it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The request that it answers.
    pub fn id(&self) -> u32 {
        number(&self.body, 0)
    }

    /// The code of a STATUS; nothing for another kind.
    pub fn status(&self) -> Option<u32> {
        (self.kind == kind::STATUS).then(|| number(&self.body, 4))
    }

    /// The first string after the id: a handle, the content read, a status has its number there.
    pub fn string(&self) -> Vec<u8> {
        let len = number(&self.body, 4) as usize;
        self.body.get(8..8 + len).unwrap_or_default().to_vec()
    }
}

fn number(body: &[u8], at: usize) -> u32 {
    body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
}

/// A length-prefixed string of the protocol.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), bytes].concat()
}

/// A whole packet.
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    string(&[&[kind], body].concat())
}

/// A whole request: kind, id, the rest.
pub fn request(kind: u8, id: u32, rest: &[&[u8]]) -> Vec<u8> {
    packet(kind, &[&id.to_be_bytes()[..], &rest.concat()].concat())
}

/// One SFTP channel.
#[derive(Debug)]
pub struct RawSftp {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    answers: Option<Receiver<Answer>>,
    next_id: u32,
}

impl RawSftp {
    /// Opens the subsystem and sends nothing.
    ///
    /// # Errors
    /// When ssh cannot be started.
    pub fn connect(gateway: &Gateway) -> Result<Self> {
        Self::with(&gateway.ssh_options(), &gateway.user)
    }

    /// The same with options of the caller's.
    ///
    /// # Errors
    /// When ssh cannot be started.
    pub fn with(options: &[String], user: &str) -> Result<Self> {
        let mut ssh = Command::new("ssh");
        ssh.args(options).args(["-o", "LogLevel=ERROR", "-s"]).arg(format!("{user}@127.0.0.1")).arg("sftp");
        Self::through(&mut ssh)
    }

    /// The same through a program that speaks SFTP on its standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn through(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, stdin, stdout, answers: None, next_id: 1 })
    }

    /// Opens the subsystem and exchanges versions.
    ///
    /// # Errors
    /// When the server does not answer with its version.
    pub fn start(gateway: &Gateway) -> Result<Self> {
        Self::start_with(&gateway.ssh_options(), &gateway.user)
    }

    /// The same with options of the caller's.
    ///
    /// # Errors
    /// When the server does not answer with its version.
    pub fn start_with(options: &[String], user: &str) -> Result<Self> {
        Self::with(options, user)?.greet()
    }

    /// Exchanges versions on a channel that said nothing yet.
    ///
    /// # Errors
    /// When the server does not answer with its version.
    pub fn greet(self) -> Result<Self> {
        let mut raw = self;
        raw.send(&packet(kind::INIT, &3_u32.to_be_bytes()))?;
        let version = raw.answer()?.context("a version")?;
        if version.kind != kind::VERSION || number(&version.body, 0) != 3 {
            bail!("the server's first packet is {version:?}");
        }
        Ok(raw)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the channel is closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("sending is over")?;
        stdin.write_all(bytes)?;
        stdin.flush()?;
        Ok(())
    }

    /// Where bytes go, for a sender on another thread.
    pub fn take_sender(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The next packet; nothing when the server closed the channel.
    ///
    /// # Errors
    /// When neither happens in time.
    pub fn answer(&mut self) -> Result<Option<Answer>> {
        if let Some(stdout) = self.stdout.take() {
            let (sender, answers) = sync_channel(1024);
            self.answers = Some(answers);
            thread::spawn(move || forward(stdout, &sender));
        }
        let answers = self.answers.as_ref().context("a reader")?;
        match answers.recv_timeout(Duration::from_secs(ANSWER_SECS_MAX)) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("no answer and no end within {ANSWER_SECS_MAX} s"),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the channel ends, or another request is answered.
    pub fn ask(&mut self, kind: u8, rest: &[&[u8]]) -> Result<Answer> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&request(kind, id, rest))?;
        let answer =
            self.answer()?.with_context(|| format!("the channel was closed on a request of kind {kind}"))?;
        if answer.id() != id {
            bail!("request {id} was answered as {}", answer.id());
        }
        Ok(answer)
    }

    /// Opens a file with these flags.
    ///
    /// # Errors
    /// When there is no handle.
    pub fn open(&mut self, path: &[u8], flags: u32) -> Result<Vec<u8>> {
        let answer = self.ask(kind::OPEN, &[&string(path), &flags.to_be_bytes(), &0_u32.to_be_bytes()])?;
        if answer.kind != kind::HANDLE {
            bail!("open answered {answer:?}");
        }
        Ok(answer.string())
    }

    /// Reads until the server has closed the channel and ssh has ended; returns the answers until then.
    ///
    /// # Errors
    /// When it stays open.
    pub fn read_to_end(&mut self) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        while let Some(answer) = self.answer()? {
            all.push(answer);
        }
        wait(&mut self.child, ANSWER_SECS_MAX)?;
        Ok(all)
    }

    /// Whether ssh has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

fn forward(mut from: impl Read, to: &SyncSender<Answer>) {
    while let Some(answer) = read_packet(&mut from) {
        if to.send(answer).is_err() {
            return;
        }
    }
}

fn read_packet(from: &mut impl Read) -> Option<Answer> {
    let mut len = [0; 4];
    from.read_exact(&mut len).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
    from.read_exact(&mut bytes).ok()?;
    let (kind, body) = bytes.split_first()?;
    Some(Answer { kind: *kind, body: body.to_vec() })
}

impl Drop for RawSftp {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
