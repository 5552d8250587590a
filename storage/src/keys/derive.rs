//! HKDF-SHA-256 labels: every one of the product, in one file.

use aws_lc_rs::hkdf;

use super::Secret32;
use crate::id::VaultId;

/// What the gateway key is used for; each use has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayLabel {
    /// Seals batch headers and journals, authenticates pack headers.
    Packs,
    /// Seals values of system tables.
    Records,
    /// Wraps vault root keys in managed slots.
    Slots,
    /// Commits to the key that wrapped a managed slot.
    SlotCommitment,
    /// Seals details of audit records that belong to no vault.
    AuditDetails,
    /// Seed of the Ed25519 key that signs audit checkpoints.
    AuditSigning,
    /// MAC under which app-token secrets are stored.
    TokenMac,
    /// MAC under which recovery codes are stored.
    RecoveryCodeMac,
    /// A value that tells a right gateway key from a wrong one.
    KeyCheck,
    /// Seals private keys of the gateway's listeners in a backup.
    BackupSecrets,
}

impl GatewayLabel {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Packs => b"coffre v1 gateway packs",
            Self::Records => b"coffre v1 gateway records",
            Self::Slots => b"coffre v1 gateway slots",
            Self::SlotCommitment => b"coffre v1 gateway slot commitment",
            Self::AuditDetails => b"coffre v1 gateway audit details",
            Self::AuditSigning => b"coffre v1 gateway audit signing",
            Self::TokenMac => b"coffre v1 gateway token mac",
            Self::RecoveryCodeMac => b"coffre v1 gateway recovery code mac",
            Self::KeyCheck => b"coffre v1 gateway key check",
            Self::BackupSecrets => b"coffre v1 gateway backup secrets",
        }
    }
}

/// What a vault's root key is used for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VaultLabel {
    Content,
    ChunkId,
    Names,
    Records,
    Audit,
    ChunkerSeed,
}

impl VaultLabel {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Content => b"coffre v1 vault content",
            Self::ChunkId => b"coffre v1 vault chunk id",
            Self::Names => b"coffre v1 vault names",
            Self::Records => b"coffre v1 vault records",
            Self::Audit => b"coffre v1 vault audit",
            Self::ChunkerSeed => b"coffre v1 vault chunker seed",
        }
    }
}

/// Label of the key of one pack's frames of one vault.
const FRAMES: &[u8] = b"coffre v1 pack frames";
/// Label of the key of one pack's batch headers and journals.
const BATCHES: &[u8] = b"coffre v1 pack batches";
/// Label of the MAC of one pack's header.
const PACK_HEADER: &[u8] = b"coffre v1 pack header";

/// What opens a slot that is not the gateway's; each kind has a key and a commitment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotLabel {
    /// Wraps a secret under a passphrase.
    Passphrase,
    PassphraseCommitment,
    /// Wraps a root key under an app token.
    Token,
    TokenCommitment,
}

impl SlotLabel {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Passphrase => b"coffre v1 passphrase slot key",
            Self::PassphraseCommitment => b"coffre v1 passphrase slot commitment",
            Self::Token => b"coffre v1 token slot key",
            Self::TokenCommitment => b"coffre v1 token slot commitment",
        }
    }
}

/// HPKE's `info` and exporter context of escrow slots; the vault's identifier follows the first.
pub(super) const ESCROW_INFO: &[u8] = b"coffre v1 escrow slot";
pub(super) const ESCROW_COMMITMENT: &[u8] = b"coffre v1 escrow slot commitment";

/// A key for a slot, from what opens it.
pub(super) fn slot_key(secret: &[u8], salt: &[u8], label: SlotLabel, context: &[u8]) -> Secret32 {
    expand_bytes(secret, salt, label.bytes(), context)
}

fn expand(secret: &Secret32, salt: &[u8], label: &[u8], context: &[u8]) -> Secret32 {
    expand_bytes(secret.expose(), salt, label, context)
}

fn expand_bytes(secret: &[u8], salt: &[u8], label: &[u8], context: &[u8]) -> Secret32 {
    let mut key = Secret32([0; 32]);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    // 32 bytes are always within HKDF's bound; were they not, the key would be one that opens nothing.
    if let Ok(okm) = prk.expand(&[label, context], hkdf::HKDF_SHA256) {
        let filled = okm.fill(&mut key.0);
        debug_assert!(filled.is_ok());
    }
    key
}

/// The key of one vault's frames first written to the pack with this salt.
pub(crate) fn frame_key(content: &Secret32, pack_salt: &[u8; 32]) -> Secret32 {
    expand(content, pack_salt, FRAMES, b"")
}

/// The key of one pack's batches.
pub(crate) fn batch_key(packs: &Secret32, pack_salt: &[u8; 32]) -> Secret32 {
    expand(packs, pack_salt, BATCHES, b"")
}

/// The key of one pack header's MAC.
pub(crate) fn pack_header_key(packs: &Secret32, pack_salt: &[u8; 32]) -> Secret32 {
    expand(packs, pack_salt, PACK_HEADER, b"")
}

pub(crate) fn vault_key(root: &Secret32, vault: VaultId, label: VaultLabel) -> Secret32 {
    expand(root, b"", label.bytes(), &vault.0)
}

/// The key under which all managed keys stand.
#[derive(Debug, Clone)]
pub struct GatewayKey(Secret32);

impl GatewayKey {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Secret32([0; 32]);
        getrandom::fill(&mut bytes.0)?;
        Ok(Self(bytes))
    }

    /// Takes a stored key.
    pub fn from_secret(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The key itself, to store it in its own file.
    pub fn expose(&self) -> &Secret32 {
        &self.0
    }

    /// The key for one use.
    pub fn derive(&self, label: GatewayLabel) -> Secret32 {
        expand(&self.0, b"", label.bytes(), b"")
    }

    pub(crate) fn derive_for_vault(&self, label: GatewayLabel, vault: VaultId) -> Secret32 {
        expand(&self.0, b"", label.bytes(), &vault.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_has_a_key_of_its_own() {
        let gateway = GatewayKey::from_secret(Secret32::new([9; 32]));
        let labels = [
            GatewayLabel::Packs,
            GatewayLabel::Records,
            GatewayLabel::Slots,
            GatewayLabel::SlotCommitment,
            GatewayLabel::AuditDetails,
            GatewayLabel::AuditSigning,
            GatewayLabel::TokenMac,
            GatewayLabel::RecoveryCodeMac,
            GatewayLabel::KeyCheck,
            GatewayLabel::BackupSecrets,
        ];
        let keys: std::collections::BTreeSet<_> =
            labels.iter().map(|label| *gateway.derive(*label).expose()).collect();
        assert_eq!(keys.len(), labels.len());
        assert!(!keys.contains(&[0; 32]));
    }
}
