//! The store: transactions over the index, staged frames, one committer that makes batches durable.
//!
//! A [`Txn`] holds the store's one writer lock while it reads and decides. Submitting it gives its changes to the open
//! batch and to the overlay (so that every later read sees them) and releases the lock. The committer closes
//! a batch when the previous sync returns or at `BATCH_BYTES_TARGET`, writes it, syncs once, applies its changes to
//! the index without a sync, drops them from the overlay and completes the tickets. Order of truth: log, then index,
//! then acknowledgement. A write or sync error poisons the store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::audit::{RecordDraft, VerifyReport};
use crate::blob::BlobStore;
use crate::error::StoreError;
use crate::id::{ChunkId, CommitNumber, PackId};
use crate::index::Table;
use crate::keys::{GatewayKey, VaultKeys};
use crate::quota::Quotas;
use crate::record::RecordKey;
use crate::time::{Clock, UnixNanos};

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Directory of `index.redb`, `lock`; packs and audit segments are reached through `blobs`.
    pub directory: PathBuf,
    /// Packs (`packs/…`) and audit segments (`audit/…`).
    pub blobs: Arc<dyn BlobStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The key all managed keys stand under.
    pub gateway_key: GatewayKey,
    /// Bytes of one pack, `limits::PACK_BYTES` unless a test wants small ones.
    pub pack_bytes: u64,
    /// Bytes that stay free on the disk: below, content is refused with `DiskFull`.
    pub reserve_bytes: u64,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No store there.
    #[error("no store in this directory; `coffre init` makes one")]
    Absent,
    /// There is one already.
    #[error("this directory already holds a store")]
    Present,
    /// Another process serves it.
    #[error("the data directory is in use by another process")]
    InUse,
    /// Written by a newer version.
    #[error("the store has format {found}, this program knows {known}: use a newer coffre")]
    NewerFormat {
        /// On disk.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The gateway key is not the one it was made with.
    #[error("the gateway key does not belong to this store")]
    WrongKey,
    /// A batch that was acknowledged is damaged: nothing is opened, so that nothing is lost further.
    #[error("the log is damaged in pack {pack} at byte {offset}")]
    LogDamaged {
        /// Where.
        pack: PackId,
        /// Byte offset in it.
        offset: u64,
    },
    /// The index is damaged.
    #[error("the index is damaged: {0}")]
    IndexDamaged(&'static str),
    /// The audit segments do not fit the log.
    #[error("the audit log is damaged: {0}")]
    AuditDamaged(&'static str),
    /// The operating system failed.
    #[error("opening the store failed: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store. Cheap to clone; [`Store::shutdown`] ends it for all clones.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {}

/// Where a frame lies. Stays valid while the pack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FramePlace {
    /// Pack that holds it.
    #[n(0)]
    pub pack: PackId,
    /// Byte offset in it.
    #[n(1)]
    pub offset: u64,
    /// Stored bytes: nonce, ciphertext, tag.
    #[n(2)]
    pub stored_bytes: u32,
    /// Plaintext bytes of the chunk.
    #[n(3)]
    pub plain_bytes: u32,
    /// 0 = stored as is; 1 = lz4 (issue: compression).
    #[n(4)]
    pub codec: u8,
    /// The pack whose salt the frame's key comes from.
    #[n(5)]
    pub salt_of: PackId,
}

/// Durability of one submitted transaction.
#[derive(Debug)]
pub struct Ticket {
    _private: (),
}

impl Ticket {
    /// Waits until it is durable.
    ///
    /// # Errors
    /// `Poisoned` when the log could not be written; `DiskFull`.
    pub fn wait(self) -> Result<CommitNumber, StoreError> { todo!() }
    /// Calls `done` once with the outcome, from the committer's thread (or at once): keep it short.
    pub fn notify(self, _done: Box<dyn FnOnce(Result<CommitNumber, StoreError>) + Send>) { todo!() }
}

/// A change that is visible, and durable once its ticket says so.
#[derive(Debug)]
#[must_use = "acknowledge nothing before the ticket is done"]
pub struct Pending<T> {
    /// What the operation gives.
    pub value: T,
    /// When it is durable.
    pub ticket: Ticket,
}

impl<T> Pending<T> {
    /// Waits, then gives the value.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn wait(self) -> Result<T, StoreError> {
        self.ticket.wait()?;
        Ok(self.value)
    }
}

/// What `coffre status` tells of a store.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// Transactions so far.
    pub commit_number: u64,
    /// Batches so far.
    pub batch_number: u64,
    /// Packs on disk.
    pub packs: u64,
    /// Audit records so far.
    pub audit_records: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// Whether a write error stopped it.
    pub poisoned: bool,
}

#[allow(unused_variables, reason = "signatures")]
impl Store {
    /// Makes an empty store: index, first pack, empty audit log.
    ///
    /// # Errors
    /// `Present`; the operating system's.
    pub fn create(options: &StoreOptions) -> Result<(), OpenError> { todo!() }
    /// Opens a store: locks the directory, opens the index, replays the log after the checkpoint, closes the old open
    /// pack, starts the committer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> { todo!() }
    /// Starts a transaction: waits for the one before to be submitted or dropped.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn begin(&self) -> Result<Txn<'_>, StoreError> { todo!() }
    /// Opens one value as of now (overlay, then index).
    ///
    /// # Errors
    /// `DamagedRecord`, `Io`.
    pub fn get(&self, key: &RecordKey, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> { todo!() }
    /// Up to `max` opened entries with `from <= key < to`, in key order, as of now.
    ///
    /// # Errors
    /// `DamagedRecord`, `Io`.
    pub fn range(&self, key: &RecordKey, table: Table, from: &[u8], to: &[u8], max: usize)
        -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> { todo!() }
    /// The key of system tables (`Store, Customers, Users, Credentials, Vaults, Packs, Usage, Incidents`).
    pub fn system_key(&self) -> &RecordKey { todo!() }
    /// Seals a chunk and appends its frame to the open batch; waits while two batches are full. Readable at once
    /// through [`Store::read_frame`]; durable with any transaction submitted later.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`.
    pub fn stage(&self, keys: &VaultKeys, chunk: ChunkId, plaintext: &[u8]) -> Result<FramePlace, StoreError> { todo!() }
    /// Reads and opens a frame (cache, open batches, packs).
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn read_frame(&self, keys: &VaultKeys, chunk: ChunkId, place: &FramePlace) -> Result<Arc<[u8]>, StoreError> { todo!() }
    /// Whether [`Store::read_frame`] would answer from the cache.
    pub fn is_cached(&self, keys: &VaultKeys, chunk: ChunkId) -> bool { todo!() }
    /// Records an access that changes nothing (login, download, refusal).
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn record(&self, record: RecordDraft) -> Result<Pending<()>, StoreError> { todo!() }
    /// The audit details key of a vault that is open, else nothing.
    pub fn clock_now(&self) -> UnixNanos { todo!() }
    /// The counters of bytes per owner.
    pub fn quotas(&self) -> &Arc<Quotas> { todo!() }
    /// Figures for the operator.
    pub fn status(&self) -> StoreStatus { todo!() }
    /// Makes everything durable, checkpoints the index, signs an audit checkpoint, closes the pack, stops the committer.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn shutdown(&self) -> Result<(), StoreError> { todo!() }
    /// Verifies the audit log of the open store.
    ///
    /// # Errors
    /// Reading failed.
    pub fn verify_audit(&self) -> Result<VerifyReport, StoreError> { todo!() }
}

/// One transaction under the writer lock. Dropped without [`Txn::submit`] it changes nothing.
#[derive(Debug)]
pub struct Txn<'store> {
    _store: &'store Store,
}

#[allow(unused_variables, reason = "signatures")]
impl Txn<'_> {
    /// The number this transaction gets.
    pub fn number(&self) -> CommitNumber { todo!() }
    /// The time of this transaction; strictly increasing from one to the next.
    pub fn time(&self) -> UnixNanos { todo!() }
    /// A fresh number from the store's sequence (inode, content and segment numbers), never given twice.
    pub fn next_number(&mut self) -> u64 { todo!() }
    /// Opens one value; sees this transaction's own changes.
    ///
    /// # Errors
    /// `DamagedRecord`, `Io`.
    pub fn get(&self, key: &RecordKey, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> { todo!() }
    /// As [`Store::range`]; sees this transaction's own changes.
    ///
    /// # Errors
    /// `DamagedRecord`, `Io`.
    pub fn range(&self, key: &RecordKey, table: Table, from: &[u8], to: &[u8], max: usize)
        -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> { todo!() }
    /// Seals and puts a value.
    pub fn put(&mut self, key: &RecordKey, table: Table, at: &[u8], plaintext: &[u8]) { todo!() }
    /// Deletes a key.
    pub fn delete(&mut self, table: Table, at: &[u8]) { todo!() }
    /// Adds an audit record, durable together with the changes. Details are sealed with `details` (the vault's audit
    /// key) or the system's.
    pub fn audit(&mut self, record: RecordDraft, details: Option<&RecordKey>) { todo!() }
    /// Gives the changes to the open batch and to every reader.
    ///
    /// # Errors
    /// `TooLarge`, `DiskFull`, `Poisoned`: nothing changed.
    pub fn submit(self) -> Result<Ticket, StoreError> { todo!() }
}
