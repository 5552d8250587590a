//! Contents of one vault: who holds which segment and which chunk, and whether all are there.

use std::collections::{HashMap, HashSet};

use super::{Check, Count, Finding, chunk_of, number_of};
use crate::error::StoreError;
use crate::id::{ChunkId, ContentId, SegmentId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::rows::{Body, ChunkRow, Content, Extent, SegmentRow, ShareRow, decode};

/// References, counted.
#[derive(Default)]
pub(super) struct Holdings {
    pub(super) contents: HashSet<ContentId>,
    segments: HashMap<SegmentId, u64>,
    chunks: HashMap<ChunkId, u64>,
    /// Plaintext bytes of all chunks.
    pub(super) unique: u64,
    /// Bytes of their frames.
    pub(super) stored: u64,
}

impl Holdings {
    fn hold(&mut self, extents: &[Extent]) {
        let distinct: HashSet<ChunkId> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            *self.chunks.entry(chunk).or_default() += 1;
        }
    }

    /// States of an inode may share one content: it holds what it lists once.
    pub(super) fn content(&mut self, content: &Content) {
        if !self.contents.insert(content.id) {
            return;
        }
        match &content.body {
            Body::Inline(extents) => self.hold(extents),
            Body::Segments(segments) => {
                for segment in segments.iter().flatten() {
                    *self.segments.entry(*segment).or_default() += 1;
                }
            }
        }
    }
}

impl Check<'_> {
    pub(super) fn segments(&mut self, keys: &VaultKeys, holdings: &mut Holdings) -> Result<(), StoreError> {
        let vault = keys.vault;
        // An upload under way holds what it stored as a content does.
        self.rows((&[self.store.system_key()], Table::Uploads), &vault.0, |_, at, _| {
            *holdings.segments.entry(SegmentId(number_of(at)?)).or_default() += 1;
            Ok(())
        })?;
        let mut shares = HashMap::new();
        self.rows((&[&keys.records], Table::Shares), &vault.0, |_, at, row| {
            shares.insert(SegmentId(number_of(at)?), decode::<ShareRow>(row)?.more);
            Ok(())
        })?;
        let mut expected = std::mem::take(&mut holdings.segments);
        self.rows((&[&keys.records], Table::Segments), &vault.0, |own, at, row| {
            let (segment, row) = (SegmentId(number_of(at)?), decode::<SegmentRow>(row)?);
            own.number(Table::Segments, segment.0);
            holdings.hold(&row.extents);
            let said = row.refs.saturating_add(shares.remove(&segment).unwrap_or(0));
            if let Some(count) = Count::differs(said, expected.remove(&segment).unwrap_or(0)) {
                own.find(Finding::SegmentReferences { vault, segment, count });
            }
            if !is_ordered(&row.extents) {
                own.find(Finding::SegmentExtents { vault, segment });
            }
            Ok(())
        })?;
        for (segment, _) in shares.into_iter().filter(|(segment, _)| !expected.contains_key(segment)) {
            self.find(Finding::ShareOfNobody { vault, segment });
        }
        for (segment, _) in expected {
            self.find(Finding::SegmentMissing { vault, segment });
            self.unreadable.entry(vault).or_default().segments.insert(segment);
        }
        Ok(())
    }

    pub(super) fn chunks(&mut self, keys: &VaultKeys, holdings: &mut Holdings) -> Result<(), StoreError> {
        let vault = keys.vault;
        let mut expected = std::mem::take(&mut holdings.chunks);
        let mut alone = HashSet::new();
        self.rows((&[self.store.system_key(), &keys.records], Table::Chunks), &vault.0, |own, at, row| {
            let (chunk, row) = (chunk_of(at)?, decode::<ChunkRow>(row)?);
            own.report.chunks += 1;
            holdings.unique += u64::from(row.place.plain_bytes);
            holdings.stored += u64::from(row.place.stored_bytes);
            *own.live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            if let Some(count) = Count::differs(row.refs, expected.remove(&chunk).unwrap_or(0)) {
                own.find(Finding::ChunkReferences { vault, chunk, count });
            }
            if row.refs == 0 {
                alone.insert(chunk);
            }
            if row.damaged.is_some() {
                own.report.chunks_set_aside += 1;
                own.lose_chunk(vault, chunk);
            } else if !own.is_in_bounds(&row.place) {
                own.lose_frame(vault, chunk, row.place);
                let pack = row.place.pack;
                if own.packs.contains_key(&pack) {
                    own.find(Finding::ChunkOutside { vault, chunk, pack });
                } else {
                    *own.missing.entry(pack).or_default() += 1;
                }
            }
            Ok(())
        })?;
        for (chunk, references) in expected {
            self.find(Finding::ChunkMissing { vault, chunk, references });
            self.lose_chunk(vault, chunk);
        }
        self.awaited(keys, alone)
    }

    /// What nobody refers to any more waits for reclaim, or it would stay for ever.
    fn awaited(&mut self, keys: &VaultKeys, mut alone: HashSet<ChunkId>) -> Result<(), StoreError> {
        if alone.is_empty() {
            return Ok(());
        }
        let vault = keys.vault;
        self.rows((&[self.store.system_key()], Table::Garbage), &[], |_, at, _| {
            if let Some(key) = at.get(8..).filter(|key| key.starts_with(&vault.0)) {
                alone.remove(&chunk_of(key)?);
            }
            Ok(())
        })?;
        for chunk in alone {
            self.find(Finding::NotAwaited { vault, chunk });
        }
        Ok(())
    }
}

pub(super) fn is_ordered(extents: &[Extent]) -> bool {
    extents.windows(2).all(|pair| matches!(pair, [before, after] if before.end() <= after.start))
}
