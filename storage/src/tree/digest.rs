//! Digests that clients compare with their own: computed once for a content, then kept beside it.
//!
//! A content never changes and its number is never given twice, so what is kept needs no invalidation: it goes when the
//! content is released. Whoever computes asks [`OpenFile::settled_content`] before the first byte and gives the answer to
//! [`OpenFile::keep_digests`] after the last one; what was written meanwhile shows there (FORMAT.md section 7).

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::change::Change;
use super::upload::OpenFile;
use crate::error::StoreError;
use crate::id::ContentId;
use crate::index::Table;
use crate::rows::{decode, digest_key};

/// Digests of a whole file, holes read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-1: no proof of anything, but what clients compare.
    pub sha1: [u8; 20],
    /// MD5: the same.
    pub md5: [u8; 16],
}

/// Value of `Table::Digests`.
#[derive(Encode, Decode)]
pub(crate) struct DigestRow {
    #[n(0)]
    sha256: ByteArray<32>,
    #[n(1)]
    sha1: ByteArray<20>,
    #[n(2)]
    md5: ByteArray<16>,
}

impl From<DigestRow> for Digests {
    fn from(row: DigestRow) -> Self {
        Self { sha256: row.sha256.into(), sha1: row.sha1.into(), md5: row.md5.into() }
    }
}

impl From<&Digests> for DigestRow {
    fn from(digests: &Digests) -> Self {
        Self { sha256: digests.sha256.into(), sha1: digests.sha1.into(), md5: digests.md5.into() }
    }
}

impl OpenFile {
    /// What is kept of a content that [`OpenFile::settled_content`] told.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn kept_digests(&self, content: ContentId) -> Result<Option<Digests>, StoreError> {
        let (vault, key) = (self.vault(), digest_key(self.vault().id(), content));
        let found = vault.store().get(&vault.keys().records, Table::Digests, &key)?;
        Ok(found.map(|bytes| decode::<DigestRow>(&bytes)).transpose()?.map(Digests::from))
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
            change.put(Table::Digests, &digest_key(vault.id(), content), &DigestRow::from(digests))?;
            drop(change.submit_silently()?);
        }
        Ok(())
    }
}

impl Change<'_> {
    /// A content of the same bytes has the same digests.
    pub(super) fn share_digests(&mut self, from: ContentId, to: ContentId) -> Result<(), StoreError> {
        let vault = self.vault.id();
        if let Some(row) = self.get::<DigestRow>(Table::Digests, &digest_key(vault, from))? {
            self.put(Table::Digests, &digest_key(vault, to), &row)?;
        }
        Ok(())
    }

    /// Nobody has the content any more.
    pub(crate) fn forget_digests(&mut self, content: ContentId) -> Result<bool, StoreError> {
        let key = digest_key(self.vault.id(), content);
        let found = self.txn.sealed(Table::Digests, &key)?.is_some();
        if found {
            self.delete(Table::Digests, &key);
        }
        Ok(found)
    }
}
