//! Crashes while space is given back, and while a vault is erased: every changing call to the disk fails once, the power
//! goes off after every sync. Nothing that anybody may look at is lost, the store is in order, and the next pass finishes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::reclaim::{ExportPolicy, Flow, ReclaimOptions};
use coffre_storage::time::UnixNanos;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError, StoreOptions, Vault};
use support::clock::{Dial, HOUR};
use support::{Tree, assert_clean, draft, noise, put, read, tree};

const PACK_BYTES: u64 = 1 << 20;
const AT_ONCE: ReclaimOptions =
    ReclaimOptions { live_percent_max: 50, grace_secs: 0, export: ExportPolicy::WhenNeeded };

/// What a run had come to when it ended.
#[derive(Default)]
struct Reached {
    vaults: Vec<VaultId>,
    /// The tree after the last acknowledged step, and with the step that was not.
    tree: Tree,
    next: Option<Tree>,
    snapshot: Option<(UnixNanos, Tree)>,
    stage: Stage,
}

/// How far a run had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Working,
    Erasing,
    Whole,
}

fn options(blobs: Arc<dyn BlobStore>, index: &MemoryIndex, dial: &Arc<Dial>) -> StoreOptions {
    StoreOptions { clock: Arc::<Dial>::clone(dial), ..support::options(blobs, index, PACK_BYTES) }
}

fn file(seed: u64, len: usize) -> (support::Kind2, Vec<u8>) {
    (support::Kind2::File, noise(seed, len))
}

impl Reached {
    fn put(&mut self, vault: &Vault, name: &str, seed: u64, len: usize) -> Result<(), StoreError> {
        let mut next = self.tree.clone();
        next.insert(format!("/{name}").into_bytes(), file(seed, len));
        self.next = Some(next);
        put(vault, name.as_bytes(), &noise(seed, len))?;
        self.acknowledged();
        Ok(())
    }

    fn remove(&mut self, vault: &Vault, name: &str) -> Result<(), StoreError> {
        let mut next = self.tree.clone();
        next.remove(format!("/{name}").as_bytes());
        self.next = Some(next);
        vault.remove(InodeId::ROOT, name.as_bytes(), draft(Action::Remove))?.wait()?;
        self.acknowledged();
        Ok(())
    }

    fn acknowledged(&mut self) {
        if let Some(next) = self.next.take() {
            self.tree = next;
        }
    }

    /// Writes, takes a snapshot, deletes, gives space back, writes in crumbs, gives space back, erases the other vault.
    fn steps(&mut self, store: &Store, dial: &Dial) -> Result<(), StoreError> {
        let made =
            |name: &str| store.create_vault(support::OWNER, name, 3600, draft(Action::VaultAdd))?.wait();
        for name in ["kept", "erased"] {
            self.vaults.push(made(name)?);
        }
        let (vault, other) = (store.vault(self.vaults[0])?, store.vault(self.vaults[1])?);
        for number in 0..5 {
            self.put(&vault, &format!("f{number}"), number, 300_000)?;
            put(&other, format!("o{number}").as_bytes(), &noise(50 + number, 100_000))?;
        }
        let snapshot = vault.add_snapshot("first", None, draft(Action::VaultChange))?.wait()?;
        self.snapshot = Some((snapshot.time, self.tree.clone()));
        self.put(&vault, "f1", 11, 300_000)?;
        self.put(&vault, "f1", 12, 300_000)?;
        self.remove(&vault, "f2")?;
        self.put(&vault, "f3", 13, 200_000)?;
        self.put(&vault, "f3", 14, 200_000)?;
        dial.turn(2 * HOUR);
        store.reclaim(AT_ONCE, &mut |_, _| Flow::GoOn)?;
        let inode = vault.lookup(InodeId::ROOT, b"f4")?.inode;
        let open = vault.open(inode)?;
        let mut bytes = noise(4, 300_000);
        for at in (0..70).step_by(2) {
            let piece = noise(500 + at, 1000);
            let from = usize::try_from(at).unwrap() * 4096;
            open.write_at(from as u64, &piece)?;
            bytes[from..from + 1000].copy_from_slice(&piece);
        }
        let mut next = self.tree.clone();
        next.insert(b"/f4".to_vec(), (support::Kind2::File, bytes));
        self.next = Some(next);
        open.commit(Completion::Whole, draft(Action::FileWrite))?.wait()?;
        self.acknowledged();
        drop(open);
        self.remove(&vault, "f0")?;
        dial.turn(2 * HOUR);
        store.reclaim(AT_ONCE, &mut |_, _| Flow::GoOn)?;
        drop(other);
        self.stage = Stage::Erasing;
        let erasure = store.erase_vault(self.vaults[1], draft(Action::VaultErase), &mut |_, _| {})?;
        assert!(erasure.packs_left.is_empty());
        self.put(&vault, "last", 99, 10)?;
        self.stage = Stage::Whole;
        Ok(())
    }
}

fn run(blobs: Arc<dyn BlobStore>, index: &MemoryIndex, dial: &Arc<Dial>) -> Reached {
    let options = options(blobs, index, dial);
    let mut reached = Reached::default();
    if Store::create(&options).is_err() {
        return reached;
    }
    let Ok(store) = Store::open(options) else { return reached };
    match reached.steps(&store, dial) {
        Ok(()) => drop(store.shutdown()),
        Err(_) => store.abandon(),
    }
    reached
}

fn recovered(
    blobs: Arc<dyn BlobStore>,
    index: &MemoryIndex,
    dial: &Arc<Dial>,
    reached: &Reached,
    what: &str,
) {
    let [kept, rest @ ..] = &reached.vaults[..] else { return };
    let options = options(blobs, index, dial);
    let store = Store::open(options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let vault = store.vault(*kept).unwrap_or_else(|error| panic!("{what}: {error}"));
    let look = |when: &str| {
        let found = tree(&vault).unwrap_or_else(|error| panic!("{what}, {when}: {error}"));
        // A step may have been of two transactions: a file that was made, or cut, and not written yet.
        let partly = reached.next.as_ref().is_some_and(|next| {
            found.iter().all(|(path, (_, bytes))| {
                [&reached.tree, next]
                    .iter()
                    .any(|tree| tree.get(path).is_some_and(|(_, known)| known == bytes))
                    || bytes.is_empty()
            })
        });
        assert!(found == reached.tree || partly, "{what}, {when}: another tree");
        if let Some((time, noted)) = &reached.snapshot {
            let past = vault.at(*time).unwrap_or_else(|error| panic!("{what}, {when}: {error}"));
            for (path, (_, bytes)) in noted {
                let inode = past.lookup(InodeId::ROOT, &path[1..]).unwrap().inode;
                let open = past.open(inode).unwrap();
                assert!(open.read_at(0, 1 << 20).unwrap() == *bytes, "{what}, {when}: the snapshot");
            }
        }
    };
    look("opened");
    // What is left of a vault that is being erased counts still; `check` says so until it is gone.
    if reached.stage != Stage::Erasing {
        assert_clean(&store, &format!("{what}, opened"));
    }
    if reached.stage != Stage::Working {
        let erasure = store.erase_vault(rest[0], draft(Action::VaultErase), &mut |_, _| {}).unwrap();
        assert_eq!(erasure.packs_left, [], "{what}");
    }
    dial.turn(3 * HOUR);
    store.reclaim(AT_ONCE, &mut |_, _| Flow::GoOn).unwrap_or_else(|error| panic!("{what}: {error}"));
    look("reclaimed");
    assert_clean(&store, &format!("{what}, reclaimed"));
    put(&vault, b"after", b"it goes on").unwrap();
    assert_eq!(read(&vault, vault.lookup(InodeId::ROOT, b"after").unwrap().inode).unwrap(), b"it goes on");
    drop(vault);
    store.shutdown().unwrap();
}

#[test]
fn every_changing_call_of_reclaim_and_erasure_may_fail_once() {
    for n in 1.. {
        let (blobs, index, dial) = (FaultyBlobs::default(), MemoryIndex::default(), Arc::<Dial>::default());
        blobs.fail_at(n);
        let reached = run(Arc::new(blobs.clone()), &index, &dial);
        let fault_came = blobs.calls() >= n;
        blobs.fail_at(0);
        recovered(Arc::new(blobs), &index.after_power_cut(), &dial, &reached, &format!("call {n} failed"));
        if !fault_came {
            assert!(reached.stage == Stage::Whole && n > 100, "{n}");
            break;
        }
    }
}

#[test]
fn the_power_may_go_off_after_every_sync_of_reclaim_and_erasure() {
    let (whole, dial) = (FaultyBlobs::default(), Arc::<Dial>::default());
    assert!(run(Arc::new(whole.clone()), &MemoryIndex::default(), &dial).stage == Stage::Whole);
    for n in 1..=whole.syncs() {
        let (blobs, index, dial) = (FaultyBlobs::default(), MemoryIndex::default(), Arc::<Dial>::default());
        blobs.cut_after_sync(n);
        let reached = run(Arc::new(blobs.clone()), &index, &dial);
        let survived = blobs.after_power_cut(n * 31);
        let what = format!("power off after sync {n}");
        recovered(Arc::new(survived), &index.after_power_cut(), &dial, &reached, &what);
    }
}
