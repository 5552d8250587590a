//! Takes the steps of the walk, hashes and writes what they bring, has each read recorded, and keeps the journal.
//!
//! Order: the record of a read is submitted before its content is written; a step makes content durable, waits for the
//! records, then writes the lines that say so. What has no line is written again by the next run.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;

use aws_lc_rs::digest::{Context, SHA256};
use coffre_storage::Ticket;
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, RecordDraft};
use coffre_storage::id::InodeId;

use super::destination::{Destination, Journal};
use super::manifest::{Line, LineKind, Property, Text};
use super::sink::{Sink, Trouble};
use super::walk::{Found, Step};
use super::{ExportError, FILES, Order};
use crate::limits::{EXPORT_RECORD_PATH_BYTES_MAX, EXPORT_STEP_BYTES, EXPORT_STEP_LINES};
use crate::units::hex;

/// Zeros of holes are hashed this many bytes at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The file that is being written.
struct Current {
    found: Box<Found>,
    hash: Context,
    /// Why it will not be there.
    refused: Option<String>,
}

/// The first name of a file that has several.
struct First {
    path: Vec<u8>,
    sha256: String,
}

/// An export under way.
pub(super) struct Writing<'o> {
    order: &'o Order,
    session: [u8; 16],
    destination: &'o Destination,
    journal: Journal,
    sink: Box<dyn Sink>,
    firsts: HashMap<InodeId, First>,
    current: Option<Current>,
    /// Directories on the way down from the one that was refused, itself included.
    refused: u64,
    lines: Vec<u8>,
    line_count: usize,
    step_bytes: u64,
    done_bytes: u64,
    record: Option<Ticket>,
}

/// The beginning of each record of an export.
pub(super) fn draft(order: &Order, session: [u8; 16], action: Action) -> RecordDraft {
    RecordDraft {
        customer: Some(order.vault.owner().0),
        session: Some(session),
        vault: Some(order.vault.id()),
        ..RecordDraft::new(Actor::Operator, action)
    }
}

impl<'o> Writing<'o> {
    pub(super) fn new(
        order: &'o Order,
        session: [u8; 16],
        destination: &'o Destination,
        journal: Journal,
        sink: Box<dyn Sink>,
    ) -> Self {
        Self {
            order,
            session,
            destination,
            journal,
            sink,
            firsts: HashMap::new(),
            current: None,
            refused: 0,
            lines: Vec::new(),
            line_count: 0,
            step_bytes: 0,
            done_bytes: 0,
            record: None,
        }
    }

    /// Writes what comes until nothing more does.
    pub(super) fn take_all(
        &mut self,
        steps: Receiver<Step>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ExportError> {
        for step in steps {
            let before = self.done_bytes;
            self.take(step)?;
            if self.done_bytes != before {
                progress(self.done_bytes);
            }
            if self.current.is_none()
                && (self.line_count >= EXPORT_STEP_LINES || self.step_bytes >= EXPORT_STEP_BYTES)
            {
                self.step()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), ExportError> {
        match step {
            Step::Enter(found) => self.enter(&found),
            Step::Leave(found) => {
                if self.refused > 0 {
                    self.refused -= 1;
                    return Ok(());
                }
                let left = self.sink.leave(&found);
                self.placed(left).map(drop)
            }
            Step::Unlisted(found, reason) => {
                if found.known.is_none() {
                    let line = Line { kind: LineKind::Listing, ..Line::of(&found.path, &found.attributes) };
                    self.line(&found, Line { not_exported: Some(reason), ..line });
                }
                Ok(())
            }
            Step::Known(found) => {
                if let Some(line) = found.known.as_ref().filter(|line| line.is_exported()) {
                    self.remember(&found, line.sha256.as_deref(), line.hard_link_to.is_some());
                    self.done_bytes += line.size;
                }
                Ok(())
            }
            Step::SymbolicLink(found) => self.symbolic_link(&found),
            Step::HardLink(found) => self.hard_link(&found),
            Step::Begin(found) => self.begin(found),
            Step::Bytes(bytes) => self.bytes(&bytes),
            Step::Hole(bytes) => self.hole(bytes),
            Step::End => self.finish_file(None),
            Step::Broken(reason) => self.finish_file(Some(reason)),
        }
    }

    /// Whether something was written, or the reason why this one thing could not be.
    fn placed(&self, result: Result<(), Trouble>) -> Result<Option<String>, ExportError> {
        match result {
            Ok(()) => Ok(None),
            Err(Trouble::Refused(reason)) => Ok(Some(reason)),
            Err(Trouble::Io(error)) => self.destination.io(Err(error)),
        }
    }

    /// The reason why nothing is written where the walk is now.
    fn unplaceable(&self) -> Option<String> {
        (self.refused > 0).then(|| "the directory above it was not exported".to_owned())
    }

    fn enter(&mut self, found: &Found) -> Result<(), ExportError> {
        let mut reason = self.unplaceable();
        if let Some(known) = found.known.as_ref().and_then(|line| line.not_exported.clone()) {
            reason = Some(known);
        }
        if reason.is_none() {
            let entered = self.sink.enter(found);
            reason = self.placed(entered)?;
        }
        if reason.is_some() {
            self.refused += 1;
        }
        if found.known.is_none() {
            self.line(found, Line { not_exported: reason, ..Line::of(&found.path, &found.attributes) });
        }
        Ok(())
    }

    fn symbolic_link(&mut self, found: &Found) -> Result<(), ExportError> {
        let target = found.target.clone().unwrap_or_default();
        let mut reason = self.unplaceable();
        if reason.is_none() {
            let made = self.sink.symbolic_link(found, &target);
            reason = self.placed(made)?;
        }
        let line = Line { target: Some(Text::of(&target)), ..Line::of(&found.path, &found.attributes) };
        self.line(found, Line { not_exported: reason, ..line });
        Ok(())
    }

    fn hard_link(&mut self, found: &Found) -> Result<(), ExportError> {
        let mut line = Line::of(&found.path, &found.attributes);
        let mut reason = self.unplaceable();
        if reason.is_none() {
            reason = match self.firsts.get(&found.attributes.inode) {
                None => Some("its other name was not exported".to_owned()),
                Some(first) => {
                    line.hard_link_to = Some(Text::of(&first.path));
                    line.sha256 = Some(first.sha256.clone());
                    let made = self.sink.hard_link(found, &first.path);
                    self.placed(made)?
                }
            };
        }
        self.done_bytes += found.attributes.size;
        self.line(found, Line { not_exported: reason, ..line });
        Ok(())
    }

    fn begin(&mut self, found: Box<Found>) -> Result<(), ExportError> {
        self.record_read(&found, None)?;
        let mut refused = self.unplaceable();
        if refused.is_none() {
            let begun = self.sink.begin(&found);
            refused = self.placed(begun)?;
        }
        self.current = Some(Current { found, hash: Context::new(&SHA256), refused });
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.done_bytes += bytes.len() as u64;
        self.step_bytes += bytes.len() as u64;
        let Some(current) = &mut self.current else { return Ok(()) };
        current.hash.update(bytes);
        if current.refused.is_none() {
            let written = self.sink.write(bytes);
            self.put_or_refuse(written)?;
        }
        Ok(())
    }

    fn hole(&mut self, bytes: u64) -> Result<(), ExportError> {
        self.done_bytes += bytes;
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut left = bytes;
        while left > 0 {
            let len = left.min(ZEROS.len() as u64);
            current.hash.update(&ZEROS[..usize::try_from(len).unwrap_or(0)]);
            left -= len;
        }
        if current.refused.is_none() {
            let skipped = self.sink.skip(bytes);
            self.put_or_refuse(skipped)?;
        }
        Ok(())
    }

    fn put_or_refuse(&mut self, result: Result<(), Trouble>) -> Result<(), ExportError> {
        let Some(reason) = self.placed(result)? else { return Ok(()) };
        if let Some(current) = &mut self.current {
            let undone = self.sink.undo(&current.found);
            current.refused = Some(reason);
            self.placed(undone)?;
        }
        Ok(())
    }

    fn finish_file(&mut self, broken: Option<String>) -> Result<(), ExportError> {
        let Some(Current { found, hash, mut refused }) = self.current.take() else { return Ok(()) };
        if let Some(reason) = &broken {
            self.record_read(&found, Some(reason))?;
        }
        if refused.is_none() {
            let ended = match broken {
                Some(_) => self.sink.undo(&found),
                None => self.sink.end(&found),
            };
            refused = self.placed(ended)?;
            if refused.is_some() {
                let undone = self.sink.undo(&found);
                self.placed(undone)?;
            }
        }
        let reason = broken.or(refused);
        let mut line = Line::of(&found.path, &found.attributes);
        if reason.is_none() {
            line.sha256 = Some(hex(hash.finish().as_ref()));
            self.remember(&found, line.sha256.as_deref(), false);
        }
        self.line(&found, Line { not_exported: reason, ..line });
        Ok(())
    }

    /// Keeps the first name of a file that has others.
    fn remember(&mut self, found: &Found, sha256: Option<&str>, is_other_name: bool) {
        if let Some(sha256) = sha256.filter(|_| found.attributes.links > 1 && !is_other_name) {
            let first = First { path: found.path.clone(), sha256: sha256.to_owned() };
            self.firsts.insert(found.attributes.inode, first);
        }
    }

    fn line(&mut self, found: &Found, line: Line) {
        let properties = found.properties.iter();
        let line = Line {
            properties: properties
                .map(|(name, value)| Property { name: Text::of(name), value: Text::of(value) })
                .collect(),
            tar_end: self.sink.position(),
            ..line
        };
        self.lines.extend_from_slice(&line.to_json());
        self.line_count += 1;
    }

    /// Content first, then the records of who saw it, then the lines that say it is there. A step that failed is not tried
    /// again: a second sync says nothing of what the first one lost.
    pub(super) fn step(&mut self) -> Result<(), ExportError> {
        let lines = std::mem::take(&mut self.lines);
        self.line_count = 0;
        self.step_bytes = 0;
        self.destination.io(self.sink.sync())?;
        if let Some(ticket) = self.record.take() {
            ticket.wait()?;
        }
        self.destination.io(self.journal.append(&lines))
    }

    /// All has come.
    pub(super) fn finish(&mut self) -> Result<(), ExportError> {
        self.step()?;
        self.destination.io(self.sink.finish())
    }

    fn record_read(&mut self, found: &Found, failure: Option<&str>) -> Result<(), ExportError> {
        let path = found.path.strip_prefix(FILES.as_bytes()).unwrap_or(&found.path);
        let kept = path.len().saturating_sub(EXPORT_RECORD_PATH_BYTES_MAX);
        let record = RecordDraft {
            object: Some(found.attributes.inode),
            bytes: Some(found.attributes.size),
            content_hash: found.attributes.blake3,
            outcome: if failure.is_some() { Outcome::Failed } else { Outcome::Done },
            reason: failure.map(str::to_owned),
            details: vec![(DetailKey::Path, path[kept..].to_vec())],
            ..draft(self.order, self.session, Action::FileRead)
        };
        self.record = Some(self.order.vault.store().record(record)?.ticket);
        Ok(())
    }
}
