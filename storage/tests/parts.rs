//! Uploads in parts: kept until they become a file, are given up or wait too long, and changes of parts of files.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::{ContentId, InodeId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Precondition;
use coffre_storage::{Store, StoreError, StoreOptions, Vault};
use support::clock::{Dial, HOUR};
use support::{assert_clean, draft, noise, put, read};

struct Bench {
    options: StoreOptions,
    dial: Arc<Dial>,
    store: Store,
    vault: Vault,
}

impl Bench {
    fn new() -> Self {
        let dial = Arc::<Dial>::default();
        let options = StoreOptions {
            clock: Arc::<Dial>::clone(&dial),
            ..support::options(Arc::new(MemoryBlobs::default()), &MemoryIndex::default(), 1 << 20)
        };
        Store::create(&options).unwrap();
        let store = Store::open(options.clone()).unwrap();
        let made = store.create_vault(support::OWNER, "v", 3600, draft(Action::VaultAdd)).unwrap();
        let vault = store.vault(made.wait().unwrap()).unwrap();
        Self { options, dial, store, vault }
    }

    fn reopened(mut self) -> Self {
        let id = self.vault.id();
        self.store.shutdown().unwrap();
        self.store = Store::open(self.options.clone()).unwrap();
        self.vault = self.store.vault(id).unwrap();
        self
    }

    fn part(&self, upload: InodeId, name: &[u8], bytes: &[u8]) -> InodeId {
        let mut part = self.vault.begin_upload().unwrap();
        part.write(bytes).unwrap();
        let attributes = AttributeChange::default();
        let done =
            part.commit((upload, name), Precondition::None, &attributes, draft(Action::PartWrite)).unwrap();
        done.wait().unwrap().0
    }

    fn content_of(&self, inode: InodeId) -> ContentId {
        self.vault.attributes(inode).unwrap().content
    }

    /// Files in use, the root counted.
    fn used(&self) -> (u64, u64) {
        let found = self.store.vaults().unwrap().remove(0);
        (found.used_bytes, found.used_inodes)
    }

    fn content(&self, name: &[u8]) -> Vec<u8> {
        read(&self.vault, self.vault.lookup(InodeId::ROOT, name).unwrap().inode).unwrap()
    }
}

#[test]
fn parts_become_a_file_by_sharing_what_they_hold_and_are_gone_with_that() {
    let bench = Bench::new();
    let upload = bench.vault.begin_parts(b"me.x", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    assert!(matches!(bench.vault.begin_parts(b"me.x", draft(Action::PartsBegin)), Err(StoreError::Exists)));
    let content = noise(1, 2_500_000);
    let parts: Vec<InodeId> = content
        .chunks(700_001)
        .enumerate()
        .map(|(at, piece)| bench.part(upload, at.to_string().as_bytes(), piece))
        .collect();
    let bench = bench.reopened();
    let (before, stored) = (bench.used(), bench.store.vaults().unwrap().remove(0).stored_bytes);
    let mut whole = bench.vault.begin_upload().unwrap();
    whole.spend_parts(b"me.x".to_vec(), 2_500_000).unwrap();
    for part in parts {
        whole.append_content_of(part, bench.content_of(part)).unwrap();
    }
    let attributes = AttributeChange::default();
    let target = (InodeId::ROOT, &b"whole"[..]);
    whole
        .commit(target, Precondition::Absent, &attributes, draft(Action::FileWrite))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(bench.content(b"whole"), content);
    assert!(matches!(bench.vault.parts(b"me.x"), Err(StoreError::NotFound)));
    let after = bench.used();
    assert_eq!((after.0, after.1 + 4), before, "four parts and their directory for one file");
    assert_eq!(bench.store.vaults().unwrap().remove(0).stored_bytes, stored, "nothing was copied");
    assert_clean(&bench.store, "assembled");
    assert_clean(&bench.reopened().store, "and opened again");
}

#[test]
fn an_assembly_whose_parts_are_gone_makes_nothing() {
    let bench = Bench::new();
    let upload = bench.vault.begin_parts(b"me.x", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    let part = bench.part(upload, b"1", b"some bytes");
    let mut whole = bench.vault.begin_upload().unwrap();
    whole.spend_parts(b"me.x".to_vec(), 10).unwrap();
    whole.append_content_of(part, bench.content_of(part)).unwrap();
    bench.vault.abandon_parts(b"me.x", draft(Action::PartsAbandon)).unwrap().wait().unwrap();
    let (target, attributes) = ((InodeId::ROOT, &b"whole"[..]), AttributeChange::default());
    let done = whole.commit(target, Precondition::None, &attributes, draft(Action::FileWrite));
    assert!(matches!(done, Err(StoreError::Changed)));
    assert!(matches!(bench.vault.lookup(InodeId::ROOT, b"whole"), Err(StoreError::NotFound)));
    assert_clean(&bench.store, "abandoned");
}

#[test]
fn a_part_that_comes_during_an_assembly_is_not_lost() {
    let bench = Bench::new();
    let upload = bench.vault.begin_parts(b"me.x", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    let part = bench.part(upload, b"1", b"some bytes");
    let (target, attributes) = ((InodeId::ROOT, &b"whole"[..]), AttributeChange::default());
    for (late, bytes) in [(&b"2"[..], &b"more"[..]), (b"1", b"others")] {
        let mut whole = bench.vault.begin_upload().unwrap();
        whole.spend_parts(b"me.x".to_vec(), 10).unwrap();
        let content = bench.content_of(part);
        whole.append_content_of(part, content).unwrap();
        bench.part(upload, late, bytes);
        let done = whole.commit(target, Precondition::None, &attributes, draft(Action::FileWrite));
        assert!(matches!(done, Err(StoreError::Changed)), "not all of it was appended");
        assert_eq!(read(&bench.vault, bench.vault.lookup(upload, late).unwrap().inode).unwrap(), bytes);
        bench.vault.remove(upload, b"2", draft(Action::PartsAbandon)).ok();
        if late == b"1" {
            let mut again = bench.vault.begin_upload().unwrap();
            assert!(matches!(again.append_content_of(part, content), Err(StoreError::Changed)));
        }
    }
    assert_clean(&bench.store, "nothing was made");
}

#[test]
fn parts_that_wait_too_long_are_given_up_and_their_room_comes_back() {
    let bench = Bench::new();
    assert_eq!(bench.vault.abandon_parts_older_than(bench.store.clock_now()).unwrap(), 0, "none yet");
    let old = bench.vault.begin_parts(b"me.old", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    bench.part(old, b"1", &noise(2, 100_000));
    let young = bench.vault.begin_parts(b"me.young", draft(Action::PartsBegin)).unwrap().wait().unwrap();
    bench.dial.turn(2 * HOUR);
    let before = bench.store.clock_now();
    bench.dial.turn(HOUR);
    // Its last part counts, not its beginning.
    bench.part(young, b"1", &noise(3, 50_000));
    assert_eq!(bench.vault.abandon_parts_older_than(before).unwrap(), 1);
    assert!(matches!(bench.vault.parts(b"me.old"), Err(StoreError::NotFound)));
    assert!(bench.vault.parts(b"me.young").is_ok());
    assert_eq!(bench.used().0, 50_000);
    assert_clean(&bench.store, "given up");
}

#[test]
fn a_change_of_a_part_is_seen_whole_or_not_at_all_and_undoes_nothing() {
    let bench = Bench::new();
    let mut content = noise(4, 3_000_000);
    put(&bench.vault, b"f", &content).unwrap();
    let inode = bench.vault.lookup(InodeId::ROOT, b"f").unwrap().inode;
    let (mut edit, base) = bench.vault.begin_edit(inode).unwrap();
    edit.write_at(1_000_001, &noise(5, 1_500_000)).unwrap();
    assert_eq!(bench.content(b"f"), content, "not before its commit");
    let (target, attributes) = ((InodeId::ROOT, &b"f"[..]), AttributeChange::default());
    let precondition = Precondition::Content(base);
    edit.commit(target, precondition, &attributes, draft(Action::FileWrite)).unwrap().wait().unwrap();
    content[1_000_001..2_500_001].copy_from_slice(&noise(5, 1_500_000));
    assert_eq!(bench.content(b"f"), content);
    let (mut late, base) = bench.vault.begin_edit(inode).unwrap();
    late.write_at(0, b"late").unwrap();
    put(&bench.vault, b"f", b"newer").unwrap();
    let done = late.commit(target, Precondition::Content(base), &attributes, draft(Action::FileWrite));
    assert!(matches!(done, Err(StoreError::Changed)));
    assert_eq!(bench.content(b"f"), b"newer");
    assert_clean(&bench.reopened().store, "edited");
}
