//! Key slots: ways to a vault's root key. The managed slot stands under the gateway key (FORMAT.md section 2).

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{GatewayKey, GatewayLabel, RootKey, Secret32};
use crate::aead::{Aead, NONCE_BYTES, PortableAead, TAG_BYTES};
use crate::id::VaultId;

const COMMITMENT_BYTES: usize = 32;
const SLOT_BYTES: usize = COMMITMENT_BYTES + NONCE_BYTES + 32 + TAG_BYTES;
const FORMAT: &[u8] = b"coffre v1 managed slot";

/// A root key wrapped under the gateway key (AES-256-GCM through `aes-gcm`, with an HKDF commitment compared in
/// constant time before opening): commitment (32) || nonce (12) || ciphertext (32) || tag (16).
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
    pub fn seal(vault: VaultId, root: &RootKey, gateway: &GatewayKey) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let mut wrapped = *root.0.expose();
        let kek = PortableAead::new(&gateway.derive_for_vault(GatewayLabel::Slots, vault));
        let tag = kek.seal(nonce, &aad(vault), &mut wrapped).ok_or(getrandom::Error::UNEXPECTED)?;
        let mut sealed = Vec::with_capacity(SLOT_BYTES);
        sealed.extend_from_slice(gateway.derive_for_vault(GatewayLabel::SlotCommitment, vault).expose());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&wrapped);
        sealed.extend_from_slice(&tag);
        Ok(Self { sealed })
    }

    /// Unwraps the root key.
    ///
    /// # Errors
    /// [`SlotError`] for a wrong key, another vault's slot or a changed byte.
    pub fn open(&self, vault: VaultId, gateway: &GatewayKey) -> Result<RootKey, SlotError> {
        let (commitment, rest) = self.sealed.split_first_chunk::<COMMITMENT_BYTES>().ok_or(SlotError)?;
        let expected = gateway.derive_for_vault(GatewayLabel::SlotCommitment, vault);
        if !bool::from(commitment.ct_eq(expected.expose())) {
            return Err(SlotError);
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SlotError)?;
        let (wrapped, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SlotError)?;
        let mut root: [u8; 32] = wrapped.try_into().map_err(|_| SlotError)?;
        let kek = PortableAead::new(&gateway.derive_for_vault(GatewayLabel::Slots, vault));
        if !kek.open(*nonce, &aad(vault), &mut root, tag) {
            root.zeroize();
            return Err(SlotError);
        }
        let opened = RootKey(Secret32::new(root));
        root.zeroize();
        Ok(opened)
    }
}

fn aad(vault: VaultId) -> Vec<u8> {
    [FORMAT, &vault.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_opens_for_its_vault_and_gateway_key_only() {
        let gateway = GatewayKey::generate().unwrap();
        let (vault, root) = (VaultId([1; 16]), RootKey::generate().unwrap());
        let slot = ManagedSlot::seal(vault, &root, &gateway).unwrap();
        assert_eq!(slot.open(vault, &gateway).unwrap().0.expose(), root.0.expose());
        assert!(slot.open(VaultId([2; 16]), &gateway).is_err());
        assert!(slot.open(vault, &GatewayKey::generate().unwrap()).is_err());
        for at in 0..slot.sealed.len() {
            let mut changed = slot.clone();
            changed.sealed[at] ^= 1;
            assert!(changed.open(vault, &gateway).is_err(), "byte {at}");
            changed.sealed.truncate(at);
            assert!(changed.open(vault, &gateway).is_err(), "cut at {at}");
        }
    }
}
