//! Key slots: ways to a vault's root key (FORMAT.md section 2). Each is bound to its vault, and commits to the key that
//! opens it: a changed byte, another vault's slot or a wrong key are all the same refusal.

mod escrow;
mod managed;
mod passphrase;
mod token;
mod wrap;

pub use escrow::{EscrowKey, EscrowRecipient, EscrowSlot, LockedEscrowKey};
pub use managed::ManagedSlot;
pub use passphrase::PassphraseSlot;
pub use token::TokenSlot;

use crate::time::UnixNanos;

/// Why a slot does not open, or cannot be made. Never says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key slot does not open with this key")]
pub struct SlotError;

/// A way to a root key that is not the gateway's.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Slot {
    /// By a passphrase.
    #[n(0)]
    Passphrase(#[n(0)] PassphraseSlot),
    /// By an app token, for its own sessions.
    #[n(1)]
    Token(#[n(0)] TokenSlot),
    /// By an offline key.
    #[n(2)]
    Escrow(#[n(0)] EscrowSlot),
}

/// Value of `Table::Slots`.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct SlotRow {
    #[n(0)]
    pub(crate) slot: Slot,
    #[n(1)]
    pub(crate) created: UnixNanos,
}

impl Slot {
    /// Decodes a slot that comes from outside of the store.
    ///
    /// # Errors
    /// [`SlotError`] when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SlotError> {
        minicbor::decode(bytes).map_err(|_| SlotError)
    }

    /// The slot as bytes.
    ///
    /// # Errors
    /// None that a slot has.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SlotError> {
        minicbor::to_vec(self).map_err(|_| SlotError)
    }
}
