//! The one door to files: resolve mount -> permit -> audit -> storage. Every protocol comes through here.
//!
//! Async outside, storage's blocking calls on a bounded pool inside (in place where the answer is in memory). An
//! operation that returned `Ok` is durable together with its audit record.

pub mod error;
pub mod path;

use std::sync::Arc;

use bytes::Bytes;
use coffre_storage::Store;
pub use coffre_storage::id::{ContentId, InodeId};
pub use coffre_storage::time::UnixNanos;
pub use coffre_storage::tree::{AttributeChange, Attributes, Kind, Replace};
pub use coffre_storage::upload::Precondition;
pub use error::VfsError;
pub use path::VaultPath;

use crate::session::SharedSession;

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vfs {
    inner: Arc<VfsInner>,
}

#[derive(Debug)]
struct VfsInner {
    _store: Store,
}

/// One session's view of files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    _vfs: Vfs,
    _session: SharedSession,
}

/// Whether the last component is followed when it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// stat
    Yes,
    /// lstat
    No,
}

/// What an open does with an existing or missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Creation {
    /// It must exist.
    #[default]
    Never,
    /// Created if missing.
    IfMissing,
    /// It must be missing.
    Exclusive,
}

/// How a file is opened (SFTP pflags).
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Cut to zero.
    pub truncate: bool,
    /// About existence.
    pub creation: Creation,
    /// For a created file.
    pub attributes: AttributeChange,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// Name bytes.
    pub name: Vec<u8>,
    /// Attributes (of the link itself for a link; of the mounted directory for a mount point).
    pub attributes: Attributes,
}

/// Figures for statvfs and quota properties.
#[derive(Clone, Copy, Debug)]
pub struct SpaceState {
    /// Bytes in all (the quota, or the disk).
    pub total_bytes: u64,
    /// Bytes still writable here.
    pub free_bytes: u64,
    /// Bytes used by the customer.
    pub used_bytes: u64,
}

#[allow(unused_variables, reason = "signatures")]
impl Vfs {
    /// The door to a store.
    pub fn new(store: Store) -> Self { todo!() }
    /// A session's view.
    pub fn namespace(&self, session: SharedSession) -> Namespace { todo!() }
}

#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
impl Namespace {
    /// Whose.
    pub fn session(&self) -> &SharedSession { todo!() }
    /// Attributes.
    ///
    /// # Errors
    /// [`VfsError`], here and below.
    pub async fn stat(&self, path: &VaultPath, follow: Follow) -> Result<Attributes, VfsError> { todo!() }
    /// Opens or creates a file; the audit record of the open is durable before the first byte is read.
    pub async fn open(&self, path: &VaultPath, options: OpenOptions) -> Result<FileHandle, VfsError> { todo!() }
    /// Opens a directory for listing (mount points below it included).
    pub async fn open_directory(&self, path: &VaultPath) -> Result<DirectoryHandle, VfsError> { todo!() }
    /// mkdir.
    pub async fn make_directory(&self, path: &VaultPath, attributes: AttributeChange) -> Result<(), VfsError> { todo!() }
    /// unlink of a file or link.
    pub async fn remove(&self, path: &VaultPath) -> Result<(), VfsError> { todo!() }
    /// rmdir.
    pub async fn remove_directory(&self, path: &VaultPath) -> Result<(), VfsError> { todo!() }
    /// Removes a file, or a directory and all below it, in one transaction (WebDAV DELETE).
    pub async fn remove_tree(&self, path: &VaultPath) -> Result<(), VfsError> { todo!() }
    /// Moves a name. Across vaults: `CrossDevice`.
    pub async fn rename(&self, from: &VaultPath, to: &VaultPath, replace: Replace) -> Result<(), VfsError> { todo!() }
    /// Copies (content shared inside one vault; across vaults the bytes are copied). `deep`: with everything below.
    pub async fn copy(&self, from: &VaultPath, to: &VaultPath, replace: Replace, deep: bool) -> Result<(), VfsError> { todo!() }
    /// A link's target, as it was given.
    pub async fn read_link(&self, path: &VaultPath) -> Result<Vec<u8>, VfsError> { todo!() }
    /// Makes a symbolic link.
    pub async fn make_link(&self, path: &VaultPath, target: &[u8]) -> Result<(), VfsError> { todo!() }
    /// Adds a name to a file.
    pub async fn hard_link(&self, existing: &VaultPath, path: &VaultPath) -> Result<(), VfsError> { todo!() }
    /// Changes attributes; with `size`, truncates too.
    pub async fn set_attributes(&self, path: &VaultPath, change: AttributeChange, size: Option<u64>, follow: Follow)
        -> Result<(), VfsError> { todo!() }
    /// The path with links resolved and mounts crossed (SFTP REALPATH: the last component may be missing).
    pub async fn real_path(&self, path: &VaultPath) -> Result<VaultPath, VfsError> { todo!() }
    /// Space where `path` lies.
    pub async fn space(&self, path: &VaultPath) -> Result<SpaceState, VfsError> { todo!() }
    /// All properties of an object.
    pub async fn properties(&self, path: &VaultPath) -> Result<std::collections::BTreeMap<Vec<u8>, Vec<u8>>, VfsError> { todo!() }
    /// Sets and removes properties, all or nothing.
    pub async fn set_properties(&self, path: &VaultPath, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), VfsError> { todo!() }
    /// Starts an upload that becomes visible in one step (WebDAV PUT). Policy, parent and quota of `size_hint` bytes are
    /// asked now.
    pub async fn begin_upload(&self, path: &VaultPath, size_hint: Option<u64>) -> Result<UploadHandle, VfsError> { todo!() }
    /// Records a refusal or another event that the protocol saw before it reached an operation.
    pub async fn record(&self, record: coffre_storage::audit::RecordDraft) -> Result<(), VfsError> { todo!() }
}

/// An open file of one session. Dropped without [`FileHandle::close`], what was written is committed as broken.
#[derive(Debug)]
pub struct FileHandle {
    _private: (),
}

#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
impl FileHandle {
    /// Up to `len` bytes at `offset`; empty at the end.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, VfsError> { todo!() }
    /// Writes (at the end in append mode). Back-pressure: returns when the bytes are in the open file.
    pub async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), VfsError> { todo!() }
    /// Attributes now.
    pub async fn attributes(&self) -> Result<Attributes, VfsError> { todo!() }
    /// FSETSTAT.
    pub async fn set_attributes(&self, change: AttributeChange, size: Option<u64>) -> Result<(), VfsError> { todo!() }
    /// fsync: durable when this returns.
    pub async fn sync(&self) -> Result<(), VfsError> { todo!() }
    /// CLOSE: durable when this returns.
    pub async fn close(self) -> Result<(), VfsError> { todo!() }
}

/// An open directory of one session.
#[derive(Debug)]
pub struct DirectoryHandle {
    _private: (),
}

#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
impl DirectoryHandle {
    /// The next up to `max` entries (without `.` and `..`); empty at the end.
    pub async fn next(&mut self, max: usize) -> Result<Vec<DirectoryEntry>, VfsError> { todo!() }
    /// Attributes of the directory itself.
    pub async fn attributes(&self) -> Result<Attributes, VfsError> { todo!() }
}

/// An upload under way. Dropped without [`UploadHandle::commit`], nothing happened.
#[derive(Debug)]
pub struct UploadHandle {
    _private: (),
}

#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
impl UploadHandle {
    /// Takes the next bytes; sealing runs on the pool, one piece ahead.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), VfsError> { todo!() }
    /// Makes it the file, durable when this returns; true when the name is new.
    pub async fn commit(self, precondition: Precondition, attributes: AttributeChange) -> Result<(Attributes, bool), VfsError> { todo!() }
}
