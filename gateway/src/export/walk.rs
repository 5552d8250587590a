//! The walk through a vault at its moment, on a thread of its own: each directory before what is in it, names in the
//! store's order, which is the same each time. Content is read ahead of whoever writes it, in pieces; what an interrupted
//! export has already is passed over.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::SyncSender;

use coffre_storage::StoreError;
use coffre_storage::id::InodeId;
use coffre_storage::tree::{Attributes, Cursor, Entry, Kind, PastVault};
use coffre_storage::upload::OpenFile;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, Known};
use super::manifest::{Line, LineKind};
use super::{ExportError, FILES, gone_or, moment_text};
use crate::limits::{EXPORT_LISTING_PIECE, EXPORT_PIECE_BYTES};

/// One name of the tree.
#[derive(Debug)]
pub(super) struct Found {
    /// From the top, `files` first.
    pub(super) path: Vec<u8>,
    pub(super) attributes: Attributes,
    pub(super) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a symbolic link.
    pub(super) target: Option<Vec<u8>>,
    /// What an interrupted export wrote of it.
    pub(super) known: Option<Line>,
}

impl Found {
    /// The last component.
    pub(super) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// A directory; what is in it follows.
    Enter(Box<Found>),
    /// All that is in it has come.
    Leave(Box<Found>),
    /// The names of a directory, or the rest of them, cannot be read.
    Unlisted(Box<Found>, String),
    /// A file or link that an interrupted export has written.
    Known(Box<Found>),
    /// A symbolic link.
    SymbolicLink(Box<Found>),
    /// Another name of a file that came before.
    HardLink(Box<Found>),
    /// A file; its content follows.
    Begin(Box<Found>),
    /// Bytes of it.
    Bytes(Vec<u8>),
    /// A hole in it.
    Hole(u64),
    /// All of it has come.
    End,
    /// It cannot be read, or not further.
    Broken(String),
}

/// A directory on the way down.
struct Level {
    directory: Box<Found>,
    entries: std::vec::IntoIter<Entry>,
    rest: Rest,
}

/// Names of a directory that were not asked for yet.
enum Rest {
    All,
    Behind(Cursor),
    None,
}

/// A piece of a file's content.
enum Piece {
    Bytes(Vec<u8>),
    Hole(u64),
}

/// The walk itself.
pub(super) struct Walk<'w> {
    pub(super) past: &'w PastVault,
    pub(super) known: Known,
    pub(super) destination: &'w Destination,
    pub(super) stop: &'w CancellationToken,
    pub(super) steps: SyncSender<Step>,
    /// Names that are still to come of files that came under one of their names.
    pub(super) linked: HashMap<InodeId, u32>,
}

/// Why stored bytes cannot be read, when the reason is theirs alone.
fn damage(error: &StoreError) -> Option<String> {
    matches!(
        error,
        StoreError::Damaged { .. }
            | StoreError::SetAside { .. }
            | StoreError::DamagedRecord
            | StoreError::Io(_)
    )
    .then(|| error.to_string())
}

impl Walk<'_> {
    /// Walks through all of it.
    pub(super) fn run(mut self) -> Result<(), ExportError> {
        let attributes = self.past.attributes(InodeId::ROOT).map_err(|error| self.failed(error))?;
        let mut levels = Vec::new();
        self.directory(FILES.as_bytes().to_vec(), attributes, &mut levels)?;
        while let Some(level) = levels.last_mut() {
            if let Some(entry) = level.entries.next() {
                let path = [&level.directory.path[..], b"/", &entry.name].concat();
                match entry.attributes.kind {
                    Kind::Directory => self.directory(path, entry.attributes, &mut levels)?,
                    Kind::File | Kind::SymbolicLink => self.leaf(path, entry.attributes)?,
                }
            } else if matches!(level.rest, Rest::None) {
                if let Some(level) = levels.pop() {
                    self.tell(Step::Leave(level.directory))?;
                }
            } else {
                self.list(level)?;
            }
        }
        match self.peeked()? {
            None => Ok(()),
            Some(_) => Err(ExportError::State(self.destination.path().to_owned())),
        }
    }

    fn failed(&self, error: StoreError) -> ExportError {
        // What the moment showed was pruned.
        gone_or(error, || ExportError::Pruned { moment: moment_text(self.past.time()) })
    }

    fn tell(&self, step: Step) -> Result<(), ExportError> {
        if self.stop.is_cancelled() {
            return Err(ExportError::Stopped);
        }
        // Whoever writes has ended: its reason is what counts.
        self.steps.send(step).map_err(|_| ExportError::Stopped)
    }

    fn peeked(&mut self) -> Result<Option<(Vec<u8>, LineKind)>, ExportError> {
        let line = self.destination.io(self.known.peek())?;
        Ok(line.map(|line| (line.path.bytes().unwrap_or_default(), line.kind)))
    }

    /// The line of this name, when the interrupted export came that far.
    fn recall(&mut self, path: &[u8], kind: LineKind) -> Result<Option<Line>, ExportError> {
        match self.peeked()? {
            None => Ok(None),
            Some((next, next_kind)) if next == path && next_kind == kind => Ok(self.known.take()),
            Some(_) => Err(ExportError::State(self.destination.path().to_owned())),
        }
    }

    fn found(&mut self, path: Vec<u8>, attributes: Attributes) -> Result<Box<Found>, ExportError> {
        let known = self.recall(&path, attributes.kind.into())?;
        let mut found = Found { path, attributes, properties: BTreeMap::new(), target: None, known };
        if found.known.is_none() {
            let inode = found.attributes.inode;
            if found.attributes.has_properties {
                found.properties = self.past.properties(inode).map_err(|error| self.failed(error))?;
            }
            if found.attributes.kind == Kind::SymbolicLink {
                found.target = Some(self.past.read_link(inode).map_err(|error| self.failed(error))?);
            }
        }
        Ok(Box::new(found))
    }

    fn directory(
        &mut self,
        path: Vec<u8>,
        attributes: Attributes,
        levels: &mut Vec<Level>,
    ) -> Result<(), ExportError> {
        let found = self.found(path.clone(), attributes.clone())?;
        self.tell(Step::Enter(found))?;
        let directory =
            Box::new(Found { path, attributes, properties: BTreeMap::new(), target: None, known: None });
        levels.push(Level { directory, entries: Vec::new().into_iter(), rest: Rest::All });
        Ok(())
    }

    /// Asks for more names of a directory.
    fn list(&mut self, level: &mut Level) -> Result<(), ExportError> {
        let cursor = match level.rest {
            Rest::All => None,
            Rest::Behind(cursor) => Some(cursor),
            Rest::None => return Ok(()),
        };
        match self.past.list(level.directory.attributes.inode, cursor, EXPORT_LISTING_PIECE) {
            Ok((entries, next)) => {
                level.entries = entries.into_iter();
                level.rest = next.map_or(Rest::None, Rest::Behind);
                Ok(())
            }
            Err(error) => {
                let reason = damage(&error).ok_or_else(|| self.failed(error))?;
                level.rest = Rest::None;
                let (path, attributes) = (level.directory.path.clone(), level.directory.attributes.clone());
                let known = self.recall(&path, LineKind::Listing)?;
                let found = Found { path, attributes, properties: BTreeMap::new(), target: None, known };
                self.tell(Step::Unlisted(Box::new(found), format!("not all of its names: {reason}")))
            }
        }
    }

    fn leaf(&mut self, path: Vec<u8>, attributes: Attributes) -> Result<(), ExportError> {
        let found = self.found(path, attributes)?;
        let Attributes { inode, kind, links, size, .. } = found.attributes;
        if let Some(line) = &found.known {
            if kind == Kind::File && line.is_exported() {
                self.note_name(inode, links);
            }
            return self.tell(Step::Known(found));
        }
        if kind == Kind::SymbolicLink {
            return self.tell(Step::SymbolicLink(found));
        }
        if self.linked.contains_key(&inode) {
            self.note_name(inode, links);
            return self.tell(Step::HardLink(found));
        }
        self.tell(Step::Begin(found))?;
        if let Some(reason) = self.content(inode, size)? {
            return self.tell(Step::Broken(reason));
        }
        self.note_name(inode, links);
        self.tell(Step::End)
    }

    /// Notes that one name of a file has come.
    fn note_name(&mut self, inode: InodeId, links: u32) {
        let left = self.linked.remove(&inode).unwrap_or(links).saturating_sub(1);
        if left > 0 {
            self.linked.insert(inode, left);
        }
    }

    /// Tells a file's content; the reason when it cannot be read to its end.
    fn content(&mut self, inode: InodeId, size: u64) -> Result<Option<String>, ExportError> {
        let (mut at, mut open) = (0, None);
        while at < size {
            let piece = match self.piece(inode, &mut open, at, size) {
                Ok(piece) => piece,
                Err(error) => return Ok(Some(damage(&error).ok_or_else(|| self.failed(error))?)),
            };
            at += match piece {
                Piece::Hole(bytes) => {
                    self.tell(Step::Hole(bytes))?;
                    bytes
                }
                Piece::Bytes(bytes) if bytes.is_empty() => {
                    return Ok(Some("it is shorter than it should be".to_owned()));
                }
                Piece::Bytes(bytes) => {
                    let len = bytes.len() as u64;
                    self.tell(Step::Bytes(bytes))?;
                    len
                }
            };
        }
        Ok(None)
    }

    /// The next bytes of a file, or the hole before them.
    fn piece(
        &self,
        inode: InodeId,
        open: &mut Option<OpenFile>,
        at: u64,
        size: u64,
    ) -> Result<Piece, StoreError> {
        let file = match open {
            Some(file) => file,
            None => open.insert(self.past.open(inode)?),
        };
        match file.stored_run(at, EXPORT_PIECE_BYTES)? {
            None => Ok(Piece::Hole(size - at)),
            Some((start, _)) if start > at => Ok(Piece::Hole(start.min(size) - at)),
            Some((start, end)) => {
                let len = usize::try_from(end.min(size) - start).unwrap_or(usize::MAX);
                Ok(Piece::Bytes(file.read_at(start, len)?))
            }
        }
    }
}
