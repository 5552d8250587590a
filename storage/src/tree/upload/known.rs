//! Digests of what an open file shows, told and kept while that is committed content.

use super::open_file::OpenFile;
use crate::error::StoreError;
use crate::id::ContentId;
use crate::tree::change::Change;
use crate::tree::digest::Digests;

impl OpenFile {
    /// What is kept of a content that [`OpenFile::settled_content`] told.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn kept_digests(&self, content: ContentId) -> Result<Option<Digests>, StoreError> {
        self.vault().kept_digests(content)
    }

    /// Keeps digests of what was read since this content was told, if it is still what the file shows. Nobody waits for
    /// it to be durable: lost, they are computed again.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`, `VaultUnavailable`: nothing is kept.
    pub fn keep_digests(&self, content: ContentId, digests: &Digests) -> Result<(), StoreError> {
        let vault = self.vault();
        // Before the writer lock: it comes after a file's own. What is committed between shows in the inode's row.
        if self.settled_content() != Some(content) {
            return Ok(());
        }
        let mut change = Change::begin(vault)?;
        // A superseded content is kept by its handle; that of a file without a name may go with it.
        let is_there = self.is_past()
            || match change.inode(self.inode()) {
                Ok(row) => row.content.id == content,
                Err(StoreError::NotFound) => false,
                Err(error) => return Err(error),
            };
        if is_there {
            change.put_digests(content, digests)?;
            drop(change.submit_silently()?);
        }
        Ok(())
    }
}
