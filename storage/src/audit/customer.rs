//! A tree for each customer beside the system's (FORMAT.md section 8): the same record bytes are the leaves, in the same
//! order, those of the customer only. Who holds one customer's records and its notes verifies them without seeing anybody
//! else's.
//!
//! ```text
//! coffre/audit/<customer, 32 hexadecimal digits>
//! 1234
//! <root, base64>
//! commit 5678
//! time 1770000000000000000
//! from 0
//! ```
//! `from` is the number of the system's record from which on the tree holds every record of the customer. A tree that begins
//! anew after a loss says so by another `from`: it is another tree.
//!
//! Invariant: a row of [`Table::AuditTrees`] is written with the position of the log, in one step, so that replay adds the
//! records behind it to both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::checkpoint::ORIGIN;
use super::merkle::{Frontier, Hash};
use super::record::Outline;
use crate::error::StoreError;
use crate::id::CommitNumber;
use crate::index::{Change, Table};
use crate::keys::Secret32;
use crate::note;
use crate::record::RecordKey;
use crate::time::UnixNanos;

/// A customer's identifier.
pub type Customer = [u8; 16];

/// The name of a customer's log in its checkpoints.
pub fn origin(customer: &Customer) -> String {
    customer.iter().fold(format!("{ORIGIN}/"), |mut name, byte| {
        let _written = write!(name, "{byte:02x}");
        name
    })
}

/// The customer that a note's first line names.
pub fn customer_of(note: &str) -> Option<Customer> {
    let digits = note.lines().next()?.strip_prefix(ORIGIN)?.strip_prefix('/')?;
    let number = u128::from_str_radix(digits, 16).ok()?;
    let customer = number.to_be_bytes();
    (digits.len() == 32 && origin(&customer).ends_with(digits)).then_some(customer)
}

/// The line that verifies a customer's checkpoints.
pub fn verifier(customer: &Customer, public: &[u8; 32]) -> String {
    note::verifier(&origin(customer), public)
}

/// What a checkpoint over one customer's records says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerCheckpoint {
    /// Whose.
    pub customer: Customer,
    /// Records in its tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// The store's commit number.
    pub commit: CommitNumber,
    /// When it was signed.
    pub time: UnixNanos,
    /// The record of the system's log from which on the tree holds all of the customer's.
    pub from: u64,
}

impl CustomerCheckpoint {
    fn body(&self) -> String {
        format!(
            "{}\n{}\n{}\ncommit {}\ntime {}\nfrom {}\n",
            origin(&self.customer),
            self.size,
            BASE64.encode(self.root),
            self.commit,
            self.time.0,
            self.from
        )
    }

    /// The signed note; nothing when the seed is no key.
    pub fn sign(&self, seed: &Secret32) -> Option<String> {
        note::sign(&origin(&self.customer), &self.body(), seed)
    }

    /// Reads a note that the key signed; nothing when any byte differs from what `sign` writes.
    pub fn verify(text: &str, public: &[u8; 32]) -> Option<Self> {
        let customer = customer_of(text)?;
        let body = note::verify(&origin(&customer), text, public).ok()?;
        let mut lines = body.lines().skip(1);
        let found = Self {
            customer,
            size: lines.next()?.parse().ok()?,
            root: BASE64.decode(lines.next()?).ok()?.try_into().ok()?,
            commit: CommitNumber(lines.next()?.strip_prefix("commit ")?.parse().ok()?),
            time: UnixNanos(lines.next()?.strip_prefix("time ")?.parse().ok()?),
            from: lines.next()?.strip_prefix("from ")?.parse().ok()?,
        };
        (found.body() == body).then_some(found)
    }
}

/// A customer's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerTree {
    /// Its right edge.
    pub frontier: Frontier,
    /// Records that its newest note covers.
    pub signed: u64,
}

/// Row of [`Table::AuditTrees`]; the key is the customer.
#[derive(Encode, Decode)]
struct TreeRow {
    #[n(0)]
    records: u64,
    #[n(1)]
    frontier: Vec<ByteArray<32>>,
    #[n(2)]
    signed: u64,
}

/// The trees of all customers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerTrees {
    /// The record from which on they are kept.
    pub from: u64,
    trees: BTreeMap<Customer, CustomerTree>,
    changed: BTreeSet<Customer>,
}

impl CustomerTrees {
    /// No record yet, from this one on.
    pub fn begin(from: u64) -> Self {
        Self { from, ..Self::default() }
    }

    /// With the edges that are known.
    pub fn with_edges(from: u64, edges: impl IntoIterator<Item = (Customer, Frontier)>) -> Self {
        let tree = |(customer, frontier)| (customer, CustomerTree { frontier, signed: 0 });
        let trees: BTreeMap<_, _> = edges.into_iter().map(tree).collect();
        Self { from, changed: trees.keys().copied().collect(), trees }
    }

    /// Opens the rows of the index, sealed as they are stored.
    pub fn open(from: u64, rows: Vec<(Vec<u8>, Vec<u8>)>, key: &RecordKey) -> Option<Self> {
        let opened = rows.into_iter().map(|(at, sealed)| {
            let row = key.open(Table::AuditTrees, &at, &sealed)?;
            let row: TreeRow = minicbor::decode(&row).ok()?;
            let edge = row.frontier.into_iter().map(Into::into).collect();
            let frontier = Frontier::from_parts(row.records, edge)?;
            Some((Customer::try_from(at).ok()?, CustomerTree { frontier, signed: row.signed }))
        });
        Some(Self { from, trees: opened.collect::<Option<_>>()?, changed: BTreeSet::new() })
    }

    /// Takes the next record of the system's log, if it is a customer's.
    pub fn take(&mut self, seen: &Outline, leaf: impl FnOnce() -> Hash) {
        let Some(customer) = seen.customer.filter(|_| seen.number.0 >= self.from) else { return };
        self.trees.entry(customer).or_default().frontier.push(leaf());
        self.changed.insert(customer);
    }

    /// One customer's, if it has any record.
    pub fn get(&self, customer: &Customer) -> Option<&CustomerTree> {
        self.trees.get(customer)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Customer, &CustomerTree)> {
        self.trees.iter()
    }

    /// Signs every tree that grew since it was signed last.
    pub(super) fn sign(
        &mut self,
        seed: &Secret32,
        commit: CommitNumber,
        time: UnixNanos,
    ) -> Option<Vec<String>> {
        let mut notes = Vec::new();
        for (&customer, tree) in &mut self.trees {
            let size = tree.frontier.size();
            if size > tree.signed {
                let root = tree.frontier.root();
                let checkpoint = CustomerCheckpoint { customer, size, root, commit, time, from: self.from };
                notes.push(checkpoint.sign(seed)?);
                tree.signed = size;
                self.changed.insert(customer);
            }
        }
        Some(notes)
    }

    /// Rows of the index for what changed since the last call.
    ///
    /// # Errors
    /// `Randomness`.
    pub fn take_changed(&mut self, key: &RecordKey) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for customer in std::mem::take(&mut self.changed) {
            let Some(tree) = self.trees.get(&customer) else { continue };
            let row = TreeRow {
                records: tree.frontier.size(),
                frontier: tree.frontier.edge().iter().map(|hash| (*hash).into()).collect(),
                signed: tree.signed,
            };
            let mut plain = Vec::new();
            minicbor::encode(&row, &mut plain).map_err(|_| StoreError::TooLarge("a tree's edge"))?;
            let value = Some(key.seal(Table::AuditTrees, &customer, &plain)?);
            changes.push(Change { table: Table::AuditTrees, key: customer.to_vec(), value });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RecordNumber;

    #[test]
    fn a_customers_checkpoint_with_any_byte_changed_does_not_verify() {
        let seed = Secret32::new([3; 32]);
        let public = note::public_key(&seed).unwrap();
        let checkpoint = CustomerCheckpoint {
            customer: [0xab; 16],
            size: 9,
            root: [7; 32],
            commit: CommitNumber(11),
            time: UnixNanos(12),
            from: 3,
        };
        let text = checkpoint.sign(&seed).unwrap();
        assert_eq!(CustomerCheckpoint::verify(&text, &public), Some(checkpoint));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(CustomerCheckpoint::verify(&changed, &public).is_none(), "byte {at}");
            }
        }
        assert_eq!(customer_of("coffre/audit\n"), None);
        assert_eq!(customer_of("coffre/audit/+1\n"), None);
    }

    #[test]
    fn a_tree_comes_back_from_its_row_and_holds_its_own_records_only() {
        let key = RecordKey::new(&Secret32::new([1; 32]));
        let mut trees = CustomerTrees::begin(2);
        let seen = |number, customer| Outline { number: RecordNumber(number), utc: UnixNanos(0), customer };
        for number in 0..9 {
            let customer = [None, Some([1; 16]), Some([2; 16])][usize::try_from(number).unwrap() % 3];
            trees.take(&seen(number, customer), || [u8::try_from(number).unwrap(); 32]);
        }
        // Record 1 came before the trees were kept.
        assert_eq!(trees.get(&[1; 16]).unwrap().frontier.size(), 2);
        assert_eq!(trees.get(&[2; 16]).unwrap().frontier.size(), 3);
        let rows = trees.take_changed(&key).unwrap();
        let rows = rows.into_iter().map(|row| (row.key, row.value.unwrap())).collect();
        assert_eq!(CustomerTrees::open(2, rows, &key), Some(trees.clone()));
        assert!(trees.take_changed(&key).unwrap().is_empty());
    }
}
