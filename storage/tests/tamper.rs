//! A flipped byte anywhere is detected by a read, by `check` with data, or by the audit's verification, and never served.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::CheckOptions;
use coffre_storage::id::InodeId;
use coffre_storage::index::Table;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::keys::GatewayLabel;
use coffre_storage::limits::SEGMENT_BYTES;
use coffre_storage::log::pack::pack_of;
use coffre_storage::log::walk::PackReader;
use coffre_storage::tree::AttributeChange;
use coffre_storage::tree::digest::Digests;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreError};
use support::{Tree, draft, new_vault, noise, options, put, tree};

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
    // Something in every table: history of names, a snapshot, an incident, segments, crumbs, and rows of accounts.
    put(&vault, b"gone", b"1").unwrap();
    vault.remove(InodeId::ROOT, b"gone", draft(Action::Remove)).unwrap().wait().unwrap();
    vault.add_snapshot("kept", None, draft(Action::VaultChange)).unwrap().wait().unwrap();
    let change = AttributeChange::default();
    let broken = vault.create_file(InodeId::ROOT, b"crumbs", &change, draft(Action::FileCreate)).unwrap();
    let file = vault.open(broken.value).unwrap();
    for crumb in 0..80 {
        file.write_at(crumb * 100_000, &noise(crumb, 10)).unwrap();
    }
    file.commit(Completion::Broken, draft(Action::FileWrite)).unwrap().wait().unwrap();
    // One that changed, of which the rest is shared; and one that is stored and not committed.
    let long = vault.create_file(InodeId::ROOT, b"long", &change, draft(Action::FileCreate)).unwrap();
    let file = vault.open(long.value).unwrap();
    for part in 0..2 {
        file.write_at(part * SEGMENT_BYTES, &noise(part + 300, 600_000)).unwrap();
    }
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    file.write_at(0, b"changed").unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    let content = file.settled_content().unwrap();
    file.keep_digests(content, &Digests { sha256: Some([1; 32]), sha1: Some([2; 20]), md5: Some([3; 16]) })
        .unwrap();
    let mut upload = vault.begin_upload().unwrap();
    upload.write(&noise(400, 2 << 20)).unwrap();
    let mut txn = store.begin().unwrap();
    let of_accounts = [
        Table::Customers,
        Table::Users,
        Table::Credentials,
        Table::Authorities,
        Table::CertificateRevocations,
    ];
    for table in of_accounts {
        txn.put(store.system_key(), table, &[7; 16], b"a row that means nothing here");
    }
    txn.put(store.system_key(), Table::Garbage, &[0; 56], &[]);
    txn.submit().unwrap().wait().unwrap();
    drop((file, upload));
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

/// Locks are looked at by nobody yet; slots, which this vault has none of, in `slots.rs`.
const UNUSED: [Table; 2] = [Table::Locks, Table::Slots];

#[test]
fn a_flipped_byte_of_any_table_of_the_index_is_noticed() {
    let (blobs, index, id, whole) = made();
    let disk = blobs.contents();
    for table in Table::ALL.into_iter().filter(|table| !UNUSED.contains(table)) {
        let rows = index.rows_of(table);
        assert!(rows > 0, "no row of table {} was made", table.name());
        for n in (0..rows).step_by(rows.div_ceil(12)) {
            let changed = index.after_power_cut();
            changed.flip(table, n, 5 + n * 37);
            let noticed = is_noticed(MemoryBlobs::holding(disk.clone()), &changed, id, &whole);
            assert!(noticed, "row {n} of table {}", table.name());
        }
    }
}

#[test]
fn a_flipped_byte_of_every_part_of_a_pack_is_noticed() {
    let (blobs, index, id, whole) = made();
    let disk = blobs.contents();
    let packs = support::key().derive(GatewayLabel::Packs);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, bytes) in disk.iter().filter(|(name, _)| name.starts_with("packs/")) {
        let pack = pack_of(name).unwrap();
        let reader = PackReader::open(&blobs, &packs, pack).unwrap().unwrap();
        let mut places =
            vec![("magic", 1), ("salt", 30), ("zeros of the header", 3000), ("header's mac", 4090)];
        let mut offset = 4096;
        while let Some((header, _)) = reader.header_at(offset as u64).unwrap() {
            let frames = offset + 128;
            let meta = frames + header.frames_bytes as usize;
            let padding = meta + header.meta_bytes as usize;
            let end = offset + header.blocks as usize * 4096;
            places.extend([
                ("batch magic", offset),
                ("batch number", offset + 8),
                ("batch header", offset + 50),
            ]);
            places.extend([("batch tag", offset + 120), ("meta", meta + 3), ("meta tag", padding - 1)]);
            if header.frames_bytes > 0 {
                let middle = frames + header.frames_bytes as usize / 2;
                places.extend([("nonce", frames), ("frame", middle), ("frame tag", meta - 1)]);
            }
            if padding < end {
                places.push(("padding", end - 1));
            }
            offset = end;
        }
        places.extend([
            ("footer", offset + 20),
            ("footer's zeros", offset + 2000),
            ("footer's mac", offset + 4095),
        ]);
        assert_eq!(offset + 4096, bytes.len());
        for (kind, at) in places {
            // A dozen of each kind.
            let tried = kinds.entry(kind).or_default();
            *tried += 1;
            if *tried > 12 {
                continue;
            }
            let mut changed = disk.clone();
            changed.get_mut(name).unwrap()[at] ^= 8;
            let noticed = is_noticed(MemoryBlobs::holding(changed), &index.after_power_cut(), id, &whole);
            assert!(noticed, "{kind}: byte {at} of {name}");
        }
    }
    assert!(kinds.len() >= 17, "{kinds:?}");
}
