//! Writing the whole index into the log: what makes packs enough to begin again from, and older packs dispensable.
//!
//! The rows are those of one checkpoint, taken by the committer itself, so that the snapshot holds all changes up to its
//! batch and no other. They go into the log in parts that nobody waits for, among ordinary batches. Only after the last
//! part is durable does the row `export` of [`Table::Store`] name the export: what is older may be given up from then on.

use std::sync::{Arc, Mutex, PoisonError};

use minicbor::{Decode, Encode};

use super::cell::TicketCell;
use super::committer::Position;
use super::ticket::Ticket;
use super::{Store, lock};
use crate::error::StoreError;
use crate::id::{BatchNumber, PackId};
use crate::index::{Entries, SharedIndex, Snapshot, Table};
use crate::limits::{EXPORT_PART_BYTES, EXPORT_PIECE_MAX};
use crate::log::export::{ExportPart, ExportedRow};
use crate::rows::{decode, encode};
use crate::time::UnixNanos;

/// Row of `Table::Store`: the newest export that is whole and durable.
pub(crate) const EXPORT_KEY: &[u8] = b"export";

/// The newest export that is whole and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExportRow {
    /// Which one.
    #[n(0)]
    pub number: u64,
    /// The batch up to which it holds everything: older ones are not needed for the index.
    #[n(1)]
    pub base: BatchNumber,
    /// The pack that holds the base, or the newest one before it.
    #[n(2)]
    pub base_pack: PackId,
    /// When it was written.
    #[n(3)]
    pub time: UnixNanos,
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportSummary {
    /// What the store remembers of it.
    pub export: ExportRow,
    /// Batches that carry a part.
    pub parts: u64,
    /// Rows of the index.
    pub rows: u64,
    /// Bytes of the parts.
    pub bytes: u64,
}

/// Where the committer leaves a snapshot for whoever asked for one.
#[derive(Default)]
pub(super) struct CheckpointView {
    slot: Mutex<Slot>,
}

#[derive(Default)]
enum Slot {
    #[default]
    Unasked,
    Asked,
    Taken(Box<dyn Snapshot>, Position),
}

impl std::fmt::Debug for CheckpointView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckpointView(..)")
    }
}

impl CheckpointView {
    /// The committer's side: the index is complete up to `position` and holds nothing newer.
    pub(super) fn offer(&self, index: &SharedIndex, position: &Position) -> Result<(), StoreError> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Asked) {
            *slot = Slot::Taken(index.snapshot()?, position.clone());
        }
        Ok(())
    }

    fn ask(&self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Slot::Asked;
    }

    fn take(&self) -> Option<(Box<dyn Snapshot>, Position)> {
        match std::mem::take(&mut *self.slot.lock().unwrap_or_else(PoisonError::into_inner)) {
            Slot::Taken(snapshot, position) => Some((snapshot, position)),
            Slot::Unasked | Slot::Asked => None,
        }
    }
}

impl Store {
    /// The newest export that is whole and durable. Packs older than its base's are not needed to rebuild the index.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub fn newest_export(&self) -> Result<Option<ExportRow>, StoreError> {
        self.get(self.system_key(), Table::Store, EXPORT_KEY)?.map(|row| decode(&row)).transpose()
    }

    /// Checkpoints, and looks at the index exactly as that checkpoint left it.
    pub(crate) fn checkpoint_view(&self) -> Result<(Box<dyn Snapshot>, Position), StoreError> {
        loop {
            self.inner.checkpointed.ask();
            self.checkpoint()?;
            if let Some(taken) = self.inner.checkpointed.take() {
                return Ok(taken);
            }
            // Somebody else asked at the same moment and has it; or the store is being closed.
            if !self.inner.log.is_running() {
                return Err(StoreError::Poisoned);
            }
        }
    }

    /// Writes the whole index into the log, while others go on writing. Tells `progress` the rows done so far. A second
    /// call waits for the first.
    ///
    /// A crash in the middle leaves parts that no reader takes for an export.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`, `Index`.
    pub fn export_index(&self, progress: &mut dyn FnMut(u64)) -> Result<ExportSummary, StoreError> {
        let _alone = lock(&self.inner.exporting);
        let (snapshot, position) = self.checkpoint_view()?;
        let number = self.newest_export()?.map_or(1, |newest| newest.number + 1);
        let base = BatchNumber(position.batch);
        let mut writer = PartWriter {
            store: self,
            part_bytes: EXPORT_PART_BYTES.min(self.inner.log.target() / 2),
            next: ExportPart { number, base, part: 0, parts: None, rows: Vec::new() },
            filled: 0,
            rows: 0,
            bytes: 0,
        };
        for table in Table::ALL {
            for_each_piece(snapshot.as_ref(), table, &mut |piece| {
                for (key, value) in piece {
                    writer.add((table, key, value))?;
                }
                progress(writer.rows);
                Ok(())
            })?;
        }
        drop(snapshot);
        let (parts, rows, bytes) = writer.finish()?;
        let mut txn = self.begin()?;
        let export = ExportRow { number, base, base_pack: PackId(position.pack), time: txn.time() };
        txn.put(self.system_key(), Table::Store, EXPORT_KEY, &encode(&export)?);
        txn.submit()?.wait()?;
        Ok(ExportSummary { export, parts, rows, bytes })
    }
}

/// Gathers rows into parts and gives them to the log.
struct PartWriter<'s> {
    store: &'s Store,
    part_bytes: usize,
    next: ExportPart,
    filled: usize,
    rows: u64,
    bytes: u64,
}

impl PartWriter<'_> {
    fn add(&mut self, row: ExportedRow) -> Result<(), StoreError> {
        let bytes = ExportPart::row_bytes(&row.1, &row.2);
        if self.filled + bytes > self.part_bytes && !self.next.rows.is_empty() {
            let following = ExportPart { part: self.next.part + 1, rows: Vec::new(), ..self.next };
            let full = std::mem::replace(&mut self.next, following);
            self.append(full, None)?;
            self.filled = 0;
        }
        self.filled += bytes;
        self.rows += 1;
        self.next.rows.push(row);
        Ok(())
    }

    fn append(
        &mut self,
        part: ExportPart,
        waiting: Option<Arc<TicketCell>>,
    ) -> Result<BatchNumber, StoreError> {
        let encoded = part.encode();
        self.bytes += encoded.len() as u64;
        self.store.inner.log.append_part(encoded, waiting)
    }

    /// The last part, and the wait for it: the log is durable in order.
    fn finish(mut self) -> Result<(u64, u64, u64), StoreError> {
        let parts = self.next.part + 1;
        let last = ExportPart { rows: std::mem::take(&mut self.next.rows), parts: Some(parts), ..self.next };
        let cell = TicketCell::new(self.store.last_commit());
        let batch = self.append(last, Some(Arc::clone(&cell)))?;
        Ticket::new(cell, &self.store.inner.log, batch).wait()?;
        Ok((parts, self.rows, self.bytes))
    }
}

/// Goes through a table in pieces that stay small whatever its rows weigh.
pub(crate) fn for_each_piece(
    snapshot: &dyn Snapshot,
    table: Table,
    each: &mut dyn FnMut(Entries) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let to = [0xff; 80];
    let (mut from, mut wanted) = (Vec::new(), 64);
    loop {
        let piece = snapshot.range(table, &from, &to, wanted)?;
        let Some((last, _)) = piece.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
        let (taken, bytes) = (piece.len(), piece.iter().map(|(_, value)| value.len()).sum::<usize>());
        each(piece)?;
        if taken < wanted {
            return Ok(());
        }
        wanted = match bytes {
            light if light < EXPORT_PART_BYTES / 2 => (wanted * 2).min(EXPORT_PIECE_MAX),
            heavy if heavy > EXPORT_PART_BYTES => (wanted / 2).max(1),
            _ => wanted,
        };
    }
}
