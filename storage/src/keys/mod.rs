//! Keys: the gateway key, what is derived from it, vault root keys and the slots that hold them (DESIGN "Keys").
//! Every label is in `derive.rs`.

mod derive;
mod slot;
mod vault;

pub use crate::secret::{Passphrase, Secret32};
pub use derive::{GatewayKey, GatewayLabel};
pub(crate) use derive::{batch_key, frame_key, pack_header_key};
pub(crate) use slot::SlotRow;
pub use slot::{
    EscrowKey, EscrowRecipient, EscrowSlot, LockedEscrowKey, ManagedSlot, PassphraseSlot, Slot, SlotError,
    TokenSlot,
};
pub use vault::{RootKey, VaultKeys};
