//! With data: every batch of every pack, every frame of every vault that opens.

use super::{BLOCK, Check, Finding, chunk_of};
use crate::aead::TAG_BYTES;
use crate::commit::PackRow;
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{BatchNumber, ChunkId, PackId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::log::walk::{PackReader, WholeBatch};
use crate::rows::{ChunkRow, decode};

/// The last batch that was seen: the next one names its tag.
type Chain = Option<(BatchNumber, [u8; TAG_BYTES])>;

impl Check<'_> {
    /// Walks every pack: batches chain without a gap, each is what was written, closed packs end with their footer.
    pub(super) fn read_packs(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let mut all: Vec<PackId> = self.packs.keys().copied().collect();
        all.sort();
        let (mut chain, mut before) = (None, None::<PackId>);
        for pack in all {
            // Packs that were reclaimed took their part of the chain with them.
            if before.is_some_and(|before| before.0 + 1 != pack.0) {
                chain = None;
            }
            before = Some(pack);
            let row = self.store.pack_row(pack)?;
            // What is wrong in it is known, and what could not be read of it was set aside.
            if row.as_ref().is_some_and(PackRow::is_settled) {
                chain = None;
                continue;
            }
            let blobs = self.store.blobs();
            let reader = match PackReader::open(blobs.as_ref(), self.store.packs_key(), pack) {
                Ok(Ok(reader)) => Some(reader),
                // The index knows its salt too: the rest can be read all the same.
                Ok(Err(_)) => match row {
                    Some(row) => {
                        Some(PackReader::with_salt(blobs.as_ref(), self.store.packs_key(), pack, row.salt)?)
                    }
                    None => None,
                },
                Err(_) => None,
            };
            match reader {
                Some(reader) => self.read_pack(&reader, &mut chain, progress)?,
                None => chain = None,
            }
        }
        Ok(())
    }

    fn read_pack(
        &mut self,
        reader: &PackReader,
        chain: &mut Chain,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let pack = reader.header.pack;
        // At least to here the log is whole: what is behind may be written right now.
        let (open_pack, written) = (PackId(self.position.pack), self.position.offset.max(BLOCK));
        let mut offset = BLOCK;
        loop {
            let from = offset;
            match reader.batch_at(offset) {
                Ok(Some(batch)) => {
                    self.follows(pack, offset, &batch, chain);
                    offset = batch.end;
                    self.report.bytes_read += offset - from;
                    progress(self.report.bytes_read);
                    continue;
                }
                Ok(None) if pack > open_pack || (pack == open_pack && offset >= written) => return Ok(()),
                Ok(None) => {
                    if let Some(footer) = reader.footer_at(self.store.packs_key(), offset)? {
                        let last = chain.is_none_or(|(last, _)| footer.batches == 0 || footer.last == last);
                        if footer.end != offset || !last {
                            self.find(Finding::Footer { pack, offset });
                        }
                        if reader.bytes != offset + BLOCK {
                            self.find(Finding::PackTail { pack });
                        }
                        return Ok(());
                    }
                    // Closed packs are cut to their footer.
                    if reader.bytes == offset + BLOCK {
                        self.find(Finding::Footer { pack, offset });
                        return Ok(());
                    }
                    self.find(Finding::Batch { pack, offset });
                }
                Err(_) => self.find(Finding::PackUnreadable { pack, offset }),
            }
            // One damage must not hide what is behind it.
            *chain = None;
            match reader.batch_behind(offset) {
                Some(next) => offset = next,
                None => return Ok(()),
            }
            self.report.bytes_read += offset - from;
        }
    }

    fn follows(&mut self, pack: PackId, offset: u64, batch: &WholeBatch, chain: &mut Chain) {
        let follows = chain.is_none_or(|(number, tag)| {
            batch.header.number.0 == number.0 + 1 && batch.header.previous == tag
        });
        if !follows {
            self.find(Finding::BatchOrder { pack, offset });
        }
        *chain = Some((batch.header.number, batch.tag));
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
                |own, at, row| {
                    let row: ChunkRow = decode(row)?;
                    if own.is_in_bounds(&row.place) {
                        places.push((row.place, chunk_of(at)?, row.damaged.is_some()));
                    }
                    Ok(())
                },
            )?;
            // In the order of the disk.
            places.sort_by_key(|(place, ..)| (place.pack, place.offset));
            for (place, chunk, set_aside) in places {
                self.read_frame(keys, chunk, &place, set_aside)?;
            }
        }
        Ok(())
    }

    fn read_frame(
        &mut self,
        keys: &VaultKeys,
        chunk: ChunkId,
        place: &FramePlace,
        set_aside: bool,
    ) -> Result<(), StoreError> {
        let (vault, pack) = (keys.vault, place.pack);
        let read = |place: &FramePlace| match self.store.read_frame_uncached(keys, chunk, place) {
            Ok(plain) if keys.chunk_id(&plain) == chunk => Ok(()),
            Ok(_) => Err(StoreError::Damaged { pack: place.pack }),
            Err(error) => Err(error),
        };
        match read(place) {
            Ok(()) if set_aside => {
                self.find(Finding::ChunkHealed { vault, chunk, pack });
                return Ok(());
            }
            Ok(()) => return Ok(()),
            Err(_) if set_aside => return Ok(()),
            Err(_) => {}
        }
        // It may have moved, gone, or been written again since the snapshot.
        let Some(now) = self.store.chunk(keys, chunk)?.filter(|row| row.damaged.is_none()) else {
            return Ok(());
        };
        let finding = match read(&now.place) {
            Ok(()) => return Ok(()),
            Err(StoreError::Io(_)) => Finding::ChunkUnreadable { vault, chunk, pack: now.place.pack },
            Err(_) => Finding::ChunkDamaged { vault, chunk, pack: now.place.pack },
        };
        self.find(finding);
        self.lose_frame(vault, chunk, now.place);
        Ok(())
    }
}
