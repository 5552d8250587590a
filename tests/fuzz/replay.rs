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

#[test]
fn xml_of_the_corpus_is_bounded_and_reads_back() -> Result<()> {
    replay("xml", properties::xml_bodies)
}

#[test]
fn if_headers_of_the_corpus_are_read_whole_or_refused() -> Result<()> {
    replay("conditions", properties::conditions)
}

#[test]
fn destinations_of_the_corpus_lead_to_this_host_or_nowhere() -> Result<()> {
    replay("destinations", properties::destinations)
}

#[test]
fn urls_of_the_corpus_have_one_meaning() -> Result<()> {
    replay("urls", properties::urls)
}

#[test]
fn secrets_of_the_corpus_are_what_they_are_and_nothing_else() -> Result<()> {
    replay("secrets", properties::secrets)
}

#[test]
fn certificates_of_the_corpus_say_one_thing_or_are_refused() -> Result<()> {
    replay("certificates", properties::certificates)
}

#[test]
fn ranges_of_the_corpus_lie_inside() -> Result<()> {
    replay("ranges", properties::ranges)
}

#[test]
fn audit_records_and_proofs_of_the_corpus_are_read_whole_or_refused() -> Result<()> {
    replay("audit", properties::audit)
}
