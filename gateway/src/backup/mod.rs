//! Backups: a directory that holds everything but the gateway key, taken while the server serves (FORMAT.md section 17).
//!
//! ```text
//! backup                the signed manifest: what there is, how long, with which hash; written last
//! packs/ audit/         copies of the store's own files, as they are: sealed already
//! config/<number>/      configuration; private keys sealed under the gateway key
//! lock                  whoever holds its flock writes here
//! ```
//! Files of packs and of the audit log only ever grow at their end, so a copy is brought forward in place, and what a manifest
//! says of a file's beginning stays true. A manifest replaces the former one in one step: a backup that is interrupted leaves
//! the former one whole.

pub mod manifest;
pub mod secrets;
pub mod take;
mod verified;

pub use manifest::{Manifest, ManifestError};
pub use take::{BackupSummary, Verify, take};

/// Name of the manifest.
pub const MANIFEST: &str = "backup";
const LOCK: &str = "lock";
const CONFIG: &str = "config";
