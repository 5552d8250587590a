//! What was comes back: copies out of the past, and states that are put back in their place, share its content.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_storage::allowance::Allowance;
use coffre_storage::audit::Action;
use coffre_storage::audit::stream::for_each_record;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::{AttributeChange, Attributes, PastVault, Replace, RestoreReport};
use coffre_storage::upload::{Completion, Precondition};
use coffre_storage::{Store, StoreError, StoreOptions, Vault};
use support::{draft, noise, options, put, read};

const YEAR_SECS: u64 = 365 * 86_400;

struct World {
    blobs: FaultyBlobs,
    index: MemoryIndex,
    options: StoreOptions,
    store: Store,
    vault: Vault,
}

fn world() -> World {
    let (blobs, index) = (FaultyBlobs::holding(BTreeMap::new()), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, 8 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options.clone()).unwrap();
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    World { blobs, index, options, store, vault }
}

impl World {
    /// Stops, starts, and looks at all of it.
    fn assert_clean(self, what: &str) {
        drop(self.vault);
        self.store.shutdown().unwrap();
        let store = Store::open(self.options).unwrap();
        support::assert_clean(&store, what);
    }

    fn past(&self) -> PastVault {
        self.vault.at(self.store.clock_now()).unwrap()
    }
}

fn names(path: &str) -> Vec<Vec<u8>> {
    path.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect()
}

fn restore(past: &PastVault, path: &str) -> Result<RestoreReport, StoreError> {
    past.restore(&names(path), None, &draft(Action::Restored), &mut |_, _| {})
}

fn find(vault: &Vault, path: &str) -> Result<Attributes, StoreError> {
    names(path)
        .iter()
        .try_fold(vault.attributes(InodeId::ROOT)?, |above, name| vault.lookup(above.inode, name))
}

/// A file with its directory, at a path of one or two names.
fn file(vault: &Vault, path: &str, seed: u64, len: usize) -> InodeId {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = match find(vault, above) {
        Ok(found) => found.inode,
        Err(_) => directory(vault, InodeId::ROOT, above.as_bytes()),
    };
    let mut upload = vault.begin_upload().unwrap();
    upload.write(&noise(seed, len)).unwrap();
    let at = (parent, name.as_bytes());
    let change = AttributeChange::default();
    upload.commit(at, Precondition::None, &change, draft(Action::FileWrite)).unwrap().wait().unwrap().0
}

fn rename(vault: &Vault, from: &str, to: &str) {
    let split = |path: &str| {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        (find(vault, above).unwrap().inode, name.as_bytes().to_vec())
    };
    let (from, to) = (split(from), split(to));
    let (from, to) = ((from.0, &from.1[..]), (to.0, &to.1[..]));
    vault.rename(from, to, Replace::Tree, draft(Action::Rename)).unwrap().wait().unwrap();
}

fn directory(vault: &Vault, parent: InodeId, name: &[u8]) -> InodeId {
    let made =
        vault.make_directory(parent, name, &AttributeChange::default(), draft(Action::DirectoryCreate));
    made.unwrap().wait().unwrap()
}

fn stored(store: &Store) -> u64 {
    store.checkpoint().unwrap();
    store.check(coffre_storage::check::CheckOptions { read_data: false, progress: None }).unwrap().chunks
}

#[test]
fn a_copy_out_of_the_past_shares_its_content_and_outlives_it() {
    let world = world();
    let (store, vault) = (&world.store, &world.vault);
    let d = directory(vault, InodeId::ROOT, b"d");
    put(vault, b"f", &noise(1, 3_000_000)).unwrap();
    let f = vault.lookup(InodeId::ROOT, b"f").unwrap().inode;
    vault
        .rename((InodeId::ROOT, b"f"), (d, b"f"), Replace::Never, draft(Action::Rename))
        .unwrap()
        .wait()
        .unwrap();
    let property = [(b"k".to_vec(), Some(b"v".to_vec()))];
    vault.set_properties(f, &property, draft(Action::PropertiesSet)).unwrap().wait().unwrap();
    let past = vault.at(store.clock_now()).unwrap();
    vault.remove_tree(InodeId::ROOT, b"d", draft(Action::Remove)).unwrap().wait().unwrap();
    let before = stored(store);
    let copied = past.copy(d, (InodeId::ROOT, b"again"), Replace::Never, true, draft(Action::Copy));
    let again = copied.unwrap().wait().unwrap();
    assert_eq!(stored(store), before, "no chunk was added");
    let found = vault.lookup(again, b"f").unwrap();
    assert_eq!(read(vault, found.inode).unwrap(), noise(1, 3_000_000));
    assert_eq!(found.mtime, past.lookup(d, b"f").unwrap().mtime);
    assert_eq!(vault.properties(found.inode).unwrap()[&b"k"[..]], b"v");
    assert!(matches!(
        past.copy(f, (InodeId::ROOT, b"again"), Replace::Never, true, draft(Action::Copy)),
        Err(StoreError::Exists)
    ));
    world.assert_clean("after the copy");
}

#[test]
fn a_file_that_lives_under_another_name_comes_back_as_itself_and_without_reading_content() {
    let world = world();
    let (store, vault) = (&world.store, &world.vault);
    let inode = file(vault, "d/report", 1, 3_000_000);
    let (before, past) = (find(vault, "d/report").unwrap(), world.past());
    let chunks = stored(store);
    // What ransomware does: overwrite in place, rename, leave a note.
    let open = vault.open(inode).unwrap();
    open.write_at(0, &noise(2, 3_000_000)).unwrap();
    open.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    rename(vault, "d/report", "d/report.locked");
    let note = file(vault, "d/README", 3, 100);
    let encrypted = stored(store);
    assert!(encrypted > chunks);
    let report = restore(&past, "d").unwrap();
    assert_eq!((report.removed, report.bytes), (2, 3_000_000), "{report:?}");
    let after = find(vault, "d/report").unwrap();
    assert_eq!((after.inode, after.mtime, after.links), (inode, before.mtime, 1));
    assert_eq!(read(vault, inode).unwrap(), noise(1, 3_000_000));
    // Who has it open sees it too.
    assert_eq!(open.read_at(0, 3_000_000).unwrap(), noise(1, 3_000_000));
    assert!(vault.attributes(note).is_err());
    assert_eq!(stored(store), encrypted, "no chunk was added, and history keeps the encrypted ones");
    drop(open);
    world.assert_clean("after the restore");
}

#[test]
fn swapped_files_and_directories_come_back_as_themselves() {
    let world = world();
    let vault = &world.vault;
    for name in ["a", "b"] {
        file(vault, &format!("{name}/x"), 1, 1000);
        file(vault, name.to_uppercase().as_str(), 2, 1000);
    }
    let seen =
        |vault: &Vault| ["a", "b", "a/x", "b/x", "A", "B"].map(|name| find(vault, name).unwrap().inode);
    let (before, past) = (seen(vault), world.past());
    for (one, two) in [("a", "b"), ("A", "B")] {
        rename(vault, one, "between");
        rename(vault, two, one);
        rename(vault, "between", two);
    }
    // And one into the other, the other way round.
    rename(vault, "a", "b/a");
    restore(&past, "").unwrap();
    assert_eq!(seen(vault), before);
    assert_eq!(vault.list(InodeId::ROOT, None, 100).unwrap().0.len(), 4, "nothing waits aside");
    world.assert_clean("after the restore");
}

#[test]
fn names_of_one_file_are_names_of_one_file_again() {
    let world = world();
    let vault = &world.vault;
    let inode = file(vault, "d/one", 1, 100_000);
    let d = find(vault, "d").unwrap().inode;
    vault.hard_link(inode, d, b"two", draft(Action::LinkCreate)).unwrap().wait().unwrap();
    file(vault, "d/alike", 1, 100_000);
    let past = world.past();
    vault.remove_tree(InodeId::ROOT, b"d", draft(Action::Remove)).unwrap().wait().unwrap();
    for round in 0..2 {
        restore(&past, "d").unwrap();
        let [one, two, alike] = ["d/one", "d/two", "d/alike"].map(|name| find(vault, name).unwrap());
        assert_eq!((one.inode, one.links), (two.inode, 2), "round {round}");
        assert_eq!(alike.links, 1);
        assert_ne!(one.inode, alike.inode);
    }
    let to = names("elsewhere");
    past.restore(&names("d"), Some(&to), &draft(Action::Restored), &mut |_, _| {}).unwrap();
    let [one, two] = ["elsewhere/one", "elsewhere/two"].map(|name| find(vault, name).unwrap());
    assert_eq!((one.inode, one.links), (two.inode, 2));
    assert_ne!(one.inode, find(vault, "d/one").unwrap().inode);
    world.assert_clean("after the restores");
}

#[test]
fn what_is_moved_out_of_the_path_stays_where_it_is() {
    let world = world();
    let vault = &world.vault;
    let inode = file(vault, "in/f", 1, 1000);
    let past = world.past();
    directory(vault, InodeId::ROOT, b"out");
    rename(vault, "in/f", "out/f");
    put_over(vault, inode, 2);
    restore(&past, "in").unwrap();
    assert_eq!(read(vault, find(vault, "out/f").unwrap().inode).unwrap(), noise(2, 1000));
    assert_eq!(read(vault, find(vault, "in/f").unwrap().inode).unwrap(), noise(1, 1000));
    world.assert_clean("after the restore");
}

fn put_over(vault: &Vault, inode: InodeId, seed: u64) {
    let open = vault.open(inode).unwrap();
    open.write_at(0, &noise(seed, 1000)).unwrap();
    open.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
}

fn allow(store: &Store, bytes: u64) {
    let allowance = Allowance { bytes_max: Some(bytes), ..Allowance::default() };
    store.quotas().set_customer(support::OWNER, allowance);
}

#[test]
fn the_quota_is_asked_for_what_a_restore_adds_and_not_for_what_it_replaces() {
    let world = world();
    let (store, vault) = (&world.store, &world.vault);
    file(vault, "d/f", 1, 900_000);
    let past = world.past();
    // Encrypted into a new file, the old one removed: as large as before.
    file(vault, "d/f.locked", 2, 900_000);
    let d = find(vault, "d").unwrap().inode;
    vault.remove(d, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    allow(store, 1_000_000);
    let to = names("elsewhere");
    let refused = past.restore(&names("d"), Some(&to), &draft(Action::Restored), &mut |_, _| {});
    assert!(matches!(refused, Err(StoreError::QuotaExceeded { .. })), "{refused:?}");
    assert!(find(vault, "elsewhere").is_err());
    restore(&past, "d").unwrap();
    assert_eq!(store.quotas().customer(support::OWNER).used.bytes, 900_000);
    world.assert_clean("after the restore");
}

#[test]
fn each_name_that_changes_has_its_record_between_a_begin_and_an_end() {
    let world = world();
    let (store, vault) = (&world.store, &world.vault);
    file(vault, "d/changed", 1, 1000);
    file(vault, "d/equal", 2, 1000);
    let past = world.past();
    put_over(vault, find(vault, "d/changed").unwrap().inode, 3);
    file(vault, "d/new", 4, 1000);
    let first = store.status().audit_records;
    let report = restore(&past, "d").unwrap();
    assert_eq!((report.removed, report.unchanged), (1, 1), "{report:?}");
    store.checkpoint().unwrap();
    let mut told = Vec::new();
    for_each_record(store.blobs().as_ref(), &mut |_, record| {
        if record.number.0 >= first {
            let details = record.open_details(vault.audit_key()).unwrap_or_default();
            let path = details.first().map(|(_, path)| String::from_utf8_lossy(path).into_owned());
            told.push((record.draft.action.name(), path.unwrap_or_default()));
        }
        true
    })
    .unwrap();
    let told: Vec<(&str, &str)> = told.iter().map(|(action, path)| (*action, path.as_str())).collect();
    assert_eq!(
        told,
        [
            ("restore-begin", "/d"),
            ("restored", "/d/changed"),
            ("remove", "/d/new"),
            ("restored", "/d"),
            ("restore-end", "/d"),
        ]
    );
}

#[test]
fn a_restore_that_a_failing_disk_interrupted_goes_on_when_it_is_run_again() {
    let mut interrupted = 0;
    for fail_after in [1, 2, 3, 5, 8, 13, 21] {
        let world = world();
        let vault = &world.vault;
        for number in 0..1200 {
            file(vault, &format!("d{}/f{number}", number % 3), number, 1000);
        }
        let one = find(vault, "d0/f0").unwrap().inode;
        let d2 = find(vault, "d2").unwrap().inode;
        vault.hard_link(one, d2, b"zz", draft(Action::LinkCreate)).unwrap().wait().unwrap();
        let (past, before) = (world.past(), support::tree(vault).unwrap());
        vault.remove_tree(InodeId::ROOT, b"d0", draft(Action::Remove)).unwrap().wait().unwrap();
        vault.remove_tree(InodeId::ROOT, b"d1", draft(Action::Remove)).unwrap().wait().unwrap();
        file(vault, "d1", 5000, 10);
        rename(vault, "d2/f2", "d2/gone");
        world.blobs.fail_at(world.blobs.calls() + fail_after);
        let outcome = restore(&past, "");
        // How many calls a restore makes depends on how transactions fall into batches: the fault may not have come.
        world.blobs.fail_at(0);
        interrupted += u32::from(outcome.is_err());
        let (time, id) = (past.time(), vault.id());
        world.store.abandon();
        drop(past);
        let World { options, index, .. } = world;
        let index = index.after_power_cut();
        let options = StoreOptions {
            index: coffre_storage::commit::IndexChoice::Given(Arc::new(index.clone())),
            ..options
        };
        let store = Store::open(options).unwrap();
        let vault = store.vault(id).unwrap();
        support::assert_clean(&store, "after the fault");
        restore(&vault.at(time).unwrap(), "").unwrap();
        assert_eq!(support::tree(&vault).unwrap(), before, "a fault after {fail_after} calls");
        let again = restore(&vault.at(time).unwrap(), "").unwrap();
        assert_eq!((again.restored, again.removed), (0, 0));
        assert_eq!(find(&vault, "d2/zz").unwrap().links, 2);
        assert_eq!(find(&vault, "d2/zz").unwrap().inode, find(&vault, "d0/f0").unwrap().inode);
        support::assert_clean(&store, "after the restore");
        store.shutdown().unwrap();
    }
    assert!(interrupted > 2, "{interrupted}");
}

#[test]
fn a_file_takes_over_the_content_of_another_now_or_then_without_a_byte_written() {
    let world = world();
    let (store, vault) = (&world.store, &world.vault);
    let inode = file(vault, "f", 1, 3_000_000);
    let past = world.past();
    let open = vault.open(inode).unwrap();
    open.write_at(1_000_000, &noise(2, 500_000)).unwrap();
    let fresh = |name: &[u8]| {
        let change = AttributeChange::default();
        let made = vault.create_file(InodeId::ROOT, name, &change, draft(Action::FileCreate)).unwrap();
        vault.open(made.wait().unwrap()).unwrap()
    };
    let unsaved = fresh(b"unsaved").share_content_of(&open, draft(Action::Copy)).unwrap();
    assert!(unsaved.is_none(), "what is not saved cannot be shared");
    open.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    let chunks = stored(store);
    let then = past.open(inode).unwrap();
    for (name, source) in [(&b"now"[..], &open), (b"then", &then)] {
        let target = fresh(name);
        assert_eq!(
            target.share_content_of(source, draft(Action::Copy)).unwrap().unwrap().wait().unwrap(),
            3_000_000
        );
        assert_eq!(target.read_at(0, 3_000_000).unwrap(), source.read_at(0, 3_000_000).unwrap());
        let again = target.share_content_of(source, draft(Action::Copy)).unwrap();
        assert!(again.is_none(), "only an empty file takes over");
        assert!(matches!(then.share_content_of(&target, draft(Action::Copy)), Err(StoreError::ReadOnly)));
    }
    assert_eq!(stored(store), chunks, "no chunk was added");
    // It is its own from then on.
    let now = vault.open(find(vault, "now").unwrap().inode).unwrap();
    now.truncate(10).unwrap();
    now.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    assert_eq!(open.read_at(0, 4_000_000).unwrap().len(), 3_000_000);
    allow(store, 6_500_000);
    let refused = fresh(b"more").share_content_of(&open, draft(Action::Copy));
    assert!(matches!(refused, Err(StoreError::QuotaExceeded { .. })), "{refused:?}");
    drop((open, then, now));
    world.assert_clean("after the copies");
}
