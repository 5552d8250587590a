//! The one open file of an inode, shared by all its handles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Completion;
use super::editor::Editor;
use crate::audit::RecordDraft;
use crate::commit::{Epoch, Pending};
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::rows::{IncidentKind, InodeRow};
use crate::tree::change::Change;
use crate::tree::{Attributes, IncidentDraft, Kept, Vault};

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

/// Whether an open file shows the present, as it changes, or one content that stays: that of a moment of the past, or of the
/// moment of its opening.
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
        plan.announce();
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

    /// The committed content that reads show now; nothing while something is unsaved.
    pub fn settled_content(&self) -> Option<ContentId> {
        self.state.lock().editor.shown
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.state.vault
    }

    /// Whether this shows a moment of the past.
    pub(crate) fn is_past(&self) -> bool {
        self.state.tense == Tense::Past
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
            // Without a name there is nothing to keep but for those who have it open.
            Err(StoreError::NotFound) => {
                drop(change);
                if edited.editor.changed {
                    edited.editor.settle()?;
                    edited.editor.changed = false;
                }
                return Ok(Pending { value: (), ticket: Change::begin(&self.state.vault)?.submit(audit)? });
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
        edited.editor.committed(&content, epoch);
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
