//! Rights, and the proof that policy allowed one action.

use std::marker::PhantomData;

/// Named sets of rights (DESIGN section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum RightsSet {
    /// List and read.
    #[n(0)]
    ReadOnly,
    /// List, read, create; a file this session created may be written, get attributes and be renamed once.
    #[n(1)]
    AppendOnly,
    /// Everything.
    #[n(2)]
    ReadWrite,
    /// Create; nothing of what others made is listed or read. A file this session created is seen, may be written, get
    /// attributes and be renamed once.
    #[n(3)]
    DropBox,
    /// Nothing at all: where two sets meet that share no right.
    #[n(4)]
    Nothing,
}

impl RightsSet {
    /// What both allow.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        match (self, other) {
            (Self::ReadWrite, set) | (set, Self::ReadWrite) => set,
            (Self::Nothing, _)
            | (_, Self::Nothing)
            | (Self::DropBox, Self::ReadOnly)
            | (Self::ReadOnly, Self::DropBox) => Self::Nothing,
            (Self::DropBox, _) | (_, Self::DropBox) => Self::DropBox,
            (Self::ReadOnly, _) | (_, Self::ReadOnly) => Self::ReadOnly,
            (Self::AppendOnly, Self::AppendOnly) => Self::AppendOnly,
        }
    }
}

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Names and attributes.
    List,
    /// Content.
    Read,
    /// Digests of content, by which a client verifies what it sent.
    Verify,
    /// New names.
    Create,
    /// Content of what exists.
    Overwrite,
    /// Removal.
    Delete,
    /// Moving names.
    Rename,
    /// Modes, times, owners, properties.
    SetAttributes,
}

/// What policy looks at of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The same credential made it, within its grace time.
    Fresh,
    /// A directory that was there: a way to what is below.
    Directory,
    /// A file or link that was there.
    File,
}

/// Markers for [`Permit`].
pub mod action {
    /// List and read.
    #[derive(Debug, Clone, Copy)]
    pub struct Read;
    /// Change something.
    #[derive(Debug, Clone, Copy)]
    pub struct Change;
}

/// Zero-size proof that policy allowed one action; only [`crate::principal::Mount`] makes one.
#[derive(Debug)]
pub struct Permit<A>(PhantomData<A>);

impl<A> Permit<A> {
    pub(crate) fn granted() -> Self {
        Self(PhantomData)
    }
}
