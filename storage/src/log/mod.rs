//! The log: batches in packs (FORMAT.md "Pack", "Batch").
