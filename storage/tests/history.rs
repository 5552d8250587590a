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
use coffre_storage::tree::{AttributeChange, Attributes, Cursor, Entry, Kind, PastVault, Replace};
use coffre_storage::upload::{Completion, OpenFile};
use coffre_storage::{Store, StoreError, Vault};
use support::{draft, noise, options};

const YEAR_SECS: u64 = 365 * 86_400;

/// What is seen of a file: mode, size, time, content or target.
type Seen = (Kind, u32, u64, UnixNanos, Vec<u8>);
type Moments = Vec<(UnixNanos, BTreeMap<Vec<u8>, Seen>)>;

/// The present or a moment, looked at in the same way.
trait Look {
    fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError>;
    fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError>;
    fn link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError>;
    fn look(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError>;
}

impl Look for Vault {
    fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        Self::list(self, directory, cursor, 3)
    }
    fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        Self::open(self, inode)
    }
    fn link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> {
        self.read_link(inode)
    }
    fn look(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> {
        self.lookup(parent, name)
    }
}

impl Look for PastVault {
    fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        Self::list(self, directory, cursor, 3)
    }
    fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        Self::open(self, inode)
    }
    fn link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> {
        self.read_link(inode)
    }
    fn look(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> {
        self.lookup(parent, name)
    }
}

fn walk(at: &dyn Look, directory: InodeId, path: &[u8], seen: &mut BTreeMap<Vec<u8>, Seen>) {
    let mut cursor = None;
    loop {
        let (entries, next) = at.list(directory, cursor).unwrap();
        for Entry { name, attributes } in entries {
            assert_eq!(at.look(directory, &name).unwrap(), attributes);
            let path = [path, b"/", &name].concat();
            let content = match attributes.kind {
                Kind::File => at.open(attributes.inode).unwrap().read_at(0, 1 << 20).unwrap(),
                Kind::SymbolicLink => at.link(attributes.inode).unwrap(),
                Kind::Directory => Vec::new(),
            };
            if attributes.kind == Kind::Directory {
                walk(at, attributes.inode, &path, seen);
            }
            let one = (attributes.kind, attributes.mode, attributes.size, attributes.mtime, content);
            assert!(seen.insert(path, one).is_none(), "a name is listed once");
        }
        cursor = next;
        if cursor.is_none() {
            return;
        }
    }
}

fn tree(at: &dyn Look) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    walk(at, InodeId::ROOT, b"", &mut seen);
    seen
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn name(&mut self) -> Vec<u8> {
        format!("n{}", self.below(6)).into_bytes()
    }

    /// A directory that is there now.
    fn directory(&mut self, vault: &Vault) -> InodeId {
        let mut at = InodeId::ROOT;
        for _ in 0..self.below(3) {
            match vault.lookup(at, &self.name()) {
                Ok(found) if found.kind == Kind::Directory => at = found.inode,
                _ => break,
            }
        }
        at
    }
}

/// One random change; what it cannot do it does not.
fn change(vault: &Vault, random: &mut Random) -> Result<(), StoreError> {
    let (parent, name) = (random.directory(vault), random.name());
    let attributes = AttributeChange::default();
    match random.below(12) {
        0..=3 => {
            let inode = match vault.lookup(parent, &name) {
                Ok(found) => found.inode,
                Err(_) => vault.create_file(parent, &name, &attributes, draft(Action::FileCreate))?.value,
            };
            let file = vault.open(inode)?;
            let len = random.below(40_000);
            file.write_at(random.below(10_000), &noise(random.below(50), usize::try_from(len).unwrap()))?;
            file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()
        }
        4 => {
            vault.make_directory(parent, &name, &attributes, draft(Action::DirectoryCreate))?.wait().map(drop)
        }
        5 => vault.make_link(parent, &name, &random.name(), draft(Action::LinkCreate))?.wait().map(drop),
        6 => {
            let file = vault.open(vault.lookup(parent, &name)?.inode)?;
            file.truncate(random.below(20_000))?;
            file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()
        }
        7 => vault.remove_tree(parent, &name, draft(Action::Remove))?.wait(),
        8 | 9 => {
            let to = random.directory(vault);
            let to_name = random.name();
            vault.rename((parent, &name), (to, &to_name), Replace::Tree, draft(Action::Rename))?.wait()
        }
        10 => {
            let mode = u32::try_from(random.below(0o1000)).unwrap();
            let mtime =
                (random.below(2) == 0).then(|| UnixNanos(i64::try_from(random.below(1 << 60)).unwrap()));
            let change = AttributeChange { mode: Some(mode), mtime, ..AttributeChange::default() };
            let inode = vault.lookup(parent, &name)?.inode;
            vault.set_attributes(inode, &change, draft(Action::AttributesSet))?.wait()
        }
        _ => {
            let source = vault.lookup(parent, &name)?.inode;
            let to = random.directory(vault);
            vault
                .copy(source, (to, &random.name()), Replace::Never, true, draft(Action::Copy))?
                .wait()
                .map(drop)
        }
    }
}

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
