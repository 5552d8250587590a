//! A vault: one encrypted tree of inodes and dentries with its history.
//!
//! Reads see every submitted change at once. A mutation returns a [`Pending`](crate::Pending): visible now, durable (with its audit
//! record) when its ticket says so; only then may it be acknowledged to a client.

mod accounting;
mod bearer;
pub(crate) mod change;
mod copy_out;
pub mod digest;
mod held;
mod incident;
mod listing;
pub mod lock;
mod operations;
mod parts;
pub(crate) mod past;
mod restore;
mod retention;
mod slots;
mod snapshot;
#[expect(
    clippy::cast_possible_truncation,
    reason = "offsets inside a run, chunk or segment fit; memory has 64 bits"
)]
pub mod upload;
mod vault;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use crate::allowance::Allowance;
use crate::commit::Store;
use crate::error::StoreError;
use crate::frame::{Compression, FramePlace};
use crate::id::{ChunkId, ContentId, InodeId, OwnerId, VaultId};
use crate::keys::VaultKeys;
use crate::record::RecordKey;
pub use crate::rows::IncidentKind;
use crate::rows::InodeRow;
pub use crate::rows::Kind;
use crate::time::UnixNanos;
pub use accounting::Allowed;
pub use incident::{Incident, IncidentDraft};
pub use past::PastVault;
use past::View;
pub use restore::RestoreReport;
pub use retention::{HoldRecord, RetentionState};
pub use slots::{Held, SlotRecord, SlotsError};
pub use snapshot::SnapshotRecord;
use upload::{Claims, FileState, OpenFile, Tense, Upload};
pub use vault::NewVault;

/// What `stat` shows.
#[expect(clippy::struct_excessive_bools, reason = "facts of their own")]
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
    /// Identity of the content: changes with every committed content, survives renames and attribute changes. An `ETag`.
    pub content: ContentId,
    /// BLAKE3 (unkeyed) of the whole file when it was streamed in order.
    pub blake3: Option<[u8; 32]>,
    /// An upload broke off before its CLOSE.
    pub incomplete: bool,
    /// It has properties worth asking for.
    pub has_properties: bool,
}

/// Properties of an inode: opaque name -> opaque value.
pub type Properties = BTreeMap<Vec<u8>, Vec<u8>>;

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

/// One line of a directory, with the properties of what it leads to.
pub type DescribedEntry = (Entry, Properties);

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
    /// Bytes of distinct chunks, those of history too.
    pub unique_bytes: u64,
    /// Bytes that they take in packs.
    pub stored_bytes: u64,
    /// Whether content written from now on is compressed.
    pub compression: Compression,
    /// When it was erased: only its name is left.
    pub erased: Option<UnixNanos>,
    /// Whether the gateway holds its key.
    pub managed: bool,
    /// Its limits.
    pub allowance: Allowance,
}

/// An open vault. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    inner: Arc<VaultInner>,
    /// In whose hands.
    bearer: Option<Arc<bearer::Bearer>>,
    /// Through which directory an inode was reached that is changed.
    within: Option<InodeId>,
}

#[derive(Debug)]
struct VaultInner {
    store: Store,
    owner: OwnerId,
    keys: Arc<VaultKeys>,
    /// Files that somebody has open.
    open: Mutex<HashMap<InodeId, Weak<FileState>>>,
    /// Files of the past that somebody has open.
    past: Mutex<Vec<Weak<FileState>>>,
    /// Inodes whose history is not pruned, and by how many.
    kept: Mutex<HashMap<InodeId, usize>>,
    /// Held by whoever looks up what it then keeps; alone by a step of pruning.
    pruning: RwLock<()>,
    /// Moments that were looked at lately, the last one last.
    views: Mutex<Vec<Arc<View>>>,
    /// Whether chunks are compressed from now on.
    compressed: AtomicBool,
    /// It is being erased: nothing is changed any more.
    closed: AtomicBool,
    /// Segments of uploads under way.
    claims: Arc<Claims>,
    /// Its locks.
    locks: held::HeldLocks,
}

/// An inode whose history is not pruned as long as this lives.
#[derive(Debug)]
pub(crate) struct Kept {
    vault: Vault,
    inode: InodeId,
}

impl Kept {
    pub(crate) fn inode(&self) -> InodeId {
        self.inode
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = self.vault.lock_kept();
        if let Some(count) = kept.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                kept.remove(&self.inode);
            }
        }
    }
}

impl Vault {
    /// Identity.
    pub fn id(&self) -> VaultId {
        self.inner.keys.vault
    }

    /// Who pays for its bytes.
    pub fn owner(&self) -> OwnerId {
        self.inner.owner
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn keys(&self) -> &VaultKeys {
        &self.inner.keys
    }

    /// Seals and opens details of this vault's audit records.
    pub fn audit_key(&self) -> &RecordKey {
        &self.inner.keys.audit
    }

    pub(crate) fn compression(&self) -> Compression {
        if self.inner.compressed.load(Ordering::Relaxed) { Compression::Lz4 } else { Compression::Off }
    }

    pub(crate) fn lock_kept(&self) -> MutexGuard<'_, HashMap<InodeId, usize>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on every change is refused.
    pub(crate) fn close_for_good(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    fn compress(&self, compression: Compression) {
        self.inner.compressed.store(compression == Compression::Lz4, Ordering::Relaxed);
    }

    /// Keeps everybody out who would look up history and go on using it.
    pub(crate) fn pruning_alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.inner.pruning.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_views(&self) -> MutexGuard<'_, Vec<Arc<View>>> {
        self.inner.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register_past(&self, state: &Arc<FileState>) {
        let mut past = self.inner.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|state| state.strong_count() > 0);
        past.push(Arc::downgrade(state));
    }

    /// Keeps an inode's history. Look at it after this, before the guard of the same call goes.
    fn keep(&self, inode: InodeId) -> (Kept, RwLockReadGuard<'_, ()>) {
        let calm = self.inner.pruning.read().unwrap_or_else(PoisonError::into_inner);
        *self.lock_kept().entry(inode).or_default() += 1;
        (Kept { vault: self.clone(), inode }, calm)
    }

    /// Where a chunk that somebody refers to lies.
    pub(crate) fn place(&self, chunk: ChunkId) -> Result<FramePlace, StoreError> {
        let row = self.store().chunk(self.keys(), chunk)?.ok_or(StoreError::DamagedRecord)?;
        match row.damaged {
            None => Ok(row.place),
            Some(_) => Err(StoreError::SetAside { pack: row.place.pack }),
        }
    }

    /// Reads a chunk where it was seen, or where it has moved meanwhile.
    pub(crate) fn read_chunk(&self, chunk: ChunkId, place: &FramePlace) -> Result<Arc<[u8]>, StoreError> {
        self.still_open()?;
        let read = |place: &FramePlace| self.store().read_frame(self.keys(), chunk, place);
        match read(place) {
            Err(StoreError::Damaged { .. }) => match self.place(chunk) {
                Ok(now) if now != *place => read(&now),
                Err(aside @ StoreError::SetAside { .. }) => Err(aside),
                Ok(_) | Err(_) => Err(StoreError::Damaged { pack: place.pack }),
            },
            answered => answered,
        }
    }

    /// Lets handles on which nothing is unsaved look again at the index, so that what they saw need not be kept.
    pub(crate) fn renew_handles(&self) {
        let mut states: Vec<Arc<FileState>> = self.lock_open().values().filter_map(Weak::upgrade).collect();
        let mut past = self.inner.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|state| state.strong_count() > 0);
        states.extend(past.iter().filter_map(Weak::upgrade));
        drop(past);
        for state in states {
            state.renew();
        }
    }

    /// Who may still commit the segments of uploads under way.
    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.inner.claims
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<InodeId, Weak<FileState>>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn opened(&self, inode: InodeId) -> Option<OpenFile> {
        self.lock_open().get(&inode).and_then(Weak::upgrade).map(OpenFile::from_state)
    }

    /// The same of many at once; what is not open is nothing.
    pub(crate) fn opened_of(&self, inodes: impl Iterator<Item = InodeId>) -> Vec<Option<OpenFile>> {
        let open = self.lock_open();
        inodes.map(|inode| open.get(&inode).and_then(Weak::upgrade).map(OpenFile::from_state)).collect()
    }

    /// Forgets an open file: who opens the inode next gets another.
    pub(crate) fn close_registered(&self, inode: InodeId) {
        self.lock_open().remove(&inode);
    }

    /// The open file of an inode, one for all who have it open.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `WrongKind`.
    pub fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        if let Some(found) = self.opened(inode) {
            return Ok(found);
        }
        self.row(inode)?.only_file()?;
        let (kept, _calm) = self.keep(inode);
        let mut open = self.lock_open();
        if let Some(found) = open.get(&inode).and_then(Weak::upgrade) {
            return Ok(OpenFile::from_state(found));
        }
        open.retain(|_, state| state.strong_count() > 0);
        // Read again under the lock: a commit through another handle may have come between.
        let epoch = self.store().epoch();
        let row = self.row(inode)?;
        // It is everybody's, in nobody's hands.
        let vault = Self { inner: Arc::clone(&self.inner), bearer: None, within: None };
        let state = Arc::new(FileState::new(vault, row, Tense::Present, epoch, kept));
        open.insert(inode, Arc::downgrade(&state));
        Ok(OpenFile::from_state(state))
    }

    /// A file as it is committed now, to be read: whatever is written to it later, this stays as it is.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `WrongKind`.
    pub fn open_still(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        self.open_as(inode, || self.row(inode))
    }

    /// A file as a row says, for good.
    fn open_as(
        &self,
        inode: InodeId,
        row: impl FnOnce() -> Result<InodeRow, StoreError>,
    ) -> Result<OpenFile, StoreError> {
        let (kept, calm) = self.keep(inode);
        let epoch = self.store().epoch();
        let row = row()?;
        row.only_file()?;
        let vault = Self { inner: Arc::clone(&self.inner), bearer: None, within: None };
        let state = Arc::new(FileState::new(vault, row, Tense::Past, epoch, kept));
        drop(calm);
        self.register_past(&state);
        Ok(OpenFile::from_state(state))
    }

    /// Starts an upload that becomes a file in one step at its commit (WebDAV PUT).
    ///
    /// # Errors
    /// The store's own errors.
    pub fn begin_upload(&self) -> Result<Upload, StoreError> {
        Ok(Upload::new(self.clone()))
    }

    /// The same where it is known whether it will replace a file, and perhaps how long it will be: room for that is reserved
    /// before the first byte comes.
    ///
    /// # Errors
    /// `QuotaExceeded`; the store's own errors.
    pub fn begin_upload_at(
        &self,
        replaced: Option<InodeId>,
        bytes: Option<u64>,
    ) -> Result<Upload, StoreError> {
        let replaced = match replaced.map(|inode| self.row(inode)).transpose() {
            // Removed meanwhile: its name will be a new one.
            Err(StoreError::NotFound) => None,
            other => other?,
        };
        let mut upload = Upload::new(self.clone());
        upload.expect(replaced.as_ref(), bytes.unwrap_or(0)).map(|()| upload)
    }

    /// Starts an upload that changes a part of a file in one step: it begins with what the file holds, which is told too. It
    /// commits with that as its precondition, or it undoes what came between.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `WrongKind`.
    pub fn begin_edit(&self, inode: InodeId) -> Result<(Upload, ContentId), StoreError> {
        let (kept, _calm) = self.keep(inode);
        let epoch = self.store().epoch();
        let row = self.row(inode)?;
        row.only_file()?;
        Ok((Upload::editing(self.clone(), &row.content, epoch, kept), row.content.id))
    }
}
