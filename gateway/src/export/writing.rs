//! An export from its beginning to its signature: takes the steps of the walk, hashes and writes what they bring, has each
//! read recorded, and keeps the journal.
//!
//! Order: the record of a read is submitted before its content is written; a step makes content durable, waits for the
//! records, then writes the lines that say so. What has no line is written again by the next run.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};

use aws_lc_rs::digest::{Context, SHA256};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, RecordDraft};
use coffre_storage::id::InodeId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::PastVault;
use coffre_storage::{Pending, StoreError, Ticket};
use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::destination::{Contents, Destination, Identity, Journal, State};
use super::manifest::{Line, LineKind, Property, Text};
use super::sink::{Sink, Trouble};
use super::tree::{Leftovers, Tree};
use super::walk::{Found, Step, Walk};
use super::{ARCHIVE, ExportError, FILES, Format, Order, Report, gone_or, moment_text, seal};
use crate::limits::{
    EXPORT_AHEAD_PIECES, EXPORT_KEPT_SECS, EXPORT_RECORD_PATH_BYTES_MAX, EXPORT_STEP_BYTES, EXPORT_STEP_LINES,
};
use crate::units::{hex, parse_moment};

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

struct Writing<'o> {
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

/// Exports, or goes on with an interrupted export. Tells `progress` bytes done and in all; ends when `stop` fires.
///
/// # Errors
/// [`ExportError`]; what was exported so far stays, and the same call goes on from there.
pub fn run(
    order: &Order,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, ExportError> {
    let destination = Destination::open(&order.destination)?;
    let (state, leftovers) = match destination.contents()? {
        Contents::Empty => (begin(order, &destination)?, Leftovers::None),
        Contents::Interrupted(state) => {
            same_export(order, &state)?;
            record(order, &state, Action::ExportBegin, "goes on", None)?.wait()?;
            (state, Leftovers::Possible)
        }
        // Nothing but the state was left to do.
        Contents::Signed(state) => {
            same_export(order, &state)?;
            let report = seal::report(order, &state, &destination)?;
            return end(order, &state, &destination, report);
        }
    };
    let mut told = |done| progress(done, order.bytes_expected.max(done));
    let written = write(order, &state, &destination, leftovers, stop, &mut told);
    match written.and_then(|()| seal::seal(order, &state, &destination)) {
        Ok(report) => end(order, &state, &destination, report),
        Err(error) => {
            record(order, &state, Action::ExportEnd, &error.to_string(), Some(Outcome::Failed))?.wait()?;
            Err(error)
        }
    }
}

fn same_export(order: &Order, state: &State) -> Result<(), ExportError> {
    if state.is_of(&order.vault.id().to_string(), order.format, order.at.as_deref()) {
        return Ok(());
    }
    Err(ExportError::Another {
        path: order.destination.clone(),
        vault: state.vault.clone(),
        format: state.format.name(),
        at: state.at.clone().unwrap_or_else(|| "now".to_owned()),
    })
}

fn session_of(state: &State) -> [u8; 16] {
    u128::from_str_radix(&state.id, 16).unwrap_or(0).to_be_bytes()
}

fn draft(order: &Order, session: [u8; 16], action: Action) -> RecordDraft {
    RecordDraft {
        customer: Some(order.vault.owner().0),
        session: Some(session),
        vault: Some(order.vault.id()),
        ..RecordDraft::new(Actor::Operator, action)
    }
}

/// A record of the export as a whole.
fn about(order: &Order, session: [u8; 16], action: Action, reason: &str) -> RecordDraft {
    use std::os::unix::ffi::OsStrExt;
    let at = order.at.as_deref().unwrap_or("now");
    RecordDraft {
        reason: Some(reason.to_owned()),
        details: vec![
            (DetailKey::Name, order.name.as_bytes().to_vec()),
            (DetailKey::Target, order.destination.as_os_str().as_bytes().to_vec()),
            (DetailKey::Note, format!("{}, at {at}", order.format.name()).into_bytes()),
        ],
        ..draft(order, session, action)
    }
}

fn record(
    order: &Order,
    state: &State,
    action: Action,
    reason: &str,
    outcome: Option<Outcome>,
) -> Result<Pending<()>, StoreError> {
    let draft = about(order, session_of(state), action, reason);
    order.vault.store().record(RecordDraft { outcome: outcome.unwrap_or(Outcome::Done), ..draft })
}

/// Fixes the moment. The present's is kept by a snapshot, whatever the retention, until the export ends.
fn begin(order: &Order, destination: &Destination) -> Result<State, ExportError> {
    let mut session = [0; 16];
    getrandom::fill(&mut session).map_err(StoreError::from)?;
    let id = hex(&session);
    let draft = about(order, session, Action::ExportBegin, "begins");
    let store = order.vault.store();
    let (moment, commit, snapshot) = match &order.at {
        None => {
            let name = format!("export-{id}");
            let until = store.clock_now().0.saturating_add(EXPORT_KEPT_SECS.saturating_mul(1_000_000_000));
            let made = order.vault.add_snapshot(&name, Some(UnixNanos(until)), draft)?;
            let time = made.value.time;
            (time, made.ticket.wait()?, Some(name))
        }
        Some(asked) => {
            let time = moment_of(order, asked)?;
            let past = order.vault.at(time);
            past.map_err(|error| gone_or(error, || ExportError::NoMoment(asked.clone())))?;
            (time, store.record(draft)?.ticket.wait()?, None)
        }
    };
    let identity = Identity {
        id,
        vault: &order.name,
        vault_id: order.vault.id().to_string(),
        format: order.format,
        at: order.at.as_deref(),
    };
    let state = State::new(identity, moment.0, commit.0, snapshot);
    destination.put_state(&state)?;
    Ok(state)
}

fn moment_of(order: &Order, asked: &str) -> Result<UnixNanos, ExportError> {
    if let Ok(nanos) = parse_moment(asked) {
        return Ok(UnixNanos(nanos));
    }
    let snapshots = order.vault.snapshots()?;
    let found = snapshots.into_iter().find(|snapshot| snapshot.name == asked);
    found.map(|snapshot| snapshot.time).ok_or_else(|| ExportError::NoMoment(asked.to_owned()))
}

/// The vault at the export's moment, as long as that is whole.
fn past(order: &Order, state: &State) -> Result<PastVault, ExportError> {
    let time = UnixNanos(state.moment);
    let past = order.vault.at(time);
    past.map_err(|error| gone_or(error, || ExportError::Pruned { moment: moment_text(time) }))
}

fn end(
    order: &Order,
    state: &State,
    destination: &Destination,
    report: Report,
) -> Result<Report, ExportError> {
    let reason = format!("{} files, {} not exported", report.files, report.not_exported);
    let mut draft = about(order, session_of(state), Action::ExportEnd, &reason);
    draft.bytes = Some(report.bytes);
    let now = order.vault.store().clock_now();
    let let_go = match &state.snapshot {
        Some(name) => match order.vault.expire_snapshot(name, now, draft.clone()) {
            Err(StoreError::NotFound) => None,
            let_go => Some(let_go?),
        },
        None => None,
    };
    match let_go {
        Some(pending) => pending.wait()?,
        None => order.vault.store().record(draft)?.wait()?,
    }
    destination.remove_state()?;
    Ok(report)
}

fn write(
    order: &Order,
    state: &State,
    destination: &Destination,
    leftovers: Leftovers,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    let past = past(order, state)?;
    let (journal, known) = destination.journal()?;
    let sink: Box<dyn Sink> = match order.format {
        Format::Tree => Box::new(destination.io(Tree::new(destination.directory()?, leftovers))?),
        Format::Tar => {
            let at = journal.tar_end.unwrap_or(0);
            let file = destination.io(destination.file(ARCHIVE, OFlags::RDWR | OFlags::CREATE))?;
            Box::new(destination.io(Archive::new(file, at))?)
        }
    };
    let mut writing = Writing {
        order,
        session: session_of(state),
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
    };
    let (steps, received) = sync_channel(EXPORT_AHEAD_PIECES);
    let walk = Walk { past: &past, known, destination, stop, steps, linked: HashMap::new() };
    let (walked, written) = std::thread::scope(|scope| {
        let walking = scope.spawn(move || walk.run());
        let written = writing.take_all(received, progress);
        (walking.join(), written)
    });
    let ended = match (written, walked) {
        (Err(error), _) => Err(error),
        (Ok(()), Ok(walked)) => walked,
        (Ok(()), Err(_)) => Err(ExportError::Stopped),
    };
    if ended.is_err() {
        // What is finished need not be written again; the reason of the end is the one to tell.
        drop(writing.step());
        return ended;
    }
    writing.step()?;
    destination.io(writing.sink.finish())?;
    // Had the moment been pruned meanwhile, something could be missing.
    self::past(order, state).map(drop)
}

impl Writing<'_> {
    fn take_all(&mut self, steps: Receiver<Step>, progress: &mut dyn FnMut(u64)) -> Result<(), ExportError> {
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

    /// Content first, then the records of who saw it, then the lines that say it is there.
    fn step(&mut self) -> Result<(), ExportError> {
        self.destination.io(self.sink.sync())?;
        if let Some(ticket) = self.record.take() {
            ticket.wait()?;
        }
        self.destination.io(self.journal.append(&self.lines))?;
        self.lines.clear();
        self.line_count = 0;
        self.step_bytes = 0;
        Ok(())
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
