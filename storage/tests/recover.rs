//! A store rebuilt from its packs: whole when they are, and exact about what is missing when they are not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::CheckOptions;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::keys::GatewayKey;
use coffre_storage::recover::{LostKind, ReadExtent, RebuildError, RebuildReport, rebuild};
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Precondition;
use coffre_storage::{Store, StoreError, StoreOptions};
use support::{Tree, assert_clean, draft, key, new_vault, noise, options, put, read, tree};

const PACK_BYTES: u64 = 8 << 20;

type Disk = BTreeMap<String, Vec<u8>>;

/// A stopped store's disk: some files, perhaps an export, more files, over several packs.
struct Made {
    disk: Disk,
    id: VaultId,
    whole: Tree,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exported {
    Never,
    Halfway,
}

/// Each call begins a pack of its own, and gives the packs there were before.
fn session(
    blobs: &MemoryBlobs,
    index: &MemoryIndex,
    id: Option<VaultId>,
    names: std::ops::Range<u64>,
    seed: u64,
) -> VaultId {
    let made = options(Arc::new(blobs.clone()), index, PACK_BYTES);
    let store = Store::open(made).unwrap();
    let id = id.unwrap_or_else(|| new_vault(&store).unwrap());
    let vault = store.vault(id).unwrap();
    for n in names {
        let content = noise(n + seed, usize::try_from(n * 7000).unwrap());
        put(&vault, format!("file {n}").as_bytes(), &content).unwrap();
    }
    drop(vault);
    store.shutdown().unwrap();
    id
}

fn export(blobs: &MemoryBlobs, index: &MemoryIndex) {
    let store = Store::open(options(Arc::new(blobs.clone()), index, PACK_BYTES)).unwrap();
    store.export_index(&mut |_| {}).unwrap();
    store.shutdown().unwrap();
}

fn made(exported: Exported) -> Made {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    Store::create(&options(Arc::new(blobs.clone()), &index, PACK_BYTES)).unwrap();
    let id = session(&blobs, &index, None, 0..10, 0);
    session(&blobs, &index, Some(id), 10..20, 0);
    if exported == Exported::Halfway {
        export(&blobs, &index);
    }
    session(&blobs, &index, Some(id), 20..30, 0);
    session(&blobs, &index, Some(id), 5..7, 100);
    let store = Store::open(options(Arc::new(blobs.clone()), &index, PACK_BYTES)).unwrap();
    let whole = tree(&store.vault(id).unwrap()).unwrap();
    store.shutdown().unwrap();
    Made { disk: blobs.contents(), id, whole }
}

fn only(disk: &Disk, prefix: &str) -> Disk {
    disk.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, b)| (n.clone(), b.clone())).collect()
}

/// The pack names, in order.
fn packs(disk: &Disk) -> Vec<String> {
    only(disk, "packs/").into_keys().collect()
}

struct Rebuilt {
    report: RebuildReport,
    store: Store,
}

fn rebuilt(packs: Disk, audit: Option<Disk>) -> Result<Rebuilt, RebuildError> {
    let options = options(Arc::new(MemoryBlobs::holding(packs)), &MemoryIndex::default(), PACK_BYTES);
    let former = audit.map(MemoryBlobs::holding);
    let report = rebuild(&options, former.as_ref().map(|f| f as &dyn BlobStore), &mut |_, _| {})?;
    Ok(Rebuilt { report, store: Store::open(options).unwrap() })
}

#[test]
fn packs_alone_give_everything_back() {
    for exported in [Exported::Never, Exported::Halfway] {
        let made = made(exported);
        let Rebuilt { report, store } = rebuilt(only(&made.disk, "packs/"), None).unwrap();
        assert!(report.losses.is_empty(), "{report:#?}");
        assert_eq!(report.base.is_some(), exported == Exported::Halfway);
        assert_eq!(report.first_record, 0, "the batches still have every record");
        assert_eq!(tree(&store.vault(made.id).unwrap()).unwrap(), made.whole);
        let losses = store.find_losses(ReadExtent::Everything, &mut |_| {}).unwrap();
        assert!(losses.files.is_empty() && losses.damaged_rows == 0, "{losses:?}");
        assert_clean(&store, "rebuilt");
        put(&store.vault(made.id).unwrap(), b"after", b"it goes on").unwrap();
        store.shutdown().unwrap();
    }
}

#[test]
fn with_the_former_audit_log_its_signed_checkpoints_stay() {
    let made = made(Exported::Halfway);
    let former = only(&made.disk, "audit/");
    let Rebuilt { report, store } = rebuilt(only(&made.disk, "packs/"), Some(former)).unwrap();
    assert!(report.losses.is_empty() && report.checkpoints > 3, "{report:#?}");
    let verified = store.verify_audit().unwrap();
    assert!(verified.damage.is_none() && verified.begins == 0, "{verified:?}");
    assert!(verified.checkpoints > report.checkpoints);
    store.shutdown().unwrap();
}

#[test]
fn packs_before_an_export_may_be_gone_and_the_audit_log_says_where_it_begins() {
    let made = made(Exported::Halfway);
    let mut disk = only(&made.disk, "packs/");
    // The first pack held the first session: its content is gone, its names are not.
    disk.pop_first();
    let Rebuilt { report, store } = rebuilt(disk.clone(), None).unwrap();
    assert_eq!(report.losses.len(), 1, "{report:#?}");
    assert!(report.first_record > 0);
    let verified = store.verify_audit().unwrap();
    assert!(verified.damage.is_none() && verified.begins == report.first_record, "{verified:?}");
    let losses = store.find_losses(ReadExtent::Places, &mut |_| {}).unwrap();
    let named = |kind| {
        let files = losses.files.iter().filter(move |file| file.kind == kind);
        files.map(|file| String::from_utf8(file.path.clone().unwrap()).unwrap()).collect::<Vec<_>>()
    };
    // File 0 is empty; 5 and 6 were written again later.
    let expected: Vec<String> = [1, 2, 3, 4, 7, 8, 9].map(|n| format!("/file {n}")).to_vec();
    assert_eq!(named(LostKind::Content), expected);
    assert_eq!(named(LostKind::EarlierState), ["/file 5", "/file 6"].map(str::to_owned).to_vec());
    let vault = store.vault(made.id).unwrap();
    for (path, (_, content)) in &made.whole {
        let inode = vault.lookup(InodeId::ROOT, &path[1..]).unwrap().inode;
        let lost = expected.iter().any(|name| name.as_bytes() == path.as_slice());
        match read(&vault, inode) {
            Ok(found) => assert!(!lost && found == *content),
            Err(error) => assert!(lost && matches!(error, StoreError::Damaged { .. }), "{error}"),
        }
    }
    drop(vault);
    store.shutdown().unwrap();
    // With the former log nothing of it is lost.
    let former = only(&made.disk, "audit/");
    let Rebuilt { report, store } = rebuilt(disk, Some(former)).unwrap();
    assert!(report.losses.is_empty() && report.first_record == 0, "{report:#?}");
    assert!(store.verify_audit().unwrap().damage.is_none());
    store.shutdown().unwrap();
}

#[test]
fn an_export_that_is_not_whole_any_more_is_not_relied_on() {
    let made = made(Exported::Halfway);
    let mut disk = only(&made.disk, "packs/");
    // The third pack holds the export's parts, and the row that names it.
    disk.remove(&packs(&made.disk)[2]);
    let Rebuilt { report, store } = rebuilt(disk, None).unwrap();
    assert!(report.base.is_none() && !report.losses.is_empty(), "{report:#?}");
    assert_eq!(store.newest_export().unwrap(), None, "no pack is given up for it");
    assert_eq!(tree(&store.vault(made.id).unwrap()).unwrap(), made.whole, "no change was in that pack");
    store.export_index(&mut |_| {}).unwrap();
    assert!(store.newest_export().unwrap().is_some());
    store.shutdown().unwrap();
}

#[test]
fn a_gap_in_the_journal_is_told_and_what_comes_after_is_applied() {
    let made = made(Exported::Halfway);
    let mut disk = only(&made.disk, "packs/");
    // The fourth pack: the files that were made after the export.
    let gone = packs(&made.disk)[3].clone();
    disk.remove(&gone);
    let former = only(&made.disk, "audit/");
    let Rebuilt { report, store } = rebuilt(disk, Some(former)).unwrap();
    assert!(report.losses.iter().any(|loss| loss.starts_with("batches ")), "{report:#?}");
    // The audit log names what the lost batches did.
    let created = report.unbacked.iter().filter(|record| record.draft.action == Action::FileCreate).count();
    assert_eq!(created, 10, "{report:#?}");
    let found = tree(&store.vault(made.id).unwrap()).unwrap();
    for (path, entry) in &made.whole {
        let lost = (20..30).any(|n| format!("/file {n}").as_bytes() == path.as_slice());
        assert_eq!(found.get(path), (!lost).then_some(entry), "{}", String::from_utf8_lossy(path));
    }
    let findings = store.check(CheckOptions::default()).unwrap().findings;
    assert!(findings.is_empty(), "references were counted anew: {findings:#?}");
    store.shutdown().unwrap();
}

#[test]
fn a_flipped_byte_concerns_exactly_the_file_in_whose_frame_it_is() {
    let made = made(Exported::Halfway);
    let name = packs(&made.disk)[3].clone();
    let used = made.disk[&name].len();
    let mut concerned = 0;
    for step in 1..40 {
        let mut disk = only(&made.disk, "packs/");
        disk.get_mut(&name).unwrap()[step * used / 40] ^= 1;
        let Rebuilt { report, store } = rebuilt(disk, Some(only(&made.disk, "audit/"))).unwrap();
        let losses = store.find_losses(ReadExtent::Everything, &mut |_| {}).unwrap();
        let vault = store.vault(made.id).unwrap();
        for (path, (_, content)) in &made.whole {
            let listed = losses.files.iter().any(|file| file.path.as_ref() == Some(path));
            match vault.lookup(InodeId::ROOT, &path[1..]).and_then(|found| read(&vault, found.inode)) {
                Ok(found) if found == *content => assert!(!listed, "step {step}"),
                // A batch that is gone takes names with it: then the log's gap was told.
                Ok(_) | Err(StoreError::NotFound) => assert!(!report.losses.is_empty(), "step {step}"),
                Err(_) => assert!(listed, "step {step}"),
            }
        }
        concerned += losses.files.len();
        drop(vault);
        store.shutdown().unwrap();
    }
    assert!(concerned > 10, "most bytes are frames: {concerned}");
}

#[test]
fn damaged_headers_and_footers_are_written_anew() {
    let made = made(Exported::Halfway);
    for name in packs(&made.disk) {
        let last = name == *packs(&made.disk).last().unwrap();
        for at in [100, made.disk[&name].len() - 100] {
            let mut disk = only(&made.disk, "packs/");
            disk.get_mut(&name).unwrap()[at] ^= 1;
            let Rebuilt { report, store } = rebuilt(disk, None).unwrap();
            // What packs came after the export is known from nowhere else: their salts stand in their own batches only.
            if report.losses.is_empty() {
                assert_eq!(tree(&store.vault(made.id).unwrap()).unwrap(), made.whole);
                assert_clean(&store, &format!("byte {at} of {name}"));
            } else {
                assert!(at == 100, "byte {at} of {name}, last: {last}: {report:#?}");
                assert!(report.losses.iter().any(|loss| loss.contains("its header")), "{report:#?}");
            }
            store.shutdown().unwrap();
        }
    }
}

#[test]
fn another_key_is_refused_and_so_is_nothing() {
    let made = made(Exported::Never);
    let mut options = options(
        Arc::new(MemoryBlobs::holding(only(&made.disk, "packs/"))),
        &MemoryIndex::default(),
        PACK_BYTES,
    );
    options.gateway_key = GatewayKey::generate().unwrap();
    assert!(matches!(rebuild(&options, None, &mut |_, _| {}), Err(RebuildError::WrongKey)));
    options.blobs = Arc::new(MemoryBlobs::default());
    assert!(matches!(rebuild(&options, None, &mut |_, _| {}), Err(RebuildError::NoPacks)));
    assert_ne!(options.gateway_key.expose().expose(), key().expose().expose());
}

/// Makes files and exports until something fails; tells what was acknowledged.
fn scenario(blobs: Arc<dyn BlobStore>, index: &MemoryIndex) -> (Option<VaultId>, usize) {
    let options = options(blobs, index, PACK_BYTES);
    if Store::create(&options).is_err() {
        return (None, 0);
    }
    let Ok(store) = Store::open(options) else { return (None, 0) };
    let Ok(id) = new_vault(&store) else {
        store.abandon();
        return (None, 0);
    };
    let mut acknowledged = 0;
    if let Ok(vault) = store.vault(id) {
        for step in 0..9 {
            let done = match step {
                3 | 6 => store.export_index(&mut |_| {}).map(drop),
                _ => put(&vault, format!("{step}").as_bytes(), &noise(step, 400_000)),
            };
            if done.is_err() {
                break;
            }
            acknowledged += 1;
        }
    }
    if acknowledged == 9 {
        drop(store.shutdown());
    } else {
        store.abandon();
    }
    (Some(id), acknowledged)
}

/// Packs alone, after a crash: the acknowledged files are there.
fn survives(disk: &Disk, (id, acknowledged): (Option<VaultId>, usize), what: &str) {
    let Some(id) = id else { return };
    let Rebuilt { report, store } =
        rebuilt(only(disk, "packs/"), None).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.losses.is_empty(), "{what}: {report:#?}");
    let found = tree(&store.vault(id).unwrap()).unwrap();
    for step in (0..acknowledged).filter(|step| ![3, 6].contains(step)) {
        let name = format!("/{step}").into_bytes();
        let content = found.get(&name).map(|(_, content)| content);
        assert!(content == Some(&noise(step as u64, 400_000)), "{what}: {step} of {acknowledged}");
    }
    assert_clean(&store, what);
    store.shutdown().unwrap();
}

fn opens(options: StoreOptions, what: &str) {
    let store = Store::open(options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_clean(&store, what);
    store.shutdown().unwrap();
}

#[test]
fn every_changing_call_may_fail_once_around_exports() {
    for n in 1.. {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.fail_at(n);
        let outcome = scenario(Arc::new(blobs.clone()), &index);
        let fault_came = blobs.calls() >= n;
        blobs.fail_at(0);
        let what = format!("call {n} failed");
        survives(&blobs.contents(), outcome, &what);
        if outcome.0.is_some() {
            opens(options(Arc::new(blobs), &index.after_power_cut(), PACK_BYTES), &what);
        }
        if !fault_came {
            assert!(outcome.1 == 9 && n > 20, "{n}: {outcome:?}");
            break;
        }
    }
}

#[test]
fn the_power_may_go_off_after_every_sync_around_exports() {
    let whole = FaultyBlobs::default();
    assert_eq!(scenario(Arc::new(whole.clone()), &MemoryIndex::default()).1, 9);
    for n in 1..=whole.syncs() {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.cut_after_sync(n);
        let outcome = scenario(Arc::new(blobs.clone()), &index);
        for seed in 0..2 {
            let what = format!("power off after sync {n}, seed {seed}");
            let survived = blobs.after_power_cut(n * 31 + seed);
            survives(&survived.contents(), outcome, &what);
            if outcome.0.is_some() {
                opens(options(Arc::new(survived), &index.after_power_cut(), PACK_BYTES), &what);
            }
        }
    }
}

#[test]
fn a_rebuild_can_be_rebuilt() {
    let made = made(Exported::Halfway);
    let mut disk = only(&made.disk, "packs/");
    for _ in 0..3 {
        let blobs = MemoryBlobs::holding(disk);
        let options = options(Arc::new(blobs.clone()), &MemoryIndex::default(), PACK_BYTES);
        let report = rebuild(&options, None, &mut |_, _| {}).unwrap();
        assert!(report.losses.is_empty(), "{report:#?}");
        let store = Store::open(options).unwrap();
        assert_eq!(tree(&store.vault(made.id).unwrap()).unwrap(), made.whole);
        store.record(draft(Action::Recover)).unwrap().wait().unwrap();
        store.shutdown().unwrap();
        disk = only(&blobs.contents(), "packs/");
    }
}

#[test]
fn uploads_in_parts_come_back_with_the_rest_and_nothing_of_them_is_called_lost() {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    Store::create(&options(Arc::new(blobs.clone()), &index, PACK_BYTES)).unwrap();
    let id = session(&blobs, &index, None, 0..3, 0);
    let store = Store::open(options(Arc::new(blobs.clone()), &index, PACK_BYTES)).unwrap();
    let vault = store.vault(id).unwrap();
    let upload = vault.begin_parts(b"me.x", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    let mut part = vault.begin_upload().unwrap();
    part.write(&noise(9, 300_000)).unwrap();
    let attributes = AttributeChange::default();
    let done =
        part.commit((upload, b"1"), Precondition::None, &attributes, draft(Action::PartWrite)).unwrap();
    let (inode, _) = done.wait().unwrap();
    drop(vault);
    store.shutdown().unwrap();
    let Rebuilt { report, store } = rebuilt(only(&blobs.contents(), "packs/"), None).unwrap();
    assert!(report.losses.is_empty(), "{report:#?}");
    let losses = store.find_losses(ReadExtent::Everything, &mut |_| {}).unwrap();
    assert!(losses.files.is_empty(), "{losses:?}");
    let vault = store.vault(id).unwrap();
    assert_eq!(vault.parts(b"me.x").unwrap().inode, upload);
    assert_eq!(read(&vault, inode).unwrap(), noise(9, 300_000));
    assert_clean(&store, "with an upload in parts");
}
