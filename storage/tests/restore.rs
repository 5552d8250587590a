//! What was comes back: copies out of the past share its content.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::{Store, StoreError, Vault};
use support::{draft, noise, options, put, read};

const YEAR_SECS: u64 = 365 * 86_400;

fn vault() -> (Store, Vault) {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs), &index, 8 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let made = store.create_vault(support::OWNER, "v", YEAR_SECS, draft(Action::VaultAdd)).unwrap();
    let vault = store.vault(made.wait().unwrap()).unwrap();
    (store, vault)
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
    let (store, vault) = vault();
    let d = directory(&vault, InodeId::ROOT, b"d");
    put(&vault, b"f", &noise(1, 3_000_000)).unwrap();
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
    let before = stored(&store);
    let copied = past.copy(d, (InodeId::ROOT, b"again"), Replace::Never, true, draft(Action::Copy));
    let again = copied.unwrap().wait().unwrap();
    assert_eq!(stored(&store), before, "no chunk was added");
    let found = vault.lookup(again, b"f").unwrap();
    assert_eq!(read(&vault, found.inode).unwrap(), noise(1, 3_000_000));
    assert_eq!(found.mtime, past.lookup(d, b"f").unwrap().mtime);
    assert_eq!(vault.properties(found.inode).unwrap()[&b"k"[..]], b"v");
    assert!(matches!(
        past.copy(f, (InodeId::ROOT, b"again"), Replace::Never, true, draft(Action::Copy)),
        Err(StoreError::Exists)
    ));
    support::assert_clean(&store, "after the copy");
}
