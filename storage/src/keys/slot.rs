//! Key slots: ways to a vault's root key. The managed slot stands under the gateway key.
use super::{GatewayKey, RootKey};
use crate::id::VaultId;

/// A root key wrapped under the gateway key (AES-256-GCM through `aes-gcm`, with an HKDF commitment compared in
/// constant time before opening).
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub struct ManagedSlot {
    /// FORMAT.md "Managed slot".
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

/// Why a slot does not open. Never says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key slot does not open with this key")]
pub struct SlotError;

impl ManagedSlot {
    /// Wraps `root` for `vault`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn seal(_vault: VaultId, _root: &RootKey, _gateway: &GatewayKey) -> Result<Self, getrandom::Error> { todo!() }
    /// Unwraps the root key.
    ///
    /// # Errors
    /// [`SlotError`] for a wrong key, another vault's slot or a changed byte.
    pub fn open(&self, _vault: VaultId, _gateway: &GatewayKey) -> Result<RootKey, SlotError> { todo!() }
}
