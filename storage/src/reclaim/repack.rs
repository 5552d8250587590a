//! Packs of which little is left: the frames that are referred to are carried forward as they are, ciphertext with its
//! salt, so that no vault's key is needed; the emptied pack is unlinked after its grace time.

use super::{ExportPolicy, Interrupted, Pass};
use crate::audit::{Action, Actor, RecordDraft};
use crate::blob::Blob;
use crate::buffer::AlignedBuffer;
use crate::commit::{PackRow, Store, Txn};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::PackId;
use crate::index::Table;
use crate::limits::{BLOCK_BYTES, REPACK_BYTES_MAX};
use crate::log::batch::{FrameRow, HEADER_BYTES};
use crate::log::pack::blob_name;
use crate::log::walk::{PackReader, packs};
use crate::rows::{ChunkRow, chunk_key, decode, encode};

/// Frames that were carried forward, and where they lie now.
type Moved = Vec<(FrameRow, FramePlace)>;

/// How a pack goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its name is taken away.
    Unlink,
    /// Its bytes are overwritten before.
    Overwrite,
}

/// Whether a pack could be emptied.
pub(super) enum Emptied {
    Yes,
    /// Something in it is not what was written: it stays, for `check` and for whoever repairs.
    Damaged,
}

impl Pass<'_> {
    pub(super) fn empty_packs(&mut self) -> Result<(), Interrupted> {
        self.store.checkpoint()?;
        let mut candidates = self.candidates()?;
        if candidates.is_empty() {
            return Ok(());
        }
        // Packs alone must rebuild everything: a pack goes only when the index was written into the log after it.
        let covered = |store: &Store, pack: PackId| {
            store.newest_export().map(|export| export.is_some_and(|export| pack < export.base_pack))
        };
        let mut waits = false;
        for pack in &candidates {
            waits |= !covered(self.store, *pack)?;
        }
        if waits && self.export_is_due()? {
            let summary = self.store.export_index(&mut |_| {})?;
            self.stepped(summary.bytes)?;
        }
        candidates.retain(|pack| covered(self.store, *pack).unwrap_or(false));
        for pack in candidates {
            match self.empty(pack)? {
                Emptied::Yes => self.report.packs_emptied += 1,
                Emptied::Damaged => {
                    tracing::warn!(%pack, "a pack is damaged and is not reclaimed; run `coffre check --read-data`");
                    self.report.packs_damaged += 1;
                }
            }
        }
        Ok(())
    }

    fn export_is_due(&self) -> Result<bool, StoreError> {
        let ExportPolicy::OlderThan(secs) = self.options.export else { return Ok(true) };
        let age = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        let last = self.store.newest_export()?;
        Ok(last.is_none_or(|last| last.time.0.saturating_add(age) <= self.store.clock_now().0))
    }

    /// Closed packs of which little enough is referred to, and in which nobody may have staged anything.
    fn candidates(&self) -> Result<Vec<PackId>, StoreError> {
        let blobs = self.store.blobs();
        let mut found = Vec::new();
        for pack in packs(blobs.as_ref())? {
            if !self.store.is_settled(pack) {
                continue;
            }
            let condemned = self.store.pack_row(pack)?.is_some_and(|row| row.condemned.is_some());
            let bytes = blobs.open(&blob_name(pack))?.len()?;
            let live = self.store.live_bytes(pack);
            if !condemned && live.saturating_mul(100) < bytes.saturating_mul(self.options.live_percent_max) {
                found.push(pack);
            }
        }
        Ok(found)
    }

    pub(super) fn empty(&mut self, pack: PackId) -> Result<Emptied, Interrupted> {
        let blobs = self.store.blobs();
        let Ok(reader) = PackReader::open(blobs.as_ref(), self.store.packs_key(), pack)? else {
            return Ok(Emptied::Damaged);
        };
        let mut offset = BLOCK_BYTES as u64;
        while let Some(batch) = reader.batch_at(offset)? {
            let mut moved = Moved::new();
            let mut bytes = 0;
            for frame in batch.meta.frames {
                if !self.store.is_live(&frame)? {
                    continue;
                }
                let at = frame.place.offset.checked_sub(offset + HEADER_BYTES as u64);
                let sealed = at
                    .and_then(|at| usize::try_from(at).ok())
                    .and_then(|at| batch.body.get(at..at + frame.place.stored_bytes as usize));
                let Some(sealed) = sealed else { return Ok(Emptied::Damaged) };
                let place = self.store.append_moved(&frame, sealed)?;
                bytes += sealed.len();
                moved.push((frame, place));
                if bytes >= REPACK_BYTES_MAX {
                    self.commit_moved(&mut moved, &mut bytes)?;
                }
            }
            if !moved.is_empty() {
                self.commit_moved(&mut moved, &mut bytes)?;
            }
            offset = batch.end;
        }
        // A closed pack ends with its footer, or something is wrong with what is behind.
        if reader.footer_at(self.store.packs_key(), offset)?.is_none() {
            return Ok(Emptied::Damaged);
        }
        let mut txn = self.store.begin()?;
        let row =
            PackRow { salt: reader.header.salt, condemned: Some(txn.time()), removed: None, damage: None };
        self.store.put_pack_row(&mut txn, pack, &row)?;
        txn.submit()?.wait()?;
        Ok(Emptied::Yes)
    }

    fn commit_moved(&mut self, moved: &mut Moved, bytes: &mut usize) -> Result<(), Interrupted> {
        let mut txn = self.store.begin()?;
        for (frame, place) in moved.drain(..) {
            // Meanwhile it may have been forgotten, or written anew elsewhere: then the copy is not needed.
            if let Some(row) = self.store.chunk_of(&txn, &frame)?.filter(|row| row.place == frame.place) {
                self.store.put_moved(&mut txn, &frame, &ChunkRow { place, ..row })?;
            }
        }
        txn.submit()?.wait()?;
        self.report.bytes_moved += *bytes as u64;
        let step = std::mem::take(bytes) as u64;
        self.stepped(step)
    }

    pub(super) fn remove_packs(&mut self) -> Result<(), Interrupted> {
        let grace = i64::try_from(self.options.grace_secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        // What moved is in the index for good before what it moved from goes.
        self.store.checkpoint()?;
        for pack in packs(self.store.blobs().as_ref())? {
            let Some(row) = self.store.pack_row(pack)? else { continue };
            let Some(condemned) = row.condemned else { continue };
            let due = condemned.0.saturating_add(grace) <= self.store.clock_now().0;
            if !due || self.store.packs_are_held() {
                self.report.packs_waiting += 1;
                continue;
            }
            self.remove(pack, row, Removal::Unlink)?;
            self.stepped(0)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, pack: PackId, row: PackRow, removal: Removal) -> Result<(), Interrupted> {
        let name = blob_name(pack);
        let bytes = self.store.blobs().open(&name)?.len()?;
        if self.store.live_bytes(pack) > 0 {
            // Should never be; a pack that is kept for nothing is no loss.
            tracing::error!(%pack, "an emptied pack is still referred to; it is kept");
            let mut txn = self.store.begin()?;
            self.store.put_pack_row(&mut txn, pack, &PackRow { condemned: None, ..row })?;
            txn.submit()?.wait()?;
            return Ok(());
        }
        if row.removed.is_none() {
            let mut txn = self.store.begin()?;
            let row = PackRow { removed: Some(txn.time()), ..row };
            self.store.put_pack_row(&mut txn, pack, &row)?;
            let record = RecordDraft {
                bytes: Some(bytes),
                reason: Some(format!("pack {pack} is empty")),
                ..RecordDraft::new(Actor::System, Action::PackRemove)
            };
            txn.audit(record, None);
            txn.submit()?.wait()?;
            // The index must say that it is gone before it is.
            self.store.checkpoint()?;
        }
        self.store.forget_pack(pack);
        if removal == Removal::Overwrite {
            overwrite(self.store.blobs().open(&name)?.as_ref(), bytes)?;
        }
        self.store.blobs().remove(&name)?;
        self.report.packs_removed += 1;
        self.report.bytes_freed += bytes;
        Ok(())
    }
}

/// Puts zeros over all of a pack.
fn overwrite(blob: &dyn Blob, bytes: u64) -> std::io::Result<()> {
    let zeros = AlignedBuffer::zeros(REPACK_BYTES_MAX);
    let mut at = 0;
    while at < bytes {
        let piece = usize::try_from(bytes - at).map_or(REPACK_BYTES_MAX, |left| left.min(REPACK_BYTES_MAX));
        blob.write_at(at, &zeros.bytes()[..piece])?;
        at += piece as u64;
    }
    blob.sync()
}

impl Store {
    /// Whether a chunk's row says that this very frame is its place.
    fn is_live(&self, frame: &FrameRow) -> Result<bool, StoreError> {
        let key = chunk_key(frame.vault, frame.chunk);
        let Some(sealed) = self.sealed(Table::Chunks, &key)? else { return Ok(false) };
        Ok(self.open_chunk_of(frame, &key, &sealed)?.place == frame.place)
    }

    /// Opens a chunk's row without its vault's key; of format 1 with it.
    fn open_chunk_of(&self, frame: &FrameRow, key: &[u8], sealed: &[u8]) -> Result<ChunkRow, StoreError> {
        match self.system_key().open(Table::Chunks, key, sealed) {
            Some(row) => decode(&row),
            None => self.open_chunk(self.vault(frame.vault)?.keys(), key, sealed),
        }
    }

    fn chunk_of(&self, txn: &Txn<'_>, frame: &FrameRow) -> Result<Option<ChunkRow>, StoreError> {
        let key = chunk_key(frame.vault, frame.chunk);
        let sealed = txn.sealed(Table::Chunks, &key)?;
        sealed.map(|sealed| self.open_chunk_of(frame, &key, &sealed)).transpose()
    }

    fn put_moved(&self, txn: &mut Txn<'_>, frame: &FrameRow, row: &ChunkRow) -> Result<(), StoreError> {
        txn.count(frame.place.pack, -i64::from(frame.place.stored_bytes));
        txn.count(row.place.pack, i64::from(row.place.stored_bytes));
        txn.put(self.system_key(), Table::Chunks, &chunk_key(frame.vault, frame.chunk), &encode(row)?);
        Ok(())
    }

    /// What the index says of a pack.
    pub(crate) fn pack_row(&self, pack: PackId) -> Result<Option<PackRow>, StoreError> {
        let found = self.get(self.system_key(), Table::Packs, &pack.0.to_be_bytes())?;
        found.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn put_pack_row(
        &self,
        txn: &mut Txn<'_>,
        pack: PackId,
        row: &PackRow,
    ) -> Result<(), StoreError> {
        txn.put(self.system_key(), Table::Packs, &pack.0.to_be_bytes(), &encode(row)?);
        Ok(())
    }
}
