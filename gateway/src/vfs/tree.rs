//! A vault now or as it was: both are read alike, and only the one that is now gives a [`Vault`] to change.

use coffre_storage::id::VaultId;
use coffre_storage::tree::digest::Digests;
use coffre_storage::tree::{Cursor, DescribedEntry, Entry, PastVault};
use coffre_storage::upload::OpenFile;
use coffre_storage::{StoreError, Vault};

use super::{Attributes, ContentId, InodeId, Properties, UnixNanos, VfsError};

/// A vault now, or at a moment.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Present(Vault),
    Past(PastVault),
}

impl Tree {
    pub(super) fn id(&self) -> VaultId {
        match self {
            Self::Present(vault) => vault.id(),
            Self::Past(past) => past.id(),
        }
    }

    /// Of which moment; nothing for the present.
    pub(super) fn moment(&self) -> Option<UnixNanos> {
        match self {
            Self::Present(_) => None,
            Self::Past(past) => Some(past.time()),
        }
    }

    /// What may be changed: all that changes something goes through here.
    pub(super) fn present(&self) -> Result<&Vault, VfsError> {
        match self {
            Self::Present(vault) => Ok(vault),
            Self::Past(_) => Err(StoreError::ReadOnly.into()),
        }
    }

    pub(super) fn attributes(&self, inode: InodeId) -> Result<Attributes, StoreError> {
        match self {
            Self::Present(vault) => vault.attributes(inode),
            Self::Past(past) => past.attributes(inode),
        }
    }

    pub(super) fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> {
        match self {
            Self::Present(vault) => vault.lookup(parent, name),
            Self::Past(past) => past.lookup(parent, name),
        }
    }

    pub(super) fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        match self {
            Self::Present(vault) => vault.list(directory, cursor, max),
            Self::Past(past) => past.list(directory, cursor, max),
        }
    }

    pub(super) fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Present(vault) => vault.read_link(inode),
            Self::Past(past) => past.read_link(inode),
        }
    }

    pub(super) fn list_described(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<DescribedEntry>, Option<Cursor>), StoreError> {
        match self {
            Self::Present(vault) => vault.list_described(directory, cursor, max),
            Self::Past(past) => past.list_described(directory, cursor, max),
        }
    }

    pub(super) fn properties(&self, inode: InodeId) -> Result<Properties, StoreError> {
        match self {
            Self::Present(vault) => vault.properties(inode),
            Self::Past(past) => past.properties(inode),
        }
    }

    pub(super) fn kept_digests(&self, content: ContentId) -> Result<Option<Digests>, StoreError> {
        match self {
            Self::Present(vault) => vault.kept_digests(content),
            Self::Past(past) => past.present().kept_digests(content),
        }
    }

    pub(super) fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        match self {
            Self::Present(vault) => vault.open(inode),
            Self::Past(past) => past.open(inode),
        }
    }

    /// As it is committed now, for good.
    pub(super) fn open_still(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        match self {
            Self::Present(vault) => vault.open_still(inode),
            Self::Past(past) => past.open(inode),
        }
    }
}
