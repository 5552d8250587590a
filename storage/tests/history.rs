//! Every past moment comes back as it was: random changes, then each moment's tree beside what was noted at the time.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::time::UnixNanos;
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
