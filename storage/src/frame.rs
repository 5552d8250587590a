//! Frames: sealed chunks (FORMAT.md section 3).
//!
//! nonce (12) || ciphertext || tag (16). Key: HKDF(vault content key, salt of the pack it was first written to). The AAD
//! binds format, vault, key epoch, chunk identifier, plaintext length and codec, not the place: ciphertext can move.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::aead::{Aead, FastAead, NONCE_BYTES, TAG_BYTES};
use crate::buffer::AlignedBuffer;
use crate::error::StoreError;
use crate::id::{ChunkId, PackId, VaultId};
use crate::keys::{Secret32, frame_key};
use crate::limits::{CHUNK_BYTES_MAX, COMPRESSED_BYTES_MIN};

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

/// How a chunk is written before it is sealed. The number is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    #[n(0)]
    Plain = 0,
    /// An LZ4 block, without a length: that is in the place.
    #[n(1)]
    Lz4 = 1,
}

thread_local! {
    /// A thread's chunk while it is tried to be made smaller.
    static PACKED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Whether a vault's chunks are compressed where that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No.
    Off,
    /// By LZ4, when it saves at least an eighth.
    Lz4,
}

impl Compression {
    /// The chunk made smaller, when it is allowed and worth it.
    pub(crate) fn pack(self, plaintext: &[u8]) -> Option<Vec<u8>> {
        // Below a block of the pack nothing is saved that padding would not take again.
        if self == Self::Off || plaintext.len() < COMPRESSED_BYTES_MIN {
            return None;
        }
        PACKED.with_borrow_mut(|room| {
            let worst = lz4_flex::block::get_maximum_output_size(plaintext.len());
            if room.len() < worst {
                room.resize(worst, 0);
            }
            let len = lz4_flex::block::compress_into(plaintext, room).ok()?;
            (len <= plaintext.len() - plaintext.len() / 8).then(|| room[..len].to_vec())
        })
    }
}

/// The chunk as it was; nothing when it does not unpack to exactly `plain_bytes`.
pub(crate) fn unpack(packed: &[u8], plain_bytes: u32) -> Option<Vec<u8>> {
    let len = usize::try_from(plain_bytes).ok().filter(|len| *len <= CHUNK_BYTES_MAX)?;
    let mut plain = vec![0; len];
    let found = lz4_flex::block::decompress_into(packed, &mut plain).ok()?;
    (found == len).then_some(plain)
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
    /// How the chunk is written.
    pub codec: Codec,
}

impl FrameContext {
    fn aad(&self) -> [u8; 65] {
        let mut aad = [0; 65];
        aad[..8].copy_from_slice(b"COFFRAME");
        aad[8..24].copy_from_slice(&self.vault.0);
        aad[24..28].copy_from_slice(&self.key_epoch.to_le_bytes());
        aad[28..60].copy_from_slice(&self.chunk.0);
        aad[60..64].copy_from_slice(&self.plain_bytes.to_le_bytes());
        aad[64] = self.codec as u8;
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
    /// How the chunk is written.
    #[n(4)]
    pub codec: Codec,
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

/// Seals a chunk behind what a buffer holds: its frame is `FRAME_OVERHEAD_BYTES` longer. In place, so that the bytes are moved
/// once.
///
/// # Errors
/// `TooLarge` when the cipher refuses; the buffer is as it was.
pub fn seal_onto(
    buffer: &mut AlignedBuffer,
    key: &FrameKey,
    nonces: &NonceSequence,
    context: &FrameContext,
    plaintext: &[u8],
) -> Result<(), StoreError> {
    let (start, nonce) = (buffer.len(), nonces.next());
    buffer.extend(&nonce);
    buffer.extend(plaintext);
    let body = &mut buffer.bytes_mut()[start + NONCE_BYTES..];
    if let Some(tag) = key.0.seal(nonce, &context.aad(), body) {
        buffer.extend(&tag);
        Ok(())
    } else {
        // Never leave plaintext where a frame is expected.
        buffer.cut_to(start);
        Err(StoreError::TooLarge("a chunk"))
    }
}

/// Opens a frame in place: the plaintext, or nothing when any byte or the context differs.
pub fn open<'f>(key: &FrameKey, context: &FrameContext, frame: &'f mut [u8]) -> Option<&'f [u8]> {
    let (nonce, rest) = frame.split_first_chunk_mut::<NONCE_BYTES>()?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    (usize::try_from(context.plain_bytes).ok()? == body.len() || context.codec != Codec::Plain)
        .then_some(())?;
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
            codec: Codec::Plain,
        };
        let mut buffer = AlignedBuffer::default();
        buffer.extend(b"before");
        seal_onto(&mut buffer, &key, &nonces, &context, b"plain").unwrap();
        let frame = buffer.bytes().strip_prefix(b"before").unwrap().to_vec();
        assert_eq!(frame.len(), 5 + FRAME_OVERHEAD_BYTES);
        assert_eq!(open(&key, &context, &mut frame.clone()).unwrap(), b"plain");
        let others = [
            FrameContext { vault: VaultId([9; 16]), ..context },
            FrameContext { key_epoch: 2, ..context },
            FrameContext { chunk: ChunkId([9; 32]), ..context },
            FrameContext { plain_bytes: 4, ..context },
            FrameContext { codec: Codec::Lz4, ..context },
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
    fn a_chunk_is_packed_only_when_that_saves_an_eighth() {
        let text = b"patient;date;value\n".repeat(500);
        let packed = Compression::Lz4.pack(&text).unwrap();
        assert!(packed.len() * 8 <= text.len() * 7);
        assert_eq!(unpack(&packed, u32::try_from(text.len()).unwrap()).unwrap(), text);
        assert!(unpack(&packed, 10).is_none() && unpack(&packed[1..], 9500).is_none());
        assert!(unpack(&packed, u32::MAX).is_none(), "a length is checked before it is allocated");
        assert!(Compression::Off.pack(&text).is_none());
        let mut noise = vec![0; 50_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(Compression::Lz4.pack(&noise).is_none());
    }

    #[test]
    fn a_nonce_is_never_drawn_twice() {
        let nonces = NonceSequence::start().unwrap();
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| nonces.next()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
