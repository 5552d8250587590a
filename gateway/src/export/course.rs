//! The course of an export: its moment is fixed, it is written, sealed, and let go; or it is taken up where it stopped.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use coffre_storage::audit::{Action, DetailKey, Outcome, RecordDraft};
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::PastVault;
use coffre_storage::{Pending, StoreError};
use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::destination::{Contents, Destination, Identity, State};
use super::sink::Sink;
use super::tree::{Leftovers, Tree};
use super::walk::Walk;
use super::writing::{Writing, draft};
use super::{ARCHIVE, ExportError, Format, Order, Report, gone_or, moment_text, seal};
use crate::limits::{EXPORT_AHEAD_PIECES, EXPORT_KEPT_SECS};
use crate::units::{hex, parse_moment};

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
    let mut writing = Writing::new(order, session_of(state), destination, journal, sink);
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
    writing.finish()?;
    // Had the moment been pruned meanwhile, something could be missing.
    self::past(order, state).map(drop)
}
