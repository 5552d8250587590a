//! A vault: one encrypted tree of inodes and dentries with its history.
//!
//! Reads see every submitted change at once. A mutation returns a [`Pending`]: visible now, durable (with its audit
//! record) when its ticket says so; only then may it be acknowledged to a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::RecordDraft;
use crate::commit::{Pending, Store};
use crate::error::StoreError;
use crate::id::{ContentId, InodeId, OwnerId, VaultId};
use crate::keys::VaultKeys;
use crate::time::UnixNanos;
use crate::upload::{OpenFile, Upload};

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link: its target is data, resolved by the caller inside the namespace.
    #[n(2)]
    SymbolicLink,
}

/// What `stat` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Identity inside the vault.
    pub inode: InodeId,
    /// Kind.
    pub kind: Kind,
    /// Bytes: of content for a file (open writers included), of the target for a link, 0 for a directory.
    pub size: u64,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner as the client set it; no meaning to us.
    pub uid: u32,
    /// Group as the client set it; no meaning to us.
    pub gid: u32,
    /// Access time as set (reads do not change it).
    pub atime: UnixNanos,
    /// Modification time.
    pub mtime: UnixNanos,
    /// Last change of the inode record.
    pub ctime: UnixNanos,
    /// Names that lead here.
    pub links: u32,
    /// Identity of the content: changes with every committed content, survives renames and attribute changes. An ETag.
    pub content: ContentId,
    /// BLAKE3 (unkeyed) of the whole file when it was streamed in order.
    pub blake3: Option<[u8; 32]>,
    /// An upload broke off before its CLOSE.
    pub incomplete: bool,
}

/// A change of attributes; `None` leaves as is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// Permission bits, 07777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time.
    pub atime: Option<UnixNanos>,
    /// Modification time.
    pub mtime: Option<UnixNanos>,
}

/// One line of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, 1 to 255 bytes.
    pub name: Vec<u8>,
    /// What it leads to.
    pub attributes: Attributes,
}

/// Where a listing goes on. Order is that of the name MACs: stable, meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) [u8; 16]);

/// What a rename does about a taken target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Refuse with `Exists`.
    Never,
    /// POSIX: a file over a file, a directory over an empty directory.
    Posix,
    /// WebDAV `Overwrite: T`: the target and all below it go to history first, in the same transaction.
    Tree,
}

/// A vault's row.
#[derive(Clone, Debug)]
pub struct VaultRecord {
    /// Identity.
    pub id: VaultId,
    /// Who pays for its bytes.
    pub owner: OwnerId,
    /// Its name, unique for its owner.
    pub name: String,
    /// When it was made.
    pub created: UnixNanos,
    /// How long superseded states are kept, seconds.
    pub retention_secs: u64,
    /// Bytes of current files.
    pub used_bytes: u64,
    /// Current files, directories and links.
    pub used_inodes: u64,
}

/// An open vault. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    inner: Arc<VaultInner>,
}

#[derive(Debug)]
struct VaultInner {
    _store: Store,
    _keys: VaultKeys,
}

impl Store {
    /// Creates a vault with a fresh root key in a managed slot.
    ///
    /// # Errors
    /// `Exists` when the owner has a vault of that name; the store's own errors.
    pub fn create_vault(
        &self, _owner: OwnerId, _name: &str, _retention_secs: u64, _audit: RecordDraft,
    ) -> Result<Pending<VaultId>, StoreError> { todo!() }
    /// Every vault.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn vaults(&self) -> Result<Vec<VaultRecord>, StoreError> { todo!() }
    /// Opens a vault; the same object for every caller, so that all see one content for an open file.
    ///
    /// # Errors
    /// `VaultUnavailable`; the store's own errors.
    pub fn vault(&self, _id: VaultId) -> Result<Vault, StoreError> { todo!() }
}

#[allow(unused_variables, reason = "signatures")]
impl Vault {
    /// Identity.
    pub fn id(&self) -> VaultId { todo!() }
    /// The inode that a name leads to.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> { todo!() }
    /// The attributes of an inode; size includes what open writers have written.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn attributes(&self, inode: InodeId) -> Result<Attributes, StoreError> { todo!() }
    /// Up to `max` entries after `cursor`, and where to go on (nothing at the end).
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, directory: InodeId, cursor: Option<Cursor>, max: usize)
        -> Result<(Vec<Entry>, Option<Cursor>), StoreError> { todo!() }
    /// A symbolic link's target.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> { todo!() }
    /// Makes a directory. `attributes.mode` absent means 0755.
    ///
    /// # Errors
    /// `Exists`, `NotFound` or `NotADirectory` for the parent, `InvalidName`.
    pub fn make_directory(&self, parent: InodeId, name: &[u8], attributes: &AttributeChange, audit: RecordDraft)
        -> Result<Pending<InodeId>, StoreError> { todo!() }
    /// Makes an empty file. `attributes.mode` absent means 0644.
    ///
    /// # Errors
    /// As for [`Vault::make_directory`].
    pub fn create_file(&self, parent: InodeId, name: &[u8], attributes: &AttributeChange, audit: RecordDraft)
        -> Result<Pending<InodeId>, StoreError> { todo!() }
    /// Makes a symbolic link to `target`, which is kept as it is.
    ///
    /// # Errors
    /// As for [`Vault::make_directory`]; `TooLarge`.
    pub fn make_link(&self, parent: InodeId, name: &[u8], target: &[u8], audit: RecordDraft)
        -> Result<Pending<InodeId>, StoreError> { todo!() }
    /// Adds a name to a file or link.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `IsADirectory` for a directory as source, `TooLarge`.
    pub fn hard_link(&self, inode: InodeId, parent: InodeId, name: &[u8], audit: RecordDraft)
        -> Result<Pending<()>, StoreError> { todo!() }
    /// Removes a name of a file or link; open handles go on.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn remove(&self, parent: InodeId, name: &[u8], audit: RecordDraft) -> Result<Pending<()>, StoreError> { todo!() }
    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `NotEmpty`.
    pub fn remove_directory(&self, parent: InodeId, name: &[u8], audit: RecordDraft) -> Result<Pending<()>, StoreError> { todo!() }
    /// Removes a name and all below it, as one transaction.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` for a tree whose journal would not fit a batch.
    pub fn remove_tree(&self, parent: InodeId, name: &[u8], audit: RecordDraft) -> Result<Pending<()>, StoreError> { todo!() }
    /// Moves a name, as one transaction. Renaming a file to itself changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`, `InvalidMove`, `InvalidName`.
    pub fn rename(&self, from: (InodeId, &[u8]), to: (InodeId, &[u8]), replace: Replace, audit: RecordDraft)
        -> Result<Pending<()>, StoreError> { todo!() }
    /// Copies a file, link or (with `deep`) a tree under a new name: content is shared, not copied. One transaction.
    ///
    /// # Errors
    /// As for [`Vault::rename`]; `QuotaExceeded`.
    pub fn copy(&self, from: InodeId, to: (InodeId, &[u8]), replace: Replace, deep: bool, audit: RecordDraft)
        -> Result<Pending<InodeId>, StoreError> { todo!() }
    /// Changes attributes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_attributes(&self, inode: InodeId, change: &AttributeChange, audit: RecordDraft)
        -> Result<Pending<()>, StoreError> { todo!() }
    /// All properties of an inode: opaque name -> opaque value.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn properties(&self, inode: InodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> { todo!() }
    /// Sets (`Some`) and removes (`None`) properties, all or nothing.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge`.
    pub fn set_properties(&self, inode: InodeId, changes: &[(Vec<u8>, Option<Vec<u8>>)], audit: RecordDraft)
        -> Result<Pending<()>, StoreError> { todo!() }
    /// The open file of an inode, one for all who have it open.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `WrongKind`.
    pub fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> { todo!() }
    /// Starts an upload that becomes a file in one step at its commit (WebDAV PUT).
    ///
    /// # Errors
    /// The store's own errors.
    pub fn begin_upload(&self) -> Result<Upload, StoreError> { todo!() }
}
