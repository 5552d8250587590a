//! What is done to a store while it fails: scenarios of acknowledged steps, each with what the tree holds after it. A new
//! one is a line in [`SCENARIOS`]; every sweep of faults runs all of them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part, and fails by it"
)]

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::{AttributeChange, Kind, PastVault, Replace};
use coffre_storage::upload::{Completion, Precondition};
use coffre_storage::{Store, StoreError, Vault};

use super::{Kind2, Tree, assert_clean, draft, new_vault, noise, options, put, tree};

/// Small packs, so that a scenario goes through several.
pub(crate) const PACK_BYTES: u64 = 8 << 20;

/// One step; durable when it returns.
pub(crate) type Step = fn(&Vault) -> Result<(), StoreError>;
/// What it does to the tree.
pub(crate) type After = fn(&mut Tree);

/// Steps of one kind of work.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) steps: fn() -> Vec<(Step, After)>,
    /// After so many steps there is a checkpoint, so that replay begins at different places.
    pub(crate) checkpoint_after: usize,
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 2] = [
    Scenario { name: "files", steps: files, checkpoint_after: 4 },
    Scenario { name: "history", steps: history, checkpoint_after: 5 },
];

/// Files over several packs: written, changed in place, moved, removed.
fn files() -> Vec<(Step, After)> {
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

/// Takes a snapshot whose name says which step it is: it must show the tree as it was after that step, whatever comes.
fn snapshot(vault: &Vault, step: usize) -> Result<(), StoreError> {
    vault.add_snapshot(&format!("after-{step}"), None, draft(Action::VaultChange))?.wait()?;
    Ok(())
}

/// States that come back: superseded, removed and renamed ones, kept by snapshots.
fn history() -> Vec<(Step, After)> {
    fn file(seed: u64, len: usize) -> (Kind2, Vec<u8>) {
        (Kind2::File, noise(seed, len))
    }
    vec![
        (|v| put(v, b"a", &noise(1, 40_000)), |t| drop(t.insert(b"/a".to_vec(), file(1, 40_000)))),
        (|v| put(v, b"big", &noise(2, 3 << 20)), |t| drop(t.insert(b"/big".to_vec(), file(2, 3 << 20)))),
        (|v| snapshot(v, 2), |_| {}),
        (|v| put(v, b"a", &noise(3, 10)), |t| drop(t.insert(b"/a".to_vec(), file(3, 10)))),
        (
            |v| {
                v.rename(
                    (InodeId::ROOT, b"big"),
                    (InodeId::ROOT, b"moved"),
                    Replace::Posix,
                    draft(Action::Rename),
                )?
                .wait()
            },
            |t| {
                let moved = t.remove(&b"/big"[..]).unwrap();
                t.insert(b"/moved".to_vec(), moved);
            },
        ),
        (|v| snapshot(v, 5), |_| {}),
        (
            |v| {
                let file = v.open(v.lookup(InodeId::ROOT, b"moved")?.inode)?;
                file.write_at(2_000_000, b"changed")?;
                file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()
            },
            |t| t.get_mut(&b"/moved"[..]).unwrap().1[2_000_000..2_000_007].copy_from_slice(b"changed"),
        ),
        (|v| v.remove(InodeId::ROOT, b"a", draft(Action::Remove))?.wait(), |t| drop(t.remove(&b"/a"[..]))),
        (|v| put(v, b"c", &noise(5, 4 << 20)), |t| drop(t.insert(b"/c".to_vec(), file(5, 4 << 20)))),
        (
            |v| v.remove(InodeId::ROOT, b"moved", draft(Action::Remove))?.wait(),
            |t| drop(t.remove(&b"/moved"[..])),
        ),
        (|v| snapshot(v, 10), |_| {}),
    ]
}

impl Scenario {
    /// The tree before the first step and after each.
    pub(crate) fn states(&self) -> Vec<Tree> {
        let mut now = Tree::new();
        let mut all = vec![now.clone()];
        for (_, change) in (self.steps)() {
            change(&mut now);
            all.push(now.clone());
        }
        all
    }

    /// Makes a store and runs the steps until something fails. Tells how many steps were acknowledged, and the vault if it
    /// was. The store is still open when `left_open` takes it.
    pub(crate) fn run(
        &self,
        blobs: Arc<dyn BlobStore>,
        index: &MemoryIndex,
        left_open: &mut dyn FnMut(&Store),
    ) -> (Option<VaultId>, usize) {
        let options = options(blobs, index, PACK_BYTES);
        if Store::create(&options).is_err() {
            return (None, 0);
        }
        let Ok(store) = Store::open(options) else { return (None, 0) };
        let Ok(id) = new_vault(&store) else {
            store.abandon();
            return (None, 0);
        };
        let acknowledged = store.vault(id).map_or(0, |vault| self.go_on(&vault, 0));
        if acknowledged == (self.steps)().len() {
            drop(store.shutdown());
        } else {
            left_open(&store);
            store.abandon();
        }
        (Some(id), acknowledged)
    }

    /// Runs the steps from one on, until something fails; tells how many are acknowledged then.
    pub(crate) fn go_on(&self, vault: &Vault, from: usize) -> usize {
        let mut acknowledged = from;
        for (step, _) in (self.steps)().iter().skip(from) {
            if step(vault).is_err() {
                break;
            }
            acknowledged += 1;
            if acknowledged == self.checkpoint_after && vault.store().checkpoint().is_err() {
                break;
            }
        }
        acknowledged
    }

    /// Whether a tree is that after so many steps, or the step that was under way came to its end too. It may have been of
    /// several transactions: a file that was made and not written yet is empty.
    fn fits(&self, found: &Tree, acknowledged: usize) -> bool {
        let states = self.states();
        let next = states.get(acknowledged + 1);
        let partly = |next: &Tree| {
            let mut partly = states[acknowledged].clone();
            for path in next.keys() {
                partly.entry(path.clone()).or_insert((Kind2::File, vec![]));
            }
            partly == *found
        };
        states[acknowledged] == *found || next.is_some_and(|next| next == found || partly(next))
    }

    /// An open store holds the state after the acknowledged steps or one step more, its snapshots show what they showed,
    /// and it is in order.
    pub(crate) fn assert_holds(&self, store: &Store, id: VaultId, acknowledged: usize, what: &str) {
        let what = format!("{}, {what}: after {acknowledged} steps", self.name);
        let vault = store.vault(id).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = tree(&vault).unwrap_or_else(|error| panic!("{what}: {error}"));
        let names: Vec<_> =
            found.iter().map(|(path, (_, bytes))| (String::from_utf8_lossy(path), bytes.len())).collect();
        assert!(self.fits(&found, acknowledged), "{what}: {names:?}");
        for snapshot in vault.snapshots().unwrap() {
            let step: usize = snapshot.name.trim_start_matches("after-").parse().unwrap();
            let mut then = Tree::new();
            walk(&vault.at(snapshot.time).unwrap(), InodeId::ROOT, b"", &mut then).unwrap();
            assert!(then == self.states()[step], "{what}: snapshot {}", snapshot.name);
        }
        assert_clean(store, &what);
    }

    /// After a crash: the store opens, holds what it should, and goes on.
    pub(crate) fn assert_recovers(
        &self,
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
        let store = Store::open(options)
            .unwrap_or_else(|error| panic!("{}, {what}: after {acknowledged} steps: {error}", self.name));
        self.assert_holds(&store, id, acknowledged, what);
        put(&store.vault(id).unwrap(), b"after", b"it goes on").unwrap();
        store.shutdown().unwrap();
    }
}

/// What a moment shows.
fn walk(at: &PastVault, directory: InodeId, path: &[u8], into: &mut Tree) -> Result<(), StoreError> {
    for entry in at.list(directory, None, 1000)?.0 {
        let (path, inode) = ([path, b"/", &entry.name].concat(), entry.attributes.inode);
        let seen = match entry.attributes.kind {
            Kind::Directory => {
                walk(at, inode, &path, into)?;
                (Kind2::Directory, Vec::new())
            }
            Kind::SymbolicLink => (Kind2::Link, at.read_link(inode)?),
            Kind::File => {
                let len = usize::try_from(entry.attributes.size).unwrap();
                (Kind2::File, at.open(inode)?.read_at(0, len)?)
            }
        };
        into.insert(path, seen);
    }
    Ok(())
}
