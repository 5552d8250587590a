//! The token slot: under an app token's own text, of which the gateway keeps a MAC only. A token has 190 random bits, so it
//! needs no stretching.

use super::SlotError;
use super::wrap::Wrapping;
use crate::id::VaultId;
use crate::keys::RootKey;
use crate::keys::derive::{SlotLabel, slot_key};

const FORMAT: &[u8] = b"coffre v1 token slot";
const SALT_BYTES: usize = 32;

/// A root key wrapped under an app token.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct TokenSlot {
    /// The credential whose token it is.
    #[n(0)]
    pub(crate) credential: String,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) salt: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) sealed: Vec<u8>,
}

impl TokenSlot {
    /// Wraps a vault's root key under a token's text.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn seal(
        vault: VaultId,
        root: &RootKey,
        credential: &str,
        token: &[u8],
    ) -> Result<Self, getrandom::Error> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        let mut slot = Self { credential: credential.to_owned(), salt, sealed: Vec::new() };
        let context = slot.context(vault);
        slot.sealed = slot.wrapping(&context, token).seal(&context, &root.0)?;
        Ok(slot)
    }

    /// Unwraps the root key.
    ///
    /// # Errors
    /// [`SlotError`] for another token, another vault's or credential's slot, or a changed byte.
    pub fn open(&self, vault: VaultId, token: &[u8]) -> Result<RootKey, SlotError> {
        let context = self.context(vault);
        self.wrapping(&context, token).open(&context, &self.sealed).map(RootKey)
    }

    /// The credential whose token it is.
    pub fn credential(&self) -> &str {
        &self.credential
    }

    fn context(&self, vault: VaultId) -> Vec<u8> {
        [FORMAT, &vault.0, self.credential.as_bytes()].concat()
    }

    fn wrapping(&self, context: &[u8], token: &[u8]) -> Wrapping {
        let key = |label| slot_key(token, &self.salt, label, context);
        Wrapping { key: key(SlotLabel::Token), commitment: key(SlotLabel::TokenCommitment) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_slot_opens_for_its_vault_credential_and_token_only() {
        let (vault, root) = (VaultId([1; 16]), RootKey::generate().unwrap());
        let slot = TokenSlot::seal(vault, &root, "k1", b"cofr_token").unwrap();
        assert_eq!(slot.open(vault, b"cofr_token").unwrap().0.expose(), root.0.expose());
        assert!(slot.open(VaultId([2; 16]), b"cofr_token").is_err());
        assert!(slot.open(vault, b"cofr_tokem").is_err());
        assert!(
            TokenSlot { credential: "k2".to_owned(), ..slot.clone() }.open(vault, b"cofr_token").is_err()
        );
        for at in 0..slot.sealed.len() {
            let mut changed = slot.clone();
            changed.sealed[at] ^= 1;
            assert!(changed.open(vault, b"cofr_token").is_err(), "byte {at}");
            changed.sealed.truncate(at);
            assert!(changed.open(vault, b"cofr_token").is_err(), "cut at {at}");
        }
    }
}
