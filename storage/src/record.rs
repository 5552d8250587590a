//! Sealed index values: XAES-256-GCM (C2SP), AAD = table and key, padded to 32 bytes (FORMAT.md "Record").

use crate::index::Table;
use crate::keys::Secret32;

/// Seals and opens the values of one vault, or of the system tables.
pub struct RecordKey {
    _private: (),
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("RecordKey(..)") }
}

impl RecordKey {
    /// A key for records from a derived secret.
    pub fn new(_secret: &Secret32) -> Self { todo!() }
    /// nonce (24) || ciphertext of padded plaintext || tag (16).
    pub fn seal(&self, _table: Table, _key: &[u8], _plaintext: &[u8]) -> Vec<u8> { todo!() }
    /// The plaintext, or nothing when any byte differs from what was sealed for this table and key.
    pub fn open(&self, _table: Table, _key: &[u8], _sealed: &[u8]) -> Option<Vec<u8>> { todo!() }
}
