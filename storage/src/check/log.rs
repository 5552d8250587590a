//! With data: every batch of every pack, every frame of every vault that opens.

use super::{BLOCK, Check};
use crate::error::StoreError;
use crate::id::{BatchNumber, ChunkId, PackId};
use crate::index::Table;
use crate::log::walk::PackReader;
use crate::tree::rows::{ChunkRow, decode};

impl Check<'_> {
    /// Walks every pack: batches chain without a gap, each is what was written, closed packs end with their footer.
    pub(super) fn read_packs(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        let mut all: Vec<PackId> = self.packs.keys().copied().collect();
        all.sort();
        // At least to here the log is whole: what is behind may be written right now.
        let (open_pack, written) = self.store.position_of(self.snapshot)?;
        let mut chain = None;
        let mut before: Option<PackId> = None;
        for pack in all {
            // Packs that were reclaimed took their part of the chain with them.
            if before.is_some_and(|before| before.0 + 1 != pack.0) {
                chain = None;
            }
            before = Some(pack);
            let Ok(reader) = PackReader::open(blobs.as_ref(), self.store.packs_key(), pack)? else {
                chain = None;
                continue;
            };
            let mut offset = BLOCK;
            while let Some(batch) = reader.batch_at(offset)? {
                let follows = chain.is_none_or(|(number, tag): (BatchNumber, _)| {
                    batch.header.number.0 == number.0 + 1 && batch.header.previous == tag
                });
                if !follows {
                    self.report.find(format!(
                        "pack {pack}: the batch at byte {offset} does not follow the one before it"
                    ));
                }
                chain = Some((batch.header.number, batch.tag));
                self.report.bytes_read += batch.end - offset;
                offset = batch.end;
                progress(self.report.bytes_read);
            }
            match reader.footer_at(self.store.packs_key(), offset)? {
                Some(footer)
                    if footer.end == offset
                        && chain.is_none_or(|(last, _)| footer.batches == 0 || footer.last == last) =>
                {
                    if reader.bytes != offset + BLOCK {
                        self.report.find(format!("pack {pack} goes on behind its footer"));
                    }
                }
                // The open pack ends where the next batch will be; one that is newer still holds nothing that counts.
                None if pack > open_pack || (pack == open_pack && offset >= written) => {}
                _ => {
                    self.report.find(format!("pack {pack} is damaged at byte {offset}"));
                    chain = None;
                }
            }
        }
        Ok(())
    }

    /// Opens every frame that the index knows and compares its content with its identifier.
    pub(super) fn read_frames(&mut self) -> Result<(), StoreError> {
        for record in self.store.vaults()? {
            let Ok(vault) = self.store.vault(record.id) else { continue };
            let keys = vault.keys();
            let mut places = Vec::new();
            self.rows(
                (&[self.store.system_key(), &keys.records], Table::Chunks),
                &record.id.0,
                |_, at, row| {
                    let chunk = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(ChunkId);
                    if let (Some(chunk), Ok(row)) = (chunk, decode::<ChunkRow>(row)) {
                        places.push((row.place, chunk));
                    }
                },
            )?;
            // In the order of the disk.
            places.sort_by_key(|(place, _)| (place.pack, place.offset));
            for (place, chunk) in places {
                match self.store.read_frame_uncached(keys, chunk, &place) {
                    Ok(plain) if keys.chunk_id(&plain) == chunk => {}
                    Ok(_) => self.report.find(format!("vault {}: {chunk:?} holds something else", record.id)),
                    Err(error) => self.report.find(format!("vault {}: {chunk:?}: {error}", record.id)),
                }
            }
        }
        Ok(())
    }
}
