//! Every moment can be put back: random changes, random restores, and the tree beside what was noted at the time.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::time::UnixNanos;
use coffre_storage::{Store, StoreError, Vault};
use support::past::{Moments, Random, Seen, change, tree};
use support::{draft, options};

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
