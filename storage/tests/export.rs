//! The index written into the log: whole, exact to its base, while others write.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::BatchNumber;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::index::{Index, Table};
use coffre_storage::keys::GatewayLabel;
use coffre_storage::log::export::ExportPart;
use coffre_storage::log::walk::{PackReader, packs};
use coffre_storage::{Store, StoreError};
use support::{assert_clean, key, new_vault, noise, options, put, tree};

const PACK_BYTES: u64 = 8 << 20;

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The parts of each export in the log, in order.
fn parts(blobs: &MemoryBlobs) -> Vec<ExportPart> {
    let packs_key = key().derive(GatewayLabel::Packs);
    let mut found = Vec::new();
    for pack in packs(blobs).unwrap() {
        let reader = PackReader::open(blobs, &packs_key, pack).unwrap().unwrap();
        let mut at = 4096;
        while let Some(batch) = reader.batch_at(at).unwrap() {
            found.extend(batch.meta.export.map(|part| ExportPart::decode(&part).unwrap()));
            at = batch.end;
        }
    }
    found
}

fn rows_of(index: &MemoryIndex) -> Rows {
    let snapshot = index.snapshot().unwrap();
    let mut rows = Rows::new();
    for table in Table::ALL {
        for (at, value) in snapshot.range(table, &[], &[0xff; 80], usize::MAX).unwrap() {
            rows.insert((table, at), value);
        }
    }
    rows
}

#[test]
fn an_export_holds_every_row_of_the_checkpoint_before_it() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let vault = store.vault(new_vault(&store).unwrap()).unwrap();
    for n in 0..400 {
        // Rows of some weight, so that there are several parts.
        vault_row(&vault, n);
    }
    assert_eq!(store.newest_export().unwrap(), None);
    store.checkpoint().unwrap();
    let before = rows_of(&index);
    let summary = store.export_index(&mut |_| {}).unwrap();
    assert_eq!(store.newest_export().unwrap(), Some(summary.export));
    let found = parts(&blobs);
    assert!(found.len() > 2 && found.len() as u64 == summary.parts, "{} parts", found.len());
    for (at, part) in found.iter().enumerate() {
        assert_eq!((part.number, part.base, part.part), (1, summary.export.base, at as u64));
        assert_eq!(part.parts, (at + 1 == found.len()).then_some(found.len() as u64));
    }
    let rows = found.into_iter().flat_map(|part| part.rows);
    let exported: Rows = rows.map(|(table, at, value)| ((table, at), value)).collect();
    assert_eq!(exported.len() as u64, summary.rows);
    // The position was sealed anew by the checkpoint that the export began with.
    let known = |rows: &Rows| rows.iter().filter(|((table, _), _)| *table != Table::Store).count();
    assert_eq!(known(&exported), known(&before));
    assert!(exported.iter().all(|(at, value)| at.0 == Table::Store || before.get(at) == Some(value)));
    // Numbers go on.
    assert_eq!(store.export_index(&mut |_| {}).unwrap().export.number, 2);
    assert!(store.newest_export().unwrap().unwrap().base > summary.export.base);
    drop(vault);
    store.shutdown().unwrap();
}

fn vault_row(vault: &coffre_storage::Vault, n: u64) {
    let name = format!("{n}").into_bytes();
    put(vault, &name, b"x").unwrap();
    let inode = vault.lookup(coffre_storage::id::InodeId::ROOT, &name).unwrap().inode;
    let properties = [(b"p".to_vec(), Some(noise(n, 8000)))];
    let audit = support::draft(coffre_storage::audit::Action::PropertiesSet);
    vault.set_properties(inode, &properties, audit).unwrap().wait().unwrap();
}

#[test]
fn writers_go_on_during_an_export_and_replay_passes_it_by() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let made = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&made).unwrap();
    let store = Store::open(made.clone()).unwrap();
    let id = new_vault(&store).unwrap();
    let vault = store.vault(id).unwrap();
    (0..200).for_each(|n| vault_row(&vault, n));
    let done = AtomicBool::new(false);
    let bases = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0_u64;
            while !done.load(Ordering::Relaxed) {
                put(&vault, format!("w{written}").as_bytes(), &noise(written, 20_000)).unwrap();
                written += 1;
            }
            written
        });
        let bases: Vec<BatchNumber> =
            (0..5).map(|_| store.export_index(&mut |_| {}).unwrap().export.base).collect();
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
        bases
    });
    assert!(bases.is_sorted());
    let expected = tree(&vault).unwrap();
    drop(vault);
    store.abandon();
    let index = index.after_power_cut();
    let store = Store::open(options(Arc::new(blobs), &index, PACK_BYTES)).unwrap();
    assert_eq!(tree(&store.vault(id).unwrap()).unwrap(), expected);
    assert_clean(&store, "replayed over exports");
    store.shutdown().unwrap();
    assert!(matches!(store.export_index(&mut |_| {}), Err(StoreError::Poisoned)));
}
