//! Limits hold whatever happens at the same time, give back what was not used, and are told of once.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::allowance::{Allowance, Amounts, Limit};
use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::reclaim::{ExportPolicy, Flow, ReclaimOptions};
use coffre_storage::tree::{AttributeChange, IncidentKind, Replace};
use coffre_storage::upload::{Completion, Precondition};
use coffre_storage::{Store, StoreError, Vault};
use support::{OWNER, assert_clean, draft, noise, options, put};

const ROOT: InodeId = InodeId::ROOT;

struct World {
    blobs: Arc<MemoryBlobs>,
    index: MemoryIndex,
    store: Store,
    vault: VaultId,
}

impl World {
    fn new(customer: Allowance, vault: Allowance) -> Self {
        let (blobs, index) = (Arc::new(MemoryBlobs::default()), MemoryIndex::default());
        let options = options(Arc::clone(&blobs) as _, &index, 64 << 20);
        Store::create(&options).unwrap();
        let store = Store::open(options).unwrap();
        allow(&store, customer);
        let made = store.create_vault_within(OWNER, "v", 0, vault, draft(Action::VaultAdd));
        let vault = made.unwrap().wait().unwrap();
        Self { blobs, index, store, vault }
    }

    /// Ends the store as a crash would, and opens it again as the gateway does.
    fn again(self) -> Self {
        let customer = self.store.quotas().customer(OWNER).allowance;
        self.store.abandon();
        let store = Store::open(options(Arc::clone(&self.blobs) as _, &self.index, 64 << 20)).unwrap();
        store.quotas().set_customer(OWNER, customer);
        Self { store, ..self }
    }

    /// Panics unless what is counted now is what is there, as `coffre check` counts it and as the next start does.
    fn assert_counted(self, what: &str) {
        let counted = |world: &Self| {
            let (customer, vault) =
                (world.store.quotas().customer(OWNER), world.store.quotas().vault(world.vault));
            (customer.used.bytes, customer.used.files, vault.used, customer.reserved, vault.reserved)
        };
        self.store.checkpoint().unwrap();
        let before = counted(&self);
        let world = self.again();
        assert_eq!(before, counted(&world), "{what}");
        assert_clean(&world.store, what);
    }

    fn vault(&self) -> Vault {
        self.store.vault(self.vault).unwrap()
    }

    fn set(&self, change: impl FnOnce(Allowance) -> Allowance) {
        let set = self.store.set_vault_allowance(self.vault, change, draft(Action::VaultChange));
        set.unwrap().wait().unwrap();
    }

    /// Levels that were told of, since the beginning.
    fn told(&self) -> Vec<(Limit, u64)> {
        let all = self.store.incidents(0, usize::MAX).unwrap();
        let levels = all.iter().filter(|incident| incident.what.kind == IncidentKind::QuotaLevel);
        levels.map(|incident| (incident.what.limit.unwrap(), incident.what.value.unwrap())).collect()
    }
}

/// Sets the customer's limits as the gateway does, without the row that it keeps.
fn allow(store: &Store, allowance: Allowance) {
    let mut txn = store.begin().unwrap();
    let allowed = store.allow_customer(&mut txn, OWNER, allowance).unwrap();
    txn.submit().unwrap().wait().unwrap();
    allowed.keep();
}

fn bytes(bytes_max: u64) -> Allowance {
    Allowance { bytes_max: Some(bytes_max), ..Allowance::default() }
}

fn files(files_max: u64) -> Allowance {
    Allowance { files_max: Some(files_max), ..Allowance::default() }
}

fn stored(stored_max: u64) -> Allowance {
    Allowance { stored_max: Some(stored_max), ..Allowance::default() }
}

fn refused<T>(result: Result<T, StoreError>) -> Limit {
    let said = result.err();
    let limit = if let Some(StoreError::QuotaExceeded { limit, .. }) = said { Some(limit) } else { None };
    assert!(limit.is_some(), "not refused by a limit: {said:?}");
    limit.unwrap()
}

/// A PUT.
fn upload(vault: &Vault, name: &[u8], content: &[u8]) -> Result<(), StoreError> {
    let replaced = vault.lookup(ROOT, name).ok().map(|found| found.inode);
    let mut upload = vault.begin_upload_at(replaced, Some(content.len() as u64))?;
    for piece in content.chunks(100_000) {
        upload.write(piece)?;
    }
    let record = draft(Action::FileWrite);
    upload.commit((ROOT, name), Precondition::None, &AttributeChange::default(), record)?.wait().map(drop)
}

fn create(vault: &Vault, name: &[u8]) -> Result<InodeId, StoreError> {
    vault.create_file(ROOT, name, &AttributeChange::default(), draft(Action::FileCreate))?.wait()
}

fn remove(vault: &Vault, name: &[u8]) -> Result<(), StoreError> {
    vault.remove(ROOT, name, draft(Action::Remove))?.wait()
}

#[test]
fn one_byte_over_is_refused_and_an_overwrite_is_asked_for_its_growth_only() {
    let world = World::new(bytes(1_000_000), Allowance::default());
    let vault = world.vault();
    upload(&vault, b"a", &noise(1, 600_000)).unwrap();
    assert_eq!(refused(upload(&vault, b"b", &noise(2, 400_001))), Limit::CustomerBytes);
    // What replaces something needs room for what it is longer.
    upload(&vault, b"a", &noise(3, 900_000)).unwrap();
    put(&vault, b"a", &noise(4, 950_000)).unwrap();
    assert_eq!(refused(upload(&vault, b"a", &noise(5, 1_000_001))), Limit::CustomerBytes);
    upload(&vault, b"a", &noise(5, 1_000_000)).unwrap();
    assert_eq!(refused(put(&vault, b"b", b"x")), Limit::CustomerBytes);
    assert_eq!(world.store.quotas().customer(OWNER).used.bytes, 1_000_000);
    world.assert_counted("after refusals");
}

#[test]
fn uploads_that_end_without_a_commit_give_everything_back() {
    let world = World::new(bytes(1_000_000), Allowance { stored_max: Some(1_100_000), ..files(2) });
    let vault = world.vault();
    upload(&vault, b"kept", &noise(1, 300_000)).unwrap();
    for seed in 0..5 {
        let mut given_up = vault.begin_upload_at(None, None).unwrap();
        given_up.write(&noise(10 + seed, 700_000)).unwrap();
        assert_eq!(refused(vault.begin_upload_at(None, Some(1))), Limit::CustomerBytes, "it is held");
        drop(given_up);
        // Announced, and broken off.
        let announced = vault.begin_upload_at(None, Some(700_000)).unwrap();
        assert_eq!(refused(create(&vault, b"third")), Limit::VaultFiles, "its file is held");
        drop(announced);
        // Overwritten in place, and never closed.
        let file = vault.open(vault.lookup(ROOT, b"kept").unwrap().inode).unwrap();
        file.truncate(0).unwrap();
        file.write_at(0, &noise(20 + seed, 400_000)).unwrap();
        drop(file);
        let state = (world.store.quotas().customer(OWNER), world.store.quotas().vault(world.vault));
        assert_eq!((state.0.reserved, state.1.reserved), (Amounts::default(), Amounts::default()));
        assert_eq!((state.0.used.bytes, state.1.used.files), (300_000, 1));
    }
    upload(&vault, b"fits", &noise(30, 700_000)).unwrap();
}

#[test]
fn holes_count_nothing_and_what_is_written_into_them_later_does() {
    let world = World::new(bytes(1_000_000), Allowance::default());
    let vault = world.vault();
    let file = vault.open(create(&vault, b"sparse").unwrap()).unwrap();
    file.write_at(1 << 40, b"end").unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    assert_eq!(world.store.quotas().customer(OWNER).used.bytes, 3);
    for at in 0..9 {
        file.write_at(at << 30, &noise(at, 100_000)).unwrap();
    }
    // The same bytes again need nothing more.
    file.write_at(0, &noise(50, 100_000)).unwrap();
    assert_eq!(refused(file.write_at(50 << 30, &noise(9, 100_000))), Limit::CustomerBytes);
    file.write_at(50 << 30, &noise(9, 99_997)).unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    assert_eq!(world.store.quotas().customer(OWNER).used.bytes, 1_000_000);
    // What is cut off or copied over is counted too.
    let record = || draft(Action::Copy);
    let copied = vault.copy(file.inode(), (ROOT, b"copy"), Replace::Never, false, record());
    assert_eq!(refused(copied), Limit::CustomerBytes);
    file.truncate(400_000).unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    drop(vault.copy(file.inode(), (ROOT, b"copy"), Replace::Never, false, record()).unwrap());
    assert_eq!(world.store.quotas().customer(OWNER).used.bytes, 200_000);
    world.assert_counted("sparse");
}

#[test]
fn nothing_that_makes_a_file_passes_the_limit_of_files_however_many_try_at_once() {
    let world = World::new(files(20), Allowance::default());
    let other = world.store.create_vault(OWNER, "w", 0, draft(Action::VaultAdd)).unwrap().wait().unwrap();
    let vaults = [world.vault(), world.store.vault(other).unwrap()];
    let made: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8_usize)
            .map(|worker| {
                let vault = vaults[worker % 2].clone();
                scope.spawn(move || {
                    let made = |number: usize| {
                        let name = format!("{worker}-{number}").into_bytes();
                        let plain = AttributeChange::default();
                        match number % 4 {
                            0 => create(&vault, &name).map(drop),
                            1 => upload(&vault, &name, b"x"),
                            2 => vault
                                .make_directory(ROOT, &name, &plain, draft(Action::DirectoryCreate))
                                .map(drop),
                            _ => vault.make_link(ROOT, &name, b"x", draft(Action::LinkCreate)).map(drop),
                        }
                    };
                    (0..8).filter(|number| made(*number).is_ok()).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!((made, world.store.quotas().customer(OWNER).used.files), (20, 20));
    let vault = &vaults[0];
    let found = vault.list(ROOT, None, 100).unwrap().0;
    let inode = found.iter().find(|entry| entry.name.ends_with(b"-0")).unwrap().attributes.inode;
    assert_eq!(refused(vault.hard_link(inode, ROOT, b"n", draft(Action::LinkCreate))), Limit::CustomerFiles);
    let copied = vault.copy(inode, (ROOT, b"n"), Replace::Never, false, draft(Action::Copy));
    assert_eq!(refused(copied), Limit::CustomerFiles);
    assert_eq!(refused(upload(vault, b"n", b"x")), Limit::CustomerFiles);
    // What is there can be written, replaced and removed.
    let (first, second) = (&found[0].name, &found[1].name);
    vault.rename((ROOT, first), (ROOT, b"n"), Replace::Never, draft(Action::Rename)).unwrap().wait().unwrap();
    vault.remove_tree(ROOT, second, draft(Action::Remove)).unwrap().wait().unwrap();
    create(vault, b"one more").unwrap();
    assert_eq!(refused(create(vault, b"and one")), Limit::CustomerFiles);
    world.assert_counted("files");
}

#[test]
fn what_a_vault_stores_is_limited_with_its_history_and_never_keeps_a_customer_from_deleting() {
    let world = World::new(Allowance::default(), stored(1_300_000));
    let vault = world.vault();
    let content = noise(1, 600_000);
    upload(&vault, b"a", &content).unwrap();
    let used = world.store.quotas().vault(world.vault).used.stored;
    assert!((600_000..610_000).contains(&used), "{used}");
    upload(&vault, b"b", &content).unwrap();
    assert_eq!(world.store.quotas().vault(world.vault).used.stored, used, "the same bytes store nothing");
    // Overwriting does not free what it replaces.
    upload(&vault, b"a", &noise(2, 300_000)).unwrap();
    assert_eq!(refused(upload(&vault, b"a", &noise(3, 450_000))), Limit::VaultStored);
    assert_eq!(refused(put(&vault, b"c", &noise(4, 450_000))), Limit::VaultStored);
    assert!(world.store.quotas().vault(world.vault).used.stored <= 1_300_000);
    world.set(|_| stored(1));
    assert_eq!(refused(vault.begin_upload_at(None, Some(1))), Limit::VaultStored, "before the first byte");
    assert_eq!(refused(upload(&vault, b"b", &content)), Limit::VaultStored);
    let inode = vault.lookup(ROOT, b"a").unwrap().inode;
    let mode = AttributeChange { mode: Some(0o600), ..AttributeChange::default() };
    vault.set_attributes(inode, &mode, draft(Action::AttributesSet)).unwrap().wait().unwrap();
    let property = (b"p".to_vec(), Some(b"v".to_vec()));
    vault.set_properties(inode, &[property], draft(Action::PropertiesSet)).unwrap().wait().unwrap();
    vault.rename((ROOT, b"a"), (ROOT, b"z"), Replace::Never, draft(Action::Rename)).unwrap().wait().unwrap();
    let file = vault.open(inode).unwrap();
    file.truncate(10).unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    drop(vault.copy(inode, (ROOT, b"copy"), Replace::Never, false, draft(Action::Copy)).unwrap());
    create(&vault, b"empty").unwrap();
    for name in [&b"b"[..], b"c", b"z", b"copy", b"empty"] {
        remove(&vault, name).unwrap();
    }
    assert!(vault.list(ROOT, None, 10).unwrap().0.is_empty());
    // What retention lets go makes room.
    drop(file);
    world.set(|_| stored(700_000));
    assert_eq!(refused(upload(&vault, b"a", &noise(3, 600_000))), Limit::VaultStored);
    let options =
        ReclaimOptions { live_percent_max: 0, grace_secs: 0, export: ExportPolicy::OlderThan(u64::MAX) };
    let report = world.store.reclaim(options, &mut |_, _| Flow::GoOn).unwrap();
    assert_eq!(world.store.quotas().vault(world.vault).used, Amounts::default(), "{report:?}");
    upload(&vault, b"a", &noise(3, 600_000)).unwrap();
    world.assert_counted("stored");
}

#[test]
fn stored_bytes_never_pass_their_limit_however_many_write_at_once() {
    let world = World::new(Allowance::default(), stored(3_000_000));
    let vault = world.vault();
    std::thread::scope(|scope| {
        for worker in 0..6_u64 {
            let vault = &vault;
            scope.spawn(move || {
                for number in 0..6 {
                    let name = format!("{worker}-{number}");
                    drop(upload(vault, name.as_bytes(), &noise(worker * 100 + number, 250_000)));
                }
            });
        }
    });
    let used = world.store.quotas().vault(world.vault);
    assert!((2_500_000..=3_000_000).contains(&used.used.stored), "{used:?}");
    assert_eq!(used.reserved, Amounts::default());
    world.assert_counted("stored in parallel");
}

#[test]
fn limits_what_is_used_and_what_was_told_survive_a_crash() {
    let world = World::new(bytes(1000), Allowance { files_max: Some(10), ..bytes(500) });
    let vault = world.vault();
    upload(&vault, b"a", &noise(1, 450)).unwrap();
    assert_eq!(world.told(), [(Limit::VaultBytes, 80)]);
    assert_eq!(refused(upload(&vault, b"b", &noise(2, 51))), Limit::VaultBytes);
    assert_eq!(refused(upload(&vault, b"b", &noise(2, 60))), Limit::VaultBytes);
    let told = [(Limit::VaultBytes, 80), (Limit::VaultBytes, 100)];
    assert_eq!(world.told(), told, "many refusals, one incident");
    drop(vault);

    let world = world.again();
    let vault = world.vault();
    let state = world.store.quotas().vault(world.vault);
    assert_eq!((state.used.bytes, state.used.files), (450, 1));
    assert_eq!(state.allowance, Allowance { files_max: Some(10), ..bytes(500) });
    assert_eq!(world.store.quotas().customer(OWNER).used.bytes, 450);
    assert_eq!(refused(upload(&vault, b"b", &noise(2, 51))), Limit::VaultBytes);
    upload(&vault, b"b", &noise(2, 30)).unwrap();
    assert_eq!(world.told(), told, "nothing is told twice");
    remove(&vault, b"a").unwrap();
    drop(vault);

    let world = world.again();
    let vault = world.vault();
    upload(&vault, b"a", &noise(1, 450)).unwrap();
    assert_eq!(
        world.told(),
        [&told[..], &[(Limit::VaultBytes, 95)]].concat(),
        "it fell below, and came again"
    );
    assert_eq!(refused(upload(&vault, b"c", &noise(3, 200))), Limit::VaultBytes);
    assert_eq!(world.told().len(), 4);
    world.assert_counted("after two crashes");
}

#[test]
fn an_erased_vault_counts_nothing_and_its_customer_has_the_room() {
    let world = World::new(bytes(1000), bytes(900));
    let (kept, vault) = (world.store.create_vault(OWNER, "w", 0, draft(Action::VaultAdd)), world.vault());
    let kept = world.store.vault(kept.unwrap().wait().unwrap()).unwrap();
    upload(&kept, b"a", &noise(1, 100)).unwrap();
    upload(&vault, b"a", &noise(2, 900)).unwrap();
    assert_eq!(refused(upload(&kept, b"b", &noise(3, 900))), Limit::CustomerBytes);
    let (told, id) = (world.told().len(), world.vault);
    drop(vault);
    drop(world.store.erase_vault(id, draft(Action::VaultErase), &mut |_, _| {}).unwrap());
    assert_eq!(world.store.quotas().vault(id).used, Amounts::default());
    drop(kept);
    let world = world.again();
    let state = world.store.quotas().customer(OWNER);
    assert_eq!((state.used.bytes, state.used.files), (100, 1));
    let kept = world.store.vaults().unwrap().into_iter().find(|vault| vault.name == "w").unwrap().id;
    let kept = world.store.vault(kept).unwrap();
    upload(&kept, b"b", &noise(3, 900)).unwrap();
    assert_eq!(world.told().len(), told + 1, "it is full again");
}

#[test]
fn a_lowered_limit_is_told_of_and_a_broken_upload_has_its_incident() {
    let world = World::new(Allowance::default(), Allowance::default());
    let vault = world.vault();
    put(&vault, b"a", &noise(1, 900)).unwrap();
    allow(&world.store, bytes(1000));
    allow(&world.store, bytes(1000));
    world.set(|_| bytes(900));
    let told = [(Limit::CustomerBytes, 80), (Limit::VaultBytes, 100)];
    assert_eq!(world.told(), told);
    let file = vault.open(vault.lookup(ROOT, b"a").unwrap().inode).unwrap();
    file.write_at(0, b"changed").unwrap();
    file.commit(Completion::Broken, draft(Action::FileWrite)).unwrap().wait().unwrap();
    let all = world.store.incidents(0, 10).unwrap();
    let last = all.last().unwrap();
    assert_eq!((last.what.kind, last.what.inode), (IncidentKind::BrokenUpload, Some(file.inode())));
    assert_eq!((last.what.owner, last.what.vault), (Some(OWNER), Some(world.vault)));
    assert_eq!(world.store.incidents(all[0].number, 1).unwrap(), all[1..2], "from the one after");
    assert!(world.store.incidents(last.number, 10).unwrap().is_empty());
}
