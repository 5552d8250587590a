//! Segments that random writes left in crumbs are cut anew, as if the file had been written in order. The bytes stay, and
//! so do the content's identity and everybody who lists the segment.

use std::collections::HashMap;

use super::{Interrupted, Pass};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{ChunkId, InodeId, SegmentId};
use crate::index::Table;
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FRAGMENTS_MAX};
use crate::rows::{Body, Extent, SegmentRow, after_prefix, decode, segment_key};
use crate::tree::Vault;
use crate::tree::change::Change;

/// Files looked at in one go.
const PIECE: usize = 256;

fn is_fragmented(extents: &[Extent]) -> bool {
    extents.iter().filter(|extent| (extent.len as usize) < CHUNK_BYTES_MIN).count() > FRAGMENTS_MAX
}

/// A segment's bytes on their way to their new chunks.
struct Rewrite<'v> {
    vault: &'v Vault,
    extents: Vec<Extent>,
    places: HashMap<ChunkId, FramePlace>,
    /// Bytes read and not yet cut, and where in the file they begin.
    run: Vec<u8>,
    start: u64,
    written: u64,
}

impl Rewrite<'_> {
    fn take(&mut self, extent: &Extent) -> Result<(), StoreError> {
        if self.start + self.run.len() as u64 != extent.start {
            self.cut(true)?;
            self.start = extent.start;
        }
        let place = self.vault.place(extent.chunk)?;
        let chunk = self.vault.read_chunk(extent.chunk, &place)?;
        let (from, len) = (extent.skip as usize, extent.len as usize);
        let bytes = chunk.get(from..from + len).ok_or(StoreError::Damaged { pack: place.pack })?;
        self.run.extend_from_slice(bytes);
        if self.run.len() >= 2 * CHUNK_BYTES_MAX { self.cut(false) } else { Ok(()) }
    }

    fn cut(&mut self, last: bool) -> Result<(), StoreError> {
        let (keys, store) = (self.vault.keys(), self.vault.store());
        let mut at = 0;
        while let Some(len) = keys.chunker.cut(&self.run[at..], last) {
            let plain = &self.run[at..at + len];
            let chunk = keys.chunk_id(plain);
            let known = store.chunk(keys, chunk)?.is_some_and(|row| row.refs > 0 && row.damaged.is_none());
            if !known && !self.places.contains_key(&chunk) {
                let place = store.stage(keys, chunk, plain, self.vault.compression())?;
                self.written += u64::from(place.stored_bytes);
                self.places.insert(chunk, place);
            }
            let start = self.start + at as u64;
            let len = u32::try_from(len).map_err(|_| StoreError::TooLarge("a chunk"))?;
            self.extents.push(Extent { start, len, chunk, skip: 0 });
            at += len as usize;
        }
        self.run.drain(..at);
        self.start += at as u64;
        Ok(())
    }
}

impl Pass<'_> {
    pub(super) fn rewrite(&mut self, vault: &Vault) -> Result<(), Interrupted> {
        let to = after_prefix(&vault.id().0);
        let mut from = vault.id().0.to_vec();
        loop {
            let piece = self.store.sealed_range(Table::Fragmented, &from, &to, PIECE)?;
            let Some((last, _)) = piece.last() else { return Ok(()) };
            from = [&last[..], &[0]].concat();
            for (key, _) in &piece {
                let inode = key.last_chunk().ok_or(StoreError::DamagedRecord)?;
                self.rewrite_file(vault, InodeId(u64::from_be_bytes(*inode)), key)?;
            }
        }
    }

    fn rewrite_file(&mut self, vault: &Vault, inode: InodeId, key: &[u8]) -> Result<(), Interrupted> {
        // Who writes to it now would leave crumbs again.
        if vault.opened(inode).is_some_and(|open| open.is_dirty()) {
            return Ok(());
        }
        let body = match vault.row(inode) {
            Ok(row) => row.content.body,
            Err(StoreError::NotFound) => Body::Inline(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if let Body::Segments(list) = body {
            for segment in list.into_iter().flatten() {
                self.rewrite_segment(vault, segment)?;
            }
        }
        let mut change = Change::begin(vault)?;
        change.delete(Table::Fragmented, key);
        drop(change.submit_silently()?);
        Ok(())
    }

    fn rewrite_segment(&mut self, vault: &Vault, segment: SegmentId) -> Result<(), Interrupted> {
        let key = segment_key(vault.id(), segment);
        // What is staged, and what is known to be there, stays there until the end of this.
        let _epoch = self.store.epoch();
        let Some(bytes) = self.store.get(&vault.keys().records, Table::Segments, &key)? else {
            return Ok(());
        };
        let before: SegmentRow = decode(&bytes)?;
        let Some(first) = before.extents.first().filter(|_| is_fragmented(&before.extents)) else {
            return Ok(());
        };
        let mut rewrite = Rewrite {
            vault,
            extents: Vec::new(),
            places: HashMap::new(),
            run: Vec::new(),
            start: first.start,
            written: 0,
        };
        for extent in &before.extents {
            match rewrite.take(extent) {
                Ok(()) => {}
                // It stays as it is; `check` tells of it.
                Err(StoreError::Damaged { .. } | StoreError::SetAside { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        rewrite.cut(true)?;
        let Rewrite { extents, places, written, .. } = rewrite;
        let mut change = Change::begin(vault)?;
        if change.replace_segment(segment, &before.extents, extents, &places)? {
            drop(change.submit_silently()?);
            self.report.segments_rewritten += 1;
        }
        self.stepped(written)
    }
}
