//! Nothing of an erased vault is left: with every secret of the server at hand, its slot is in no pack, no index and no
//! export, and its frames are nowhere; the vaults beside it are whole.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{InodeId, OwnerId, VaultId};
use coffre_storage::index::Table;
use coffre_storage::keys::GatewayLabel;
use coffre_storage::log::export::ExportPart;
use coffre_storage::log::walk::{PackReader, packs};
use coffre_storage::note;
use coffre_storage::reclaim::CERTIFICATE_ORIGIN;
use coffre_storage::{Store, StoreError, StoreOptions};
use support::{draft, noise, put, read};

fn options(home: &std::path::Path) -> StoreOptions {
    let index = coffre_storage::index::memory::MemoryIndex::default();
    let blobs: Arc<dyn BlobStore> = Arc::new(DiskBlobs::new(home).unwrap());
    StoreOptions {
        directory: home.to_owned(),
        index: IndexChoice::Redb,
        ..support::options(blobs, &index, 4 << 20)
    }
}

/// What the log says of a vault, to whoever has the gateway's key: rows and frames.
fn traces(options: &StoreOptions, vault: VaultId) -> (usize, usize) {
    let key = options.gateway_key.derive(GatewayLabel::Packs);
    let (mut rows, mut frames) = (0, 0);
    for pack in packs(options.blobs.as_ref()).unwrap() {
        let reader = PackReader::open(options.blobs.as_ref(), &key, pack).unwrap().unwrap();
        let mut offset = 4096;
        while let Some(batch) = reader.batch_at(offset).unwrap() {
            frames += batch.meta.frames.iter().filter(|frame| frame.vault == vault).count();
            let slots = batch.meta.changes.iter().filter(|change| change.table == Table::Vaults);
            rows += slots.filter(|change| change.key == vault.0).count();
            if let Some(part) = batch.meta.export.as_deref().and_then(ExportPart::decode) {
                rows += part
                    .rows
                    .iter()
                    .filter(|(table, key, _)| *table == Table::Vaults && *key == vault.0)
                    .count();
            }
            offset = batch.end;
        }
    }
    (rows, frames)
}

/// The vault's rows in the log that still have a slot: with the gateway's keys they open.
fn slots_in_the_log(options: &StoreOptions, vault: VaultId) -> Vec<Vec<u8>> {
    let records = coffre_storage::record::RecordKey::new(&options.gateway_key.derive(GatewayLabel::Records));
    let key = options.gateway_key.derive(GatewayLabel::Packs);
    let mut found = Vec::new();
    for pack in packs(options.blobs.as_ref()).unwrap() {
        let reader = PackReader::open(options.blobs.as_ref(), &key, pack).unwrap().unwrap();
        let mut offset = 4096;
        while let Some(batch) = reader.batch_at(offset).unwrap() {
            let mut sealed: Vec<Vec<u8>> = Vec::new();
            for change in &batch.meta.changes {
                if change.table == Table::Vaults && change.key == vault.0 {
                    sealed.extend(change.value.clone());
                }
            }
            if let Some(part) = batch.meta.export.as_deref().and_then(ExportPart::decode) {
                let rows = part
                    .rows
                    .into_iter()
                    .filter(|(table, key, _)| *table == Table::Vaults && *key == vault.0);
                sealed.extend(rows.map(|(_, _, value)| value));
            }
            for row in sealed {
                let row = records.open(Table::Vaults, &vault.0, &row).unwrap();
                // Field 4 of the row: a managed slot is a byte string of 92 bytes inside a row.
                if row.windows(3).any(|head| head == [0x81, 0x58, 92]) {
                    found.push(row);
                }
            }
            offset = batch.end;
        }
    }
    found
}

/// The vault's record as the index file has it.
fn sealed_slot(home: &std::path::Path, vault: VaultId) -> Vec<u8> {
    use coffre_storage::index::Index;
    let index = coffre_storage::index::redb::RedbIndex::open(&home.join("index.redb")).unwrap();
    index.snapshot().unwrap().get(Table::Vaults, &vault.0).unwrap().unwrap()
}

fn files_hold(home: &std::path::Path, needle: &[u8]) -> bool {
    let mut found = false;
    for directory in [home.to_owned(), home.join("packs"), home.join("audit")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                found |= bytes.windows(needle.len()).any(|window| window == needle);
            }
        }
    }
    found
}

fn operator() -> RecordDraft {
    RecordDraft::new(Actor::Operator, Action::VaultErase)
}

#[test]
fn an_erased_vault_leaves_nothing_and_its_neighbour_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path());
    Store::create(&options).unwrap();
    let store = Store::open(options.clone()).unwrap();
    let make = |owner, name: &str| {
        let made = store.create_vault(owner, name, 3600, draft(Action::VaultAdd)).unwrap().wait().unwrap();
        store.vault(made).unwrap()
    };
    let (doomed, other) = (make(OwnerId([1; 16]), "doomed"), make(OwnerId([2; 16]), "other"));
    let other_id = other.id();
    for number in 0..12_u64 {
        let name = format!("f{number}");
        put(&doomed, name.as_bytes(), &noise(number, 700_000)).unwrap();
        put(&other, name.as_bytes(), &noise(100 + number, 300_000)).unwrap();
    }
    // The slot lies in an export too.
    store.export_index(&mut |_| {}).unwrap();
    doomed.remove(InodeId::ROOT, b"f3", draft(Action::Remove)).unwrap().wait().unwrap();
    let id = doomed.id();
    // As it lies in the index file.
    store.shutdown().unwrap();
    drop((doomed, other, store));
    let sealed = sealed_slot(home.path(), id);
    assert!(files_hold(home.path(), &sealed), "it is looked for as it is written");
    let (rows, frames) = traces(&options, id);
    assert!(rows >= 2 && frames > 50, "{rows} {frames}");
    assert!(slots_in_the_log(&options, id).len() >= 2, "they are found where they are");

    let store = Store::open(options.clone()).unwrap();
    let vault = store.vault(id).unwrap();
    let held = vault.open(vault.lookup(InodeId::ROOT, b"f5").unwrap().inode).unwrap();
    let mut told = 0;
    let erasure =
        store.erase_vault(id, operator(), &mut |done, total| told = told.max(done.min(total))).unwrap();
    assert_eq!(erasure.packs_left, [], "{erasure:?}");
    assert!(erasure.packs > 2 && erasure.rows > 30 && told > 0, "{erasure:?}");
    assert!(matches!(store.vault(id), Err(StoreError::VaultUnavailable(_))));
    drop((held, vault));

    assert!(!files_hold(home.path(), &sealed), "the slot's record is on the disk");
    let certificate = store.erasure_certificate(&erasure, &["/backup/one".to_owned()]).unwrap();
    let body = note::verify(CERTIFICATE_ORIGIN, &certificate, &store.audit_public_key()).unwrap();
    assert!(
        body.contains(&format!("vault {id} doomed")) && body.contains("copy purged /backup/one"),
        "{body}"
    );
    // A second call finds nothing more to do.
    let again = store.erase_vault(id, operator(), &mut |_, _| {}).unwrap();
    assert_eq!((again.rows, again.packs_left), (0, vec![]));
    assert_eq!(again.erased, erasure.erased);
    store.shutdown().unwrap();
    drop(store);
    let (_, frames) = traces(&options, id);
    assert_eq!(frames, 0);
    assert!(slots_in_the_log(&options, id).is_empty());

    let store = Store::open(options).unwrap();
    let other = store.vault(other_id).unwrap();
    for number in 0..12_u64 {
        let inode = other.lookup(InodeId::ROOT, format!("f{number}").as_bytes()).unwrap().inode;
        assert_eq!(read(&other, inode).unwrap(), noise(100 + number, 300_000));
    }
    support::assert_clean(&store, "without the erased vault");
    // The name is free again.
    store.create_vault(OwnerId([1; 16]), "doomed", 60, draft(Action::VaultAdd)).unwrap().wait().unwrap();
    store.shutdown().unwrap();
}

#[test]
fn what_lies_in_the_pack_that_is_being_written_is_erased_too() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path());
    Store::create(&options).unwrap();
    let store = Store::open(options.clone()).unwrap();
    let made = store.create_vault(support::OWNER, "v", 60, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    let id = vault.id();
    put(&vault, b"small", &noise(1, 50_000)).unwrap();
    drop(vault);
    let erasure = store.erase_vault(id, operator(), &mut |_, _| {}).unwrap();
    assert!(erasure.packs == 1 && erasure.packs_left.is_empty(), "{erasure:?}");
    store.shutdown().unwrap();
    assert_eq!(traces(&options, id).1, 0);
    assert!(slots_in_the_log(&options, id).is_empty());
}

#[test]
fn a_held_vault_is_not_erased() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path());
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let made = store.create_vault(support::OWNER, "v", 60, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    put(&vault, b"evidence", b"x").unwrap();
    let hold = vault.add_hold(InodeId::ROOT, "case", draft(Action::VaultChange)).unwrap().wait().unwrap();
    let refused = store.erase_vault(vault.id(), operator(), &mut |_, _| {});
    assert!(matches!(refused, Err(StoreError::Held)));
    let inode = vault.lookup(InodeId::ROOT, b"evidence").unwrap().inode;
    assert_eq!(read(&vault, inode).unwrap(), b"x");
    vault.lift_hold(hold, draft(Action::VaultChange)).unwrap().wait().unwrap();
    assert!(store.erase_vault(vault.id(), operator(), &mut |_, _| {}).is_ok());
    let late = put(&vault, b"late", b"y");
    assert!(matches!(late, Err(StoreError::VaultUnavailable(_))), "{late:?}");
}
