//! When a change becomes durable: at once when somebody waits for it, together with the next that somebody waits for, and
//! soon in any case. Syncs are counted on a simulated disk.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::{Arc, mpsc};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use coffre_storage::audit::Action;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::limits::UNAWAITED_MILLIS_MAX;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use coffre_storage::{Pending, Store, StoreError, Vault};
use support::{draft, new_vault, noise, options};

const PACK_BYTES: u64 = 4 << 20;
/// Longer than any machine needs for what is waited for here.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bed {
    blobs: FaultyBlobs,
    index: MemoryIndex,
    store: Store,
    id: VaultId,
    vault: Vault,
}

impl Bed {
    fn new() -> Self {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
        Store::create(&options).unwrap();
        let store = Store::open(options).unwrap();
        let id = new_vault(&store).unwrap();
        let vault = store.vault(id).unwrap();
        Self { blobs, index, store, id, vault }
    }

    fn create(&self, name: &str) -> Pending<InodeId> {
        let attributes = AttributeChange::default();
        self.vault
            .create_file(InodeId::ROOT, name.as_bytes(), &attributes, draft(Action::FileCreate))
            .unwrap()
    }

    fn write(&self, inode: InodeId, content: &[u8]) -> Pending<()> {
        let file = self.vault.open(inode).unwrap();
        file.write_at(0, content).unwrap();
        file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap()
    }

    /// Whether a name is there after the power went off now.
    fn survives(&self, name: &str) -> bool {
        let blobs = Arc::new(self.blobs.after_power_cut(1));
        let store = Store::open(options(blobs, &self.index.after_power_cut(), PACK_BYTES)).unwrap();
        let found = store.vault(self.id).unwrap().lookup(InodeId::ROOT, name.as_bytes());
        store.abandon();
        assert!(matches!(found, Ok(_) | Err(StoreError::NotFound)), "{found:?}");
        found.is_ok()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.store.abandon();
    }
}

/// Looks again and again until it holds.
fn becomes(mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > PATIENCE {
            return false;
        }
        park_timeout(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_file_that_is_made_written_and_closed_costs_one_sync() {
    const FILES: u64 = 200;
    let bed = Bed::new();
    let (syncs, batches) = (bed.blobs.syncs(), bed.store.status().batch_number);
    for file in 0..FILES {
        let made = bed.create(&format!("file {file}"));
        bed.write(made.value, &noise(file, 3000)).wait().unwrap();
    }
    let (syncs, batches) = (bed.blobs.syncs() - syncs, bed.store.status().batch_number - batches);
    // A machine that stands still between two calls closes a batch more; the checkpoint of each second syncs too.
    let few = FILES / 4;
    assert!((FILES..FILES + few).contains(&batches), "{batches} batches for {FILES} files");
    assert!((FILES..FILES + few).contains(&syncs), "{syncs} syncs for {FILES} files");
}

#[test]
fn a_change_that_nobody_waits_for_is_durable_soon_by_itself() {
    let bed = Bed::new();
    drop(bed.create("dropped"));
    let kept = bed.create("kept");
    assert!(becomes(|| bed.survives("dropped") && bed.survives("kept")));
    kept.wait().unwrap();
}

#[test]
fn whoever_waits_does_not_wait_until_the_others_are_due() {
    const WAITS: u32 = 60;
    let bed = Bed::new();
    let begin = Instant::now();
    for at in 0..WAITS {
        drop(bed.create(&format!("dropped {at}")));
        let made = bed.create(&format!("waited for {at}"));
        if at % 2 == 0 {
            made.wait().unwrap();
        } else {
            let (told, heard) = mpsc::channel();
            made.ticket.notify(Box::new(move |outcome| told.send(outcome).unwrap()));
            heard.recv_timeout(PATIENCE).unwrap().unwrap();
        }
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(UNAWAITED_MILLIS_MAX) * WAITS / 2, "{took:?} for {WAITS} waits");
}

#[test]
fn whoever_waits_for_one_change_has_all_before_it() {
    let bed = Bed::new();
    let (first, second) = (bed.create("first"), bed.create("second"));
    second.wait().unwrap();
    let syncs = bed.blobs.syncs();
    assert!(bed.survives("first") && bed.survives("second"));
    first.wait().unwrap();
    assert_eq!(bed.blobs.syncs(), syncs, "nothing is left to sync for it");
}

#[test]
fn one_who_waits_late_is_told_at_once_of_a_change_that_is_durable() {
    let bed = Bed::new();
    let made = bed.create("kept");
    assert!(becomes(|| bed.survives("kept")));
    let syncs = bed.blobs.syncs();
    made.wait().unwrap();
    assert_eq!(bed.blobs.syncs(), syncs);
}

#[test]
fn a_checkpoint_and_a_shutdown_take_along_what_nobody_waits_for() {
    let bed = Bed::new();
    drop(bed.create("before the checkpoint"));
    bed.store.checkpoint().unwrap();
    assert!(bed.survives("before the checkpoint"));
    drop(bed.create("before the shutdown"));
    bed.store.shutdown().unwrap();
    assert!(bed.survives("before the shutdown"));
}

#[test]
fn a_failed_write_that_nobody_waits_for_stops_the_store() {
    let bed = Bed::new();
    bed.store.checkpoint().unwrap();
    bed.blobs.fail_at(bed.blobs.calls() + 1);
    let kept = bed.create("kept");
    assert!(becomes(|| bed.store.status().poisoned));
    assert!(matches!(kept.wait(), Err(StoreError::Poisoned | StoreError::Io(_))));
    let refused = bed.vault.create_file(
        InodeId::ROOT,
        b"later",
        &AttributeChange::default(),
        draft(Action::FileCreate),
    );
    assert!(matches!(refused, Err(StoreError::Poisoned)));
}
