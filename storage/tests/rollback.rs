//! Older copies put in the place of newer ones: noticed when the store is opened, or brought forward, never taken for the
//! present.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::{CheckOptions, Finding};
use coffre_storage::commit::OpenError;
use coffre_storage::id::{InodeId, PackId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::{Store, StoreError};
use support::{assert_clean, new_vault, noise, options, put, read, tree};

/// Small packs: a few files fill one.
const PACK_BYTES: u64 = 8 << 20;

type Disk = BTreeMap<String, Vec<u8>>;

fn open(disk: &Disk, index: &MemoryIndex) -> Result<Store, OpenError> {
    Store::open(options(Arc::new(MemoryBlobs::holding(disk.clone())), index, PACK_BYTES))
}

/// A disk and an index of two moments, the second one some packs later.
struct Two {
    vault: VaultId,
    older: (Disk, MemoryIndex),
    newer: (Disk, MemoryIndex),
}

fn two() -> Two {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let id = new_vault(&store).unwrap();
    let vault = store.vault(id).unwrap();
    put(&vault, b"first", &noise(1, 100_000)).unwrap();
    store.checkpoint().unwrap();
    let older = (blobs.contents(), index.after_power_cut());
    for number in 0..6 {
        put(&vault, format!("later {number}").as_bytes(), &noise(10 + number, 3 << 20)).unwrap();
    }
    drop(vault);
    store.shutdown().unwrap();
    Two { vault: id, older, newer: (blobs.contents(), index.after_power_cut()) }
}

/// The files below `prefix` from one disk, all others from another.
fn mixed(prefix: &str, from: &Disk, others: &Disk) -> Disk {
    let taken = from.iter().filter(|(name, _)| name.starts_with(prefix));
    let rest = others.iter().filter(|(name, _)| !name.starts_with(prefix));
    taken.chain(rest).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

fn packs(disk: &Disk) -> Vec<String> {
    disk.keys().filter(|name| name.starts_with("packs/")).cloned().collect()
}

#[test]
fn packs_and_index_older_than_the_signed_audit_log_are_refused() {
    let Two { older, newer, .. } = two();
    let disk = mixed("packs/", &older.0, &newer.0);
    let refused = open(&disk, &older.1).unwrap_err();
    let OpenError::RolledBack { found, signed } = refused else { panic!("{refused}") };
    assert!(found < signed, "{found} {signed}");
    // Refusing changed nothing: with the right packs and index all is there.
    let disk = mixed("packs/", &newer.0, &disk);
    let store = open(&disk, &newer.1).unwrap();
    assert_clean(&store, "the newest copies");
    store.shutdown().unwrap();
}

#[test]
fn packs_older_than_the_index_are_refused() {
    let Two { older, newer, .. } = two();
    let disk = mixed("packs/", &older.0, &newer.0);
    assert!(matches!(open(&disk, &newer.1), Err(OpenError::PackMissing { .. })));
    // All packs are there, the newest one as it was earlier.
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let vault = store.vault(new_vault(&store).unwrap()).unwrap();
    put(&vault, b"one", b"1").unwrap();
    store.checkpoint().unwrap();
    let earlier = blobs.contents();
    put(&vault, b"two", b"2").unwrap();
    store.checkpoint().unwrap();
    let (later, index) = (blobs.contents(), index.after_power_cut());
    drop(vault);
    store.abandon();
    let refused = open(&mixed("packs/", &earlier, &later), &index).unwrap_err();
    let OpenError::RolledBack { found, signed } = refused else { panic!("{refused}") };
    assert!(found < signed && found.0 > 0, "{found} {signed}");
    open(&later, &index).unwrap().shutdown().unwrap();
}

#[test]
fn an_older_index_is_brought_forward_unless_a_pack_it_needs_is_gone() {
    let Two { vault, older, newer } = two();
    let store = open(&newer.0, &older.1.after_power_cut()).unwrap();
    assert_eq!(tree(&store.vault(vault).unwrap()).unwrap().len(), 7);
    assert_clean(&store, "an older index");
    store.shutdown().unwrap();
    let names = packs(&newer.0);
    assert!(names.len() >= 3, "{names:?}");
    for (at, name) in names.iter().enumerate() {
        let mut disk = newer.0.clone();
        disk.remove(name);
        let last = at + 1 == names.len();
        match open(&disk, &older.1.after_power_cut()) {
            Err(OpenError::PackMissing { pack }) => assert_eq!(pack, PackId(at as u64 + 1)),
            // Nothing comes after it that would show that it is gone, but the audit log knows.
            Err(OpenError::RolledBack { .. }) => assert!(last, "{name}"),
            Err(other) => panic!("{name}: {other}"),
            // It was begun, and no transaction came into it.
            Ok(store) => {
                assert!(last, "{name}");
                assert_eq!(tree(&store.vault(vault).unwrap()).unwrap().len(), 7);
                store.shutdown().unwrap();
            }
        }
    }
}

#[test]
fn a_deleted_pack_is_named_and_takes_only_its_own_files_along() {
    let Two { vault, newer, .. } = two();
    let names = packs(&newer.0);
    let mut disk = newer.0.clone();
    disk.remove(&names[1]);
    let store = open(&disk, &newer.1).unwrap();
    let report = store.check(CheckOptions::default()).unwrap();
    let missing = report.findings.iter().find_map(|finding| {
        if let Finding::PackMissing { pack, chunks } = finding { Some((*pack, *chunks)) } else { None }
    });
    assert!(missing.is_some_and(|(pack, chunks)| pack == PackId(2) && chunks > 10), "{report:?}");
    let concerned: Vec<_> = report.files.iter().filter_map(|file| file.path.clone()).collect();
    let vault = store.vault(vault).unwrap();
    let (entries, _) = vault.list(InodeId::ROOT, None, 100).unwrap();
    let mut failed = 0;
    for entry in entries {
        let path = [b"/", &entry.name[..]].concat();
        match read(&vault, entry.attributes.inode) {
            Ok(_) => assert!(!concerned.contains(&path)),
            Err(StoreError::Damaged { pack }) => {
                assert!(concerned.contains(&path) && pack == PackId(2));
                failed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failed > 0 && failed < 5, "{failed}");
    put(&vault, b"goes on", b"1").unwrap();
    drop(vault);
    store.shutdown().unwrap();
}

#[test]
fn signed_notes_that_are_gone_are_refused() {
    let Two { older, newer, .. } = two();
    let disk = mixed("audit/", &older.0, &newer.0);
    assert!(matches!(open(&disk, &newer.1), Err(OpenError::AuditDamaged(_))));
}
