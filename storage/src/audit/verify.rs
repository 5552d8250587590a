//! Verification of the audit log, offline too: segments and checkpoints against one public key, no secret needed.

use std::io;

use super::checkpoint::Checkpoint;
use super::merkle::{Frontier, Hash, leaf_hash};
use super::record::{RECORD_BYTES_MAX, decode_record};
use super::writer::{
    AuditPosition, CHECKPOINTS, NOTE_BYTES_MAX, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, segment_name,
};
use super::{Record, VerifyReport};
use crate::blob::{Blob, BlobStore};
use crate::id::RecordNumber;

/// Reads a segment record by record.
struct SegmentReader {
    blob: std::sync::Arc<dyn Blob>,
    at: u64,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl SegmentReader {
    /// What lies behind `until` is of no interest: it is being written.
    fn open(
        blobs: &dyn BlobStore,
        segment: u64,
        until: Option<&AuditPosition>,
    ) -> io::Result<Option<(Self, u64)>> {
        let blob = blobs.open(&segment_name(segment))?;
        let bound = until.filter(|until| until.segment == segment).map(|until| until.segment_bytes);
        let len = blob.len()?.min(bound.unwrap_or(u64::MAX));
        let mut reader = Self { blob, at: 0, len, window: Vec::new(), window_at: 0 };
        let Some(header) = reader.take(SEGMENT_HEADER_BYTES)? else { return Ok(None) };
        let first = header
            .strip_prefix(SEGMENT_MAGIC)
            .and_then(|rest| Some(u64::from_le_bytes(*rest.first_chunk()?)));
        Ok(first.map(|first| (reader, first)))
    }

    fn take(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        if self.at + bytes as u64 > self.len {
            return Ok(None);
        }
        let start = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        if self.window.get(start..start.saturating_add(bytes)).is_none() {
            let fill = usize::try_from(self.len - self.at).unwrap_or(usize::MAX).min(bytes.max(1 << 20));
            self.window.resize(fill, 0);
            self.blob.read_at(self.at, &mut self.window)?;
            self.window_at = self.at;
        }
        let start = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        let taken = self.window.get(start..start + bytes).map(<[u8]>::to_vec);
        self.at += bytes as u64;
        Ok(taken)
    }

    /// The next record's bytes; the inner nothing tells of damage.
    #[expect(clippy::option_option, reason = "the end of the log and damage in it are two things")]
    fn next(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        if self.at == self.len {
            return Ok(None);
        }
        let Some(prefix) = self.take(4)? else { return Ok(Some(None)) };
        let len = u32::from_le_bytes(*prefix.first_chunk().unwrap_or(&[0; 4])) as usize;
        if len == 0 || len > RECORD_BYTES_MAX {
            return Ok(Some(None));
        }
        Ok(Some(self.take(len)?))
    }
}

fn segments(blobs: &dyn BlobStore) -> io::Result<u64> {
    Ok(blobs.list("audit/segment-")?.len() as u64)
}

/// Calls `each` with every record, in order, until it says stop. Returns the number of the first record that is not
/// readable, if one is not.
///
/// # Errors
/// Reading failed.
pub fn for_each_record(
    blobs: &dyn BlobStore,
    each: &mut dyn FnMut(&[u8], Record) -> bool,
) -> io::Result<Option<RecordNumber>> {
    for_each_record_until(blobs, None, each)
}

fn for_each_record_until(
    blobs: &dyn BlobStore,
    until: Option<&AuditPosition>,
    each: &mut dyn FnMut(&[u8], Record) -> bool,
) -> io::Result<Option<RecordNumber>> {
    let mut next = 0;
    // The open segment is made with its first record.
    let last = until.map(|until| if until.segment_bytes == 0 { until.segment } else { until.segment + 1 });
    for segment in 0..segments(blobs)?.min(last.unwrap_or(u64::MAX)) {
        let Some((mut reader, first)) = SegmentReader::open(blobs, segment, until)? else {
            return Ok(Some(RecordNumber(next)));
        };
        if first != next {
            return Ok(Some(RecordNumber(next)));
        }
        while let Some(bytes) = reader.next()? {
            let record = bytes.as_deref().and_then(decode_record).filter(|record| record.number.0 == next);
            let (Some(bytes), Some(record)) = (bytes, record) else { return Ok(Some(RecordNumber(next))) };
            next += 1;
            if !each(&bytes, record) {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

fn read_checkpoints(
    blobs: &dyn BlobStore,
    public_key: &[u8; 32],
    until: Option<&AuditPosition>,
) -> io::Result<Result<Vec<Checkpoint>, String>> {
    // None has been signed yet.
    if until.is_some_and(|until| until.notes_bytes == 0) {
        return Ok(Ok(Vec::new()));
    }
    let blob = match blobs.open(CHECKPOINTS) {
        Ok(blob) => blob,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err("there are no signed checkpoints".into()));
        }
        Err(error) => return Err(error),
    };
    let bound = until.map_or(u64::MAX, |until| until.notes_bytes);
    let (len, mut at, mut found) = (blob.len()?.min(bound), 0, Vec::<Checkpoint>::new());
    while at < len {
        let nth = found.len();
        let bad = |what: &str| Ok(Err(format!("checkpoint {nth} {what}")));
        let mut prefix = [0; 4];
        if at + 4 > len {
            return bad("is cut short");
        }
        blob.read_at(at, &mut prefix)?;
        let bytes = u32::from_le_bytes(prefix);
        if bytes > NOTE_BYTES_MAX || at + 4 + u64::from(bytes) > len {
            return bad("is cut short");
        }
        let mut note = vec![0; bytes as usize];
        blob.read_at(at + 4, &mut note)?;
        let Some(checkpoint) =
            std::str::from_utf8(&note).ok().and_then(|note| Checkpoint::verify(note, public_key))
        else {
            return bad("is not signed by this log's key");
        };
        if found.last().is_some_and(|last| checkpoint.size < last.size || checkpoint.commit < last.commit) {
            return bad("goes back behind the one before");
        }
        found.push(checkpoint);
        at += 4 + u64::from(bytes);
    }
    Ok(Ok(found))
}

/// Verifies segments and checkpoints below `blobs` with the checkpoint public key (32 bytes, Ed25519): offline, on a copy.
///
/// # Errors
/// Reading failed; damage is in the report.
pub fn verify(blobs: &dyn BlobStore, public_key: &[u8; 32]) -> io::Result<VerifyReport> {
    verify_until(blobs, public_key, None)
}

/// As [`verify`], up to a position that a checkpoint of the store wrote down: what is behind is being written.
///
/// # Errors
/// Reading failed; damage is in the report.
pub fn verify_until(
    blobs: &dyn BlobStore,
    public_key: &[u8; 32],
    until: Option<&AuditPosition>,
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let checkpoints = match read_checkpoints(blobs, public_key, until)? {
        Ok(checkpoints) => checkpoints,
        Err(damage) => {
            report.damage = Some(damage);
            return Ok(report);
        }
    };
    report.checkpoints = checkpoints.len() as u64;
    report.commit = checkpoints.last().map(|checkpoint| checkpoint.commit);
    let mut frontier = Frontier::default();
    let mut waiting = checkpoints.iter().peekable();
    let mut wrong: Option<u64> = None;
    let unreadable = for_each_record_until(blobs, until, &mut |bytes, _record| {
        frontier.push(leaf_hash(bytes));
        while let Some(checkpoint) = waiting.next_if(|checkpoint| checkpoint.size <= frontier.size()) {
            let root: Hash = frontier.root();
            if checkpoint.size == frontier.size() && checkpoint.root != root {
                wrong = Some(checkpoint.size);
                return false;
            }
        }
        true
    })?;
    report.records = frontier.size();
    report.uncovered =
        frontier.size() - checkpoints.last().map_or(0, |checkpoint| checkpoint.size.min(frontier.size()));
    if let Some(size) = wrong {
        report.damage = Some(format!("the first {size} records are not those that were signed"));
    } else if let Some(number) = unreadable {
        report.damage = Some(format!("record {number} cannot be read"));
        report.at = Some(number);
    } else if let Some(checkpoint) = waiting.next() {
        report.damage =
            Some(format!("{} records were signed, {} are there", checkpoint.size, frontier.size()));
    }
    Ok(report)
}
