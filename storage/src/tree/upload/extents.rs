//! The extents of a file while it is open: segments are read when they are needed.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::Claim;
use crate::error::StoreError;
use crate::id::SegmentId;
use crate::index::Table;
use crate::limits::{CHUNK_BYTES_MIN, FRAGMENTS_MAX, SEGMENT_BYTES, SEGMENT_EXTENTS_MAX};
use crate::rows::{Body, Extent, SegmentRow, decode, segment_key};
use crate::tree::Vault;

/// Segments that are unchanged and in memory, at most: others are read again.
const CLEAN_SEGMENTS_MAX: usize = 8;

/// The extents of one file.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// Stored segments by place; absent for holes and for what only memory has.
    stored: BTreeMap<u64, SegmentId>,
    loaded: BTreeMap<u64, BTreeMap<u64, Extent>>,
    changed: BTreeSet<u64>,
    /// Of the stored ones, those that no content lists yet.
    owned: BTreeMap<u64, Claim>,
    /// Whether one that was stored since the last commit is in crumbs.
    crumbled: bool,
}

/// A segment that has anything in it.
pub(super) enum Segment {
    /// As the content before lists it.
    Listed(SegmentId),
    /// Stored, and listed by no content yet.
    Owned(SegmentId),
    /// In memory only.
    Changed(Changed),
}

/// What of a segment is in memory only.
pub(super) struct Changed {
    /// Which segment of the file.
    pub(super) at: u64,
    /// Where an earlier state of it is stored that no content lists.
    pub(super) owned: Option<SegmentId>,
    pub(super) extents: Vec<Extent>,
}

/// The part of the extents that lies in one segment.
fn split(extent: Extent) -> impl Iterator<Item = Extent> {
    let mut rest = Some(extent);
    std::iter::from_fn(move || {
        let extent = rest.take()?;
        let border = (extent.start / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
        if extent.end() <= border {
            return Some(extent);
        }
        let first = (border - extent.start) as u32;
        rest = Some(Extent { start: border, len: extent.len - first, skip: extent.skip + first, ..extent });
        Some(Extent { len: first, ..extent })
    })
}

fn cut_out(extents: &mut BTreeMap<u64, Extent>, from: u64, to: u64) {
    if let Some((_, before)) = extents.range_mut(..from).next_back() {
        let whole = *before;
        if whole.end() > from {
            before.len = (from - whole.start) as u32;
            if whole.end() > to {
                let dropped = (to - whole.start) as u32;
                extents.insert(
                    to,
                    Extent { start: to, len: whole.len - dropped, skip: whole.skip + dropped, ..whole },
                );
                return;
            }
        }
    }
    let covered: Vec<u64> = extents.range(from..to).map(|(start, _)| *start).collect();
    for start in covered {
        if let Some(extent) = extents.remove(&start)
            && extent.end() > to
        {
            let dropped = (to - start) as u32;
            extents.insert(
                to,
                Extent { start: to, len: extent.len - dropped, skip: extent.skip + dropped, ..extent },
            );
        }
    }
}

fn is_in_crumbs(extents: &BTreeMap<u64, Extent>) -> bool {
    extents.values().filter(|extent| (extent.len as usize) < CHUNK_BYTES_MIN).count() > FRAGMENTS_MAX
}

impl Extents {
    pub(super) fn of(body: &Body) -> Self {
        let mut extents = Self::default();
        match body {
            Body::Inline(list) => {
                for extent in list {
                    extents
                        .loaded
                        .entry(extent.start / SEGMENT_BYTES)
                        .or_default()
                        .insert(extent.start, *extent);
                }
                // Inline extents have no segment to come back from.
                extents.changed = extents.loaded.keys().copied().collect();
            }
            Body::Segments(list) => {
                let stored = list
                    .iter()
                    .enumerate()
                    .filter_map(|(at, segment)| segment.map(|segment| (at as u64, segment)));
                extents.stored = stored.collect();
            }
        }
        extents
    }

    fn load(&mut self, vault: &Vault, at: u64) -> Result<&mut BTreeMap<u64, Extent>, StoreError> {
        if !self.loaded.contains_key(&at) {
            if self.loaded.len() >= CLEAN_SEGMENTS_MAX {
                let changed = &self.changed;
                self.loaded.retain(|at, _| changed.contains(at));
            }
            let mut found = BTreeMap::new();
            if let Some(segment) = self.stored.get(&at) {
                let key = segment_key(vault.id(), *segment);
                let bytes = vault
                    .store()
                    .get(&vault.keys().records, Table::Segments, &key)?
                    .ok_or(StoreError::DamagedRecord)?;
                let row: SegmentRow = decode(&bytes)?;
                found = row.extents.into_iter().map(|extent| (extent.start, extent)).collect();
            }
            self.loaded.insert(at, found);
        }
        Ok(self.loaded.entry(at).or_default())
    }

    /// Puts an extent over what is there.
    pub(super) fn put(&mut self, vault: &Vault, extent: Extent) -> Result<(), StoreError> {
        for part in split(extent) {
            let at = part.start / SEGMENT_BYTES;
            let segment = self.load(vault, at)?;
            if segment.len() >= SEGMENT_EXTENTS_MAX {
                return Err(StoreError::TooLarge("the number of the file's fragments"));
            }
            cut_out(segment, part.start, part.end());
            segment.insert(part.start, part);
            self.changed.insert(at);
        }
        Ok(())
    }

    /// Cuts everything from `size` on.
    pub(super) fn truncate(&mut self, vault: &Vault, size: u64) -> Result<(), StoreError> {
        let (border, gone) = (size / SEGMENT_BYTES, size.div_ceil(SEGMENT_BYTES));
        if border < gone && (self.stored.contains_key(&border) || self.loaded.contains_key(&border)) {
            let segment = self.load(vault, border)?;
            cut_out(segment, size, u64::MAX);
            self.changed.insert(border);
        }
        drop(self.stored.split_off(&gone));
        drop(self.owned.split_off(&gone));
        drop(self.loaded.split_off(&gone));
        drop(self.changed.split_off(&gone));
        Ok(())
    }

    /// The extents that touch `from..to`, in order, cut to it.
    pub(super) fn touching(&mut self, vault: &Vault, from: u64, to: u64) -> Result<Vec<Extent>, StoreError> {
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        for at in from / SEGMENT_BYTES..=(to - 1) / SEGMENT_BYTES {
            if !self.stored.contains_key(&at) && !self.loaded.contains_key(&at) {
                continue;
            }
            let segment = self.load(vault, at)?;
            let before = segment.range(..from).next_back().filter(|(_, extent)| extent.end() > from);
            for (_, extent) in before.into_iter().chain(segment.range(from..to)) {
                let (start, end) = (extent.start.max(from), extent.end().min(to));
                let skip = extent.skip + (start - extent.start) as u32;
                found.push(Extent { start, len: (end - start) as u32, skip, chunk: extent.chunk });
            }
        }
        Ok(found)
    }

    /// Segments that have anything, by place.
    pub(super) fn segments(&self) -> Vec<(u64, Segment)> {
        let places: BTreeSet<u64> = self.stored.keys().chain(&self.changed).copied().collect();
        places
            .into_iter()
            .filter_map(|at| {
                let segment = if self.changed.contains(&at) {
                    Segment::Changed(self.changed_at(at))
                } else if let Some(claim) = self.owned.get(&at) {
                    Segment::Owned(claim.segment())
                } else {
                    Segment::Listed(*self.stored.get(&at)?)
                };
                let is_hole = matches!(&segment, Segment::Changed(changed) if changed.extents.is_empty());
                (!is_hole).then_some((at, segment))
            })
            .collect()
    }

    fn changed_at(&self, at: u64) -> Changed {
        let extents = self.loaded.get(&at).map(|extents| extents.values().copied().collect());
        let owned = self.owned.get(&at).map(Claim::segment);
        Changed { at, owned, extents: extents.unwrap_or_default() }
    }

    /// Changed segments of about so many extents in all; none when nothing is changed.
    pub(super) fn changed_piece(&self, extents_max: usize) -> Vec<Changed> {
        let (mut piece, mut extents) = (Vec::new(), 0);
        for at in &self.changed {
            let changed = self.changed_at(*at);
            extents += changed.extents.len();
            piece.push(changed);
            if extents >= extents_max {
                break;
            }
        }
        piece
    }

    /// A changed segment is stored now: claimed anew, in its own place, or not at all because it became a hole.
    pub(super) fn settled_at(&mut self, at: u64, claim: Option<Claim>) {
        self.changed.remove(&at);
        self.crumbled |= self.loaded.get(&at).is_some_and(is_in_crumbs);
        if let Some(claim) = claim {
            self.stored.insert(at, claim.segment());
            self.owned.insert(at, claim);
        } else if self.loaded.get(&at).is_none_or(BTreeMap::is_empty) {
            self.stored.remove(&at);
            self.owned.remove(&at);
        }
    }

    /// Forgets what can be read again.
    pub(super) fn forget_unchanged(&mut self) {
        let changed = &self.changed;
        self.loaded.retain(|at, _| changed.contains(at));
    }

    /// Whether a segment that changed since the last commit has become so many crumbs that reading it in order is slow.
    pub(super) fn is_fragmented(&self) -> bool {
        self.crumbled || self.changed.iter().filter_map(|at| self.loaded.get(at)).any(is_in_crumbs)
    }

    /// Extents in memory that only memory has.
    pub(super) fn changed_count(&self) -> usize {
        self.changed.iter().filter_map(|at| self.loaded.get(at)).map(BTreeMap::len).sum()
    }

    /// What was changed is stored now as `body`.
    pub(super) fn committed(&mut self, body: &Body) {
        // Their rows went with the transaction.
        self.owned.clear();
        self.crumbled = false;
        match body {
            Body::Inline(_) => {
                self.stored.clear();
                self.changed = self.loaded.keys().copied().collect();
            }
            Body::Segments(list) => {
                let stored = list
                    .iter()
                    .enumerate()
                    .filter_map(|(at, segment)| segment.map(|segment| (at as u64, segment)));
                self.stored = stored.collect();
                self.changed.clear();
            }
        }
    }
}
