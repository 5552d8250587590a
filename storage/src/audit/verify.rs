//! Verification of the audit log, offline too: segments and checkpoints against one public key, no secret needed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::VerifyReport;
use super::beginning::{self, Beginning};
use super::checkpoint::Checkpoint;
use super::customer::{Customer, CustomerCheckpoint, CustomerTrees, customer_of};
use super::merkle::{Frontier, Hash, leaf_hash};
use super::stream::{Outlined, RecordStream};
use super::writer::{AuditPosition, CHECKPOINTS, CUSTOMER_CHECKPOINTS, NOTE_BYTES_MAX};
use crate::blob::{Blob, BlobStore};
use crate::id::RecordNumber;

/// Notes of a blob, as they stand there: up to `bound` bytes. The inner error says in words which one is cut short.
pub(crate) fn read_notes(
    blobs: &dyn BlobStore,
    name: &str,
    bound: u64,
) -> io::Result<Option<Result<Vec<String>, String>>> {
    let Some(blob) = open_notes(blobs, name)? else { return Ok(None) };
    let (len, mut at, mut found) = (blob.len()?.min(bound), 0, Vec::new());
    while at < len {
        let Some((note, next)) = read_note(blob.as_ref(), at, len)? else {
            return Ok(Some(Err(format!("checkpoint {} is cut short", found.len()))));
        };
        found.push(note);
        at = next;
    }
    Ok(Some(Ok(found)))
}

/// Texts of the signed notes: over all records, or over single customers'. What is torn at the end is left out.
///
/// # Errors
/// Reading failed.
pub fn note_texts(blobs: &dyn BlobStore, of_customers: bool) -> io::Result<Vec<String>> {
    Ok(note_texts_within(blobs, of_customers, 0..u64::MAX)?.0)
}

/// Those that lie whole in a range of bytes that begins with one, and where the next one is to come.
///
/// # Errors
/// Reading failed.
pub fn note_texts_within(
    blobs: &dyn BlobStore,
    of_customers: bool,
    range: Range<u64>,
) -> io::Result<(Vec<String>, u64)> {
    let name = if of_customers { CUSTOMER_CHECKPOINTS } else { CHECKPOINTS };
    let (mut found, mut at) = (Vec::new(), range.start);
    if let Some(blob) = open_notes(blobs, name)? {
        let len = blob.len()?.min(range.end);
        while let Some((note, next)) = read_note(blob.as_ref(), at, len)? {
            found.push(note);
            at = next;
        }
    }
    Ok((found, at))
}

fn open_notes(blobs: &dyn BlobStore, name: &str) -> io::Result<Option<Arc<dyn Blob>>> {
    match blobs.open(name) {
        Ok(blob) => Ok(Some(blob)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The note at a place, and where the next one is; nothing when it is cut short.
fn read_note(blob: &dyn Blob, at: u64, len: u64) -> io::Result<Option<(String, u64)>> {
    if at + 4 > len {
        return Ok(None);
    }
    let mut prefix = [0; 4];
    blob.read_at(at, &mut prefix)?;
    let bytes = u32::from_le_bytes(prefix);
    let next = at + 4 + u64::from(bytes);
    if bytes == 0 || bytes > NOTE_BYTES_MAX || next > len {
        return Ok(None);
    }
    let mut note = vec![0; bytes as usize];
    blob.read_at(at + 4, &mut note)?;
    // Bytes that are no text are no note either: the signature will say so.
    Ok(Some((String::from_utf8_lossy(&note).into_owned(), next)))
}

pub(crate) fn read_checkpoints(
    blobs: &dyn BlobStore,
    public_key: &[u8; 32],
    until: Option<&AuditPosition>,
) -> io::Result<Result<Vec<Checkpoint>, String>> {
    // None has been signed yet.
    if until.is_some_and(|until| until.notes_bytes == 0) {
        return Ok(Ok(Vec::new()));
    }
    let notes = match read_notes(blobs, CHECKPOINTS, until.map_or(u64::MAX, |until| until.notes_bytes))? {
        None => return Ok(Err("there are no signed checkpoints".into())),
        Some(Err(damage)) => return Ok(Err(damage)),
        Some(Ok(notes)) => notes,
    };
    let mut found = Vec::<Checkpoint>::new();
    for note in notes {
        let nth = found.len();
        let Some(checkpoint) = Checkpoint::verify(&note, public_key) else {
            return Ok(Err(format!("checkpoint {nth} is not signed by this log's key")));
        };
        if found.last().is_some_and(|last| checkpoint.size < last.size || checkpoint.commit < last.commit) {
            return Ok(Err(format!("checkpoint {nth} goes back behind the one before")));
        }
        found.push(checkpoint);
    }
    Ok(Ok(found))
}

/// Checkpoints of single customers, in the order in which they were signed; none when nothing keeps them.
pub(crate) fn read_customer_checkpoints(
    blobs: &dyn BlobStore,
    public_key: &[u8; 32],
    until: Option<&AuditPosition>,
) -> io::Result<Result<Vec<CustomerCheckpoint>, String>> {
    let bound = until.map_or(u64::MAX, |until| until.customer_notes_bytes);
    let notes = match read_notes(blobs, CUSTOMER_CHECKPOINTS, bound)? {
        None => return Ok(Ok(Vec::new())),
        Some(Err(damage)) => return Ok(Err(format!("customers: {damage}"))),
        Some(Ok(notes)) => notes,
    };
    let mut found = Vec::new();
    for note in notes {
        let nth = found.len();
        let Some(checkpoint) = CustomerCheckpoint::verify(&note, public_key) else {
            return Ok(Err(format!("checkpoint {nth} of the customers is not signed by this log's key")));
        };
        found.push(checkpoint);
    }
    Ok(Ok(found))
}

/// The customers' trees over the records that are laid out up to a position: those of a store that kept none.
///
/// # Errors
/// Reading failed, or a record cannot be read.
pub fn trees_over(blobs: &dyn BlobStore, until: &AuditPosition) -> io::Result<CustomerTrees> {
    let mut stream = RecordStream::until(blobs, Some(until))?;
    let mut trees = CustomerTrees::begin(stream.next_number().0);
    loop {
        match stream.read_outline()? {
            Outlined::Record(bytes, seen) => trees.take(&seen, || leaf_hash(bytes)),
            Outlined::End => return Ok(trees),
            Outlined::Broken(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a record cannot be read"));
            }
        }
    }
}

/// A checkpoint that somebody kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Over all records.
    System(Checkpoint),
    /// Over one customer's.
    Customer(CustomerCheckpoint),
}

impl Kept {
    /// Reads a note that the key signed.
    pub fn verify(note: &str, public_key: &[u8; 32]) -> Option<Self> {
        match customer_of(note) {
            None => Checkpoint::verify(note, public_key).map(Self::System),
            Some(_) => CustomerCheckpoint::verify(note, public_key).map(Self::Customer),
        }
    }
}

/// What a log is held against besides its own checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Against<'a> {
    /// A position that a checkpoint of the store wrote down: what is behind is being written.
    pub until: Option<&'a AuditPosition>,
    /// Checkpoints that were kept elsewhere.
    pub kept: Vec<Kept>,
}

/// Verifies segments and checkpoints below `blobs` with the checkpoint public key (32 bytes, Ed25519): offline, on a copy.
///
/// # Errors
/// Reading failed; damage is in the report.
pub fn verify(blobs: &dyn BlobStore, public_key: &[u8; 32]) -> io::Result<VerifyReport> {
    verify_against(blobs, public_key, Against::default())
}

/// What is still to be compared of one tree: sizes and roots, smallest first. The last field tells where it is from.
#[derive(Debug, Default)]
struct Waiting(VecDeque<(u64, Hash, From)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Log,
    Elsewhere,
}

impl Waiting {
    fn of(mut all: Vec<(u64, Hash, From)>) -> Self {
        // Stable: what the log has of the same size comes first.
        all.sort_by_key(|(size, ..)| *size);
        Self(all.into())
    }

    /// Compares what is due; the size and place of the first that differs.
    fn compare(&mut self, frontier: &Frontier) -> Option<(u64, From)> {
        while let Some((size, root, from)) = self.0.front().copied().filter(|due| due.0 <= frontier.size()) {
            self.0.pop_front();
            if size < frontier.size() || root != frontier.root() {
                return Some((size, from));
            }
        }
        None
    }
}

fn differs(whose: &str, size: u64, from: From) -> String {
    match from {
        From::Log => format!("{whose}the first {size} records are not those that were signed"),
        From::Elsewhere => format!(
            "{whose}the first {size} records are not those of the checkpoint that was kept elsewhere: the log was rewritten, \
             or there are two"
        ),
    }
}

fn missing(whose: &str, size: u64, from: From, there: u64) -> String {
    match from {
        From::Log => format!("{whose}{size} records were signed, {there} are there"),
        From::Elsewhere => format!(
            "{whose}the checkpoint that was kept elsewhere is over {size} records, {there} are there: the log was cut short or \
             set back"
        ),
    }
}

const CUSTOMERS: &str = "a customer's tree: ";

/// As [`verify`], and against what the caller knows besides.
///
/// # Errors
/// Reading failed; damage is in the report.
pub fn verify_against(
    blobs: &dyn BlobStore,
    public_key: &[u8; 32],
    against: Against<'_>,
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let until = against.until;
    let damaged = |report: VerifyReport, damage: String| Ok(VerifyReport { damage: Some(damage), ..report });
    let checkpoints = match read_checkpoints(blobs, public_key, until)? {
        Ok(checkpoints) => checkpoints,
        Err(damage) => return damaged(report, damage),
    };
    report.checkpoints = checkpoints.len() as u64;
    report.commit = checkpoints.last().map(|checkpoint| checkpoint.commit);
    let of_customers = match read_customer_checkpoints(blobs, public_key, until)? {
        Ok(checkpoints) => checkpoints,
        Err(damage) => return damaged(report, damage),
    };
    report.customer_checkpoints = of_customers.len() as u64;
    let beginning = match beginning::read(blobs)? {
        None => None,
        Some(text) => {
            let Some(beginning) = Beginning::verify(&text, public_key) else {
                let damage = "the note that says where the log begins is not signed by this log's key";
                return damaged(report, damage.to_owned());
            };
            Some(beginning)
        }
    };
    report.begins = beginning.as_ref().map_or(0, |beginning| beginning.records);
    let frontier = beginning.as_ref().and_then(Beginning::frontier).unwrap_or_default();
    let trees = beginning.as_ref().map_or_else(CustomerTrees::default, Beginning::trees);
    let signed = checkpoints.last().map_or(0, |checkpoint| checkpoint.size);
    let (mut waiting, mut waiting_of) = match expected(checkpoints, of_customers, against.kept, &trees) {
        Ok(expected) => expected,
        Err(damage) => return damaged(report, damage),
    };
    report.customers = waiting_of.len() as u64;
    // What was signed before the log begins cannot be compared any more: the signed beginning takes its place.
    waiting.0.retain(|due| due.0 >= report.begins);
    let mut wrong = waiting.compare(&frontier).map(|(size, from)| differs("", size, from));
    for (customer, waiting) in &mut waiting_of {
        let begins = trees.get(customer).map(|tree| tree.frontier.clone()).unwrap_or_default();
        waiting.0.retain(|due| due.0 >= begins.size());
        wrong = wrong.or_else(|| waiting.compare(&begins).map(|(size, from)| differs(CUSTOMERS, size, from)));
    }
    let mut comparison = Comparison { frontier, trees, waiting, waiting_of, wrong };
    let unreadable = comparison.read(&mut RecordStream::until(blobs, until)?)?;
    let there = comparison.frontier.size();
    report.records = there - report.begins;
    report.uncovered = there - signed.min(there);
    report.at = unreadable.filter(|_| comparison.wrong.is_none());
    report.damage = comparison.damage(unreadable);
    Ok(report)
}

/// A log on its way past its checkpoints.
#[derive(Debug)]
struct Comparison {
    frontier: Frontier,
    trees: CustomerTrees,
    waiting: Waiting,
    waiting_of: BTreeMap<Customer, Waiting>,
    wrong: Option<String>,
}

impl Comparison {
    /// Reads up to the end, or to the first thing that is wrong; the record that cannot be read, if that is it.
    fn read(&mut self, stream: &mut RecordStream<'_>) -> io::Result<Option<RecordNumber>> {
        while self.wrong.is_none() {
            let (bytes, seen) = match stream.read_outline()? {
                Outlined::Record(bytes, seen) => (bytes, seen),
                Outlined::End => break,
                Outlined::Broken(number) => return Ok(Some(number)),
            };
            let leaf = leaf_hash(bytes);
            self.frontier.push(leaf);
            self.trees.take(&seen, || leaf);
            self.wrong = self.waiting.compare(&self.frontier).map(|(size, from)| differs("", size, from));
            if let Some(customer) = seen.customer
                && let Some(waiting) = self.waiting_of.get_mut(&customer)
                && let Some(tree) = self.trees.get(&customer)
                && let Some((size, from)) = waiting.compare(&tree.frontier)
            {
                self.wrong.get_or_insert_with(|| differs(CUSTOMERS, size, from));
            }
        }
        Ok(None)
    }

    /// What is wrong, once everything was read.
    fn damage(self, unreadable: Option<RecordNumber>) -> Option<String> {
        if self.wrong.is_some() {
            return self.wrong;
        }
        if let Some(number) = unreadable {
            return Some(format!("record {number} cannot be read"));
        }
        if let Some((size, _, from)) = self.waiting.0.back() {
            return Some(missing("", *size, *from, self.frontier.size()));
        }
        self.waiting_of.iter().find_map(|(customer, waiting)| {
            let there = self.trees.get(customer).map_or(0, |tree| tree.frontier.size());
            waiting.0.back().map(|(size, _, from)| missing(CUSTOMERS, *size, *from, there))
        })
    }
}

/// What is to be compared: of the whole log, and of each customer.
fn expected(
    checkpoints: Vec<Checkpoint>,
    of_customers: Vec<CustomerCheckpoint>,
    kept: Vec<Kept>,
    trees: &CustomerTrees,
) -> Result<(Waiting, BTreeMap<Customer, Waiting>), String> {
    let mut all: Vec<_> = checkpoints.into_iter().map(|note| (note.size, note.root, From::Log)).collect();
    let mut each = BTreeMap::<Customer, Vec<_>>::new();
    let mut of_customer = |note: CustomerCheckpoint, from: From| {
        if note.from != trees.from {
            let (signed, now) = (note.from, trees.from);
            return Err(match from {
                From::Log => {
                    format!("{CUSTOMERS}it was signed from record {signed} on, the log's begin at {now}")
                }
                From::Elsewhere => format!(
                    "the checkpoint that was kept elsewhere is of a customer's tree from record {signed} on; after a loss the \
                     log's begin at record {now}"
                ),
            });
        }
        each.entry(note.customer).or_default().push((note.size, note.root, from));
        Ok(())
    };
    of_customers.into_iter().try_for_each(|note| of_customer(note, From::Log))?;
    for kept in kept {
        match kept {
            Kept::System(note) => all.push((note.size, note.root, From::Elsewhere)),
            Kept::Customer(note) => of_customer(note, From::Elsewhere)?,
        }
    }
    let each = each.into_iter().map(|(customer, all)| (customer, Waiting::of(all)));
    Ok((Waiting::of(all), each.collect()))
}
