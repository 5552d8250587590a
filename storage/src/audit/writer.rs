//! The committer's side of the audit log: leaves, segments, signed checkpoints (FORMAT.md section 8).
//!
//! `audit/segment-<16 digits>.log` hold records, each as length (u32) || record; `audit/checkpoints` holds signed notes,
//! each as length (u32) || note, `audit/customer-checkpoints` those over single customers' records; `audit/checkpoint.pub` the
//! verifier line. All are laid out from the log and can be again.

use std::io;
use std::sync::Arc;

use minicbor::bytes::ByteArray;

use super::checkpoint::{Checkpoint, public_key, verifier};
use super::customer::CustomerTrees;
use super::merkle::{Frontier, leaf_hash};
use super::record::outline;
use crate::blob::{Blob, BlobStore};
use crate::error::StoreError;
use crate::id::{CommitNumber, RecordNumber};
use crate::index::Change;
use crate::keys::Secret32;
use crate::record::RecordKey;
use crate::time::UnixNanos;

/// Bytes at which a segment is full.
pub const SEGMENT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The signed notes.
pub const CHECKPOINTS: &str = "audit/checkpoints";
/// The signed notes over single customers' records.
pub const CUSTOMER_CHECKPOINTS: &str = "audit/customer-checkpoints";
/// The key that verifies them.
pub const VERIFIER: &str = "audit/checkpoint.pub";
/// First bytes of a segment: magic, then the number of its first record (u64).
pub const SEGMENT_MAGIC: &[u8; 8] = b"COFAUDT1";
/// Bytes of the largest signed note.
pub const NOTE_BYTES_MAX: u32 = 4096;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 16;

/// How far the audit log is durable outside the packs: kept in the index at each checkpoint (`Table::Store`).
#[derive(Clone, Debug, Default, minicbor::Encode, minicbor::Decode)]
pub struct AuditPosition {
    /// Records laid out.
    #[n(0)]
    pub records: u64,
    /// Right edge of the Merkle tree over them.
    #[n(1)]
    pub frontier: Vec<ByteArray<32>>,
    /// Number of the open segment.
    #[n(2)]
    pub segment: u64,
    /// Bytes of it in use.
    #[n(3)]
    pub segment_bytes: u64,
    /// Bytes of signed notes that must be there: these are never written again.
    #[n(4)]
    pub notes_bytes: u64,
    /// The record from which on customers have trees; absent in a store that kept none.
    #[n(5)]
    pub trees_from: Option<u64>,
    /// As `notes_bytes`, of the notes over single customers' records.
    #[n(6)]
    #[cbor(default)]
    pub customer_notes_bytes: u64,
}

/// Which trees are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The system's.
    System,
    /// The customers' too.
    All,
}

/// Lays records out in segments and signs checkpoints.
#[derive(Debug)]
pub struct AuditWriter {
    blobs: Arc<dyn BlobStore>,
    seed: Secret32,
    frontier: Frontier,
    segment: u64,
    /// The open segment, once something was written to it.
    blob: Option<Arc<dyn Blob>>,
    /// Its bytes in use.
    used: u64,
    /// Records taken and not yet written.
    pending: Vec<u8>,
    signed_size: u64,
    notes_bytes: u64,
    customers: CustomerTrees,
    customer_notes_bytes: u64,
}

/// The number of a segment's blob.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("audit/segment-")?.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The blob of a segment.
pub fn segment_name(segment: u64) -> String {
    format!("audit/segment-{segment:016}.log")
}

fn open_or_create(blobs: &dyn BlobStore, name: &str) -> io::Result<Arc<dyn Blob>> {
    match blobs.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => blobs.create(name, 0),
        opened => opened,
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl AuditWriter {
    /// Opens the log at a durable position (default for a new store). What lies beyond it stays for [`AuditWriter::cut`]:
    /// replay brings it again.
    ///
    /// # Errors
    /// The segments are shorter than the position, or the system fails.
    pub fn open(
        blobs: Arc<dyn BlobStore>,
        signing_seed: &Secret32,
        position: AuditPosition,
        customers: CustomerTrees,
    ) -> io::Result<Self> {
        let edge = position.frontier.into_iter().map(Into::into).collect();
        let frontier = Frontier::from_parts(position.records, edge)
            .ok_or_else(|| invalid("its position does not fit its size"))?;
        let public = public_key(signing_seed).ok_or_else(|| invalid("its signing key is none"))?;
        let line = verifier(&public);
        let held = open_or_create(blobs.as_ref(), VERIFIER)?;
        if held.len()? != line.len() as u64 {
            held.write_at(0, line.as_bytes())?;
            held.sync()?;
        }
        let blob = if position.segment_bytes == 0 {
            None
        } else {
            let blob = blobs.open(&segment_name(position.segment))?;
            if blob.len()? < position.segment_bytes {
                return Err(invalid("a segment is shorter than it was"));
            }
            Some(blob)
        };
        if position.notes_bytes > 0 && blobs.open(CHECKPOINTS)?.len()? < position.notes_bytes {
            return Err(invalid("signed notes are missing"));
        }
        let of_customers = position.customer_notes_bytes;
        if of_customers > 0 && blobs.open(CUSTOMER_CHECKPOINTS)?.len()? < of_customers {
            return Err(invalid("signed notes of customers are missing"));
        }
        Ok(Self {
            blobs,
            seed: signing_seed.clone(),
            frontier,
            segment: position.segment,
            blob,
            used: position.segment_bytes,
            pending: Vec::new(),
            signed_size: 0,
            notes_bytes: position.notes_bytes,
            customers,
            customer_notes_bytes: of_customers,
        })
    }

    /// The newest note that was signed after the position; nothing when there is none. Older ones tell of nothing that the
    /// position does not know.
    ///
    /// # Errors
    /// The system's.
    pub fn newest_signed(&self) -> io::Result<Option<Checkpoint>> {
        let blob = match self.blobs.open(CHECKPOINTS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let public = public_key(&self.seed).ok_or_else(|| invalid("its signing key is none"))?;
        let (len, mut at, mut newest) = (blob.len()?, self.notes_bytes, None::<Checkpoint>);
        while at + 4 <= len {
            let mut prefix = [0; 4];
            blob.read_at(at, &mut prefix)?;
            let bytes = u32::from_le_bytes(prefix);
            if bytes == 0 || bytes > NOTE_BYTES_MAX || at + 4 + u64::from(bytes) > len {
                break;
            }
            let mut note = vec![0; bytes as usize];
            blob.read_at(at + 4, &mut note)?;
            let signed = std::str::from_utf8(&note).ok().and_then(|note| Checkpoint::verify(note, &public));
            newest = match (newest, signed) {
                (Some(before), Some(now)) if before.commit > now.commit => Some(before),
                (before, now) => now.or(before),
            };
            at += 4 + u64::from(bytes);
        }
        Ok(newest)
    }

    /// Cuts what lies beyond the position that the log was opened at. Before this nothing is changed.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&self) -> io::Result<()> {
        if let Some(blob) = &self.blob
            && blob.len()? > self.used
        {
            blob.set_len(self.used)?;
        }
        // Segments begun after the position come again too.
        let from = if self.blob.is_some() { self.segment + 1 } else { self.segment };
        for name in self.blobs.list("audit/segment-")? {
            if name >= segment_name(from) {
                self.blobs.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Takes the next record (numbers in order, without gap), in memory.
    pub fn append(&mut self, number: RecordNumber, encoded: &[u8]) {
        debug_assert_eq!(number, self.next_number());
        let leaf = leaf_hash(encoded);
        self.frontier.push(leaf);
        if let Some(seen) = outline(encoded) {
            self.customers.take(&seen, || leaf);
        }
        self.pending.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.pending.extend_from_slice(encoded);
    }

    /// Writes and syncs what was appended; the position goes to the index at the checkpoint that follows.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> io::Result<AuditPosition> {
        if !self.pending.is_empty() {
            if self.used >= SEGMENT_LOG_BYTES {
                self.segment += 1;
                self.blob = None;
                self.used = 0;
            }
            let blob = if let Some(blob) = &self.blob {
                Arc::clone(blob)
            } else {
                let blob = open_or_create(self.blobs.as_ref(), &segment_name(self.segment))?;
                let first = self.frontier.size() - self.pending_records();
                blob.write_at(0, &[&SEGMENT_MAGIC[..], &first.to_le_bytes()].concat())?;
                self.used = SEGMENT_HEADER_BYTES as u64;
                Arc::clone(self.blob.insert(blob))
            };
            blob.write_at(self.used, &self.pending)?;
            blob.sync()?;
            self.used += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(self.position())
    }

    /// How far the log is durable, once nothing is pending.
    pub fn position(&self) -> AuditPosition {
        AuditPosition {
            records: self.frontier.size(),
            frontier: self.frontier.edge().iter().map(|hash| (*hash).into()).collect(),
            segment: self.segment,
            segment_bytes: self.used,
            notes_bytes: self.notes_bytes,
            trees_from: Some(self.customers.from),
            customer_notes_bytes: self.customer_notes_bytes,
        }
    }

    /// Trees of the customers.
    pub fn customers(&self) -> &CustomerTrees {
        &self.customers
    }

    /// Rows of the index for the customers' trees that changed since the last call: they go there with the position.
    ///
    /// # Errors
    /// `Randomness`.
    pub fn changed_trees(&mut self, key: &RecordKey) -> Result<Vec<Change>, StoreError> {
        self.customers.take_changed(key)
    }

    fn pending_records(&self) -> u64 {
        let (mut rest, mut count) = (self.pending.as_slice(), 0);
        while let Some((len, body)) = rest.split_first_chunk::<4>() {
            rest = body.get(u32::from_le_bytes(*len) as usize..).unwrap_or_default();
            count += 1;
        }
        count
    }

    /// Signs the trees as flushed, with the store's commit number, and makes that durable. Nothing new: nothing happens.
    ///
    /// # Errors
    /// The system's.
    pub fn sign_checkpoint(
        &mut self,
        commit: CommitNumber,
        now: UnixNanos,
        signed: Signed,
    ) -> io::Result<()> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        let no_key = || invalid("its signing key is none");
        if self.frontier.size() != self.signed_size {
            let checkpoint =
                Checkpoint { size: self.frontier.size(), root: self.frontier.root(), commit, time: now };
            let note = checkpoint.sign(&self.seed).ok_or_else(no_key)?;
            self.notes_bytes = self.write_notes(CHECKPOINTS, self.notes_bytes, &[note])?;
            self.signed_size = checkpoint.size;
        }
        if signed == Signed::All {
            let notes = self.customers.sign(&self.seed, commit, now).ok_or_else(no_key)?;
            if !notes.is_empty() {
                let from = self.customer_notes_bytes;
                self.customer_notes_bytes = self.write_notes(CUSTOMER_CHECKPOINTS, from, &notes)?;
            }
        }
        Ok(())
    }

    /// Adds notes behind those that are there; where they end.
    fn write_notes(&self, name: &str, from: u64, notes: &[String]) -> io::Result<u64> {
        let blob = open_or_create(self.blobs.as_ref(), name)?;
        let framed = framed(notes);
        let at = whole_notes_bytes(blob.as_ref(), from)?;
        blob.write_at(at, &framed)?;
        blob.sync()?;
        Ok(at + framed.len() as u64)
    }

    /// Root of the tree over everything appended.
    pub fn root(&self) -> super::merkle::Hash {
        self.frontier.root()
    }

    /// Number of the next record.
    pub fn next_number(&self) -> RecordNumber {
        RecordNumber(self.frontier.size())
    }
}

/// Pieces one after the other, each with its length (u32, little-endian).
pub fn framed(pieces: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut framed = Vec::new();
    for piece in pieces.iter().map(AsRef::as_ref) {
        framed.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_le_bytes());
        framed.extend_from_slice(piece);
    }
    framed
}

/// Bytes of the notes that are there as a whole: a crash may have torn the last one. What is before `from` is never
/// looked at, so that a damaged note is not overwritten but found.
fn whole_notes_bytes(blob: &dyn Blob, from: u64) -> io::Result<u64> {
    let len = blob.len()?;
    let mut at = from;
    while at + 4 <= len {
        let mut prefix = [0; 4];
        blob.read_at(at, &mut prefix)?;
        let next = at + 4 + u64::from(u32::from_le_bytes(prefix));
        if next > len || prefix == [0; 4] {
            break;
        }
        at = next;
    }
    Ok(at)
}
