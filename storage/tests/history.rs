//! Every past moment comes back as it was: random changes, then each moment's tree beside what was noted at the time.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError, Vault};
use support::past::{Moments, Random, change, tree};
use support::{draft, noise, options};

const YEAR_SECS: u64 = 365 * 86_400;

fn now(store: &Store) -> UnixNanos {
    store.clock_now()
}

fn compare(vault: &Vault, moments: &Moments, when: &str) {
    for (time, noted) in moments {
        let found = tree(&vault.at(*time).unwrap());
        assert_eq!(&found, noted, "{when}, at {time:?}");
    }
}

#[test]
fn every_moment_comes_back_as_it_was() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    for seed in 0..4 {
        let store = Store::open(options.clone()).unwrap();
        let name = format!("v{seed}");
        let made = store.create_vault(support::OWNER, &name, YEAR_SECS, draft(Action::VaultAdd)).unwrap();
        let vault = store.vault(made.wait().unwrap()).unwrap();
        let mut random = Random(seed);
        let mut moments = vec![(now(&store), tree(&vault))];
        let mut done = 0;
        while done < 250 {
            done += usize::from(change(&vault, &mut random).is_ok());
            if random.below(4) == 0 {
                moments.push((now(&store), tree(&vault)));
            }
        }
        compare(&vault, &moments, "while it goes on");
        let id = vault.id();
        drop(vault);
        store.shutdown().unwrap();
        let store = Store::open(options.clone()).unwrap();
        compare(&store.vault(id).unwrap(), &moments, "after a restart");
        support::assert_clean(&store, "history");
        store.shutdown().unwrap();
    }
}

#[test]
fn a_directory_copied_with_its_entries_shows_the_same_time_in_the_past() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    let attributes = AttributeChange::default();
    let directory = |parent, name: &[u8]| {
        vault
            .make_directory(parent, name, &attributes, draft(Action::DirectoryCreate))
            .unwrap()
            .wait()
            .unwrap()
    };
    let from = directory(InodeId::ROOT, b"from");
    directory(from, b"below");
    let copied = vault.copy(from, (InodeId::ROOT, b"to"), Replace::Never, true, draft(Action::Copy)).unwrap();
    let to = copied.wait().unwrap();
    let (moment, shown) = (now(&store), vault.attributes(to).unwrap());
    directory(to, b"later");
    assert_eq!(vault.at(moment).unwrap().attributes(to).unwrap(), shown);
}

#[test]
fn a_moment_that_has_not_come_or_is_before_the_vault_is_not_found() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let before = now(&store);
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    assert!(matches!(vault.at(before), Err(StoreError::NotFound)));
    assert!(matches!(vault.at(UnixNanos(i64::MAX)), Err(StoreError::NotFound)));
    assert!(vault.at(now(&store)).is_ok());
}

#[test]
fn a_file_of_the_past_is_read_only_and_goes_on_while_the_present_changes() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    support::put(&vault, b"f", &noise(1, 300_000)).unwrap();
    let past = vault.at(now(&store)).unwrap();
    support::put(&vault, b"f", &noise(2, 300_000)).unwrap();
    vault.remove(InodeId::ROOT, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    let file = past.open(past.lookup(InodeId::ROOT, b"f").unwrap().inode).unwrap();
    assert_eq!(file.read_at(0, 300_000).unwrap(), noise(1, 300_000));
    assert_eq!(file.attributes().unwrap().links, 1);
    assert!(matches!(file.write_at(0, b"x"), Err(StoreError::ReadOnly)));
    assert!(matches!(file.truncate(0), Err(StoreError::ReadOnly)));
    assert!(matches!(file.commit(Completion::Whole, draft(Action::FileWrite)), Err(StoreError::ReadOnly)));
}

/// A clock that somebody sets.
#[derive(Debug)]
struct Set(std::sync::atomic::AtomicI64);

impl coffre_storage::time::Clock for Set {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}

#[test]
fn moments_noted_before_the_clock_steps_back_still_read_right() {
    const HOUR: i64 = 3_600_000_000_000;
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let clock = Arc::new(Set((1_700_000_000_000_000_000).into()));
    let step = |by: i64| clock.0.fetch_add(by, std::sync::atomic::Ordering::SeqCst);
    let options = coffre_storage::StoreOptions {
        clock: Arc::<Set>::clone(&clock),
        ..options(Arc::new(blobs), &index, 8 << 20)
    };
    Store::create(&options).unwrap();
    let mut store = Store::open(options.clone()).unwrap();
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let id = made.wait().unwrap();
    let mut noted = Vec::new();
    for round in 0..12_u64 {
        let vault = store.vault(id).unwrap();
        support::put(&vault, b"f", &noise(round, 20_000)).unwrap();
        support::put(&vault, format!("only {round}").as_bytes(), b"1").unwrap();
        if round > 0 {
            let name = format!("only {}", round - 1);
            vault.remove(InodeId::ROOT, name.as_bytes(), draft(Action::Remove)).unwrap().wait().unwrap();
        }
        vault.add_snapshot(&format!("s{round}"), None, draft(Action::VaultChange)).unwrap().wait().unwrap();
        noted.push((vault.snapshots().unwrap().last().unwrap().time, support::tree(&vault).unwrap()));
        // Forwards, an hour back, on across a restart, forwards again.
        step([HOUR / 2, -HOUR, -HOUR, 2 * HOUR][usize::try_from(round % 4).unwrap()]);
        if round % 4 == 2 {
            drop(vault);
            store.shutdown().unwrap();
            store = Store::open(options.clone()).unwrap();
        }
    }
    assert!(noted.windows(2).all(|pair| pair[0].0 < pair[1].0), "times of transactions increase");
    let vault = store.vault(id).unwrap();
    for (round, (time, tree)) in noted.iter().enumerate() {
        let past = vault.at(*time).unwrap();
        let (entries, _) = past.list(InodeId::ROOT, None, 100).unwrap();
        let names: Vec<Vec<u8>> = entries.iter().map(|entry| [b"/", &entry.name[..]].concat()).collect();
        assert!(names.len() == tree.len() && names.iter().all(|name| tree.contains_key(name)), "{round}");
        let file = past.open(past.lookup(InodeId::ROOT, b"f").unwrap().inode).unwrap();
        assert_eq!(file.read_at(0, 30_000).unwrap(), noise(round as u64, 20_000), "{round}");
    }
    support::assert_clean(&store, "a clock that stepped back");
    drop(vault);
    store.shutdown().unwrap();
}
