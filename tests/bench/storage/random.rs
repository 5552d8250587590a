//! Small writes all over a large file, and reading it afterwards.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::{Completion, OpenFile};
use coffre_tests::files::noise;

use rustix::fs::{Advice, fadvise};

use super::bed::{Bed, Cost, cost, draft, rate, ratio};

const WRITE_BYTES: u64 = 4096;
const WRITES: u64 = 20_000;
const PIECE_BYTES: usize = 256 * 1024;

fn read(file: &OpenFile, bytes: u64) -> Result<()> {
    let mut into = Vec::with_capacity(PIECE_BYTES);
    let mut at = 0;
    while at < bytes {
        into.clear();
        file.read_onto(at, PIECE_BYTES, &mut into)?;
        ensure!(!into.is_empty(), "the file ends early");
        at += into.len() as u64;
    }
    Ok(())
}

/// With nothing of the packs in the page cache.
fn cold(bed: &Bed, file: &OpenFile, bytes: u64) -> Result<Cost> {
    for entry in std::fs::read_dir(bed.directory().join("packs"))? {
        fadvise(File::open(entry?.path())?, 0, None, Advice::DontNeed)?;
    }
    Ok(cost(|| read(file, bytes))?.1)
}

fn compare(what: &str, clean: Cost, then: Cost) {
    println!(
        "reading after the writes, {what}: {:.2} of the clean speed, {:.2} times its CPU; target at least 0.5",
        clean.wall.as_secs_f64() / then.wall.as_secs_f64(),
        then.cpu.as_secs_f64() / clean.cpu.as_secs_f64()
    );
}

/// Twice, so that packs are in the page cache the second time.
fn hot(file: &OpenFile, bytes: u64) -> Result<Cost> {
    read(file, bytes)?;
    Ok(cost(|| read(file, bytes))?.1)
}

fn say(what: &str, bytes: u64, spent: Cost) {
    println!(
        "reading in order, {what}: {:.0} MB/s, {:.3} CPU s",
        rate(bytes, spent.wall) / 1e6,
        spent.cpu.as_secs_f64()
    );
}

/// Measures.
pub(crate) fn run(parent: &Path, mib: u64) -> Result<()> {
    let bytes = mib << 20;
    let bed = Bed::make(parent)?;
    let attributes = AttributeChange::default();
    let made = bed.vault.create_file(InodeId::ROOT, b"image", &attributes, draft(Action::FileCreate))?;
    let inode = made.wait()?;
    let file = bed.vault.open(inode)?;
    let content = noise(1, usize::try_from(bytes)?);
    for (at, piece) in content.chunks(PIECE_BYTES).enumerate() {
        file.write_at((at * PIECE_BYTES) as u64, piece)?;
    }
    file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()?;
    let clean = hot(&file, bytes)?;
    say("clean", bytes, clean);
    let clean_cold = cold(&bed, &file, bytes)?;
    say("clean, from the disk", bytes, clean_cold);
    drop(file);

    let (bed, before) = bed.pack_bytes()?;
    let file = bed.vault.open(inode)?;
    let places = noise(2, usize::try_from(WRITES * 8)?);
    let blocks: Vec<u64> = places
        .chunks_exact(8)
        .map(|place| Ok(u64::from_le_bytes(place.try_into()?) % (bytes / WRITE_BYTES)))
        .collect::<Result<_>>()?;
    let ((), spent) = cost(|| {
        for (at, block) in blocks.iter().enumerate() {
            file.write_at(block * WRITE_BYTES, &noise(at as u64 + 10, usize::try_from(WRITE_BYTES)?))?;
        }
        file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()?;
        Ok(())
    })?;
    println!(
        "{WRITES} writes of {WRITE_BYTES} bytes at random: {:.0} a second, {:.1} CPU s; target 3000 a second",
        rate(WRITES, spent.wall),
        spent.cpu.as_secs_f64()
    );
    let fragmented = hot(&file, bytes)?;
    say("after the writes", bytes, fragmented);
    compare("packs in the page cache", clean, fragmented);
    let fragmented_cold = cold(&bed, &file, bytes)?;
    say("after the writes, from the disk", bytes, fragmented_cold);
    compare("from the disk", clean_cold, fragmented_cold);
    // The pass that rewrites fragmented segments goes here, and the same two comparisons after it.
    drop(file);
    let (bed, after) = bed.pack_bytes()?;
    println!(
        "bytes written to packs: {:.2} times what the client wrote, target 1.5",
        ratio(after - before, WRITES * WRITE_BYTES)
    );
    bed.store.shutdown()?;
    Ok(())
}
