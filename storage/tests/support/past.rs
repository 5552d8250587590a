//! Random changes of a vault, and what is seen of it in the present or at a moment.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{AttributeChange, Attributes, Cursor, Entry, Kind, PastVault, Replace};
use coffre_storage::upload::{Completion, OpenFile};
use coffre_storage::{StoreError, Vault};

use super::{draft, noise};

/// What is seen of a file: mode, size, time, content or target, names.
pub(crate) type Seen = (Kind, u32, u64, UnixNanos, Vec<u8>, u32);
pub(crate) type Moments = Vec<(UnixNanos, BTreeMap<Vec<u8>, Seen>)>;

/// The present or a moment, looked at in the same way.
pub(crate) trait Look {
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
            let Attributes { kind, mode, size, mtime, links, .. } = attributes;
            let one = (kind, mode, size, mtime, content, links);
            assert!(seen.insert(path, one).is_none(), "a name is listed once");
        }
        cursor = next;
        if cursor.is_none() {
            return;
        }
    }
}

pub(crate) fn tree(at: &dyn Look) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    walk(at, InodeId::ROOT, b"", &mut seen);
    seen
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
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
pub(crate) fn change(vault: &Vault, random: &mut Random) -> Result<(), StoreError> {
    let (parent, name) = (random.directory(vault), random.name());
    let attributes = AttributeChange::default();
    match random.below(13) {
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
        11 => {
            let source = vault.lookup(parent, &name)?.inode;
            let to = random.directory(vault);
            vault.hard_link(source, to, &random.name(), draft(Action::LinkCreate))?.wait()
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
