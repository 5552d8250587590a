//! 32 bytes wrapped under a key: commitment (32) || nonce (12) || ciphertext (32) || tag (16). AES-256-GCM does not commit to
//! its key, so a commitment derived beside it is compared, in constant time, before anything is opened.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SlotError;
use crate::aead::{Aead, NONCE_BYTES, PortableAead, TAG_BYTES};
use crate::secret::Secret32;

const COMMITMENT_BYTES: usize = 32;
/// Bytes of a wrapped key.
pub(crate) const WRAPPED_BYTES: usize = COMMITMENT_BYTES + NONCE_BYTES + 32 + TAG_BYTES;

/// What wraps, and what commits to it.
pub(super) struct Wrapping {
    pub(super) key: Secret32,
    pub(super) commitment: Secret32,
}

impl Wrapping {
    pub(super) fn seal(&self, aad: &[u8], secret: &Secret32) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let mut wrapped = Zeroizing::new(*secret.expose());
        let kek = PortableAead::new(&self.key);
        let tag = kek.seal(nonce, aad, wrapped.as_mut_slice()).ok_or(getrandom::Error::UNEXPECTED)?;
        let mut sealed = Vec::with_capacity(WRAPPED_BYTES);
        sealed.extend_from_slice(self.commitment.expose());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(wrapped.as_slice());
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret32, SlotError> {
        let (commitment, rest) = sealed.split_first_chunk::<COMMITMENT_BYTES>().ok_or(SlotError)?;
        if !bool::from(commitment.ct_eq(self.commitment.expose())) {
            return Err(SlotError);
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SlotError)?;
        let (wrapped, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SlotError)?;
        let mut secret = Zeroizing::new(<[u8; 32]>::try_from(wrapped).map_err(|_| SlotError)?);
        if PortableAead::new(&self.key).open(*nonce, aad, secret.as_mut_slice(), tag) {
            Ok(Secret32::new(*secret))
        } else {
            Err(SlotError)
        }
    }
}
