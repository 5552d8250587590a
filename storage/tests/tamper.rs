//! A flipped byte anywhere is detected by a read, by `check` with data, or by the audit's verification, and never served.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::CheckOptions;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::{Store, StoreError};
use support::{Tree, new_vault, noise, options, put, tree};

const PACK_BYTES: u64 = 8 << 20;

fn made() -> (MemoryBlobs, MemoryIndex, coffre_storage::id::VaultId, Tree) {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let id = new_vault(&store).unwrap();
    let vault = store.vault(id).unwrap();
    for (at, len) in [0, 10, 5000, 100_000, 2 << 20].into_iter().enumerate() {
        put(&vault, format!("file {at}").as_bytes(), &noise(at as u64, len)).unwrap();
    }
    put(&vault, b"file 1", b"changed").unwrap();
    let whole = tree(&vault).unwrap();
    drop(vault);
    store.shutdown().unwrap();
    (blobs, index, id, whole)
}

/// Whether damage was noticed; panics when something wrong was served.
fn is_noticed(
    blobs: MemoryBlobs,
    index: &MemoryIndex,
    id: coffre_storage::id::VaultId,
    whole: &Tree,
) -> bool {
    let Ok(store) = Store::open(options(Arc::new(blobs), index, PACK_BYTES)) else { return true };
    let read = store.vault(id).map_err(|_| StoreError::DamagedRecord).and_then(|vault| tree(&vault));
    if let Ok(found) = &read {
        for (path, entry) in found {
            assert_eq!(whole.get(path), Some(entry), "something else was served");
        }
    }
    let complete = read.as_ref().is_ok_and(|found| found == whole);
    let clean = store
        .check(CheckOptions { read_data: true, progress: None })
        .is_ok_and(|report| report.findings.is_empty());
    let audit = store.verify_audit().is_ok_and(|report| report.damage.is_none());
    drop(store.shutdown());
    !(complete && clean && audit)
}

#[test]
fn an_untouched_store_is_clean() {
    let (blobs, index, id, whole) = made();
    assert!(!is_noticed(MemoryBlobs::holding(blobs.contents()), &index, id, &whole));
}

#[test]
fn a_flipped_byte_of_a_pack_or_the_audit_log_is_noticed() {
    let (blobs, index, id, whole) = made();
    let disk = blobs.contents();
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for (name, bytes) in disk.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let edges = [0, 8, 100, bytes.len() / 2, bytes.len() - 1];
        let inner: Vec<usize> = (0..25).map(|_| random(bytes.len())).collect();
        for at in edges.into_iter().chain(inner).filter(|at| *at < bytes.len()) {
            let mut changed = disk.clone();
            changed.get_mut(name).unwrap()[at] ^= 1 << random(8);
            // Each look at a store writes to its index: begin with the same one.
            let noticed = is_noticed(MemoryBlobs::holding(changed), &index.after_power_cut(), id, &whole);
            assert!(noticed, "byte {at} of {} of {name}", bytes.len());
        }
    }
}

#[test]
fn a_flipped_byte_of_the_index_is_noticed() {
    let (blobs, index, id, whole) = made();
    let disk = blobs.contents();
    for n in 0..200 {
        let changed = index.after_power_cut();
        changed.flip(n, n * 37);
        assert!(is_noticed(MemoryBlobs::holding(disk.clone()), &changed, id, &whole), "value {n}");
    }
}
