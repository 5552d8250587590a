//! Uploads that become visible in one step.

use std::collections::HashSet;

use super::editor::{Editor, Reserve};
use crate::audit::RecordDraft;
use crate::commit::{Epoch, Pending};
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::limits::FILE_BYTES_MAX;
use crate::rows::{Content, InodeRow};
use crate::tree::change::Change;
use crate::tree::digest::Digests;
use crate::tree::{AttributeChange, Kept, Kind, Vault};

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
    pub(super) editor: Editor,
    digests: Digests,
    /// Parts that it is made of, by the name of their directory: they go when it comes.
    pub(super) parts: Option<Vec<u8>>,
    /// Files whose content was appended.
    pub(super) appended: HashSet<(InodeId, ContentId)>,
    /// History that it may read is not pruned.
    _kept: Option<Kept>,
}

impl Upload {
    pub(crate) fn new(vault: Vault) -> Self {
        let epoch = vault.store().epoch();
        Self::of(Editor::of(vault, &Content::empty(ContentId(0)), epoch), None)
    }

    /// One that begins with a content. `epoch` and `kept` are older than the look at it.
    pub(crate) fn editing(vault: Vault, content: &Content, epoch: Epoch, kept: Kept) -> Self {
        Self::of(Editor::of(vault, content, epoch), Some(kept))
    }

    fn of(editor: Editor, kept: Option<Kept>) -> Self {
        Self { editor, digests: Digests::default(), parts: None, appended: HashSet::new(), _kept: kept }
    }

    /// Reserves room for `bytes` bytes at a name that is new, or in place of what is there.
    pub(crate) fn expect(&mut self, replaced: Option<&InodeRow>, bytes: u64) -> Result<(), StoreError> {
        self.editor.reserve = match replaced {
            Some(row) => Reserve::in_place_of(row.content.stored, bytes),
            None => Reserve::of_new_file(bytes),
        };
        // How much of it is stored already nobody knows yet; where nothing more may be stored, nothing needs to be sent.
        self.editor.hold(0, bytes.min(1))
    }

    /// Reserves room for `bytes` bytes more than it holds.
    ///
    /// # Errors
    /// `QuotaExceeded`, `TooLarge`.
    pub fn expect_growth(&mut self, bytes: u64) -> Result<(), StoreError> {
        match self.editor.size.checked_add(bytes) {
            Some(end) if end <= FILE_BYTES_MAX => self.editor.hold_more(bytes),
            Some(_) | None => Err(StoreError::TooLarge("the file")),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`](super::OpenFile::write_at).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.editor.size;
        self.editor.write(end, bytes)
    }

    /// Takes bytes at an offset, over what is there; a gap before it becomes a hole.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`](super::OpenFile::write_at).
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.editor.write(offset, bytes)
    }

    /// Tells digests of all that it holds at its commit; they are kept beside the content.
    pub fn tell_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Bytes taken so far, with those that it began with.
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
        match &target {
            Some(row) => change.may_change(row.inode, Some(parent))?,
            None => change.may_name(parent, None)?,
        }
        let content = self.editor.content(&mut change)?;
        if !self.digests.are_none() {
            change.put_digests(content.id, &self.digests)?;
        }
        if let Some(name) = &self.parts {
            change.spend_parts(name, &self.appended)?;
        }
        audit.content_hash = content.blake3;
        audit.bytes = audit.bytes.or(Some(content.size));
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
        if self.editor.extents.is_fragmented() {
            change.mark_fragmented(inode);
        }
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
