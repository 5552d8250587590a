//! Verification without a server and without a secret: of a copy of the log.

use std::path::Path;

use anyhow::{Context, bail};
use coffre_storage::audit::checkpoint::parse_verifier;
use coffre_storage::audit::proof::{ConsistencyProof, InclusionProof, is_beginning};
use coffre_storage::audit::record::decode_record;
use coffre_storage::audit::verify::{Against, verify_against};

use super::given::Given;
use super::prove::Note;
use super::rows::clear_row;
use super::{bundle, kept_notes, verdict};
use serde_json::json;

use crate::admin::Answer;
use crate::wiring;

/// Verifies a proof: that a record is in a signed tree, or that one tree is a beginning of another.
fn verify_proof(file: &Path, given: &Given) -> anyhow::Result<Answer> {
    let beside = given.verifier.as_deref().context("a proof needs the key that verifies: --verifier FILE")?;
    let line = given.verifier_line(beside)?;
    let key = parse_verifier(&line).or_else(|| bundle::customer_key(&line).map(|(_, key)| key));
    let key = key.context("no verifier key of an audit log")?;
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let read = |text: &str| Note::read(text.to_owned(), &key);
    let value = if let Some(proof) = InclusionProof::parse(&text) {
        let note = read(&proof.note).filter(|note| proof.root(note.size) == Some(note.root));
        let record = decode_record(&proof.record).context("the proof is of no record")?;
        note.map(|note| {
            json!({ "state": "verified", "size": note.size, "index": proof.index, "record": clear_row(&record) })
        })
    } else {
        let proof = ConsistencyProof::parse(&text).context("no proof that this program knows")?;
        let notes = read(&proof.old).zip(read(&proof.new));
        let fits = |(old, new): &(Note, Note)| {
            old.customer == new.customer
                && is_beginning((old.size, old.root), (new.size, new.root), &proof.hashes)
        };
        notes
            .filter(fits)
            .map(|(old, new)| json!({ "state": "verified", "old_size": old.size, "size": new.size }))
    };
    let good = value.is_some();
    let wrong = || json!({ "state": "damaged", "damage": "the proof does not prove what it says, or another key signed" });
    Ok(Answer { value: value.unwrap_or_else(wrong), good })
}

/// Verifies a copy offline, or what a customer's auditor was given. With the public key that lies beside the log, whoever could replace the whole copy could replace
/// that key too: give the one noted elsewhere, or compare them.
///
/// # Errors
/// No audit log there; reading failed.
pub fn verify_copy(directory: &Path, given: &Given) -> anyhow::Result<Answer> {
    if directory.is_file() {
        return verify_proof(directory, given);
    }
    if directory.join(bundle::MANIFEST).is_file() {
        return bundle::verify(directory, given);
    }
    let inner = wiring::store_directory(directory);
    let root = if inner.join("audit").is_dir() { inner } else { directory.to_owned() };
    if !root.join("audit").is_dir() {
        bail!("no audit log in {}", directory.display());
    }
    let line = given.verifier_line(&root.join("audit/checkpoint.pub"))?;
    let key = parse_verifier(&line).context("no verifier key of an audit log")?;
    let against = Against { until: None, kept: kept_notes(&given.notes()?, &key)? };
    let mut answer = verdict(&verify_against(wiring::blobs_at(&root)?.as_ref(), &key, against)?);
    if let Some(fields) = answer.value.as_object_mut() {
        fields.insert("verifier".to_owned(), line.trim().into());
    }
    Ok(answer)
}
