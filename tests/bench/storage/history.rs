//! A directory in which far more was removed than is left.

use std::path::Path;

use anyhow::{Result, ensure};
use coffre_storage::Vault;
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::tree::{AttributeChange, Cursor};

use super::bed::{Bed, cost, draft, median, rate};

/// Entries that are left.
const LIVE: u64 = 10_000;
/// Entries that were removed, for each that is left.
const REMOVED_FOR_EACH: u64 = 10;
const ROUNDS: usize = 5;
const LIST_PAGE: usize = 1000;

/// Makes the directory: names come and go among each other.
pub(crate) fn build(vault: &Vault, name: &[u8]) -> Result<InodeId> {
    let mode = AttributeChange::default();
    let parent = vault.make_directory(InodeId::ROOT, name, &mode, draft(Action::DirectoryCreate))?.wait()?;
    let mut last = None;
    for live in 0..LIVE {
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
    Ok(parent)
}

fn list(vault: &Vault, directory: InodeId) -> Result<u64> {
    let (mut entries, mut cursor): (u64, Option<Cursor>) = (0, None);
    loop {
        let (page, next) = vault.list(directory, cursor, LIST_PAGE)?;
        entries += page.len() as u64;
        if next.is_none() {
            return Ok(entries);
        }
        cursor = next;
    }
}

/// Measures the live listing; that of a moment in the past joins it here.
pub(crate) fn run(parent: &Path) -> Result<()> {
    let bed = Bed::make(parent)?;
    let directory = build(&bed.vault, b"busy")?;
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let (found, spent) = cost(|| list(&bed.vault, directory))?;
        ensure!(found == LIVE, "what is left is listed");
        seconds.push(spent.wall.as_secs_f64());
    }
    let live = std::time::Duration::from_secs_f64(median(seconds));
    println!(
        "{LIVE} entries, {} removed ones: live listing {:.1} ms, {:.0} entries a second",
        LIVE * REMOVED_FOR_EACH,
        live.as_secs_f64() * 1e3,
        rate(LIVE, live)
    );
    bed.store.shutdown()?;
    Ok(())
}
