//! Something wrapped under a passphrase: Argon2id (RFC 9106) with a salt and costs of its own, then the usual wrapping. What
//! it is for is part of its key and of its AAD: a vault's slot opens for that vault only.

use argon2::{Algorithm, Argon2, Params, Version};

use super::SlotError;
use super::wrap::Wrapping;
use crate::id::VaultId;
use crate::keys::RootKey;
use crate::keys::derive::{SlotLabel, slot_key};
use crate::limits::{
    ARGON2_LANES_MAX, ARGON2_MEMORY_KIB, ARGON2_MEMORY_KIB_MAX, ARGON2_MEMORY_KIB_MIN, ARGON2_PASSES,
    ARGON2_PASSES_MAX, ARGON2_PASSES_MIN,
};
use crate::secret::{Passphrase, Secret32};

const VAULT: &[u8] = b"coffre v1 passphrase slot";
const ESCROW: &[u8] = b"coffre v1 escrow private key";
const SALT_BYTES: usize = 32;

/// What a wrapped secret is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'p> {
    /// A vault's root key.
    Vault(VaultId),
    /// The private key of this escrow recipient.
    Escrow(&'p [u8; 32]),
}

impl Purpose<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Vault(vault) => [VAULT, &vault.0].concat(),
            Self::Escrow(recipient) => [ESCROW, recipient.as_slice()].concat(),
        }
    }
}

/// A secret wrapped under a passphrase.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct PassphraseSlot {
    /// KiB of memory that Argon2id takes.
    #[n(0)]
    pub(crate) memory_kib: u32,
    /// Passes over it.
    #[n(1)]
    pub(crate) passes: u32,
    /// Lanes.
    #[n(2)]
    pub(crate) lanes: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) salt: Vec<u8>,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) sealed: Vec<u8>,
}

impl PassphraseSlot {
    /// Wraps a vault's root key.
    ///
    /// # Errors
    /// When the operating system has no randomness, or not the memory that Argon2id takes.
    pub fn seal(vault: VaultId, root: &RootKey, passphrase: &Passphrase) -> Result<Self, SlotError> {
        Self::seal_for(Purpose::Vault(vault), &root.0, passphrase)
    }

    /// Unwraps a vault's root key.
    ///
    /// # Errors
    /// [`SlotError`] for a wrong passphrase, another vault's slot or a changed byte.
    pub fn open(&self, vault: VaultId, passphrase: &Passphrase) -> Result<RootKey, SlotError> {
        self.open_for(Purpose::Vault(vault), passphrase).map(RootKey)
    }

    pub(crate) fn seal_for(
        purpose: Purpose<'_>,
        secret: &Secret32,
        passphrase: &Passphrase,
    ) -> Result<Self, SlotError> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| SlotError)?;
        let mut slot = Self {
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            lanes: ARGON2_LANES_MAX,
            salt,
            sealed: Vec::new(),
        };
        let wrapping = slot.wrapping(purpose, passphrase)?;
        slot.sealed = wrapping.seal(&slot.aad(purpose), secret).map_err(|_| SlotError)?;
        Ok(slot)
    }

    pub(crate) fn open_for(
        &self,
        purpose: Purpose<'_>,
        passphrase: &Passphrase,
    ) -> Result<Secret32, SlotError> {
        self.wrapping(purpose, passphrase)?.open(&self.aad(purpose), &self.sealed)
    }

    fn aad(&self, purpose: Purpose<'_>) -> Vec<u8> {
        let mut aad = purpose.bytes();
        for cost in [self.memory_kib, self.passes, self.lanes] {
            aad.extend_from_slice(&cost.to_le_bytes());
        }
        aad.extend_from_slice(&self.salt);
        aad
    }

    /// Costs that a slot says are believed within bounds only: below, whoever wrote the slot made guessing cheap; above, he
    /// would have the gateway's memory.
    fn wrapping(&self, purpose: Purpose<'_>, passphrase: &Passphrase) -> Result<Wrapping, SlotError> {
        let fair = (ARGON2_MEMORY_KIB_MIN..=ARGON2_MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (ARGON2_PASSES_MIN..=ARGON2_PASSES_MAX).contains(&self.passes)
            && (1..=ARGON2_LANES_MAX).contains(&self.lanes)
            && self.salt.len() == SALT_BYTES;
        if !fair {
            return Err(SlotError);
        }
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| SlotError)?;
        let mut stretched = Secret32([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose(), &self.salt, &mut stretched.0)
            .map_err(|_| SlotError)?;
        let context = purpose.bytes();
        let key = |label| slot_key(stretched.expose(), b"", label, &context);
        Ok(Wrapping { key: key(SlotLabel::Passphrase), commitment: key(SlotLabel::PassphraseCommitment) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_slot_opens_for_its_vault_and_passphrase_only() {
        let (vault, root) = (VaultId([1; 16]), RootKey::generate().unwrap());
        let passphrase = Passphrase::new(b"a passphrase of a test".to_vec());
        let slot = PassphraseSlot::seal(vault, &root, &passphrase).unwrap();
        assert_eq!(slot.open(vault, &passphrase).unwrap().0.expose(), root.0.expose());
        assert!(slot.open(VaultId([2; 16]), &passphrase).is_err());
        assert!(slot.open(vault, &Passphrase::new(b"a passphrase of a tesT".to_vec())).is_err());
        assert!(slot.open_for(Purpose::Escrow(&[1; 32]), &passphrase).is_err());
        for at in [0, 31, 32, 43, 44, 75, 76, 91] {
            let mut changed = slot.clone();
            changed.sealed[at] ^= 1;
            assert!(changed.open(vault, &passphrase).is_err(), "byte {at}");
        }
        let mut salted = slot.clone();
        salted.salt[0] ^= 1;
        assert!(salted.open(vault, &passphrase).is_err());
        let costly = PassphraseSlot { passes: slot.passes + 1, ..slot };
        assert!(costly.open(vault, &passphrase).is_err());
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_anything_is_computed() {
        let slot = PassphraseSlot {
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            lanes: ARGON2_LANES_MAX,
            salt: vec![0; SALT_BYTES],
            sealed: Vec::new(),
        };
        let unfair = [
            PassphraseSlot { memory_kib: u32::MAX, ..slot.clone() },
            PassphraseSlot { memory_kib: 8, ..slot.clone() },
            PassphraseSlot { passes: u32::MAX, ..slot.clone() },
            PassphraseSlot { passes: 1, ..slot.clone() },
            PassphraseSlot { lanes: 0, ..slot.clone() },
            PassphraseSlot { lanes: u32::MAX, ..slot.clone() },
            PassphraseSlot { salt: vec![0; 8], ..slot },
        ];
        for slot in unfair {
            assert!(slot.wrapping(Purpose::Vault(VaultId([1; 16])), &Passphrase::new(vec![1])).is_err());
        }
    }
}
