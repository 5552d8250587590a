//! Frames: sealed chunks (FORMAT.md section 3).
//!
//! nonce (12) || ciphertext || tag (16). Key: HKDF(vault content key, salt of the pack it was first written to). The AAD
//! binds format, vault, key epoch, chunk identifier, plaintext length and codec, not the place: ciphertext can move.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::aead::{Aead, FastAead, NONCE_BYTES, TAG_BYTES};
use crate::error::StoreError;
use crate::id::{ChunkId, PackId, VaultId};
use crate::keys::{Secret32, frame_key};

/// Bytes that a frame is longer than its chunk.
pub const FRAME_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// The key of one vault's frames of one pack.
#[derive(Debug)]
pub struct FrameKey(FastAead);

impl FrameKey {
    /// Derives it; callers keep it.
    pub fn derive(content: &Secret32, pack_salt: &[u8; 32]) -> Self {
        Self(FastAead::new(&frame_key(content, pack_salt)))
    }
}

/// What a frame is bound to.
#[derive(Clone, Copy, Debug)]
pub struct FrameContext {
    /// The vault.
    pub vault: VaultId,
    /// Epoch of its root key.
    pub key_epoch: u32,
    /// The chunk.
    pub chunk: ChunkId,
    /// Its plaintext bytes.
    pub plain_bytes: u32,
    /// 0: as it is.
    pub codec: u8,
}

impl FrameContext {
    fn aad(&self) -> [u8; 65] {
        let mut aad = [0; 65];
        aad[..8].copy_from_slice(b"COFFRAME");
        aad[8..24].copy_from_slice(&self.vault.0);
        aad[24..28].copy_from_slice(&self.key_epoch.to_le_bytes());
        aad[28..60].copy_from_slice(&self.chunk.0);
        aad[60..64].copy_from_slice(&self.plain_bytes.to_le_bytes());
        aad[64] = self.codec;
        aad
    }
}

/// Where a frame lies. Stays valid while the pack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FramePlace {
    /// Pack that holds it.
    #[n(0)]
    pub pack: PackId,
    /// Byte offset in it.
    #[n(1)]
    pub offset: u64,
    /// Stored bytes: nonce, ciphertext, tag.
    #[n(2)]
    pub stored_bytes: u32,
    /// Plaintext bytes of the chunk.
    #[n(3)]
    pub plain_bytes: u32,
    /// 0: stored as it is.
    #[n(4)]
    pub codec: u8,
    /// The pack whose salt the frame's key comes from.
    #[n(5)]
    pub salt_of: PackId,
}

/// Nonces that cannot repeat: 4 random bytes of the process, then a counter. Keys are fresh with each pack, packs with
/// each start of the process.
#[derive(Debug)]
pub struct NonceSequence {
    prefix: [u8; 4],
    next: AtomicU64,
}

impl NonceSequence {
    /// Starts a sequence.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn start() -> Result<Self, getrandom::Error> {
        let mut prefix = [0; 4];
        getrandom::fill(&mut prefix)?;
        Ok(Self { prefix, next: AtomicU64::new(0) })
    }

    fn next(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..4].copy_from_slice(&self.prefix);
        nonce[4..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        nonce
    }
}

/// Seals a chunk into a frame.
///
/// # Errors
/// `TooLarge` when the cipher refuses.
pub fn seal(
    key: &FrameKey,
    nonces: &NonceSequence,
    context: &FrameContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let nonce = nonces.next();
    let mut frame = Vec::with_capacity(plaintext.len() + FRAME_OVERHEAD_BYTES);
    frame.extend_from_slice(&nonce);
    frame.extend_from_slice(plaintext);
    let tag = key
        .0
        .seal(nonce, &context.aad(), &mut frame[NONCE_BYTES..])
        .ok_or(StoreError::TooLarge("a chunk"))?;
    frame.extend_from_slice(&tag);
    Ok(frame)
}

/// Opens a frame in place: the plaintext, or nothing when any byte or the context differs.
pub fn open<'f>(key: &FrameKey, context: &FrameContext, frame: &'f mut [u8]) -> Option<&'f [u8]> {
    let (nonce, rest) = frame.split_first_chunk_mut::<NONCE_BYTES>()?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    (usize::try_from(context.plain_bytes).ok()? == body.len() || context.codec != 0).then_some(())?;
    key.0.open(*nonce, &context.aad(), body, tag).then_some(&*body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_only_in_its_context() {
        let key = FrameKey::derive(&Secret32::new([1; 32]), &[2; 32]);
        let nonces = NonceSequence::start().unwrap();
        let context = FrameContext {
            vault: VaultId([3; 16]),
            key_epoch: 1,
            chunk: ChunkId([4; 32]),
            plain_bytes: 5,
            codec: 0,
        };
        let frame = seal(&key, &nonces, &context, b"plain").unwrap();
        assert_eq!(open(&key, &context, &mut frame.clone()).unwrap(), b"plain");
        let others = [
            FrameContext { vault: VaultId([9; 16]), ..context },
            FrameContext { key_epoch: 2, ..context },
            FrameContext { chunk: ChunkId([9; 32]), ..context },
            FrameContext { plain_bytes: 4, ..context },
            FrameContext { codec: 1, ..context },
        ];
        for other in others {
            assert!(open(&key, &other, &mut frame.clone()).is_none(), "{other:?}");
        }
        assert!(
            open(&FrameKey::derive(&Secret32::new([1; 32]), &[9; 32]), &context, &mut frame.clone())
                .is_none()
        );
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert!(open(&key, &context, &mut changed).is_none(), "byte {at}");
            assert!(open(&key, &context, &mut frame.clone()[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_nonce_is_never_drawn_twice() {
        let nonces = NonceSequence::start().unwrap();
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| nonces.next()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
