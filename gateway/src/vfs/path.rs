//! A path of the namespace, made once at the edge of a protocol and never again taken apart as text.

/// Bytes of one name.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a whole path.
const PATH_BYTES_MAX: usize = 4096;

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
    /// A single name that is empty, `.`, `..` or holds `/`.
    #[error("the name is not allowed")]
    NotAName,
}

/// What `..` of the root is.
#[derive(Clone, Copy)]
enum AboveRoot {
    Refused,
    IsRoot,
}

impl VaultPath {
    /// `/`.
    pub fn root() -> Self {
        Self { components: Vec::new() }
    }

    /// From an SFTP path: relative ones start at the root; `//`, `.` and `..` are resolved textually; `..` above the
    /// root is refused.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        Self::parse_with(bytes, AboveRoot::Refused)
    }

    /// As [`VaultPath::parse`], but what climbs above the root stays there: the answer to where `cd ..` leads.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse_within(bytes: &[u8]) -> Result<Self, PathError> {
        Self::parse_with(bytes, AboveRoot::IsRoot)
    }

    fn parse_with(bytes: &[u8], above: AboveRoot) -> Result<Self, PathError> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut components: Vec<Vec<u8>> = Vec::new();
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => match (components.pop(), above) {
                    (Some(_), _) | (None, AboveRoot::IsRoot) => {}
                    (None, AboveRoot::Refused) => return Err(PathError::Escapes),
                },
                name if name.len() > NAME_BYTES_MAX => return Err(PathError::NameTooLong),
                name => components.push(name.to_vec()),
            }
        }
        Ok(Self { components })
    }

    /// From names that were checked one by one already.
    pub(crate) fn from_components(components: Vec<Vec<u8>>) -> Self {
        Self { components }
    }

    /// The names, outermost first.
    pub fn components(&self) -> &[Vec<u8>] {
        &self.components
    }

    /// The path with one name more (checked like `parse`).
    ///
    /// # Errors
    /// [`PathError`].
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&0) {
            return Err(PathError::Nul);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(PathError::NameTooLong);
        }
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(PathError::NotAName);
        }
        let mut joined = self.clone();
        joined.components.push(name.to_vec());
        if joined.components.iter().map(|name| name.len() + 1).sum::<usize>() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        Ok(joined)
    }

    /// Parent and last name; nothing for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        let (last, above) = self.components.split_last()?;
        Some((Self { components: above.to_vec() }, last))
    }

    /// Whether this is `other` or lies below it, by components.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.components.starts_with(&other.components)
    }

    /// `/a/b`, as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.components.is_empty() {
            return b"/".to_vec();
        }
        self.components.iter().flat_map(|name| [b"/".as_slice(), name]).collect::<Vec<_>>().concat()
    }
}

impl std::fmt::Debug for VaultPath {
    /// File names are health data: never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultPath({} names)", self.components.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn above_the_root_is_nothing_or_the_root_again_and_never_more() {
        for climbing in [&b"/.."[..], b"..", b"/a/../..", b"../../.."] {
            assert_eq!(VaultPath::parse(climbing), Err(PathError::Escapes));
            assert_eq!(VaultPath::parse_within(climbing), Ok(VaultPath::root()));
        }
        assert_eq!(VaultPath::parse_within(b"/../a/../../b"), VaultPath::parse(b"/b"));
    }

    #[test]
    fn a_path_is_normalised_once() {
        for (given, meant) in [
            (&b""[..], &b"/"[..]),
            (b".", b"/"),
            (b"/", b"/"),
            (b"a//b/./c/", b"/a/b/c"),
            (b"/a/../b", b"/b"),
            (b"/\xe9t\xe9", b"/\xe9t\xe9"),
            (b"/...", b"/..."),
        ] {
            assert_eq!(VaultPath::parse(given).unwrap().to_bytes(), meant);
        }
    }

    #[test]
    fn a_path_cannot_climb_out_hold_nul_or_be_too_long() {
        assert_eq!(VaultPath::parse(b"/.."), Err(PathError::Escapes));
        assert_eq!(VaultPath::parse(b"a/../../b"), Err(PathError::Escapes));
        assert_eq!(VaultPath::parse(b"/a\0b"), Err(PathError::Nul));
        assert_eq!(VaultPath::parse(&[b'x'; 256]), Err(PathError::NameTooLong));
        assert_eq!(VaultPath::parse("x/".repeat(2100).as_bytes()), Err(PathError::TooLong));
        assert!(VaultPath::parse(&[b'x'; 255]).is_ok());
    }

    #[test]
    fn a_share_does_not_cover_a_name_it_is_a_prefix_of() {
        let share = VaultPath::parse(b"/share").unwrap();
        assert!(VaultPath::parse(b"/share/x").unwrap().starts_with(&share));
        assert!(!VaultPath::parse(b"/share2").unwrap().starts_with(&share));
    }

    proptest! {
        #[test]
        fn what_parses_parses_again_to_itself(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(path) = VaultPath::parse(&bytes) {
                prop_assert_eq!(VaultPath::parse(&path.to_bytes()), Ok(path.clone()));
                prop_assert!(path.components().iter().all(|name| !matches!(name.as_slice(), b"" | b"." | b"..")));
            }
        }
    }
}
