//! Reading the log in order: for replay after a crash, and for `coffre check`.

use std::io;
use std::sync::Arc;

use super::batch::{BatchHeader, BatchKey, HEADER_BYTES, Meta, open_body, open_header, open_meta};
use super::pack::{HeaderError, PackFooter, PackHeader, blob_name, pack_of};
use crate::aead::TAG_BYTES;
use crate::blob::{Blob, BlobStore};
use crate::id::{BatchNumber, CommitNumber, PackId};
use crate::keys::Secret32;
use crate::limits::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A pack opened for reading.
#[derive(Debug)]
pub struct PackReader {
    /// What it says of itself.
    pub header: PackHeader,
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// Their number.
    pub bytes: u64,
    key: BatchKey,
}

/// A batch that is whole.
#[derive(Debug)]
pub struct WholeBatch {
    /// Its header.
    pub header: BatchHeader,
    /// Its header's tag: the next batch names it.
    pub tag: [u8; TAG_BYTES],
    /// What it holds.
    pub meta: Meta,
    /// All of it behind the header: frames first.
    pub body: Vec<u8>,
    /// Where the next one begins.
    pub end: u64,
}

/// The packs that exist, in order.
///
/// # Errors
/// The system's.
pub fn packs(blobs: &dyn BlobStore) -> io::Result<Vec<PackId>> {
    let mut packs: Vec<_> = blobs.list("packs/")?.iter().filter_map(|name| pack_of(name)).collect();
    packs.sort();
    Ok(packs)
}

impl PackReader {
    /// Opens a pack.
    ///
    /// # Errors
    /// The outer one is the system's; the inner one tells that its header is not right.
    pub fn open(
        blobs: &dyn BlobStore,
        packs: &Secret32,
        pack: PackId,
    ) -> io::Result<Result<Self, HeaderError>> {
        let blob = blobs.open(&blob_name(pack))?;
        let bytes = blob.len()?;
        let mut block = vec![0; BLOCK_BYTES];
        if bytes < BLOCK {
            return Ok(Err(HeaderError::Damaged));
        }
        blob.read_at(0, &mut block)?;
        Ok(match PackHeader::decode(packs, &block) {
            Ok(header) if header.pack == pack => {
                let key = BatchKey::new(&header.batch_key(packs));
                Ok(Self { header, blob, bytes, key })
            }
            Ok(_) => Err(HeaderError::Damaged),
            Err(error) => Err(error),
        })
    }

    /// Opens a pack whose header is damaged, with the salt that somebody else knows.
    ///
    /// # Errors
    /// The system's.
    pub fn with_salt(
        blobs: &dyn BlobStore,
        packs: &Secret32,
        pack: PackId,
        salt: [u8; 32],
    ) -> io::Result<Self> {
        let header = PackHeader { pack, salt };
        let blob = blobs.open(&blob_name(pack))?;
        let bytes = blob.len()?;
        let key = BatchKey::new(&header.batch_key(packs));
        Ok(Self { header, blob, bytes, key })
    }

    /// Where the next batch begins behind a place that cannot be read; nothing when there is none. Blocks that the disk
    /// does not give are passed over.
    pub fn batch_behind(&self, offset: u64) -> Option<u64> {
        if let Ok(Some((header, _))) = self.header_at(offset) {
            let end = offset.saturating_add(u64::from(header.blocks).saturating_mul(BLOCK));
            return (end < self.bytes).then_some(end);
        }
        let mut at = offset.saturating_add(BLOCK);
        while at < self.bytes {
            if matches!(self.header_at(at), Ok(Some(_))) {
                return Some(at);
            }
            at += BLOCK;
        }
        None
    }

    /// The header of the batch at `offset`, if there is an authentic one.
    ///
    /// # Errors
    /// The system's.
    pub fn header_at(&self, offset: u64) -> io::Result<Option<(BatchHeader, [u8; TAG_BYTES])>> {
        if offset.saturating_add(BLOCK) > self.bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; HEADER_BYTES];
        self.blob.read_at(offset, &mut bytes)?;
        Ok(open_header(&self.key, self.header.pack, offset, &bytes))
    }

    /// The batch at `offset`, if it is whole.
    ///
    /// # Errors
    /// The system's.
    pub fn batch_at(&self, offset: u64) -> io::Result<Option<WholeBatch>> {
        let Some((header, tag)) = self.header_at(offset)? else { return Ok(None) };
        let end = offset.saturating_add(u64::from(header.blocks).saturating_mul(BLOCK));
        // The length was authenticated; that it lies inside the pack bounds the allocation.
        if end > self.bytes {
            return Ok(None);
        }
        let Ok(body_bytes) = usize::try_from(end - offset - HEADER_BYTES as u64) else { return Ok(None) };
        let mut body = vec![0; body_bytes];
        self.blob.read_at(offset + HEADER_BYTES as u64, &mut body)?;
        let meta = open_body(&self.key, self.header.pack, offset, &header, &body);
        Ok(meta.map(|meta| WholeBatch { header, tag, meta, body, end }))
    }

    /// What the batch at `offset` says of itself, if there is one, and where it ends. Its frames are not read, whatever they
    /// have become.
    ///
    /// # Errors
    /// The system's.
    pub fn meta_at(&self, offset: u64) -> io::Result<Option<(Meta, u64)>> {
        let Some((header, _)) = self.header_at(offset)? else { return Ok(None) };
        let end = offset.saturating_add(u64::from(header.blocks).saturating_mul(BLOCK));
        if end > self.bytes {
            return Ok(None);
        }
        // The header is authentic, and its lengths fit its blocks: `open_header` looked.
        let mut sealed = vec![0; header.meta_bytes as usize];
        self.blob.read_at(offset + HEADER_BYTES as u64 + u64::from(header.frames_bytes), &mut sealed)?;
        let meta = open_meta(&self.key, self.header.pack, offset, &header, &sealed);
        Ok(meta.map(|meta| (meta, end)))
    }

    /// The footer at `offset`, if there is one.
    ///
    /// # Errors
    /// The system's.
    pub fn footer_at(&self, packs: &Secret32, offset: u64) -> io::Result<Option<PackFooter>> {
        if offset.saturating_add(BLOCK) > self.bytes {
            return Ok(None);
        }
        let mut block = vec![0; BLOCK_BYTES];
        self.blob.read_at(offset, &mut block)?;
        Ok(PackFooter::decode(packs, &self.header.salt, &block))
    }

    /// Whether nothing was ever written at `offset`, or the footer.
    ///
    /// # Errors
    /// The system's.
    pub fn ends_before(&self, packs: &Secret32, offset: u64) -> io::Result<bool> {
        if offset.saturating_add(BLOCK) > self.bytes {
            return Ok(true);
        }
        let mut block = vec![0; BLOCK_BYTES];
        self.blob.read_at(offset, &mut block)?;
        let is_footer = PackFooter::decode(packs, &self.header.salt, &block).is_some();
        Ok(is_footer || block.iter().all(|byte| *byte == 0))
    }

    /// The newest transaction of a batch that begins before `offset`; 0 when there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn last_commit_before(&self, offset: u64) -> io::Result<CommitNumber> {
        let mut at = offset.min(self.bytes);
        while at > BLOCK {
            at -= BLOCK;
            if let Some((header, _)) = self.header_at(at)? {
                return Ok(header.last_commit);
            }
        }
        Ok(CommitNumber(0))
    }

    /// Whether a batch that says `number` was durable lies at or after `offset`, within `window` bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn proves_durable(&self, number: BatchNumber, offset: u64, window: u64) -> io::Result<bool> {
        let mut at = offset;
        while at < self.bytes && at < offset.saturating_add(window) {
            if let Some((header, _)) = self.header_at(at)?
                && header.synced_through >= number
            {
                return Ok(true);
            }
            at += BLOCK;
        }
        Ok(false)
    }
}
