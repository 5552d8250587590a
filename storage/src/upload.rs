//! Content on its way in and out: the one open file of an inode, and uploads that commit in one step.
//!
//! Both are the same machine: extents of what is stored + dirty bytes in memory. Dirty bytes over
//! `DIRTY_BYTES_TARGET` are cut, hashed, deduplicated, sealed and staged as frames; a commit stages the rest and
//! puts the new content record, chunk references and audit record into one transaction.

use crate::audit::RecordDraft;
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::tree::{AttributeChange, Attributes};

/// How a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The client closed or synced it.
    Whole,
    /// The connection broke: kept, marked incomplete, an incident is raised.
    Broken,
}

/// The one open file of an inode: every handle of both protocols reads and writes this. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenFile {
    _private: (),
}

#[allow(unused_variables, reason = "signatures")]
impl OpenFile {
    /// Which inode.
    pub fn inode(&self) -> InodeId { todo!() }
    /// Attributes now, dirty size included.
    ///
    /// # Errors
    /// The store's own errors. An unlinked open file still answers (links = 0).
    pub fn attributes(&self) -> Result<Attributes, StoreError> { todo!() }
    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file, empty beyond it.
    ///
    /// # Errors
    /// `Damaged` when stored bytes do not open; nothing is returned then.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> { todo!() }
    /// Whether [`OpenFile::read_at`] would be answered from memory (so needs no blocking pool).
    pub fn is_in_memory(&self, offset: u64, len: usize) -> bool { todo!() }
    /// Writes at `offset`; a gap before it becomes a hole. May stage chunks (seconds of CPU never; a full log waits).
    ///
    /// # Errors
    /// `QuotaExceeded`, `DiskFull`, `TooLarge`, `Poisoned`: the bytes were not taken.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> { todo!() }
    /// Appends at the present end, atomically among handles; returns where.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn append(&self, bytes: &[u8]) -> Result<u64, StoreError> { todo!() }
    /// Cuts or extends (with a hole).
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn truncate(&self, size: u64) -> Result<(), StoreError> { todo!() }
    /// Commits all that was written so far (CLOSE, fsync): content, references, mtime (now, unless set by the client
    /// since the last write) and the record in one transaction. The store fills the record's bytes and content hash.
    /// Nothing dirty: the record alone.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`.
    pub fn commit(&self, completion: Completion, audit: RecordDraft) -> Result<Pending<()>, StoreError> { todo!() }
    /// Whether anything is written and not yet committed.
    pub fn is_dirty(&self) -> bool { todo!() }
}

/// What must hold about the target when an upload commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Anything.
    None,
    /// No entry of that name.
    Absent,
    /// An entry whose content is still this one.
    Content(ContentId),
}

/// An upload that becomes visible in one step. Dropped without commit it leaves nothing but dead staged frames.
#[derive(Debug)]
pub struct Upload {
    _private: (),
}

#[allow(unused_variables, reason = "signatures")]
impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> { todo!() }
    /// Bytes taken so far.
    pub fn size(&self) -> u64 { todo!() }
    /// Makes it the content of `name`: replaces the content of an existing file (same inode, old content to history) or
    /// creates one. Returns the inode.
    ///
    /// # Errors
    /// `Changed` when the precondition does not hold; `IsADirectory`; `NotFound` for the parent; as `write`.
    pub fn commit(self, parent: InodeId, name: &[u8], precondition: Precondition, attributes: &AttributeChange, audit: RecordDraft)
        -> Result<Pending<InodeId>, StoreError> { todo!() }
}
