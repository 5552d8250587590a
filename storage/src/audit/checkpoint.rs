//! Signed checkpoints: the C2SP tlog-checkpoint body in a C2SP signed note (Ed25519).
//!
//! ```text
//! coffre/audit
//! 1234
//! <root, base64>
//! commit 5678
//! time 1770000000000000000
//!
//! — coffre/audit <base64 of key id (4) || signature (64)>
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::merkle::Hash;
use crate::id::CommitNumber;
use crate::keys::Secret32;
use crate::note;
pub use crate::note::public_key;
use crate::time::UnixNanos;

/// The log's name in every checkpoint.
pub const ORIGIN: &str = "coffre/audit";

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Records in the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// The store's commit number: an older store under a newer log is noticed.
    pub commit: CommitNumber,
    /// When it was signed.
    pub time: UnixNanos,
}

/// The verifier line that goes with copies of the log: `name+id+base64(0x01 || key)`.
pub fn verifier(public: &[u8; 32]) -> String {
    note::verifier(ORIGIN, public)
}

/// Reads a verifier line.
pub fn parse_verifier(line: &str) -> Option<[u8; 32]> {
    note::parse_verifier(ORIGIN, line)
}

impl Checkpoint {
    fn body(&self) -> String {
        format!(
            "{ORIGIN}\n{}\n{}\ncommit {}\ntime {}\n",
            self.size,
            BASE64.encode(self.root),
            self.commit,
            self.time.0
        )
    }

    /// The signed note; nothing when the seed is no key.
    pub fn sign(&self, seed: &Secret32) -> Option<String> {
        note::sign(ORIGIN, &self.body(), seed)
    }

    /// Reads a note that the key signed; nothing when any byte differs from what `sign` writes.
    pub fn verify(text: &str, public: &[u8; 32]) -> Option<Self> {
        let body = note::verify(ORIGIN, text, public).ok()?;
        let mut lines = body.lines();
        let origin = lines.next()?;
        let found = Self {
            size: lines.next()?.parse().ok()?,
            root: BASE64.decode(lines.next()?).ok()?.try_into().ok()?,
            commit: CommitNumber(lines.next()?.strip_prefix("commit ")?.parse().ok()?),
            time: UnixNanos(lines.next()?.strip_prefix("time ")?.parse().ok()?),
        };
        (origin == ORIGIN && found.body() == body).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_with_any_byte_changed_does_not_verify() {
        let seed = Secret32::new([3; 32]);
        let public = public_key(&seed).unwrap();
        let checkpoint = Checkpoint { size: 9, root: [7; 32], commit: CommitNumber(11), time: UnixNanos(12) };
        let note = checkpoint.sign(&seed).unwrap();
        assert_eq!(Checkpoint::verify(&note, &public), Some(checkpoint));
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(Checkpoint::verify(&changed, &public).is_none(), "byte {at}");
            }
        }
        assert!(Checkpoint::verify(&note, &public_key(&Secret32::new([4; 32])).unwrap()).is_none());
        assert_eq!(parse_verifier(&verifier(&public)), Some(public));
    }
}
