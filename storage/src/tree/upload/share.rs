//! A content made of others of its vault: their extents are put behind each other, so nothing is read and nothing is copied.

use super::editor::Editor;
use super::extents::Extents;
use super::whole::Upload;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::limits::{FILE_BYTES_MAX, SEGMENT_BYTES};
use crate::rows::{Content, Extent};

impl Upload {
    /// Appends what a file of the same vault holds, if that is still `content`.
    ///
    /// # Errors
    /// `Changed`; `NotFound`, `IsADirectory`, `WrongKind`; `QuotaExceeded`, `TooLarge`.
    pub fn append_content_of(&mut self, inode: InodeId, content: ContentId) -> Result<(), StoreError> {
        let row = self.editor.vault.row(inode)?;
        row.only_file()?;
        if row.content.id != content {
            return Err(StoreError::Changed);
        }
        self.appended.insert((inode, content));
        self.editor.append_shared(&row.content)
    }

    /// Takes the place of parts in its vault, `bytes` of them that are no holes: they go in the transaction that makes it a
    /// file, and the room that they had is its own. All of them must have been appended by then, as they are then.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub fn spend_parts(&mut self, name: Vec<u8>, bytes: u64) -> Result<(), StoreError> {
        self.parts = Some(name);
        self.editor.reserve.is_made_of(bytes);
        self.editor.hold_again()
    }
}

impl Editor {
    fn append_shared(&mut self, content: &Content) -> Result<(), StoreError> {
        if content.size == 0 {
            return Ok(());
        }
        self.flush(true)?;
        let (vault, from) = (self.vault.clone(), self.size);
        let end = from.checked_add(content.size).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(StoreError::TooLarge("the file"))?;
        self.stored += content.stored;
        self.hold_again()?;
        let (mut source, mut at) = (Extents::of(&content.body), 0);
        while at < content.size {
            let until = ((at / SEGMENT_BYTES + 1) * SEGMENT_BYTES).min(content.size);
            for extent in source.touching(&vault, at, until)? {
                if self.is_much() {
                    self.settle()?;
                }
                self.unsettled += 1;
                self.extents.put(&vault, Extent { start: from + extent.start, ..extent })?;
            }
            at = until;
        }
        self.size = end;
        self.forget_hash();
        self.changed = true;
        self.shown = None;
        Ok(())
    }
}
