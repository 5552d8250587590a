//! Commands that a client may have executed: a fixed few, built in. There is no shell and no program behind them.
//!
//! `words` takes the command line apart, `Command` is what it means; each is written down before it runs, and what it does
//! with files goes through the one door like any request. A channel ends with exit status, EOF and CLOSE, always.

mod output;
mod pipe;
mod scp;
mod space;
mod sums;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio_util::sync::CancellationToken;

pub use pipe::Pipe;

use crate::limits::{EXEC_COMMAND_BYTES_MAX, EXEC_RECORD_BYTES_MAX};
use crate::session::Traffic;
use crate::vfs::digest::Algorithm;
use crate::vfs::{Action, DetailKey, Namespace, Outcome, RecordDraft};
use output::{Gone, Output};

/// Exit status of what is not a command here, as shells have it.
const NOT_FOUND: u32 = 127;
/// Exit status of a command that is refused or fails.
const FAILED: u32 = 1;

/// What rclone sends to see which shell it talks to; every shell of POSIX answers with the end of it.
const SHELL_PROBE: &[u8] = b"echo ${ShellId}%ComSpec%";

/// A command under way.
#[derive(Debug)]
struct Shell {
    namespace: Namespace,
    input: Arc<Pipe>,
    output: Output,
}

/// What a command line means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    ShellProbe,
    WorkingDirectory,
    Sums(sums::Sums),
    Space(space::Space),
    Copy(scp::Copy),
}

/// Why a command line means nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    status: u32,
    reason: &'static str,
}

impl Command {
    fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let failed = |reason| Refusal { status: FAILED, reason };
        if line.len() > EXEC_COMMAND_BYTES_MAX {
            return Err(failed("the command is too long"));
        }
        if line.trim_ascii() == SHELL_PROBE {
            return Ok(Self::ShellProbe);
        }
        let words = words::split(line).map_err(|error| failed(error.reason()))?;
        let (name, rest) =
            words.split_first().map_or((&b""[..], &[][..]), |(name, rest)| (name.as_slice(), rest));
        let sums =
            |program, algorithm| sums::Sums::parse(program, algorithm, rest).map(Self::Sums).map_err(failed);
        match name {
            b"md5sum" => sums("md5sum", Algorithm::Md5),
            b"sha1sum" => sums("sha1sum", Algorithm::Sha1),
            b"sha256sum" => sums("sha256sum", Algorithm::Sha256),
            b"df" => space::Space::parse(rest).map(Self::Space).map_err(failed),
            b"pwd" if rest.is_empty() => Ok(Self::WorkingDirectory),
            b"scp" => scp::Copy::parse(rest).map(Self::Copy).map_err(failed),
            _ => Err(Refusal {
                status: NOT_FOUND,
                reason: "only md5sum, sha1sum, sha256sum, df, pwd and scp are here, and the sftp subsystem",
            }),
        }
    }
}

/// A command of a client's, on its channel.
#[derive(Debug)]
pub struct Order {
    /// Whose files.
    pub namespace: Namespace,
    /// The command line, as it was sent.
    pub line: Bytes,
    /// What the client sends.
    pub input: Arc<Pipe>,
    /// Where the answers go.
    pub channel: ChannelWriteHalf<Msg>,
    /// Counts what is sent.
    pub traffic: Arc<Traffic>,
    /// Ends it.
    pub ended: CancellationToken,
}

/// Runs a command until it is done, the client is gone, or the session ends. A file that was being written then stays,
/// marked as incomplete.
pub async fn serve(order: Order) {
    let Order { namespace, line, input, channel, traffic, ended } = order;
    let shell = Shell { namespace, input: Arc::clone(&input), output: Output::new(channel, traffic) };
    let stopped = async {
        tokio::select! {
            () = ended.cancelled() => {}
            () = input.gone() => {}
        }
    };
    tokio::pin!(stopped);
    let status = tokio::select! {
        () = &mut stopped => return input.inlet().end(),
        status = shell.run(&line) => status,
    };
    input.inlet().end();
    let Ok(status) = status else { return };
    tokio::select! {
        () = stopped => {}
        () = shell.output.end(status) => {}
    }
}

impl Shell {
    async fn run(&self, line: &[u8]) -> Result<u32, Gone> {
        let command = Command::parse(line);
        if self.note(line, command.as_ref().err()).await.is_err() {
            self.output.complain("The command could not be recorded.\n").await?;
            return Ok(FAILED);
        }
        match command {
            Ok(Command::ShellProbe) => self.output.print("%ComSpec%\n").await.map(|()| 0),
            Ok(Command::WorkingDirectory) => self.output.print("/\n").await.map(|()| 0),
            Ok(Command::Sums(sums)) => sums.run(self).await,
            Ok(Command::Space(space)) => space.run(self).await,
            Ok(Command::Copy(copy)) => copy.run(self).await,
            Err(Refusal { status, reason }) => {
                self.output.complain(format!("This command is refused: {reason}.\n")).await?;
                Ok(status)
            }
        }
    }

    /// Writes down what was asked for; durable when this returns. The words are sealed: they name files.
    async fn note(&self, line: &[u8], refusal: Option<&Refusal>) -> Result<(), crate::vfs::VfsError> {
        let noted = line.get(..EXEC_RECORD_BYTES_MAX).unwrap_or(line);
        let mut record = RecordDraft {
            details: vec![(DetailKey::Note, noted.to_vec())],
            ..self.namespace.session().record(Action::Command)
        };
        if let Some(refusal) = refusal {
            record.outcome = Outcome::Refused;
            record.reason = Some(refusal.reason.to_owned());
        }
        self.namespace.record(record).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_commands_are_known_and_nothing_else() {
        let known = |line: &str| Command::parse(line.as_bytes());
        assert_eq!(known("echo ${ShellId}%ComSpec%"), Ok(Command::ShellProbe));
        assert_eq!(known("pwd"), Ok(Command::WorkingDirectory));
        assert!(matches!(known("md5sum /a"), Ok(Command::Sums(_))));
        assert!(matches!(known("df -k /"), Ok(Command::Space(_))));
        assert!(matches!(known("scp -t /"), Ok(Command::Copy(_))));
        for line in
            ["", "ls", "sh", "/bin/md5sum a", "echo a", "md5 -r", "MD5SUM a", "x=1 md5sum a", "pwd -P"]
        {
            assert_eq!(known(line).unwrap_err().status, NOT_FOUND, "{line}");
        }
        for line in ["md5sum a; ls", "echo ${ShellId}%ComSpec%;ls", "df -h", "sha256sum -c x", "scp a b"] {
            assert_eq!(known(line).unwrap_err().status, FAILED, "{line}");
        }
        assert_eq!(known(&"a".repeat(EXEC_COMMAND_BYTES_MAX + 1)).unwrap_err().status, FAILED);
    }
}
