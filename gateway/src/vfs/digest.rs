//! Digests of files, through the door like any other read: a permit, a record, and the totals at the handle's close.
//!
//! SHA-256, SHA-1 and MD5 of a whole file are computed together, once, and kept beside its content; asked again they cost
//! nothing. Whoever hashes takes turns with everybody else who does, a few mebibytes at a time, and stops when its session
//! ends or nobody waits for the answer any more.

use std::sync::Arc;

use aws_lc_rs::digest::{
    Context, SHA1_FOR_LEGACY_USE_ONLY, SHA224, SHA256, SHA384, SHA512, SHA512_OUTPUT_LEN,
};
use coffre_auth::Rights;
pub use coffre_storage::tree::digest::Digests;
use tokio::sync::Semaphore;

use super::resolve::Node;
use super::{Action, FileHandle, Follow, Namespace, OpenOptions, VaultPath, VfsError, blocking};
use crate::limits::{HASH_PIECE_BYTES, HASH_TURN_PIECES, HASHING_MAX};

/// A digest that clients know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// Adler-32 (RFC 1950): finds accidents only, and is computed for those who send one.
    Adler32,
}

impl Algorithm {
    /// Every algorithm that a client may ask for, strongest of the usual ones first.
    pub const ALL: [Self; 6] =
        [Self::Sha256, Self::Sha512, Self::Sha384, Self::Sha224, Self::Sha1, Self::Md5];

    /// As draft-ietf-secsh-filexfer-extensions-00 section 3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Adler32 => "adler32",
        }
    }

    /// Bytes of a digest.
    pub fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => SHA512_OUTPUT_LEN,
            Self::Adler32 => 4,
        }
    }

    /// Of what is kept, the digest of this name.
    pub fn of(self, digests: &Digests) -> Option<&[u8]> {
        match self {
            Self::Md5 => digests.md5.as_ref().map(<[u8; 16]>::as_slice),
            Self::Sha1 => digests.sha1.as_ref().map(<[u8; 20]>::as_slice),
            Self::Sha256 => digests.sha256.as_ref().map(<[u8; 32]>::as_slice),
            Self::Sha224 | Self::Sha384 | Self::Sha512 | Self::Adler32 => None,
        }
    }
}

/// A digest being computed.
pub struct Hasher(Inner);

enum Inner {
    Md5(Box<md5::Context>),
    Sha(Box<Context>),
    /// Both sums.
    Adler(u32, u32),
}

/// The largest prime below 2^16.
const ADLER_MODULUS: u32 = 65_521;
/// Bytes after which the sums must be reduced, or they would not fit 32 bits.
const ADLER_BYTES_MAX: usize = 5552;

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(..)")
    }
}

impl Hasher {
    /// Of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let sha = |of| Inner::Sha(Box::new(Context::new(of)));
        Self(match algorithm {
            Algorithm::Md5 => Inner::Md5(Box::new(md5::Context::new())),
            Algorithm::Sha1 => sha(&SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Sha224 => sha(&SHA224),
            Algorithm::Sha256 => sha(&SHA256),
            Algorithm::Sha384 => sha(&SHA384),
            Algorithm::Sha512 => sha(&SHA512),
            Algorithm::Adler32 => Inner::Adler(1, 0),
        })
    }

    /// Takes more.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Md5(context) => context.consume(bytes),
            Inner::Sha(context) => context.update(bytes),
            Inner::Adler(low, high) => {
                for piece in bytes.chunks(ADLER_BYTES_MAX) {
                    for byte in piece {
                        *low += u32::from(*byte);
                        *high += *low;
                    }
                    (*low, *high) = (*low % ADLER_MODULUS, *high % ADLER_MODULUS);
                }
            }
        }
    }

    /// The digest.
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Inner::Md5(context) => context.finalize().0.to_vec(),
            Inner::Sha(context) => context.finish().as_ref().to_vec(),
            Inner::Adler(low, high) => (high << 16 | low).to_be_bytes().to_vec(),
        }
    }
}

/// Puts a digest where it is kept, if it is of those that are.
pub(super) fn keep(digests: &mut Digests, algorithm: Algorithm, digest: &[u8]) {
    match algorithm {
        Algorithm::Sha256 => digests.sha256 = digest.try_into().ok(),
        Algorithm::Sha1 => digests.sha1 = digest.try_into().ok(),
        Algorithm::Md5 => digests.md5 = digest.try_into().ok(),
        Algorithm::Sha224 | Algorithm::Sha384 | Algorithm::Sha512 | Algorithm::Adler32 => {}
    }
}

/// Whose turn it is to hash: served in the order of asking.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HASHING_MAX)))
    }
}

impl Turns {
    /// Waits for a turn, which ends when this is dropped.
    pub(super) async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, VfsError> {
        self.0.acquire().await.map_err(|_| VfsError::Interrupted)
    }
}

/// Bytes of a file that are hashed, and how.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Where they begin.
    pub offset: u64,
    /// How many; to the end of the file when it ends before.
    pub len: u64,
    /// Bytes of a block with a digest of its own; 0: one digest of all.
    pub block: u64,
}

impl FileHandle {
    /// SHA-256, SHA-1 and MD5 of all that the file holds: what is kept, or computed now and kept. With unsaved writes it is
    /// computed and not kept.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn digests(&self) -> Result<Digests, VfsError> {
        let file = self.readable().await?.clone();
        let (content, kept) = blocking(move || {
            let content = file.settled_content();
            let kept = content.map(|content| file.kept_digests(content)).transpose()?.flatten();
            Ok((content, kept))
        })
        .await?;
        if let Some(kept) = kept.filter(Digests::are_all) {
            return Ok(kept);
        }
        let computed = [Algorithm::Sha256, Algorithm::Sha1, Algorithm::Md5].map(Hasher::new);
        let all = Blocks { offset: 0, len: u64::MAX, block: 0 };
        let (computed, _) = self.hash(computed, all.offset, all.len).await?;
        let [sha256, sha1, md5] = computed.map(Hasher::finish);
        let mut digests = Digests::default();
        keep(&mut digests, Algorithm::Sha256, &sha256);
        keep(&mut digests, Algorithm::Sha1, &sha1);
        keep(&mut digests, Algorithm::Md5, &md5);
        if let Some(content) = content {
            let file = self.readable().await?.clone();
            // The answer is good whether or not it can be kept.
            let kept = blocking(move || Ok(file.keep_digests(content, &digests)?)).await;
            if let Err(error) = kept {
                tracing::debug!(%error, "digests were not kept");
            }
        }
        Ok(digests)
    }

    /// Digests of the blocks of a range, one after the other, at most `digests_max` of them.
    ///
    /// # Errors
    /// [`VfsError`]; nothing when there are more.
    pub async fn block_digests(
        &self,
        algorithm: Algorithm,
        blocks: Blocks,
        digests_max: u64,
    ) -> Result<Option<Vec<u8>>, VfsError> {
        let size = self.attributes().await?.size;
        let len = blocks.len.min(size.saturating_sub(blocks.offset));
        let is_whole =
            blocks.offset == 0 && len == size && (blocks.block == 0 || blocks.block >= size.max(1));
        // An empty range has no blocks, but one digest of all.
        if is_whole
            && (blocks.block == 0 || size > 0)
            && matches!(algorithm, Algorithm::Md5 | Algorithm::Sha1 | Algorithm::Sha256)
        {
            let digests = self.digests().await?;
            return Ok(algorithm.of(&digests).map(<[u8]>::to_vec));
        }
        if blocks.block == 0 {
            let ([hasher], _) = self.hash([Hasher::new(algorithm)], blocks.offset, len).await?;
            return Ok(Some(hasher.finish()));
        }
        if len.div_ceil(blocks.block) > digests_max {
            return Ok(None);
        }
        let (mut out, mut done) = (Vec::new(), 0);
        while done < len {
            let block = blocks.block.min(len - done);
            let at = blocks.offset.saturating_add(done);
            let ([hasher], read) = self.hash([Hasher::new(algorithm)], at, block).await?;
            out.extend_from_slice(&hasher.finish());
            done += block;
            if read < block {
                break;
            }
        }
        Ok(Some(out))
    }

    /// Feeds a range to hashers, in turns; tells how many bytes there were.
    async fn hash<const N: usize>(
        &self,
        mut hashers: [Hasher; N],
        offset: u64,
        len: u64,
    ) -> Result<([Hasher; N], u64), VfsError> {
        let turns = self.turns();
        let mut done = 0;
        loop {
            let _turn = turns.turn().await?;
            for _ in 0..HASH_TURN_PIECES {
                let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(HASH_PIECE_BYTES);
                let Some(at) = offset.checked_add(done) else { return Ok((hashers, done)) };
                let piece = if want == 0 { bytes::Bytes::new() } else { self.read(at, want).await? };
                if piece.is_empty() {
                    return Ok((hashers, done));
                }
                done += piece.len() as u64;
                hashers = blocking(move || {
                    hashers.iter_mut().for_each(|hasher| hasher.update(&piece));
                    Ok(hashers)
                })
                .await?;
            }
        }
    }
}

impl Namespace {
    /// SHA-256, SHA-1 and MD5 of a file, as [`FileHandle::digests`].
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn digests(&self, path: &VaultPath) -> Result<Digests, VfsError> {
        let file =
            self.open(path, OpenOptions { read: true, verify: true, ..OpenOptions::default() }).await?;
        let digests = file.digests().await?;
        file.close().await.map(|()| digests)
    }

    /// What is kept of the content that a path shows; nothing is read or computed.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn kept_digests(&self, path: &VaultPath) -> Result<Option<Digests>, VfsError> {
        let path = path.clone();
        self.audited(self.about(Action::Stat, &path), move |own| {
            let Node::Inside(inside) = own.resolve(&path, Follow::Yes)?.node else { return Ok(None) };
            own.permit_read(&inside, Rights::Verify)?;
            Ok(inside.tree.kept_digests(inside.attributes.content)?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_is_the_one_of_its_name() {
        // FIPS 180-4 and RFC 1321: digests of "abc" begin so.
        for (algorithm, begins) in [
            (Algorithm::Md5, [0x90, 0x01, 0x50, 0x98]),
            (Algorithm::Sha1, [0xa9, 0x99, 0x3e, 0x36]),
            (Algorithm::Sha224, [0x23, 0x09, 0x7d, 0x22]),
            (Algorithm::Sha256, [0xba, 0x78, 0x16, 0xbf]),
            (Algorithm::Sha384, [0xcb, 0x00, 0x75, 0x3f]),
            (Algorithm::Sha512, [0xdd, 0xaf, 0x35, 0xa1]),
            (Algorithm::Adler32, [0x02, 0x4d, 0x01, 0x27]),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            let digest = hasher.finish();
            assert_eq!(digest.len(), algorithm.bytes(), "{}", algorithm.name());
            assert_eq!(digest[..4], begins, "{}", algorithm.name());
        }
    }

    #[test]
    fn adler_32_of_much_does_not_overflow() {
        let mut hasher = Hasher::new(Algorithm::Adler32);
        hasher.update(&vec![0xff; 1 << 20]);
        let (mut low, mut high) = (1_u64, 0_u64);
        for _ in 0..1 << 20 {
            low = (low + 0xff) % u64::from(ADLER_MODULUS);
            high = (high + low) % u64::from(ADLER_MODULUS);
        }
        assert_eq!(hasher.finish(), u32::try_from(high << 16 | low).unwrap().to_be_bytes());
    }
}
