//! The AEAD seam: AES-256-GCM behind one trait, so that frames go through aws-lc-rs (fast) and key slots through
//! `aes-gcm`; both are the same algorithm, and tests open each one's output with the other.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::secret::Secret32;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// One AES-256-GCM key, ready for use.
pub trait Aead: Send + Sync + std::fmt::Debug {
    /// Encrypts `buffer` in place and returns the tag; nothing when the cipher refuses (a buffer over 64 GiB).
    #[must_use]
    fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; TAG_BYTES]>;
    /// Decrypts `buffer` in place; false, with the buffer's contents unspecified, when the tag does not match.
    #[must_use]
    fn open(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool;
}

/// AES-256-GCM of aws-lc-rs: for bulk frames.
pub struct FastAead(Option<LessSafeKey>);

impl FastAead {
    /// A key ready for use.
    pub fn new(key: &Secret32) -> Self {
        Self(UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new))
    }
}

impl std::fmt::Debug for FastAead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FastAead(..)")
    }
}

impl Aead for FastAead {
    fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(aad), buffer).ok()?;
        tag.as_ref().try_into().ok()
    }

    fn open(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .as_ref()
            .is_some_and(|key| key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, buffer).is_ok())
    }
}

/// AES-256-GCM of `aes-gcm`: for key slots.
pub struct PortableAead(Aes256Gcm);

impl PortableAead {
    /// A key ready for use.
    pub fn new(key: &Secret32) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }
}

impl std::fmt::Debug for PortableAead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortableAead(..)")
    }
}

impl Aead for PortableAead {
    fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        self.0.encrypt_inout_detached((&nonce).into(), aad, buffer.into()).ok().map(Into::into)
    }

    fn open(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.0.decrypt_inout_detached((&nonce).into(), aad, buffer.into(), tag.into()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_implementation_opens_what_the_other_sealed() {
        let key = Secret32::new([7; 32]);
        let (fast, portable) = (FastAead::new(&key), PortableAead::new(&key));
        let pairs: [(&dyn Aead, &dyn Aead); 2] = [(&fast, &portable), (&portable, &fast)];
        for (sealer, opener) in pairs {
            for len in [0, 1, 16, 4096, 65_537] {
                let plain: Vec<u8> = (0_u8..251).cycle().take(len).collect();
                let mut buffer = plain.clone();
                let tag = sealer.seal([3; 12], b"aad", &mut buffer).unwrap();
                let mut opened = buffer.clone();
                assert!(opener.open([3; 12], b"aad", &mut opened, &tag));
                assert_eq!(opened, plain);
                assert!(!opener.open([4; 12], b"aad", &mut buffer.clone(), &tag), "another nonce");
                assert!(!opener.open([3; 12], b"aae", &mut buffer.clone(), &tag), "another aad");
                let mut wrong = tag;
                wrong[15] ^= 1;
                assert!(!opener.open([3; 12], b"aad", &mut buffer, &wrong), "another tag");
            }
        }
    }
}
