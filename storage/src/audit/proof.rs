//! Proofs from the tree (RFC 6962 sections 2.1.1 and 2.1.2): that a record is in it, and that one tree is a beginning of
//! another. Each costs one reading of the log up to the tree's size; nothing but the hashes that are wanted is held.
//!
//! A proof of a record is a text as C2SP tlog-proof has it, whose `extra` is the record itself:
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <record, base64>
//! index 12
//! <hash, base64>      from the leaf's neighbour upwards
//!
//! <the signed checkpoint>
//! ```
//! A proof that nothing was rewritten between two checkpoints:
//! ```text
//! coffre/audit-consistency@v1
//! <hash, base64>      as RFC 6962 orders them
//!
//! <the older signed checkpoint>
//! <the newer signed checkpoint>
//! ```

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::merkle::{Frontier, Hash, leaf_hash, node_hash};

/// First line of a proof of a record.
pub const INCLUSION: &str = "c2sp.org/tlog-proof@v1";
/// First line of a proof that one tree is a beginning of another.
pub const CONSISTENCY: &str = "coffre/audit-consistency@v1";
/// Hashes of a proof, at most: no tree is higher.
const HASHES_MAX: usize = 64;

/// A part of a tree: leaves from the first to before the second.
type Part = (u64, u64);

/// The largest power of two that is smaller than `leaves`, which are two or more.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The parts whose hashes lead from a leaf to the root, from the leaf upwards.
fn path(index: u64, size: u64) -> Vec<Part> {
    let (mut first, mut end, mut parts) = (0, size, Vec::new());
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            parts.push((middle, end));
            end = middle;
        } else {
            parts.push((first, middle));
            first = middle;
        }
    }
    parts.reverse();
    parts
}

/// The parts whose hashes show that the tree of `old` leaves is a beginning of that of `new`, as RFC 6962 orders them.
fn bridge(old: u64, new: u64) -> Vec<Part> {
    let (mut first, mut end, mut parts) = (0, new, Vec::new());
    let mut whole = true;
    while old != end {
        let middle = first + split(end - first);
        if old <= middle {
            parts.push((middle, end));
            end = middle;
        } else {
            parts.push((first, middle));
            first = middle;
            whole = false;
        }
    }
    if !whole {
        parts.push((first, end));
    }
    parts.reverse();
    parts
}

/// Computes the hashes of parts while the leaves of the tree come by, in order.
#[derive(Debug)]
pub struct Hashing {
    /// In the order of the proof: the part, and its tree so far.
    parts: Vec<(Part, Frontier)>,
    next: u64,
}

impl Hashing {
    /// For the proof that a leaf is in the tree of `size` leaves.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        (index < size).then(|| Self::of(path(index, size)))
    }

    /// For the proof that the tree of `old` leaves, at least one, is a beginning of that of `new`.
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        (old > 0 && old <= new).then(|| Self::of(bridge(old, new)))
    }

    fn of(parts: Vec<Part>) -> Self {
        Self { parts: parts.into_iter().map(|part| (part, Frontier::default())).collect(), next: 0 }
    }

    /// Begins behind leaves that are gone, whose right edge is known. False when a hash is wanted that lies among them.
    #[must_use]
    pub fn skip(&mut self, gone: &Frontier) -> bool {
        let (mut at, mut left) = (0, gone.size());
        for hash in gone.edge() {
            let leaves = 1 << left.ilog2();
            for ((first, end), tree) in &mut self.parts {
                if *first <= at && at + leaves <= *end {
                    tree.push_subtree(leaves, *hash);
                }
            }
            at += leaves;
            left -= leaves;
        }
        self.next = gone.size();
        let begun = |part: &Part| part.1.min(gone.size()).saturating_sub(part.0);
        self.parts.iter().all(|(part, tree)| tree.size() == begun(part))
    }

    /// Which leaf is taken next.
    pub fn next_leaf(&self) -> u64 {
        self.next
    }

    /// The next leaf.
    pub fn take(&mut self, leaf: Hash) {
        let at = self.next;
        if let Some((_, tree)) = self.parts.iter_mut().find(|((first, end), _)| (*first..*end).contains(&at))
        {
            tree.push(leaf);
        }
        self.next += 1;
    }

    /// The proof's hashes; nothing while leaves are missing.
    pub fn finish(&self) -> Option<Vec<Hash>> {
        let hash =
            |((first, end), tree): &(Part, Frontier)| (tree.size() == end - first).then(|| tree.root());
        self.parts.iter().map(hash).collect()
    }
}

/// The root that a leaf and its proof come to (RFC 9162 section 2.1.3.2); nothing when the proof does not fit.
pub fn root_of(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let parts = (index < size).then(|| path(index, size))?;
    if parts.len() != proof.len() {
        return None;
    }
    let join = |at: Hash, ((first, _), hash): (&Part, &Hash)| {
        if *first > index { node_hash(&at, hash) } else { node_hash(hash, &at) }
    };
    Some(parts.iter().zip(proof).fold(leaf, join))
}

/// Whether the tree of `old` leaves and root `old_root` is a beginning of the other (RFC 9162 section 2.1.4.2).
pub fn is_beginning((old, old_root): (u64, Hash), (new, new_root): (u64, Hash), proof: &[Hash]) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return old_root == new_root && proof.is_empty();
    }
    // A whole subtree is its own first hash.
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { Some(&old_root) } else { hashes.next() };
    let Some(&first) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut of_old, mut of_new) = (first, first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            of_old = node_hash(hash, &of_old);
            of_new = node_hash(hash, &of_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            of_new = node_hash(&of_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && of_old == old_root && of_new == new_root
}

/// A proof that a record is in the tree of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The record.
    pub record: Vec<u8>,
    /// Its place in the tree.
    pub index: u64,
    /// From its neighbour upwards.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

fn write_hashes(text: &mut String, hashes: &[Hash]) {
    for hash in hashes {
        let _written = writeln!(text, "{}", BASE64.encode(hash));
    }
}

fn read_hashes(lines: &str) -> Option<Vec<Hash>> {
    let hashes: Option<Vec<Hash>> =
        lines.lines().map(|line| BASE64.decode(line).ok()?.try_into().ok()).collect();
    hashes.filter(|hashes| hashes.len() <= HASHES_MAX)
}

impl InclusionProof {
    /// The proof as a text.
    pub fn text(&self) -> String {
        let mut text = format!("{INCLUSION}\nextra {}\nindex {}\n", BASE64.encode(&self.record), self.index);
        write_hashes(&mut text, &self.hashes);
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads a text; nothing for one that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(INCLUSION)?.strip_prefix("\nextra ")?;
        let (record, rest) = rest.split_once("\nindex ")?;
        let (index, rest) = rest.split_once('\n')?;
        let (hashes, note) = match rest.strip_prefix('\n') {
            Some(note) => ("", note),
            None => rest.split_once("\n\n")?,
        };
        Some(Self {
            record: BASE64.decode(record).ok()?,
            index: index.parse().ok()?,
            hashes: read_hashes(hashes)?,
            note: note.to_owned(),
        })
    }

    /// The root that it leads to in a tree of so many records.
    pub fn root(&self, size: u64) -> Option<Hash> {
        root_of(leaf_hash(&self.record), self.index, size, &self.hashes)
    }
}

/// A proof that the tree of one checkpoint is a beginning of that of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// As RFC 6962 orders them.
    pub hashes: Vec<Hash>,
    /// The older signed checkpoint.
    pub old: String,
    /// The newer one.
    pub new: String,
}

impl ConsistencyProof {
    /// The proof as a text.
    pub fn text(&self) -> String {
        let mut text = format!("{CONSISTENCY}\n");
        write_hashes(&mut text, &self.hashes);
        text.push('\n');
        text.push_str(&self.old);
        text.push_str(&self.new);
        text
    }

    /// Reads a text; nothing for one that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(CONSISTENCY)?.strip_prefix('\n')?;
        let (hashes, notes) = match rest.strip_prefix('\n') {
            Some(notes) => ("", notes),
            None => rest.split_once("\n\n")?,
        };
        // A note ends with the line of its signature, the first behind its empty line.
        let signature = notes.find("\n\n")? + 2;
        let end = signature + notes.get(signature..)?.find('\n')? + 1;
        let (old, new) = notes.split_at_checked(end)?;
        Some(Self { hashes: read_hashes(hashes)?, old: old.to_owned(), new: new.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn root(leaves: &[Hash]) -> Hash {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    }

    fn hashes(mut hashing: Hashing, leaves: &[Hash]) -> Vec<Hash> {
        leaves.iter().for_each(|leaf| hashing.take(*leaf));
        hashing.finish().unwrap()
    }

    #[test]
    fn every_record_of_every_small_tree_is_proven_and_no_other() {
        for size in 1..40 {
            let all = leaves(size);
            let root = root(&all);
            for index in 0..size {
                let leaf = all[usize::try_from(index).unwrap()];
                let proof = hashes(Hashing::inclusion(index, size).unwrap(), &all);
                assert_eq!(root_of(leaf, index, size, &proof), Some(root));
                assert_ne!(root_of([9; 32], index, size, &proof), Some(root));
                if size > 1 {
                    assert_ne!(root_of(leaf, (index + 1) % size, size, &proof), Some(root));
                    assert_eq!(root_of(leaf, index, size, &proof[1..]), None);
                }
            }
            assert!(Hashing::inclusion(size, size).is_none());
        }
    }

    #[test]
    fn every_beginning_of_every_small_tree_is_proven_and_no_other() {
        for new in 1..40 {
            let all = leaves(new);
            for old in 1..=new {
                let before = root(&all[..usize::try_from(old).unwrap()]);
                let proof = hashes(Hashing::consistency(old, new).unwrap(), &all);
                assert!(is_beginning((old, before), (new, root(&all)), &proof), "{old} of {new}");
                assert!(!is_beginning((old, [9; 32]), (new, root(&all)), &proof), "{old} of {new}");
                assert!(!is_beginning((old, before), (new, [9; 32]), &proof), "{old} of {new}");
                if !proof.is_empty() {
                    assert!(!is_beginning((old, before), (new, root(&all)), &proof[1..]), "{old} of {new}");
                }
            }
        }
    }

    #[test]
    fn behind_dropped_records_what_is_there_is_proven_and_the_rest_is_not() {
        let all = leaves(37);
        for gone in 1..37_u64 {
            let mut edge = Frontier::default();
            all[..usize::try_from(gone).unwrap()].iter().for_each(|leaf| edge.push(*leaf));
            let rest = &all[usize::try_from(gone).unwrap()..];
            for index in gone..37 {
                let mut hashing = Hashing::inclusion(index, 37).unwrap();
                assert!(hashing.skip(&edge));
                let leaf = all[usize::try_from(index).unwrap()];
                assert_eq!(root_of(leaf, index, 37, &hashes(hashing, rest)), Some(root(&all)));
            }
            let mut hashing = Hashing::consistency(gone, 37).unwrap();
            assert!(hashing.skip(&edge), "{gone}");
            let proof = hashes(hashing, rest);
            assert!(is_beginning((gone, edge.root()), (37, root(&all)), &proof), "{gone}");
        }
        let mut edge = Frontier::default();
        all[..32].iter().for_each(|leaf| edge.push(*leaf));
        assert!(!Hashing::inclusion(3, 37).unwrap().skip(&edge));
    }

    #[test]
    fn texts_of_proofs_read_back() {
        let note = "coffre/audit\n3\nroot\n\n\u{2014} coffre/audit sig\n".to_owned();
        for hashes in [vec![], vec![[1; 32], [2; 32]]] {
            let proof = InclusionProof {
                record: b"r".to_vec(),
                index: 2,
                hashes: hashes.clone(),
                note: note.clone(),
            };
            assert_eq!(InclusionProof::parse(&proof.text()), Some(proof));
            let proof = ConsistencyProof { hashes, old: note.clone(), new: note.replace('3', "4") };
            assert_eq!(ConsistencyProof::parse(&proof.text()), Some(proof));
        }
        assert_eq!(InclusionProof::parse("c2sp.org/tlog-proof@v1\nindex 1\n\n"), None);
    }
}
