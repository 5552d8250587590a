//! Pack headers and footers (FORMAT.md section 5). Both are one block, authenticated as a whole.
//!
//! ```text
//! header: "COFPACK1" | version u32 | 0 u32 | pack u64 | salt [32] | zeros | MAC [32]
//! footer: "COFFOOT1" | pack u64 | end u64 | batches u64 | last batch u64 | zeros | MAC [32]
//! ```

use subtle::ConstantTimeEq;

use crate::id::{BatchNumber, PackId};
use crate::keys::{Secret32, batch_key, pack_header_key};
use crate::limits::BLOCK_BYTES;

/// Format that this program writes and the newest that it reads.
pub const VERSION: u32 = 2;
const HEADER_MAGIC: &[u8; 8] = b"COFPACK1";
const FOOTER_MAGIC: &[u8; 8] = b"COFFOOT1";
const MAC_BYTES: usize = 32;

/// The blob of a pack.
pub fn blob_name(pack: PackId) -> String {
    format!("packs/{:016x}.pack", pack.0)
}

/// The pack of a blob.
pub fn pack_of(name: &str) -> Option<PackId> {
    let digits = name.strip_prefix("packs/")?.strip_suffix(".pack")?;
    (digits.len() == 16).then_some(())?;
    u64::from_str_radix(digits, 16).ok().map(PackId)
}

/// What a pack says of itself.
#[derive(Clone, Debug)]
pub struct PackHeader {
    /// Which one.
    pub pack: PackId,
    /// Its salt: every key used in it depends on it.
    pub salt: [u8; 32],
}

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Not ours, torn or changed.
    Damaged,
    /// Of a newer format.
    Newer(u32),
}

/// What a closed pack says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackFooter {
    /// Which one.
    pub pack: PackId,
    /// Where its batches end: the footer's own offset.
    pub end: u64,
    /// How many batches it holds.
    pub batches: u64,
    /// The last of them (0 when it holds none).
    pub last: BatchNumber,
}

fn mac(key: &Secret32, bytes: &[u8]) -> [u8; MAC_BYTES] {
    *blake3::keyed_hash(key.expose(), bytes).as_bytes()
}

fn close(key: &Secret32, mut block: Vec<u8>) -> Vec<u8> {
    block.resize(BLOCK_BYTES - MAC_BYTES, 0);
    let mac = mac(key, &block);
    block.extend_from_slice(&mac);
    block
}

fn is_authentic(key: &Secret32, block: &[u8]) -> bool {
    block.split_last_chunk::<MAC_BYTES>().is_some_and(|(body, found)| bool::from(mac(key, body).ct_eq(found)))
}

fn u64_at(block: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*block.get(at..)?.first_chunk()?))
}

impl PackHeader {
    /// The header block.
    pub fn encode(&self, packs: &Secret32) -> Vec<u8> {
        let mut block = HEADER_MAGIC.to_vec();
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.pack.0.to_le_bytes());
        block.extend_from_slice(&self.salt);
        close(&pack_header_key(packs, &self.salt), block)
    }

    /// Reads a header block.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(packs: &Secret32, block: &[u8]) -> Result<Self, HeaderError> {
        let damaged = HeaderError::Damaged;
        (block.len() == BLOCK_BYTES && block.starts_with(HEADER_MAGIC)).then_some(()).ok_or(damaged)?;
        let version = u32::from_le_bytes(*block[8..].first_chunk().ok_or(damaged)?);
        if version > VERSION {
            return Err(HeaderError::Newer(version));
        }
        let pack = PackId(u64_at(block, 16).ok_or(damaged)?);
        let salt = *block[24..].first_chunk().ok_or(damaged)?;
        is_authentic(&pack_header_key(packs, &salt), block).then_some(Self { pack, salt }).ok_or(damaged)
    }

    /// The key of its batches.
    pub fn batch_key(&self, packs: &Secret32) -> Secret32 {
        batch_key(packs, &self.salt)
    }
}

impl PackFooter {
    /// The footer block.
    pub fn encode(&self, packs: &Secret32, salt: &[u8; 32]) -> Vec<u8> {
        let mut block = FOOTER_MAGIC.to_vec();
        for number in [self.pack.0, self.end, self.batches, self.last.0] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        close(&pack_header_key(packs, salt), block)
    }

    /// Reads a footer block; nothing when it is none.
    pub fn decode(packs: &Secret32, salt: &[u8; 32], block: &[u8]) -> Option<Self> {
        (block.len() == BLOCK_BYTES && block.starts_with(FOOTER_MAGIC)).then_some(())?;
        is_authentic(&pack_header_key(packs, salt), block).then_some(())?;
        Some(Self {
            pack: PackId(u64_at(block, 8)?),
            end: u64_at(block, 16)?,
            batches: u64_at(block, 24)?,
            last: BatchNumber(u64_at(block, 32)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_or_footer_with_any_byte_changed_is_refused() {
        let packs = Secret32::new([5; 32]);
        let header = PackHeader { pack: PackId(7), salt: [9; 32] };
        let block = header.encode(&packs);
        assert_eq!(PackHeader::decode(&packs, &block).unwrap().salt, header.salt);
        let footer = PackFooter { pack: PackId(7), end: 8192, batches: 1, last: BatchNumber(3) };
        let closing = footer.encode(&packs, &header.salt);
        assert_eq!(PackFooter::decode(&packs, &header.salt, &closing), Some(footer));
        for at in 0..BLOCK_BYTES {
            let (mut head, mut foot) = (block.clone(), closing.clone());
            head[at] ^= 0x40;
            foot[at] ^= 0x40;
            assert!(PackHeader::decode(&packs, &head).is_err(), "header byte {at}");
            assert!(PackFooter::decode(&packs, &header.salt, &foot).is_none(), "footer byte {at}");
        }
    }

    #[test]
    fn names_and_packs_map_both_ways() {
        assert_eq!(pack_of(&blob_name(PackId(0xabc))), Some(PackId(0xabc)));
        assert_eq!(pack_of("packs/1.pack"), None);
        assert_eq!(pack_of("audit/0000000000000001.pack"), None);
    }
}
