//! Content on its way in and out: the one open file of an inode, and uploads that commit in one step.
//!
//! Both are the same machine: extents of what is stored + dirty bytes in memory. Dirty bytes over
//! `DIRTY_BYTES_TARGET` are cut, hashed, deduplicated, sealed and staged as frames; a commit stages the rest and
//! puts the new content record, chunk references and audit record into one transaction.
//!
//! Locks: a file's state, then the store's writer lock, never the other way round. An inode that lost its last name stays
//! readable and writable through those who have it open; its commits then write their record only. An upload that replaces
//! the content of a file others have open is what they read from then on, unless they have unsaved writes of their own: those
//! go on with what they have, and the last commit wins.

mod dirty;
mod extents;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::allowance::Amounts;
use crate::audit::RecordDraft;
use crate::commit::{Epoch, Pending};
use crate::error::StoreError;
use crate::frame::{FRAME_OVERHEAD_BYTES, FramePlace};
use crate::id::{ChunkId, ContentId, InodeId};
use crate::limits::{
    CHUNK_BYTES_MIN, DIRTY_BYTES_TARGET, EXTENTS_CHANGED_MAX, FILE_BYTES_MAX, PINNED_BYTES_MAX, SEGMENT_BYTES,
};
use crate::quota::Reservation;
use crate::rows::{Body, Content, Extent, INLINE_EXTENTS_MAX, IncidentKind, InodeRow};
use crate::tree::change::Change;
use crate::tree::{AttributeChange, Attributes, IncidentDraft, Kept, Kind, Vault};
use crate::unsaved::Share;

use dirty::Dirty;
use extents::Extents;

/// Small random writes are widened to this, so that a file does not fall into crumbs.
const ALIGNMENT: u64 = 4096;

/// How a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The client closed or synced it.
    Whole,
    /// The connection broke: kept, marked incomplete, an incident is raised.
    Broken,
}

/// Where the bytes of an extent's chunk are.
#[derive(Clone)]
enum Source {
    /// In the store's cache when somebody looked: its place need not be asked for.
    Memory(Arc<[u8]>),
    Log(FramePlace),
}

/// Where the bytes of a range are. Read without the file's lock: frames never change.
struct Plan {
    vault: Vault,
    offset: u64,
    len: usize,
    pieces: Vec<(Extent, Source)>,
}

impl Plan {
    /// Appends the range's bytes; holes are zeros.
    fn read(&self, into: &mut Vec<u8>) -> Result<(), StoreError> {
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
struct Editor {
    vault: Vault,
    extents: Extents,
    dirty: Dirty,
    /// What `dirty` takes of what all files may hold.
    share: Share,
    size: u64,
    /// Bytes that are not holes, committed ones and reserved ones.
    stored: u64,
    staged: HashMap<ChunkId, FramePlace>,
    hasher: Option<Box<blake3::Hasher>>,
    hashed: u64,
    reservation: Reservation,
    reserve: Reserve,
    changed: bool,
    /// What the index said when `extents` were looked up stays until this is renewed.
    epoch: Epoch,
}

/// What the reservation is made of, beside the bytes that were taken.
#[derive(Debug, Default)]
struct Reserve {
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

impl Editor {
    /// `epoch` is older than the look at `content`.
    fn of(vault: Vault, content: &Content, epoch: Epoch) -> Self {
        let reservation = Reservation::new(Arc::clone(vault.store().quotas()), vault.owner(), vault.id());
        let share = Share::new(vault.store().unsaved());
        Self {
            vault,
            extents: Extents::of(&content.body),
            dirty: Dirty::default(),
            share,
            size: content.size,
            stored: content.stored,
            staged: HashMap::new(),
            hasher: (content.size == 0).then(Box::default),
            hashed: 0,
            reservation,
            reserve: Reserve { replaced: content.stored, ..Reserve::default() },
            changed: false,
            epoch,
        }
    }

    /// Forgets what was looked up, so that others need not keep it; not while something is unsaved.
    fn renew(&mut self) {
        // What is unsaved in a vault that was erased is never saved.
        if !self.changed || self.vault.is_closed() {
            let epoch = self.vault.store().epoch();
            self.extents.forget_unchanged();
            self.epoch = epoch;
        }
    }

    /// Reserves what a content of `stored` bytes takes, `unsealed` of them not sealed yet: as many again on the disk, until it
    /// shows that a chunk is there already.
    fn hold(&mut self, stored: u64, unsealed: u64) -> Result<(), StoreError> {
        let reserve = &self.reserve;
        let wanted = Amounts {
            bytes: stored.max(reserve.expected).saturating_sub(reserve.replaced),
            files: reserve.files,
            stored: reserve.staged + unsealed,
        };
        self.reservation.hold(wanted).map_err(|refusal| self.vault.refused(refusal))
    }

    fn unsealed(&self) -> u64 {
        self.dirty.bytes() as u64 + self.reserve.cutting
    }

    fn end_of_what_is_there(&self) -> u64 {
        self.size
    }

    /// Bytes of a range that are neither stored nor dirty.
    fn holes(&mut self, from: u64, to: u64) -> Result<u64, StoreError> {
        if from >= self.end_of_what_is_there() {
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

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(StoreError::TooLarge("the file"))?;
        if bytes.is_empty() {
            return Ok(());
        }
        if self.extents.changed_count() > EXTENTS_CHANGED_MAX {
            return Err(StoreError::TooLarge("the number of unsaved fragments"));
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
        self.share.set(self.dirty.weight());
        if self.share.is_over() {
            self.flush(true)
        } else if self.dirty.weight() > DIRTY_BYTES_TARGET {
            self.flush(false)
        } else {
            Ok(())
        }
    }

    fn truncate(&mut self, size: u64) -> Result<(), StoreError> {
        if size > FILE_BYTES_MAX {
            return Err(StoreError::TooLarge("the file"));
        }
        if size < self.size {
            let gone = self.size - size - self.holes(size, self.size)?;
            self.dirty.cut_out(size, u64::MAX);
            self.share.set(self.dirty.weight());
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
        self.changed |= size != self.size;
        self.size = size;
        Ok(())
    }

    /// Stages dirty bytes. With `all` false the end of the last run stays, where the next bytes may still move the cut.
    fn flush(&mut self, all: bool) -> Result<(), StoreError> {
        let flushed = self.cut(all);
        self.share.set(self.dirty.weight());
        self.reserve.cutting = 0;
        flushed?;
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
    fn stored_run(&mut self, from: u64, bytes_max: u64) -> Result<Option<(u64, u64)>, StoreError> {
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
    fn plan(&mut self, offset: u64, len: usize) -> Result<Plan, StoreError> {
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

    fn read(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let from = into.len();
        self.plan(offset, len)?.read(into)?;
        self.dirty.overlay(offset, &mut into[from..]);
        Ok(())
    }

    fn is_in_memory(&mut self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64).min(self.size);
        let vault = self.vault.clone();
        self.extents.touching(&vault, offset, end.max(offset)).is_ok_and(|extents| {
            extents.iter().all(|extent| vault.store().is_cached(vault.keys(), extent.chunk))
        })
    }

    fn blake3(&self) -> Option<[u8; 32]> {
        let hasher = self.hasher.as_ref().filter(|_| self.hashed == self.size)?;
        Some(*hasher.finalize().as_bytes())
    }

    /// The content record, with its segments and references put into the transaction.
    fn content(&self, change: &mut Change<'_>) -> Result<Content, StoreError> {
        let segments = self.extents.segments();
        let inline: Option<Vec<Extent>> = segments
            .iter()
            .map(|(_, segment)| segment.as_ref().err().cloned())
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
                    Ok(unchanged) => {
                        change.share_segment(unchanged)?;
                        unchanged
                    }
                    Err(extents) => change.add_segment(extents, &self.staged)?,
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
    fn settled(&mut self, content: &Content, epoch: Epoch) {
        self.epoch = epoch;
        self.extents.settled(&content.body);
        self.staged.clear();
        self.reserve = Reserve { replaced: content.stored, ..Reserve::default() };
        self.changed = false;
    }
}

/// The state behind an open file, shared by all its handles.
#[derive(Debug)]
pub(crate) struct FileState {
    vault: Vault,
    inode: InodeId,
    tense: Tense,
    edited: Mutex<Edited>,
    /// History that this may read is not pruned.
    _kept: Kept,
}

/// Whether an open file shows the present or a moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tense {
    Present,
    Past,
}

#[derive(Debug)]
pub(crate) struct Edited {
    editor: Editor,
    /// As of the last look: what an inode without a name still answers.
    row: InodeRow,
    /// The client set the time after its last write.
    time_set: bool,
}

impl FileState {
    /// `epoch` and `kept` are older than the look at `row`.
    pub(crate) fn new(vault: Vault, row: InodeRow, tense: Tense, epoch: Epoch, kept: Kept) -> Self {
        let editor = Editor::of(vault.clone(), &row.content, epoch);
        let edited = Mutex::new(Edited { editor, row, time_set: false });
        Self { vault, inode: kept.inode(), tense, edited, _kept: kept }
    }

    /// Forgets what was looked up long ago, unless somebody works with it right now.
    pub(crate) fn renew(&self) {
        if let Ok(mut edited) = self.edited.try_lock() {
            edited.editor.renew();
        }
    }

    fn writable(&self) -> Result<MutexGuard<'_, Edited>, StoreError> {
        match self.tense {
            Tense::Present => Ok(self.lock()),
            Tense::Past => Err(StoreError::ReadOnly),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Edited> {
        self.edited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file whose state is held still while a transaction runs.
pub(crate) struct OpenHold<'f>(MutexGuard<'f, Edited>);

impl<'f> OpenHold<'f> {
    pub(crate) fn take(file: &'f OpenFile) -> Self {
        Self(file.state.lock())
    }

    pub(crate) fn time_was_set(&mut self) {
        self.0.time_set = true;
    }
}

/// The one open file of an inode: every handle of both protocols reads and writes this. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenFile {
    state: Arc<FileState>,
}

impl OpenFile {
    pub(crate) fn from_state(state: Arc<FileState>) -> Self {
        Self { state }
    }

    pub(crate) fn size(&self) -> u64 {
        self.state.lock().editor.size
    }

    /// Which inode.
    pub fn inode(&self) -> InodeId {
        self.state.inode
    }

    /// Attributes now, dirty size included.
    ///
    /// # Errors
    /// The store's own errors. An unlinked open file still answers (links = 0).
    pub fn attributes(&self) -> Result<Attributes, StoreError> {
        let mut edited = self.state.lock();
        if self.state.tense == Tense::Present {
            match self.state.vault.row(self.state.inode) {
                Ok(row) => edited.row = row,
                Err(StoreError::NotFound) => edited.row.links = 0,
                Err(error) => return Err(error),
            }
        }
        Ok(Attributes { size: edited.editor.size, ..edited.row.attributes(self.state.inode) })
    }

    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file, empty beyond it.
    ///
    /// # Errors
    /// `Damaged` when stored bytes do not open; nothing is returned then.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.read_onto(offset, len, &mut bytes).map(|()| bytes)
    }

    /// As [`OpenFile::read_at`], behind what `into` holds already. Readers do not wait for each other, unless what they
    /// read is being written.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`]; what `into` holds is of no use then.
    pub fn read_onto(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let plan = {
            let mut edited = self.state.lock();
            let editor = &mut edited.editor;
            if editor.dirty.ranges(offset, offset.saturating_add(len as u64)).next().is_some() {
                return editor.read(offset, len, into);
            }
            editor.plan(offset, len)?
        };
        plan.read(into)
    }

    /// The first run of bytes at `from` or behind it that are no hole: offset and end, at most `bytes_max` bytes. Nothing
    /// when only a hole follows. A run may be followed by another without a hole between.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn stored_run(&self, from: u64, bytes_max: u64) -> Result<Option<(u64, u64)>, StoreError> {
        self.state.lock().editor.stored_run(from, bytes_max)
    }

    /// Says that a range will be read soon, so that the disk can fetch it meanwhile. Waits for no disk.
    ///
    /// # Errors
    /// The store's own errors; nothing depends on it.
    pub fn will_read(&self, offset: u64, len: usize) -> Result<(), StoreError> {
        let plan = self.state.lock().editor.plan(offset, len)?;
        let stored = plan.pieces.iter().filter_map(|(_, source)| match source {
            Source::Log(place) => Some(*place),
            Source::Memory(_) => None,
        });
        plan.vault.store().will_read(stored);
        Ok(())
    }

    /// Whether [`OpenFile::read_at`] would be answered from memory (so needs no blocking pool).
    pub fn is_in_memory(&self, offset: u64, len: usize) -> bool {
        self.state.edited.try_lock().is_ok_and(|mut edited| edited.editor.is_in_memory(offset, len))
    }

    /// Writes at `offset`; a gap before it becomes a hole. May stage chunks (a full log waits).
    ///
    /// # Errors
    /// `QuotaExceeded`, `TooLarge`: the bytes were not taken. `DiskFull`, `Poisoned`: they are in memory only.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut edited = self.state.writable()?;
        edited.time_set = false;
        edited.editor.write(offset, bytes)
    }

    /// Appends at the present end, atomically among handles; returns where.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn append(&self, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut edited = self.state.writable()?;
        edited.time_set = false;
        let end = edited.editor.size;
        edited.editor.write(end, bytes).map(|()| end)
    }

    /// Cuts or extends (with a hole).
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn truncate(&self, size: u64) -> Result<(), StoreError> {
        let mut edited = self.state.writable()?;
        edited.time_set = false;
        edited.editor.truncate(size)
    }

    /// Whether anything is written and not yet committed.
    pub fn is_dirty(&self) -> bool {
        self.state.lock().editor.changed
    }

    /// Commits all that was written so far (CLOSE, fsync): content, references, mtime (now, unless set by the client
    /// since the last write) and the record in one transaction. The store fills the record's object and content hash.
    /// Nothing dirty: the record alone.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`.
    pub fn commit(&self, completion: Completion, mut audit: RecordDraft) -> Result<Pending<()>, StoreError> {
        let mut guard = self.state.writable()?;
        let edited = &mut *guard;
        audit.object = Some(self.state.inode);
        if edited.editor.changed {
            edited.editor.flush(true)?;
        }
        let epoch = self.state.vault.store().epoch();
        let mut change = Change::begin(&self.state.vault)?;
        let old = match change.inode(self.state.inode) {
            Ok(old) => old,
            // Without a name there is nothing to keep.
            Err(StoreError::NotFound) => {
                edited.editor.changed = false;
                return Ok(Pending { value: (), ticket: change.submit(audit)? });
            }
            Err(error) => return Err(error),
        };
        let incomplete = completion == Completion::Broken;
        if !edited.editor.changed && old.incomplete == incomplete {
            audit.content_hash = old.content.blake3;
            return Ok(Pending { value: (), ticket: change.submit(audit)? });
        }
        let mut new = old.clone();
        if edited.editor.changed {
            new.content = edited.editor.content(&mut change)?;
            if edited.editor.extents.is_fragmented() {
                change.mark_fragmented(self.state.inode);
            }
            if !edited.time_set {
                new.mtime = change.txn.time();
            }
        }
        new.incomplete = incomplete;
        if incomplete {
            let vault = &self.state.vault;
            let broken =
                IncidentDraft { inode: Some(self.state.inode), ..vault.incident(IncidentKind::BrokenUpload) };
            vault.store().add_incident(&mut change.txn, broken)?;
        }
        audit.content_hash = new.content.blake3;
        let content = new.content.clone();
        change.replace_inode(self.state.inode, &old, new)?;
        let ticket = change.submit_holding(audit, &mut edited.editor.reservation)?;
        edited.editor.settled(&content, epoch);
        edited.row.content = content;
        Ok(Pending { value: (), ticket })
    }

    /// Gives an empty file the content of another of the same vault, in constant time: content is shared, not copied. Its
    /// size is told; nothing when bytes must be copied instead: this file is not empty, or the other has unsaved writes.
    ///
    /// # Errors
    /// `ReadOnly`, `QuotaExceeded`, `DiskFull`, `Poisoned`.
    pub fn share_content_of(
        &self,
        source: &Self,
        mut audit: RecordDraft,
    ) -> Result<Option<Pending<u64>>, StoreError> {
        // Before this file's own lock: two files are never locked at once.
        let seen = {
            let edited = source.state.lock();
            (!edited.editor.changed).then(|| edited.row.content.clone())
        };
        let Some(seen) = seen else { return Ok(None) };
        let mut edited = self.state.writable()?;
        let vault = &self.state.vault;
        if edited.editor.changed || edited.editor.size != 0 || vault.id() != source.state.vault.id() {
            return Ok(None);
        }
        let epoch = vault.store().epoch();
        let mut change = Change::begin(vault)?;
        let found = match source.state.tense {
            // Kept by its handle.
            Tense::Past => Ok(seen),
            Tense::Present => change.inode(source.state.inode).map(|row| row.content),
        };
        let (old, found) = match (change.inode(self.state.inode), found) {
            (Ok(old), Ok(found)) => (old, found),
            // Without a name there is nothing to share with.
            (Err(StoreError::NotFound), _) | (_, Err(StoreError::NotFound)) => return Ok(None),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let content = change.share_content(&found)?;
        let mut new = old.successor();
        new.content = content.clone();
        new.mtime = change.txn.time();
        audit.object = Some(self.state.inode);
        audit.bytes = Some(content.size);
        audit.content_hash = content.blake3;
        change.replace_inode(self.state.inode, &old, new.clone())?;
        let ticket = change.submit(audit)?;
        edited.editor = Editor::of(vault.clone(), &content, epoch);
        edited.row = new;
        edited.time_set = false;
        Ok(Some(Pending { value: content.size, ticket }))
    }

    /// Shows another content from now on, unless unsaved writes stand in the way; tells whether it does.
    /// `epoch` is older than the transaction that committed it.
    pub(crate) fn refresh(&self, row: &InodeRow, epoch: Epoch) -> bool {
        let mut edited = self.state.lock();
        if edited.editor.changed {
            return false;
        }
        edited.editor = Editor::of(self.state.vault.clone(), &row.content, epoch);
        edited.row = row.clone();
        true
    }
}

/// What must hold about the target when an upload commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Anything.
    None,
    /// No entry of that name.
    Absent,
    /// An entry whose content is still this one.
    Content(ContentId),
}

/// An upload that becomes visible in one step. Dropped without commit it leaves nothing but dead staged frames.
#[derive(Debug)]
pub struct Upload {
    editor: Editor,
}

impl Upload {
    pub(crate) fn new(vault: Vault) -> Self {
        let epoch = vault.store().epoch();
        Self { editor: Editor::of(vault, &Content::empty(ContentId(0)), epoch) }
    }

    /// Reserves room for `bytes` bytes at a name that is new, or in place of what is there.
    pub(crate) fn expect(&mut self, replaced: Option<&InodeRow>, bytes: u64) -> Result<(), StoreError> {
        self.editor.reserve = Reserve {
            replaced: replaced.map_or(0, |row| row.content.stored),
            expected: bytes,
            files: u64::from(replaced.is_none()),
            ..Reserve::default()
        };
        // How much of it is stored already nobody knows yet; where nothing more may be stored, nothing needs to be sent.
        self.editor.hold(0, bytes.min(1))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.editor.size;
        self.editor.write(end, bytes)
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.editor.size
    }

    /// Makes it the content of `name`: replaces the content of an existing file (same inode, old content to history) or
    /// creates one. Returns the inode, and whether the name is new.
    ///
    /// # Errors
    /// `Changed` when the precondition does not hold; `IsADirectory`; `NotFound` for the parent; as `write`.
    pub fn commit(
        mut self,
        (parent, name): (InodeId, &[u8]),
        precondition: Precondition,
        attributes: &AttributeChange,
        mut audit: RecordDraft,
    ) -> Result<Pending<(InodeId, bool)>, StoreError> {
        self.editor.flush(true)?;
        let vault = self.editor.vault.clone();
        let epoch = vault.store().epoch();
        let mut change = Change::begin(&vault)?;
        change.directory(parent)?;
        let target = change.dentry(parent, name)?;
        let content = self.editor.content(&mut change)?;
        audit.content_hash = content.blake3;
        audit.bytes = Some(content.size);
        let (inode, replaced) = match target {
            None if matches!(precondition, Precondition::Content(_)) => return Err(StoreError::Changed),
            None => (change.create(parent, name, Kind::File, attributes, Some(content), None)?, None),
            Some(row) => {
                let old = change.inode(row.inode)?;
                match (old.kind, precondition) {
                    (Kind::Directory, _) => return Err(StoreError::IsADirectory),
                    (Kind::SymbolicLink, _) => return Err(StoreError::WrongKind),
                    (Kind::File, Precondition::Absent) => return Err(StoreError::Changed),
                    (Kind::File, Precondition::Content(expected)) if expected != old.content.id => {
                        return Err(StoreError::Changed);
                    }
                    (Kind::File, _) => {}
                }
                let mut new =
                    InodeRow { content, mtime: change.txn.time(), incomplete: false, ..old.clone() };
                new.apply(attributes);
                change.replace_inode(row.inode, &old, new.clone())?;
                (row.inode, Some(new))
            }
        };
        audit.object = Some(inode);
        let ticket = change.submit_holding(audit, &mut self.editor.reservation)?;
        if let Some(row) = &replaced
            && let Some(open) = vault.opened(inode)
            && !open.refresh(row, epoch)
        {
            vault.close_registered(inode);
        }
        Ok(Pending { value: (inode, replaced.is_none()), ticket })
    }
}
