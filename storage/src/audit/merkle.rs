//! The Merkle tree over records: RFC 6962 section 2.1 hashing, kept as its right edge.

use aws_lc_rs::digest::{Context, SHA256};

/// A node's hash.
pub type Hash = [u8; 32];

/// Bytes of a node: a mark and two hashes.
const NODE_BYTES: usize = 65;

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Hash of a record.
pub fn leaf_hash(record: &[u8]) -> Hash {
    sha256(&[&[0], record])
}

/// Hash of a node over two subtrees.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; NODE_BYTES];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    sha256(&[&node])
}

/// The right edge of a tree: the roots of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    edge: Vec<Hash>,
}

impl Frontier {
    /// From its parts; nothing when they do not belong together.
    pub fn from_parts(size: u64, edge: Vec<Hash>) -> Option<Self> {
        (edge.len() == size.count_ones() as usize).then_some(Self { size, edge })
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.edge.push(hash);
        self.size += 1;
    }

    /// Adds a perfect subtree, no larger than any before it.
    pub(super) fn push_subtree(&mut self, leaves: u64, root: Hash) {
        debug_assert!(leaves.is_power_of_two() && self.size.is_multiple_of(leaves));
        let (mut hash, mut height) = (root, leaves);
        while self.size & height != 0 {
            if let Some(left) = self.edge.pop() {
                hash = node_hash(&left, &hash);
            }
            height <<= 1;
        }
        self.edge.push(hash);
        self.size += leaves;
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.edge.iter().rev();
        let Some(last) = subtrees.next() else { return sha256(&[]) };
        subtrees.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&naive(&leaves[..split]), &naive(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_edge_gives_the_root_of_the_whole_tree() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        for n in 0..130_u8 {
            assert_eq!(frontier.root(), naive(&leaves), "{n} leaves");
            leaves.push(leaf_hash(&[n]));
            frontier.push(leaf_hash(&[n]));
        }
    }

    #[test]
    fn it_matches_the_vectors_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::default();
        for input in inputs {
            frontier.push(leaf_hash(input));
        }
        let shown = frontier.root().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(shown, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}
