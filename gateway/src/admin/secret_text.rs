//! A secret on its way to the service: silent in `Debug`, wiped when it was used.

use coffre_storage::keys::Passphrase;
use serde::{Deserialize, Serialize};

/// Text that is secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes text that is secret from now on.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// As a passphrase.
    pub fn passphrase(&self) -> Passphrase {
        Passphrase::new(self.0.as_bytes().to_vec())
    }

    /// The text, for whoever judges it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(..)")
    }
}
