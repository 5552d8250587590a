//! Faults, simulated, over every scenario: each changing call to the disk fails once, the disk is full from each call on,
//! each read fails once, the power goes off after every sync. Whatever was acknowledged is there afterwards, whole; what was
//! not is there whole or not at all; `check` finds nothing.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::{Store, StoreError};
use support::scenario::{PACK_BYTES, SCENARIOS, Scenario};
use support::{assert_clean, new_vault, noise, options, put, tree};

/// Runs `one` for n = 1, 2, ... until the fault does not come any more before the scenario's end.
fn sweep(one: impl Fn(&Scenario, u64) -> bool) {
    for scenario in &SCENARIOS {
        let last = (1..100_000).find(|n| !one(scenario, *n)).unwrap();
        assert!(last > 20, "{}: {last} faults only", scenario.name);
    }
}

#[test]
fn every_changing_call_may_fail_once() {
    // How many calls there are depends on how transactions fall into batches: until a run ends before its fault.
    sweep(|scenario, n| {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.fail_at(n);
        let outcome = scenario.run(Arc::new(blobs.clone()), &index, &mut |_| {});
        let fault_came = blobs.calls() >= n;
        blobs.fail_at(0);
        // The process restarts: what the disk took is there, what the index did not sync is not.
        scenario.assert_recovers(
            Arc::new(blobs),
            &index.after_power_cut(),
            outcome,
            &format!("call {n} failed"),
        );
        fault_came
    });
}

#[test]
fn the_disk_may_be_full_from_any_call_on_and_the_store_goes_on_when_there_is_room() {
    sweep(|scenario, n| {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        blobs.full_from(n);
        let what = format!("full from call {n} on");
        let mut went_on = None;
        let outcome = scenario.run(Arc::new(blobs.clone()), &index, &mut |store| {
            blobs.make_room();
            // One that stopped at a failed write waits for a restart; one that only had no room goes on by itself.
            let vault = store.vault(store.vaults().unwrap()[0].id).unwrap();
            went_on = (1..200).find_map(|_| match put(&vault, b"room", b"again") {
                Ok(()) => Some(true),
                Err(StoreError::Poisoned) => Some(false),
                Err(StoreError::DiskFull) => {
                    std::thread::park_timeout(std::time::Duration::from_millis(50));
                    None
                }
                Err(other) => panic!("{what}: {other}"),
            });
            assert!(went_on.is_some(), "{what}: there is room, and nothing is taken");
            if went_on == Some(true) {
                assert_clean(store, &what);
                vault
                    .remove(
                        coffre_storage::id::InodeId::ROOT,
                        b"room",
                        support::draft(coffre_storage::audit::Action::Remove),
                    )
                    .unwrap()
                    .wait()
                    .unwrap();
            }
        });
        let fault_came = blobs.calls() >= n;
        blobs.make_room();
        scenario.assert_recovers(Arc::new(blobs), &index.after_power_cut(), outcome, &what);
        fault_came
    });
}

#[test]
fn a_read_may_fail_and_the_next_one_works() {
    for scenario in &SCENARIOS {
        let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
        let (id, steps) = scenario.run(Arc::new(blobs.clone()), &index, &mut |_| {});
        let id = id.unwrap();
        let disk = blobs.after_power_cut(0).contents();
        // Every third one: a look at everything is hundreds of reads.
        for n in (1..).step_by(3) {
            let blobs = FaultyBlobs::holding(disk.clone());
            let what = format!("read {n} failed");
            blobs.fail_read_at(n);
            let options = options(Arc::new(blobs.clone()), &index.after_power_cut(), PACK_BYTES);
            let store = match Store::open(options.clone()) {
                Ok(store) => store,
                // Refused, and nothing is lost by it.
                Err(_) if blobs.reads() >= n => {
                    Store::open(options).unwrap_or_else(|error| panic!("{what}: {error}"))
                }
                Err(error) => panic!("{what}: {error}"),
            };
            let vault = store.vault(id).unwrap();
            match tree(&vault) {
                Ok(_) => {}
                Err(StoreError::Io(_)) if blobs.reads() >= n => {}
                Err(error) => panic!("{what}: {error}"),
            }
            put(&vault, b"then", b"1").unwrap();
            vault
                .remove(
                    coffre_storage::id::InodeId::ROOT,
                    b"then",
                    support::draft(coffre_storage::audit::Action::Remove),
                )
                .unwrap()
                .wait()
                .unwrap();
            drop(vault);
            let came = blobs.reads() >= n;
            if came {
                scenario.assert_holds(&store, id, steps, &what);
            }
            store.shutdown().unwrap();
            if !came {
                assert!(n > 50, "{n}");
                break;
            }
        }
    }
}

#[test]
fn the_power_may_go_off_after_every_sync() {
    for scenario in &SCENARIOS {
        let whole = FaultyBlobs::default();
        let (id, _) = scenario.run(Arc::new(whole.clone()), &MemoryIndex::default(), &mut |_| {});
        assert!(id.is_some());
        for n in 1..=whole.syncs() {
            let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
            blobs.cut_after_sync(n);
            let outcome = scenario.run(Arc::new(blobs.clone()), &index, &mut |_| {});
            for seed in 0..3 {
                let survived = blobs.after_power_cut(n * 31 + seed);
                scenario.assert_recovers(
                    Arc::new(survived),
                    &index.after_power_cut(),
                    outcome,
                    &format!("power off after sync {n}, seed {seed}"),
                );
            }
        }
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_a_hole_before_durable_batches_is_refused() {
    let (blobs, index) = (FaultyBlobs::default(), MemoryIndex::default());
    let options = options(Arc::new(blobs.clone()), &index, PACK_BYTES);
    Store::create(&options).unwrap();
    let store = Store::open(options).unwrap();
    let id = new_vault(&store).unwrap();
    let vault = store.vault(id).unwrap();
    let index_then = index.after_power_cut();
    for n in 0..20 {
        put(&vault, format!("f{n}").as_bytes(), &noise(n, 5000)).unwrap();
    }
    drop(vault);
    store.abandon();
    let disk = blobs.after_power_cut(1).contents();
    let pack = disk.keys().find(|name| name.starts_with("packs/")).unwrap().clone();
    let used = disk[&pack].iter().rposition(|byte| *byte != 0).unwrap();
    // The end of the last batch is torn: the batches before it are what there was.
    let mut torn = disk.clone();
    torn.get_mut(&pack).unwrap()[used - 10..=used].fill(0);
    let torn = coffre_storage::blob::memory::MemoryBlobs::holding(torn);
    let store =
        Store::open(support::options(Arc::new(torn), &index_then.after_power_cut(), PACK_BYTES)).unwrap();
    assert!(tree(&store.vault(id).unwrap()).unwrap().len() >= 19);
    assert_clean(&store, "torn tail");
    store.shutdown().unwrap();
    // A batch in the middle is damaged, others were durable after it: nobody goes on as if nothing had been lost.
    let mut holed = disk;
    holed.get_mut(&pack).unwrap()[used / 2] ^= 1;
    let holed = coffre_storage::blob::memory::MemoryBlobs::holding(holed);
    assert!(Store::open(support::options(Arc::new(holed), &index_then, PACK_BYTES)).is_err());
}
