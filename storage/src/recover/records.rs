//! The audit log of a rebuilt store: the records that the batches carry, and those that only a former audit directory has.
//!
//! The log must be without a gap, for its tree is over all records. It begins with the first record from which on there is
//! none; when that is not record 0, a signed note says so ([`crate::audit::beginning`]). Signed checkpoints of the former
//! log are kept when they fit the records.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::RebuildError;
use super::ranges::Ranges;
use crate::audit::Record;
use crate::audit::beginning::{self, BEGINNING, Beginning, CustomerEdges, Edge};
use crate::audit::checkpoint::{Checkpoint, public_key};
use crate::audit::customer::{Customer, CustomerCheckpoint, CustomerTrees};
use crate::audit::record::outline;
use crate::audit::stream::{RecordStream, Streamed};
use crate::audit::verify::{read_checkpoints, read_customer_checkpoints};
use crate::audit::writer::{AuditPosition, AuditWriter, CHECKPOINTS, CUSTOMER_CHECKPOINTS, framed};
use crate::blob::BlobStore;
use crate::error::StoreError;
use crate::index::Change;
use crate::keys::Secret32;
use crate::limits::{LOST_CHANGES_MAX, REBUILD_BYTES_PENDING};
use crate::record::RecordKey;
use crate::time::UnixNanos;

/// What a former audit directory holds.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Numbers of the records that can be read.
    pub(super) records: (u64, u64),
    beginning: Option<Beginning>,
    checkpoints: Vec<Checkpoint>,
    of_customers: Vec<CustomerCheckpoint>,
    /// What is wrong with it.
    pub(super) damage: Vec<String>,
    /// Records that it has and no batch: what they tell of may be lost.
    pub(super) unbacked: Vec<Record>,
    pub(super) unbacked_count: u64,
}

impl Former {
    /// Reads it from one end to the other. From record `expected_from` on the batches should have all.
    pub(super) fn look(
        blobs: &dyn BlobStore,
        seed: &Secret32,
        batched: &Ranges,
        expected_from: u64,
    ) -> io::Result<Self> {
        let mut former = Self::default();
        let Some(public) = public_key(seed) else { return Ok(former) };
        if let Some(text) = beginning::read(blobs)? {
            former.beginning = Beginning::verify(&text, &public);
            if former.beginning.is_none() {
                former.damage.push("the note that says where the former audit log begins is damaged".into());
                return Ok(former);
            }
        }
        let mut stream = RecordStream::open(blobs)?;
        let first = stream.next_number().0;
        loop {
            match stream.read()? {
                Streamed::Record(_, record) => {
                    if record.number.0 >= expected_from && !batched.contains(record.number.0) {
                        former.unbacked_count += 1;
                        if former.unbacked.len() < LOST_CHANGES_MAX {
                            former.unbacked.push(*record);
                        }
                    }
                }
                Streamed::End => break,
                Streamed::Broken(number) => {
                    former
                        .damage
                        .push(format!("the former audit log cannot be read from record {number} on"));
                    break;
                }
            }
        }
        former.records = (first, stream.next_number().0);
        match read_checkpoints(blobs, &public, None)? {
            Ok(checkpoints) => former.checkpoints = checkpoints,
            Err(what) => former.damage.push(format!("the former audit log: {what}")),
        }
        match read_customer_checkpoints(blobs, &public, None)? {
            Ok(checkpoints) => former.of_customers = checkpoints,
            Err(what) => former.damage.push(format!("the former audit log: {what}")),
        }
        Ok(former)
    }
}

/// What became of the audit log.
#[derive(Debug, Default)]
pub(super) struct Laid {
    pub(super) position: AuditPosition,
    /// Rows of the customers' trees.
    pub(super) trees: Vec<Change>,
    pub(super) first: u64,
    pub(super) checkpoints: u64,
    /// The newest commit that a kept checkpoint names.
    pub(super) signed_commit: u64,
    /// What is wrong.
    pub(super) damage: Vec<String>,
    /// What is worth knowing.
    pub(super) remarks: Vec<String>,
    /// As of [`Former`].
    pub(super) unbacked: Vec<Record>,
    pub(super) unbacked_count: u64,
}

/// Lays records out as they come.
pub(super) struct Records<'f> {
    writer: AuditWriter,
    blobs: Arc<dyn BlobStore>,
    seed: &'f Secret32,
    former: Former,
    stream: Option<RecordStream<'f>>,
    waiting: std::vec::IntoIter<Checkpoint>,
    next_checkpoint: Option<Checkpoint>,
    kept: Vec<Checkpoint>,
    waiting_of: BTreeMap<Customer, VecDeque<CustomerCheckpoint>>,
    kept_of: Vec<CustomerCheckpoint>,
    pending: usize,
    laid: Laid,
}

impl<'f> Records<'f> {
    /// Decides where the log begins. `edge` are the trees as an export knows them.
    pub(super) fn begin(
        blobs: &Arc<dyn BlobStore>,
        seed: &'f Secret32,
        (mut former, former_blobs): (Former, Option<&'f dyn BlobStore>),
        batched: &Ranges,
        edge: Option<(&AuditPosition, Option<CustomerTrees>)>,
        now: UnixNanos,
    ) -> Result<Self, RebuildError> {
        let covered = batched.with(former.records);
        let (start, end) = covered.last().unwrap_or((0, 0));
        let beginning = match edge {
            _ if start == 0 => None,
            _ if former
                .beginning
                .as_ref()
                .is_some_and(|begins| begins.records == start || begins.is_within(start, end)) =>
            {
                former.beginning.clone()
            }
            Some((edge, trees)) if (start..=end).contains(&edge.records) => {
                let hashes = edge.frontier.iter().map(|hash| **hash).collect();
                let customers = trees.as_ref().map(CustomerEdges::from);
                Some(Beginning { records: edge.records, edge: Edge::Known(hashes), time: now, customers })
            }
            Some(_) | None => {
                Some(Beginning { records: start, edge: Edge::Unknown, time: now, customers: None })
            }
        };
        let mut position = AuditPosition::default();
        let trees = beginning.as_ref().map_or_else(CustomerTrees::default, Beginning::trees);
        let mut waiting_of = BTreeMap::<Customer, VecDeque<CustomerCheckpoint>>::new();
        for note in former.of_customers.drain(..).filter(|note| note.from == trees.from) {
            let begins = trees.get(&note.customer).map_or(0, |tree| tree.frontier.size());
            // What was signed over records that are gone cannot be compared.
            if note.size > begins {
                waiting_of.entry(note.customer).or_default().push_back(note);
            }
        }
        if let Some(beginning) = &beginning {
            let frontier = beginning.frontier().ok_or(StoreError::DamagedRecord)?;
            position.records = beginning.records;
            position.frontier = frontier.edge().iter().map(|hash| (*hash).into()).collect();
            let note = beginning.sign(seed).ok_or(StoreError::Randomness)?;
            let blob = blobs.create(BEGINNING, 0)?;
            blob.write_at(0, note.as_bytes())?;
            blob.sync()?;
        }
        let first = position.records;
        let mut laid = Laid { first, ..Laid::default() };
        if first > 0 {
            let text = format!(
                "audit records 0 to {}: not there; the audit log begins with record {first}",
                first - 1
            );
            // The former log began there already: nothing is lost by this recovery.
            let known = former.beginning.as_ref().is_some_and(|begins| begins.records == first);
            if known { laid.remarks.push(text) } else { laid.damage.push(text) }
        }
        let writer = AuditWriter::open(Arc::clone(blobs), seed, position, trees)?;
        let mut waiting = former.checkpoints.clone().into_iter();
        let next_checkpoint = waiting.by_ref().find(|checkpoint| checkpoint.size >= first);
        let mut records = Self {
            writer,
            blobs: Arc::clone(blobs),
            seed,
            stream: former_blobs.map(RecordStream::open).transpose()?,
            former,
            waiting,
            next_checkpoint,
            kept: Vec::new(),
            waiting_of,
            kept_of: Vec::new(),
            pending: 0,
            laid,
        };
        records.compare();
        Ok(records)
    }

    /// Keeps the checkpoints that were signed over exactly what is laid out now.
    fn compare(&mut self) {
        let size = self.writer.next_number().0;
        while let Some(checkpoint) = self.next_checkpoint.take_if(|checkpoint| checkpoint.size <= size) {
            if checkpoint.size == size && checkpoint.root == self.writer.root() {
                self.laid.signed_commit = self.laid.signed_commit.max(checkpoint.commit.0);
                self.kept.push(checkpoint);
            } else if checkpoint.size > self.laid.first {
                self.laid.damage.push(format!(
                    "the first {} audit records are not those that were signed",
                    checkpoint.size
                ));
            }
            self.next_checkpoint = self.waiting.next();
        }
    }

    /// The same of one customer's tree.
    fn compare_of(&mut self, customer: Customer) {
        let Some(tree) = self.writer.customers().get(&customer) else { return };
        let Some(waiting) = self.waiting_of.get_mut(&customer) else { return };
        while waiting.front().is_some_and(|note| note.size <= tree.frontier.size()) {
            let Some(note) = waiting.pop_front() else { return };
            if note.size == tree.frontier.size() && note.root == tree.frontier.root() {
                self.kept_of.push(note);
            } else {
                self.laid.damage.push(format!(
                    "the first {} audit records of a customer are not those that were signed",
                    note.size
                ));
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RebuildError> {
        self.writer.append(self.writer.next_number(), bytes);
        self.compare();
        if let Some(customer) = outline(bytes).and_then(|seen| seen.customer) {
            self.compare_of(customer);
        }
        self.pending += bytes.len();
        if self.pending >= REBUILD_BYTES_PENDING {
            self.writer.flush()?;
            self.pending = 0;
        }
        Ok(())
    }

    /// Takes a record of a batch; what is missing before it comes from the former log.
    pub(super) fn offer(&mut self, number: u64, bytes: &[u8]) -> Result<(), RebuildError> {
        if number >= self.laid.first {
            self.fill(number)?;
        }
        if number == self.writer.next_number().0 { self.append(bytes) } else { Ok(()) }
    }

    /// Takes the former log's records up to `until`.
    fn fill(&mut self, until: u64) -> Result<(), RebuildError> {
        let until = until.min(self.former.records.1);
        while self.writer.next_number().0 < until {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let Streamed::Record(bytes, record) = stream.read()? else {
                self.stream = None;
                return Ok(());
            };
            if record.number == self.writer.next_number() {
                self.append(&bytes)?;
            }
        }
        Ok(())
    }

    /// Ends the log: the rest of the former one, the checkpoints that fit.
    pub(super) fn finish(mut self, system_key: &RecordKey) -> Result<Laid, RebuildError> {
        self.fill(u64::MAX)?;
        self.writer.flush()?;
        let size = self.writer.next_number().0;
        if let Some(beyond) = self.next_checkpoint.take() {
            let last = self.waiting.next_back().unwrap_or(beyond);
            self.laid.damage.push(format!("{} audit records were signed, {size} are there", last.size));
            self.laid.signed_commit = self.laid.signed_commit.max(last.commit.0);
        }
        self.laid.position = self.writer.position();
        let notes: Option<Vec<_>> = self.kept.iter().map(|kept| kept.sign(self.seed)).collect();
        self.laid.position.notes_bytes = self.write_notes(CHECKPOINTS, notes)?;
        let notes: Option<Vec<_>> = self.kept_of.iter().map(|kept| kept.sign(self.seed)).collect();
        self.laid.position.customer_notes_bytes = self.write_notes(CUSTOMER_CHECKPOINTS, notes)?;
        self.laid.trees = self.writer.changed_trees(system_key)?;
        self.laid.checkpoints = self.kept.len() as u64;
        self.laid.damage.append(&mut self.former.damage);
        (self.laid.unbacked, self.laid.unbacked_count) = (self.former.unbacked, self.former.unbacked_count);
        Ok(self.laid)
    }

    fn write_notes(&self, name: &str, notes: Option<Vec<String>>) -> Result<u64, RebuildError> {
        let framed = framed(&notes.ok_or(StoreError::Randomness)?);
        if !framed.is_empty() {
            let blob = self.blobs.create(name, 0)?;
            blob.write_at(0, &framed)?;
            blob.sync()?;
        }
        Ok(framed.len() as u64)
    }
}
