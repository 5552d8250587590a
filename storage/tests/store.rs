//! A store on a disk: made, written, read, replayed.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

use std::sync::Arc;

use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{InodeId, OwnerId, VaultId};
use coffre_storage::keys::GatewayKey;
use coffre_storage::time::{Clock, UnixNanos};
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreOptions};

#[derive(Debug)]
struct Tick;
impl Clock for Tick {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_700_000_000_000_000_000)
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}

fn options(directory: &std::path::Path, key: &GatewayKey) -> StoreOptions {
    StoreOptions {
        directory: directory.to_owned(),
        blobs: Arc::new(DiskBlobs::new(directory).unwrap()),
        index: IndexChoice::Redb,
        clock: Arc::new(Tick),
        gateway_key: key.clone(),
        pack_bytes: 64 << 20,
        settle_chunks: 4,
        reserve_bytes: 0,
    }
}

fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

fn put(store: &Store, vault: VaultId, name: &[u8], bytes: &[u8]) {
    let vault = store.vault(vault).unwrap();
    let inode = vault
        .create_file(InodeId::ROOT, name, &AttributeChange::default(), draft(Action::FileCreate))
        .unwrap()
        .value;
    let file = vault.open(inode).unwrap();
    for (at, piece) in bytes.chunks(261_120).enumerate() {
        file.write_at(at as u64 * 261_120, piece).unwrap();
    }
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
}

fn get(store: &Store, vault: VaultId, name: &[u8]) -> Vec<u8> {
    let vault = store.vault(vault).unwrap();
    let found = vault.lookup(InodeId::ROOT, name).unwrap();
    let file = vault.open(found.inode).unwrap();
    let mut out = Vec::new();
    loop {
        let piece = file.read_at(out.len() as u64, 100_000).unwrap();
        if piece.is_empty() {
            return out;
        }
        out.extend_from_slice(&piece);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let key = GatewayKey::generate().unwrap();
    Store::create(&options(home.path(), &key)).unwrap();
    let store = Store::open(options(home.path(), &key)).unwrap();
    let vault =
        store.create_vault(OwnerId([1; 16]), "v", 0, draft(Action::VaultAdd)).unwrap().wait().unwrap();
    let files: Vec<(Vec<u8>, Vec<u8>)> = (0_u8..)
        .zip([0, 1, 4096, 70_000, 5 << 20, 100 << 20])
        .map(|(at, len)| (format!("f{at}").into_bytes(), noise(at, len)))
        .collect();
    for (name, bytes) in &files {
        put(&store, vault, name, bytes);
        assert!(get(&store, vault, name) == *bytes);
    }
    assert!(matches!(Store::open(options(home.path(), &key)), Err(coffre_storage::commit::OpenError::InUse)));
    store.shutdown().unwrap();
    drop(store);
    let store = Store::open(options(home.path(), &key)).unwrap();
    for (name, bytes) in &files {
        assert!(get(&store, vault, name) == *bytes);
    }
    put(&store, vault, b"late", b"after");
    store.abandon();
    drop(store);
    let store = Store::open(options(home.path(), &key)).unwrap();
    assert_eq!(get(&store, vault, b"late"), b"after");
    for (name, bytes) in &files {
        assert!(get(&store, vault, name) == *bytes);
    }
    let report = store.verify_audit().unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    store.shutdown().unwrap();
}
