//! The committer's side of the audit log: numbers, leaves, segments, signed checkpoints.

use std::io;
use std::sync::Arc;

use super::{RecordDraft, VerifyReport};
use crate::blob::BlobStore;
use crate::id::{CommitNumber, RecordNumber};
use crate::keys::Secret32;
use crate::record::RecordKey;
use crate::time::UnixNanos;

/// How far the audit log is durable outside the packs: kept in the index at each checkpoint (`Table::Store`).
#[derive(Clone, Debug, Default, minicbor::Encode, minicbor::Decode)]
pub struct AuditPosition {
    /// Records laid out.
    #[n(0)]
    pub records: u64,
    /// Right edge of the Merkle tree over them.
    #[n(1)]
    pub frontier: Vec<minicbor::bytes::ByteArray<32>>,
    /// Number of the open segment.
    #[n(2)]
    pub segment: u64,
    /// Bytes of it in use.
    #[n(3)]
    pub segment_bytes: u64,
}

/// Encodes a record (deterministic CBOR) with its number and times; details sealed with `details`.
#[allow(unused_variables, reason = "signatures")]
pub fn encode_record(draft: &RecordDraft, number: RecordNumber, utc: UnixNanos, boot_nanos: u64, details: &RecordKey) -> Vec<u8> { todo!() }

/// Lays records out in segments (`audit/segment-….log`) and signs checkpoints (`audit/checkpoints`).
#[derive(Debug)]
pub struct AuditWriter {
    _private: (),
}

#[allow(unused_variables, reason = "signatures")]
impl AuditWriter {
    /// Opens the log at a durable position (default for a new store); what lies beyond it in the segment is cut: replay
    /// brings it again.
    ///
    /// # Errors
    /// The segments are shorter than the position, or the system fails.
    pub fn open(blobs: Arc<dyn BlobStore>, signing_seed: &Secret32, position: AuditPosition) -> io::Result<Self> { todo!() }
    /// Takes the next record (numbers in order, without gap), in memory.
    pub fn append(&mut self, number: RecordNumber, encoded: &[u8]) { todo!() }
    /// Writes and syncs what was appended; the position goes to the index at the checkpoint that follows.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> io::Result<AuditPosition> { todo!() }
    /// Signs the tree as flushed, with the store's commit number, and makes that durable. Nothing new: nothing happens.
    ///
    /// # Errors
    /// The system's.
    pub fn sign_checkpoint(&mut self, commit: CommitNumber, now: UnixNanos) -> io::Result<()> { todo!() }
    /// Number of the next record.
    pub fn next_number(&self) -> RecordNumber { todo!() }
}

/// Verifies segments and checkpoints below `blobs` with the checkpoint public key (32 bytes, Ed25519): offline, on a copy.
///
/// # Errors
/// Reading failed; damage is in the report.
#[allow(unused_variables, reason = "signatures")]
pub fn verify(blobs: &dyn BlobStore, public_key: &[u8; 32]) -> io::Result<VerifyReport> { todo!() }
