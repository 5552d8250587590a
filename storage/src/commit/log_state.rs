//! What producers and the committer share: the open batch, the batch being written, and who waits for what.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cell::TicketCell;
use super::overlay::Overlay;
use super::sequence::Sequence;
use crate::buffer::AlignedBuffer;
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{BatchNumber, PackId};
use crate::index::Change;
use crate::limits::{BATCH_BYTES_TARGET, BLOCK_BYTES, UNAWAITED_MILLIS_MAX};
use crate::log::batch::{FrameRow, HEADER_BYTES, Meta, blocks_for};

/// Encoded bytes of a frame's row in the meta section, at most.
const FRAME_ROW_BYTES: usize = 128;
/// Encoded bytes that an index change adds to its key and value, at most.
const CHANGE_ROW_BYTES: usize = 24;
/// Encoded bytes of a pack's gain or loss in the meta section, at most.
const DELTA_ROW_BYTES: usize = 24;
/// Encoded bytes of the rest of a meta section, at most.
const META_BYTES: usize = 128;

/// The batch that takes frames and transactions.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) number: BatchNumber,
    pub(super) pack: PackId,
    pub(super) offset: u64,
    /// Bytes of the pack from `offset` on that the batch may fill.
    pub(super) room: u64,
    pub(super) buffer: AlignedBuffer,
    pub(super) meta: Meta,
    pub(super) sequence: Sequence,
    pub(super) cells: Vec<Arc<TicketCell>>,
    /// How many wait for one of the tickets.
    pub(super) waiting: usize,
    /// When it is closed although nobody waits; absent while it holds no transaction.
    due: Option<Instant>,
    meta_bytes: usize,
}

impl OpenBatch {
    pub(super) fn new(
        number: BatchNumber,
        pack: PackId,
        offset: u64,
        room: u64,
        mut buffer: AlignedBuffer,
        sequence: Sequence,
    ) -> Self {
        buffer.clear();
        buffer.pad_to(HEADER_BYTES);
        Self {
            number,
            pack,
            offset,
            room,
            buffer,
            meta: Meta::default(),
            sequence,
            cells: Vec::new(),
            waiting: 0,
            due: None,
            meta_bytes: META_BYTES,
        }
    }

    fn add_cell(&mut self, cell: Arc<TicketCell>) {
        self.cells.push(cell);
        self.due.get_or_insert_with(|| Instant::now() + Duration::from_millis(UNAWAITED_MILLIS_MAX));
    }

    /// Bytes that it will have, about.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.len() + self.meta_bytes
    }

    /// How long it may stay open for more to come; nothing when only its size or a wish ends it.
    pub(super) fn rest(&self) -> Option<Duration> {
        if self.waiting > 0 {
            return Some(Duration::ZERO);
        }
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn fits(&self, frame_bytes: usize, meta_bytes: usize) -> bool {
        let blocks = blocks_for(self.buffer.len() - HEADER_BYTES + frame_bytes, self.meta_bytes + meta_bytes);
        (blocks * BLOCK_BYTES) as u64 <= self.room
    }

    pub(super) fn has_frames(&self) -> bool {
        self.buffer.len() > HEADER_BYTES
    }

    /// Whether there is something to write that nobody may be waiting for.
    pub(super) fn has_payload(&self) -> bool {
        self.has_frames() || self.meta.export.is_some()
    }

    /// Whether nothing at all is in it. What a new pack begins with counts: whoever asks for a checkpoint after another pack
    /// was begun finds the position in that one.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_payload() && self.cells.is_empty() && self.meta.changes.is_empty()
    }

    /// Notes what packs gained or lost.
    fn add_deltas(&mut self, deltas: &BTreeMap<PackId, i64>) {
        for (&pack, &bytes) in deltas {
            *self.meta.deltas.entry(pack).or_insert_with(|| {
                self.meta_bytes += DELTA_ROW_BYTES;
                0
            }) += bytes;
        }
    }

    /// Adds changes of the store's own, which nobody waits for.
    pub(super) fn add_changes(&mut self, changes: Vec<Change>) {
        self.meta_bytes += changes
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, Vec::len) + CHANGE_ROW_BYTES)
            .sum::<usize>();
        self.meta.changes.extend(changes);
    }
}

/// A batch on its way to the disk: its frames are still read from here.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    pub(super) pack: PackId,
    pub(super) offset: u64,
    pub(super) buffer: Arc<AlignedBuffer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// Finish everything, then stop.
    Stopping,
    /// Stop at once, as a crash would.
    Abandoned,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that the committer and producers tell each other"
)]
pub(super) struct LogState {
    /// Absent while the committer moves to another pack, or has no room for one.
    pub(super) open: Option<OpenBatch>,
    pub(super) writing: Option<Writing>,
    /// A batch that was taken and is not in `writing` yet: its frames come in a moment.
    pub(super) sealing: Option<(PackId, u64)>,
    pub(super) poisoned: bool,
    /// There is no room for another pack.
    pub(super) full: bool,
    /// Somebody needs a batch with this much room.
    pub(super) room_wanted: u64,
    /// The open batch is to be closed as it is.
    pub(super) close_wanted: bool,
    pub(super) life: Life,
    /// The committer holds the open batch open until so many wait for it.
    pub(super) hoped: usize,
    /// The committer sleeps.
    pub(super) asleep: bool,
    pub(super) checkpoints_wanted: u64,
    pub(super) checkpoints_done: u64,
    /// The next checkpoint signs the audit log's trees, due or not.
    pub(super) signatures_wanted: bool,
    pub(super) last_number: BatchNumber,
}

/// The state, who waits for work, who waits for room.
#[derive(Debug)]
pub(super) struct LogShared {
    state: Mutex<LogState>,
    pub(super) wake: Condvar,
    pub(super) room: Condvar,
    target: usize,
    room_max: u64,
}

/// What a transaction hands over.
pub(super) struct Submission<'o> {
    pub(super) changes: Vec<Change>,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) first_record: u64,
    pub(super) sequence: Sequence,
    pub(super) bytes: usize,
    pub(super) deltas: BTreeMap<PackId, i64>,
    pub(super) cell: Arc<TicketCell>,
    pub(super) overlay: &'o Overlay,
}

impl LogShared {
    pub(super) fn new(open: OpenBatch, pack_bytes: u64) -> Self {
        // Header and footer blocks are not for batches; small packs of tests get small batches.
        let room_max = pack_bytes.saturating_sub(3 * BLOCK_BYTES as u64);
        let target = BATCH_BYTES_TARGET.min(usize::try_from(room_max / 2).unwrap_or(BATCH_BYTES_TARGET));
        let last_number = open.number;
        let state = LogState {
            open: Some(open),
            writing: None,
            sealing: None,
            poisoned: false,
            full: false,
            room_wanted: 0,
            close_wanted: false,
            life: Life::Running,
            hoped: 0,
            asleep: false,
            checkpoints_wanted: 0,
            checkpoints_done: 0,
            signatures_wanted: false,
            last_number,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), room: Condvar::new(), target, room_max }
    }

    /// Bytes of a batch at which it is closed.
    pub(super) fn target(&self) -> usize {
        self.target
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the committer if it sleeps.
    fn rouse(&self, state: &mut LogState) {
        if std::mem::take(&mut state.asleep) {
            self.wake.notify_one();
        }
    }

    /// The committer's rest, until somebody rouses it.
    pub(super) fn sleep<'s>(
        &'s self,
        mut state: MutexGuard<'s, LogState>,
        longest: Duration,
    ) -> MutexGuard<'s, LogState> {
        state.asleep = true;
        let mut state = self.wake.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0;
        state.asleep = false;
        state
    }

    /// Somebody waits for a ticket of this batch: it is closed as soon as it can be. (One that is not open any more is on
    /// its way.)
    pub(super) fn hurry(&self, batch: BatchNumber) {
        let mut state = self.lock();
        let hoped = state.hoped;
        if let Some(open) = state.open.as_mut().filter(|open| open.number == batch) {
            open.waiting += 1;
            if open.waiting == 1 || open.waiting == hoped {
                self.rouse(&mut state);
            }
        }
    }

    fn wait_for_room<'s>(&'s self, mut state: MutexGuard<'s, LogState>) -> MutexGuard<'s, LogState> {
        self.rouse(&mut state);
        self.room.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(state: &LogState) -> Option<StoreError> {
        if state.poisoned || state.life != Life::Running {
            return Some(StoreError::Poisoned);
        }
        (state.open.is_none() && state.full).then_some(StoreError::DiskFull)
    }

    /// Appends a frame of `len` bytes to the open batch; waits while it is full and the one before is being written. `fill`
    /// puts exactly so many bytes behind what is there.
    pub(super) fn append_frame(
        &self,
        len: usize,
        fill: impl FnOnce(&mut AlignedBuffer) -> Result<(), StoreError>,
        row: impl FnOnce(PackId, u64) -> FrameRow,
    ) -> Result<FramePlace, StoreError> {
        let mut state = self.lock();
        loop {
            if let Some(refusal) = Self::refusal(&state) {
                return Err(refusal);
            }
            let target = self.target;
            if let Some(open) = state.open.as_mut()
                && (open.buffer.len() + len <= target || !open.has_frames())
                && open.fits(len, FRAME_ROW_BYTES)
            {
                let before = open.buffer.len();
                fill(&mut open.buffer)?;
                debug_assert_eq!(open.buffer.len(), before + len);
                let row = row(open.pack, open.offset + before as u64);
                let place = row.place;
                open.meta.frames.push(row);
                open.meta_bytes += FRAME_ROW_BYTES;
                return Ok(place);
            }
            state.close_wanted = true;
            state = self.wait_for_room(state);
        }
    }

    /// Appends a transaction to the open batch, which is told, and shows its changes to readers.
    pub(super) fn append_commit(&self, submission: Submission<'_>) -> Result<BatchNumber, StoreError> {
        let Submission { changes, records, first_record, sequence, bytes, deltas, cell, overlay } =
            submission;
        let meta_bytes =
            bytes + (changes.len() + records.len()) * CHANGE_ROW_BYTES + deltas.len() * DELTA_ROW_BYTES;
        let alone = (blocks_for(0, meta_bytes + META_BYTES + 512) * BLOCK_BYTES) as u64;
        if alone > self.room_max {
            return Err(StoreError::TooLarge("the transaction"));
        }
        let mut state = self.lock();
        loop {
            if let Some(refusal) = Self::refusal(&state) {
                return Err(refusal);
            }
            if let Some(open) = state.open.as_mut()
                && open.fits(0, meta_bytes)
            {
                overlay.put(&changes, open.number);
                if open.meta.records.is_empty() {
                    open.meta.first_record = first_record;
                }
                open.meta.changes.extend(changes);
                open.meta.records.extend(records);
                open.add_deltas(&deltas);
                open.meta_bytes += meta_bytes - deltas.len() * DELTA_ROW_BYTES;
                open.sequence = sequence;
                open.add_cell(cell);
                let number = open.number;
                // Whoever waits rouses the committer; it looks by itself before the batch is due.
                if open.bytes() >= self.target {
                    self.rouse(&mut state);
                }
                return Ok(number);
            }
            state.close_wanted = true;
            state.room_wanted = state.room_wanted.max(alone);
            state = self.wait_for_room(state);
        }
    }

    /// Appends a part of an export to the open batch, which is told: one to a batch, so that whoever commits meanwhile waits
    /// for one part at most.
    pub(super) fn append_part(
        &self,
        part: Vec<u8>,
        waiting: Option<Arc<TicketCell>>,
    ) -> Result<BatchNumber, StoreError> {
        let meta_bytes = part.len() + CHANGE_ROW_BYTES;
        let alone = (blocks_for(0, meta_bytes + META_BYTES + 512) * BLOCK_BYTES) as u64;
        if alone > self.room_max {
            return Err(StoreError::TooLarge("a part of the export"));
        }
        let mut state = self.lock();
        loop {
            if let Some(refusal) = Self::refusal(&state) {
                return Err(refusal);
            }
            match state.open.as_mut() {
                Some(open) if open.meta.export.is_none() && open.fits(0, meta_bytes) => {
                    open.meta.export = Some(part);
                    open.meta_bytes += meta_bytes;
                    if let Some(cell) = waiting {
                        open.add_cell(cell);
                    }
                    let number = open.number;
                    self.rouse(&mut state);
                    return Ok(number);
                }
                Some(open) if open.meta.export.is_some() => {}
                Some(_) | None => state.room_wanted = state.room_wanted.max(alone),
            }
            state.close_wanted = true;
            state = self.wait_for_room(state);
        }
    }

    /// Asks for another pack and waits until `moved` says that it is there.
    pub(super) fn move_on(&self, moved: impl Fn() -> bool) -> Result<(), StoreError> {
        let mut state = self.lock();
        while !moved() {
            if let Some(refusal) = Self::refusal(&state) {
                return Err(refusal);
            }
            // More than any pack has left.
            state.room_wanted = u64::MAX;
            self.rouse(&mut state);
            let woken = self.room.wait_timeout(state, Duration::from_millis(200));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Up to where all of a pack is on the disk.
    pub(super) fn written_through(&self, pack: PackId) -> u64 {
        let state = self.lock();
        let open = state.open.as_ref().filter(|open| open.pack == pack).map(|open| open.offset);
        let writing = state.writing.as_ref().filter(|writing| writing.pack == pack);
        let sealing = state.sealing.filter(|(taken, _)| *taken == pack).map(|(_, start)| start);
        let unwritten = [open, writing.map(|writing| writing.offset), sealing];
        unwritten.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// A frame that is not on the disk yet.
    pub(super) fn unwritten_frame(&self, pack: PackId, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut state = self.lock();
        while !state.poisoned
            && state.sealing.is_some_and(|(taken, start)| taken == pack && start <= offset)
            && state.open.as_ref().is_none_or(|open| open.pack != pack || offset < open.offset)
        {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let cut = |start: u64, bytes: &[u8]| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            bytes.get(from..from.checked_add(len)?).map(<[u8]>::to_vec)
        };
        if let Some(open) = state.open.as_ref().filter(|open| open.pack == pack && open.offset <= offset) {
            return cut(open.offset, open.buffer.bytes());
        }
        let writing =
            state.writing.as_ref().filter(|writing| writing.pack == pack && writing.offset <= offset)?;
        cut(writing.offset, writing.buffer.bytes())
    }

    pub(super) fn is_poisoned(&self) -> bool {
        let state = self.lock();
        state.poisoned || state.life == Life::Abandoned
    }

    pub(super) fn is_running(&self) -> bool {
        let state = self.lock();
        !state.poisoned && state.life == Life::Running
    }

    pub(super) fn batch_number(&self) -> BatchNumber {
        self.lock().last_number
    }

    pub(super) fn ask_to_stop(&self) {
        let mut state = self.lock();
        if state.life == Life::Running {
            state.life = Life::Stopping;
        }
        drop(state);
        self.wake.notify_all();
        self.room.notify_all();
    }

    pub(super) fn abandon(&self) {
        self.lock().life = Life::Abandoned;
        self.wake.notify_all();
        self.room.notify_all();
    }

    /// Asks the committer for a checkpoint and waits for it.
    pub(super) fn checkpoint_now(&self) -> Result<(), StoreError> {
        self.checkpoint_as(false)
    }

    /// As [`LogShared::checkpoint_now`]; every tree of the audit log is signed.
    pub(super) fn sign_now(&self) -> Result<(), StoreError> {
        self.checkpoint_as(true)
    }

    fn checkpoint_as(&self, signed: bool) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.signatures_wanted |= signed;
        state.checkpoints_wanted += 1;
        let wanted = state.checkpoints_wanted;
        self.rouse(&mut state);
        while state.checkpoints_done < wanted {
            if state.poisoned || state.life == Life::Abandoned {
                return Err(StoreError::Poisoned);
            }
            let woken = self.room.wait_timeout(state, Duration::from_millis(200));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            if state.life == Life::Stopping && state.checkpoints_done < wanted {
                // The last checkpoint is the one at the end.
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CommitNumber;
    use crate::index::Table;

    #[test]
    fn changes_that_nobody_waits_for_are_written_when_they_are_many() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let buffer = AlignedBuffer::with_capacity(0);
        let open = OpenBatch::new(BatchNumber(1), PackId(1), 0, 64 << 20, buffer, Sequence::default());
        let (log, overlay) = (LogShared::new(open, 64 << 20), Overlay::default());
        let is_full = |state: &LogState| state.open.as_ref().is_some_and(|open| open.bytes() >= log.target());
        let append = |number: u64| {
            let change = Change {
                table: Table::Store,
                key: number.to_be_bytes().to_vec(),
                value: Some(vec![1; 100_000]),
            };
            log.append_commit(Submission {
                bytes: 100_000,
                changes: vec![change],
                records: Vec::new(),
                first_record: 0,
                sequence: Sequence::default(),
                deltas: BTreeMap::new(),
                cell: TicketCell::new(CommitNumber(number)),
                overlay: &overlay,
            })
            .unwrap();
        };
        append(0);
        assert!(log.lock().open.as_ref().unwrap().rest().is_some_and(|rest| !rest.is_zero()));
        std::thread::scope(|scope| {
            let asleep = scope.spawn(|| {
                let begin = Instant::now();
                let mut state = log.lock();
                while !is_full(&state) && begin.elapsed() < PATIENCE {
                    state = log.sleep(state, PATIENCE);
                }
                (is_full(&state), begin.elapsed())
            });
            while !log.lock().asleep {
                std::thread::yield_now();
            }
            (1..=BATCH_BYTES_TARGET as u64 / 100_000).for_each(append);
            let (full, slept) = asleep.join().unwrap();
            assert!(full && slept < PATIENCE, "the committer was not roused");
        });
    }

    #[test]
    fn a_ticket_of_a_batch_that_was_taken_hurries_no_other() {
        let buffer = AlignedBuffer::with_capacity(0);
        let open = OpenBatch::new(BatchNumber(7), PackId(1), 0, 64 << 20, buffer, Sequence::default());
        let log = LogShared::new(open, 64 << 20);
        log.hurry(BatchNumber(6));
        assert_eq!(log.lock().open.as_ref().unwrap().rest(), None);
        log.hurry(BatchNumber(7));
        assert_eq!(log.lock().open.as_ref().unwrap().rest(), Some(Duration::ZERO));
    }
}
