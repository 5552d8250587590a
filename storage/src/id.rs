//! Identifiers. Each is a type of its own, so that one cannot stand for another.

use minicbor::{Decode, Encode};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

        impl $name {
            /// Draws a fresh random identifier from the operating system.
            ///
            /// # Errors
            /// When the operating system has no randomness to give.
            pub fn random() -> Result<Self, getrandom::Error> {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                Ok(Self(bytes))
            }

            /// Parses the 32 lower-case hexadecimal digits that `Display` prints.
            pub fn parse(text: &str) -> Option<Self> {
                let text = text.as_bytes();
                if text.len() != 32 { return None; }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

number_id!(/** The store's one monotonic counter: the number of a transaction. */ CommitNumber);
number_id!(/** The place of a batch in the log, from 1, over all packs. */ BatchNumber);
number_id!(/** The place of a pack in the log, from 1. */ PackId);
number_id!(/** A file, directory or symbolic link of one vault. */ InodeId);
number_id!(/** One state of a file's content, within its vault. */ ContentId);
number_id!(/** The extents of 64 MiB of a file, within its vault. */ SegmentId);
number_id!(/** The place of a record in the audit log, from 0: its leaf index in the Merkle tree. */ RecordNumber);
random_id!(/** A vault. */ VaultId);
random_id!(/** Who a vault's bytes are accounted to (the gateway puts its customer identifier here). */ OwnerId);

impl InodeId {
    /// The root directory of every vault.
    pub const ROOT: Self = Self(1);
    /// The directory of uploads that come in parts, which no name leads to.
    pub const PARTS: Self = Self(0);
}

/// Keyed BLAKE3 of a chunk's plaintext: the same bytes have the same identifier inside one vault, and
/// unrelated ones in two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ChunkId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkId(")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}
