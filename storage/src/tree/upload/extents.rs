//! The extents of a file while it is open: segments are read when they are needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::StoreError;
use crate::id::SegmentId;
use crate::index::Table;
use crate::limits::{CHUNK_BYTES_MIN, FRAGMENTS_MAX, SEGMENT_BYTES};
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
            cut_out(segment, part.start, part.end());
            segment.insert(part.start, part);
            self.changed.insert(at);
        }
        Ok(())
    }

    /// Cuts everything from `size` on.
    pub(super) fn truncate(&mut self, vault: &Vault, size: u64) -> Result<(), StoreError> {
        let border = size / SEGMENT_BYTES;
        if self.stored.contains_key(&border) || self.loaded.contains_key(&border) {
            let segment = self.load(vault, border)?;
            cut_out(segment, size, u64::MAX);
            self.changed.insert(border);
        }
        drop(self.stored.split_off(&(border + 1)));
        drop(self.loaded.split_off(&(border + 1)));
        drop(self.changed.split_off(&(border + 1)));
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

    /// Segments that have anything: place, stored identity if it is unchanged, extents if it is changed.
    pub(super) fn segments(&self) -> Vec<(u64, Result<SegmentId, Vec<Extent>>)> {
        let places: BTreeSet<u64> = self.stored.keys().chain(self.loaded.keys()).copied().collect();
        places
            .into_iter()
            .filter_map(|at| {
                if let (false, Some(segment)) = (self.changed.contains(&at), self.stored.get(&at)) {
                    Some((at, Ok(*segment)))
                } else {
                    let extents: Vec<_> = self.loaded.get(&at)?.values().copied().collect();
                    (!extents.is_empty()).then_some((at, Err(extents)))
                }
            })
            .collect()
    }

    /// Forgets what can be read again.
    pub(super) fn forget_unchanged(&mut self) {
        let changed = &self.changed;
        self.loaded.retain(|at, _| changed.contains(at));
    }

    /// Whether a changed segment has become so many crumbs that reading it in order is slow.
    pub(super) fn is_fragmented(&self) -> bool {
        let crumbs = |extents: &BTreeMap<u64, Extent>| {
            extents.values().filter(|extent| (extent.len as usize) < CHUNK_BYTES_MIN).count()
        };
        self.changed.iter().filter_map(|at| self.loaded.get(at)).any(|at| crumbs(at) > FRAGMENTS_MAX)
    }

    /// Extents in memory that only memory has.
    pub(super) fn changed_count(&self) -> usize {
        self.changed.iter().filter_map(|at| self.loaded.get(at)).map(BTreeMap::len).sum()
    }

    /// What was changed is stored now as `body`.
    pub(super) fn settled(&mut self, body: &Body) {
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
