//! Every past moment comes back as it was: random changes, then each moment's tree beside what was noted at the time.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError, Vault};
use support::past::{Moments, Random, Seen, change, tree};
use support::{draft, noise, options};

const YEAR_SECS: u64 = 365 * 86_400;

fn now(store: &Store) -> UnixNanos {
    store.clock_now()
}

fn compare(vault: &Vault, moments: &Moments, when: &str) {
    for (time, noted) in moments {
        let differing = differing(&tree(&vault.at(*time).unwrap()), noted);
        assert!(differing.is_empty(), "{when}, at {time:?}: {differing:#?}");
    }
}

#[test]
fn every_moment_comes_back_as_it_was() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    for seed in seeds(0, 4) {
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

/// So many seeds, or as many as `COFFRE_MODEL_SEEDS` says.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let said = std::env::var_os("COFFRE_MODEL_SEEDS").and_then(|text| text.to_str()?.parse().ok());
    first..first + said.unwrap_or(count)
}

/// A path of the past that is there: the root, or a name below it.
fn some_path(noted: &BTreeMap<Vec<u8>, Seen>, random: &mut Random) -> Vec<Vec<u8>> {
    let count = noted.len() as u64;
    let at = usize::try_from(random.below(count + 1)).unwrap();
    let path = noted.keys().nth(at).cloned().unwrap_or_default();
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

fn below(tree: &BTreeMap<Vec<u8>, Seen>, path: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Seen> {
    let prefix = path.iter().flat_map(|name| [b"/".as_slice(), name]).collect::<Vec<_>>().concat();
    let inside = |name: &[u8]| {
        name.strip_prefix(&prefix[..]).filter(|rest| rest.is_empty() || rest[0] == b'/').map(<[u8]>::to_vec)
    };
    let mut found: BTreeMap<_, _> =
        tree.iter().filter_map(|(name, seen)| Some((inside(name)?, seen.clone()))).collect();
    if path.is_empty() {
        // The root itself has no name to be noted under.
        found.remove(&b""[..]);
    } else {
        // Names elsewhere count too.
        found.values_mut().for_each(|seen| seen.5 = 0);
    }
    found
}

/// Names that differ, with all but the content.
fn differing(found: &BTreeMap<Vec<u8>, Seen>, expected: &BTreeMap<Vec<u8>, Seen>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let shown = |seen: Option<&Seen>| {
        seen.map(|(kind, mode, size, mtime, _, links)| (*kind, *mode, *size, *mtime, *links))
    };
    names
        .into_iter()
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| {
            let (found, expected) = (shown(found.get(name)), shown(expected.get(name)));
            format!("{}: {found:?}, not {expected:?}", name.escape_ascii())
        })
        .collect()
}

#[test]
fn every_moment_can_be_put_back_whole_in_part_and_elsewhere() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    let mut restored = 0;
    for seed in seeds(10, 4) {
        let store = Store::open(options.clone()).unwrap();
        let name = format!("v{seed}");
        let made = store.create_vault(support::OWNER, &name, YEAR_SECS, draft(Action::VaultAdd)).unwrap();
        let vault = store.vault(made.wait().unwrap()).unwrap();
        let mut random = Random(seed);
        let mut moments = vec![(now(&store), tree(&vault))];
        let mut done = 0;
        while done < 400 {
            done += usize::from(change(&vault, &mut random).is_ok());
            if random.below(4) == 0 {
                moments.push((now(&store), tree(&vault)));
            }
            if random.below(12) != 0 {
                continue;
            }
            let (time, noted) = moments[usize::try_from(random.below(moments.len() as u64)).unwrap()].clone();
            let path = some_path(&noted, &mut random);
            let past = vault.at(time).unwrap();
            let elsewhere = random.below(4) == 0;
            let to = vec![b"restored".to_vec()];
            let target = if elsewhere { &to } else { &path };
            let run = || {
                past.restore(&path, elsewhere.then_some(&to), &draft(Action::Restored), &mut |done, total| {
                    assert!(done <= total);
                })
            };
            let report = match run() {
                Ok(report) => report,
                // Above it something else took the place of a directory.
                Err(StoreError::NotADirectory) => continue,
                Err(error) => panic!("seed {seed}, {path:?}: {error}"),
            };
            restored += report.restored;
            let after = tree(&vault);
            let (mut found, mut expected) = (below(&after, target), below(&noted, &path));
            if elsewhere {
                found.remove(&b""[..]);
                expected.remove(&b""[..]);
                found.values_mut().chain(expected.values_mut()).for_each(|seen| seen.5 = 0);
            }
            let differing = differing(&found, &expected);
            assert!(differing.is_empty(), "seed {seed}, {done} changes, {path:?}: {differing:#?}");
            if elsewhere {
                assert!(matches!(run(), Err(StoreError::Exists)));
                vault.remove_tree(InodeId::ROOT, b"restored", draft(Action::Remove)).unwrap().wait().unwrap();
            } else {
                let again = run().unwrap();
                assert_eq!((again.restored, again.removed, again.bytes), (0, 0, 0), "seed {seed}, {path:?}");
            }
        }
        compare(&vault, &moments, "after restores");
        let id = vault.id();
        drop(vault);
        store.shutdown().unwrap();
        let store = Store::open(options.clone()).unwrap();
        compare(&store.vault(id).unwrap(), &moments, "after a restart");
        support::assert_clean(&store, "restores");
        store.shutdown().unwrap();
    }
    assert!(restored > 100, "{restored}");
}
