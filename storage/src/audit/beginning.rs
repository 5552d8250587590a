//! A log that does not begin with record 0: what was recovered when earlier records were lost (FORMAT.md section 8).
//!
//! ```text
//! coffre/audit-beginning
//! records 1234
//! time 1770000000000000000
//! edge known
//! <hash, base64>      one line for each perfect subtree over the lost records, largest first; none when the edge is unknown
//! customers 0         absent when customers' trees begin with this log
//! customer <32 hexadecimal digits> 12
//! <hash, base64>      the same of the customer's lost records
//! ```
//! With a known edge the tree is the same as before the loss: notes that were signed then still verify. With an unknown one
//! a new tree begins, whose lost part is zeros.

use std::fmt::Write;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::customer::{Customer, CustomerTrees, customer_of};
use super::merkle::{Frontier, Hash};
use crate::blob::BlobStore;
use crate::keys::Secret32;
use crate::note;
use crate::time::UnixNanos;

/// The blob of the note.
pub const BEGINNING: &str = "audit/beginning";
const ORIGIN: &str = "coffre/audit-beginning";
/// Bytes of the largest such note: a hundred thousand customers with twenty hashes each, and room to spare.
const NOTE_BYTES_MAX: u64 = 128 * 1024 * 1024;

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
    /// The trees of customers over the lost records; absent when they begin anew.
    pub customers: Option<CustomerEdges>,
}

/// Edges of the customers' trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerEdges {
    /// The record from which on they were kept.
    pub from: u64,
    /// Each with its edge, by customer.
    pub edges: Vec<(Customer, Frontier)>,
}

impl From<&CustomerTrees> for CustomerEdges {
    fn from(trees: &CustomerTrees) -> Self {
        let edges = trees.iter().map(|(customer, tree)| (*customer, tree.frontier.clone()));
        Self { from: trees.from, edges: edges.collect() }
    }
}

impl CustomerEdges {
    fn write(&self, body: &mut String) {
        let _written = writeln!(body, "customers {}", self.from);
        for (customer, frontier) in &self.edges {
            let name = u128::from_be_bytes(*customer);
            let _written = writeln!(body, "customer {name:032x} {}", frontier.size());
            for hash in frontier.edge() {
                let _written = writeln!(body, "{}", BASE64.encode(hash));
            }
        }
    }

    fn parse<'l>(from: &str, mut lines: impl Iterator<Item = &'l str>) -> Option<Self> {
        let mut edges = Vec::new();
        while let Some(line) = lines.next() {
            let (customer, size) = line.strip_prefix("customer ")?.split_once(' ')?;
            let customer = customer_of(&format!("{}/{customer}", super::checkpoint::ORIGIN))?;
            let size: u64 = size.parse().ok()?;
            let hashes = (0..size.count_ones()).map(|_| hash_of(lines.next()?));
            edges.push((customer, Frontier::from_parts(size, hashes.collect::<Option<_>>()?)?));
        }
        Some(Self { from: from.parse().ok()?, edges })
    }
}

fn hash_of(line: &str) -> Option<Hash> {
    BASE64.decode(line).ok()?.try_into().ok()
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
        if let Some(customers) = &self.customers {
            customers.write(&mut body);
        }
        body
    }

    fn parse(body: &str) -> Option<Self> {
        let mut lines = body.lines().skip(1).peekable();
        let records = lines.next()?.strip_prefix("records ")?.parse().ok()?;
        let time = UnixNanos(lines.next()?.strip_prefix("time ")?.parse().ok()?);
        let edge = match lines.next()? {
            "edge unknown" => Edge::Unknown,
            "edge known" => {
                let mut hashes = Vec::new();
                while let Some(line) = lines.next_if(|line| !line.starts_with("customers ")) {
                    hashes.push(hash_of(line)?);
                }
                Edge::Known(hashes)
            }
            _ => return None,
        };
        let customers = match lines.next() {
            Some(line) => Some(CustomerEdges::parse(line.strip_prefix("customers ")?, lines)?),
            None => None,
        };
        let found = Self { records, edge, time, customers };
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

    /// Whether the tree goes on as it was from a record between these two.
    pub fn is_within(&self, first: u64, last: u64) -> bool {
        matches!(self.edge, Edge::Known(_)) && (first..=last).contains(&self.records)
    }

    /// The customers' trees that the first record is added to.
    pub fn trees(&self) -> CustomerTrees {
        match &self.customers {
            Some(known) => CustomerTrees::with_edges(known.from, known.edges.iter().cloned()),
            None => CustomerTrees::begin(self.records),
        }
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
        let edges = vec![
            ([1; 16], Frontier::from_parts(3, vec![[3; 32], [4; 32]]).unwrap()),
            ([2; 16], Frontier::from_parts(1, vec![[5; 32]]).unwrap()),
        ];
        let customers = Some(CustomerEdges { from: 2, edges });
        for (edge, customers) in [
            (Edge::Known(vec![[1; 32], [2; 32]]), None),
            (Edge::Known(vec![[1; 32], [2; 32]]), customers),
            (Edge::Unknown, None),
        ] {
            let beginning = Beginning { records: 6, edge, time: UnixNanos(5), customers };
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
        let unfit =
            Beginning { records: 6, edge: Edge::Known(vec![[1; 32]]), time: UnixNanos(5), customers: None };
        assert!(Beginning::verify(&unfit.sign(&seed).unwrap(), &public).is_none());
    }
}
