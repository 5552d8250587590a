//! What the index holds of a vault (FORMAT.md section 7): keys, and values as CBOR before they are sealed.

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::allowance::Limit;
use crate::error::StoreError;
use crate::frame::{Compression, FramePlace};
use crate::id::{ChunkId, CommitNumber, ContentId, InodeId, OwnerId, PackId, SegmentId, VaultId};
use crate::keys::ManagedSlot;
use crate::time::UnixNanos;

/// Extents that a content may hold in its inode's own record; more go to segments.
pub(crate) const INLINE_EXTENTS_MAX: usize = 16;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link: its target is data, resolved by the caller inside the namespace.
    #[n(2)]
    SymbolicLink,
}

/// Value of `Table::Vaults`.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct VaultRow {
    #[n(0)]
    pub(crate) owner: OwnerId,
    #[n(1)]
    pub(crate) name: String,
    #[n(2)]
    pub(crate) created: UnixNanos,
    #[n(3)]
    pub(crate) retention_secs: u64,
    #[n(4)]
    pub(crate) managed: Option<ManagedSlot>,
    /// A shorter retention that is waiting for its grace time to pass.
    #[n(5)]
    pub(crate) shortening: Option<Shortening>,
    /// Legal holds, oldest first.
    #[n(6)]
    pub(crate) holds: Option<Vec<HoldRow>>,
    /// Absent: on.
    #[n(7)]
    pub(crate) compression: Option<CompressionSetting>,
    #[n(8)]
    pub(crate) bytes_max: Option<u64>,
    #[n(9)]
    pub(crate) files_max: Option<u64>,
    /// Of what the vault takes on the disk, history too.
    #[n(10)]
    pub(crate) stored_max: Option<u64>,
    /// When it was erased: no slot, no content, only its name is left.
    #[n(11)]
    pub(crate) erased: Option<UnixNanos>,
    /// Superseded states that ended before this may have been pruned.
    #[n(12)]
    pub(crate) pruned: Option<UnixNanos>,
    /// Batches were lost while it was locked: its references are to be counted before anything of it goes.
    #[n(13)]
    pub(crate) recount_due: Option<bool>,
}

/// A retention that becomes shorter after a grace time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Shortening {
    #[n(0)]
    pub(crate) retention_secs: u64,
    /// From when on.
    #[n(1)]
    pub(crate) at: UnixNanos,
}

/// A legal hold on a vault (no directory) or a subtree.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HoldRow {
    /// From the store's sequence.
    #[n(0)]
    pub(crate) number: u64,
    /// The directory or file it covers; the root for the whole vault.
    #[n(1)]
    pub(crate) inode: InodeId,
    /// Since when.
    #[n(2)]
    pub(crate) since: UnixNanos,
    /// Why, in the operator's words, sealed with the row.
    #[n(3)]
    pub(crate) reason: String,
}

/// Whether chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum CompressionSetting {
    #[n(0)]
    Off,
    #[n(1)]
    Lz4,
}

impl VaultRow {
    pub(crate) fn compression(&self) -> Compression {
        match self.compression {
            Some(CompressionSetting::Off) => Compression::Off,
            Some(CompressionSetting::Lz4) | None => Compression::Lz4,
        }
    }
}

/// Value of `Table::Usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct UsageRow {
    #[n(0)]
    pub(crate) bytes: u64,
    #[n(1)]
    pub(crate) inodes: u64,
    /// Plaintext bytes of the vault's distinct chunks, those of history too.
    #[n(2)]
    pub(crate) unique: Option<u64>,
    /// Bytes of their frames.
    #[n(3)]
    pub(crate) stored: Option<u64>,
}

/// When a state began: in which transaction, at what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Moment {
    #[n(0)]
    pub(crate) commit: CommitNumber,
    #[n(1)]
    pub(crate) time: UnixNanos,
}

/// Value of `Table::Snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnapshotRow {
    #[n(0)]
    pub(crate) name: String,
    #[n(1)]
    pub(crate) moment: Moment,
    /// From when on it is gone; absent: kept until it is deleted.
    #[n(2)]
    pub(crate) expires: Option<UnixNanos>,
}

/// Bytes of a file that lie in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Extent {
    /// Offset in the file.
    #[n(0)]
    pub(crate) start: u64,
    #[n(1)]
    pub(crate) len: u32,
    #[n(2)]
    pub(crate) chunk: ChunkId,
    /// Offset in the chunk.
    #[n(3)]
    pub(crate) skip: u32,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// Where a content's extents are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Body {
    /// Here, ordered, not overlapping; holes are absent.
    #[n(0)]
    Inline(#[n(0)] Vec<Extent>),
    /// One segment for each 64 MiB; nothing for a hole.
    #[n(1)]
    Segments(#[n(0)] Vec<Option<SegmentId>>),
}

/// One state of a file's content. Never changed: a changed file gets another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Content {
    #[n(0)]
    pub(crate) id: ContentId,
    #[n(1)]
    pub(crate) size: u64,
    /// Bytes that are not holes.
    #[n(2)]
    pub(crate) stored: u64,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) blake3: Option<[u8; 32]>,
    #[n(4)]
    pub(crate) body: Body,
}

impl Content {
    pub(crate) fn empty(id: ContentId) -> Self {
        Self {
            id,
            size: 0,
            stored: 0,
            blake3: Some(*blake3::hash(b"").as_bytes()),
            body: Body::Inline(Vec::new()),
        }
    }
}

/// Value of `Table::Inodes`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct InodeRow {
    #[n(0)]
    pub(crate) kind: Kind,
    #[n(1)]
    pub(crate) mode: u32,
    #[n(2)]
    pub(crate) uid: u32,
    #[n(3)]
    pub(crate) gid: u32,
    #[n(4)]
    pub(crate) atime: UnixNanos,
    #[n(5)]
    pub(crate) mtime: UnixNanos,
    #[n(6)]
    pub(crate) ctime: UnixNanos,
    #[n(7)]
    pub(crate) links: u32,
    #[n(8)]
    pub(crate) begin: Moment,
    /// Of a file; empty for others.
    #[n(9)]
    pub(crate) content: Content,
    /// Of a symbolic link.
    #[n(10)]
    pub(crate) target: Option<ByteVec>,
    #[n(11)]
    pub(crate) properties: BTreeMap<ByteVec, ByteVec>,
    #[n(12)]
    pub(crate) incomplete: bool,
    /// Of a directory: the one above.
    #[n(13)]
    pub(crate) parent: Option<InodeId>,
    /// Of a directory: when a name last came or went since this state began. Names' own history tells of earlier times.
    #[n(14)]
    pub(crate) touched: Option<UnixNanos>,
    /// Of a directory: when a name last came or went among those whose history was pruned.
    #[n(15)]
    pub(crate) folded: Option<UnixNanos>,
}

impl InodeRow {
    /// A new one: of nobody, with one name, with times and the modes that a system gives, as a client that asks for none
    /// finds it.
    pub(crate) fn new(kind: Kind, begin: Moment, content: Content) -> Self {
        let mode = match kind {
            Kind::File => 0o644,
            Kind::Directory => 0o755,
            Kind::SymbolicLink => 0o777,
        };
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            atime: begin.time,
            mtime: begin.time,
            ctime: begin.time,
            links: 1,
            begin,
            content,
            target: None,
            properties: BTreeMap::new(),
            incomplete: false,
            parent: None,
            touched: None,
            folded: None,
        }
    }

    /// Refuses what has no content of its own.
    pub(crate) fn only_file(&self) -> Result<(), StoreError> {
        match self.kind {
            Kind::File => Ok(()),
            Kind::Directory => Err(StoreError::IsADirectory),
            Kind::SymbolicLink => Err(StoreError::WrongKind),
        }
    }

    /// What the state after this one begins with.
    pub(crate) fn successor(&self) -> Self {
        let mut next = self.clone();
        if let Some(touched) = next.touched.take() {
            next.mtime = touched;
        }
        next.folded = None;
        next
    }
}

/// Value of `Table::Dentries`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DentryRow {
    #[n(0)]
    pub(crate) name: ByteVec,
    #[n(1)]
    pub(crate) inode: InodeId,
    #[n(2)]
    pub(crate) kind: Kind,
    #[n(3)]
    pub(crate) begin: Moment,
}

/// Value of the history tables: what was, until when.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct PastRow<T> {
    #[n(0)]
    pub(crate) row: T,
    #[n(1)]
    pub(crate) end: Moment,
}

/// Value of `Table::Segments`.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct SegmentRow {
    /// Contents that list it, and the upload that holds it; `Table::Shares` counts more of them.
    #[n(0)]
    pub(crate) refs: u64,
    /// Ordered, not overlapping, all inside the segment.
    #[n(1)]
    pub(crate) extents: Vec<Extent>,
}

/// Value of `Table::Shares`: a segment gains and loses holders without being written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ShareRow {
    /// Holders beyond those that the segment's own row counts.
    #[n(0)]
    pub(crate) more: u64,
}

/// Value of `Table::Chunks`.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub(crate) struct ChunkRow {
    #[n(0)]
    pub(crate) place: FramePlace,
    /// Segments and inline contents that hold it, each counted once. At 0 it waits in `Table::Garbage`.
    #[n(1)]
    pub(crate) refs: u64,
    /// When its frame was found not to open: set aside until the same bytes come again.
    #[n(2)]
    pub(crate) damaged: Option<UnixNanos>,
}

/// Value of `Table::Locks`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LockRow {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) token: [u8; 16],
    /// Whose, as the caller names him.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) holder: [u8; 16],
    #[n(2)]
    pub(crate) scope: LockScope,
    #[n(3)]
    pub(crate) depth: LockDepth,
    #[n(4)]
    pub(crate) expires: UnixNanos,
    /// The directory of the name through which it was taken; none of the root. A move ends the lock, so it stays true.
    #[n(5)]
    pub(crate) parent: Option<InodeId>,
    /// Names from the root when it was taken: true for as long as the lock lives, since a move of anything above ends it.
    #[n(6)]
    pub(crate) path: Vec<ByteVec>,
    /// What the client said of its owner.
    #[n(7)]
    pub(crate) owner: String,
}

/// Whether others may have a lock beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LockScope {
    /// Nobody.
    #[n(0)]
    Exclusive,
    /// Those who share it.
    #[n(1)]
    Shared,
}

/// How far down a lock reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LockDepth {
    /// What it is on; of a directory its names too.
    #[n(0)]
    Zero,
    /// And all below.
    #[n(1)]
    Infinity,
}

/// Value of `Table::Incidents`.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct IncidentRow {
    #[n(0)]
    pub(crate) time: UnixNanos,
    #[n(1)]
    pub(crate) kind: IncidentKind,
    #[n(2)]
    pub(crate) vault: Option<VaultId>,
    #[n(3)]
    pub(crate) inode: Option<InodeId>,
    #[n(4)]
    pub(crate) owner: Option<OwnerId>,
    /// Of a level of a limit: per cent.
    #[n(5)]
    pub(crate) value: Option<u64>,
    #[n(6)]
    pub(crate) limit: Option<Limit>,
    #[n(7)]
    pub(crate) pack: Option<PackId>,
    #[n(8)]
    pub(crate) chunk: Option<ChunkId>,
    #[n(9)]
    pub(crate) text: Option<String>,
}

/// What an incident is. The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum IncidentKind {
    /// An upload broke off before its end.
    #[n(1)]
    BrokenUpload,
    /// A limit is used up so far, or something was refused because of it.
    #[n(2)]
    QuotaLevel,
    /// Stored bytes are not what was written.
    #[n(3)]
    Damage,
    /// A backup was not made, or not whole.
    #[n(4)]
    Backup,
    /// A certificate ends, or a new one cannot be used.
    #[n(5)]
    Certificate,
    /// A checkpoint of the audit log does not reach its witness, or is not what the witness has.
    #[n(14)]
    Witness,
}

pub(crate) fn encode<T: Encode<()>>(row: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    minicbor::encode(row, &mut bytes).map_err(|_| StoreError::TooLarge("an index record"))?;
    Ok(bytes)
}

pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, StoreError> {
    minicbor::decode(bytes).map_err(|_| StoreError::DamagedRecord)
}

/// vault | number.
pub(crate) fn number_key(vault: VaultId, number: u64) -> Vec<u8> {
    [&vault.0[..], &number.to_be_bytes()].concat()
}

pub(crate) fn inode_key(vault: VaultId, inode: InodeId) -> Vec<u8> {
    number_key(vault, inode.0)
}

pub(crate) fn segment_key(vault: VaultId, segment: SegmentId) -> Vec<u8> {
    number_key(vault, segment.0)
}

pub(crate) fn chunk_key(vault: VaultId, chunk: ChunkId) -> Vec<u8> {
    [&vault.0[..], &chunk.0].concat()
}

pub(crate) fn dentry_key(vault: VaultId, parent: InodeId, mac: [u8; 16]) -> Vec<u8> {
    [&vault.0[..], &parent.0.to_be_bytes(), &mac].concat()
}

/// Key of `Table::Slots`.
pub(crate) fn slot_key(vault: VaultId, number: u64) -> Vec<u8> {
    [&vault.0[..], &number.to_be_bytes()].concat()
}

pub(crate) fn usage_key(owner: OwnerId, vault: VaultId) -> Vec<u8> {
    [owner.0, vault.0].concat()
}

/// The key of a superseded state: the live one's, the transaction that ended it, the one that began it.
pub(crate) fn past_key(live: &[u8], end: CommitNumber, begin: CommitNumber) -> Vec<u8> {
    [live, &end.0.to_be_bytes(), &begin.0.to_be_bytes()].concat()
}

/// What the key of a superseded state tells without being opened. Format 1 did not write the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PastSpan {
    pub(crate) end: CommitNumber,
    pub(crate) begin: Option<CommitNumber>,
}

impl PastSpan {
    /// Of a key whose live part has `live_bytes`.
    pub(crate) fn of(key: &[u8], live_bytes: usize) -> Option<Self> {
        let span = key.get(live_bytes..)?;
        let (end, rest) = span.split_first_chunk::<8>()?;
        let begin = match rest {
            [] => None,
            rest => Some(CommitNumber(u64::from_be_bytes(rest.try_into().ok()?))),
        };
        Some(Self { end: CommitNumber(u64::from_be_bytes(*end)), begin })
    }
}

/// vault | number.
pub(crate) fn snapshot_key(vault: VaultId, number: u64) -> Vec<u8> {
    number_key(vault, number)
}

/// vault | inode | number.
pub(crate) fn lock_key(vault: VaultId, inode: InodeId, number: u64) -> Vec<u8> {
    [&vault.0[..], &inode.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

pub(crate) fn digest_key(vault: VaultId, content: ContentId) -> Vec<u8> {
    number_key(vault, content.0)
}

/// commit | vault | chunk.
pub(crate) fn garbage_key(commit: CommitNumber, vault: VaultId, chunk: ChunkId) -> Vec<u8> {
    [&commit.0.to_be_bytes()[..], &vault.0, &chunk.0].concat()
}

/// Bytes of an inode's key.
pub(crate) const INODE_KEY_BYTES: usize = 24;
/// Bytes of a dentry's key.
pub(crate) const DENTRY_KEY_BYTES: usize = 40;

/// The first key after all that begin with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; prefix.len() + 1]
}
