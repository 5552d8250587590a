//! The scrub reads every closed pack, goes on after a restart, and tells of each damaged pack once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::Store;
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::{CheckOptions, Finding};
use coffre_storage::index::Table;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::scrub::{Scrub, ScrubPass, ScrubProgress};
use support::{new_vault, noise, options, put};

/// Small packs: a few files fill one.
const PACK_BYTES: u64 = 8 << 20;

/// A store with several closed packs, opened again.
fn made() -> (MemoryBlobs, MemoryIndex, Store) {
    let (blobs, index) = (MemoryBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options.clone()).unwrap();
    let vault = store.vault(new_vault(&store).unwrap()).unwrap();
    for number in 0..8 {
        put(&vault, format!("f{number}").as_bytes(), &noise(number, 3 << 20)).unwrap();
    }
    drop(vault);
    store.shutdown().unwrap();
    (blobs, index, Store::open(options).unwrap())
}

fn pass(scrub: &mut Scrub, budget: u64) -> (ScrubPass, u64) {
    for steps in 1..10_000 {
        match scrub.step(budget).unwrap() {
            ScrubProgress::Reading { bytes } => assert!(bytes > 0),
            ScrubProgress::Done(pass) => return (pass, steps),
        }
    }
    panic!("the pass does not end");
}

fn incidents(store: &Store) -> usize {
    store.range(store.system_key(), Table::Incidents, &[], &[0xff; 9], 100).unwrap().len()
}

fn flip(blobs: &MemoryBlobs, name: &str, at: i64) {
    let blob = blobs.open(name).unwrap();
    let at = if at < 0 { blob.len().unwrap() - at.unsigned_abs() } else { at.unsigned_abs() };
    let mut byte = [0];
    blob.read_at(at, &mut byte).unwrap();
    blob.write_at(at, &[byte[0] ^ 0x10]).unwrap();
}

#[test]
fn a_pass_reads_all_closed_packs_in_steps_and_goes_on_after_a_restart() {
    let (blobs, index, store) = made();
    let mut scrub = Scrub::resume(&store).unwrap();
    let all = scrub.bytes_in_all().unwrap();
    let (whole, one_step) = pass(&mut scrub, u64::MAX);
    assert!(whole.packs >= 3 && whole.damaged == 0 && one_step == 1);
    // All but headers and footers.
    assert!(whole.bytes > all * 9 / 10 && whole.bytes < all, "{} of {all}", whole.bytes);
    assert_eq!(store.scrub_state().unwrap().last, Some(whole));
    let mut scrub = Scrub::resume(&store).unwrap();
    let mut done = 0;
    while scrub.state().packs < 2 {
        let ScrubProgress::Reading { bytes } = scrub.step(1 << 20).unwrap() else { panic!("too early") };
        done += bytes;
    }
    drop(scrub);
    store.shutdown().unwrap();
    let store = Store::open(options(Arc::new(blobs), &index, PACK_BYTES)).unwrap();
    let mut scrub = Scrub::resume(&store).unwrap();
    assert!(scrub.state().begun.is_some() && scrub.state().packs == 2);
    let before = scrub.state().bytes;
    let (rest, steps) = pass(&mut scrub, 1 << 20);
    assert!(before <= done && rest.bytes > before && steps > 3, "{rest:?} {before} {done} {steps}");
    // The pack that was open in between is closed now, and was read too.
    assert!(rest.packs > whole.packs);
    assert_eq!(store.scrub_state().unwrap().last, Some(rest));
    store.shutdown().unwrap();
}

#[test]
fn damage_anywhere_in_a_closed_pack_is_found_and_told_once() {
    // Header, header of a batch, a frame, the end of a batch (meta or padding), the footer.
    for (what, at) in
        [("header", 40), ("batch", 4096 + 30), ("frame", 300_000), ("end", -4097), ("footer", -40)]
    {
        let (blobs, _, store) = made();
        let name = "packs/0000000000000002.pack";
        flip(&blobs, name, at);
        let mut scrub = Scrub::resume(&store).unwrap();
        let (first, _) = pass(&mut scrub, 1 << 20);
        assert_eq!((first.damaged, incidents(&store)), (1, 1), "{what}");
        let (second, _) = pass(&mut scrub, 1 << 20);
        assert_eq!((second.damaged, incidents(&store)), (0, 1), "{what}");
        let report = store.check(CheckOptions::default()).unwrap();
        let noted = |finding: &Finding| matches!(finding, Finding::PackNoted { pack } if pack.0 == 2);
        assert!(report.findings.iter().any(noted), "{what}: {report:?}");
        let repaired = store
            .repair(
                CheckOptions { read_data: true, progress: None },
                &RecordDraft::new(Actor::Operator, Action::Repair),
            )
            .unwrap();
        assert_eq!(repaired.left.findings, [], "{what}: {:?}", repaired.found);
        support::assert_clean(&store, what);
        store.shutdown().unwrap();
    }
}

#[test]
fn a_pack_that_is_gone_is_found() {
    let (blobs, _, store) = made();
    blobs.remove("packs/0000000000000002.pack").unwrap();
    let (pass, _) = pass(&mut Scrub::resume(&store).unwrap(), 1 << 20);
    assert_eq!((pass.damaged, incidents(&store)), (1, 1));
    store.shutdown().unwrap();
}
