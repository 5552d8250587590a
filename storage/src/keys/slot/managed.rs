//! The managed slot: under the gateway key (FORMAT.md section 2).

use super::super::{GatewayKey, GatewayLabel, RootKey};
use super::SlotError;
use super::wrap::Wrapping;
use crate::id::VaultId;

const FORMAT: &[u8] = b"coffre v1 managed slot";

/// A root key wrapped under the gateway key.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub struct ManagedSlot {
    /// FORMAT.md "Managed slot".
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

impl ManagedSlot {
    /// Wraps `root` for `vault`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn seal(vault: VaultId, root: &RootKey, gateway: &GatewayKey) -> Result<Self, getrandom::Error> {
        Ok(Self { sealed: wrapping(vault, gateway).seal(&aad(vault), &root.0)? })
    }

    /// Unwraps the root key.
    ///
    /// # Errors
    /// [`SlotError`] for a wrong key, another vault's slot or a changed byte.
    pub fn open(&self, vault: VaultId, gateway: &GatewayKey) -> Result<RootKey, SlotError> {
        wrapping(vault, gateway).open(&aad(vault), &self.sealed).map(RootKey)
    }
}

fn wrapping(vault: VaultId, gateway: &GatewayKey) -> Wrapping {
    Wrapping {
        key: gateway.derive_for_vault(GatewayLabel::Slots, vault),
        commitment: gateway.derive_for_vault(GatewayLabel::SlotCommitment, vault),
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
