//! Locks in the store: what they keep others from, when they end, and that they are as durable and as secret as files.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::index::{Index, Table};
use coffre_storage::recover::rebuild;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::lock::{Bearer, LockDepth, LockDraft, LockScope, LockTarget, LockToken, Rest};
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::upload::Precondition;
use coffre_storage::{Store, StoreError, Vault};
use support::{draft, new_vault, put};

const ME: [u8; 16] = [1; 16];
const YOU: [u8; 16] = [2; 16];
const NEVER: UnixNanos = UnixNanos(i64::MAX);

struct Bed {
    blobs: MemoryBlobs,
    index: MemoryIndex,
    store: Store,
    id: VaultId,
}

impl Bed {
    fn new() -> Self {
        let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
        let options = support::options(Arc::new(blobs.clone()), &index, 8 << 20);
        Store::create(&options).unwrap();
        let store = Store::open(options).unwrap();
        let id = new_vault(&store).unwrap();
        Self { blobs, index, store, id }
    }

    fn vault(&self) -> Vault {
        self.store.vault(self.id).unwrap()
    }

    /// The vault in somebody's hands, with tokens.
    fn of(&self, holder: [u8; 16], tokens: &[LockToken]) -> Vault {
        self.vault().borne_by(Arc::new(Bearer::new(holder, tokens.to_vec())))
    }

    fn restarted(self) -> Self {
        self.store.shutdown().unwrap();
        let store =
            Store::open(support::options(Arc::new(self.blobs.clone()), &self.index, 8 << 20)).unwrap();
        Self { store, ..self }
    }
}

fn wanted(holder: [u8; 16], scope: LockScope, depth: LockDepth, expires: UnixNanos) -> LockDraft {
    LockDraft {
        token: LockToken(VaultId::random().unwrap().0),
        holder,
        scope,
        depth,
        expires,
        path: vec![b"the path".to_vec()],
        owner: "the owner".to_owned(),
    }
}

/// An exclusive lock on a name of the root.
fn lock(vault: &Vault, name: &[u8], holder: [u8; 16], depth: LockDepth) -> Result<LockToken, StoreError> {
    let wanted = wanted(holder, LockScope::Exclusive, depth, NEVER);
    let target = LockTarget::Name(InodeId::ROOT, name);
    Ok(vault.lock(target, wanted, draft(Action::LockSet))?.wait()?.token)
}

fn directory(vault: &Vault, parent: InodeId, name: &[u8]) -> InodeId {
    let change = AttributeChange::default();
    vault.make_directory(parent, name, &change, draft(Action::DirectoryCreate)).unwrap().wait().unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "a result is asked once")]
fn is_locked<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Locked { .. }))
}

fn overwrite(vault: &Vault, parent: InodeId, name: &[u8]) -> Result<(), StoreError> {
    let mut upload = vault.begin_upload()?;
    upload.write(b"new")?;
    let attributes = AttributeChange::default();
    upload.commit((parent, name), Precondition::None, &attributes, draft(Action::FileWrite))?.wait().map(drop)
}

#[test]
fn a_lock_keeps_everybody_out_but_its_holder_with_its_token() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    let token = lock(&bed.vault(), b"file", ME, LockDepth::Zero).unwrap();
    put(&bed.vault(), b"third", b"third").unwrap();
    let inode = bed.vault().lookup(InodeId::ROOT, b"file").unwrap().inode;
    let third = bed.vault().lookup(InodeId::ROOT, b"third").unwrap().inode;
    let from_to = ((InodeId::ROOT, &b"third"[..]), (InodeId::ROOT, &b"file"[..]));
    for (holder, tokens) in [(ME, &[][..]), (YOU, &[]), (YOU, &[token])] {
        let vault = bed.of(holder, tokens);
        assert!(is_locked(overwrite(&vault, InodeId::ROOT, b"file")));
        assert!(is_locked(vault.remove(InodeId::ROOT, b"file", draft(Action::Remove))));
        assert!(is_locked(vault.rename(from_to.1, from_to.0, Replace::Tree, draft(Action::Rename))));
        assert!(is_locked(vault.rename(from_to.0, from_to.1, Replace::Tree, draft(Action::Rename))));
        assert!(is_locked(vault.copy(third, from_to.1, Replace::Tree, true, draft(Action::Copy))));
        let change = AttributeChange { mode: Some(0), ..AttributeChange::default() };
        assert!(is_locked(vault.set_attributes(inode, &change, draft(Action::AttributesSet))));
        let property = [(b"p".to_vec(), Some(b"v".to_vec()))];
        assert!(is_locked(vault.set_properties(inode, &property, draft(Action::PropertiesSet))));
    }
    overwrite(&bed.of(ME, &[token]), InodeId::ROOT, b"file").unwrap();
    // What has no locks does not ask for them.
    put(&bed.vault(), b"file", b"by another way").unwrap();
}

#[test]
fn a_deep_lock_reaches_down_and_a_lock_on_a_directory_keeps_its_names() {
    let bed = Bed::new();
    let deep = directory(&bed.vault(), InodeId::ROOT, b"deep");
    let inner = directory(&bed.vault(), deep, b"inner");
    let flat = directory(&bed.vault(), InodeId::ROOT, b"flat");
    let below = directory(&bed.vault(), flat, b"below");
    let deeply = lock(&bed.vault(), b"deep", ME, LockDepth::Infinity).unwrap();
    let flatly = lock(&bed.vault(), b"flat", ME, LockDepth::Zero).unwrap();
    let you = bed.of(YOU, &[deeply, flatly]);
    assert!(is_locked(overwrite(&you, inner, b"new")));
    assert!(is_locked(overwrite(&you, deep, b"new")));
    assert!(is_locked(overwrite(&you, flat, b"new")), "a new name changes the directory");
    overwrite(&you, below, b"new").unwrap();
    overwrite(&bed.of(ME, &[deeply]), inner, b"new").unwrap();
    assert!(is_locked(overwrite(&bed.of(ME, &[deeply]), flat, b"new")));
    overwrite(&bed.of(ME, &[flatly]), flat, b"new").unwrap();
    // Nor can one be taken below the other, or above it.
    let conflict = |name: &[u8], parent, depth| {
        let wanted = wanted(YOU, LockScope::Shared, depth, NEVER);
        let target = LockTarget::Name(parent, name);
        matches!(
            bed.vault().lock(target, wanted, draft(Action::LockSet)),
            Err(StoreError::LockConflict { .. })
        )
    };
    assert!(conflict(b"inner", deep, LockDepth::Zero));
    let root = wanted(YOU, LockScope::Exclusive, LockDepth::Infinity, NEVER);
    let refused = bed.vault().lock(LockTarget::Root(InodeId::ROOT), root, draft(Action::LockSet));
    assert!(matches!(refused, Err(StoreError::LockConflict { .. })));
    assert!(!conflict(b"below", flat, LockDepth::Zero));
}

#[test]
fn a_tree_with_somebodys_lock_below_is_neither_removed_nor_moved_nor_replaced() {
    let bed = Bed::new();
    let tree = directory(&bed.vault(), InodeId::ROOT, b"tree");
    let inner = directory(&bed.vault(), tree, b"inner");
    overwrite(&bed.vault(), inner, b"leaf").unwrap();
    directory(&bed.vault(), InodeId::ROOT, b"other");
    let leaf = wanted(ME, LockScope::Exclusive, LockDepth::Zero, NEVER);
    let token = leaf.token;
    let target = LockTarget::Name(inner, b"leaf");
    bed.vault().lock(target, leaf, draft(Action::LockSet)).unwrap().wait().unwrap();
    let you = bed.of(YOU, &[token]);
    let (tree_at, other) = ((InodeId::ROOT, &b"tree"[..]), (InodeId::ROOT, &b"other"[..]));
    assert!(is_locked(you.remove_tree(InodeId::ROOT, b"tree", draft(Action::Remove))));
    assert!(is_locked(you.rename(tree_at, (InodeId::ROOT, b"moved"), Replace::Tree, draft(Action::Rename))));
    assert!(is_locked(you.rename(other, tree_at, Replace::Tree, draft(Action::Rename))));
    bed.vault().lookup(inner, b"leaf").unwrap();
    let me = bed.of(ME, &[token]);
    me.rename(tree_at, (InodeId::ROOT, b"moved"), Replace::Tree, draft(Action::Rename))
        .unwrap()
        .wait()
        .unwrap();
    assert!(bed.vault().locks().unwrap().is_empty(), "a move carries no lock along");
    overwrite(&you, inner, b"leaf").unwrap();
}

#[test]
fn a_lock_ends_at_its_instant_and_with_what_it_is_on() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    let now = bed.store.clock_now();
    let soon = wanted(ME, LockScope::Exclusive, LockDepth::Zero, UnixNanos(now.0 + 1_000_000_000));
    let target = LockTarget::Name(InodeId::ROOT, b"file");
    bed.vault().lock(target, soon.clone(), draft(Action::LockSet)).unwrap().wait().unwrap();
    let you = bed.of(YOU, &[]);
    assert!(is_locked(overwrite(&you, InodeId::ROOT, b"file")));
    // The clock goes on by a millisecond at each look.
    while bed.store.clock_now() < soon.expires {}
    overwrite(&you, InodeId::ROOT, b"file").unwrap();
    assert!(bed.vault().locks().unwrap().is_empty());
    assert_eq!(bed.vault().sweep_locks().unwrap(), 1);
    assert_eq!(bed.vault().sweep_locks().unwrap(), 0);
    lock(&bed.vault(), b"file", YOU, LockDepth::Zero).unwrap();
    // Removed by whoever does not ask for locks.
    bed.vault().remove(InodeId::ROOT, b"file", draft(Action::Remove)).unwrap().wait().unwrap();
    assert!(bed.vault().locks().unwrap().is_empty());
    put(&bed.of(ME, &[]), b"file", b"anew").unwrap();
}

#[test]
fn shared_locks_stand_beside_each_other_and_each_holder_may_change() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    let target = || LockTarget::Name(InodeId::ROOT, b"file");
    let take = |holder, scope| {
        let wanted = wanted(holder, scope, LockDepth::Zero, NEVER);
        bed.vault().lock(target(), wanted, draft(Action::LockSet))
    };
    let mine = take(ME, LockScope::Shared).unwrap().wait().unwrap();
    let yours = take(YOU, LockScope::Shared).unwrap().wait().unwrap();
    assert!(matches!(take(ME, LockScope::Exclusive), Err(StoreError::LockConflict { .. })));
    overwrite(&bed.of(ME, &[mine.token]), InodeId::ROOT, b"file").unwrap();
    overwrite(&bed.of(YOU, &[yours.token]), InodeId::ROOT, b"file").unwrap();
    assert!(is_locked(overwrite(&bed.of([3; 16], &[mine.token]), InodeId::ROOT, b"file")));
    let place = (mine.inode, Some(InodeId::ROOT));
    let stolen = bed.vault().unlock(place, (mine.token, YOU), draft(Action::LockRelease));
    assert!(matches!(stolen, Err(StoreError::LockOfAnother)));
    let stolen = bed.vault().refresh_lock(place, (mine.token, YOU), NEVER, draft(Action::LockSet));
    assert!(matches!(stolen, Err(StoreError::LockOfAnother)));
    let elsewhere = (InodeId::ROOT, None);
    let unknown = bed.vault().unlock(elsewhere, (mine.token, ME), draft(Action::LockRelease));
    assert!(matches!(unknown, Err(StoreError::LockUnknown)));
    bed.vault().unlock(place, (mine.token, ME), draft(Action::LockRelease)).unwrap().wait().unwrap();
    bed.vault().break_lock(yours.number, draft(Action::LockRelease)).unwrap().wait().unwrap();
    overwrite(&bed.of([3; 16], &[]), InodeId::ROOT, b"file").unwrap();
}

#[test]
fn a_free_name_that_is_locked_becomes_an_empty_file_in_the_same_transaction() {
    let bed = Bed::new();
    let free = |name| LockTarget::Free(InodeId::ROOT, name);
    let wanted_by = |holder| wanted(holder, LockScope::Exclusive, LockDepth::Zero, NEVER);
    bed.vault().lock(free(b"new"), wanted_by(ME), draft(Action::LockSet)).unwrap().wait().unwrap();
    assert_eq!(bed.vault().lookup(InodeId::ROOT, b"new").unwrap().size, 0);
    let twice = bed.vault().lock(free(b"new"), wanted_by(YOU), draft(Action::LockSet));
    assert!(matches!(twice, Err(StoreError::Exists)));
    // Where names may not come, no lock brings one.
    lock_root(&bed);
    let refused = bed.of(YOU, &[]).lock(free(b"more"), wanted_by(YOU), draft(Action::LockSet));
    assert!(is_locked(refused));
    assert!(matches!(bed.vault().lookup(InodeId::ROOT, b"more"), Err(StoreError::NotFound)));
}

fn lock_root(bed: &Bed) {
    let wanted = wanted(ME, LockScope::Exclusive, LockDepth::Zero, NEVER);
    bed.vault()
        .lock(LockTarget::Root(InodeId::ROOT), wanted, draft(Action::LockSet))
        .unwrap()
        .wait()
        .unwrap();
}

#[test]
fn a_change_rests_on_a_lock_and_a_content_until_it_is_made() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    let found = bed.vault().lookup(InodeId::ROOT, b"file").unwrap();
    let resting = |rest| {
        let bearer = Arc::new(Bearer::new(ME, Vec::new()));
        bearer.rest_on(rest);
        bed.vault().borne_by(bearer)
    };
    let content = resting(Rest::Content(bed.id, found.inode, found.content));
    overwrite(&content, InodeId::ROOT, b"file").unwrap();
    let stale = content.remove(InodeId::ROOT, b"file", draft(Action::Remove));
    assert!(matches!(stale, Err(StoreError::Changed)));
    let token = lock(&bed.vault(), b"file", ME, LockDepth::Zero).unwrap();
    let locked = Arc::new(Bearer::new(ME, vec![token]));
    locked.rest_on(Rest::Lock(bed.id, token));
    let locked = bed.vault().borne_by(locked);
    overwrite(&locked, InodeId::ROOT, b"file").unwrap();
    let place = (found.inode, Some(InodeId::ROOT));
    bed.vault().unlock(place, (token, ME), draft(Action::LockRelease)).unwrap().wait().unwrap();
    assert!(matches!(overwrite(&locked, InodeId::ROOT, b"file"), Err(StoreError::Changed)));
}

#[test]
fn locks_survive_a_restart_and_check_knows_them() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    let token = lock(&bed.vault(), b"file", ME, LockDepth::Zero).unwrap();
    let before = bed.vault().locks().unwrap();
    let bed = bed.restarted();
    assert_eq!(bed.vault().locks().unwrap(), before);
    assert!(is_locked(overwrite(&bed.of(YOU, &[token]), InodeId::ROOT, b"file")));
    overwrite(&bed.of(ME, &[token]), InodeId::ROOT, b"file").unwrap();
    bed.store.checkpoint().unwrap();
    support::assert_clean(&bed.store, "a store with a lock");
    let rows = bed.index.snapshot().unwrap().range(Table::Locks, &[], &[0xff; 40], 9).unwrap();
    assert_eq!(rows.len(), 1);
    for secret in [&b"the owner"[..], b"the path", &token.0] {
        assert!(!rows[0].1.windows(secret.len()).any(|found| found == secret), "what is stored is sealed");
    }
}

#[test]
fn locks_come_back_from_packs_alone_and_go_with_an_erased_vault() {
    let bed = Bed::new();
    put(&bed.vault(), b"file", b"old").unwrap();
    lock(&bed.vault(), b"file", ME, LockDepth::Zero).unwrap();
    let locks = bed.vault().locks().unwrap();
    bed.store.shutdown().unwrap();
    let index = MemoryIndex::default();
    let options = || support::options(Arc::new(bed.blobs.clone()), &index, 8 << 20);
    rebuild(&options(), None, &mut |_, _| {}).unwrap();
    let store = Store::open(options()).unwrap();
    assert_eq!(store.vault(bed.id).unwrap().locks().unwrap(), locks);
    store.erase_vault(bed.id, draft(Action::VaultErase), &mut |_, _| {}).unwrap();
    assert!(index.snapshot().unwrap().range(Table::Locks, &[], &[0xff; 40], 9).unwrap().is_empty());
}

#[test]
fn locks_are_capped_and_those_that_ended_make_room() {
    let bed = Bed::new();
    let (max, now) = (coffre_storage::limits::LOCKS_OF_HOLDER_MAX, bed.store.clock_now());
    put(&bed.vault(), b"file", b"old").unwrap();
    // Ended long before the last one is taken.
    let expires = UnixNanos(now.0 + 100_000_000_000);
    let take = |holder, expires| {
        let wanted = wanted(holder, LockScope::Shared, LockDepth::Zero, expires);
        bed.vault().lock(LockTarget::Name(InodeId::ROOT, b"file"), wanted, draft(Action::LockSet)).map(drop)
    };
    (0..max).try_for_each(|_| take(ME, expires)).unwrap();
    assert!(matches!(take(ME, NEVER), Err(StoreError::TooManyLocks)));
    take(YOU, NEVER).unwrap();
    while bed.store.clock_now() < expires {}
    take(ME, NEVER).unwrap();
    assert_eq!(bed.vault().locks().unwrap().len(), 2);
}
