//! Digests that clients compare with their own: computed once for a content, or while it came in, then kept beside it.
//!
//! A content never changes and its number is never given twice, so what is kept needs no invalidation: it goes when the
//! content is released. Whoever computes asks [`settled_content`](super::upload::OpenFile::settled_content) before the first byte and gives the
//! answer to [`keep_digests`](super::upload::OpenFile::keep_digests) after the last one; what was written meanwhile shows there (FORMAT.md section 7).

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::Vault;
use super::change::Change;
use crate::error::StoreError;
use crate::id::ContentId;
use crate::index::Table;
use crate::rows::{decode, digest_key};

/// Digests of a whole file, holes read as zeros: those that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// SHA-1: no proof of anything, but what clients compare.
    pub sha1: Option<[u8; 20]>,
    /// MD5: the same.
    pub md5: Option<[u8; 16]>,
}

impl Digests {
    /// Whether none is missing.
    pub fn are_all(&self) -> bool {
        self.sha256.is_some() && self.sha1.is_some() && self.md5.is_some()
    }

    /// Whether none is there.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Value of `Table::Digests`.
#[derive(Encode, Decode)]
pub(crate) struct DigestRow {
    #[n(0)]
    sha256: Option<ByteArray<32>>,
    #[n(1)]
    sha1: Option<ByteArray<20>>,
    #[n(2)]
    md5: Option<ByteArray<16>>,
}

impl From<DigestRow> for Digests {
    fn from(row: DigestRow) -> Self {
        Self {
            sha256: row.sha256.map(Into::into),
            sha1: row.sha1.map(Into::into),
            md5: row.md5.map(Into::into),
        }
    }
}

impl From<&Digests> for DigestRow {
    fn from(digests: &Digests) -> Self {
        Self {
            sha256: digests.sha256.map(Into::into),
            sha1: digests.sha1.map(Into::into),
            md5: digests.md5.map(Into::into),
        }
    }
}

impl Vault {
    /// What is kept of a content: one that an attribute names, now or then.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn kept_digests(&self, content: ContentId) -> Result<Option<Digests>, StoreError> {
        let found =
            self.store().get(&self.keys().records, Table::Digests, &digest_key(self.id(), content))?;
        Ok(found.map(|bytes| decode::<DigestRow>(&bytes)).transpose()?.map(Digests::from))
    }
}

impl Change<'_> {
    /// Keeps digests of a content that this transaction makes.
    pub(crate) fn put_digests(&mut self, content: ContentId, digests: &Digests) -> Result<(), StoreError> {
        self.put(Table::Digests, &digest_key(self.vault.id(), content), &DigestRow::from(digests))
    }

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
