//! Listings: the names of a directory in pieces, with what each leads to.

use super::operations::with_open_size;
use super::{Cursor, DescribedEntry, Entry, Kind, Vault};
use crate::error::StoreError;
use crate::id::InodeId;
use crate::index::Table;
use crate::rows::{DentryRow, InodeRow, after_prefix, decode, inode_key};

impl Vault {
    /// Up to `max` entries after `cursor`, and where to go on (nothing at the end).
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        self.listed(directory, (cursor, max), |entry, _| entry)
    }

    /// As [`list`](Self::list), each with its properties: all rows of a piece are in memory.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn list_described(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<DescribedEntry>, Option<Cursor>), StoreError> {
        self.listed(directory, (cursor, max), |entry, row| (entry, row.into_properties()))
    }

    fn listed<T>(
        &self,
        directory: InodeId,
        (cursor, max): (Option<Cursor>, usize),
        describe: impl Fn(Entry, InodeRow) -> T,
    ) -> Result<(Vec<T>, Option<Cursor>), StoreError> {
        if self.row(directory)?.kind != Kind::Directory {
            return Err(StoreError::NotADirectory);
        }
        let prefix = inode_key(self.id(), directory);
        let from = match cursor {
            Some(Cursor(last)) => [&prefix[..], &last, &[0]].concat(),
            None => prefix.clone(),
        };
        let rows =
            self.store().range(&self.keys().records, Table::Dentries, &from, &after_prefix(&prefix), max)?;
        let next = match rows.last() {
            Some((key, _)) if rows.len() == max => {
                Some(Cursor(*key.last_chunk().ok_or(StoreError::DamagedRecord)?))
            }
            _ => None,
        };
        let dentries: Vec<DentryRow> =
            rows.iter().map(|(_, bytes)| decode(bytes)).collect::<Result<_, _>>()?;
        let keys: Vec<_> = dentries.iter().map(|row| inode_key(self.id(), row.inode)).collect();
        // Before the rows, as for one.
        let open: Vec<_> = self.opened_of(dentries.iter().map(|row| row.inode));
        let inodes = self.store().get_many(&self.keys().records, Table::Inodes, &keys)?;
        let mut entries = Vec::with_capacity(rows.len());
        for ((dentry, bytes), open) in dentries.into_iter().zip(inodes).zip(open) {
            // Removed between the two reads, if it is absent.
            if let Some(bytes) = bytes {
                let row = decode::<InodeRow>(&bytes)?;
                let attributes = with_open_size(row.attributes(dentry.inode), open.as_ref());
                entries.push(describe(Entry { name: dentry.name.into(), attributes }, row));
            }
        }
        Ok((entries, next))
    }
}
