//! Sealed index values: XAES-256-GCM (C2SP) with a random nonce, AAD = table and key, padded to 32 bytes
//! (FORMAT.md section 4). A value moved to another key or table does not open.

use aes_gcm::aead::{AeadInOut, KeyInit};
use xaes_256_gcm::Xaes256Gcm;

use crate::error::StoreError;
use crate::index::Table;
use crate::secret::Secret32;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Plaintexts are padded to a multiple of this, so that lengths tell little.
const PADDING_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

/// Seals and opens the values of one vault, or of the system tables.
#[derive(Clone)]
pub struct RecordKey {
    cipher: Xaes256Gcm,
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

impl RecordKey {
    /// A key for records from a derived secret.
    pub fn new(secret: &Secret32) -> Self {
        Self { cipher: Xaes256Gcm::new(secret.expose().into()) }
    }

    /// nonce (24) || ciphertext of (length u32, plaintext, zeros to a multiple of 32) || tag (16).
    ///
    /// # Errors
    /// `Randomness`; `TooLarge` for a plaintext over 4 GiB.
    pub fn seal(&self, table: Table, key: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        let length = u32::try_from(plaintext.len()).map_err(|_| StoreError::TooLarge("an index record"))?;
        let padded = (LENGTH_BYTES + plaintext.len()).next_multiple_of(PADDING_BYTES);
        let mut sealed = Vec::with_capacity(NONCE_BYTES + padded + TAG_BYTES);
        sealed.resize(NONCE_BYTES, 0);
        aws_lc_rs::rand::fill(&mut sealed).map_err(|_| StoreError::Randomness)?;
        sealed.extend_from_slice(&length.to_le_bytes());
        sealed.extend_from_slice(plaintext);
        sealed.resize(NONCE_BYTES + padded, 0);
        let (nonce, body) = sealed.split_at_mut(NONCE_BYTES);
        let nonce: &[u8; NONCE_BYTES] = (&*nonce).try_into().map_err(|_| StoreError::Randomness)?;
        let tag = self
            .cipher
            .encrypt_inout_detached(nonce.into(), &aad(table, key), body.into())
            .map_err(|_| StoreError::TooLarge("an index record"))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// The plaintext, or nothing when any byte differs from what was sealed for this table and key.
    pub fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut plain = body.to_vec();
        self.cipher
            .decrypt_inout_detached(nonce.into(), &aad(table, key), plain.as_mut_slice().into(), tag.into())
            .ok()?;
        let length = usize::try_from(u32::from_le_bytes(*plain.first_chunk()?)).ok()?;
        if plain.len() < LENGTH_BYTES + length {
            return None;
        }
        plain.truncate(LENGTH_BYTES + length);
        plain.drain(..LENGTH_BYTES);
        Some(plain)
    }
}

fn aad(table: Table, key: &[u8]) -> Vec<u8> {
    let mut aad = Vec::with_capacity(1 + key.len());
    aad.push(table as u8);
    aad.extend_from_slice(key);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cipher_matches_the_c2sp_vectors() {
        // C2SP XAES-256-GCM specification, section "Test vectors".
        let nonce: &[u8; 24] = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        for (key, aad, expected) in [
            ([1_u8; 32], &b""[..], "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            ([3; 32], b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ] {
            let cipher = Xaes256Gcm::new((&key).into());
            let mut buffer = b"XAES-256-GCM".to_vec();
            let tag = cipher.encrypt_inout_detached(nonce.into(), aad, buffer.as_mut_slice().into()).unwrap();
            buffer.extend_from_slice(&tag);
            let shown = buffer.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_value_opens_only_under_its_own_key_table_and_place() {
        let key = RecordKey::new(&Secret32::new([1; 32]));
        let sealed = key.seal(Table::Inodes, b"place", b"value").unwrap();
        assert_eq!(key.open(Table::Inodes, b"place", &sealed).unwrap(), b"value");
        assert!(key.open(Table::Dentries, b"place", &sealed).is_none());
        assert!(key.open(Table::Inodes, b"placf", &sealed).is_none());
        assert!(RecordKey::new(&Secret32::new([2; 32])).open(Table::Inodes, b"place", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(Table::Inodes, b"place", &changed).is_none(), "byte {at}");
            assert!(key.open(Table::Inodes, b"place", &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn lengths_show_in_steps_of_thirty_two_only() {
        let key = RecordKey::new(&Secret32::new([1; 32]));
        let len = |plain: usize| key.seal(Table::Inodes, b"", &vec![0; plain]).unwrap().len();
        assert_eq!(len(0), len(28));
        assert_eq!(len(28) + 32, len(29));
    }
}
