//! The directory that an export goes to: what is there already, the state of an interrupted export, and its journal.
//!
//! The journal is the manifest in the making. A line is written after what it tells of is durable, and is durable before
//! anything counts on it; a torn end is cut off when the export goes on.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use super::below::names_in;
use super::manifest::{Line, read_line};
use super::{ExportError, Format, MANIFEST, SIGNATURE, STATE};

/// Name of a state that is being written.
const STATE_NEW: &str = "export.state.new";
/// Version of the state.
const STATE_VERSION: u32 = 1;

/// What an unfinished export is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Its identity, 32 hexadecimal digits: the session of its audit records.
    pub(super) id: String,
    /// `CUSTOMER/VAULT`.
    pub(super) vault: String,
    pub(super) vault_id: String,
    pub(super) format: Format,
    /// As its command said.
    pub(super) at: Option<String>,
    /// Nanoseconds since 1970.
    pub(super) moment: i64,
    pub(super) commit: u64,
    /// The snapshot that keeps the moment until it ends.
    pub(super) snapshot: Option<String>,
}

/// What makes an export the one it is.
pub(super) struct Identity<'o> {
    pub(super) id: String,
    pub(super) vault: &'o str,
    pub(super) vault_id: String,
    pub(super) format: Format,
    pub(super) at: Option<&'o str>,
}

impl State {
    pub(super) fn new(identity: Identity<'_>, moment: i64, commit: u64, snapshot: Option<String>) -> Self {
        Self {
            version: STATE_VERSION,
            id: identity.id,
            vault: identity.vault.to_owned(),
            vault_id: identity.vault_id,
            format: identity.format,
            at: identity.at.map(str::to_owned),
            moment,
            commit,
            snapshot,
        }
    }

    /// Whether a command asks for this export.
    pub(super) fn is_of(&self, vault_id: &str, format: Format, at: Option<&str>) -> bool {
        self.vault_id == vault_id && self.format == format && self.at.as_deref() == at
    }
}

/// What is in a destination.
#[derive(Debug)]
pub(super) enum Contents {
    /// Nothing.
    Empty,
    /// An export that was interrupted.
    Interrupted(State),
    /// An export that was interrupted after its signature.
    Signed(State),
}

/// An open destination; nobody else exports there.
#[derive(Debug)]
pub(super) struct Destination {
    path: PathBuf,
    fd: OwnedFd,
}

impl Destination {
    /// Opens a directory, made for its owner alone when it is absent.
    pub(super) fn open(path: &Path) -> Result<Self, ExportError> {
        let io = |source: rustix::io::Errno| ExportError::Io { path: path.to_owned(), source: source.into() };
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(io)?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ExportError::Busy(path.to_owned())),
            Err(error) => return Err(io(error)),
        }
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Opens a directory to look at what is there.
    pub(super) fn look(path: &Path) -> Result<Self, ExportError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|source| ExportError::Io { path: path.to_owned(), source: source.into() })?;
        Ok(Self { path: path.to_owned(), fd })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for whoever writes below it.
    pub(super) fn directory(&self) -> Result<OwnedFd, ExportError> {
        self.io(rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(Into::into))
    }

    pub(super) fn io<T>(&self, result: std::io::Result<T>) -> Result<T, ExportError> {
        result.map_err(|source| match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
                ExportError::Full { path: self.path.clone() }
            }
            _ => ExportError::Io { path: self.path.clone(), source },
        })
    }

    /// What is in it.
    pub(super) fn names(&self) -> std::io::Result<Vec<Vec<u8>>> {
        Ok(names_in(self.fd.as_fd())?)
    }

    pub(super) fn contents(&self) -> Result<Contents, ExportError> {
        let names = self.io(self.names())?;
        let holds = |wanted: &str| names.iter().any(|name| name == wanted.as_bytes());
        if !holds(STATE) {
            return match names.iter().all(|name| name == STATE_NEW.as_bytes()) {
                true => Ok(Contents::Empty),
                false if holds(SIGNATURE) => Err(ExportError::Finished(self.path.clone())),
                false => Err(ExportError::NotEmpty(self.path.clone())),
            };
        }
        let mut text = Vec::new();
        self.io(self.file(STATE, OFlags::RDONLY).and_then(|mut file| file.read_to_end(&mut text)))?;
        let state: Option<State> = serde_json::from_slice(&text).ok();
        let state = state
            .filter(|state| state.version == STATE_VERSION)
            .ok_or_else(|| ExportError::State(self.path.clone()))?;
        Ok(if holds(SIGNATURE) { Contents::Signed(state) } else { Contents::Interrupted(state) })
    }

    /// Opens a file of the destination's own; what is created is for its owner alone.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> std::io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Writes a file that is there as a whole or not at all, also after a power cut.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let new = format!("{name}.new");
        self.io((|| {
            let mut file = self.file(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            renameat(&self.fd, new.as_str(), &self.fd, name)?;
            Ok(rustix::fs::fsync(&self.fd)?)
        })())
    }

    pub(super) fn put_state(&self, state: &State) -> Result<(), ExportError> {
        let text = serde_json::to_vec(state).unwrap_or_default();
        self.put(STATE, &text)
    }

    /// The export is finished.
    pub(super) fn remove_state(&self) -> Result<(), ExportError> {
        self.io((|| {
            unlinkat(&self.fd, STATE, AtFlags::empty())?;
            Ok(rustix::fs::fsync(&self.fd)?)
        })())
    }

    /// The journal, with its torn end cut off, and what it tells.
    pub(super) fn journal(&self) -> Result<(Journal, Known), ExportError> {
        self.io((|| {
            let file = self.file(MANIFEST, OFlags::RDWR | OFlags::CREATE)?;
            let mut reader = BufReader::new(file.try_clone()?);
            let (mut whole, mut tar_end, mut line) = (0, None, Vec::new());
            loop {
                let len = read_line(&mut reader, &mut line)?;
                let Some(parsed) = Line::parse(&line).filter(|_| line.ends_with(b"\n")) else { break };
                whole += len;
                tar_end = parsed.tar_end.or(tar_end);
            }
            file.set_len(whole)?;
            rustix::fs::fsync(self.fd.as_fd())?;
            let mut reader = BufReader::new(self.file(MANIFEST, OFlags::RDONLY)?);
            reader.seek(SeekFrom::Start(0))?;
            let known = Known { lines: reader.take(whole), next: None };
            Ok((Journal { file, end: whole, tar_end }, known))
        })())
    }
}

/// The manifest in the making.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    end: u64,
    /// Where the archive goes on.
    pub(super) tar_end: Option<u64>,
}

impl Journal {
    /// Makes whole lines durable.
    pub(super) fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.end += lines.len() as u64;
        Ok(())
    }
}

/// The lines that an interrupted export left, one after the other.
#[derive(Debug)]
pub(super) struct Known {
    lines: std::io::Take<BufReader<File>>,
    next: Option<Line>,
}

impl Known {
    /// The next line, if there is one.
    pub(super) fn peek(&mut self) -> std::io::Result<Option<&Line>> {
        if self.next.is_none() {
            let mut line = Vec::new();
            read_line(&mut self.lines, &mut line)?;
            self.next = Line::parse(&line);
        }
        Ok(self.next.as_ref())
    }

    /// Takes the line that was peeked at.
    pub(super) fn take(&mut self) -> Option<Line> {
        self.next.take()
    }
}
