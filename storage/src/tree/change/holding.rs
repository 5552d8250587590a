//! Who holds what: contents and uploads hold segments, segments and inline contents hold chunks, each once.

use std::collections::HashMap;

use super::Change;
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{ChunkId, ContentId, SegmentId};
use crate::index::Table;
use crate::rows::{
    Body, ChunkRow, Content, Extent, SegmentRow, ShareRow, chunk_key, encode, garbage_key, segment_key,
};

/// How much of a content was released.
pub(crate) enum Released {
    /// All of it.
    All {
        /// Chunks looked at.
        chunks: usize,
    },
    /// Its end; this much is left.
    Rest {
        /// What is left.
        content: Content,
    },
}

impl Change<'_> {
    /// Notes that a holder (a segment or an inline content) refers to these chunks no more.
    pub(crate) fn release(&mut self, extents: &[Extent]) {
        let distinct: std::collections::HashSet<_> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            self.chunks.entry(chunk).or_insert((None, 0)).1 -= 1;
        }
    }

    /// Notes that a holder (a segment or an inline content) refers to these chunks.
    pub(crate) fn refer(&mut self, extents: &[Extent], places: &HashMap<ChunkId, FramePlace>) {
        let distinct: std::collections::HashSet<_> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            let entry = self.chunks.entry(chunk).or_insert((None, 0));
            entry.0 = entry.0.or_else(|| places.get(&chunk).copied());
            entry.1 += 1;
        }
    }

    /// A content of inline extents.
    pub(crate) fn inline_body(
        &mut self,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Body {
        self.refer(&extents, places);
        Body::Inline(extents)
    }

    /// A new segment.
    pub(crate) fn add_segment(
        &mut self,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<SegmentId, StoreError> {
        self.refer(&extents, places);
        let segment = SegmentId(self.txn.next_number());
        self.put(Table::Segments, &segment_key(self.vault.id(), segment), &SegmentRow { refs: 1, extents })?;
        Ok(segment)
    }

    /// Another content lists a segment. Its own row stays as it is: it may be a thousand times as long.
    pub(crate) fn share_segment(&mut self, segment: SegmentId) -> Result<(), StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let share = self.get::<ShareRow>(Table::Shares, &key)?.unwrap_or_default();
        self.put(Table::Shares, &key, &ShareRow { more: share.more + 1 })
    }

    /// A new segment is held by an upload, until a content lists it.
    pub(crate) fn hold_segment(&mut self, segment: SegmentId) {
        let key = segment_key(self.vault.id(), segment);
        self.txn.put(self.vault.store().system_key(), Table::Uploads, &key, &[]);
    }

    /// No upload holds a segment any more: a content lists it, or nobody will.
    pub(crate) fn unhold_segment(&mut self, segment: SegmentId) {
        self.txn.delete(Table::Uploads, &segment_key(self.vault.id(), segment));
    }

    /// Gives a segment that only its upload knows other extents.
    pub(crate) fn rewrite_segment(
        &mut self,
        segment: SegmentId,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<(), StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let row: SegmentRow = self.get(Table::Segments, &key)?.ok_or(StoreError::DamagedRecord)?;
        self.release(&row.extents);
        self.refer(&extents, places);
        self.put(Table::Segments, &key, &SegmentRow { extents, ..row })
    }

    /// Releases a segment whose upload ended without a commit. Returns how many chunks that concerned.
    pub(crate) fn abandon_segment(&mut self, segment: SegmentId) -> Result<usize, StoreError> {
        self.unhold_segment(segment);
        match self.release_segment(segment) {
            // It was lost: `check` tells of that.
            Err(StoreError::DamagedRecord) => Ok(0),
            released => released,
        }
    }

    /// A content of its own with the same bytes.
    pub(crate) fn share_content(&mut self, content: &Content) -> Result<Content, StoreError> {
        match &content.body {
            Body::Inline(extents) => self.refer(extents, &HashMap::new()),
            Body::Segments(segments) => {
                for segment in segments.iter().flatten() {
                    self.share_segment(*segment)?;
                }
            }
        }
        let id = ContentId(self.txn.next_number());
        self.share_digests(content.id, id)?;
        Ok(Content { id, ..content.clone() })
    }

    /// A content is listed by no state of its inode any more. One that has more than about `chunks_max` chunks is released
    /// from its end, a part at a time.
    pub(crate) fn release_content(
        &mut self,
        content: &Content,
        chunks_max: usize,
    ) -> Result<Released, StoreError> {
        let list = match &content.body {
            Body::Inline(extents) => {
                self.release(extents);
                self.forget_digests(content.id)?;
                return Ok(Released::All { chunks: extents.len() });
            }
            Body::Segments(list) => list,
        };
        let (mut rest, mut chunks) = (list.clone(), 0);
        while let Some(last) = rest.pop() {
            if let Some(segment) = last {
                chunks += 1 + self.release_segment(segment)?;
            }
            if chunks >= chunks_max && !rest.is_empty() {
                let content = Content { body: Body::Segments(rest), ..content.clone() };
                return Ok(Released::Rest { content });
            }
        }
        self.forget_digests(content.id)?;
        Ok(Released::All { chunks })
    }

    /// Puts other extents for the same bytes in a segment's place; tells whether it still was as expected.
    pub(crate) fn replace_segment(
        &mut self,
        segment: SegmentId,
        before: &[Extent],
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<bool, StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let Some(row) = self.get::<SegmentRow>(Table::Segments, &key)?.filter(|row| row.extents == before)
        else {
            return Ok(false);
        };
        self.release(before);
        self.refer(&extents, places);
        self.put(Table::Segments, &key, &SegmentRow { extents, ..row })?;
        Ok(true)
    }

    fn release_segment(&mut self, segment: SegmentId) -> Result<usize, StoreError> {
        let key = segment_key(self.vault.id(), segment);
        if let Some(share) = self.get::<ShareRow>(Table::Shares, &key)? {
            if share.more > 1 {
                self.put(Table::Shares, &key, &ShareRow { more: share.more - 1 })?;
            } else {
                self.txn.delete(Table::Shares, &key);
            }
            if share.more > 0 {
                return Ok(0);
            }
        }
        let mut row: SegmentRow = self.get(Table::Segments, &key)?.ok_or(StoreError::DamagedRecord)?;
        row.refs = row.refs.saturating_sub(1);
        if row.refs > 0 {
            self.put(Table::Segments, &key, &row)?;
            return Ok(0);
        }
        self.release(&row.extents);
        self.txn.delete(Table::Segments, &key);
        Ok(row.extents.len())
    }

    /// What is known of a chunk.
    pub(crate) fn chunk(&self, chunk: ChunkId) -> Result<Option<ChunkRow>, StoreError> {
        self.txn.chunk(self.vault.keys(), chunk)
    }

    /// Puts or deletes what is known of a chunk, and counts what that means for its pack and its vault.
    pub(crate) fn replace_chunk(
        &mut self,
        chunk: ChunkId,
        old: Option<&ChunkRow>,
        new: Option<&ChunkRow>,
    ) -> Result<(), StoreError> {
        for (row, sign) in [(old, -1_i64), (new, 1)] {
            if let Some(ChunkRow { place, .. }) = row {
                self.txn.count(place.pack, sign * i64::from(place.stored_bytes));
                self.unique_grown += sign * i64::from(place.plain_bytes);
                self.stored_grown += sign * i64::from(place.stored_bytes);
            }
        }
        let key = chunk_key(self.vault.id(), chunk);
        match new {
            Some(row) => {
                self.txn.put(self.vault.store().system_key(), Table::Chunks, &key, &encode(row)?);
            }
            None => self.txn.delete(Table::Chunks, &key),
        }
        Ok(())
    }

    pub(super) fn write_references(&mut self) -> Result<(), StoreError> {
        for (chunk, (place, gained)) in std::mem::take(&mut self.chunks) {
            // It went from one holder to the next.
            if gained == 0 && place.is_none() {
                continue;
            }
            let found = self.chunk(chunk)?;
            let row = match (found, place) {
                // Its frame does not open; the same bytes have come again.
                (Some(ChunkRow { refs, damaged: Some(_), .. }), Some(place)) => {
                    ChunkRow { place, refs: refs.saturating_add_signed(gained), damaged: None }
                }
                (Some(found), _) => ChunkRow { refs: found.refs.saturating_add_signed(gained), ..found },
                (None, Some(place)) if gained > 0 => {
                    ChunkRow { place, refs: gained.unsigned_abs(), damaged: None }
                }
                (None, Some(_)) => continue,
                (None, None) => return Err(StoreError::DamagedRecord),
            };
            if row.refs == 0 {
                let key = garbage_key(self.txn.number(), self.vault.id(), chunk);
                self.txn.put(self.vault.store().system_key(), Table::Garbage, &key, &[]);
            }
            self.replace_chunk(chunk, found.as_ref(), Some(&row))?;
        }
        Ok(())
    }
}
