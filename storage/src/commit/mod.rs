//! The store: transactions over the index, staged frames, one committer that makes batches durable.
//!
//! A [`Txn`] holds the store's one writer lock while it reads and decides. Submitting it gives its changes to the open
//! batch and to the overlay (so that every later read sees them) and releases the lock. The committer closes a batch when
//! somebody waits for a ticket in it and the previous sync has returned (a little later, when those who were answered then
//! are likely to come back in time: `gather`), at `BATCH_BYTES_TARGET`, or `UNAWAITED_MILLIS_MAX` after its first
//! transaction when nobody waits; it writes it, syncs once and completes the tickets. The index takes the changes of many
//! batches at once, without a sync, and the overlay drops them then.
//!
//! Order of truth: log, then acknowledgement, then index. What is durable is always a beginning of what was submitted, so
//! whoever waits for one ticket has all earlier ones too. A write or sync error poisons the store, whether anybody waits or
//! not.

mod ahead;
mod cache;
mod cell;
mod committer;
mod counts;
mod epochs;
mod export;
mod extent;
mod frames;
mod gather;
mod log_state;
mod open;
mod overlay;
mod sequence;
mod ticket;
mod txn;
mod upgrade;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use crate::audit::verify::{Against, Kept, verify_against};
use crate::audit::{RecordDraft, VerifyReport};
use crate::blob::BlobStore;
use crate::error::StoreError;
use crate::frame::{FrameKey, NonceSequence};
use crate::id::{ChunkId, CommitNumber, PackId, VaultId};
use crate::index::{Entries, Index, SharedIndex, Table};
use crate::keys::{GatewayKey, GatewayLabel, Secret32, VaultKeys};
use crate::quota::Quotas;
use crate::record::RecordKey;
use crate::rows::{ChunkRow, chunk_key, decode};
use crate::time::{Clock, UnixNanos};
use crate::unsaved::Unsaved;

use cache::ChunkCache;
pub(crate) use committer::{POSITION_KEY, PackCountRow, PackDamage, PackRow, Position};
use counts::PackCounts;
pub(crate) use epochs::Epoch;
use epochs::{Epochs, Look};
use export::CheckpointView;
pub(crate) use export::EXPORT_KEY;
pub use export::{ExportRow, ExportSummary};
pub use extent::DurableExtent;
use log_state::LogShared;
pub use open::OpenError;
pub(crate) use open::{FORMAT_KEY, format_row};
use overlay::Overlay;
use sequence::Sequence;
pub use ticket::{Pending, Ticket};
pub use txn::Txn;

/// Which index a store uses.
#[derive(Debug, Clone)]
pub enum IndexChoice {
    /// redb in the store's directory.
    Redb,
    /// One that the caller made (tests).
    Given(Arc<dyn Index>),
}

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Directory of `index.redb`, `lock`; packs and audit segments are reached through `blobs`.
    pub directory: PathBuf,
    /// Packs (`packs/…`) and audit segments (`audit/…`).
    pub blobs: Arc<dyn BlobStore>,
    /// The index.
    pub index: IndexChoice,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The key all managed keys stand under.
    pub gateway_key: GatewayKey,
    /// Bytes of one pack, `limits::PACK_BYTES` unless a test wants small ones; never more.
    pub pack_bytes: u64,
    /// New chunks of one open file after which they are stored before its commit, `limits::SETTLE_CHUNKS` unless a test wants
    /// few; never more.
    pub settle_chunks: usize,
    /// Bytes that stay free on the disk: below, content is refused with `DiskFull`.
    pub reserve_bytes: u64,
}

/// The store. Cheap to clone; [`Store::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(..)")
    }
}

/// A vault that somebody opened: one object for all. The store keeps it without knowing what it is.
#[derive(Debug)]
pub(crate) struct OpenedVault {
    pub(crate) keys: Arc<VaultKeys>,
    pub(crate) vault: Arc<dyn std::any::Any + Send + Sync>,
    /// Only of a vault that its customer holds.
    pub(crate) unlocked: Option<Unlocked>,
}

/// For how long a customer-held vault is unlocked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unlocked {
    pub(crate) until: UnixNanos,
    /// It is being locked: nobody gets it any more.
    pub(crate) closing: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    options: StoreOptions,
    packs_key: Secret32,
    system_key: RecordKey,
    audit_details: RecordKey,
    signing_public: [u8; 32],
    index: SharedIndex,
    overlay: Overlay,
    counts: PackCounts,
    epochs: Arc<Epochs>,
    /// Packs that this process closed, and when among the looks at the index.
    closed: Mutex<std::collections::BTreeMap<PackId, Look>>,
    /// Those who copy packs: meanwhile none is unlinked.
    packs_held: Arc<AtomicU64>,
    /// Held by a pass of reclaim.
    reclaiming: Mutex<()>,
    reclaim_awaited: AtomicU64,
    /// Held by a repair: it corrects by differences, so two at once would correct twice.
    repairing: Mutex<()>,
    sequence: Mutex<Sequence>,
    log: Arc<LogShared>,
    nonces: NonceSequence,
    /// The pack whose salt new frames use.
    current: RwLock<(PackId, [u8; 32])>,
    salts: RwLock<std::collections::HashMap<PackId, [u8; 32]>>,
    frame_keys: Mutex<std::collections::HashMap<(VaultId, PackId), Arc<FrameKey>>>,
    handles: Mutex<std::collections::HashMap<PackId, Arc<dyn crate::blob::Blob>>>,
    cache: ChunkCache,
    unsaved_bytes: Arc<Unsaved>,
    unsaved_extents: Arc<Unsaved>,
    quotas: Arc<Quotas>,
    pub(crate) vaults: Mutex<std::collections::HashMap<VaultId, OpenedVault>>,
    /// Locks of all open vaults.
    pub(crate) locks: Arc<AtomicU64>,
    audit_records: AtomicU64,
    notes_bytes: AtomicU64,
    customer_notes_bytes: AtomicU64,
    last_commit: AtomicU64,
    last_time: AtomicI64,
    disk_full: AtomicBool,
    checkpointed: CheckpointView,
    /// Held while the index is written into the log.
    exporting: Mutex<()>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the store is open.
    _lock: Option<std::fs::File>,
}

/// As long as this lives, no pack is unlinked.
#[derive(Debug)]
pub struct PacksHeld(Arc<AtomicU64>);

impl Drop for PacksHeld {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens one value as of now (overlay, then index).
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub fn get(&self, key: &RecordKey, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let opened = |sealed: &[u8]| key.open(table, at, sealed).ok_or(StoreError::DamagedRecord);
        match self.inner.overlay.get(table, at) {
            Some(None) => Ok(None),
            Some(Some(sealed)) => opened(&sealed).map(Some),
            None => self.inner.index.snapshot()?.get(table, at)?.map(|sealed| opened(&sealed)).transpose(),
        }
    }

    /// What is known of a chunk as of now.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub(crate) fn chunk(&self, keys: &VaultKeys, chunk: ChunkId) -> Result<Option<ChunkRow>, StoreError> {
        let at = chunk_key(keys.vault, chunk);
        match self.inner.overlay.get(Table::Chunks, &at) {
            Some(None) => Ok(None),
            Some(Some(sealed)) => self.open_chunk(keys, &at, &sealed).map(Some),
            None => {
                let found = self.inner.index.snapshot()?.get(Table::Chunks, &at)?;
                found.map(|sealed| self.open_chunk(keys, &at, &sealed)).transpose()
            }
        }
    }

    /// Opens a chunk's row. Format 1 sealed it for its vault; since then it is the system's, so that packs are reclaimed
    /// without any vault's key.
    pub(crate) fn open_chunk(
        &self,
        keys: &VaultKeys,
        at: &[u8],
        sealed: &[u8],
    ) -> Result<ChunkRow, StoreError> {
        let opened = self.inner.system_key.open(Table::Chunks, at, sealed);
        let opened = opened.or_else(|| keys.records.open(Table::Chunks, at, sealed));
        decode(&opened.ok_or(StoreError::DamagedRecord)?)
    }

    /// As [`Store::get`], of several keys at once.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_many(
        &self,
        key: &RecordKey,
        table: Table,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        // The overlay first: what it drops meanwhile is in the index by then.
        let pending = self.inner.overlay.get_many(table, keys);
        let stored = self.inner.index.snapshot()?.get_many(table, keys)?;
        let now = pending.into_iter().zip(stored).map(|(pending, stored)| match pending {
            Some(changed) => changed.map(|sealed| sealed.to_vec()),
            None => stored,
        });
        let opened = |(at, sealed): (&Vec<u8>, Option<Vec<u8>>)| {
            sealed.map(|sealed| key.open(table, at, &sealed).ok_or(StoreError::DamagedRecord)).transpose()
        };
        keys.iter().zip(now).map(opened).collect()
    }

    /// Up to `max` opened entries with `from <= key < to`, in key order, as of now.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub fn range(
        &self,
        key: &RecordKey,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Entries, StoreError> {
        // The overlay first: what it drops meanwhile is in the index by then.
        let pending = self.inner.overlay.range(table, from, to);
        self.merged_range(
            key,
            table,
            (from, to),
            max,
            pending.into_iter().map(|(at, value)| (at, value.map(|v| v.to_vec()))).collect(),
        )
    }

    /// As [`Store::range`], as they are stored.
    pub(crate) fn sealed_range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Entries, StoreError> {
        let pending = self.inner.overlay.range(table, from, to);
        let pending = pending.into_iter().map(|(at, value)| (at, value.map(|v| v.to_vec()))).collect();
        self.merged_sealed_range(table, (from, to), max, pending)
    }

    fn merged_range(
        &self,
        key: &RecordKey,
        table: Table,
        range: (&[u8], &[u8]),
        max: usize,
        pending: std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<Entries, StoreError> {
        self.merged_sealed_range(table, range, max, pending)?
            .into_iter()
            .map(|(at, sealed)| {
                let value = key.open(table, &at, &sealed).ok_or(StoreError::DamagedRecord)?;
                Ok((at, value))
            })
            .collect()
    }

    fn merged_sealed_range(
        &self,
        table: Table,
        (from, to): (&[u8], &[u8]),
        max: usize,
        pending: std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<Entries, StoreError> {
        // A deleted entry hides one of the index: ask for as many more.
        let stored =
            self.inner.index.snapshot()?.range(table, from, to, max.saturating_add(pending.len()))?;
        let exhausted = stored.len() < max.saturating_add(pending.len());
        let last = stored.last().map(|(at, _)| at.clone());
        let mut merged: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (at, value) in pending {
            match value {
                // Beyond what the index gave, entries of the index could be missing between.
                Some(value) if exhausted || last.as_ref().is_some_and(|last| at <= *last) => {
                    drop(merged.insert(at, value));
                }
                Some(_) => {}
                None => drop(merged.remove(&at)),
            }
        }
        Ok(merged.into_iter().take(max).collect())
    }

    /// The key of system tables (`Store, Customers, Users, Credentials, Vaults, Packs, Usage, Incidents`).
    pub fn system_key(&self) -> &RecordKey {
        &self.inner.system_key
    }

    /// The gateway key that the store was opened with.
    pub fn gateway_key(&self) -> &GatewayKey {
        &self.inner.options.gateway_key
    }

    /// Seals details of audit records that belong to no vault.
    pub fn audit_details_key(&self) -> &RecordKey {
        &self.inner.audit_details
    }

    /// The key that verifies audit checkpoints.
    pub fn audit_public_key(&self) -> [u8; 32] {
        self.inner.signing_public
    }

    /// Packs and audit segments.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.inner.options.blobs
    }

    pub(crate) fn settle_chunks(&self) -> usize {
        self.inner.options.settle_chunks
    }

    pub(crate) fn packs_key(&self) -> &Secret32 {
        &self.inner.packs_key
    }

    /// The newest transaction.
    pub(crate) fn last_commit(&self) -> CommitNumber {
        CommitNumber(self.inner.last_commit.load(Ordering::Acquire))
    }

    /// The last number that the sequence gave.
    pub(crate) fn last_number(&self) -> u64 {
        lock(&self.inner.sequence).last_number
    }

    /// The time of the newest transaction.
    pub(crate) fn last_time(&self) -> UnixNanos {
        UnixNanos(self.inner.last_time.load(Ordering::Acquire))
    }

    /// Notes that somebody works with what the index says from now on: look at it after this.
    pub(crate) fn epoch(&self) -> Epoch {
        self.inner.epochs.enter(self.last_commit())
    }

    /// The oldest look at the index that somebody still works with; the present when nobody does.
    pub(crate) fn oldest_epoch(&self) -> CommitNumber {
        let now = self.last_commit();
        self.inner.epochs.oldest().map_or(now, |oldest| oldest.min(now))
    }

    /// Whether a pack is closed: its bytes do not change any more.
    pub(crate) fn is_closed(&self, pack: PackId) -> bool {
        pack < self.inner.current.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a pack is closed, and everybody gone who may have staged frames in it and not yet committed them.
    pub(crate) fn is_settled(&self, pack: PackId) -> bool {
        let current = self.inner.current.read().unwrap_or_else(PoisonError::into_inner).0;
        let closed = lock(&self.inner.closed).get(&pack).copied();
        pack < current && closed.is_none_or(|then| self.inner.epochs.all_gone_before(then))
    }

    /// Bytes of a pack's frames that chunks refer to, as of the last applied batch.
    pub(crate) fn live_bytes(&self, pack: PackId) -> u64 {
        self.inner.counts.live(pack)
    }

    /// Lets go of what is kept of a pack that is about to be unlinked. Its salt stays: frames that moved need it.
    pub(crate) fn forget_pack(&self, pack: PackId) {
        lock(&self.inner.handles).remove(&pack);
        lock(&self.inner.closed).remove(&pack);
    }

    /// Forgets a vault's keys and chunks.
    pub(crate) fn forget_vault(&self, id: VaultId) {
        if let Some(opened) = lock(&self.inner.vaults).remove(&id) {
            opened.keys.retire();
        }
        lock(&self.inner.frame_keys).retain(|(vault, _), _| *vault != id);
        self.inner.cache.forget(id);
    }

    /// The seed of the key that signs audit checkpoints and certificates.
    pub(crate) fn signing_seed(&self) -> Secret32 {
        self.inner.options.gateway_key.derive(GatewayLabel::AuditSigning)
    }

    /// Closes the open pack and waits for the next one, which it returns.
    ///
    /// # Errors
    /// `Poisoned`, `DiskFull`.
    pub(crate) fn next_pack(&self) -> Result<PackId, StoreError> {
        let now = || self.inner.current.read().unwrap_or_else(PoisonError::into_inner).0;
        let present = now();
        self.inner.log.move_on(|| now() != present)?;
        Ok(now())
    }

    /// One pass of reclaim at a time.
    pub(crate) fn wait_for_reclaim(&self) -> MutexGuard<'_, ()> {
        self.inner.reclaim_awaited.fetch_add(1, Ordering::SeqCst);
        let turn = lock(&self.inner.reclaiming);
        self.inner.reclaim_awaited.fetch_sub(1, Ordering::SeqCst);
        turn
    }

    /// One repair at a time.
    pub(crate) fn wait_for_repair(&self) -> MutexGuard<'_, ()> {
        lock(&self.inner.repairing)
    }

    /// Whether somebody waits for the present pass of reclaim to end.
    pub fn is_reclaim_awaited(&self) -> bool {
        self.inner.reclaim_awaited.load(Ordering::SeqCst) > 0
    }

    /// Keeps every pack on the disk for as long as the guard lives.
    pub fn hold_packs(&self) -> PacksHeld {
        self.inner.packs_held.fetch_add(1, Ordering::SeqCst);
        PacksHeld(Arc::clone(&self.inner.packs_held))
    }

    pub(crate) fn packs_are_held(&self) -> bool {
        self.inner.packs_held.load(Ordering::SeqCst) > 0
    }

    /// One value as it is stored.
    pub(crate) fn sealed(&self, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.inner.overlay.get(table, at) {
            Some(known) => Ok(known.map(|sealed| sealed.to_vec())),
            None => Ok(self.inner.index.snapshot()?.get(table, at)?),
        }
    }

    pub(crate) fn index(&self) -> &SharedIndex {
        &self.inner.index
    }

    /// Records an access that changes nothing (login, download, refusal).
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn record(&self, record: RecordDraft) -> Result<Pending<()>, StoreError> {
        let opened =
            record.vault.and_then(|vault| Some(Arc::clone(&lock(&self.inner.vaults).get(&vault)?.keys)));
        let mut txn = self.begin()?;
        txn.audit(record, opened.as_ref().map(|keys| &keys.audit));
        Ok(Pending { value: (), ticket: txn.submit()? })
    }

    /// Bytes that open files hold and have not staged.
    pub(crate) fn unsaved_bytes(&self) -> &Arc<Unsaved> {
        &self.inner.unsaved_bytes
    }

    /// Extents that open files hold and have not stored.
    pub(crate) fn unsaved_extents(&self) -> &Arc<Unsaved> {
        &self.inner.unsaved_extents
    }

    /// The store's time.
    pub fn clock_now(&self) -> UnixNanos {
        self.inner.options.clock.now()
    }

    /// Bytes of signed notes that are durable: over all records, or over single customers'.
    pub fn durable_notes(&self, of_customers: bool) -> u64 {
        let bytes = if of_customers { &self.inner.customer_notes_bytes } else { &self.inner.notes_bytes };
        bytes.load(Ordering::Acquire)
    }

    /// The counters of bytes per owner.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.inner.quotas
    }

    /// Figures for the operator.
    pub fn status(&self) -> StoreStatus {
        let packs = crate::log::walk::packs(self.inner.options.blobs.as_ref()).map_or(0, |packs| packs.len());
        StoreStatus {
            commit_number: lock(&self.inner.sequence).last_commit,
            batch_number: self.inner.log.batch_number().0,
            packs: packs as u64,
            audit_records: self.inner.audit_records.load(Ordering::Relaxed),
            free_bytes: self.inner.options.blobs.free_bytes().unwrap_or(0),
            poisoned: self.inner.log.is_poisoned(),
        }
    }

    /// Makes everything durable, checkpoints the index, signs an audit checkpoint, closes the pack, stops the committer.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn shutdown(&self) -> Result<(), StoreError> {
        self.inner.log.ask_to_stop();
        if let Some(committer) = lock(&self.inner.committer).take() {
            committer.join().map_err(|_| StoreError::Poisoned)?;
        }
        // Vaults point back at the store: let go of each other.
        lock(&self.inner.vaults).clear();
        if self.inner.log.is_poisoned() { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    /// Verifies the audit log of the open store: what was laid out by the last checkpoint.
    ///
    /// # Errors
    /// Reading failed.
    pub fn verify_audit(&self) -> Result<VerifyReport, StoreError> {
        self.verify_audit_against(Vec::new())
    }

    /// As [`Store::verify_audit`], and against checkpoints that were kept elsewhere.
    ///
    /// # Errors
    /// Reading failed.
    pub fn verify_audit_against(&self, kept: Vec<Kept>) -> Result<VerifyReport, StoreError> {
        let _held = self.hold_packs();
        let (_, position) = self.checkpoint_view()?;
        let against = Against { until: Some(&position.audit), kept };
        Ok(verify_against(self.inner.options.blobs.as_ref(), &self.inner.signing_public, against)?)
    }

    /// Makes everything submitted so far durable and signs the audit log's trees, the system's and the customers'.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn sign_audit(&self) -> Result<(), StoreError> {
        self.inner.log.sign_now()
    }

    /// Makes everything submitted so far durable, checkpoints the index and lays the audit records out.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.inner.log.checkpoint_now()
    }
}
