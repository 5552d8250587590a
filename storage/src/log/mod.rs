//! The log: batches in packs (FORMAT.md sections 5, 6 and 9). Bytes in, bytes out; the committer and replay drive it.

pub mod batch;
pub mod export;
pub mod pack;
pub mod salvage;
pub mod walk;
