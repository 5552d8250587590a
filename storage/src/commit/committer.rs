//! The thread that makes batches durable, one after the other (see the module's doc for the order of truth).

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use minicbor::{Decode, Encode};

use super::ahead::ZerosAhead;
use super::gather::{Gather, Hope};
use super::log_state::{Life, OpenBatch, Writing};
use super::sequence::Sequence;
use super::{Inner, lock};
use crate::aead::TAG_BYTES;
use crate::audit::writer::{AuditPosition, AuditWriter, Signed};
use crate::blob::Blob;
use crate::buffer::AlignedBuffer;
use crate::error::StoreError;
use crate::id::{BatchNumber, CommitNumber, PackId, RecordNumber};
use crate::index::{Change, Table, keep_last};
use crate::limits::{
    AUDIT_CHECKPOINT_SECS, BLOCK_BYTES, CHECKPOINT_BYTES, CHECKPOINT_SECS, CUSTOMER_CHECKPOINT_SECS,
    UNAPPLIED_CHANGES_MAX, UNAWAITED_MILLIS_MAX,
};
use crate::log::batch::{BatchKey, BatchPlace, Meta, finish};
use crate::log::pack::{PackFooter, PackHeader, blob_name};
use crate::time::UnixNanos;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Row of `Table::Store`: how far the index is complete without the log.
pub(crate) const POSITION_KEY: &[u8] = b"position";

/// How far the index is complete without the log.
#[derive(Clone, Debug, Default, Encode, Decode)]
pub(crate) struct Position {
    #[n(0)]
    pub(crate) pack: u64,
    #[n(1)]
    pub(crate) offset: u64,
    #[n(2)]
    pub(crate) batch: u64,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) tag: [u8; TAG_BYTES],
    #[n(4)]
    pub(crate) last_commit: u64,
    #[n(5)]
    pub(crate) last_time: i64,
    #[n(6)]
    pub(crate) last_number: u64,
    #[n(7)]
    pub(crate) audit: AuditPosition,
    /// Where the last batch begins, in the pack of `pack`.
    #[n(8)]
    pub(crate) last_begin: Option<u64>,
}

/// Row of `Table::Packs`.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub(crate) struct PackRow {
    /// The pack's salt, kept even when the pack is gone: frames that moved need it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) salt: [u8; 32],
    /// When it was emptied: it waits for its grace time.
    #[n(1)]
    pub(crate) condemned: Option<UnixNanos>,
    /// When it was given up: its file is gone, or about to be.
    #[n(2)]
    pub(crate) removed: Option<UnixNanos>,
    /// Something in it is not what was written.
    #[n(3)]
    pub(crate) damage: Option<PackDamage>,
}

impl PackRow {
    /// Whether what is damaged in it is known, and set aside.
    pub(crate) fn is_settled(&self) -> bool {
        self.damage.is_some_and(|damage| damage.settled.is_some())
    }
}

/// What is known of a damaged pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PackDamage {
    /// When it was found, and an incident raised.
    #[n(0)]
    pub(crate) found: UnixNanos,
    /// When everything in it that could not be read was set aside.
    #[n(1)]
    pub(crate) settled: Option<UnixNanos>,
}

/// Row of `Table::PackCounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PackCountRow {
    /// Bytes of its frames that chunks refer to.
    #[n(0)]
    pub(crate) live: u64,
}

/// The pack that is being written.
#[derive(Debug)]
pub(super) struct OpenPack {
    pub(super) header: PackHeader,
    pub(super) blob: Arc<dyn Blob>,
    pub(super) key: BatchKey,
    pub(super) batches: u64,
    pub(super) last: BatchNumber,
    ahead: ZerosAhead,
}

impl OpenPack {
    /// Makes a pack: its header is durable when this returns.
    pub(super) fn create(
        inner_blobs: &dyn crate::blob::BlobStore,
        packs: &crate::keys::Secret32,
        pack: PackId,
        bytes: u64,
    ) -> Result<Self, std::io::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| std::io::Error::other("no randomness available"))?;
        let header = PackHeader { pack, salt };
        let blob = inner_blobs.create(&blob_name(pack), bytes)?;
        let written = blob.write_at(0, &header.encode(packs)).and_then(|()| blob.sync());
        if let Err(error) = written {
            // Nothing is in it: a file without a header would only disturb the next start.
            drop(inner_blobs.remove(&blob_name(pack)));
            return Err(error);
        }
        let key = BatchKey::new(&header.batch_key(packs));
        Ok(Self { header, blob, key, batches: 0, last: BatchNumber(0), ahead: ZerosAhead::new(bytes) })
    }

    /// Closes it: footer behind the last batch, rest given back.
    pub(super) fn close(&self, packs: &crate::keys::Secret32, end: u64) -> std::io::Result<()> {
        let footer = PackFooter { pack: self.header.pack, end, batches: self.batches, last: self.last };
        self.blob.write_at(end, &footer.encode(packs, &self.header.salt))?;
        self.blob.sync()?;
        self.blob.set_len(end + BLOCK)
    }
}

#[expect(clippy::struct_excessive_bools, reason = "what is unsynced and what changed are two facts")]
pub(super) struct Committer {
    pub(super) inner: Arc<Inner>,
    pub(super) pack: Option<OpenPack>,
    pub(super) audit: AuditWriter,
    /// Where the log stands: the index does too, once it has taken `unapplied`.
    pub(super) position: Position,
    /// Changes of batches that are durable, which the index takes many at a time.
    pub(super) unapplied: Vec<Change>,
    pub(super) synced_through: BatchNumber,
    pub(super) unsynced: bool,
    pub(super) bytes_since: u64,
    pub(super) changed: bool,
    pub(super) last_checkpoint: Instant,
    pub(super) last_signed: Instant,
    pub(super) last_signed_all: Instant,
    pub(super) spare: Option<AlignedBuffer>,
    pub(super) gather: Gather,
    /// How many waited for the open batch when the one before was answered.
    pub(super) early: usize,
    /// For whom the open batch is held open, and until when.
    pub(super) hope: Option<(Hope, Instant)>,
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Work {
    /// A batch, and its meta section.
    Write(OpenBatch, Vec<u8>),
    Checkpoint,
    Room,
    Stop,
}

impl Committer {
    pub(super) fn run(mut self) {
        loop {
            let outcome = match self.next_work() {
                Work::Write(batch, meta) => self.write(batch, meta),
                Work::Checkpoint => self.checkpoint(false),
                Work::Room => {
                    self.find_room();
                    Ok(())
                }
                Work::Stop => {
                    self.stop();
                    return;
                }
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "the store stops: writing the log failed");
                self.poison();
                return;
            }
        }
    }

    fn checkpoint_due(&self, asked: bool) -> bool {
        asked
            || self.bytes_since >= CHECKPOINT_BYTES
            || (self.changed && self.last_checkpoint.elapsed() >= Duration::from_secs(CHECKPOINT_SECS))
    }

    /// Waits for something to do.
    fn next_work(&mut self) -> Work {
        let inner = Arc::clone(&self.inner);
        let mut state = inner.log.lock();
        loop {
            if state.life == Life::Abandoned {
                return Work::Stop;
            }
            let asked = state.checkpoints_wanted > state.checkpoints_done;
            let stopping = state.life == Life::Stopping;
            let target = inner.log.target();
            match state.open.as_ref() {
                None => return if stopping { Work::Stop } else { Work::Room },
                Some(open) => {
                    let close = open.bytes() >= target
                        || (state.close_wanted && open.has_payload())
                        || ((stopping || asked) && !open.is_idle());
                    // Somebody needs more room than an empty batch has left here: move on.
                    if close || state.room_wanted > open.room {
                        return self.take(&mut state);
                    }
                    if open.rest().is_some_and(|rest| rest.is_zero()) {
                        let Some((others, longest)) = self.hope_for_others(open.waiting) else {
                            return self.take(&mut state);
                        };
                        state.hoped = others;
                        state = inner.log.sleep(state, longest);
                        continue;
                    }
                    state.close_wanted = false;
                }
            }
            if stopping {
                return Work::Stop;
            }
            if self.checkpoint_due(asked) {
                return Work::Checkpoint;
            }
            // Nobody tells of transactions that are not waited for: looking this often, none is found too late.
            let rest = state.open.as_ref().and_then(OpenBatch::rest);
            let longest = rest.unwrap_or(Duration::from_millis(UNAWAITED_MILLIS_MAX));
            state = inner.log.sleep(state, longest);
        }
    }

    /// How many are to wait for the batch before it is closed, and how long it stays open for them.
    fn hope_for_others(&mut self, waiting: usize) -> Option<(usize, Duration)> {
        if self.hope.is_none() {
            let hope = self.gather.hope(std::mem::take(&mut self.early))?;
            self.hope = Some((hope, Instant::now() + hope.longest));
        }
        let (hope, until) = self.hope?;
        let longest = until.saturating_duration_since(Instant::now());
        if waiting < hope.waiting && !longest.is_zero() {
            return Some((hope.waiting, longest));
        }
        self.gather.ended(hope, waiting);
        None
    }

    /// Takes the open batch and, where the pack has room for another, opens that one at once.
    fn take(&mut self, state: &mut super::log_state::LogState) -> Work {
        let Some(mut batch) = state.open.take() else { return Work::Room };
        batch.meta.sequence = batch.sequence.last_number;
        batch.meta.time = batch.sequence.last_time;
        let encoded = batch.meta.encode();
        let frames_bytes = batch.buffer.len() - crate::log::batch::HEADER_BYTES;
        let blocks = crate::log::batch::blocks_for(frames_bytes, encoded.len()) as u64;
        let (used, wanted) = (blocks * BLOCK, state.room_wanted);
        let left = batch.room.saturating_sub(used);
        let enough =
            (self.inner.log.target() as u64 + 64 * BLOCK).min(self.inner.options.pack_bytes / 4).max(wanted);
        if left >= enough {
            let buffer = self
                .spare
                .take()
                .unwrap_or_else(|| AlignedBuffer::with_capacity(self.inner.log.target() + (1 << 20)));
            let number = BatchNumber(batch.number.0 + 1);
            let sequence = batch.sequence.clone();
            state.open =
                Some(OpenBatch::new(number, batch.pack, batch.offset + used, left, buffer, sequence));
            state.room_wanted = 0;
            state.last_number = number;
        }
        state.close_wanted = false;
        (self.hope, self.early, state.hoped) = (None, 0, 0);
        state.sealing = Some((batch.pack, batch.offset));
        Work::Write(batch, encoded)
    }

    fn write(&mut self, mut batch: OpenBatch, encoded: Vec<u8>) -> Result<(), StoreError> {
        let (cells, waiting) = (std::mem::take(&mut batch.cells), batch.waiting);
        let outcome = self.write_batch(batch, encoded, !cells.is_empty());
        self.early = self.inner.log.lock().open.as_ref().map_or(0, |open| open.waiting);
        if let Ok(sync) = &outcome {
            self.gather.answered(waiting, *sync);
        }
        let outcome = outcome.map(drop);
        for cell in cells {
            cell.complete(outcome.clone());
        }
        outcome?;
        self.inner.log.room.notify_all();
        if self.unapplied.len() >= UNAPPLIED_CHANGES_MAX {
            self.apply()?;
        }
        if self.inner.log.lock().open.is_none() {
            self.move_on(self.position.offset)?;
        }
        let asked = {
            let state = self.inner.log.lock();
            state.checkpoints_wanted > state.checkpoints_done
                && state.open.as_ref().is_none_or(OpenBatch::is_idle)
        };
        if self.checkpoint_due(asked) { self.checkpoint(false) } else { Ok(()) }
    }

    /// Writes a batch, and tells how long its sync took.
    fn write_batch(
        &mut self,
        batch: OpenBatch,
        encoded: Vec<u8>,
        must_sync: bool,
    ) -> Result<Duration, StoreError> {
        let OpenBatch { number, pack: pack_id, offset, mut buffer, meta, sequence, .. } = batch;
        let pack = self.pack.as_mut().ok_or(StoreError::Poisoned)?;
        let place = BatchPlace {
            pack: pack_id,
            offset,
            number,
            previous: self.position.tag,
            synced_through: self.synced_through,
            last_commit: CommitNumber(sequence.last_commit),
        };
        let tag = finish(&pack.key, &place, &mut buffer, encoded).ok_or(StoreError::Randomness)?;
        let len = buffer.len();
        buffer.pad_to(len + pack.ahead.behind(offset, len));
        let buffer = Arc::new(buffer);
        {
            let mut state = self.inner.log.lock();
            state.writing = Some(Writing { pack: pack_id, offset, buffer: Arc::clone(&buffer) });
            state.sealing = None;
        }
        self.inner.log.room.notify_all();
        pack.blob.write_at(offset, buffer.bytes())?;
        let end = offset + len as u64;
        pack.batches += 1;
        pack.last = number;
        self.unsynced = true;
        self.bytes_since += len as u64;
        self.position.pack = pack_id.0;
        self.position.offset = end;
        self.position.last_begin = Some(offset);
        self.position.batch = number.0;
        self.position.tag = tag;
        let mut took = Duration::ZERO;
        if must_sync {
            let begin = Instant::now();
            pack.blob.sync()?;
            took = begin.elapsed();
            self.unsynced = false;
            self.synced_through = number;
        }
        self.note(meta, &sequence);
        {
            let mut state = self.inner.log.lock();
            state.writing = None;
        }
        if let Ok(buffer) = Arc::try_unwrap(buffer) {
            self.spare = Some(buffer);
        }
        Ok(took)
    }

    /// Takes note of what a batch that is in the log made true.
    fn note(&mut self, meta: Meta, sequence: &Sequence) {
        self.changed |= !meta.changes.is_empty() || !meta.records.is_empty();
        self.unapplied.extend(meta.changes);
        self.inner.counts.apply(&meta.deltas);
        for (at, record) in meta.records.iter().enumerate() {
            self.audit.append(RecordNumber(meta.first_record + at as u64), record);
        }
        self.position.last_commit = self.position.last_commit.max(sequence.last_commit);
        self.position.last_time = self.position.last_time.max(sequence.last_time);
        self.position.last_number = self.position.last_number.max(sequence.last_number);
    }

    /// Gives the index what it has not taken yet: of many batches at once, the last change of each key only.
    fn apply(&mut self) -> Result<(), StoreError> {
        if !self.unapplied.is_empty() {
            keep_last(&mut self.unapplied);
            self.inner.index.apply(&self.unapplied)?;
            self.inner.overlay.applied(&self.unapplied, BatchNumber(self.position.batch));
            self.unapplied.clear();
        }
        Ok(())
    }

    /// Closes the full pack; a new one is found by `find_room`.
    fn move_on(&mut self, end: u64) -> Result<(), StoreError> {
        if let Some(pack) = self.pack.take() {
            pack.close(&self.inner.packs_key, end)?;
            // Whoever staged frames in it looked at the index before now.
            lock(&self.inner.closed).insert(pack.header.pack, self.inner.epochs.now());
            self.unsynced = false;
            self.synced_through = self.synced_through.max(pack.last);
        }
        self.find_room();
        Ok(())
    }

    /// Makes the next pack and opens a batch in it; without room for one, says so to whoever asks.
    fn find_room(&mut self) {
        if self.pack.is_some() && self.inner.log.lock().open.is_some() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let next = PackId(inner.current.read().unwrap_or_else(PoisonError::into_inner).0.0 + 1);
        match OpenPack::create(inner.options.blobs.as_ref(), &inner.packs_key, next, inner.options.pack_bytes)
        {
            Ok(pack) => {
                let header = pack.header.clone();
                let row = inner.pack_row(&header);
                inner.salts.write().unwrap_or_else(PoisonError::into_inner).insert(next, header.salt);
                *inner.current.write().unwrap_or_else(PoisonError::into_inner) = (next, header.salt);
                self.pack = Some(pack);
                let buffer = self
                    .spare
                    .take()
                    .unwrap_or_else(|| AlignedBuffer::with_capacity(inner.log.target() + (1 << 20)));
                let room = inner.options.pack_bytes - 3 * BLOCK;
                let sequence = Sequence {
                    last_commit: self.position.last_commit,
                    last_time: self.position.last_time,
                    last_number: self.position.last_number,
                    next_record: 0,
                };
                let number = BatchNumber(self.position.batch + 1);
                let mut open = OpenBatch::new(number, next, BLOCK, room, buffer, sequence);
                open.add_changes(row.into_iter().collect());
                let mut state = inner.log.lock();
                state.open = Some(open);
                state.full = false;
                state.room_wanted = 0;
                state.last_number = number;
            }
            Err(error) => {
                tracing::warn!(%error, "no room for another pack");
                let mut state = inner.log.lock();
                state.full = true;
                inner.log.room.notify_all();
                drop(inner.log.sleep(state, Duration::from_secs(CHECKPOINT_SECS)));
            }
        }
        inner.log.room.notify_all();
        inner.look_at_free_space();
    }

    fn checkpoint(&mut self, at_end: bool) -> Result<(), StoreError> {
        let (wanted, asked) = {
            let mut state = self.inner.log.lock();
            (state.checkpoints_wanted, std::mem::take(&mut state.signatures_wanted))
        };
        self.apply()?;
        if self.unsynced
            && let Some(pack) = &self.pack
        {
            pack.blob.sync()?;
            self.unsynced = false;
            self.synced_through = BatchNumber(self.position.batch);
        }
        self.position.audit = self.audit.flush()?;
        // Signed before the position, which tells how much of the signed notes must be there from now on.
        if at_end || asked || self.last_signed_all.elapsed() >= Duration::from_secs(CUSTOMER_CHECKPOINT_SECS)
        {
            self.sign(Signed::All)?;
        } else if self.last_signed.elapsed() >= Duration::from_secs(AUDIT_CHECKPOINT_SECS) {
            self.sign(Signed::System)?;
        }
        let mut row = Vec::new();
        minicbor::encode(&self.position, &mut row).map_err(|_| StoreError::TooLarge("the position"))?;
        let sealed = self.inner.system_key.seal(Table::Store, POSITION_KEY, &row)?;
        let mut changes = self.inner.counts.changed_rows(&self.inner.system_key)?;
        changes.extend(self.audit.changed_trees(&self.inner.system_key)?);
        changes.push(Change { table: Table::Store, key: POSITION_KEY.to_vec(), value: Some(sealed) });
        self.inner.index.apply(&changes)?;
        self.inner.index.checkpoint()?;
        self.inner.checkpointed.offer(&self.inner.index, &self.position)?;
        self.bytes_since = 0;
        self.changed = false;
        self.last_checkpoint = Instant::now();
        self.inner.look_at_free_space();
        let mut state = self.inner.log.lock();
        state.checkpoints_done = state.checkpoints_done.max(wanted);
        drop(state);
        self.inner.log.room.notify_all();
        Ok(())
    }

    pub(super) fn sign(&mut self, signed: Signed) -> Result<(), StoreError> {
        let now = self.inner.options.clock.now();
        self.audit.sign_checkpoint(CommitNumber(self.position.last_commit), now, signed)?;
        self.position.audit = self.audit.position();
        self.inner.notes_bytes.store(self.position.audit.notes_bytes, std::sync::atomic::Ordering::Release);
        self.inner
            .customer_notes_bytes
            .store(self.position.audit.customer_notes_bytes, std::sync::atomic::Ordering::Release);
        self.last_signed = Instant::now();
        if signed == Signed::All {
            self.last_signed_all = self.last_signed;
        }
        Ok(())
    }

    fn stop(&mut self) {
        if self.inner.log.lock().life == Life::Abandoned {
            self.poison();
            return;
        }
        let closed = self.checkpoint(true).and_then(|()| {
            let end = self.position.offset.max(BLOCK);
            match self.pack.take() {
                // A pack of which nothing was used leaves nothing.
                Some(pack) if pack.batches == 0 => Ok(pack.close(&self.inner.packs_key, BLOCK)?),
                Some(pack) => Ok(pack.close(&self.inner.packs_key, end)?),
                None => Ok(()),
            }
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the store did not close cleanly; it recovers when it is opened again");
            self.poison();
        }
        self.inner.log.room.notify_all();
    }

    /// Refuses everything from now on and tells whoever waits.
    fn poison(&mut self) {
        let mut state = self.inner.log.lock();
        state.poisoned = true;
        state.sealing = None;
        state.writing = None;
        let open = state.open.take();
        drop(state);
        for cell in open.into_iter().flat_map(|open| open.cells) {
            cell.complete(Err(StoreError::Poisoned));
        }
        self.inner.log.room.notify_all();
    }
}

impl Inner {
    /// The index row of a pack.
    pub(super) fn pack_row(&self, header: &PackHeader) -> Option<Change> {
        let mut row = Vec::new();
        let fresh = PackRow { salt: header.salt, condemned: None, removed: None, damage: None };
        minicbor::encode(fresh, &mut row).ok()?;
        let key = header.pack.0.to_be_bytes().to_vec();
        let value = self.system_key.seal(Table::Packs, &key, &row).ok()?;
        Some(Change { table: Table::Packs, key, value: Some(value) })
    }

    /// Content is refused while less than the reserve is free, so that operators can still work.
    pub(super) fn look_at_free_space(&self) {
        if let Ok(free) = self.options.blobs.free_bytes() {
            self.disk_full.store(free < self.options.reserve_bytes, std::sync::atomic::Ordering::Relaxed);
        }
        // A pack that failed halfway may have left a stale handle.
        lock(&self.handles).retain(|_, blob| blob.len().is_ok());
    }
}
