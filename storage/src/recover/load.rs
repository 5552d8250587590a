//! Filling a fresh index: the rows of an export, then the journal of every batch after its base.

use super::RebuildError;
use super::records::Records;
use super::scan::{FoundExport, Scan};
use crate::blob::BlobStore;
use crate::commit::{POSITION_KEY, Position};
use crate::error::StoreError;
use crate::id::BatchNumber;
use crate::index::{Change, SharedIndex, Table, keep_last};
use crate::keys::Secret32;
use crate::limits::{CHECKPOINT_BYTES, REBUILD_BYTES_PENDING};
use crate::log::export::ExportPart;
use crate::log::salvage::{Salvage, Step};
use crate::log::walk::PackReader;
use crate::record::RecordKey;

/// Gathers changes and gives them to the index in large pieces.
pub(super) struct Loader<'l> {
    index: &'l SharedIndex,
    changes: Vec<Change>,
    pending: usize,
    since: u64,
    pub(super) rows: u64,
}

impl<'l> Loader<'l> {
    pub(super) fn new(index: &'l SharedIndex) -> Self {
        Self { index, changes: Vec::new(), pending: 0, since: 0, rows: 0 }
    }

    pub(super) fn take(&mut self, change: Change) -> Result<(), StoreError> {
        self.pending += change.key.len() + change.value.as_ref().map_or(0, Vec::len) + 32;
        self.rows += 1;
        self.changes.push(change);
        if self.pending >= REBUILD_BYTES_PENDING { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        keep_last(&mut self.changes);
        self.index.apply(&self.changes)?;
        self.changes.clear();
        self.since += self.pending as u64;
        self.pending = 0;
        if self.since >= CHECKPOINT_BYTES {
            self.index.checkpoint()?;
            self.since = 0;
        }
        Ok(())
    }
}

/// Loads an export. Its `position` row is given back, and not written; nor is `format`, which comes when all is there.
pub(super) fn load_export(
    export: &FoundExport,
    scan: &Scan,
    (blobs, packs_key, system_key): (&dyn BlobStore, &Secret32, &RecordKey),
    loader: &mut Loader<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Position, RebuildError> {
    let mut position = None;
    let mut reader: Option<PackReader> = None;
    for &(pack, offset) in &export.places {
        if reader.as_ref().is_none_or(|reader| reader.header.pack != pack) {
            let sketch = scan.packs.iter().find(|sketch| sketch.header.pack == pack);
            let sketch = sketch.ok_or(RebuildError::Changed(pack))?;
            reader = Some(PackReader::with_salt(blobs, packs_key, pack, sketch.header.salt)?);
        }
        let read = reader.as_ref().ok_or(RebuildError::Changed(pack))?;
        let (header, _) = read.header_at(offset)?.ok_or(RebuildError::Changed(pack))?;
        let meta = read.meta_of(offset, &header)?.ok_or(RebuildError::Changed(pack))?;
        let part = meta.export.as_deref().and_then(ExportPart::decode);
        for (table, key, value) in part.ok_or(RebuildError::Changed(pack))?.rows {
            match (table, key.as_slice()) {
                (Table::Store, POSITION_KEY) => {
                    let row = system_key.open(table, &key, &value).ok_or(StoreError::DamagedRecord)?;
                    position = minicbor::decode(&row).ok();
                }
                (Table::Store, crate::commit::FORMAT_KEY) => {}
                _ => loader.take(Change { table, key, value: Some(value) })?,
            }
        }
        progress(loader.rows);
    }
    Ok(position.ok_or(StoreError::DamagedRecord)?)
}

/// What the journal brought.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) batches: u64,
    pub(super) last_commit: u64,
    pub(super) last_time: i64,
    pub(super) last_number: u64,
}

/// Applies the changes of all batches after `base`, in order, and offers the audit records of all batches.
pub(super) fn replay(
    base: BatchNumber,
    scan: &Scan,
    (blobs, packs_key): (&dyn BlobStore, &Secret32),
    loader: &mut Loader<'_>,
    records: &mut Records<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Replayed, RebuildError> {
    let mut replayed = Replayed::default();
    let mut applied = BatchNumber(0);
    let mut done = 0;
    for sketch in &scan.packs {
        let reader = PackReader::with_salt(blobs, packs_key, sketch.header.pack, sketch.header.salt)?;
        let mut salvage = Salvage::new(&reader, packs_key);
        while let Some(step) = salvage.step()? {
            let Step::Batch(batch) = step else { continue };
            if batch.offset >= sketch.end {
                break;
            }
            // A batch that goes back is of another history.
            if batch.header.number <= applied {
                continue;
            }
            applied = batch.header.number;
            replayed.last_commit = replayed.last_commit.max(batch.header.last_commit.0);
            replayed.last_time = replayed.last_time.max(batch.meta.time);
            replayed.last_number = replayed.last_number.max(batch.meta.sequence);
            for (at, record) in batch.meta.records.iter().enumerate() {
                records.offer(batch.meta.first_record + at as u64, record)?;
            }
            if applied > base {
                replayed.batches += 1;
                for change in batch.meta.changes {
                    loader.take(change)?;
                }
            }
        }
        done += sketch.bytes;
        progress(done);
    }
    loader.flush()?;
    Ok(replayed)
}
