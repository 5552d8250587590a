//! A path of the namespace, made once at the edge of a protocol and never again taken apart as text.

/// An absolute, normalised path: components of 1 to 255 bytes without NUL and `/`, none `.` or `..`, 4096 bytes in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultPath {
    components: Vec<Vec<u8>>,
}

/// Why bytes are no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Holds a NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// A name over 255 bytes.
    #[error("a name of the path is longer than 255 bytes")]
    NameTooLong,
    /// Over 4096 bytes.
    #[error("the path is longer than 4096 bytes")]
    TooLong,
    /// `..` above the root.
    #[error("the path climbs out of the root")]
    Escapes,
}

impl VaultPath {
    /// `/`.
    pub fn root() -> Self { Self { components: Vec::new() } }
    /// From an SFTP path: relative ones start at the root; `//`, `.` and `..` are resolved textually; `..` above the
    /// root is refused.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(_bytes: &[u8]) -> Result<Self, PathError> { todo!() }
    /// The names, outermost first.
    pub fn components(&self) -> &[Vec<u8>] { &self.components }
    /// The path with one name more (checked like `parse`).
    ///
    /// # Errors
    /// [`PathError`].
    pub fn join(&self, _name: &[u8]) -> Result<Self, PathError> { todo!() }
    /// Parent and last name; nothing for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> { todo!() }
    /// Whether this is `other` or lies below it, by components.
    pub fn starts_with(&self, _other: &Self) -> bool { todo!() }
    /// `/a/b`, as bytes.
    pub fn to_bytes(&self) -> Vec<u8> { todo!() }
}

impl std::fmt::Debug for VaultPath {
    /// File names are health data: never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultPath({} names)", self.components.len())
    }
}
