//! Frames on their way into the log and back: sealed into the open batch, read from the cache, from batches that are not
//! written yet, or from packs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::cache::Looked;
use super::{Store, lock};
use crate::buffer::AlignedBuffer;
use crate::error::StoreError;
use crate::frame::{self, Codec, Compression, FrameContext, FrameKey, FramePlace};
use crate::id::{ChunkId, PackId};
use crate::keys::VaultKeys;
use crate::limits::{CHUNK_BYTES_MAX, READ_GAP_BYTES_MAX};
use crate::log::batch::FrameRow;
use crate::log::pack::blob_name;

/// Pack files kept open for readers.
const PACK_HANDLES_MAX: usize = 256;
/// Frame keys kept derived.
const FRAME_KEYS_MAX: usize = 1024;
/// Epoch of a vault's root key: one until rotation comes.
const KEY_EPOCH: u32 = 1;

thread_local! {
    /// A thread's frame on its way from the disk: pages that are there already, instead of fresh ones for each frame.
    static SEALED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Store {
    /// Appends a frame of another pack as it is.
    pub(crate) fn append_moved(&self, frame: &FrameRow, sealed: &[u8]) -> Result<FramePlace, StoreError> {
        let fill = |buffer: &mut AlignedBuffer| {
            buffer.extend(sealed);
            Ok(())
        };
        self.inner.log.append_frame(sealed.len(), fill, |pack, offset| FrameRow {
            place: FramePlace { pack, offset, ..frame.place },
            ..frame.clone()
        })
    }

    /// Seals a chunk and appends its frame to the open batch; waits while two batches are full. Readable at once
    /// through [`Store::read_frame`]; durable with any transaction submitted later.
    ///
    /// # Errors
    /// `DiskFull`, `Poisoned`.
    pub fn stage(
        &self,
        keys: &VaultKeys,
        chunk: ChunkId,
        plaintext: &[u8],
        compression: Compression,
    ) -> Result<FramePlace, StoreError> {
        if plaintext.len() > CHUNK_BYTES_MAX {
            return Err(StoreError::TooLarge("a chunk"));
        }
        if self.inner.disk_full.load(Ordering::Relaxed) {
            return Err(StoreError::DiskFull);
        }
        let plain_bytes = u32::try_from(plaintext.len()).map_err(|_| StoreError::TooLarge("a chunk"))?;
        let (salt_of, salt) = *self.inner.current.read().unwrap_or_else(PoisonError::into_inner);
        let key = self.frame_key(keys, salt_of, &salt);
        let packed = compression.pack(plaintext);
        let codec = if packed.is_some() { Codec::Lz4 } else { Codec::Plain };
        let context = FrameContext { vault: keys.vault, key_epoch: KEY_EPOCH, chunk, plain_bytes, codec };
        let bytes = packed.as_deref().unwrap_or(plaintext);
        let sealed_bytes = bytes.len() + frame::FRAME_OVERHEAD_BYTES;
        let stored_bytes = u32::try_from(sealed_bytes).map_err(|_| StoreError::TooLarge("a chunk"))?;
        let fill =
            |buffer: &mut AlignedBuffer| frame::seal_onto(buffer, &key, &self.inner.nonces, &context, bytes);
        self.inner.log.append_frame(sealed_bytes, fill, |pack, offset| FrameRow {
            vault: keys.vault,
            chunk,
            place: FramePlace { pack, offset, stored_bytes, plain_bytes, codec, salt_of },
        })
    }

    fn frame_key(&self, keys: &VaultKeys, salt_of: PackId, salt: &[u8; 32]) -> Arc<FrameKey> {
        let mut kept = lock(&self.inner.frame_keys);
        // Under the same lock under which they are forgotten.
        if keys.is_retired() {
            return Arc::new(FrameKey::derive(&keys.content, salt));
        }
        if kept.len() >= FRAME_KEYS_MAX {
            kept.clear();
        }
        Arc::clone(
            kept.entry((keys.vault, salt_of))
                .or_insert_with(|| Arc::new(FrameKey::derive(&keys.content, salt))),
        )
    }

    /// Reads and opens a frame (cache, open batches, packs).
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn read_frame(
        &self,
        keys: &VaultKeys,
        chunk: ChunkId,
        place: &FramePlace,
    ) -> Result<Arc<[u8]>, StoreError> {
        match self.inner.cache.look((keys.vault, chunk)) {
            Looked::Found(found) => Ok(found),
            Looked::Yours(reading) => {
                let opened = self.read_frame_uncached(keys, chunk, place)?;
                reading.done(Arc::clone(&opened));
                if keys.is_retired() {
                    self.inner.cache.forget(keys.vault);
                }
                Ok(opened)
            }
        }
    }

    pub(crate) fn read_frame_uncached(
        &self,
        keys: &VaultKeys,
        chunk: ChunkId,
        place: &FramePlace,
    ) -> Result<Arc<[u8]>, StoreError> {
        let damaged = StoreError::Damaged { pack: place.pack };
        let len = usize::try_from(place.stored_bytes).map_err(|_| damaged.clone())?;
        if len > CHUNK_BYTES_MAX + frame::FRAME_OVERHEAD_BYTES {
            return Err(damaged);
        }
        let salt =
            self.inner.salts.read().unwrap_or_else(PoisonError::into_inner).get(&place.salt_of).copied();
        let key = self.frame_key(keys, place.salt_of, &salt.ok_or_else(|| damaged.clone())?);
        let context = FrameContext {
            vault: keys.vault,
            key_epoch: KEY_EPOCH,
            chunk,
            plain_bytes: place.plain_bytes,
            codec: place.codec,
        };
        let opened = |sealed: &mut [u8]| {
            let found = frame::open(&key, &context, sealed).ok_or_else(|| damaged.clone())?;
            match place.codec {
                Codec::Plain => Ok(Arc::from(found)),
                Codec::Lz4 => {
                    let plain = frame::unpack(found, place.plain_bytes).ok_or_else(|| damaged.clone())?;
                    Ok(Arc::from(plain))
                }
            }
        };
        if let Some(mut sealed) = self.inner.log.unwritten_frame(place.pack, place.offset, len) {
            return opened(&mut sealed);
        }
        SEALED.with_borrow_mut(|kept| {
            if kept.len() < len {
                kept.resize(len, 0);
            }
            let sealed = &mut kept[..len];
            match self.pack_handle(place.pack).and_then(|blob| blob.read_at(place.offset, sealed)) {
                Ok(()) => opened(sealed),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::NotFound
                    ) =>
                {
                    Err(damaged.clone())
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Says that these frames, in the order in which they will be read, are read soon: the disk is asked for whole stretches.
    pub(crate) fn will_read(&self, places: impl IntoIterator<Item = FramePlace>) {
        let mut stretches: Vec<(PackId, u64, u64)> = Vec::new();
        for place in places {
            let end = place.offset.saturating_add(u64::from(place.stored_bytes));
            match stretches.last_mut() {
                Some((pack, from, to))
                    if *pack == place.pack
                        && place.offset >= *from
                        && place.offset <= to.saturating_add(READ_GAP_BYTES_MAX) =>
                {
                    *to = end.max(*to);
                }
                Some(_) | None => stretches.push((place.pack, place.offset, end)),
            }
        }
        for (pack, from, to) in stretches {
            // What is about to be written past the page cache is not to be put there.
            let to = to.min(self.inner.log.written_through(pack));
            if let Some(len) = to.checked_sub(from).filter(|len| *len > 0)
                && let Ok(blob) = self.pack_handle(pack)
            {
                blob.will_read(from, len);
            }
        }
    }

    fn pack_handle(&self, pack: PackId) -> std::io::Result<Arc<dyn crate::blob::Blob>> {
        if let Some(found) = lock(&self.inner.handles).get(&pack) {
            return Ok(Arc::clone(found));
        }
        let opened = self.inner.options.blobs.open(&blob_name(pack))?;
        let mut kept = lock(&self.inner.handles);
        if kept.len() >= PACK_HANDLES_MAX {
            kept.clear();
        }
        kept.insert(pack, Arc::clone(&opened));
        Ok(opened)
    }

    /// A chunk that the cache has.
    pub(crate) fn cached(&self, keys: &VaultKeys, chunk: ChunkId) -> Option<Arc<[u8]>> {
        self.inner.cache.find((keys.vault, chunk))
    }

    /// Whether [`Store::read_frame`] would answer from the cache.
    pub fn is_cached(&self, keys: &VaultKeys, chunk: ChunkId) -> bool {
        self.inner.cache.contains((keys.vault, chunk))
    }
}
