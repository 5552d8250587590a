//! What is limited: amounts of it, the most that is allowed, and which limit was reached.

use minicbor::{Decode, Encode};

/// Amounts of what a customer or a vault uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Bytes of current files; holes count nothing.
    pub bytes: u64,
    /// Current files, directories and symbolic links; the root of a vault is none of them.
    pub files: u64,
    /// Bytes of sealed chunks, those of earlier states included. Equal chunks of a vault count once.
    pub stored: u64,
}

/// The most of each amount; nothing for as much as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Of [`Amounts::bytes`].
    pub bytes_max: Option<u64>,
    /// Of [`Amounts::files`].
    pub files_max: Option<u64>,
    /// Of [`Amounts::stored`]; of a vault only.
    pub stored_max: Option<u64>,
}

/// One limit. The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Limit {
    /// Bytes of all vaults of the customer.
    #[n(1)]
    CustomerBytes,
    /// Files of all vaults of the customer.
    #[n(2)]
    CustomerFiles,
    /// Bytes of the vault.
    #[n(3)]
    VaultBytes,
    /// Files of the vault.
    #[n(4)]
    VaultFiles,
    /// What the vault takes on the disk, earlier states included.
    #[n(5)]
    VaultStored,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 5] =
        [Self::CustomerBytes, Self::CustomerFiles, Self::VaultBytes, Self::VaultFiles, Self::VaultStored];

    /// Its name, as scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CustomerBytes => "customer-bytes",
            Self::CustomerFiles => "customer-files",
            Self::VaultBytes => "vault-bytes",
            Self::VaultFiles => "vault-files",
            Self::VaultStored => "vault-stored",
        }
    }

    /// What of these amounts it limits.
    pub fn of(self, amounts: Amounts) -> u64 {
        match self {
            Self::CustomerBytes | Self::VaultBytes => amounts.bytes,
            Self::CustomerFiles | Self::VaultFiles => amounts.files,
            Self::VaultStored => amounts.stored,
        }
    }
}

impl std::fmt::Display for Limit {
    /// As it follows a number: `1000 bytes of the customer`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CustomerBytes => "bytes of the customer",
            Self::CustomerFiles => "files of the customer",
            Self::VaultBytes => "bytes of the vault",
            Self::VaultFiles => "files of the vault",
            Self::VaultStored => "stored bytes of the vault, earlier states included,",
        })
    }
}
