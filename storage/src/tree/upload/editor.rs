//! A content being read and written: extents of what is stored, dirty bytes, and what was staged meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use super::dirty::Dirty;
use super::extents::{Changed, Extents, Segment};
use crate::allowance::Amounts;
use crate::commit::Epoch;
use crate::error::StoreError;
use crate::frame::{FRAME_OVERHEAD_BYTES, FramePlace};
use crate::id::{ChunkId, ContentId};
use crate::limits::{CHUNK_BYTES_MIN, DIRTY_BYTES_TARGET, FILE_BYTES_MAX, PINNED_BYTES_MAX, SEGMENT_BYTES};
use crate::quota::Reservation;
use crate::rows::{Body, Content, Extent, INLINE_EXTENTS_MAX};
use crate::tree::Vault;
use crate::tree::change::Change;
use crate::unsaved::Share;

/// Small random writes are widened to this, so that a file does not fall into crumbs.
const ALIGNMENT: u64 = 4096;

/// Where the bytes of an extent's chunk are.
#[derive(Clone)]
enum Source {
    /// In the store's cache when somebody looked: its place need not be asked for.
    Memory(Arc<[u8]>),
    Log(FramePlace),
}

/// Where the bytes of a range are. Read without the file's lock: frames never change.
pub(super) struct Plan {
    vault: Vault,
    offset: u64,
    len: usize,
    pieces: Vec<(Extent, Source)>,
}

impl Plan {
    /// Tells the disk what of it will be read.
    pub(super) fn announce(&self) {
        let stored = self.pieces.iter().filter_map(|(_, source)| match source {
            Source::Log(place) => Some(*place),
            Source::Memory(_) => None,
        });
        self.vault.store().will_read(stored);
    }

    /// Appends the range's bytes; holes are zeros.
    pub(super) fn read(&self, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let from = into.len();
        into.reserve(self.len);
        for (extent, source) in &self.pieces {
            // A hole before it.
            into.resize(from + (extent.start - self.offset) as usize, 0);
            let chunk = match source {
                Source::Memory(chunk) => Arc::clone(chunk),
                Source::Log(place) => self.vault.read_chunk(extent.chunk, place)?,
            };
            let skip = extent.skip as usize;
            let found = chunk.get(skip..skip + extent.len as usize).ok_or(StoreError::DamagedRecord)?;
            into.extend_from_slice(found);
        }
        into.resize(from + self.len, 0);
        Ok(())
    }
}

/// A content being read and written.
#[derive(Debug)]
pub(super) struct Editor {
    pub(super) vault: Vault,
    pub(super) extents: Extents,
    pub(super) dirty: Dirty,
    /// What `dirty` takes of what all files may hold.
    unsaved_bytes: Share,
    pub(super) size: u64,
    /// Bytes that are not holes, committed ones and reserved ones.
    pub(super) stored: u64,
    pub(super) staged: HashMap<ChunkId, FramePlace>,
    /// Chunks that were put into extents since those were stored.
    pub(super) unsettled: usize,
    /// What `extents` take of what all files may hold.
    pub(super) unsaved_extents: Share,
    hasher: Option<Box<blake3::Hasher>>,
    hashed: u64,
    pub(super) reservation: Reservation,
    pub(super) reserve: Reserve,
    pub(super) changed: bool,
    /// The committed content that reads show; nothing from the first write on, until it is committed as another.
    pub(super) shown: Option<ContentId>,
    /// What the index said when `extents` were looked up stays until this is renewed.
    pub(super) epoch: Epoch,
}

/// What the reservation is made of, beside the bytes that were taken.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Bytes of the content that this one replaces: they go when it comes.
    replaced: u64,
    /// Bytes that were announced.
    expected: u64,
    /// Files that it makes: one, or none.
    files: u64,
    /// Bytes of new chunks that are staged.
    staged: u64,
    /// Bytes that were dirty and are being cut.
    cutting: u64,
}

impl Reserve {
    /// For a content that takes the place of one of `replaced` bytes, `expected` of it announced.
    pub(super) fn in_place_of(replaced: u64, expected: u64) -> Self {
        Self { replaced, expected, ..Self::default() }
    }

    /// For a content that makes a file, `expected` bytes of it announced.
    pub(super) fn of_new_file(expected: u64) -> Self {
        Self { expected, files: 1, ..Self::default() }
    }

    /// It is made of files that go when it comes, with so many bytes.
    pub(super) fn is_made_of(&mut self, bytes: u64) {
        self.replaced += bytes;
        self.files = 0;
    }

    /// So many bytes of what was staged count as stored from now on.
    pub(super) fn staged_are_stored(&mut self, bytes: u64) {
        self.staged = self.staged.saturating_sub(bytes);
    }

    /// All that was staged counts as stored, or was there before.
    pub(super) fn forget_staged(&mut self) {
        self.staged = 0;
    }
}

impl Editor {
    /// `epoch` is older than the look at `content`.
    pub(super) fn of(vault: Vault, content: &Content, epoch: Epoch) -> Self {
        let reservation = Reservation::new(Arc::clone(vault.store().quotas()), vault.owner(), vault.id());
        let unsaved_extents = Share::new(vault.store().unsaved_extents());
        let unsaved_bytes = Share::new(vault.store().unsaved_bytes());
        Self {
            vault,
            extents: Extents::of(&content.body),
            dirty: Dirty::default(),
            unsaved_bytes,
            size: content.size,
            stored: content.stored,
            staged: HashMap::new(),
            unsettled: 0,
            unsaved_extents,
            hasher: (content.size == 0).then(Box::default),
            hashed: 0,
            reservation,
            reserve: Reserve::in_place_of(content.stored, 0),
            changed: false,
            shown: Some(content.id),
            epoch,
        }
    }

    /// Forgets what was looked up, so that others need not keep it; not while something is unsaved.
    pub(super) fn renew(&mut self) {
        // What is unsaved in a vault that was erased is never saved.
        if !self.changed || self.vault.is_closed() {
            let epoch = self.vault.store().epoch();
            self.extents.forget_unchanged();
            self.epoch = epoch;
        }
    }

    /// Reserves what a content of `stored` bytes takes, `unsealed` of them not sealed yet: as many again on the disk, until it
    /// shows that a chunk is there already.
    pub(super) fn hold(&mut self, stored: u64, unsealed: u64) -> Result<(), StoreError> {
        let reserve = &self.reserve;
        let wanted = Amounts {
            bytes: stored.max(reserve.expected).saturating_sub(reserve.replaced),
            files: reserve.files,
            stored: reserve.staged + unsealed,
        };
        self.reservation.hold(wanted).map_err(|refusal| self.vault.refused(refusal))
    }

    /// Holds what a content of so many bytes more takes, before they come.
    pub(super) fn hold_more(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.hold(self.stored.saturating_add(bytes), bytes.min(1))
    }

    fn unsealed(&self) -> u64 {
        self.dirty.bytes() as u64 + self.reserve.cutting
    }

    /// Bytes of a range that are neither stored nor dirty.
    fn holes(&mut self, from: u64, to: u64) -> Result<u64, StoreError> {
        if from >= self.size {
            return Ok(to - from);
        }
        let vault = self.vault.clone();
        let mut covered: Vec<(u64, u64)> = self
            .extents
            .touching(&vault, from, to)?
            .iter()
            .map(|extent| (extent.start, extent.end()))
            .collect();
        covered.extend(self.dirty.ranges(from, to));
        covered.sort_unstable();
        let (mut holes, mut at) = (0, from);
        for (start, end) in covered {
            holes += start.saturating_sub(at);
            at = at.max(end);
        }
        Ok(holes + to.saturating_sub(at))
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(StoreError::TooLarge("the file"))?;
        if bytes.is_empty() {
            return Ok(());
        }
        // It could not be staged after the last write: then nothing more is taken.
        if self.dirty.weight() > DIRTY_BYTES_TARGET {
            self.flush(false)?;
        }
        let more = self.holes(offset, end)?;
        self.hold(self.stored + more, self.unsealed() + bytes.len() as u64)?;
        self.stored += more;
        match &mut self.hasher {
            Some(hasher) if self.hashed == offset => {
                hasher.update(bytes);
                self.hashed = end;
            }
            hasher => *hasher = None,
        }
        self.dirty.write(offset, bytes);
        self.size = self.size.max(end);
        self.changed = true;
        self.shown = None;
        self.unsaved_bytes.set(self.dirty.weight());
        if self.unsaved_bytes.is_over() {
            self.flush(true)
        } else if self.dirty.weight() > DIRTY_BYTES_TARGET {
            self.flush(false)
        } else {
            Ok(())
        }
    }

    pub(super) fn truncate(&mut self, size: u64) -> Result<(), StoreError> {
        if size > FILE_BYTES_MAX {
            return Err(StoreError::TooLarge("the file"));
        }
        if size < self.size {
            let gone = self.size - size - self.holes(size, self.size)?;
            self.dirty.cut_out(size, u64::MAX);
            self.unsaved_bytes.set(self.dirty.weight());
            let vault = self.vault.clone();
            self.extents.truncate(&vault, size)?;
            self.stored -= gone;
            self.hold(self.stored, self.unsealed())?;
        }
        if size == 0 {
            self.hasher = Some(Box::default());
            self.hashed = 0;
        } else if size != self.hashed {
            self.hasher = None;
        }
        if size != self.size {
            self.changed = true;
            self.shown = None;
        }
        self.size = size;
        Ok(())
    }

    /// Stages dirty bytes. With `all` false the end of the last run stays, where the next bytes may still move the cut.
    pub(super) fn flush(&mut self, all: bool) -> Result<(), StoreError> {
        let flushed = self.cut(all);
        self.unsaved_bytes.set(self.dirty.weight());
        self.reserve.cutting = 0;
        flushed?;
        self.hold_again()
    }

    /// Holds what is left to hold.
    pub(super) fn hold_again(&mut self) -> Result<(), StoreError> {
        self.hold(self.stored, self.unsealed())
    }

    fn cut(&mut self, all: bool) -> Result<(), StoreError> {
        let frontier = self.dirty.end();
        let vault = self.vault.clone();
        if self.dirty.bytes() < DIRTY_BYTES_TARGET || all {
            self.widen()?;
        }
        let mut runs = self.dirty.take();
        self.reserve.cutting = runs.values().map(|run| run.len() as u64).sum();
        while let Some((start, run)) = runs.pop_first() {
            let open_end = !all && start + run.len() as u64 == frontier;
            let mut at = 0;
            while let Some(len) = vault.keys().chunker.cut(&run[at..], !open_end) {
                if let Err(error) = self.store_chunk(start + at as u64, &run[at..at + len]) {
                    // Nothing is lost: what is not staged stays dirty.
                    self.dirty.write(start + at as u64, &run[at..]);
                    for (start, run) in &runs {
                        self.dirty.write(*start, run);
                    }
                    return Err(error);
                }
                at += len;
            }
            self.dirty.write(start + at as u64, &run[at..]);
        }
        Ok(())
    }

    /// Widens short runs to whole blocks with the bytes that are there.
    fn widen(&mut self) -> Result<(), StoreError> {
        let short: Vec<(u64, u64)> =
            self.dirty.ranges(0, u64::MAX).filter(|(from, to)| to - from < CHUNK_BYTES_MIN as u64).collect();
        let vault = self.vault.clone();
        for (from, to) in short {
            let wide = (from / ALIGNMENT * ALIGNMENT, to.next_multiple_of(ALIGNMENT).min(self.size));
            for (start, end) in [(wide.0, from), (to, wide.1)] {
                for extent in self.extents.touching(&vault, start, end.max(start))? {
                    let mut bytes = vec![0; extent.len as usize];
                    self.read_extent(&extent, &mut bytes)?;
                    self.dirty.overlay(extent.start, &mut bytes);
                    self.dirty.write(extent.start, &bytes);
                }
            }
        }
        Ok(())
    }

    fn store_chunk(&mut self, start: u64, plain: &[u8]) -> Result<(), StoreError> {
        if self.is_much() {
            self.settle()?;
        }
        let keys = self.vault.keys();
        let chunk = keys.chunk_id(plain);
        if !self.staged.contains_key(&chunk) && !self.is_known(chunk)? {
            // Sealed it is a little longer than it was.
            self.hold(self.stored, self.unsealed() + FRAME_OVERHEAD_BYTES as u64)?;
            let (keys, compression) = (self.vault.keys(), self.vault.compression());
            let place = self.vault.store().stage(keys, chunk, plain, compression)?;
            self.reserve.staged += u64::from(place.stored_bytes);
            self.staged.insert(chunk, place);
        }
        self.reserve.cutting = self.reserve.cutting.saturating_sub(plain.len() as u64);
        let len = u32::try_from(plain.len()).map_err(|_| StoreError::TooLarge("a chunk"))?;
        let vault = self.vault.clone();
        self.unsettled += 1;
        self.extents.put(&vault, Extent { start, len, chunk, skip: 0 })
    }

    /// Whether a chunk is there already. One that nobody refers to may be forgotten before this commits, and one that is
    /// damaged is replaced: both are written again.
    fn is_known(&self, chunk: ChunkId) -> Result<bool, StoreError> {
        let row = self.vault.store().chunk(self.vault.keys(), chunk)?;
        Ok(row.is_some_and(|row| row.refs > 0 && row.damaged.is_none()))
    }

    fn place(&self, chunk: ChunkId) -> Result<FramePlace, StoreError> {
        match self.staged.get(&chunk) {
            Some(place) => Ok(*place),
            None => self.vault.place(chunk),
        }
    }

    fn read_extent(&self, extent: &Extent, into: &mut [u8]) -> Result<(), StoreError> {
        let place = self.place(extent.chunk)?;
        let chunk = self.vault.read_chunk(extent.chunk, &place)?;
        let from = extent.skip as usize;
        let found =
            chunk.get(from..from + extent.len as usize).ok_or(StoreError::Damaged { pack: place.pack })?;
        into.copy_from_slice(found);
        Ok(())
    }

    /// The first run of bytes from `from` on that are no hole, at most `bytes_max` of it.
    pub(super) fn stored_run(&mut self, from: u64, bytes_max: u64) -> Result<Option<(u64, u64)>, StoreError> {
        let vault = self.vault.clone();
        let mut at = from;
        while at < self.size {
            let until = ((at / SEGMENT_BYTES + 1) * SEGMENT_BYTES).min(self.size);
            let mut covered: Vec<(u64, u64)> = self
                .extents
                .touching(&vault, at, until)?
                .iter()
                .map(|extent| (extent.start, extent.end()))
                .collect();
            covered.extend(self.dirty.ranges(at, until));
            covered.sort_unstable();
            if let Some((start, mut end)) = covered.first().copied() {
                for (next, next_end) in covered {
                    if next > end || end - start >= bytes_max {
                        break;
                    }
                    end = end.max(next_end);
                }
                return Ok(Some((start, end.min(start.saturating_add(bytes_max)))));
            }
            at = until;
        }
        Ok(None)
    }

    /// Where the bytes of a range are, behind what is dirty.
    pub(super) fn plan(&mut self, offset: u64, len: usize) -> Result<Plan, StoreError> {
        let end = offset.saturating_add(len as u64).min(self.size).max(offset);
        let vault = self.vault.clone();
        let mut pieces: Vec<(Extent, Source)> = Vec::new();
        let mut pinned = 0;
        for extent in self.extents.touching(&vault, offset, end)? {
            // Between fragments the same chunk comes again and again: it is looked up once.
            let known = pieces.iter().rev().find(|(known, _)| known.chunk == extent.chunk);
            let source = match known.map(|(_, source)| source.clone()) {
                Some(source) => source,
                None if pinned < PINNED_BYTES_MAX => match vault.store().cached(vault.keys(), extent.chunk) {
                    Some(chunk) => {
                        pinned += chunk.len();
                        Source::Memory(chunk)
                    }
                    None => Source::Log(self.place(extent.chunk)?),
                },
                None => Source::Log(self.place(extent.chunk)?),
            };
            pieces.push((extent, source));
        }
        Ok(Plan { vault, offset, len: (end - offset) as usize, pieces })
    }

    pub(super) fn read(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let from = into.len();
        self.plan(offset, len)?.read(into)?;
        self.dirty.overlay(offset, &mut into[from..]);
        Ok(())
    }

    pub(super) fn is_in_memory(&mut self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64).min(self.size);
        let vault = self.vault.clone();
        self.extents.touching(&vault, offset, end.max(offset)).is_ok_and(|extents| {
            extents.iter().all(|extent| vault.store().is_cached(vault.keys(), extent.chunk))
        })
    }

    /// Something came that was not hashed.
    pub(super) fn forget_hash(&mut self) {
        self.hasher = None;
    }

    fn blake3(&self) -> Option<[u8; 32]> {
        let hasher = self.hasher.as_ref().filter(|_| self.hashed == self.size)?;
        Some(*hasher.finalize().as_bytes())
    }

    /// The content record, with its segments and references put into the transaction.
    pub(super) fn content(&self, change: &mut Change<'_>) -> Result<Content, StoreError> {
        let segments = self.extents.segments();
        let inline: Option<Vec<Extent>> = segments
            .iter()
            .map(|(_, segment)| match segment {
                Segment::Changed(Changed { owned: None, extents, .. }) => Some(extents.clone()),
                Segment::Changed(_) | Segment::Listed(_) | Segment::Owned(_) => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|lists| lists.concat())
            .filter(|all| all.len() <= INLINE_EXTENTS_MAX);
        let body = if let Some(extents) = inline {
            change.inline_body(extents, &self.staged)
        } else {
            let count = segments.last().map_or(0, |(at, _)| at + 1);
            let mut list = vec![None; usize::try_from(count).map_err(|_| StoreError::TooLarge("the file"))?];
            for (at, segment) in segments {
                let id = match segment {
                    Segment::Listed(listed) => {
                        change.share_segment(listed)?;
                        listed
                    }
                    Segment::Owned(owned) => {
                        change.unhold_segment(owned);
                        owned
                    }
                    Segment::Changed(Changed { owned: Some(owned), extents, .. }) => {
                        change.rewrite_segment(owned, extents, &self.staged)?;
                        change.unhold_segment(owned);
                        owned
                    }
                    Segment::Changed(Changed { extents, .. }) => change.add_segment(extents, &self.staged)?,
                };
                list[at as usize] = Some(id);
            }
            debug_assert!(self.size <= FILE_BYTES_MAX && count <= FILE_BYTES_MAX / SEGMENT_BYTES);
            Body::Segments(list)
        };
        let id = ContentId(change.txn.next_number());
        Ok(Content { id, size: self.size, stored: self.stored, blake3: self.blake3(), body })
    }

    /// `epoch` is older than the transaction that committed `content`.
    pub(super) fn committed(&mut self, content: &Content, epoch: Epoch) {
        self.epoch = epoch;
        self.extents.committed(&content.body);
        self.staged.clear();
        self.unsettled = 0;
        self.unsaved_extents.set(0);
        self.reserve = Reserve::in_place_of(content.stored, 0);
        self.changed = false;
        self.shown = Some(content.id);
    }
}
