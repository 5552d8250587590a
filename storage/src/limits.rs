//! Every bound of the store: its name, its unit, its reason.

/// Plaintext bytes of the largest chunk: FastCDC's maximum, and a bound on what one read decrypts.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Plaintext bytes FastCDC aims at: dedup of edited dumps against index size (measured: 64 KiB).
pub const CHUNK_BYTES_AVG: usize = 64 * 1024;
/// Plaintext bytes below which FastCDC does not cut.
pub const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// Plaintext bytes below which a chunk is not compressed: it would hardly get smaller.
pub const COMPRESSED_BYTES_MIN: usize = 256;
/// File bytes covered by one segment record.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Extents shorter than a sequential stream's in one segment, above which it is written anew: below, a disk hardly notices.
pub const FRAGMENTS_MAX: usize = 64;
/// A batch is closed at this many bytes even if the previous sync is still running.
pub const BATCH_BYTES_TARGET: usize = 8 * 1024 * 1024;
/// Bytes up to which a batch counts as small: what its sync costs is not its bytes.
pub const SMALL_BATCH_BYTES: usize = 128 * 1024;
/// Zeros written behind a small batch now and then. A sync of blocks that were written before costs about half of one of
/// blocks that are only allocated, whose state the file system must write too; a hundred small batches share the zeros.
pub const ZEROS_AHEAD_BYTES: usize = 1024 * 1024;
/// Alignment of batches in a pack: `O_DIRECT`'s, and the unit in which lengths show from outside.
pub const BLOCK_BYTES: usize = 4096;
/// Size of a pack on disk.
pub const PACK_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of log after which the index is synced.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// Seconds after which the index is synced when anything changed.
pub const CHECKPOINT_SECS: u64 = 1;
/// Changes of durable batches after which the index takes them, if no checkpoint comes before: some forty files. It takes that
/// many for little more than those of one file, and whoever commits meanwhile waits a millisecond or two.
pub const UNAPPLIED_CHANGES_MAX: usize = 512;
/// Changes that replay gathers before it gives them to the index: some 50 MiB, and enough that each page is touched once.
pub const REPLAY_CHANGES_MAX: usize = 100_000;
/// Milliseconds after which a transaction is durable although nobody waits for it: short enough that a crash takes little of
/// what was only opened, listed or closed for reading, long enough that most of it shares a sync with what somebody waits for.
pub const UNAWAITED_MILLIS_MAX: u64 = 500;
/// Seconds after which a signed audit checkpoint is made while there is traffic.
pub const AUDIT_CHECKPOINT_SECS: u64 = 60;
/// Seconds after which the trees of customers with new records are signed: a note has 250 bytes, and there may be thousands
/// of customers. Whoever asks for one customer's log gets a fresh one.
pub const CUSTOMER_CHECKPOINT_SECS: u64 = 3600;
/// Bytes of a name: what every client's host allows too.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a symbolic link's target: `PATH_MAX`.
pub const LINK_BYTES_MAX: usize = 4096;
/// Bytes of all properties of one inode.
pub const PROPERTIES_BYTES_MAX: usize = 64 * 1024;
/// Size of the largest file: 8 TiB keeps a segment list at 131,072 entries.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024 * 1024;
/// Dirty bytes of one open file before it stages chunks; each run of them counts a block more, to which it may be widened.
pub const DIRTY_BYTES_TARGET: usize = 1024 * 1024;
/// The same of all open files together, above which a writer stages what its own file holds at once: some fifty uploads at
/// full speed, and little beside the chunk cache and the index cache.
pub const UNSAVED_BYTES_ALL: usize = 64 * 1024 * 1024;
/// New chunks of one open file after which its changed segments are stored, long before its commit: 1 GiB of a stream, 64 MiB
/// of crumbs. Storing more often would write the segments of a file in crumbs too often.
pub const SETTLE_CHUNKS: usize = 1 << 14;
/// Extents in changed segments of one open file, for each of those chunks, above which they are stored: a few random writes
/// into a large file change many long segments. A million in all: some 80 MiB of memory.
pub const SETTLE_EXTENTS: usize = 64;
/// Extents in changed segments of all open files, above which each file is stored when it has as many as those
/// chunks: some 320 MiB of memory.
pub const EXTENTS_UNSAVED_MAX: usize = 1 << 22;
/// Extents that one transaction of that stores, about: it holds the writer lock for some milliseconds.
pub const SETTLE_EXTENTS_PIECE: usize = 1 << 12;
/// Extents of one segment: four times as many as writes of 4 KiB make, in a record of some 3 MiB. A file that is written in
/// smaller pieces with holes between them is refused more.
pub const SEGMENT_EXTENTS_MAX: usize = 1 << 16;
/// Bytes between two frames that are fetched along when both are to be read: less than asking the disk twice costs.
pub const READ_GAP_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of decrypted chunks kept for readers, all files together.
pub const CHUNK_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Superseded states that one transaction prunes: it holds the writer lock for some milliseconds.
pub const PRUNE_ROWS_MAX: usize = 256;
/// Chunks whose references one transaction of reclaim changes, about.
pub const PRUNE_CHUNKS_MAX: usize = 1024;
/// Bytes of journal after which a transaction of reclaim ends.
pub const RECLAIM_JOURNAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Index records that one transaction of an erasure deletes.
pub const ERASE_ROWS_MAX: usize = 2000;
/// Bytes of frames that reclaim carries forward in one step.
pub const REPACK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Legal holds on one vault.
pub const HOLDS_MAX: usize = 100;
/// Bytes of the reason of a hold.
pub const HOLD_REASON_BYTES_MAX: usize = 500;
/// Rows of history looked at in one go.
pub const HISTORY_PIECE: usize = 1024;
/// Moments of one vault whose place among the commits is remembered: a few dozen bytes each.
pub const VIEWS_MAX: usize = 32;
/// Named snapshots of one vault: each is asked for every superseded state that is pruned.
pub const SNAPSHOTS_MAX: usize = 1000;
/// Bytes of a snapshot's name.
pub const SNAPSHOT_NAME_BYTES_MAX: usize = 64;
/// Locks of one holder in one vault: an office suite holds a dozen.
pub const LOCKS_OF_HOLDER_MAX: usize = 1000;
/// Locks in one vault: each is looked at when a directory is moved or removed.
pub const LOCKS_OF_VAULT_MAX: usize = 10_000;
/// Locks in all, in memory about 150 bytes each.
pub const LOCKS_MAX: u64 = 100_000;
/// Bytes of what a client says of a lock's owner.
pub const LOCK_OWNER_BYTES_MAX: usize = 4096;
/// Bytes of cached chunks that one read holds on to: extents of a fragmented file may each show a few bytes of a large chunk.
pub const PINNED_BYTES_MAX: usize = 512 * 1024;
/// Bytes of index pages kept in memory, for a small index: the branch pages of some two million files.
pub const INDEX_CACHE_BYTES_MIN: usize = 32 * 1024 * 1024;
/// The same for a large one: those of ten million files. The allocator makes up to 2.4 times of it (measured), so twice
/// as much would not stay below 512 MiB of memory.
pub const INDEX_CACHE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Uploads in parts looked at in one go for those that expired.
pub const PARTS_EXPIRED_PIECE: usize = 256;
/// Hard links to one inode.
pub const LINKS_MAX: u32 = 65_000;
/// Journal bytes of one transaction: a larger one is refused, or it would not fit a pack.
pub const JOURNAL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Changes in one transaction of a restore: writers wait for it a few milliseconds.
pub const RESTORE_OPERATIONS: usize = 500;
/// Journal bytes after which a restore ends its transaction: long before a batch is full.
pub const RESTORE_JOURNAL_BYTES: usize = 1024 * 1024;
/// Transactions of a restore that are not waited for yet: bounds what is in memory and not on the disk.
pub const RESTORE_TICKETS_MAX: usize = 16;
/// Names that a restore looks at in one go: a directory's rows, and their properties at worst, are held in memory.
pub const RESTORE_NAMES_PIECE: usize = 256;
/// Per cent of a limit that are told of when they are reached: time to act, little time, none.
pub const QUOTA_LEVELS: [u64; 3] = [80, 95, 100];
/// Incidents that one question gives: a page; whoever wants more asks again from the last.
pub const INCIDENTS_MAX: usize = 10_000;
/// Bytes of one part of an index that is written into the log: what a commit may wait for besides its own batch.
pub const EXPORT_PART_BYTES: usize = 1024 * 1024;
/// Rows of the index read at a time for an export.
pub const EXPORT_PIECE_MAX: usize = 4096;
/// Bytes of rows or audit records held in memory while a store is rebuilt.
pub const REBUILD_BYTES_PENDING: usize = 8 * 1024 * 1024;
/// Audit records of changes that no batch tells of, listed one by one; each may be 32 KiB, most are 300 bytes.
pub const LOST_CHANGES_MAX: usize = 10_000;
/// Files that are listed as damaged one by one.
pub const LOST_FILES_MAX: usize = 1_000_000;
/// Findings of one check that are told one by one, and repaired at a time: about 100 bytes each.
pub const FINDINGS_MAX: usize = 100_000;
/// Chunks of one vault that cannot be read, of which one check tells the files: about 50 bytes each.
pub const DAMAGED_CHUNKS_MAX: usize = 1_000_000;
/// Files that one check lists because something of them cannot be read: what a person can go through.
pub const CONCERNED_FILES_MAX: usize = 10_000;
/// Bytes of a path that is put together from names: what any protocol takes.
pub const PATH_BYTES_MAX: usize = 64 * 1024;
/// Rows that one transaction of a repair changes: it holds the writer lock for some milliseconds.
pub const REPAIR_ROWS_MAX: usize = 512;
/// Times a repair looks again: what is restored shows what else is to be counted.
pub const REPAIR_PASSES_MAX: usize = 8;
/// KiB of memory that Argon2id takes for a passphrase slot, passes and lanes: the second recommendation of RFC 9106. A slot is
/// opened a few times a day, so it may cost some hundred milliseconds.
pub const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
/// Passes of Argon2id for a passphrase slot.
pub const ARGON2_PASSES: u32 = 3;
/// Lanes of Argon2id for a passphrase slot, and the most that one may say.
pub const ARGON2_LANES_MAX: u32 = 4;
/// KiB below which a slot's memory cost is not believed: what OWASP recommends at least.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 19 * 1024;
/// KiB above which it is not: a slot must not have the gateway's memory.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Passes below which a slot's cost is not believed.
pub const ARGON2_PASSES_MIN: u32 = 2;
/// Passes above which it is not.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Slots of one vault: every token of a customer's users may have one.
pub const SLOTS_MAX: usize = 1024;
