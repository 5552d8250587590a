//! Writing what a customer's auditor is given.

use std::fs::{DirBuilder, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{Context as Sha256, SHA256};
use coffre_storage::audit::customer::{Customer, CustomerCheckpoint, origin, verifier};
use coffre_storage::audit::merkle::{Frontier, leaf_hash};
use coffre_storage::audit::record::decode_record;
use coffre_storage::audit::stream::{Outlined, RecordStream};
use coffre_storage::audit::verify::note_texts;
use coffre_storage::audit::writer::framed;
use coffre_storage::keys::GatewayLabel;
use coffre_storage::note;
use serde_json::json;

use super::{
    CHECKPOINTS, LINES, MAGIC, MANIFEST, Manifest, README, README_TEXT, RECORDS, VERIFIER, manifest_origin,
};
use crate::admin::Answer;
use crate::admin::audit::prove::Note;
use crate::admin::audit::query::customer_of;
use crate::admin::audit::rows::{Details, Reading};
use crate::admin::service::Service;
use crate::units::hex;

fn new_file(directory: &Path, name: &str) -> anyhow::Result<BufWriter<File>> {
    let path = directory.join(name);
    Ok(BufWriter::new(File::create_new(&path).with_context(|| path.display().to_string())?))
}

fn finish(mut file: BufWriter<File>) -> anyhow::Result<()> {
    file.flush()?;
    Ok(file.get_ref().sync_all()?)
}

impl Service {
    /// Writes what one customer's auditor is given.
    pub(in crate::admin) fn audit_export_customer(
        &self,
        name: &str,
        directory: &Path,
        details: Details,
    ) -> anyhow::Result<Answer> {
        let customer = customer_of(&self.accounts, name)?;
        let known = self.accounts.customers().into_iter().find(|known| known.id.0 == customer);
        self.note_reading("export", Some(customer), &format!("details {}", details.name()))?;
        let note = self.newest_note(Some(customer))?;
        let public = self.store.audit_public_key();
        let signed = CustomerCheckpoint::verify(&note.text, &public).context("the newest checkpoint")?;
        DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("{}: it must be a new directory", directory.display()))?;
        let _held = self.store.hold_packs();
        let before = self
            .beginning()?
            .and_then(|begins| begins.trees().get(&customer).map(|tree| tree.frontier.clone()))
            .unwrap_or_default();
        let lines = self.write_records(directory, (customer, &note), &before, details)?;
        let of_customer = |text: &String| {
            text.lines().next() == Some(origin(&customer).as_str())
                && CustomerCheckpoint::verify(text, &public).is_some_and(|note| note.from == signed.from)
        };
        let notes = note_texts(self.store.blobs().as_ref(), true)?;
        let notes: Vec<String> = notes.into_iter().filter(of_customer).collect();
        let manifest = Manifest {
            customer,
            // One line of the note, whatever somebody called it.
            name: known.map_or_else(|| hex(&customer), |known| known.name.replace(char::is_control, "?")),
            records: note.size - before.size(),
            before,
            root: note.root,
            from: signed.from,
            details,
            lines,
            time: self.store.clock_now().0,
        };
        self.seal_bundle(directory, &manifest, &notes)?;
        Ok(json!({
            "customer": manifest.name, "directory": directory, "records": manifest.records, "first": manifest.before.size(),
            "details": details.name(), "checkpoints": notes.len(), "verifier": verifier(&customer, &public).trim(),
        })
        .into())
    }

    /// Writes what stands beside the records, the signed list last: with it the directory is whole.
    fn seal_bundle(&self, directory: &Path, manifest: &Manifest, notes: &[String]) -> anyhow::Result<()> {
        let (customer, public) = (manifest.customer, self.store.audit_public_key());
        let seed = self.store.gateway_key().derive(GatewayLabel::AuditSigning);
        let sealed = note::sign(&manifest_origin(&customer), &manifest.body(), &seed);
        for (name, content) in [
            (CHECKPOINTS, framed(notes)),
            (VERIFIER, verifier(&customer, &public).into_bytes()),
            (README, README_TEXT.as_bytes().to_vec()),
            (MANIFEST, sealed.context("the signing key")?.into_bytes()),
        ] {
            let mut file = new_file(directory, name)?;
            file.write_all(&content)?;
            finish(file)?;
        }
        Ok(File::open(directory)?.sync_all()?)
    }

    /// Writes the records of the customer up to a signed size, and their lines; SHA-256 of these.
    fn write_records(
        &self,
        directory: &Path,
        (customer, note): (Customer, &Note),
        before: &Frontier,
        details: Details,
    ) -> anyhow::Result<String> {
        let (mut frontier, mut digest) = (before.clone(), Sha256::new(&SHA256));
        let (mut records, mut lines) = (new_file(directory, RECORDS)?, new_file(directory, LINES)?);
        records.write_all(MAGIC)?;
        let reading = Reading::new(&self.store, &self.accounts).with(details);
        let mut stream = RecordStream::open(self.store.blobs().as_ref())?;
        while frontier.size() < note.size {
            let bytes = match stream.read_outline()? {
                Outlined::Record(bytes, seen) if seen.customer == Some(customer) => bytes,
                Outlined::Record(..) => continue,
                Outlined::End => {
                    bail!("the log has fewer records than were signed: run `coffre audit verify`")
                }
                Outlined::Broken(at) => {
                    bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
                }
            };
            frontier.push(leaf_hash(bytes));
            records.write_all(&framed(&[bytes]))?;
            let record = decode_record(bytes).context("a record that cannot be read")?;
            let line = format!("{}\n", reading.row(&record));
            digest.update(line.as_bytes());
            lines.write_all(line.as_bytes())?;
        }
        ensure!(frontier.root() == note.root, "the log is not what was signed: run `coffre audit verify`");
        finish(records)?;
        finish(lines)?;
        Ok(hex(digest.finish().as_ref()))
    }
}
