//! What a check may find, each with what a repair needs to know of it.

use crate::id::{ChunkId, CommitNumber, ContentId, InodeId, OwnerId, PackId, SegmentId, VaultId};
use crate::index::Table;
use crate::rows::UsageRow;

/// A count as it is written down, and as it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What the store says.
    pub said: u64,
    /// What there is.
    pub found: u64,
}

impl Count {
    pub(super) fn differs(said: u64, found: u64) -> Option<Self> {
        (said != found).then_some(Self { said, found })
    }

    /// By how much what is written down must grow.
    pub(super) fn growth(self) -> i64 {
        let (said, found) = (i128::from(self.said), i128::from(self.found));
        i64::try_from(found - said).unwrap_or(i64::MAX)
    }
}

/// One thing that is not as it should be. `Display` says it in words an operator understands, without names of files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Display` says what each is")]
pub enum Finding {
    IndexFile,
    Record {
        table: Table,
        key: Vec<u8>,
    },
    VaultUnavailable {
        vault: VaultId,
    },
    PackHeader {
        pack: PackId,
    },
    PackMissing {
        pack: PackId,
        chunks: u64,
    },
    /// The scrub found it earlier and raised an incident; nobody has repaired it since.
    PackNoted {
        pack: PackId,
    },
    PackCount {
        pack: PackId,
        count: Count,
    },
    Batch {
        pack: PackId,
        offset: u64,
    },
    BatchOrder {
        pack: PackId,
        offset: u64,
    },
    Footer {
        pack: PackId,
        offset: u64,
    },
    PackTail {
        pack: PackId,
    },
    PackUnreadable {
        pack: PackId,
        offset: u64,
    },
    AuditLog {
        damage: String,
    },
    AuditKey,
    AuditAhead {
        signed: CommitNumber,
        store: CommitNumber,
    },
    AuditCount {
        count: Count,
    },
    Usage {
        vault: VaultId,
        owner: OwnerId,
        said: Option<UsageCounts>,
        found: UsageCounts,
    },
    UsageOfNobody {
        key: Vec<u8>,
    },
    Extents {
        vault: VaultId,
        inode: InodeId,
    },
    Kind {
        vault: VaultId,
        inode: InodeId,
    },
    NameKey {
        vault: VaultId,
        parent: InodeId,
    },
    NameParent {
        vault: VaultId,
        parent: InodeId,
        key: Vec<u8>,
    },
    NameTarget {
        vault: VaultId,
        parent: InodeId,
        inode: InodeId,
        key: Vec<u8>,
    },
    Nameless {
        vault: VaultId,
        inode: InodeId,
        begin: CommitNumber,
    },
    Links {
        vault: VaultId,
        inode: InodeId,
        count: Count,
    },
    Parent {
        vault: VaultId,
        inode: InodeId,
        found: InodeId,
    },
    Unreachable {
        vault: VaultId,
        inode: InodeId,
    },
    RootMissing {
        vault: VaultId,
    },
    SegmentReferences {
        vault: VaultId,
        segment: SegmentId,
        count: Count,
    },
    SegmentExtents {
        vault: VaultId,
        segment: SegmentId,
    },
    /// Holders are counted of a segment that nobody lists and that is not there.
    ShareOfNobody {
        vault: VaultId,
        segment: SegmentId,
    },
    SegmentMissing {
        vault: VaultId,
        segment: SegmentId,
    },
    ChunkReferences {
        vault: VaultId,
        chunk: ChunkId,
        count: Count,
    },
    ChunkMissing {
        vault: VaultId,
        chunk: ChunkId,
        references: u64,
    },
    ChunkOutside {
        vault: VaultId,
        chunk: ChunkId,
        pack: PackId,
    },
    ChunkDamaged {
        vault: VaultId,
        chunk: ChunkId,
        pack: PackId,
    },
    ChunkUnreadable {
        vault: VaultId,
        chunk: ChunkId,
        pack: PackId,
    },
    ChunkHealed {
        vault: VaultId,
        chunk: ChunkId,
        pack: PackId,
    },
    NotAwaited {
        vault: VaultId,
        chunk: ChunkId,
    },
    History {
        vault: VaultId,
        table: Table,
        key: Vec<u8>,
        why: &'static str,
    },
    Snapshot {
        vault: VaultId,
        number: u64,
        why: &'static str,
    },
    DigestsOfNothing {
        vault: VaultId,
        content: ContentId,
    },
    LockOfNothing {
        vault: VaultId,
        inode: InodeId,
        number: u64,
    },
    Number {
        table: Table,
        number: u64,
        sequence: u64,
    },
}

/// What a vault uses, as it is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Bytes of current files.
    pub bytes: u64,
    /// Current files, directories and links.
    pub inodes: u64,
    /// Plaintext bytes of distinct chunks.
    pub unique: u64,
    /// Bytes of their frames.
    pub stored: u64,
}

impl From<UsageRow> for UsageCounts {
    fn from(row: UsageRow) -> Self {
        Self {
            bytes: row.bytes,
            inodes: row.inodes,
            unique: row.unique.unwrap_or(0),
            stored: row.stored.unwrap_or(0),
        }
    }
}

impl std::fmt::Display for UsageCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, inodes, unique, stored } = self;
        write!(f, "{bytes} bytes in {inodes} inodes, {unique} of chunks, {stored} of frames")
    }
}

impl std::fmt::Display for Finding {
    #[expect(clippy::too_many_lines, reason = "one table: a line for each")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IndexFile => write!(f, "the index file's own checksums do not hold"),
            Self::Record { table, .. } => write!(f, "a record of table {} is damaged", table.name()),
            Self::VaultUnavailable { vault } => write!(f, "vault {vault} cannot be opened"),
            Self::PackHeader { pack } => write!(f, "pack {pack}: its header is damaged"),
            Self::PackMissing { pack, chunks: 0 } => write!(f, "pack {pack} is missing"),
            Self::PackMissing { pack, chunks } => {
                write!(f, "pack {pack} is missing, and {chunks} chunks with it")
            }
            Self::PackNoted { pack } => write!(
                f,
                "pack {pack} was found damaged by the scrub: `check --repair --read-data` sets aside what cannot be read"
            ),
            Self::PackCount { pack, count } => {
                write!(f, "pack {pack} counts {} bytes in use and has {}", count.said, count.found)
            }
            Self::Batch { pack, offset } => write!(f, "pack {pack} is damaged at byte {offset}"),
            Self::BatchOrder { pack, offset } => {
                write!(f, "pack {pack}: the batch at byte {offset} does not follow the one before it")
            }
            Self::Footer { pack, offset } => write!(f, "pack {pack}: its footer at byte {offset} is damaged"),
            Self::PackTail { pack } => write!(f, "pack {pack} goes on behind its footer"),
            Self::PackUnreadable { pack, offset } => {
                write!(f, "pack {pack} cannot be read at byte {offset}: the disk answers with an error")
            }
            Self::AuditLog { damage } => write!(f, "the audit log: {damage}"),
            Self::AuditKey => write!(f, "the audit log's public key beside it is not its own"),
            Self::AuditAhead { signed, store } => {
                write!(f, "the audit log was signed at transaction {signed}, the store has only {store}")
            }
            Self::AuditCount { count } => {
                write!(f, "the audit log has {} records, the store wrote {}", count.found, count.said)
            }
            Self::Usage { vault, said: Some(said), found, .. } => {
                write!(f, "vault {vault}: counted as {said}, but there are {found}")
            }
            Self::Usage { vault, said: None, found, .. } => {
                write!(f, "vault {vault}: what it uses is not counted; there are {found}")
            }
            Self::UsageOfNobody { .. } => write!(f, "usage is counted for a vault that is not there"),
            Self::Extents { vault, inode } => {
                write!(f, "vault {vault}: inode {inode} has extents that do not fit its size")
            }
            Self::Kind { vault, inode } => {
                write!(f, "vault {vault}: inode {inode} has not what its kind has")
            }
            Self::NameKey { vault, parent } => {
                write!(f, "vault {vault}: a name of directory {parent} is not under its own key")
            }
            Self::NameParent { vault, parent, .. } => {
                write!(f, "vault {vault}: names are in directory {parent}, which is none")
            }
            Self::NameTarget { vault, inode, .. } => {
                write!(f, "vault {vault}: a name leads to inode {inode}, which is not there")
            }
            Self::Nameless { vault, inode, .. } => write!(f, "vault {vault}: inode {inode} has no name"),
            Self::Links { vault, inode, count } => {
                write!(f, "vault {vault}: inode {inode} has {} names and counts {}", count.found, count.said)
            }
            Self::Parent { vault, inode, found } => {
                write!(f, "vault {vault}: directory {inode} is named in {found} and says otherwise")
            }
            Self::Unreachable { vault, inode } => {
                write!(f, "vault {vault}: no way leads from the root to directory {inode}")
            }
            Self::RootMissing { vault } => write!(f, "vault {vault}: its root is missing"),
            Self::SegmentReferences { vault, segment, count } => write!(
                f,
                "vault {vault}: segment {segment} counts {} references and has {}",
                count.said, count.found
            ),
            Self::SegmentExtents { vault, segment } => {
                write!(f, "vault {vault}: segment {segment} has extents out of order")
            }
            Self::ShareOfNobody { vault, segment } => {
                write!(f, "vault {vault}: holders are counted of segment {}, which is not there", segment.0)
            }
            Self::SegmentMissing { vault, segment } => {
                write!(f, "vault {vault}: segment {segment} is missing")
            }
            Self::ChunkReferences { vault, chunk, count } => {
                write!(f, "vault {vault}: {chunk:?} counts {} references and has {}", count.said, count.found)
            }
            Self::ChunkMissing { vault, chunk, .. } => write!(f, "vault {vault}: {chunk:?} is missing"),
            Self::ChunkOutside { vault, chunk, pack } => {
                write!(f, "vault {vault}: {chunk:?} lies outside of pack {pack}")
            }
            Self::ChunkDamaged { vault, chunk, pack } => {
                write!(f, "vault {vault}: {chunk:?} in pack {pack} is damaged")
            }
            Self::ChunkUnreadable { vault, chunk, pack } => write!(
                f,
                "vault {vault}: {chunk:?} in pack {pack} cannot be read: the disk answers with an error"
            ),
            Self::ChunkHealed { vault, chunk, pack } => {
                write!(f, "vault {vault}: {chunk:?} in pack {pack} was set aside, and is whole")
            }
            Self::NotAwaited { vault, chunk } => {
                write!(
                    f,
                    "vault {vault}: {chunk:?} is referred to by nobody and not on the list of what goes"
                )
            }
            Self::History { vault, table, why, .. } => {
                write!(f, "vault {vault}: a record of table {} {why}", table.name())
            }
            Self::Snapshot { vault, number, why } => write!(f, "vault {vault}: snapshot {number} {why}"),
            Self::DigestsOfNothing { vault, content } => {
                write!(f, "vault {vault}: digests are kept of content {}, which is not there", content.0)
            }
            Self::LockOfNothing { vault, inode, .. } => {
                write!(f, "vault {vault}: there is a lock on inode {inode}, which is not there")
            }
            Self::Number { table, number, sequence } => {
                write!(f, "table {} uses number {number}, the sequence is at {sequence} only", table.name())
            }
        }
    }
}
