//! Coffre's store: an append-only encrypted log of batches in packs, a redb index over it, vault trees with
//! history, and the audit log. Synchronous throughout, so that crashes can be simulated deterministically.
//!
//! Layers, lowest first; each sees only those before it:
//! `id, limits, allowance, time, secret` -> `aead, buffer, index, note` -> `keys, frame, record, chunker, blob` -> `index, log` -> `audit` -> `commit` (the
//! [`Store`]) -> `tree` with [`upload`] (the [`Vault`]) -> `check, recover` -> `scrub`.

pub mod aead;
pub mod allowance;
pub mod audit;
pub mod blob;
pub mod buffer;
pub mod check;
pub mod chunker;
pub mod commit;
pub mod error;
pub mod frame;
pub mod id;
pub mod index;
pub mod keys;
pub mod limits;
pub mod log;
pub mod note;
pub mod quota;
pub mod reclaim;
pub mod record;
pub mod recover;
pub(crate) mod rows;
pub mod scrub;
pub mod secret;
pub mod testing;
pub mod time;
pub mod tree;
mod unsaved;

const _: () = assert!(size_of::<usize>() == 8, "lengths of memory and of files are the same numbers here");

pub use commit::{Pending, Store, StoreOptions, Ticket, Txn};
pub use error::StoreError;
pub use tree::{Vault, upload};
