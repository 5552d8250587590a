//! Stores that are wrong in every way the index allows, and that check finds nothing more in once they are repaired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::{RepairKind, RepairReport};
use crate::audit::{Action, Actor, RecordDraft};
use crate::blob::memory::MemoryBlobs;
use crate::check::{CheckOptions, CheckReport, Finding};
use crate::commit::{IndexChoice, PackCountRow};
use crate::id::{CommitNumber, ContentId, InodeId, OwnerId, PackId, SegmentId, VaultId};
use crate::index::memory::MemoryIndex;
use crate::index::{Change, Index, Table};
use crate::keys::GatewayKey;
use crate::rows::{
    Body, ChunkRow, Content, DentryRow, InodeRow, Kind, SegmentRow, UsageRow, after_prefix, decode,
    dentry_key, encode, inode_key, segment_key, usage_key,
};
use crate::secret::Secret32;
use crate::time::{Clock, UnixNanos};
use crate::tree::AttributeChange;
use crate::tree::lock::{LockDepth, LockDraft, LockScope, LockTarget, LockToken};
use crate::upload::Completion;
use crate::{Store, StoreError, StoreOptions, Vault};

const OWNER: OwnerId = OwnerId([1; 16]);
/// More than one segment.
const LARGE: usize = 65 << 20;

#[derive(Debug, Default)]
struct Tick(AtomicI64);

impl Clock for Tick {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_700_000_000_000_000_000 + self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}

fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::Operator, action)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

struct Made {
    blobs: MemoryBlobs,
    index: MemoryIndex,
    id: VaultId,
    store: Store,
    files: Vec<(&'static [u8], Vec<u8>)>,
}

fn options(blobs: &MemoryBlobs, index: &MemoryIndex) -> StoreOptions {
    StoreOptions {
        directory: std::path::PathBuf::new(),
        blobs: Arc::new(blobs.clone()),
        index: IndexChoice::Given(Arc::new(index.clone())),
        clock: Arc::new(Tick::default()),
        gateway_key: GatewayKey::from_secret(Secret32::new([7; 32])),
        pack_bytes: 8 << 20,
        settle_chunks: 4,
        reserve_bytes: 0,
    }
}

fn put(vault: &Vault, name: &[u8], bytes: &[u8]) {
    let inode = if let Ok(found) = vault.lookup(InodeId::ROOT, name) {
        found.inode
    } else {
        let change = AttributeChange::default();
        vault.create_file(InodeId::ROOT, name, &change, draft(Action::FileCreate)).unwrap().value
    };
    let file = vault.open(inode).unwrap();
    file.truncate(0).unwrap();
    for (at, piece) in bytes.chunks(250_000).enumerate() {
        file.write_at(at as u64 * 250_000, piece).unwrap();
    }
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
}

fn read(vault: &Vault, name: &[u8]) -> Result<Vec<u8>, StoreError> {
    let file = vault.open(vault.lookup(InodeId::ROOT, name)?.inode)?;
    let mut out = Vec::new();
    loop {
        match file.read_at(out.len() as u64, 1 << 20)? {
            piece if piece.is_empty() => return Ok(out),
            piece => out.extend_from_slice(&piece),
        }
    }
}

impl Made {
    /// A vault with small files, a superseded one, directories, links, a snapshot, and a file of several segments.
    fn new() -> Self {
        let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
        Store::create(&options(&blobs, &index)).unwrap();
        let store = Store::open(options(&blobs, &index)).unwrap();
        let id = store.create_vault(OWNER, "v", 1 << 30, draft(Action::VaultAdd)).unwrap().wait().unwrap();
        let vault = store.vault(id).unwrap();
        put(&vault, b"a", &noise(1, 50_000));
        put(&vault, b"a", &noise(2, 60_000));
        put(&vault, b"empty", b"");
        put(&vault, b"several", &noise(3, 3 << 20));
        put(&vault, b"large", &noise(4, LARGE));
        let change = AttributeChange::default();
        let made =
            vault.make_directory(InodeId::ROOT, b"d", &change, draft(Action::DirectoryCreate)).unwrap();
        let inner = vault.make_directory(made.value, b"e", &change, draft(Action::DirectoryCreate)).unwrap();
        vault.create_file(inner.value, b"f", &change, draft(Action::FileCreate)).unwrap().wait().unwrap();
        vault.add_snapshot("kept", None, draft(Action::VaultChange)).unwrap().wait().unwrap();
        put(&vault, b"gone", &noise(5, 30_000));
        vault.remove(InodeId::ROOT, b"gone", draft(Action::Remove)).unwrap().wait().unwrap();
        let file = vault.open(vault.lookup(InodeId::ROOT, b"a").unwrap().inode).unwrap();
        let digests =
            crate::tree::digest::Digests { sha256: Some([1; 32]), sha1: Some([2; 20]), md5: Some([3; 16]) };
        file.keep_digests(file.settled_content().unwrap(), &digests).unwrap();
        let files = vec![
            (&b"a"[..], noise(2, 60_000)),
            (b"empty", Vec::new()),
            (b"several", noise(3, 3 << 20)),
            (b"large", noise(4, LARGE)),
        ];
        let made = Self { blobs, index, id, store, files };
        assert_eq!(made.check().findings, []);
        made
    }

    fn vault(&self) -> Vault {
        self.store.vault(self.id).unwrap()
    }

    fn check(&self) -> CheckReport {
        self.store.check(CheckOptions::default()).unwrap()
    }

    fn check_data(&self) -> CheckReport {
        self.store.check(CheckOptions { read_data: true, progress: None }).unwrap()
    }

    fn repair(&self, read_data: bool) -> RepairReport {
        let options = CheckOptions { read_data, progress: None };
        self.store.repair(options, &draft(Action::Repair)).unwrap()
    }

    /// What a table holds below the vault, opened.
    fn rows(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (vault, from) = (self.vault(), self.id.0);
        let keys = [self.store.system_key(), &vault.keys().records];
        let rows = self.store.sealed_range(table, &from, &after_prefix(&from), usize::MAX).unwrap();
        let open =
            |at: &[u8], sealed: &[u8]| keys.iter().find_map(|key| key.open(table, at, sealed)).unwrap();
        rows.into_iter().map(|(at, sealed)| (at.clone(), open(&at, &sealed))).collect()
    }

    /// Puts a row past every door.
    fn force(&self, table: Table, at: &[u8], row: Option<&[u8]>) {
        self.store.checkpoint().unwrap();
        let vault = self.vault();
        let system = matches!(table, Table::Chunks | Table::Usage | Table::Garbage | Table::PackCounts);
        let key = if system { self.store.system_key() } else { &vault.keys().records };
        let value = row.map(|row| key.seal(table, at, row).unwrap());
        self.index.apply(&[Change { table, key: at.to_vec(), value }]).unwrap();
    }

    /// What was found is repaired, and nothing is left.
    fn is_repaired(&self, read_data: bool) -> RepairReport {
        let report = self.repair(read_data);
        assert!(!report.found.is_empty(), "nothing was found");
        assert_eq!(report.left.findings, [], "found {:?}, repaired {:?}", report.found, report.repaired);
        assert_eq!(self.check_data().findings, []);
        report
    }

    fn reads_all(&self) {
        for (name, bytes) in &self.files {
            assert!(read(&self.vault(), name).unwrap() == *bytes, "{}", String::from_utf8_lossy(name));
        }
    }
}

#[test]
fn counts_that_are_wrong_are_counted_anew() {
    let made = Made::new();
    for (nth, (at, row)) in made.rows(Table::Chunks).into_iter().enumerate() {
        let row: ChunkRow = decode(&row).unwrap();
        if nth % 3 < 2 {
            let refs = [row.refs + 5, 0][nth % 3];
            made.force(Table::Chunks, &at, Some(&encode(&ChunkRow { refs, ..row }).unwrap()));
        }
    }
    for (at, row) in made.rows(Table::Segments) {
        let row: SegmentRow = decode(&row).unwrap();
        made.force(Table::Segments, &at, Some(&encode(&SegmentRow { refs: row.refs + 1, ..row }).unwrap()));
    }
    let usage = UsageRow { bytes: 7, inodes: 1, unique: Some(0), stored: Some(1 << 40) };
    made.force(Table::Usage, &usage_key(OWNER, made.id), Some(&encode(&usage).unwrap()));
    made.force(Table::Usage, &usage_key(OWNER, VaultId([9; 16])), Some(&encode(&usage).unwrap()));
    let report = made.is_repaired(false);
    assert!(report.repaired[&RepairKind::ReferencesCounted] > 100, "{:?}", report.repaired);
    assert_eq!(report.repaired[&RepairKind::UsageCounted], 2);
    made.reads_all();
    // The quota goes by what is counted.
    let used = made.store.vaults().unwrap()[0].used_bytes;
    assert_eq!(used, made.files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    made.store.shutdown().unwrap();
}

#[test]
fn counts_of_packs_are_counted_anew_after_a_start() {
    let made = Made::new();
    made.store.shutdown().unwrap();
    let key = made.store.system_key();
    let at = PackId(2).0.to_be_bytes();
    let value = key.seal(Table::PackCounts, &at, &encode(&PackCountRow { live: 12 }).unwrap()).unwrap();
    let change = Change { table: Table::PackCounts, key: at.to_vec(), value: Some(value) };
    made.index.apply(&[change]).unwrap();
    let made = Made { store: Store::open(options(&made.blobs, &made.index)).unwrap(), ..made };
    let report = made.is_repaired(false);
    assert_eq!(report.repaired[&RepairKind::PackCounted], 1);
    made.store.shutdown().unwrap();
    // It lasts.
    let made = Made { store: Store::open(options(&made.blobs, &made.index)).unwrap(), ..made };
    assert_eq!(made.check().findings, []);
    made.store.shutdown().unwrap();
}

#[test]
fn what_hangs_from_nothing_is_dropped() {
    let made = Made::new();
    let vault = made.vault();
    let extents: Vec<_> =
        made.rows(Table::Segments).iter().map(|(_, row)| decode::<SegmentRow>(row).unwrap()).collect();
    let number = made.store.last_number() + 10;
    let mut txn = made.store.begin().unwrap();
    txn.skip_numbers(number);
    txn.submit().unwrap().wait().unwrap();
    // A segment that nobody lists, and an inode that no name leads to.
    let lone = SegmentRow { refs: 1, extents: extents[0].extents.clone() };
    made.force(Table::Segments, &segment_key(made.id, SegmentId(number)), Some(&encode(&lone).unwrap()));
    let (_, row) = made.rows(Table::Inodes).into_iter().next().unwrap();
    let root: InodeRow = decode(&row).unwrap();
    for kind in [Kind::File, Kind::Directory] {
        let nameless = InodeRow { kind, content: Content::empty(ContentId(0)), ..root.clone() };
        let at = inode_key(made.id, InodeId(number - kind as u64));
        made.force(Table::Inodes, &at, Some(&encode(&nameless).unwrap()));
    }
    // A name that leads nowhere, and one in a directory that is none.
    for (parent, name) in [(InodeId::ROOT, &b"nowhere"[..]), (InodeId(number + 40), b"stray")] {
        let key = dentry_key(made.id, parent, vault.keys().name_mac(parent, name));
        let row = DentryRow {
            name: name.to_vec().into(),
            inode: InodeId(5000),
            kind: Kind::File,
            begin: root.begin,
        };
        made.force(Table::Dentries, &key, Some(&encode(&row).unwrap()));
    }
    let report = made.is_repaired(false);
    assert_eq!(report.repaired[&RepairKind::SegmentDropped], 1);
    assert_eq!(report.repaired[&RepairKind::NameDropped], 2);
    assert_eq!(report.repaired[&RepairKind::InodeDropped], 2);
    made.reads_all();
    assert!(matches!(vault.lookup(InodeId::ROOT, b"nowhere"), Err(StoreError::NotFound)));
    drop(vault);
    made.store.shutdown().unwrap();
}

#[test]
fn digests_of_a_content_that_is_not_there_are_dropped() {
    let made = Made::new();
    let key = crate::rows::digest_key(made.id, crate::id::ContentId(1));
    let row = made.rows(Table::Digests).remove(0).1;
    made.force(Table::Digests, &key, Some(&row));
    let report = made.is_repaired(false);
    assert_eq!(report.repaired[&RepairKind::DigestsDropped], 1);
    assert_eq!(made.rows(Table::Digests).len(), 1, "the others stay");
    made.store.shutdown().unwrap();
}

#[test]
fn locks_on_what_is_not_there_are_dropped_and_damaged_ones_restored() {
    let made = Made::new();
    let wanted = LockDraft {
        token: LockToken([1; 16]),
        holder: [2; 16],
        scope: LockScope::Exclusive,
        depth: LockDepth::Zero,
        expires: UnixNanos(i64::MAX),
        path: Vec::new(),
        owner: String::new(),
    };
    let target = LockTarget::Name(InodeId::ROOT, made.files[0].0);
    let lock = made.vault().lock(target, wanted, draft(Action::LockSet)).unwrap().wait().unwrap();
    // No inode has the number of the lock.
    let (key, row) = made.rows(Table::Locks).remove(0);
    made.force(Table::Locks, &crate::rows::lock_key(made.id, InodeId(lock.number), 1), Some(&row));
    let report = made.is_repaired(false);
    assert_eq!(report.repaired[&RepairKind::LocksDropped], 1);
    assert_eq!(made.vault().locks().unwrap(), std::slice::from_ref(&lock), "the other stays");
    made.store.checkpoint().unwrap();
    let mut damaged = made.index.snapshot().unwrap().get(Table::Locks, &key).unwrap().unwrap();
    damaged[40] ^= 1;
    made.index.apply(&[Change { table: Table::Locks, key, value: Some(damaged) }]).unwrap();
    made.is_repaired(false);
    assert_eq!(made.vault().locks().unwrap(), [lock]);
    made.store.shutdown().unwrap();
}

#[test]
fn every_damaged_record_is_restored_from_the_log() {
    let made = Made::new();
    for table in [
        Table::Inodes,
        Table::Dentries,
        Table::InodeHistory,
        Table::DentryHistory,
        Table::Segments,
        Table::Chunks,
        Table::Snapshots,
        Table::Digests,
    ] {
        let rows = made.rows(table);
        assert!(!rows.is_empty(), "{}", table.name());
        made.store.checkpoint().unwrap();
        for (nth, (at, _)) in rows.iter().enumerate().filter(|(nth, _)| nth % 7 == 0) {
            // Damaged, or gone where something else tells of it.
            let gone = nth % 2 == 1 && table == Table::Chunks;
            let mut value = made.index.snapshot().unwrap().get(table, at).unwrap().unwrap();
            value[nth % 60] ^= 1;
            let value = Some(value).filter(|_| !gone);
            made.index.apply(&[Change { table, key: at.clone(), value }]).unwrap();
        }
        let report = made.is_repaired(false);
        assert!(report.repaired[&RepairKind::RecordRestored] > 0, "{}", table.name());
        let only = report.repaired.keys().all(|kind| *kind == RepairKind::RecordRestored);
        assert!(only, "{}: {:?}", table.name(), report.repaired);
        made.reads_all();
    }
    made.store.shutdown().unwrap();
}

#[test]
fn a_name_whose_record_is_lost_costs_no_file() {
    // The journal is gone: nothing can be restored, so nothing may be dropped either.
    let made = Made::new();
    let (at, _) = made.rows(Table::Dentries).into_iter().next().unwrap();
    made.store.checkpoint().unwrap();
    made.index
        .apply(&[Change { table: Table::Dentries, key: at.clone(), value: Some(vec![1; 80]) }])
        .unwrap();
    let inodes = made.rows(Table::Inodes).len();
    let findings = made.check().findings;
    let incomplete = super::Incomplete::of(&findings);
    assert!(
        incomplete.has(made.id) && findings.iter().any(|found| matches!(found, Finding::Nameless { .. }))
    );
    let audit = draft(Action::Repair);
    let mut repair = super::Repair {
        store: &made.store,
        audit: &audit,
        repaired: std::collections::BTreeMap::new(),
        locked: false,
    };
    repair.correct_trees(&findings, &incomplete).unwrap();
    repair.correct_counts(&findings, &incomplete).unwrap();
    assert_eq!(repair.repaired, std::collections::BTreeMap::new());
    assert_eq!(made.rows(Table::Inodes).len(), inodes);
}

/// Flips a byte in the middle of a chunk's frame; tells which pack.
fn flip_chunk_of(made: &Made, name: &[u8], nth: usize) -> PackId {
    let vault = made.vault();
    let row = vault.row(vault.lookup(InodeId::ROOT, name).unwrap().inode).unwrap();
    let chunk = match &row.content.body {
        Body::Inline(extents) => extents[nth].chunk,
        Body::Segments(list) => {
            let key = segment_key(made.id, list[0].unwrap());
            let bytes = made.store.get(&vault.keys().records, Table::Segments, &key).unwrap().unwrap();
            decode::<SegmentRow>(&bytes).unwrap().extents[nth].chunk
        }
    };
    made.store.checkpoint().unwrap();
    let place = vault.place(chunk).unwrap();
    let blob = made.store.blobs().open(&crate::log::pack::blob_name(place.pack)).unwrap();
    let mut byte = [0];
    let at = place.offset + u64::from(place.stored_bytes) / 2;
    blob.read_at(at, &mut byte).unwrap();
    blob.write_at(at, &[byte[0] ^ 4]).unwrap();
    place.pack
}

#[test]
fn a_damaged_chunk_is_set_aside_its_files_are_told_and_the_same_bytes_heal_it() {
    let made = Made::new();
    let made = Made { store: reopened(&made), ..made };
    let vault = made.vault();
    let d = vault.lookup(InodeId::ROOT, b"d").unwrap().inode;
    let several = vault.lookup(InodeId::ROOT, b"several").unwrap().inode;
    // The content is in a present file, in a copy below a directory, and in a past state.
    let never = crate::tree::Replace::Never;
    vault.copy(several, (d, b"copy"), never, true, draft(Action::Copy)).unwrap().wait().unwrap();
    vault.remove(InodeId::ROOT, b"several", draft(Action::Remove)).unwrap().wait().unwrap();
    put(&vault, b"several", &noise(3, 3 << 20));
    let pack = flip_chunk_of(&made, b"several", 1);
    let report = made.repair(true);
    assert!(
        report.found.iter().any(|found| matches!(found, Finding::ChunkDamaged { .. })),
        "{:?}",
        report.found
    );
    assert_eq!(report.left.findings, []);
    assert_eq!(report.repaired[&RepairKind::ChunkSetAside], 1);
    let told: Vec<_> =
        report.left.files.iter().map(|file| (file.path.clone().unwrap(), file.moment)).collect();
    assert!(told.contains(&(b"/several".to_vec(), None)), "{told:?}");
    assert!(told.contains(&(b"/d/copy".to_vec(), None)), "{told:?}");
    let past: Vec<_> = told.iter().filter_map(|(path, moment)| moment.map(|moment| (path, moment))).collect();
    assert_eq!(past.len(), 1, "{told:?}");
    // The moment that is told does show the past state, which does not read.
    let then = vault.at(past[0].1).unwrap();
    let file = then.open(then.lookup(InodeId::ROOT, b"several").unwrap().inode).unwrap();
    assert!(matches!(file.read_at(0, 3 << 20), Err(StoreError::SetAside { .. })));
    // It reads as an error with its reason, everything else goes on.
    assert!(matches!(read(&vault, b"several"), Err(StoreError::SetAside { pack: told }) if told == pack));
    assert!(read(&vault, b"large").unwrap() == noise(4, LARGE));
    assert_eq!(made.check_data().findings, []);
    assert_eq!(made.check().chunks_set_aside, 1);
    let incidents = made.store.range(made.store.system_key(), Table::Incidents, &[], &[0xff; 9], 10).unwrap();
    assert_eq!(incidents.len(), 1);
    // The same bytes come again, under another name.
    put(&vault, b"again", &noise(3, 3 << 20));
    assert!(read(&vault, b"several").unwrap() == noise(3, 3 << 20));
    assert_eq!(file.read_at(0, 3 << 20).unwrap().len(), 3 << 20);
    let after = made.check_data();
    assert_eq!((after.findings, after.chunks_set_aside, after.files.len()), (vec![], 0, 0));
    drop((file, then, vault));
    made.store.shutdown().unwrap();
}

fn reopened(made: &Made) -> Store {
    made.store.shutdown().unwrap();
    Store::open(options(&made.blobs, &made.index)).unwrap()
}

#[test]
fn a_pack_that_is_gone_is_given_up_and_what_it_held_can_be_deleted() {
    let made = Made::new();
    let made = Made { store: reopened(&made), ..made };
    let vault = made.vault();
    let lost = PackId(1);
    made.store.forget_pack(lost);
    made.store.blobs().remove(&crate::log::pack::blob_name(lost)).unwrap();
    let report = made.is_repaired(false);
    assert!(
        report.found.iter().any(|found| matches!(found, Finding::PackMissing { chunks, .. } if *chunks > 0))
    );
    assert!(report.repaired[&RepairKind::ChunkSetAside] > 10);
    let told: Vec<_> = report.left.files.iter().filter_map(|file| file.path.clone()).collect();
    assert!(told.contains(&b"/several".to_vec()), "{told:?}");
    vault.remove(InodeId::ROOT, b"several", draft(Action::Remove)).unwrap().wait().unwrap();
    assert_eq!(made.check().findings, []);
    drop(vault);
    let made = Made { store: reopened(&made), ..made };
    assert_eq!(made.check_data().findings, []);
    made.store.shutdown().unwrap();
}

#[test]
fn headers_and_footers_are_written_again_and_damage_nobody_refers_to_is_settled() {
    let made = Made::new();
    let made = Made { store: reopened(&made), ..made };
    let flip = |pack: u64, at: i64| {
        let blob = made.store.blobs().open(&crate::log::pack::blob_name(PackId(pack))).unwrap();
        let at = if at < 0 { blob.len().unwrap() - at.unsigned_abs() } else { at.unsigned_abs() };
        let mut byte = [0];
        blob.read_at(at, &mut byte).unwrap();
        blob.write_at(at, &[byte[0] ^ 1]).unwrap();
    };
    flip(1, 30);
    flip(2, -100);
    let report = made.is_repaired(true);
    assert_eq!(report.repaired[&RepairKind::PackMended], 2, "{:?} {:?}", report.found, report.repaired);
    // The padding behind the last batch: the footer's block, the byte before it.
    flip(3, -4097);
    let report = made.is_repaired(true);
    assert_eq!(report.repaired.keys().collect::<Vec<_>>(), [&RepairKind::PackSettled], "{:?}", report.found);
    made.reads_all();
    made.store.shutdown().unwrap();
}

#[test]
fn a_repair_beside_writers_counts_what_they_count() {
    let made = Made::new();
    for (at, row) in made.rows(Table::Chunks) {
        let row: ChunkRow = decode(&row).unwrap();
        made.force(Table::Chunks, &at, Some(&encode(&ChunkRow { refs: row.refs + 3, ..row }).unwrap()));
    }
    let usage = UsageRow { bytes: 1 << 30, inodes: 100, unique: Some(1 << 30), stored: Some(1 << 30) };
    made.force(Table::Usage, &usage_key(OWNER, made.id), Some(&encode(&usage).unwrap()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2_u64 {
            let (made, stop) = (&made, &stop);
            scope.spawn(move || {
                let vault = made.vault();
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("w{writer}-{}", round % 5).into_bytes();
                    // Shared with each other and with what is there.
                    put(&vault, &name, &noise(2 + (round + writer) % 2, 60_000));
                    if round % 3 == 2 {
                        vault.remove(InodeId::ROOT, &name, draft(Action::Remove)).unwrap().wait().unwrap();
                    }
                    round += 1;
                }
            });
        }
        let report = made.repair(false);
        stop.store(true, Ordering::Relaxed);
        assert!(report.repaired[&RepairKind::ReferencesCounted] > 100);
    });
    assert_eq!(made.check_data().findings, []);
    made.reads_all();
    made.store.shutdown().unwrap();
}

#[test]
fn numbers_in_use_are_not_given_again() {
    let made = Made::new();
    let vault = made.vault();
    let number = made.store.last_number() + 1000;
    let (_, row) = made.rows(Table::Inodes).into_iter().next().unwrap();
    let root: InodeRow = decode(&row).unwrap();
    let inode = InodeId(number);
    let row =
        InodeRow { kind: Kind::File, parent: None, content: Content::empty(ContentId(0)), ..root.clone() };
    made.force(Table::Inodes, &inode_key(made.id, inode), Some(&encode(&row).unwrap()));
    let key = dentry_key(made.id, InodeId::ROOT, vault.keys().name_mac(InodeId::ROOT, b"late"));
    let row = DentryRow { name: b"late".to_vec().into(), inode, kind: Kind::File, begin: root.begin };
    made.force(Table::Dentries, &key, Some(&encode(&row).unwrap()));
    let report = made.is_repaired(false);
    assert_eq!(report.repaired[&RepairKind::NumbersSkipped], 1);
    assert!(made.store.last_number() >= number);
    assert!(CommitNumber(0) < made.store.last_commit());
    drop(vault);
    made.store.shutdown().unwrap();
}
