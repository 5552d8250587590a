//! Parts of uploads that come over several requests: files like any other, in directories below one that no name leads to.
//!
//! Inode [`InodeId::PARTS`] is the directory of these uploads, made when it is first needed. No path, listing, copy, export or
//! restore comes there, since all of them begin at the root; quotas, history, checks and erasure do, since they go by rows. An
//! upload is a directory in it, a part a file in that. The parts go in the transaction that makes a file of them
//! ([`Upload::spend_parts`](super::upload::Upload::spend_parts)), or when they are abandoned.

use std::collections::HashSet;

use super::change::Change;
use super::{AttributeChange, Attributes, Cursor, Entry, Kind, Vault};
use crate::audit::{Action, Actor, RecordDraft};
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::index::Table;
use crate::limits::PARTS_EXPIRED_PIECE;
use crate::rows::{Content, InodeRow, after_prefix, inode_key};
use crate::time::UnixNanos;

impl Change<'_> {
    /// The directory of all uploads in parts.
    fn parts_directory(&mut self) -> Result<(), StoreError> {
        match self.directory(InodeId::PARTS) {
            Ok(_) => Ok(()),
            Err(StoreError::NotFound) => {
                let row = InodeRow::new(Kind::Directory, self.moment(), Content::empty(ContentId(0)));
                let row = InodeRow { mode: 0o700, ..row };
                self.add_inode(InodeId::PARTS, &row)
            }
            Err(error) => Err(error),
        }
    }

    /// The parts of an upload are a file now, all that were acknowledged, or nothing is.
    pub(super) fn spend_parts(
        &mut self,
        name: &[u8],
        appended: &HashSet<(InodeId, ContentId)>,
    ) -> Result<(), StoreError> {
        let row = self.dentry(InodeId::PARTS, name)?.ok_or(StoreError::Changed)?;
        for entry in self.entries(row.inode)? {
            if !appended.contains(&(entry.inode, self.inode(entry.inode)?.content.id)) {
                return Err(StoreError::Changed);
            }
        }
        self.unlink_tree(InodeId::PARTS, &row)
    }
}

impl Vault {
    /// Begins an upload in parts: makes its directory.
    ///
    /// # Errors
    /// `Exists`, `InvalidName`, `QuotaExceeded`.
    pub fn begin_parts(&self, name: &[u8], mut audit: RecordDraft) -> Result<Pending<InodeId>, StoreError> {
        let mut change = Change::begin(self)?;
        change.parts_directory()?;
        let attributes = AttributeChange { mode: Some(0o700), ..AttributeChange::default() };
        let inode = change.create(InodeId::PARTS, name, Kind::Directory, &attributes, None, None)?;
        audit.object = Some(inode);
        Ok(Pending { value: inode, ticket: change.submit(audit)? })
    }

    /// The directory of an upload in parts.
    ///
    /// # Errors
    /// `NotFound`, `InvalidName`.
    pub fn parts(&self, name: &[u8]) -> Result<Attributes, StoreError> {
        self.lookup(InodeId::PARTS, name)
    }

    /// Uploads in parts, as [`Vault::list`]; none in a vault that never had one.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn list_parts(
        &self,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        match self.list(InodeId::PARTS, cursor, max) {
            Err(StoreError::NotFound) => Ok((Vec::new(), None)),
            other => other,
        }
    }

    /// How many names a directory has, counted up to `max`.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn count_names(&self, directory: InodeId, max: usize) -> Result<usize, StoreError> {
        let prefix = inode_key(self.id(), directory);
        Ok(self.store().sealed_range(Table::Dentries, &prefix, &after_prefix(&prefix), max)?.len())
    }

    /// Gives an upload in parts up, with all its parts.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn abandon_parts(&self, name: &[u8], audit: RecordDraft) -> Result<Pending<()>, StoreError> {
        self.remove_tree(InodeId::PARTS, name, audit)
    }

    /// Gives up what got no part since `before`; tells how many uploads that were.
    ///
    /// # Errors
    /// The store's own errors: what was given up before stays so.
    pub fn abandon_parts_older_than(&self, before: UnixNanos) -> Result<u64, StoreError> {
        let (mut cursor, mut abandoned) = (None, 0);
        loop {
            let (entries, next) = self.list_parts(cursor, PARTS_EXPIRED_PIECE)?;
            for entry in entries.iter().filter(|entry| entry.attributes.mtime < before) {
                let record = RecordDraft::new(Actor::System, Action::PartsAbandon);
                let record = RecordDraft { vault: Some(self.id()), ..record };
                match self.abandon_parts(&entry.name, record) {
                    // Nobody waits for it: lost, it is given up again.
                    Ok(_) => abandoned += 1,
                    Err(StoreError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(abandoned);
            }
        }
    }
}
