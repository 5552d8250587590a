//! A directory in which far more was removed than is left, in the present and at moments of the past.

use std::path::Path;

use anyhow::{Result, ensure};
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{AttributeChange, Cursor, Entry};
use coffre_storage::{StoreError, Vault};

use super::bed::{Bed, cost, draft, median, rate};

/// Entries that are left.
const LIVE: u64 = 10_000;
/// Entries that were removed, for each that is left.
const REMOVED_FOR_EACH: u64 = 10;
const ROUNDS: usize = 5;
const LIST_PAGE: usize = 1000;

/// Makes the directory: names come and go among each other. With the moment when half of it had been made.
fn build(vault: &Vault, name: &[u8]) -> Result<(InodeId, UnixNanos)> {
    let mode = AttributeChange::default();
    let parent = vault.make_directory(InodeId::ROOT, name, &mode, draft(Action::DirectoryCreate))?.wait()?;
    let (mut last, mut half) = (None, vault.store().clock_now());
    for live in 0..LIVE {
        if live == LIVE / 2 {
            half = vault.store().clock_now();
        }
        for passing in 0..REMOVED_FOR_EACH {
            let name = format!("passing-{live}-{passing}");
            drop(vault.create_file(parent, name.as_bytes(), &mode, draft(Action::FileCreate))?);
            drop(vault.remove(parent, name.as_bytes(), draft(Action::Remove))?);
        }
        let name = format!("live-{live}");
        last = Some(vault.create_file(parent, name.as_bytes(), &mode, draft(Action::FileCreate))?.ticket);
    }
    if let Some(ticket) = last {
        ticket.wait()?;
    }
    Ok((parent, half))
}

type Page = (Vec<Entry>, Option<Cursor>);

fn list(mut page: impl FnMut(Option<Cursor>) -> Result<Page, StoreError>) -> Result<u64> {
    let (mut entries, mut cursor): (u64, Option<Cursor>) = (0, None);
    loop {
        let (page, next) = page(cursor)?;
        entries += page.len() as u64;
        if next.is_none() {
            return Ok(entries);
        }
        cursor = next;
    }
}

/// Measures the live listing, and in turn with it those of three moments: as the directory stood when half of it was made,
/// when all of it was, and now.
pub(crate) fn run(parent: &Path) -> Result<()> {
    let bed = Bed::make(parent)?;
    let vault = &bed.vault;
    let (directory, half) = build(vault, b"busy")?;
    let whole = bed.store.clock_now();
    // The present moves on, so that the newest moment is one of the past too.
    vault.create_file(directory, b"later", &AttributeChange::default(), draft(Action::FileCreate))?.wait()?;
    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (found, spent) = cost(|| list(|cursor| vault.list(directory, cursor, LIST_PAGE)))?;
        ensure!(found == LIVE + 1, "what is left is listed");
        seconds[0].push(spent.wall.as_secs_f64());
        for (at, (time, expected)) in [(whole, LIVE), (half, LIVE / 2)].into_iter().enumerate() {
            let (found, spent) = cost(|| {
                let past = vault.at(time)?;
                list(|cursor| past.list(directory, cursor, LIST_PAGE))
            })?;
            ensure!(found == expected, "what was there is listed: {found}");
            seconds[at + 1].push(spent.wall.as_secs_f64());
        }
    }
    let [live, whole, half] = seconds.map(|seconds| std::time::Duration::from_secs_f64(median(seconds)));
    println!(
        "{LIVE} entries, {} removed ones: live listing {:.1} ms, {:.0} entries a second",
        LIVE * REMOVED_FOR_EACH,
        live.as_secs_f64() * 1e3,
        rate(LIVE, live)
    );
    for (when, time) in [("just before the last change", whole), ("when half of it had been made", half)] {
        println!(
            "the directory {when}: {:.1} ms, {:.2} times the live listing; target 3",
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() / live.as_secs_f64()
        );
    }
    bed.store.shutdown()?;
    Ok(())
}
