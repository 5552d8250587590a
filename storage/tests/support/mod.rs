//! What the tests of the store share.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod clock;
pub(crate) mod past;
pub(crate) mod scenario;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::BlobStore;
use coffre_storage::check::CheckOptions;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{InodeId, OwnerId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::keys::GatewayKey;
use coffre_storage::time::{Clock, UnixNanos};
use coffre_storage::tree::{AttributeChange, Kind};
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError, StoreOptions, Vault};

/// A clock that goes on by a millisecond at each look.
#[derive(Debug, Default)]
pub(crate) struct Tick(AtomicI64);

impl Clock for Tick {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_700_000_000_000_000_000 + self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}

pub(crate) fn key() -> GatewayKey {
    GatewayKey::from_secret(coffre_storage::keys::Secret32::new([7; 32]))
}

pub(crate) fn options(blobs: Arc<dyn BlobStore>, index: &MemoryIndex, pack_bytes: u64) -> StoreOptions {
    StoreOptions {
        directory: std::path::PathBuf::new(),
        blobs,
        index: IndexChoice::Given(Arc::new(index.clone())),
        clock: Arc::new(Tick::default()),
        gateway_key: key(),
        pack_bytes,
        // Few, so that whatever is larger than some chunks is stored before its commit.
        settle_chunks: 4,
        reserve_bytes: 0,
    }
}

pub(crate) const OWNER: OwnerId = OwnerId([1; 16]);

pub(crate) fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub(crate) fn new_vault(store: &Store) -> Result<VaultId, StoreError> {
    store.create_vault(OWNER, "v", 0, draft(Action::VaultAdd))?.wait()
}

/// Makes or overwrites a file; durable when this returns.
pub(crate) fn put(vault: &Vault, name: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
    let inode = match vault.lookup(InodeId::ROOT, name) {
        Ok(found) => found.inode,
        Err(StoreError::NotFound) => {
            vault
                .create_file(InodeId::ROOT, name, &AttributeChange::default(), draft(Action::FileCreate))?
                .value
        }
        Err(error) => return Err(error),
    };
    let file = vault.open(inode)?;
    file.truncate(0)?;
    for (at, piece) in bytes.chunks(100_000).enumerate() {
        file.write_at(at as u64 * 100_000, piece)?;
    }
    file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()
}

pub(crate) fn read(vault: &Vault, inode: InodeId) -> Result<Vec<u8>, StoreError> {
    let file = vault.open(inode)?;
    let mut out = Vec::new();
    loop {
        let piece = file.read_at(out.len() as u64, 150_000)?;
        if piece.is_empty() {
            return Ok(out);
        }
        out.extend_from_slice(&piece);
    }
}

/// What a tree holds: path -> kind and content.
pub(crate) type Tree = BTreeMap<Vec<u8>, (Kind2, Vec<u8>)>;

/// `Kind` that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind2 {
    File,
    Directory,
    Link,
}

pub(crate) fn tree(vault: &Vault) -> Result<Tree, StoreError> {
    let mut out = Tree::new();
    walk(vault, InodeId::ROOT, &[], &mut out)?;
    Ok(out)
}

fn walk(vault: &Vault, directory: InodeId, path: &[u8], out: &mut Tree) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let (entries, next) = vault.list(directory, cursor, 7)?;
        for entry in entries {
            let path = [path, b"/", &entry.name].concat();
            let inode = entry.attributes.inode;
            match entry.attributes.kind {
                Kind::Directory => {
                    walk(vault, inode, &path, out)?;
                    out.insert(path, (Kind2::Directory, Vec::new()));
                }
                Kind::File => drop(out.insert(path, (Kind2::File, read(vault, inode)?))),
                Kind::SymbolicLink => drop(out.insert(path, (Kind2::Link, vault.read_link(inode)?))),
            }
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Panics unless the store is in order, data included.
pub(crate) fn assert_clean(store: &Store, what: &str) {
    let report = store.check(CheckOptions { read_data: true, progress: None });
    assert!(report.as_ref().is_ok_and(|report| report.findings.is_empty()), "{what}: {report:#?}");
}
