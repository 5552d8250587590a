//! Keys: the gateway key, what is derived from it, vault root keys and the slots that hold them (DESIGN "Keys").
//! Every label is in `derive.rs`.

mod derive;
mod slot;
mod vault;

pub use crate::secret::Secret32;
pub use derive::{GatewayKey, GatewayLabel};
pub(crate) use derive::{batch_key, frame_key, pack_header_key};
pub use slot::{ManagedSlot, SlotError};
pub use vault::{RootKey, VaultKeys};
