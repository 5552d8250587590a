//! What the store answers when it does not do what was asked. One enum for tree operations, because every
//! protocol maps all of it in one table.

use crate::allowance::Limit;
use crate::id::{InodeId, PackId, VaultId};

/// Why the store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No entry of that name.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("the name already exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A directory is where a file was needed.
    #[error("is a directory")]
    IsADirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Only regular files have content; only symbolic links have targets.
    #[error("not the right kind of file")]
    WrongKind,
    /// A name is empty, `.`, `..`, longer than 255 bytes, or holds NUL or `/`.
    #[error("the name is not allowed")]
    InvalidName,
    /// A directory cannot move below itself, the root cannot be moved or removed.
    #[error("the move is not possible")]
    InvalidMove,
    /// A bound of `limits.rs` would be passed.
    #[error("{0} is over its limit")]
    TooLarge(&'static str),
    /// A limit of the customer or of the vault would be passed.
    #[error("the quota of {max} {limit} is used up")]
    QuotaExceeded {
        /// Which.
        limit: Limit,
        /// How much it allows.
        max: u64,
    },
    /// The disk has no room left for content.
    #[error("the disk is full")]
    DiskFull,
    /// A condition of a conditional change does not hold any more.
    #[error("the file changed meanwhile")]
    Changed,
    /// A lock stands in the way, and its token was not given by whoever holds it.
    #[error("the resource is locked")]
    Locked {
        /// What the lock is on.
        inode: InodeId,
    },
    /// A lock cannot be given beside one that is there.
    #[error("there is a lock already")]
    LockConflict {
        /// What that lock is on.
        inode: InodeId,
    },
    /// No such lock covers the place.
    #[error("there is no such lock here")]
    LockUnknown,
    /// The lock is another's.
    #[error("the lock belongs to somebody else")]
    LockOfAnother,
    /// No more locks are given.
    #[error("there are too many locks")]
    TooManyLocks,
    /// A legal hold keeps the vault.
    #[error("a legal hold keeps this vault")]
    Held,
    /// A state of the past cannot be changed.
    #[error("snapshots are read-only")]
    ReadOnly,
    /// Stored bytes are not what was written. Says no more: a decryption failure never says why.
    #[error("stored bytes are damaged (pack {pack})")]
    Damaged {
        /// Where.
        pack: PackId,
    },
    /// Stored bytes were found damaged earlier, and the operator knows of it.
    #[error("stored bytes are damaged (pack {pack}) and were set aside; the operator was told")]
    SetAside {
        /// Where.
        pack: PackId,
    },
    /// An index record does not open.
    #[error("an index record is damaged")]
    DamagedRecord,
    /// No vault of that identifier, or it has no managed key slot that opens.
    #[error("vault {0} cannot be opened")]
    VaultUnavailable(VaultId),
    /// The customer holds the vault's key, and nobody has unlocked it.
    #[error("this vault is locked")]
    VaultLocked(VaultId),
    /// A write or sync failed earlier: nothing more is accepted until a restart.
    #[error("the store stopped after a write error; restart it")]
    Poisoned,
    /// Reading failed in the operating system.
    #[error("reading the store failed: {0}")]
    Io(std::sync::Arc<std::io::Error>),
    /// The index failed.
    #[error("the index failed")]
    Index(#[source] std::sync::Arc<crate::index::IndexError>),
    /// The operating system has no randomness to give.
    #[error("no randomness available")]
    Randomness,
}

impl From<getrandom::Error> for StoreError {
    fn from(_: getrandom::Error) -> Self {
        Self::Randomness
    }
}

impl From<crate::index::IndexError> for StoreError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Index(std::sync::Arc::new(error))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(std::sync::Arc::new(error))
    }
}
