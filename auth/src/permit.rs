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
}

impl RightsSet {
    /// What both allow.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        if (self as u8) < (other as u8) { self } else { other }
    }
}

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Names and attributes.
    List,
    /// Content.
    Read,
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
