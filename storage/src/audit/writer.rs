//! The committer's side of the audit log: leaves, segments, signed checkpoints (FORMAT.md section 8).
//!
//! `audit/segment-<16 digits>.log` hold records, each as length (u32) || record; `audit/checkpoints` holds signed notes,
//! each as length (u32) || note; `audit/checkpoint.pub` the verifier line. All are laid out from the log and can be again.

use std::io;
use std::sync::Arc;

use minicbor::bytes::ByteArray;

use super::checkpoint::{Checkpoint, public_key, verifier};
use super::merkle::{Frontier, leaf_hash};
use crate::blob::{Blob, BlobStore};
use crate::id::{CommitNumber, RecordNumber};
use crate::keys::Secret32;
use crate::time::UnixNanos;

/// Bytes at which a segment is full.
pub const SEGMENT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The signed notes.
pub const CHECKPOINTS: &str = "audit/checkpoints";
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
        self.frontier.push(leaf_hash(encoded));
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
        }
    }

    fn pending_records(&self) -> u64 {
        let (mut rest, mut count) = (self.pending.as_slice(), 0);
        while let Some((len, body)) = rest.split_first_chunk::<4>() {
            rest = body.get(u32::from_le_bytes(*len) as usize..).unwrap_or_default();
            count += 1;
        }
        count
    }

    /// Signs the tree as flushed, with the store's commit number, and makes that durable. Nothing new: nothing happens.
    ///
    /// # Errors
    /// The system's.
    pub fn sign_checkpoint(&mut self, commit: CommitNumber, now: UnixNanos) -> io::Result<()> {
        if self.frontier.size() == self.signed_size || !self.pending.is_empty() {
            return Ok(());
        }
        let checkpoint =
            Checkpoint { size: self.frontier.size(), root: self.frontier.root(), commit, time: now };
        let note = checkpoint.sign(&self.seed).ok_or_else(|| invalid("its signing key is none"))?;
        let blob = open_or_create(self.blobs.as_ref(), CHECKPOINTS)?;
        let mut framed = u32::try_from(note.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        framed.extend_from_slice(note.as_bytes());
        let at = whole_notes_bytes(blob.as_ref(), self.notes_bytes)?;
        blob.write_at(at, &framed)?;
        blob.sync()?;
        self.notes_bytes = at + framed.len() as u64;
        self.signed_size = checkpoint.size;
        Ok(())
    }

    /// Number of the next record.
    pub fn next_number(&self) -> RecordNumber {
        RecordNumber(self.frontier.size())
    }
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
