//! Uploads that become visible in one step.

use super::editor::{Editor, Reserve};
use crate::audit::RecordDraft;
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::rows::{Content, InodeRow};
use crate::tree::change::Change;
use crate::tree::{AttributeChange, Kind, Vault};

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
        self.editor.reserve = match replaced {
            Some(row) => Reserve::in_place_of(row.content.stored, bytes),
            None => Reserve::of_new_file(bytes),
        };
        // How much of it is stored already nobody knows yet; where nothing more may be stored, nothing needs to be sent.
        self.editor.hold(0, bytes.min(1))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`](super::OpenFile::write_at).
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
        match &target {
            Some(row) => change.may_change(row.inode, Some(parent))?,
            None => change.may_name(parent, None)?,
        }
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
