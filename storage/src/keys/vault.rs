//! A vault's root key and what is derived from it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Secret32;
use super::derive::{VaultLabel, vault_key};
use crate::chunker::Chunker;
use crate::id::{ChunkId, InodeId, VaultId};
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
        let mut bytes = Secret32([0; 32]);
        getrandom::fill(&mut bytes.0)?;
        Ok(Self(bytes))
    }

    /// The key itself, for whoever makes sure that it is nowhere.
    pub fn expose(&self) -> &Secret32 {
        &self.0
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
    /// The vault was locked or erased: nothing that comes from these keys is kept any more.
    retired: AtomicBool,
}

impl VaultKeys {
    /// Derives all keys of `vault`.
    pub fn derive(vault: VaultId, root: &RootKey) -> Self {
        let key = |label| vault_key(&root.0, vault, label);
        let seed = key(VaultLabel::ChunkerSeed);
        let mut first = [0; 8];
        first.copy_from_slice(&seed.expose()[..8]);
        Self {
            vault,
            records: RecordKey::new(&key(VaultLabel::Records)),
            audit: RecordKey::new(&key(VaultLabel::Audit)),
            chunker: Chunker::new(u64::from_le_bytes(first)),
            content: key(VaultLabel::Content),
            chunk_id: key(VaultLabel::ChunkId),
            names: key(VaultLabel::Names),
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// The identifier of a chunk: keyed BLAKE3 of its plaintext.
    pub fn chunk_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.chunk_id.expose(), plaintext).as_bytes())
    }

    /// 128-bit MAC of a name in a directory: a dentry's key shows no name, and equal names of two directories differ.
    pub fn name_mac(&self, parent: InodeId, name: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(self.names.expose());
        hasher.update(&parent.0.to_le_bytes()).update(name);
        let mut mac = [0; 16];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        mac
    }
}
