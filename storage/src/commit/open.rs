//! Making and opening a store: lock, format, key, replay of the log after the checkpoint.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::cache::ChunkCache;
use super::committer::{Committer, OpenPack, POSITION_KEY, PackRow, Position};
use super::counts::PackCounts;
use super::epochs::Epochs;
use super::export::CheckpointView;
use super::gather::Gather;
use super::log_state::{LogShared, OpenBatch};
use super::overlay::Overlay;
use super::sequence::Sequence;
use super::{IndexChoice, Inner, Store, StoreOptions, lock, upgrade};
use crate::audit::customer::CustomerTrees;
use crate::audit::verify::trees_over;
use crate::audit::writer::{AuditPosition, AuditWriter, Signed};
use crate::audit::{Action, Actor, RecordDraft, checkpoint};
use crate::buffer::AlignedBuffer;
use crate::error::StoreError;
use crate::frame::NonceSequence;
use crate::id::{BatchNumber, CommitNumber, PackId, RecordNumber};
use crate::index::redb::RedbIndex;
use crate::index::{Change, IndexError, SharedIndex, Table, keep_last};
use crate::keys::{GatewayKey, GatewayLabel, Secret32};
use crate::limits::{
    BLOCK_BYTES, CHUNK_CACHE_BYTES, EXTENTS_UNSAVED_MAX, JOURNAL_BYTES_MAX, PACK_BYTES, REPLAY_CHANGES_MAX,
    SETTLE_CHUNKS, UNSAVED_BYTES_ALL,
};
use crate::log::pack::{HeaderError, VERSION, blob_name};
use crate::log::walk::{PackReader, packs};
use crate::quota::Quotas;
use crate::record::RecordKey;
use crate::unsaved::Unsaved;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Row of `Table::Store`, in clear: format version, then a value that proves the gateway key.
pub(crate) const FORMAT_KEY: &[u8] = b"format";
const INDEX_FILE: &str = "index.redb";
const LOCK_FILE: &str = "lock";
/// How far behind a damaged batch an authentic one is looked for: no batch is longer.
const LOOK_AHEAD_BYTES: u64 = JOURNAL_BYTES_MAX as u64 + 32 * 1024 * 1024;

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
    /// A pack that is needed to bring the index forward is gone.
    #[error("pack {pack} is missing, and the index cannot be brought forward without it")]
    PackMissing {
        /// Which.
        pack: PackId,
    },
    /// Packs, index or both are older copies of themselves.
    #[error(
        "the store was set back: transaction {signed} was durable once, packs and index end at {found}; put the newest \
         copies of both in place"
    )]
    RolledBack {
        /// The newest transaction that is there.
        found: CommitNumber,
        /// The newest one that is known to have been.
        signed: CommitNumber,
    },
    /// The index is damaged.
    #[error("the index is damaged: {0}")]
    IndexDamaged(&'static str),
    /// The audit segments do not fit the log.
    #[error("the audit log is damaged: {0}")]
    AuditDamaged(std::io::Error),
    /// The operating system failed.
    #[error("opening the store failed: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::InUse => Self::InUse,
            IndexError::Unusable(why) => Self::IndexDamaged(why),
            error @ IndexError::Backend(_) => Self::Store(error.into()),
        }
    }
}

impl StoreOptions {
    pub(crate) fn redb_path(&self) -> std::path::PathBuf {
        self.directory.join(INDEX_FILE)
    }

    /// The directory's lock: for as long as the file is open nobody else serves it.
    pub(crate) fn take_lock(&self) -> Result<Option<fs::File>, OpenError> {
        if matches!(self.index, IndexChoice::Given(_)) {
            return Ok(None);
        }
        let path = self.directory.join(LOCK_FILE);
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse),
            Err(error) => Err(OpenError::Io(error.into())),
        }
    }

    pub(crate) fn open_index(&self) -> Result<SharedIndex, OpenError> {
        match &self.index {
            IndexChoice::Given(index) => Ok(Arc::clone(index)),
            IndexChoice::Redb if !self.redb_path().exists() => Err(OpenError::Absent),
            IndexChoice::Redb => Ok(Arc::new(RedbIndex::open(&self.redb_path())?)),
        }
    }
}

impl Store {
    /// Makes an empty store: index, first pack, empty audit log.
    ///
    /// # Errors
    /// `Present`; the operating system's.
    pub fn create(options: &StoreOptions) -> Result<(), OpenError> {
        let mut held = None;
        if matches!(options.index, IndexChoice::Redb) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.directory)?;
            held = options.take_lock()?;
            if options.redb_path().exists() {
                // A crash between the rename and the format row left an index that nobody ever used.
                let index = RedbIndex::open(&options.redb_path())?;
                if crate::index::Index::snapshot(&index)?.get(Table::Store, FORMAT_KEY)?.is_some() {
                    return Err(OpenError::Present);
                }
            } else {
                RedbIndex::create(&options.redb_path())?;
            }
        }
        let index = options.open_index()?;
        if index.snapshot()?.get(Table::Store, FORMAT_KEY)?.is_some() {
            return Err(OpenError::Present);
        }
        index.apply(&[format_row(&options.gateway_key)])?;
        index.checkpoint()?;
        drop(held);
        Ok(())
    }

    /// Opens a store: locks the directory, opens the index, replays the log after the checkpoint, closes the old open
    /// pack, starts the committer.
    ///
    /// # Errors
    /// [`OpenError`].
    #[expect(
        clippy::too_many_lines,
        reason = "one order from the lock to the first record; cutting it would hide it"
    )]
    pub fn open(mut options: StoreOptions) -> Result<Self, OpenError> {
        options.pack_bytes = options.pack_bytes.min(PACK_BYTES);
        options.settle_chunks = options.settle_chunks.min(SETTLE_CHUNKS);
        if matches!(options.index, IndexChoice::Redb) && !options.redb_path().exists() {
            return Err(OpenError::Absent);
        }
        let held = options.take_lock()?;
        let index = options.open_index()?;
        let format = check_format(&options, &index)?;
        let system_key = RecordKey::new(&options.gateway_key.derive(GatewayLabel::Records));
        let packs_key = options.gateway_key.derive(GatewayLabel::Packs);
        let position = read_position(&index, &system_key)?;
        let seed = options.gateway_key.derive(GatewayLabel::AuditSigning);
        let trees = customer_trees(&options, &index, &system_key, &position.audit)?;
        let audit = AuditWriter::open(Arc::clone(&options.blobs), &seed, position.audit.clone(), trees)
            .map_err(OpenError::AuditDamaged)?;
        let counts = PackCounts::load(index.snapshot()?.as_ref(), &system_key)?
            .ok_or(OpenError::IndexDamaged("a pack's count does not open"))?;
        let mut replay = Replay {
            options: &options,
            packs_key: &packs_key,
            index: &index,
            audit,
            position,
            changes: Vec::new(),
            salts: HashMap::new(),
            counts,
        };
        replay.read_salts(&system_key)?;
        replay.refuse_older_packs()?;
        let newest = replay.run()?;
        replay.refuse_older_store()?;
        // What lies behind the position in the audit log has come again, from here on it is written anew.
        replay.audit.cut().map_err(OpenError::AuditDamaged)?;
        if format < VERSION {
            upgrade::from_format_1(&index, &options.gateway_key, &system_key, &replay.counts)?;
            index.apply(&[format_row(&options.gateway_key)])?;
        }
        let Replay { audit, position, mut salts, counts, .. } = replay;

        let pack =
            OpenPack::create(options.blobs.as_ref(), &packs_key, PackId(newest.0 + 1), options.pack_bytes)
                .map_err(|error| {
                    if error.kind() == std::io::ErrorKind::StorageFull {
                        StoreError::DiskFull.into()
                    } else {
                        OpenError::Io(error)
                    }
                })?;
        salts.insert(pack.header.pack, pack.header.salt);
        let sequence = Sequence {
            last_commit: position.last_commit,
            last_time: position.last_time,
            last_number: position.last_number,
            next_record: audit.next_number().0,
        };
        let number = BatchNumber(position.batch + 1);
        let buffer = AlignedBuffer::with_capacity(crate::limits::BATCH_BYTES_TARGET + (1 << 20));
        let room = options.pack_bytes - 3 * BLOCK;
        let open = OpenBatch::new(number, pack.header.pack, BLOCK, room, buffer, sequence.clone());
        let signing_public = checkpoint::public_key(&seed).ok_or(StoreError::Randomness)?;
        let pack_bytes = options.pack_bytes;
        let inner = Arc::new(Inner {
            audit_details: RecordKey::new(&options.gateway_key.derive(GatewayLabel::AuditDetails)),
            packs_key,
            system_key,
            signing_public,
            index,
            overlay: Overlay::default(),
            counts,
            epochs: Arc::new(Epochs::default()),
            closed: Mutex::default(),
            packs_held: Arc::default(),
            reclaiming: Mutex::default(),
            reclaim_awaited: AtomicU64::new(0),
            repairing: Mutex::default(),
            locks: Arc::default(),
            audit_records: AtomicU64::new(sequence.next_record),
            notes_bytes: AtomicU64::new(0),
            customer_notes_bytes: AtomicU64::new(0),
            last_commit: AtomicU64::new(sequence.last_commit),
            last_time: AtomicI64::new(sequence.last_time),
            sequence: Mutex::new(sequence),
            log: Arc::new(LogShared::new(open, pack_bytes)),
            nonces: NonceSequence::start().map_err(StoreError::from)?,
            current: RwLock::new((pack.header.pack, pack.header.salt)),
            salts: RwLock::new(salts),
            frame_keys: Mutex::default(),
            handles: Mutex::default(),
            cache: ChunkCache::new(CHUNK_CACHE_BYTES),
            unsaved_bytes: Unsaved::new(UNSAVED_BYTES_ALL),
            unsaved_extents: Unsaved::new(EXTENTS_UNSAVED_MAX),
            quotas: Arc::new(Quotas::default()),
            vaults: Mutex::default(),
            disk_full: AtomicBool::new(false),
            checkpointed: CheckpointView::default(),
            exporting: Mutex::new(()),
            committer: Mutex::new(None),
            _lock: held,
            options,
        });
        if let (Some(row), Some(open)) = (inner.pack_row(&pack.header), inner.log.lock().open.as_mut()) {
            open.add_changes(vec![row]);
        }
        let mut committer = Committer {
            inner: Arc::clone(&inner),
            pack: Some(pack),
            audit,
            synced_through: BatchNumber(position.batch),
            position,
            unapplied: Vec::new(),
            unsynced: false,
            bytes_since: 0,
            changed: true,
            last_checkpoint: Instant::now(),
            last_signed: Instant::now(),
            last_signed_all: Instant::now(),
            spare: None,
            gather: Gather::default(),
            early: 0,
            hope: None,
        };
        // What a crash left unsigned is signed before anything new comes.
        committer.audit.flush().map_err(StoreError::from)?;
        committer.sign(Signed::All)?;
        inner.look_at_free_space();
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run())?;
        *lock(&inner.committer) = Some(thread);
        let store = Self { inner };
        store.load_usage()?;
        store.record(RecordDraft::new(Actor::System, Action::StoreOpen))?.wait()?;
        Ok(store)
    }

    /// Stops at once, as a crash would: nothing is finished, nothing is signed. For tests.
    pub fn abandon(&self) {
        self.inner.log.abandon();
        if let Some(committer) = lock(&self.inner.committer).take() {
            drop(committer.join());
        }
        lock(&self.inner.vaults).clear();
    }
}

pub(crate) fn format_row(gateway_key: &GatewayKey) -> Change {
    let mut row = VERSION.to_le_bytes().to_vec();
    row.extend_from_slice(gateway_key.derive(GatewayLabel::KeyCheck).expose());
    Change { table: Table::Store, key: FORMAT_KEY.to_vec(), value: Some(row) }
}

/// The format that an index was written in, if its key is ours and we know it.
fn check_format(options: &StoreOptions, index: &SharedIndex) -> Result<u32, OpenError> {
    let row = index.snapshot()?.get(Table::Store, FORMAT_KEY)?.ok_or(OpenError::Absent)?;
    let (version, check) =
        row.split_first_chunk::<4>().ok_or(OpenError::IndexDamaged("its format row is short"))?;
    let found = u32::from_le_bytes(*version);
    if found > VERSION {
        return Err(OpenError::NewerFormat { found, known: VERSION });
    }
    if found == 0 {
        return Err(OpenError::IndexDamaged("its format is none that ever was"));
    }
    let expected = options.gateway_key.derive(GatewayLabel::KeyCheck);
    if bool::from(subtle::ConstantTimeEq::ct_eq(check, expected.expose().as_slice())) {
        Ok(found)
    } else {
        Err(OpenError::WrongKey)
    }
}

/// The customers' trees as of a position. A store that kept none begins them with the oldest record that is there.
fn customer_trees(
    options: &StoreOptions,
    index: &SharedIndex,
    system_key: &RecordKey,
    position: &AuditPosition,
) -> Result<CustomerTrees, OpenError> {
    let Some(from) = position.trees_from else {
        return trees_over(options.blobs.as_ref(), position).map_err(OpenError::AuditDamaged);
    };
    let rows = index.snapshot()?.range(Table::AuditTrees, &[], &[0xff; 17], usize::MAX)?;
    let damaged = OpenError::IndexDamaged("the edge of a customer's audit tree does not open");
    CustomerTrees::open(from, rows, system_key).ok_or(damaged)
}

fn read_position(index: &SharedIndex, system_key: &RecordKey) -> Result<Position, OpenError> {
    let Some(sealed) = index.snapshot()?.get(Table::Store, POSITION_KEY)? else {
        return Ok(Position::default());
    };
    let damaged = || OpenError::IndexDamaged("its log position does not open");
    let row = system_key.open(Table::Store, POSITION_KEY, &sealed).ok_or_else(damaged)?;
    minicbor::decode(&row).map_err(|_| damaged())
}

struct Replay<'o> {
    options: &'o StoreOptions,
    packs_key: &'o Secret32,
    index: &'o SharedIndex,
    audit: AuditWriter,
    position: Position,
    /// Changes of batches that were read, not yet in the index: it takes many at once far faster.
    changes: Vec<Change>,
    salts: HashMap<PackId, [u8; 32]>,
    counts: PackCounts,
}

impl Replay<'_> {
    /// Salts of packs that are known, gone ones included.
    fn read_salts(&mut self, system_key: &RecordKey) -> Result<(), OpenError> {
        for (key, sealed) in self.index.snapshot()?.range(Table::Packs, &[], &[0xff; 9], usize::MAX)? {
            let damaged = || OpenError::IndexDamaged("a pack's row does not open");
            let row = system_key.open(Table::Packs, &key, &sealed).ok_or_else(damaged)?;
            let row: PackRow = minicbor::decode(&row).map_err(|_| damaged())?;
            let id = u64::from_be_bytes(key.as_slice().try_into().map_err(|_| damaged())?);
            self.salts.insert(PackId(id), row.salt);
        }
        Ok(())
    }

    /// The index knows the last batch that it holds. When the log has none there, or another one, its packs are older than
    /// the index. (A damaged one is found by `check`; the index does not need it.)
    fn refuse_older_packs(&self) -> Result<(), OpenError> {
        let (pack, position) = (PackId(self.position.pack), &self.position);
        if position.batch == 0 {
            return Ok(());
        }
        let blobs = self.options.blobs.as_ref();
        let reader = match PackReader::open(blobs, self.packs_key, pack) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpenError::PackMissing { pack });
            }
            Err(error) => return Err(error.into()),
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(reader)) => reader,
        };
        let Some(begin) = position.last_begin else { return Ok(()) };
        let is_older = match reader.header_at(begin)? {
            Some((_, tag)) => tag != position.tag,
            None => reader.ends_before(self.packs_key, begin)?,
        };
        if is_older {
            // What is there ends before that batch, which held the last transaction or came after it.
            let signed = CommitNumber(position.last_commit);
            return Err(OpenError::RolledBack { found: reader.last_commit_before(begin)?, signed });
        }
        Ok(())
    }

    /// The audit log was signed with the number of the newest transaction, after it was durable in the log.
    fn refuse_older_store(&self) -> Result<(), OpenError> {
        let found = CommitNumber(self.position.last_commit);
        let signed = self.audit.newest_signed().map_err(OpenError::AuditDamaged)?;
        match signed {
            Some(note) if note.commit > found || note.size > self.audit.next_number().0 => {
                Err(OpenError::RolledBack { found, signed: note.commit })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Replays every pack from the position on and closes those left open. Returns the newest pack.
    fn run(&mut self) -> Result<PackId, OpenError> {
        let newest = self.replay_packs()?;
        self.apply()?;
        Ok(newest)
    }

    fn apply(&mut self) -> Result<(), OpenError> {
        keep_last(&mut self.changes);
        self.index.apply(&self.changes)?;
        self.changes.clear();
        Ok(())
    }

    fn replay_packs(&mut self) -> Result<PackId, OpenError> {
        let blobs = self.options.blobs.as_ref();
        let all = packs(blobs)?;
        let newest = all.last().copied().unwrap_or(PackId(0)).max(PackId(self.position.pack));
        let todo: Vec<_> = all.into_iter().filter(|pack| pack.0 >= self.position.pack).collect();
        for (at, &pack) in todo.iter().enumerate() {
            let reader = match PackReader::open(blobs, self.packs_key, pack)? {
                Ok(reader) => reader,
                Err(HeaderError::Newer(found)) => {
                    return Err(OpenError::NewerFormat { found, known: VERSION });
                }
                // The newest pack may be one that was being made: then it never held a batch.
                Err(HeaderError::Damaged) if at + 1 == todo.len() && pack.0 != self.position.pack => {
                    blobs.remove(&blob_name(pack))?;
                    return Ok(PackId(newest.0));
                }
                Err(HeaderError::Damaged) => return Err(OpenError::LogDamaged { pack, offset: 0 }),
            };
            self.salts.insert(pack, reader.header.salt);
            let before = if at == 0 { PackId(self.position.pack) } else { todo[at - 1] };
            self.refuse_gap(&reader, before)?;
            self.replay_pack(&reader, todo.get(at + 1..).unwrap_or_default())?;
        }
        Ok(newest)
    }

    /// A pack whose first batch is not the next one follows on packs that are gone.
    fn refuse_gap(&self, reader: &PackReader, before: PackId) -> Result<(), OpenError> {
        let pack = reader.header.pack;
        if pack.0 == self.position.pack || before.0 + 1 >= pack.0 {
            return Ok(());
        }
        match reader.header_at(BLOCK)? {
            Some((header, _)) if header.number.0 > self.position.batch + 1 => {
                Err(OpenError::PackMissing { pack: PackId(before.0 + 1) })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn replay_pack(&mut self, reader: &PackReader, later: &[PackId]) -> Result<(), OpenError> {
        let pack = reader.header.pack;
        let mut offset = if pack.0 == self.position.pack { self.position.offset.max(BLOCK) } else { BLOCK };
        let mut batches = 0;
        loop {
            let expected = BatchNumber(self.position.batch + 1);
            match reader.batch_at(offset)? {
                Some(batch)
                    if batch.header.number == expected && batch.header.previous == self.position.tag =>
                {
                    self.changes.extend(batch.meta.changes);
                    if self.changes.len() > REPLAY_CHANGES_MAX {
                        self.apply()?;
                    }
                    self.counts.apply(&batch.meta.deltas);
                    for (at, record) in batch.meta.records.iter().enumerate() {
                        let number = RecordNumber(batch.meta.first_record + at as u64);
                        if number == self.audit.next_number() {
                            self.audit.append(number, record);
                        } else if number > self.audit.next_number() {
                            return Err(OpenError::LogDamaged { pack, offset });
                        }
                    }
                    self.position.pack = pack.0;
                    self.position.last_begin = Some(offset);
                    self.position.offset = batch.end;
                    self.position.batch = expected.0;
                    self.position.tag = batch.tag;
                    self.position.last_commit = self.position.last_commit.max(batch.header.last_commit.0);
                    self.position.last_time = self.position.last_time.max(batch.meta.time);
                    self.position.last_number = self.position.last_number.max(batch.meta.sequence);
                    offset = batch.end;
                    batches += 1;
                }
                _ => break,
            }
        }
        if reader.footer_at(self.packs_key, offset)?.is_some() {
            // A crash may have come between the footer and giving the rest back.
            if reader.bytes > offset + BLOCK {
                reader.blob.set_len(offset + BLOCK)?;
            }
            return Ok(());
        }
        // Cut to its footer after that was durable, so the footer is damaged: `check` tells; healing it would hide it. (A
        // pack is never so full that it could look like this without having been closed.)
        if reader.bytes == offset + BLOCK {
            return Ok(());
        }
        // Here the log ends, torn or not; unless something that came later was built on what is missing.
        let missing = BatchNumber(self.position.batch + 1);
        if reader.proves_durable(missing, offset, LOOK_AHEAD_BYTES)? {
            return Err(OpenError::LogDamaged { pack, offset });
        }
        for &after in later {
            if let Ok(next) = PackReader::open(self.options.blobs.as_ref(), self.packs_key, after)?
                && next.proves_durable(missing, BLOCK, BLOCK)?
                && next.header_at(BLOCK)?.is_some_and(|(header, _)| header.number > missing)
            {
                return Err(OpenError::LogDamaged { pack, offset });
            }
        }
        let footer = crate::log::pack::PackFooter {
            pack,
            end: offset,
            batches,
            last: BatchNumber(self.position.batch),
        };
        reader.blob.write_at(offset, &footer.encode(self.packs_key, &reader.header.salt))?;
        reader.blob.sync()?;
        reader.blob.set_len(offset + BLOCK)?;
        Ok(())
    }
}
