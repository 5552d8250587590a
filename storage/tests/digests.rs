//! Digests are kept for exactly as long as the content they are of, and never told of another.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::index::{Index, Table};
use coffre_storage::reclaim::{ExportPolicy, Flow, ReclaimOptions};
use coffre_storage::tree::digest::Digests;
use coffre_storage::tree::{AttributeChange, Replace};
use coffre_storage::upload::{Completion, OpenFile};
use coffre_storage::{Store, StoreOptions, Vault};
use support::clock::{Dial, HOUR};
use support::{draft, put};

struct Bench {
    options: StoreOptions,
    index: MemoryIndex,
    dial: Arc<Dial>,
    store: Store,
    vault: Vault,
}

/// Some digests: the store does not compute them.
fn digests(seed: u8) -> Digests {
    Digests { sha256: Some([seed; 32]), sha1: Some([seed; 20]), md5: Some([seed; 16]) }
}

impl Bench {
    fn new() -> Self {
        let (index, dial) = (MemoryIndex::default(), Arc::<Dial>::default());
        let options = StoreOptions {
            clock: Arc::<Dial>::clone(&dial),
            ..support::options(Arc::new(MemoryBlobs::default()), &index, 1 << 20)
        };
        Store::create(&options).unwrap();
        let store = Store::open(options.clone()).unwrap();
        let made = store.create_vault(support::OWNER, "v", 3600, draft(Action::VaultAdd)).unwrap();
        let vault = store.vault(made.wait().unwrap()).unwrap();
        Self { options, index, dial, store, vault }
    }

    fn open(&self, name: &[u8]) -> OpenFile {
        self.vault.open(self.vault.lookup(InodeId::ROOT, name).unwrap().inode).unwrap()
    }

    fn kept(&self) -> usize {
        self.store.checkpoint().unwrap();
        self.index.snapshot().unwrap().range(Table::Digests, &[], &[0xff; 30], 100).unwrap().len()
    }

    fn reclaim(&self) {
        let options =
            ReclaimOptions { live_percent_max: 50, grace_secs: 0, export: ExportPolicy::WhenNeeded };
        self.store.reclaim(options, &mut |_, _| Flow::GoOn).unwrap();
    }
}

fn told(file: &OpenFile) -> Option<Digests> {
    file.kept_digests(file.settled_content().unwrap()).unwrap()
}

#[test]
fn what_is_kept_is_told_again_also_after_a_restart() {
    let mut bench = Bench::new();
    put(&bench.vault, b"f", b"content").unwrap();
    let file = bench.open(b"f");
    assert_eq!(told(&file), None);
    file.keep_digests(file.settled_content().unwrap(), &digests(1)).unwrap();
    assert_eq!(told(&file), Some(digests(1)));
    let id = bench.vault.id();
    drop(file);
    bench.store.shutdown().unwrap();
    bench.store = Store::open(bench.options.clone()).unwrap();
    bench.vault = bench.store.vault(id).unwrap();
    assert_eq!(told(&bench.open(b"f")), Some(digests(1)));
    support::assert_clean(&bench.store, "with digests");
}

#[test]
fn digests_of_what_was_written_to_meanwhile_are_not_kept() {
    let bench = Bench::new();
    put(&bench.vault, b"f", b"content").unwrap();
    let file = bench.open(b"f");
    let before = file.settled_content().unwrap();
    file.write_at(0, b"C").unwrap();
    assert_eq!(file.settled_content(), None, "unsaved");
    file.keep_digests(before, &digests(1)).unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    file.keep_digests(before, &digests(1)).unwrap();
    assert_eq!((told(&file), bench.kept()), (None, 0));
    // The same bytes written again are another content too.
    file.keep_digests(file.settled_content().unwrap(), &digests(2)).unwrap();
    file.write_at(0, b"C").unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    assert_eq!(told(&file), None);
}

#[test]
fn a_file_without_a_name_keeps_nothing_and_tells_nothing_of_what_it_was() {
    let bench = Bench::new();
    put(&bench.vault, b"f", b"content").unwrap();
    let file = bench.open(b"f");
    let before = file.settled_content().unwrap();
    file.keep_digests(before, &digests(1)).unwrap();
    bench.vault.remove(InodeId::ROOT, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    assert_eq!(told(&file), Some(digests(1)), "what history has");
    file.write_at(0, b"changed").unwrap();
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    assert_eq!(file.settled_content(), None);
}

#[test]
fn a_rename_and_new_times_keep_them_and_a_copy_has_them_too() {
    let bench = Bench::new();
    put(&bench.vault, b"f", b"content").unwrap();
    let file = bench.open(b"f");
    file.keep_digests(file.settled_content().unwrap(), &digests(1)).unwrap();
    let (root, move_to) = (InodeId::ROOT, (InodeId::ROOT, &b"g"[..]));
    bench.vault.rename((root, b"f"), move_to, Replace::Never, draft(Action::Rename)).unwrap().wait().unwrap();
    let change = AttributeChange { mode: Some(0o600), ..AttributeChange::default() };
    bench.vault.set_attributes(file.inode(), &change, draft(Action::AttributesSet)).unwrap().wait().unwrap();
    assert_eq!(told(&bench.open(b"g")), Some(digests(1)));
    put(&bench.vault, b"h", b"").unwrap();
    let copy = bench.open(b"h");
    copy.share_content_of(&file, draft(Action::Copy)).unwrap().unwrap().ticket.wait().unwrap();
    assert_eq!(told(&copy), Some(digests(1)));
    assert_eq!(bench.kept(), 2, "each content has its own");
}

#[test]
fn they_go_with_the_last_state_of_their_content() {
    let bench = Bench::new();
    put(&bench.vault, b"f", b"first").unwrap();
    let file = bench.open(b"f");
    file.keep_digests(file.settled_content().unwrap(), &digests(1)).unwrap();
    let change = AttributeChange { mode: Some(0o600), ..AttributeChange::default() };
    bench.vault.set_attributes(file.inode(), &change, draft(Action::AttributesSet)).unwrap().wait().unwrap();
    let then = bench.store.clock_now();
    drop(file);
    put(&bench.vault, b"f", b"second").unwrap();
    let inode = bench.vault.lookup(InodeId::ROOT, b"f").unwrap().inode;
    let past = bench.vault.at(then).unwrap().open(inode).unwrap();
    assert_eq!(told(&past), Some(digests(1)), "of a moment in the past");
    drop(past);
    bench.reclaim();
    assert_eq!(bench.kept(), 1, "the window is not over");
    bench.dial.turn(2 * HOUR);
    bench.reclaim();
    assert_eq!(bench.kept(), 0);
    support::assert_clean(&bench.store, "pruned");
}

#[test]
fn an_erased_vault_leaves_none() {
    let bench = Bench::new();
    put(&bench.vault, b"f", b"first").unwrap();
    let file = bench.open(b"f");
    file.keep_digests(file.settled_content().unwrap(), &digests(1)).unwrap();
    assert_eq!(bench.kept(), 1);
    let content = file.settled_content().unwrap();
    bench.store.erase_vault(bench.vault.id(), draft(Action::VaultErase), &mut |_, _| {}).unwrap();
    assert_eq!(bench.kept(), 0);
    assert!(file.keep_digests(content, &digests(1)).is_err(), "nothing comes back");
}
