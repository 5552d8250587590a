//! Verifying what a customer's auditor was given.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{Context as Sha256, SHA256};
use coffre_storage::audit::Record;
use coffre_storage::audit::customer::{Customer, CustomerCheckpoint};
use coffre_storage::audit::merkle::leaf_hash;
use coffre_storage::audit::record::{RECORD_BYTES_MAX, decode_record};
use serde_json::{Value, json};

use super::{CHECKPOINTS, LINES, MAGIC, MANIFEST, Manifest, RECORDS, VERIFIER, customer_key};
use crate::admin::Answer;
use crate::admin::audit::given::Given;
use crate::admin::audit::rows::clear_row;
use crate::limits::AUDIT_LINE_BYTES_MAX;
use crate::units::{hex, moment};

/// What comes next among the records.
enum Piece {
    Record(Vec<u8>),
    End,
    CutShort,
}

/// The records of a directory, one by one.
struct Records(BufReader<File>);

impl Records {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let mut reader = BufReader::new(File::open(directory.join(RECORDS)).context(RECORDS)?);
        let mut magic = [0; MAGIC.len()];
        ensure!(reader.read_exact(&mut magic).is_ok() && magic == *MAGIC, "`{RECORDS}` holds no records");
        Ok(Self(reader))
    }

    fn next(&mut self) -> std::io::Result<Piece> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(Piece::End);
        }
        let mut prefix = Vec::new();
        self.0.by_ref().take(4).read_to_end(&mut prefix)?;
        let Some(len) = prefix.first_chunk().map(|prefix| u32::from_le_bytes(*prefix)) else {
            return Ok(Piece::CutShort);
        };
        if len as usize > RECORD_BYTES_MAX {
            return Ok(Piece::CutShort);
        }
        let mut bytes = Vec::new();
        self.0.by_ref().take(u64::from(len)).read_to_end(&mut bytes)?;
        Ok(if bytes.len() == len as usize { Piece::Record(bytes) } else { Piece::CutShort })
    }
}

/// Whether a line says of a record what stands in it. Names of users and details are the gateway's word.
fn is_told_by(record: &Record, line: &[u8]) -> bool {
    let Ok(Value::Object(mut told)) = serde_json::from_slice(line) else { return false };
    let Value::Object(mut own) = clear_row(record) else { return false };
    for fields in [&mut told, &mut own] {
        fields.remove("actor");
        fields.remove("details");
    }
    told == own
}

/// Checkpoints to compare with, smallest first; whether each was kept elsewhere.
type Notes = Vec<(CustomerCheckpoint, bool)>;

/// Why it is not what was signed, in words.
type Wrong = String;

/// Verifies what a customer's auditor was given: without a server, without a secret.
///
/// # Errors
/// It is none; reading failed.
pub(in crate::admin::audit) fn verify(directory: &Path, given: &Given) -> anyhow::Result<Answer> {
    let line = given.verifier_line(&directory.join(VERIFIER))?;
    let (customer, public) = customer_key(&line).context("no verifier key of a customer's audit log")?;
    let text = fs::read(directory.join(MANIFEST)).context(MANIFEST)?;
    let manifest = Manifest::verify(&String::from_utf8_lossy(&text), customer, &public);
    let compared = match &manifest {
        None => Err(format!("`{MANIFEST}` is not signed by this customer's key")),
        Some(manifest) => match notes(directory, given, manifest, &public)? {
            Ok(notes) => compare(directory, manifest, &notes)?.map(|()| notes.len()),
            Err(wrong) => Err(wrong),
        },
    };
    Ok(match (manifest, compared) {
        (Some(manifest), Ok(checkpoints)) => Answer {
            value: json!({
                "state": "verified", "customer": manifest.name, "records": manifest.records, "first": manifest.before.size(),
                "checkpoints": checkpoints, "details": manifest.details.name(), "exported": moment(manifest.time),
                "verifier": line.trim(), "damage": Value::Null,
            }),
            good: true,
        },
        (_, compared) => Answer {
            value: json!({ "state": "damaged", "damage": compared.err(), "verifier": line.trim() }),
            good: false,
        },
    })
}

/// The checkpoints of the directory, and those that were kept elsewhere.
fn notes(
    directory: &Path,
    given: &Given,
    manifest: &Manifest,
    public: &[u8; 32],
) -> anyhow::Result<Result<Notes, Wrong>> {
    let of_customer = |text: &str| {
        CustomerCheckpoint::verify(text, public).filter(|note| note.customer == manifest.customer)
    };
    let mut notes = Vec::new();
    for text in framed_texts(&fs::read(directory.join(CHECKPOINTS)).context(CHECKPOINTS)?) {
        match text.and_then(|text| of_customer(&text)).filter(|note| note.from == manifest.from) {
            Some(note) => notes.push((note, false)),
            None => {
                return Ok(Err(format!("checkpoint {} is not signed by this customer's key", notes.len())));
            }
        }
    }
    for text in given.notes()? {
        let note = of_customer(&text).context("the checkpoint given is not signed by this customer's key")?;
        if note.from != manifest.from {
            return Ok(Err(
                "the checkpoint that was kept elsewhere is of a tree that began elsewhere".to_owned()
            ));
        }
        notes.push((note, true));
    }
    notes.sort_by_key(|(note, _)| note.size);
    Ok(Ok(notes))
}

/// Reads the records and their lines past the checkpoints.
fn compare(directory: &Path, manifest: &Manifest, notes: &Notes) -> anyhow::Result<Result<(), Wrong>> {
    let before = manifest.before.size();
    let mut waiting = notes.iter().filter(|(note, _)| note.size >= before).peekable();
    let (mut frontier, mut digest) = (manifest.before.clone(), Sha256::new(&SHA256));
    let mut records = Records::open(directory)?;
    let mut lines = BufReader::new(File::open(directory.join(LINES)).context(LINES)?);
    loop {
        while let Some((note, elsewhere)) = waiting.next_if(|(note, _)| note.size <= frontier.size()) {
            if note.root != frontier.root() {
                let whose =
                    if *elsewhere { "of the checkpoint that was kept elsewhere" } else { "that were signed" };
                return Ok(Err(format!("the first {} records are not those {whose}", note.size)));
            }
        }
        let number = frontier.size();
        let bytes = match records.next()? {
            Piece::Record(bytes) => bytes,
            Piece::End => break,
            Piece::CutShort => return Ok(Err(format!("record {number} of the customer is cut short"))),
        };
        let Some(record) = decode_record(&bytes).filter(|record| belongs(record, manifest.customer)) else {
            return Ok(Err(format!("record {number} of the customer cannot be read")));
        };
        frontier.push(leaf_hash(&bytes));
        let mut line = Vec::new();
        lines.by_ref().take(AUDIT_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        digest.update(&line);
        if !is_told_by(&record, &line) {
            return Ok(Err(format!(
                "`{LINES}` tells something else of record {number} than the record does"
            )));
        }
    }
    if let Some((note, _)) = waiting.last() {
        return Ok(Err(format!("{} records were signed, {} are there", note.size, frontier.size())));
    }
    if frontier.root() != manifest.root || frontier.size() - before != manifest.records {
        return Ok(Err("the records are not those of the export".to_owned()));
    }
    if !lines.fill_buf()?.is_empty() || hex(digest.finish().as_ref()) != manifest.lines {
        return Ok(Err(format!("`{LINES}` is not what was signed")));
    }
    Ok(Ok(()))
}

fn belongs(record: &Record, customer: Customer) -> bool {
    record.draft.customer == Some(customer)
}

/// Texts that have their length in front; an inner nothing is cut short or no text.
fn framed_texts(mut rest: &[u8]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let text = rest.split_first_chunk::<4>().and_then(|(len, body)| {
            let (text, behind) = body.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            Some((String::from_utf8(text.to_vec()).ok()?, behind))
        });
        let Some((text, behind)) = text else {
            found.push(None);
            break;
        };
        found.push(Some(text));
        rest = behind;
    }
    found
}
