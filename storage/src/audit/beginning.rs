//! A log that does not begin with record 0: what was recovered when earlier records were lost (FORMAT.md section 8).
//!
//! ```text
//! coffre/audit-beginning
//! records 1234
//! time 1770000000000000000
//! edge known
//! <hash, base64>      one line for each perfect subtree over the lost records, largest first; none when the edge is unknown
//! ```
//! With a known edge the tree is the same as before the loss: notes that were signed then still verify. With an unknown one
//! a new tree begins, whose lost part is zeros.

use std::fmt::Write;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::merkle::{Frontier, Hash};
use crate::blob::BlobStore;
use crate::keys::Secret32;
use crate::note;
use crate::time::UnixNanos;

/// The blob of the note.
pub const BEGINNING: &str = "audit/beginning";
const ORIGIN: &str = "coffre/audit-beginning";
/// Bytes of the largest such note: 64 hashes and room to spare.
const NOTE_BYTES_MAX: u64 = 8192;

/// What is known of the tree over the lost records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its right edge.
    Known(Vec<Hash>),
    /// Nothing.
    Unknown,
}

/// Where a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Number of the first record that is there: so many were lost.
    pub records: u64,
    /// The tree over the lost ones.
    pub edge: Edge,
    /// When this was found.
    pub time: UnixNanos,
}

impl Beginning {
    fn body(&self) -> String {
        let mut body = format!("{ORIGIN}\nrecords {}\ntime {}\n", self.records, self.time.0);
        match &self.edge {
            Edge::Unknown => body.push_str("edge unknown\n"),
            Edge::Known(hashes) => {
                body.push_str("edge known\n");
                for hash in hashes {
                    let _written = writeln!(body, "{}", BASE64.encode(hash));
                }
            }
        }
        body
    }

    fn parse(body: &str) -> Option<Self> {
        let mut lines = body.lines().skip(1);
        let records = lines.next()?.strip_prefix("records ")?.parse().ok()?;
        let time = UnixNanos(lines.next()?.strip_prefix("time ")?.parse().ok()?);
        let edge = match lines.next()? {
            "edge unknown" => Edge::Unknown,
            "edge known" => Edge::Known(
                lines.map(|line| BASE64.decode(line).ok()?.try_into().ok()).collect::<Option<_>>()?,
            ),
            _ => return None,
        };
        let found = Self { records, edge, time };
        (found.frontier().is_some() && found.body() == body).then_some(found)
    }

    /// The signed note; nothing when the seed is no key.
    pub fn sign(&self, seed: &Secret32) -> Option<String> {
        note::sign(ORIGIN, &self.body(), seed)
    }

    /// Reads a note that the key signed.
    pub fn verify(text: &str, public: &[u8; 32]) -> Option<Self> {
        Self::parse(note::verify(ORIGIN, text, public).ok()?)
    }

    /// The tree that the first record is added to; nothing when the edge does not fit the number.
    pub fn frontier(&self) -> Option<Frontier> {
        let edge = match &self.edge {
            Edge::Known(hashes) => hashes.clone(),
            Edge::Unknown => vec![[0; 32]; self.records.count_ones() as usize],
        };
        Frontier::from_parts(self.records, edge)
    }
}

/// The note beside a log, if there is one.
///
/// # Errors
/// Reading failed.
pub fn read(blobs: &dyn BlobStore) -> io::Result<Option<String>> {
    let blob = match blobs.open(BEGINNING) {
        Ok(blob) => blob,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(blob.len()?.min(NOTE_BYTES_MAX)).unwrap_or(0);
    let mut bytes = vec![0; len];
    blob.read_at(0, &mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The number of the first record of a log, as its note says without being verified.
///
/// # Errors
/// Reading failed.
pub fn first_record(blobs: &dyn BlobStore) -> io::Result<u64> {
    let said = read(blobs)?.and_then(|text| text.lines().nth(1)?.strip_prefix("records ")?.parse().ok());
    Ok(said.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_reads_back_and_with_any_byte_changed_does_not() {
        let seed = Secret32::new([3; 32]);
        let public = note::public_key(&seed).unwrap();
        for edge in [Edge::Known(vec![[1; 32], [2; 32]]), Edge::Unknown] {
            let beginning = Beginning { records: 6, edge, time: UnixNanos(5) };
            let text = beginning.sign(&seed).unwrap();
            assert_eq!(Beginning::verify(&text, &public).as_ref(), Some(&beginning));
            for at in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1;
                if let Ok(changed) = String::from_utf8(changed) {
                    assert!(Beginning::verify(&changed, &public).is_none(), "byte {at}");
                }
            }
        }
        let unfit = Beginning { records: 6, edge: Edge::Known(vec![[1; 32]]), time: UnixNanos(5) };
        assert!(Beginning::verify(&unfit.sign(&seed).unwrap(), &public).is_none());
    }
}
