//! A vault's root key and what is derived from it.
use super::Secret32;
use crate::chunker::Chunker;
use crate::id::{ChunkId, VaultId};
use crate::record::RecordKey;

/// The random key of one vault; lives in key slots only.
#[derive(Debug, Clone)]
pub struct RootKey(pub(crate) Secret32);

impl RootKey {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(Secret32::new(bytes)))
    }
}

/// Everything an open vault needs, derived once.
#[derive(Debug)]
pub struct VaultKeys {
    /// Which vault.
    pub vault: VaultId,
    /// Seals this vault's index values.
    pub records: RecordKey,
    /// Seals the details of this vault's audit records.
    pub audit: RecordKey,
    /// Cuts this vault's streams.
    pub chunker: Chunker,
    /// DEK from which each pack's frame key is derived (HKDF with the pack's salt).
    pub content: Secret32,
    pub(crate) chunk_id: Secret32,
    pub(crate) names: Secret32,
}

impl VaultKeys {
    /// Derives all keys of `vault`.
    pub fn derive(_vault: VaultId, _root: &RootKey) -> Self { todo!() }
    /// The identifier of a chunk: keyed BLAKE3 of its plaintext.
    pub fn chunk_id(&self, _plaintext: &[u8]) -> ChunkId { todo!() }
    /// 128-bit MAC of a name in a directory: a dentry's key shows no name, and equal names of two directories differ.
    pub fn name_mac(&self, _parent: crate::id::InodeId, _name: &[u8]) -> [u8; 16] { todo!() }
}
