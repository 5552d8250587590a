//! Proofs for strangers: that a record is in the tree of a signed checkpoint, and that nothing was rewritten since one.

use anyhow::{Context, bail};
use coffre_storage::audit::beginning::{self, Beginning};
use coffre_storage::audit::checkpoint::Checkpoint;
use coffre_storage::audit::customer::{Customer, CustomerCheckpoint};
use coffre_storage::audit::merkle::{Frontier, leaf_hash};
use coffre_storage::audit::proof::{ConsistencyProof, Hashing, InclusionProof};
use coffre_storage::audit::stream::{Outlined, RecordStream};
use coffre_storage::audit::verify::{Kept, note_texts};
use serde_json::{Value, json};

use super::query::customer_of;
use crate::admin::service::Service;

/// A checkpoint, and the text that was signed.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) size: u64,
    pub(super) root: [u8; 32],
    pub(super) customer: Option<Customer>,
    pub(super) text: String,
}

impl Note {
    pub(super) fn read(text: String, public: &[u8; 32]) -> Option<Self> {
        let (size, root, customer) = match Kept::verify(&text, public)? {
            Kept::System(Checkpoint { size, root, .. }) => (size, root, None),
            Kept::Customer(CustomerCheckpoint { size, root, customer, .. }) => (size, root, Some(customer)),
        };
        Some(Self { size, root, customer, text })
    }
}

impl Service {
    /// The newest signed checkpoint of a tree; signs one first.
    pub(super) fn newest_note(&self, customer: Option<Customer>) -> anyhow::Result<Note> {
        self.store.sign_audit()?;
        let public = self.store.audit_public_key();
        let texts = note_texts(self.store.blobs().as_ref(), customer.is_some())?;
        let notes = texts.into_iter().rev().filter_map(|text| Note::read(text, &public));
        notes
            .into_iter()
            .find(|note| note.customer == customer)
            .context("no checkpoint was signed: there are no records")
    }

    /// Runs the leaves of a tree past `hashing`, up to `size`.
    fn hash_tree(&self, customer: Option<Customer>, size: u64, hashing: &mut Hashing) -> anyhow::Result<()> {
        let blobs = self.store.blobs().as_ref();
        if let Some(begins) = self.beginning()? {
            let edge = match customer {
                None => begins.frontier().unwrap_or_default(),
                Some(customer) => {
                    begins.trees().get(&customer).map(|tree| tree.frontier.clone()).unwrap_or_default()
                }
            };
            if edge.size() > 0 && !hashing.skip(&edge) {
                bail!("the records that this proof needs were lost before a recovery");
            }
        }
        let mut stream = RecordStream::open(blobs)?;
        let mut left = size - hashing.next_leaf();
        while left > 0 {
            match stream.read_outline()? {
                Outlined::Record(_, seen) if customer.is_some() && seen.customer != customer => {}
                Outlined::Record(bytes, _) => {
                    hashing.take(leaf_hash(bytes));
                    left -= 1;
                }
                Outlined::End => {
                    bail!("the log has fewer records than were signed: run `coffre audit verify`")
                }
                Outlined::Broken(at) => {
                    bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
                }
            }
        }
        Ok(())
    }

    pub(super) fn beginning(&self) -> anyhow::Result<Option<Beginning>> {
        let Some(text) = beginning::read(self.store.blobs().as_ref())? else { return Ok(None) };
        let read = Beginning::verify(&text, &self.store.audit_public_key());
        Ok(Some(read.context("the note that says where the log begins is damaged")?))
    }

    /// The record of this number in the whole log, and its index in the tree.
    fn find_record(&self, number: u64, customer: Option<Customer>) -> anyhow::Result<(Vec<u8>, u64)> {
        let before = self.beginning()?.map(|begins| match customer {
            None => begins.frontier().unwrap_or_default(),
            Some(customer) => {
                begins.trees().get(&customer).map_or_else(Frontier::default, |tree| tree.frontier.clone())
            }
        });
        let mut index = before.map_or(0, |edge| edge.size());
        let mut stream = RecordStream::open(self.store.blobs().as_ref())?;
        loop {
            match stream.read_outline()? {
                Outlined::Record(bytes, seen) if seen.number.0 == number => {
                    if customer.is_some() && seen.customer != customer {
                        bail!("record {number} is not this customer's");
                    }
                    return Ok((bytes.to_vec(), index));
                }
                Outlined::Record(_, seen) if customer.is_none() || seen.customer == customer => index += 1,
                Outlined::Record(..) => {}
                Outlined::End => bail!("no record {number} in this log"),
                Outlined::Broken(at) => {
                    bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
                }
            }
        }
    }

    /// A proof that a record is in the tree of the newest checkpoint, of the whole log or of a customer's.
    pub(in crate::admin) fn audit_prove_record(
        &self,
        number: u64,
        customer: Option<&str>,
    ) -> anyhow::Result<Value> {
        let customer = customer.map(|name| customer_of(&self.accounts, name)).transpose()?;
        self.note_reading("prove", customer, &format!("record {number}"))?;
        let note = self.newest_note(customer)?;
        let _held = self.store.hold_packs();
        let (record, index) = self.find_record(number, customer)?;
        let mut hashing =
            Hashing::inclusion(index, note.size).context("the record came after the newest checkpoint")?;
        self.hash_tree(customer, note.size, &mut hashing)?;
        let hashes = hashing.finish().context("the proof is not whole")?;
        let proof = InclusionProof { record, index, hashes, note: note.text };
        if proof.root(note.size) != Some(note.root) {
            bail!("the log is not what was signed: run `coffre audit verify`");
        }
        Ok(json!({ "record": number, "index": index, "size": note.size, "proof": proof.text() }))
    }

    /// A proof that the newest checkpoint's tree begins with that of an older one.
    pub(in crate::admin) fn audit_prove_since(&self, old: String) -> anyhow::Result<Value> {
        let public = self.store.audit_public_key();
        let old = Note::read(old, &public).context("the checkpoint is not signed by this log's key")?;
        self.note_reading("prove", old.customer, &format!("since {}", old.size))?;
        let new = self.newest_note(old.customer)?;
        let _held = self.store.hold_packs();
        let mut hashing = Hashing::consistency(old.size, new.size).with_context(|| {
            format!("the checkpoint is over {} records, the log has {}: it was set back", old.size, new.size)
        })?;
        self.hash_tree(old.customer, new.size, &mut hashing)?;
        let hashes = hashing.finish().context("the proof is not whole")?;
        let (was, is) = ((old.size, old.root), (new.size, new.root));
        if !coffre_storage::audit::proof::is_beginning(was, is, &hashes) {
            bail!(
                "the log does not begin with what the checkpoint was signed over: it was rewritten, or there are two"
            );
        }
        let proof = ConsistencyProof { hashes, old: old.text, new: new.text };
        Ok(json!({ "old_size": was.0, "size": is.0, "proof": proof.text() }))
    }
}
