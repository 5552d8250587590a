//! Space comes back, and nothing that somebody may still look at goes: random changes and passes of reclaim in turn, with
//! named snapshots, holds and open files in between; then each kept moment beside what was noted at the time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::reclaim::{ExportPolicy, Flow, ReclaimOptions, ReclaimReport};
use coffre_storage::time::UnixNanos;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError, StoreOptions, Vault};
use support::clock::{Dial, HOUR, SECOND};
use support::past::{Moments, Random, change, tree};
use support::{draft, noise, put, read};

/// Small packs, so that a scenario goes through many.
const PACK_BYTES: u64 = 1 << 20;

const AT_ONCE: ReclaimOptions =
    ReclaimOptions { live_percent_max: 50, grace_secs: 0, export: ExportPolicy::WhenNeeded };

struct Bench {
    options: StoreOptions,
    blobs: MemoryBlobs,
    dial: Arc<Dial>,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let (blobs, index, dial) = (MemoryBlobs::default(), MemoryIndex::default(), Arc::<Dial>::default());
        let options = StoreOptions {
            clock: Arc::<Dial>::clone(&dial),
            ..support::options(Arc::new(blobs.clone()), &index, PACK_BYTES)
        };
        Store::create(&options).unwrap();
        let store = Store::open(options.clone()).unwrap();
        let mut bench = Self { options, blobs, dial, store };
        // So that something is signed.
        bench.restart();
        bench
    }

    fn restart(&mut self) {
        self.store.shutdown().unwrap();
        self.store = Store::open(self.options.clone()).unwrap();
    }

    fn vault(&self, name: &str, retention_secs: u64) -> Vault {
        let made = self.store.create_vault(support::OWNER, name, retention_secs, draft(Action::VaultAdd));
        self.store.vault(made.unwrap().wait().unwrap()).unwrap()
    }

    fn reclaim(&self) -> ReclaimReport {
        self.store.reclaim(AT_ONCE, &mut |_, _| Flow::GoOn).unwrap()
    }

    fn now(&self) -> UnixNanos {
        self.store.clock_now()
    }

    fn pack_bytes(&self) -> u64 {
        self.store.checkpoint().unwrap();
        let packs = self.blobs.list("packs/").unwrap();
        packs.iter().map(|name| self.blobs.open(name).unwrap().len().unwrap()).sum()
    }
}

#[test]
fn what_was_deleted_gives_its_space_back_and_what_is_there_stays() {
    let mut bench = Bench::new();
    let vault = bench.vault("v", 3600);
    for number in 0..20_u64 {
        put(&vault, format!("f{number}").as_bytes(), &noise(number, 1 << 20)).unwrap();
    }
    let full = bench.pack_bytes();
    for number in (0..20).filter(|number| number % 10 != 0) {
        let name = format!("f{number}");
        vault.remove(InodeId::ROOT, name.as_bytes(), draft(Action::Remove)).unwrap().wait().unwrap();
    }
    let early = bench.reclaim();
    assert_eq!((early.inodes_pruned, early.bytes_moved), (0, 0), "the window is not over: {early:?}");
    assert!(early.bytes_freed < 100_000, "but for the pack of the start: {early:?}");
    bench.dial.turn(2 * HOUR);
    let report = bench.reclaim();
    assert!(report.packs_removed > 10 && report.bytes_freed > full / 2, "{report:?}");
    assert!(bench.pack_bytes() < full / 3, "{} of {full}", bench.pack_bytes());
    for number in [0, 10] {
        let inode = vault.lookup(InodeId::ROOT, format!("f{number}").as_bytes()).unwrap().inode;
        assert_eq!(read(&vault, inode).unwrap(), noise(number, 1 << 20));
    }
    support::assert_clean(&bench.store, "reclaimed");
    let id = vault.id();
    drop(vault);
    bench.restart();
    let vault = bench.store.vault(id).unwrap();
    let inode = vault.lookup(InodeId::ROOT, b"f10").unwrap().inode;
    assert_eq!(read(&vault, inode).unwrap(), noise(10, 1 << 20));
    support::assert_clean(&bench.store, "reclaimed and opened again");
}

#[test]
fn a_pack_stays_for_its_grace_time() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    put(&vault, b"f", &noise(1, 3 << 20)).unwrap();
    put(&vault, b"f", &noise(2, 3 << 20)).unwrap();
    bench.dial.turn(HOUR);
    let options = ReclaimOptions { grace_secs: 86_400, ..AT_ONCE };
    let run = || bench.store.reclaim(options, &mut |_, _| Flow::GoOn).unwrap();
    let first = run();
    assert!(first.packs_emptied > 0 && first.packs_removed == 0 && first.packs_waiting > 0, "{first:?}");
    bench.dial.turn(23 * HOUR);
    assert_eq!(run().packs_removed, 0);
    bench.dial.turn(2 * HOUR);
    let held = bench.store.hold_packs();
    assert_eq!(run().packs_removed, 0, "somebody copies packs");
    drop(held);
    assert_eq!(run().packs_removed, first.packs_waiting);
    support::assert_clean(&bench.store, "after the grace time");
}

/// Looks at what was noted; moments before the window are refused.
fn compare(vault: &Vault, moments: &Moments, since: UnixNanos) -> usize {
    let mut looked = 0;
    for (time, noted) in moments {
        match vault.at(*time) {
            Ok(past) => {
                assert_eq!(&tree(&past), noted, "at {time:?}");
                looked += 1;
            }
            Err(StoreError::NotFound) => assert!(*time < since, "{time:?} is inside the window"),
            Err(error) => panic!("{error}"),
        }
    }
    looked
}

#[test]
fn every_moment_inside_the_window_survives_passes_of_reclaim() {
    for seed in 0..4 {
        let mut bench = Bench::new();
        let mut vault = bench.vault("v", 10 * 3600);
        let id = vault.id();
        let mut random = Random(seed);
        let mut moments = Moments::new();
        let mut snapshots = Moments::new();
        let mut pruned = 0;
        for step in 0..60 {
            for _ in 0..8 {
                drop(change(&vault, &mut random));
            }
            moments.push((bench.now(), tree(&vault)));
            if random.below(8) == 0 {
                let name = format!("snapshot-{step}");
                let seen = tree(&vault);
                let made =
                    vault.add_snapshot(&name, None, draft(Action::VaultChange)).unwrap().wait().unwrap();
                snapshots.push((made.time, seen));
            }
            bench.dial.turn(i64::try_from(random.below(3600)).unwrap() * SECOND);
            match random.below(6) {
                0 => pruned += bench.reclaim().inodes_pruned,
                1 => {
                    drop(vault);
                    bench.restart();
                    vault = bench.store.vault(id).unwrap();
                }
                _ => {}
            }
        }
        pruned += bench.reclaim().inodes_pruned;
        assert!(pruned > 50, "{pruned}");
        let since = vault.retention().unwrap().whole_since;
        assert!(compare(&vault, &moments, since) > 5);
        for (time, noted) in &snapshots {
            assert_eq!(&tree(&vault.at(*time).unwrap()), noted, "the snapshot at {time:?}");
        }
        support::assert_clean(&bench.store, "random");
        // Without its snapshots everything but the present goes.
        for snapshot in vault.snapshots().unwrap() {
            drop(vault.expire_snapshot(&snapshot.name, UnixNanos(0), draft(Action::VaultChange)).unwrap());
        }
        let present = tree(&vault);
        bench.dial.turn(1000 * HOUR);
        bench.reclaim();
        assert_eq!(tree(&vault), present);
        assert_eq!(bench.reclaim().inodes_pruned, 0);
        support::assert_clean(&bench.store, "only the present");
    }
}

#[test]
fn a_legal_hold_keeps_everything_until_it_is_lifted() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    put(&vault, b"evidence", &noise(1, 100_000)).unwrap();
    let then = bench.now();
    let seen = tree(&vault);
    let hold = vault.add_hold(InodeId::ROOT, "case 12", draft(Action::VaultChange)).unwrap().wait().unwrap();
    vault.remove(InodeId::ROOT, b"evidence", draft(Action::Remove)).unwrap().wait().unwrap();
    bench.dial.turn(1000 * HOUR);
    assert_eq!(bench.reclaim().inodes_pruned, 0);
    assert_eq!(tree(&vault.at(then).unwrap()), seen);
    drop(vault.lift_hold(hold, draft(Action::VaultChange)).unwrap());
    assert!(vault.lift_hold(hold, draft(Action::VaultChange)).is_err());
    assert!(bench.reclaim().inodes_pruned > 0);
    assert!(matches!(vault.at(then), Err(StoreError::NotFound)));
}

#[test]
fn a_shorter_retention_waits_for_its_grace_and_a_longer_one_takes_it_back() {
    let bench = Bench::new();
    let vault = bench.vault("v", 100 * 3600);
    put(&vault, b"f", b"old").unwrap();
    let then = bench.now();
    put(&vault, b"f", b"new").unwrap();
    bench.dial.turn(10 * HOUR);
    drop(vault.set_retention(3600, 7 * 86_400, draft(Action::VaultChange)).unwrap());
    bench.reclaim();
    assert!(vault.at(then).is_ok(), "the grace time is not over");
    drop(vault.set_retention(200 * 3600, 7 * 86_400, draft(Action::VaultChange)).unwrap());
    bench.dial.turn(180 * HOUR);
    bench.reclaim();
    assert!(vault.at(then).is_ok(), "it was taken back");
    drop(vault.set_retention(3600, 10, draft(Action::VaultChange)).unwrap());
    bench.dial.turn(HOUR);
    bench.reclaim();
    assert!(matches!(vault.at(then), Err(StoreError::NotFound)));
}

#[test]
fn who_has_a_file_open_goes_on_reading_it_while_its_history_goes() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    for number in 0..8_u64 {
        put(&vault, format!("f{number}").as_bytes(), &noise(number, 1 << 20)).unwrap();
    }
    let open = vault.open(vault.lookup(InodeId::ROOT, b"f3").unwrap().inode).unwrap();
    let past = vault.at(bench.now()).unwrap();
    let of_past = past.open(past.lookup(InodeId::ROOT, b"f4").unwrap().inode).unwrap();
    for number in 0..8 {
        let name = format!("f{number}");
        vault.remove(InodeId::ROOT, name.as_bytes(), draft(Action::Remove)).unwrap().wait().unwrap();
    }
    bench.dial.turn(HOUR);
    assert!(bench.reclaim().packs_removed > 0);
    bench.dial.turn(HOUR);
    bench.reclaim();
    assert_eq!(open.read_at(0, 1 << 20).unwrap(), noise(3, 1 << 20));
    assert_eq!(of_past.read_at(0, 1 << 20).unwrap(), noise(4, 1 << 20));
    drop((open, of_past));
    assert_eq!(bench.reclaim().inodes_pruned, 4, "two files, created and written");
    support::assert_clean(&bench.store, "closed at last");
}

#[test]
fn what_an_upload_staged_or_found_is_there_when_it_commits() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    put(&vault, b"known", &noise(1, 2 << 20)).unwrap();
    let mut upload = vault.begin_upload().unwrap();
    // The first half is known, the second is staged.
    upload.write(&noise(1, 2 << 20)).unwrap();
    upload.write(&noise(2, 2 << 20)).unwrap();
    vault.remove(InodeId::ROOT, b"known", draft(Action::Remove)).unwrap().wait().unwrap();
    put(&vault, b"more", &noise(3, 3 << 20)).unwrap();
    bench.dial.turn(HOUR);
    bench.reclaim();
    bench.reclaim();
    let attributes = coffre_storage::tree::AttributeChange::default();
    let none = coffre_storage::upload::Precondition::None;
    let made = upload.commit((InodeId::ROOT, b"up"), none, &attributes, draft(Action::FileWrite)).unwrap();
    let (inode, _) = made.wait().unwrap();
    assert_eq!(read(&vault, inode).unwrap(), [noise(1, 2 << 20), noise(2, 2 << 20)].concat());
    support::assert_clean(&bench.store, "the upload is whole");
}

#[test]
fn frames_of_uploads_that_did_not_finish_go() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    put(&vault, b"small", b"stays").unwrap();
    let mut upload = vault.begin_upload().unwrap();
    upload.write(&noise(1, 10 << 20)).unwrap();
    put(&vault, b"later", b"stays too").unwrap();
    assert!(bench.reclaim().packs_removed <= 1, "it may still finish");
    drop(upload);
    assert!(bench.reclaim().packs_removed >= 8);
    support::assert_clean(&bench.store, "without the upload");
}

#[test]
fn crumbs_become_a_file_that_reads_in_order_and_its_identity_stays() {
    let bench = Bench::new();
    let vault = bench.vault("v", 1000 * 3600);
    let mut bytes = noise(1, 4 << 20);
    // More than fits the inode's own record.
    put(&vault, b"f", &bytes).unwrap();
    let then = bench.now();
    let before = bytes.clone();
    let inode = vault.lookup(InodeId::ROOT, b"f").unwrap().inode;
    let file = vault.open(inode).unwrap();
    for number in (0..1024_usize).step_by(3) {
        let piece = noise(1000 + number as u64, 4096);
        file.write_at(number as u64 * 4096, &piece).unwrap();
        bytes[number * 4096..(number + 1) * 4096].copy_from_slice(&piece);
    }
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    let identity = vault.attributes(inode).unwrap().content;
    let report = bench.reclaim();
    assert_eq!(report.segments_rewritten, 1, "{report:?}");
    assert_eq!(bench.reclaim().segments_rewritten, 0);
    assert_eq!(vault.attributes(inode).unwrap().content, identity);
    assert_eq!(read(&vault, inode).unwrap(), bytes, "through a handle that had looked before");
    drop(file);
    assert_eq!(read(&vault, inode).unwrap(), bytes);
    let past = vault.at(then).unwrap();
    let old = past.open(past.lookup(InodeId::ROOT, b"f").unwrap().inode).unwrap();
    assert_eq!(old.read_at(0, 4 << 20).unwrap(), before);
    support::assert_clean(&bench.store, "rewritten");
}

#[test]
fn a_pack_that_is_damaged_is_not_reclaimed() {
    let bench = Bench::new();
    let vault = bench.vault("v", 60);
    put(&vault, b"f", &noise(1, 3 << 20)).unwrap();
    put(&vault, b"keep", &noise(2, 100_000)).unwrap();
    vault.remove(InodeId::ROOT, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    put(&vault, b"more", &noise(3, 3 << 20)).unwrap();
    bench.store.checkpoint().unwrap();
    let second = bench.blobs.open("packs/0000000000000002.pack").unwrap();
    let mut byte = [0];
    second.read_at(500_000, &mut byte).unwrap();
    second.write_at(500_000, &[byte[0] ^ 1]).unwrap();
    bench.dial.turn(HOUR);
    let report = bench.reclaim();
    assert_eq!(report.packs_damaged, 1, "{report:?}");
    assert!(bench.blobs.open("packs/0000000000000002.pack").is_ok());
}
