//! Batches (FORMAT.md section 6): what one sync makes durable.
//!
//! ```text
//! "COFBATCH" | number u64 | sealed header [96 + 16] | frames | sealed meta | random padding to a block
//! ```
//! The sealed header tells the lengths and carries a checksum of all that follows it; the meta section holds the frame
//! directory, the journal (index changes, each value already sealed under its own key) and the audit records.

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_128;

use crate::aead::{Aead, FastAead, TAG_BYTES};
use crate::buffer::AlignedBuffer;
use crate::frame::FramePlace;
use crate::id::{BatchNumber, ChunkId, CommitNumber, PackId, VaultId};
use crate::index::{Change, Table};
use crate::limits::BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"COFBATCH";
const CLEAR_BYTES: usize = 16;
const SEALED_BYTES: usize = 96;
/// Bytes before the frames.
pub const HEADER_BYTES: usize = CLEAR_BYTES + SEALED_BYTES + TAG_BYTES;
/// Nonce domains: one key seals both sections of a batch.
const HEADER_DOMAIN: [u8; 4] = *b"HEAD";
const META_DOMAIN: [u8; 4] = *b"META";

/// What a batch header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Its number.
    pub number: BatchNumber,
    /// Blocks in all.
    pub blocks: u32,
    /// Bytes of frames.
    pub frames_bytes: u32,
    /// Bytes of the sealed meta section.
    pub meta_bytes: u32,
    /// The last transaction in it or before it.
    pub last_commit: CommitNumber,
    /// Tag of the previous batch's header: the chain.
    pub previous: [u8; TAG_BYTES],
    /// The newest batch that was durable when this one was written.
    pub synced_through: BatchNumber,
    /// XXH3-128 of everything after the header.
    pub checksum: u128,
}

/// A frame of the batch.
#[derive(Clone, Debug, Encode, Decode)]
pub struct FrameRow {
    /// Whose.
    #[n(0)]
    pub vault: VaultId,
    /// Which.
    #[n(1)]
    pub chunk: ChunkId,
    /// Where.
    #[n(2)]
    pub place: FramePlace,
}

#[derive(Clone, Debug, Encode, Decode)]
struct ChangeRow {
    #[n(0)]
    table: u8,
    #[n(1)]
    key: ByteVec,
    #[n(2)]
    value: Option<ByteVec>,
}

#[derive(Clone, Debug, Default, Encode, Decode)]
struct MetaRows {
    #[n(0)]
    frames: Vec<FrameRow>,
    #[n(1)]
    changes: Vec<ChangeRow>,
    #[n(2)]
    first_record: u64,
    #[n(3)]
    records: Vec<ByteVec>,
    #[n(4)]
    sequence: u64,
    #[n(5)]
    time: i64,
    #[n(6)]
    deltas: Option<Vec<DeltaRow>>,
    #[n(7)]
    export: Option<ByteVec>,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
struct DeltaRow {
    #[n(0)]
    pack: PackId,
    #[n(1)]
    bytes: i64,
}

/// What the meta section of a batch holds.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Its frames.
    pub frames: Vec<FrameRow>,
    /// Its index changes, in order.
    pub changes: Vec<Change>,
    /// Number of the first audit record.
    pub first_record: u64,
    /// Encoded audit records, in order.
    pub records: Vec<Vec<u8>>,
    /// High-water mark of the store's number sequence.
    pub sequence: u64,
    /// Time of the last transaction.
    pub time: i64,
    /// By how many bytes of frames that are referred to each pack gained or lost.
    pub deltas: BTreeMap<PackId, i64>,
    /// Part of an export of the index, encoded ([`super::export`]); replay passes it by.
    pub export: Option<Vec<u8>>,
}

impl Meta {
    /// The plaintext of the section.
    pub fn encode(&self) -> Vec<u8> {
        let rows = MetaRows {
            frames: self.frames.clone(),
            changes: self
                .changes
                .iter()
                .map(|change| ChangeRow {
                    table: change.table as u8,
                    key: change.key.clone().into(),
                    value: change.value.clone().map(Into::into),
                })
                .collect(),
            first_record: self.first_record,
            records: self.records.iter().cloned().map(Into::into).collect(),
            sequence: self.sequence,
            time: self.time,
            deltas: (!self.deltas.is_empty())
                .then(|| self.deltas.iter().map(|(&pack, &bytes)| DeltaRow { pack, bytes }).collect()),
            export: self.export.clone().map(Into::into),
        };
        let mut bytes = Vec::new();
        // Encoding into a Vec cannot fail.
        match minicbor::encode(&rows, &mut bytes) {
            Ok(()) => bytes,
            Err(never) => match never.into_write() {
                None | Some(_) => bytes,
            },
        }
    }

    /// Reads the plaintext of the section.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rows: MetaRows = minicbor::decode(bytes).ok()?;
        let change = |row: ChangeRow| {
            Some(Change {
                table: Table::from_number(row.table)?,
                key: row.key.into(),
                value: row.value.map(Into::into),
            })
        };
        Some(Self {
            frames: rows.frames,
            changes: rows.changes.into_iter().map(change).collect::<Option<_>>()?,
            first_record: rows.first_record,
            records: rows.records.into_iter().map(Into::into).collect(),
            sequence: rows.sequence,
            time: rows.time,
            deltas: rows.deltas.into_iter().flatten().map(|row| (row.pack, row.bytes)).collect(),
            export: rows.export.map(Into::into),
        })
    }
}

/// The key that seals one pack's batches.
#[derive(Debug)]
pub struct BatchKey(FastAead);

impl BatchKey {
    /// From the pack's derived key.
    pub fn new(key: &crate::keys::Secret32) -> Self {
        Self(FastAead::new(key))
    }
}

fn nonce(domain: [u8; 4], number: BatchNumber) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&domain);
    nonce[4..].copy_from_slice(&number.0.to_le_bytes());
    nonce
}

fn place_aad(pack: PackId, offset: u64, number: BatchNumber) -> [u8; 32] {
    let mut aad = [0; 32];
    aad[..8].copy_from_slice(MAGIC);
    aad[8..16].copy_from_slice(&pack.0.to_le_bytes());
    aad[16..24].copy_from_slice(&offset.to_le_bytes());
    aad[24..].copy_from_slice(&number.0.to_le_bytes());
    aad
}

/// Blocks of a batch with this much frames and meta plaintext.
pub fn blocks_for(frames_bytes: usize, meta_plain_bytes: usize) -> usize {
    (HEADER_BYTES + frames_bytes + meta_plain_bytes + TAG_BYTES).div_ceil(BLOCK_BYTES)
}

/// Where a batch stands and what it follows.
#[derive(Clone, Debug)]
pub struct BatchPlace {
    /// In which pack.
    pub pack: PackId,
    /// At which byte.
    pub offset: u64,
    /// Its number.
    pub number: BatchNumber,
    /// Tag of the batch before.
    pub previous: [u8; TAG_BYTES],
    /// The newest durable batch.
    pub synced_through: BatchNumber,
    /// The newest transaction.
    pub last_commit: CommitNumber,
}

/// Finishes a batch: `buffer` holds `HEADER_BYTES` zeros and the frames; seals `meta` behind them, pads, fills the header in.
/// Returns the header's tag; nothing when a length passes its bound or there is no randomness.
pub fn finish(
    key: &BatchKey,
    place: &BatchPlace,
    buffer: &mut AlignedBuffer,
    mut meta: Vec<u8>,
) -> Option<[u8; TAG_BYTES]> {
    let frames_bytes = buffer.len() - HEADER_BYTES;
    let blocks = blocks_for(frames_bytes, meta.len());
    let aad = place_aad(place.pack, place.offset, place.number);
    let tag = key.0.seal(nonce(META_DOMAIN, place.number), &aad, &mut meta)?;
    meta.extend_from_slice(&tag);
    buffer.extend(&meta);
    let filled = buffer.len();
    buffer.pad_to(blocks * BLOCK_BYTES);
    // Random padding: where a batch ends inside its last block does not show.
    aws_lc_rs::rand::fill(&mut buffer.bytes_mut()[filled..]).ok()?;
    let header = BatchHeader {
        number: place.number,
        blocks: u32::try_from(blocks).ok()?,
        frames_bytes: u32::try_from(frames_bytes).ok()?,
        meta_bytes: u32::try_from(meta.len()).ok()?,
        last_commit: place.last_commit,
        previous: place.previous,
        synced_through: place.synced_through,
        checksum: xxh3_128(&buffer.bytes()[HEADER_BYTES..]),
    };
    let mut sealed = [0; SEALED_BYTES];
    sealed[..4].copy_from_slice(&header.blocks.to_le_bytes());
    sealed[4..8].copy_from_slice(&header.frames_bytes.to_le_bytes());
    sealed[8..12].copy_from_slice(&header.meta_bytes.to_le_bytes());
    sealed[16..24].copy_from_slice(&header.last_commit.0.to_le_bytes());
    sealed[24..40].copy_from_slice(&header.previous);
    sealed[40..48].copy_from_slice(&header.synced_through.0.to_le_bytes());
    sealed[48..64].copy_from_slice(&header.checksum.to_le_bytes());
    let tag = key.0.seal(nonce(HEADER_DOMAIN, place.number), &aad, &mut sealed)?;
    let block = buffer.bytes_mut();
    block[..8].copy_from_slice(MAGIC);
    block[8..16].copy_from_slice(&place.number.0.to_le_bytes());
    block[16..16 + SEALED_BYTES].copy_from_slice(&sealed);
    block[16 + SEALED_BYTES..HEADER_BYTES].copy_from_slice(&tag);
    Some(tag)
}

/// Opens a batch header at a place; with its tag. Nothing when it is none, belongs elsewhere or was changed.
pub fn open_header(
    key: &BatchKey,
    pack: PackId,
    offset: u64,
    bytes: &[u8],
) -> Option<(BatchHeader, [u8; TAG_BYTES])> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    bytes.starts_with(MAGIC).then_some(())?;
    let number = BatchNumber(u64::from_le_bytes(*bytes[8..].first_chunk()?));
    let mut sealed: [u8; SEALED_BYTES] = *bytes[16..].first_chunk()?;
    let tag: [u8; TAG_BYTES] = *bytes[16 + SEALED_BYTES..].first_chunk()?;
    key.0
        .open(nonce(HEADER_DOMAIN, number), &place_aad(pack, offset, number), &mut sealed, &tag)
        .then_some(())?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(*sealed.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(*sealed.get(at..)?.first_chunk()?));
    let header = BatchHeader {
        number,
        blocks: u32_at(0)?,
        frames_bytes: u32_at(4)?,
        meta_bytes: u32_at(8)?,
        last_commit: CommitNumber(u64_at(16)?),
        previous: *sealed.get(24..)?.first_chunk()?,
        synced_through: BatchNumber(u64_at(40)?),
        checksum: u128::from_le_bytes(*sealed.get(48..)?.first_chunk()?),
    };
    let filled = HEADER_BYTES as u64 + u64::from(header.frames_bytes) + u64::from(header.meta_bytes);
    let blocks = filled.div_ceil(BLOCK_BYTES as u64);
    (u64::from(header.blocks) == blocks && header.meta_bytes as usize >= TAG_BYTES).then_some((header, tag))
}

/// Verifies and opens what follows a header (`body` = the rest of the batch after `HEADER_BYTES`).
pub fn open_body(
    key: &BatchKey,
    pack: PackId,
    offset: u64,
    header: &BatchHeader,
    body: &[u8],
) -> Option<Meta> {
    (xxh3_128(body) == header.checksum).then_some(())?;
    let from = usize::try_from(header.frames_bytes).ok()?;
    let sealed = body.get(from..from.checked_add(usize::try_from(header.meta_bytes).ok()?)?)?;
    open_meta(key, pack, offset, header, sealed)
}

/// Opens the meta section alone, whatever the frames before it have become.
pub fn open_meta(
    key: &BatchKey,
    pack: PackId,
    offset: u64,
    header: &BatchHeader,
    sealed: &[u8],
) -> Option<Meta> {
    let (meta, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let mut meta = meta.to_vec();
    let aad = place_aad(pack, offset, header.number);
    key.0.open(nonce(META_DOMAIN, header.number), &aad, &mut meta, tag).then_some(())?;
    Meta::decode(&meta)
}
