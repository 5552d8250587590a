//! The AEAD seam: AES-256-GCM behind one trait, so that frames go through aws-lc-rs (fast) and key slots through
//! `aes-gcm`, and tests open each one's output with the other.

/// One AES-256-GCM key, ready for use.
pub trait Aead: Send + Sync + std::fmt::Debug {
    /// Encrypts `buffer` in place and returns the tag.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut [u8]) -> [u8; 16];
    /// Decrypts `buffer` in place; false, with the buffer's contents unspecified, when the tag does not match.
    #[must_use]
    fn open(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; 16]) -> bool;
}
