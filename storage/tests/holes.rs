//! Holes of files are told apart from what is stored.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::Store;
use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::InodeId;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use support::{draft, new_vault, noise, options};

#[test]
fn runs_of_stored_bytes_leave_out_every_hole() {
    let blobs = Arc::new(MemoryBlobs::default());
    let index = MemoryIndex::default();
    let options = options(blobs, &index, 4 << 20);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let vault = store.vault(new_vault(&store).unwrap()).unwrap();
    let made = vault.create_file(InodeId::ROOT, b"f", &AttributeChange::default(), draft(Action::FileCreate));
    let file = vault.open(made.unwrap().value).unwrap();
    let (second, size) = ((64 << 20) - 1000, 200 << 20);
    for (at, len) in [(8192, 300_000), (second, 5000)] {
        file.write_at(at, &noise(at, len)).unwrap();
    }
    file.truncate(size).unwrap();
    for state in ["unsaved", "saved"] {
        let (mut at, mut stored) = (0, 0);
        while let Some((start, end)) = file.stored_run(at, 100_000).unwrap() {
            assert!(start >= at && end > start && end - start <= 100_000, "{state}: {start} {end}");
            stored += end - start;
            at = end;
        }
        // Runs may be widened to blocks, with what is there.
        assert!((305_000..330_000).contains(&stored), "{state}: {stored}");
        assert_eq!(file.stored_run(400_000, 1 << 20).unwrap().map(|run| run.0 > second - 5000), Some(true));
        assert_eq!(file.stored_run(100 << 20, 1 << 20).unwrap(), None);
        file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
    }
    store.shutdown().unwrap();
}
