//! Crashes, simulated: every changing call to the disk fails once, the power goes off after every sync. Whatever was
//! acknowledged is there afterwards, whole; what was not is there whole or not at all; `check` finds nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::upload::{Completion, Precondition};
use coffre_storage::{Store, StoreError, Vault};
use support::{Kind2, Tree, assert_clean, draft, new_vault, noise, options, put, tree};

/// Small packs, so that a scenario goes through several.
const PACK_BYTES: u64 = 8 << 20;

type Step = fn(&Vault) -> Result<(), StoreError>;
type After = fn(&mut Tree);

/// What is done, one acknowledged step after the other, and what the tree holds after each.
fn scenario() -> Vec<(Step, After)> {
    fn file(seed: u64, len: usize) -> (Kind2, Vec<u8>) {
        (Kind2::File, noise(seed, len))
    }
    vec![
        (|v| put(v, b"a", &noise(1, 10)), |t| drop(t.insert(b"/a".to_vec(), file(1, 10)))),
        (|v| put(v, b"big", &noise(2, 3 << 20)), |t| drop(t.insert(b"/big".to_vec(), file(2, 3 << 20)))),
        (
            |v| {
                v.make_directory(
                    InodeId::ROOT,
                    b"d",
                    &AttributeChange::default(),
                    draft(Action::DirectoryCreate),
                )?
                .wait()?;
                Ok(())
            },
            |t| drop(t.insert(b"/d".to_vec(), (Kind2::Directory, vec![]))),
        ),
        (|v| put(v, b"a", &noise(3, 70_000)), |t| drop(t.insert(b"/a".to_vec(), file(3, 70_000)))),
        (
            |v| {
                let d = v.lookup(InodeId::ROOT, b"d")?.inode;
                v.rename((InodeId::ROOT, b"a"), (d, b"b"), Replace::Posix, draft(Action::Rename))?.wait()
            },
            |t| {
                let moved = t.remove(&b"/a"[..]).unwrap();
                t.insert(b"/d/b".to_vec(), moved);
            },
        ),
        (
            |v| {
                let file = v.open(v.lookup(InodeId::ROOT, b"big")?.inode)?;
                file.write_at(1_000_000, b"changed")?;
                file.truncate(2 << 20)?;
                file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()
            },
            |t| {
                let bytes = &mut t.get_mut(&b"/big"[..]).unwrap().1;
                bytes[1_000_000..1_000_007].copy_from_slice(b"changed");
                bytes.truncate(2 << 20);
            },
        ),
        (
            |v| {
                let mut upload = v.begin_upload()?;
                for piece in noise(4, 4 << 20).chunks(500_000) {
                    upload.write(piece)?;
                }
                let change = AttributeChange::default();
                upload
                    .commit((InodeId::ROOT, b"up"), Precondition::Absent, &change, draft(Action::FileWrite))?
                    .wait()?;
                Ok(())
            },
            |t| drop(t.insert(b"/up".to_vec(), file(4, 4 << 20))),
        ),
        (
            |v| v.remove(InodeId::ROOT, b"big", draft(Action::Remove))?.wait(),
            |t| drop(t.remove(&b"/big"[..])),
        ),
        (|v| put(v, b"last", b"1"), |t| drop(t.insert(b"/last".to_vec(), (Kind2::File, b"1".to_vec())))),
    ]
}

/// Runs the scenario until something fails. Tells how many steps were acknowledged, and the vault if it was.
fn run(blobs: Arc<dyn BlobStore>, index: &MemoryIndex) -> (Option<VaultId>, usize) {
    let options = options(blobs, index, PACK_BYTES);
    if Store::create(&options).is_err() {
        return (None, 0);
    }
    let Ok(store) = Store::open(options) else { return (None, 0) };
    let Ok(id) = new_vault(&store) else {
        store.abandon();
        return (None, 0);
    };
    let Ok(vault) = store.vault(id) else { return (Some(id), 0) };
    let mut acknowledged = 0;
    for (step, _) in scenario() {
        if step(&vault).is_err() {
            break;
        }
        acknowledged += 1;
        // A checkpoint in the middle, so that replay begins at different places.
        if acknowledged == 4 && store.checkpoint().is_err() {
            break;
        }
    }
    drop(vault);
    if acknowledged == scenario().len() {
        drop(store.shutdown());
    } else {
        store.abandon();
    }
    (Some(id), acknowledged)
}

fn states() -> Vec<Tree> {
    let mut now = Tree::new();
    let mut all = vec![now.clone()];
    for (_, change) in scenario() {
        change(&mut now);
        all.push(now.clone());
    }
    all
}

/// After a crash: the store opens, holds the state after the acknowledged steps or one step more, and is in order.
fn recovered(
    blobs: Arc<dyn BlobStore>,
    index: &MemoryIndex,
    (id, acknowledged): (Option<VaultId>, usize),
    what: &str,
) {
    let options = options(blobs, index, PACK_BYTES);
    let Some(id) = id else {
        // Nothing was acknowledged: making it anew, or opening what is there, works.
        if Store::open(options.clone()).map(|store| store.shutdown()).is_err() {
            drop(Store::create(&options));
            let store = Store::open(options).unwrap_or_else(|error| panic!("{what}: {error}"));
            store.shutdown().unwrap();
        }
        return;
    };
    let store =
        Store::open(options).unwrap_or_else(|error| panic!("{what}: after {acknowledged} steps: {error}"));
    let vault = store.vault(id).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = tree(&vault).unwrap_or_else(|error| panic!("{what}: {error}"));
    let states = states();
    // A step may have been of several transactions: a file that was made and not written yet is empty.
    let fits = states[acknowledged] == found
        || states.get(acknowledged + 1).is_some_and(|next| *next == found)
        || states.get(acknowledged + 1).is_some_and(|next| {
            let mut partly = states[acknowledged].clone();
            for path in next.keys() {
                partly.entry(path.clone()).or_insert((Kind2::File, vec![]));
            }
            partly == found
        });
    let names = |tree: &Tree| {
        tree.iter()
            .map(|(path, (_, bytes))| (String::from_utf8_lossy(path).into_owned(), bytes.len()))
            .collect::<Vec<_>>()
    };
    assert!(
        fits,
        "{what}: after {acknowledged} steps: {:?} and not {:?}",
        names(&found),
        names(&states[acknowledged])
    );
    assert_clean(&store, what);
    put(&vault, b"after", b"it goes on").unwrap();
    drop(vault);
    store.shutdown().unwrap();
}

#[test]
fn every_changing_call_may_fail_once() {
    // How many calls there are depends on how transactions fall into batches: until a run ends before its fault.
    for n in 1.. {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.fail_at(n);
        let outcome = run(Arc::new(blobs.clone()), &index);
        let fault_came = blobs.calls() >= n;
        blobs.fail_at(0);
        // The process restarts: what the disk took is there, what the index did not sync is not.
        recovered(Arc::new(blobs), &index.after_power_cut(), outcome, &format!("call {n} failed"));
        if !fault_came {
            assert!(outcome.0.is_some() && outcome.1 == scenario().len() && n > 30, "{n}: {outcome:?}");
            break;
        }
    }
}

#[test]
fn the_power_may_go_off_after_every_sync() {
    let whole = FaultyBlobs::default();
    let (id, _) = run(Arc::new(whole.clone()), &MemoryIndex::default());
    assert!(id.is_some());
    for n in 1..=whole.syncs() {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.cut_after_sync(n);
        let outcome = run(Arc::new(blobs.clone()), &index);
        for seed in 0..3 {
            let survived = blobs.after_power_cut(n * 31 + seed);
            recovered(
                Arc::new(survived),
                &index.after_power_cut(),
                outcome,
                &format!("power off after sync {n}, seed {seed}"),
            );
        }
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_a_hole_before_durable_batches_is_refused() {
    let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let id = new_vault(&store).unwrap();
    let vault = store.vault(id).unwrap();
    let index_then = index.after_power_cut();
    for n in 0..20 {
        put(&vault, format!("f{n}").as_bytes(), &noise(n, 5000)).unwrap();
    }
    drop(vault);
    store.abandon();
    let disk = blobs.after_power_cut(1).contents();
    let pack = disk.keys().find(|name| name.starts_with("packs/")).unwrap().clone();
    let used = disk[&pack].iter().rposition(|byte| *byte != 0).unwrap();
    // The end of the last batch is torn: the batches before it are what there was.
    let mut torn = disk.clone();
    torn.get_mut(&pack).unwrap()[used - 10..=used].fill(0);
    let torn = coffre_storage::blob::memory::MemoryBlobs::holding(torn);
    let store =
        Store::open(support::options(Arc::new(torn), &index_then.after_power_cut(), PACK_BYTES)).unwrap();
    assert!(tree(&store.vault(id).unwrap()).unwrap().len() >= 19);
    assert_clean(&store, "torn tail");
    store.shutdown().unwrap();
    // A batch in the middle is damaged, others were durable after it: nobody goes on as if nothing had been lost.
    let mut holed = disk;
    holed.get_mut(&pack).unwrap()[used / 2] ^= 1;
    let holed = coffre_storage::blob::memory::MemoryBlobs::holding(holed);
    assert!(Store::open(support::options(Arc::new(holed), &index_then, PACK_BYTES)).is_err());
}
