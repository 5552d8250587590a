//! Everything that fuzzing ever found worth keeping, once more, as plain tests.

#[path = "properties.rs"]
mod properties;

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Runs a property over the corpus of a target.
fn replay(target: &str, property: fn(&[u8])) -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).with_context(|| corpus.display().to_string())? {
        let path = entry?.path();
        println!("{}", path.display());
        property(&std::fs::read(&path)?);
        count += 1;
    }
    ensure!(count >= 20, "{target}: a corpus of {count} files");
    Ok(())
}

#[test]
fn packets_of_the_corpus_are_taken_apart_or_refused() -> Result<()> {
    replay("packets", properties::packets)
}

#[test]
fn paths_of_the_corpus_have_one_meaning() -> Result<()> {
    replay("paths", properties::paths)
}

#[test]
fn attributes_of_the_corpus_come_back_as_they_were_sent() -> Result<()> {
    replay("attributes", properties::attributes)
}

#[test]
fn moments_of_the_corpus_have_one_meaning() -> Result<()> {
    replay("moments", properties::moments)
}
