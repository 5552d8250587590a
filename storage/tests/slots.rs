//! Key slots of a vault that its customer holds: locked from the start, opened by what a slot is made for and by nothing else,
//! never left without a way in.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::allowance::Allowance;
use coffre_storage::audit::Action;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::CheckOptions;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::Table;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::keys::{EscrowKey, EscrowSlot, Passphrase, PassphraseSlot, RootKey, Slot, TokenSlot};
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{Held, NewVault, SlotsError};
use coffre_storage::{Store, StoreError, StoreOptions};
use support::{draft, noise, put, read};

const LATER: UnixNanos = UnixNanos(1_800_000_000_000_000_000);

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

fn passphrase_slot(vault: VaultId, root: &RootKey, text: &str) -> Slot {
    Slot::Passphrase(PassphraseSlot::seal(vault, root, &passphrase(text)).unwrap())
}

struct Made {
    blobs: Arc<dyn BlobStore>,
    index: MemoryIndex,
}

impl Made {
    fn new() -> Self {
        Self { blobs: Arc::new(MemoryBlobs::default()), index: MemoryIndex::default() }
    }

    fn options(&self) -> StoreOptions {
        support::options(Arc::clone(&self.blobs), &self.index, 1 << 20)
    }

    fn create(&self) -> Store {
        Store::create(&self.options()).unwrap();
        self.open()
    }

    fn open(&self) -> Store {
        Store::open(self.options()).unwrap()
    }
}

/// A vault with the passphrase slot `first`.
fn customer_vault(store: &Store) -> VaultId {
    let new =
        NewVault { owner: support::OWNER, name: "held", retention_secs: 0, allowance: Allowance::default() };
    let slots = |vault, root: &RootKey| Ok(vec![passphrase_slot(vault, root, "first")]);
    store.create_customer_vault(new, slots, draft(Action::VaultAdd)).unwrap().wait().unwrap()
}

fn unlock(store: &Store, vault: VaultId, text: &str) -> Result<RootKey, SlotsError> {
    let (_, root) = store.open_slot(vault, &passphrase(text))?;
    store.unlock_vault(vault, &root, LATER, draft(Action::VaultUnlock))?;
    Ok(root)
}

fn lock(store: &Store, vault: VaultId) {
    assert!(store.begin_locking(vault));
    store.finish_locking(vault).unwrap();
}

fn add(store: &Store, vault: VaultId, slot: Slot) -> u64 {
    store.add_slot(vault, slot, draft(Action::SlotAdd)).unwrap().wait().unwrap()
}

#[test]
fn a_customer_held_vault_is_locked_from_the_start_and_after_a_restart() {
    let made = Made::new();
    let store = made.create();
    let vault = customer_vault(&store);
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));
    assert_eq!(store.held(vault).unwrap(), Held::Locked);
    assert_eq!(store.locked_vaults().unwrap(), [vault]);
    assert!(matches!(unlock(&store, vault, "second"), Err(SlotsError::WrongKey)));
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));

    unlock(&store, vault, "first").unwrap();
    assert_eq!(store.held(vault).unwrap(), Held::Unlocked(LATER));
    put(&store.vault(vault).unwrap(), b"file", &noise(1, 300_000)).unwrap();
    store.shutdown().unwrap();

    let store = made.open();
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));
    unlock(&store, vault, "first").unwrap();
    let opened = store.vault(vault).unwrap();
    let inode = opened.lookup(InodeId::ROOT, b"file").unwrap().inode;
    assert_eq!(read(&opened, inode).unwrap(), noise(1, 300_000));
}

#[test]
fn what_is_open_when_a_vault_is_locked_reads_and_writes_nothing_more() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    unlock(&store, vault, "first").unwrap();
    let opened = store.vault(vault).unwrap();
    put(&opened, b"file", &noise(1, 300_000)).unwrap();
    let inode = opened.lookup(InodeId::ROOT, b"file").unwrap().inode;
    let file = opened.open(inode).unwrap();
    lock(&store, vault);
    assert_eq!(store.held(vault).unwrap(), Held::Locked);
    assert!(matches!(file.read_at(0, 1000), Err(StoreError::VaultLocked(_))));
    assert!(matches!(put(&opened, b"other", b"late"), Err(StoreError::VaultLocked(_))));
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));

    unlock(&store, vault, "first").unwrap();
    assert_eq!(read(&store.vault(vault).unwrap(), inode).unwrap(), noise(1, 300_000));
}

#[test]
fn a_vault_is_due_to_be_locked_at_the_instant_its_time_ends() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    unlock(&store, vault, "first").unwrap();
    assert_eq!(store.vaults_to_lock(UnixNanos(LATER.0 - 1)), (vec![], vec![]));
    assert_eq!(store.vaults_to_lock(LATER), (vec![vault], vec![]));
    assert!(store.begin_locking(vault));
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));
    assert_eq!(store.vaults_to_lock(LATER), (vec![], vec![vault]));
    store.finish_locking(vault).unwrap();
    assert_eq!(store.vaults_to_lock(LATER), (vec![], vec![]));
}

#[test]
fn each_kind_of_slot_brings_the_same_root_key() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    let root = unlock(&store, vault, "first").unwrap();
    let escrow = EscrowKey::generate().unwrap();
    let sealed = EscrowSlot::seal(vault, &root, escrow.recipient().unwrap()).unwrap();
    add(&store, vault, Slot::Escrow(sealed));
    add(&store, vault, Slot::Token(TokenSlot::seal(vault, &root, "k1", b"cofr_text").unwrap()));
    add(&store, vault, passphrase_slot(vault, &root, "second"));
    let slots = store.slots(vault).unwrap();
    assert_eq!(slots.len(), 4);
    for record in &slots {
        let opened = match &record.slot {
            Slot::Passphrase(slot) => slot
                .open(vault, &passphrase("first"))
                .or_else(|_| slot.open(vault, &passphrase("second")))
                .unwrap(),
            Slot::Token(slot) => slot.open(vault, b"cofr_text").unwrap(),
            Slot::Escrow(slot) => slot.open(vault, &escrow).unwrap(),
        };
        store.verify_root(vault, &opened).unwrap();
    }
}

#[test]
fn a_root_key_of_another_vault_unlocks_nothing() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    let root = RootKey::generate().unwrap();
    let unlocked = store.unlock_vault(vault, &root, LATER, draft(Action::VaultUnlock));
    assert!(matches!(unlocked, Err(SlotsError::WrongKey)));
    assert!(matches!(store.vault(vault), Err(StoreError::VaultLocked(_))));
}

#[test]
fn the_last_lasting_slot_goes_only_when_that_is_wanted() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    let root = unlock(&store, vault, "first").unwrap();
    let first = store.slots(vault).unwrap()[0].number;
    let remove = |number, even_the_last| {
        store
            .remove_slot(vault, number, even_the_last, draft(Action::SlotRemove))
            .map(|it| it.wait().unwrap())
    };
    assert!(matches!(remove(first, false), Err(SlotsError::LastWay)));
    // A token ends with its credential: nobody can count on it.
    add(&store, vault, Slot::Token(TokenSlot::seal(vault, &root, "k1", b"cofr_text").unwrap()));
    assert!(matches!(remove(first, false), Err(SlotsError::LastWay)));
    let second = add(&store, vault, passphrase_slot(vault, &root, "second"));
    remove(first, false).unwrap();
    assert!(matches!(remove(first, false), Err(SlotsError::Unknown)));
    assert!(matches!(store.open_slot(vault, &passphrase("first")), Err(SlotsError::WrongKey)));
    assert!(store.open_slot(vault, &passphrase("second")).is_ok());
    assert!(matches!(remove(second, false), Err(SlotsError::LastWay)));
    remove(second, true).unwrap();
}

#[test]
fn a_managed_vault_has_no_slots_of_its_own() {
    let store = Made::new().create();
    let vault = support::new_vault(&store).unwrap();
    assert_eq!(store.held(vault).unwrap(), Held::Managed);
    let slot = passphrase_slot(vault, &RootKey::generate().unwrap(), "first");
    assert!(matches!(store.add_slot(vault, slot, draft(Action::SlotAdd)), Err(SlotsError::Managed)));
    assert!(!store.begin_locking(vault));
    assert!(store.vault(vault).is_ok());
}

#[test]
fn a_slot_that_opens_another_vault_cannot_be_added() {
    let store = Made::new().create();
    let vault = customer_vault(&store);
    // Whoever adds a slot proved the root key; the slot itself is bound to the vault that it was made for.
    let root = unlock(&store, vault, "first").unwrap();
    let elsewhere = passphrase_slot(VaultId([9; 16]), &root, "second");
    add(&store, vault, elsewhere);
    assert!(matches!(store.open_slot(vault, &passphrase("second")), Err(SlotsError::WrongKey)));
}

#[test]
fn a_store_with_a_locked_vault_is_checked_and_reclaimed_without_it() {
    let store = Made::new().create();
    let (vault, beside) = (customer_vault(&store), support::new_vault(&store).unwrap());
    unlock(&store, vault, "first").unwrap();
    put(&store.vault(vault).unwrap(), b"file", &noise(1, 300_000)).unwrap();
    put(&store.vault(beside).unwrap(), b"file", &noise(2, 300_000)).unwrap();
    lock(&store, vault);
    let report = store.check(CheckOptions { read_data: true, progress: None }).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.vaults_locked, [vault]);
    let repaired =
        store.repair(CheckOptions { read_data: true, progress: None }, &draft(Action::Repair)).unwrap();
    assert!(repaired.repaired.is_empty() && repaired.left.findings.is_empty(), "{repaired:?}");
    unlock(&store, vault, "first").unwrap();
    let opened = store.vault(vault).unwrap();
    let inode = opened.lookup(InodeId::ROOT, b"file").unwrap().inode;
    assert_eq!(read(&opened, inode).unwrap(), noise(1, 300_000));
}

#[test]
fn a_flipped_byte_of_a_slot_is_found_and_the_slot_opens_nothing() {
    let made = Made::new();
    let store = made.create();
    let vault = customer_vault(&store);
    store.shutdown().unwrap();
    assert_eq!(made.index.rows_of(Table::Slots), 1);
    for at in [0, 20, 60, 100] {
        let changed = Made { blobs: Arc::clone(&made.blobs), index: made.index.after_power_cut() };
        changed.index.flip(Table::Slots, 0, at);
        let store = changed.open();
        let report = store.check(CheckOptions { read_data: false, progress: None }).unwrap();
        assert!(!report.findings.is_empty(), "byte {at}");
        assert!(store.open_slot(vault, &passphrase("first")).is_err(), "byte {at}");
        store.shutdown().unwrap();
    }
}
