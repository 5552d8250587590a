//! The index behind its trait: sealed values under ordered keys; redb is the embedded implementation.

pub mod memory;
pub mod redb;

use std::sync::Arc;

/// The tables (FORMAT.md "Index tables"). The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// System state of the store itself: log position, Merkle frontier, counters.
    Store = 1,
    /// Owner's customers, opaque here.
    Customers = 2,
    /// Users, opaque here.
    Users = 3,
    /// Credentials, opaque here.
    Credentials = 4,
    /// Vaults with their key slots.
    Vaults = 5,
    /// vault | inode -> inode record.
    Inodes = 6,
    /// vault | parent inode | name MAC -> dentry.
    Dentries = 7,
    /// vault | inode | commit at which it ended -> superseded inode record.
    InodeHistory = 8,
    /// vault | parent inode | name MAC | commit at which it ended -> superseded dentry.
    DentryHistory = 9,
    /// vault | segment -> extents of 64 MiB.
    Segments = 10,
    /// vault | chunk id -> pack, offset, lengths, references.
    Chunks = 11,
    /// pack -> salt.
    Packs = 12,
    /// owner | vault -> bytes and files in use.
    Usage = 13,
    /// vault | inode | number -> a lock on it.
    Locks = 14,
    /// Things the operator must see: interrupted uploads, quota, integrity.
    Incidents = 15,
    /// No table: the domain under which details of audit records are sealed.
    AuditDetails = 16,
    /// vault | number -> a named snapshot.
    Snapshots = 17,
    /// commit at which its last reference went | vault | chunk id -> nothing: chunks that nobody refers to.
    Garbage = 18,
    /// vault | inode -> nothing: files with segments in crumbs, to be written anew.
    Fragmented = 19,
    /// pack -> bytes of frames that are referred to. Derived: brought forward from the log like the position.
    PackCounts = 20,
    /// vault | segment -> nothing: segments of an upload under way, which no content lists yet.
    Uploads = 21,
    /// vault | segment -> how many hold it beyond those that its own row counts.
    Shares = 23,
    /// vault | content -> digests of the whole, once somebody asked for them.
    Digests = 22,
    /// authority id -> whose SSH certificates a customer takes.
    Authorities = 26,
    /// hash of authority and mark -> certificates that are revoked.
    CertificateRevocations = 27,
    /// customer -> right edge of the tree over its audit records. Derived: brought forward from the log like the position.
    AuditTrees = 30,
    /// vault | number -> a key slot that is not the gateway's.
    Slots = 28,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 26] = [
        Self::Store,
        Self::Customers,
        Self::Users,
        Self::Credentials,
        Self::Vaults,
        Self::Inodes,
        Self::Dentries,
        Self::InodeHistory,
        Self::DentryHistory,
        Self::Segments,
        Self::Chunks,
        Self::Packs,
        Self::Usage,
        Self::Locks,
        Self::Incidents,
        Self::Snapshots,
        Self::Garbage,
        Self::Fragmented,
        Self::PackCounts,
        Self::Uploads,
        Self::Shares,
        Self::Digests,
        Self::Authorities,
        Self::CertificateRevocations,
        Self::AuditTrees,
        Self::Slots,
    ];

    /// Its name in the index file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Customers => "customers",
            Self::Users => "users",
            Self::Credentials => "credentials",
            Self::Vaults => "vaults",
            Self::Inodes => "inodes",
            Self::Dentries => "dentries",
            Self::InodeHistory => "inode_history",
            Self::DentryHistory => "dentry_history",
            Self::Segments => "segments",
            Self::Chunks => "chunks",
            Self::Packs => "packs",
            Self::Usage => "usage",
            Self::Locks => "locks",
            Self::Incidents => "incidents",
            Self::AuditDetails => "audit_details",
            Self::Snapshots => "snapshots",
            Self::Garbage => "garbage",
            Self::Fragmented => "fragmented",
            Self::PackCounts => "pack_counts",
            Self::Uploads => "uploads",
            Self::Shares => "shares",
            Self::Digests => "digests",
            Self::Authorities => "authorities",
            Self::CertificateRevocations => "certificate_revocations",
            Self::AuditTrees => "audit_trees",
            Self::Slots => "slots",
        }
    }

    /// The table with this number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// One change of the index; values are already sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The sealed value, or nothing to delete.
    pub value: Option<Vec<u8>>,
}

/// Leaves the last change of each key, in key order: what changes made one after the other come to. A directory's or a
/// vault's row changes with every file, and an ordered run touches each page of the index once.
pub fn keep_last(changes: &mut Vec<Change>) {
    changes.reverse();
    // The sort is stable: of equal keys the later change now comes first, and stays.
    changes.sort_by(|one, other| (one.table, &one.key).cmp(&(other.table, &other.key)));
    changes.dedup_by(|next, kept| (next.table, &next.key) == (kept.table, &kept.key));
}

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file is not one of ours, is damaged, or is of a newer format.
    #[error("the index cannot be opened: {0}")]
    Unusable(&'static str),
    /// Another process has it open.
    #[error("the index is in use by another process")]
    InUse,
    /// The back end failed.
    #[error("the index failed: {0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);
/// Keys with their values, in key order.
pub type Entries = Vec<Entry>;

/// A consistent read view.
pub trait Snapshot: Send {
    /// The sealed value of a key.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// The sealed values of several keys of a table.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, IndexError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }
    /// Up to `max` entries with `from <= key < to`, in key order.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn range(&self, table: Table, from: &[u8], to: &[u8], max: usize) -> Result<Entries, IndexError>;
    /// The last entry with `from <= key < to`.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Entry>, IndexError>;
}

/// The index of a store.
pub trait Index: Send + Sync + std::fmt::Debug {
    /// A view of everything applied so far.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError>;
    /// Applies changes in order, atomically; visible when this returns, durable after the next checkpoint.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn apply(&self, changes: &[Change]) -> Result<(), IndexError>;
    /// Makes everything applied durable.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn checkpoint(&self) -> Result<(), IndexError>;
    /// Writes everything anew elsewhere, durably, and overwrites where it was: what was deleted is gone from the disk.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn rewrite(&self) -> Result<(), IndexError>;
    /// Verifies the back end's own checksums; false when something was found.
    ///
    /// # Errors
    /// [`IndexError`] when the back end fails.
    fn verify(&self) -> Result<bool, IndexError>;
}

/// An index shared by the store's parts.
pub type SharedIndex = Arc<dyn Index>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_changes_to_one_key_the_last_stays() {
        let change = |table, key: &[u8], value: Option<&[u8]>| Change {
            table,
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        let mut changes = vec![
            change(Table::Inodes, b"b", Some(b"1")),
            change(Table::Dentries, b"a", Some(b"2")),
            change(Table::Inodes, b"a", Some(b"3")),
            change(Table::Inodes, b"b", None),
            change(Table::Inodes, b"a", Some(b"4")),
        ];
        keep_last(&mut changes);
        let expected = vec![
            change(Table::Inodes, b"a", Some(b"4")),
            change(Table::Inodes, b"b", None),
            change(Table::Dentries, b"a", Some(b"2")),
        ];
        assert_eq!(changes, expected);
    }
}
