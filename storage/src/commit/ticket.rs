//! Durability of a submitted transaction, to wait for or to be told of. Whoever does either hurries the batch that holds it;
//! a ticket that is dropped or kept hurries nothing, and what it stands for is durable soon all the same.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::log_state::LogShared;
use crate::error::StoreError;
use crate::id::{BatchNumber, CommitNumber};

type Outcome = Result<CommitNumber, StoreError>;
type Callback = Box<dyn FnOnce(Outcome) + Send>;

enum State {
    Waiting(Option<Callback>),
    Done(Outcome),
}

/// The two ends of a ticket.
pub(super) struct TicketCell {
    commit: CommitNumber,
    state: Mutex<State>,
    done: Condvar,
}

impl std::fmt::Debug for TicketCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketCell({})", self.commit)
    }
}

impl TicketCell {
    pub(super) fn new(commit: CommitNumber) -> Arc<Self> {
        Arc::new(Self { commit, state: Mutex::new(State::Waiting(None)), done: Condvar::new() })
    }

    /// Tells whoever waits.
    pub(super) fn complete(&self, outcome: Result<(), StoreError>) {
        let outcome = outcome.map(|()| self.commit);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Done(outcome.clone()));
        drop(state);
        self.done.notify_all();
        if let State::Waiting(Some(callback)) = before {
            callback(outcome);
        }
    }
}

/// Durability of one submitted transaction.
#[derive(Debug)]
pub struct Ticket {
    cell: Arc<TicketCell>,
    log: Arc<LogShared>,
    batch: BatchNumber,
}

impl Ticket {
    /// Of a transaction that lies in a batch.
    pub(super) fn new(cell: Arc<TicketCell>, log: &Arc<LogShared>, batch: BatchNumber) -> Self {
        Self { cell, log: Arc::clone(log), batch }
    }

    /// Waits until it is durable.
    ///
    /// # Errors
    /// `Poisoned` when the log could not be written; `DiskFull`.
    pub fn wait(self) -> Outcome {
        self.log.hurry(self.batch);
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                State::Done(outcome) => return outcome.clone(),
                State::Waiting(_) => {
                    state = self.cell.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Calls `done` once with the outcome, from the committer's thread (or at once): keep it short.
    pub fn notify(self, done: Callback) {
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(callback) => {
                *callback = Some(done);
                drop(state);
                self.log.hurry(self.batch);
            }
            State::Done(outcome) => {
                let outcome = outcome.clone();
                drop(state);
                done(outcome);
            }
        }
    }
}

/// A change that is visible, and durable once its ticket says so.
#[derive(Debug)]
#[must_use = "acknowledge nothing before the ticket is done"]
pub struct Pending<T> {
    /// What the operation gives.
    pub value: T,
    /// When it is durable.
    pub ticket: Ticket,
}

impl<T> Pending<T> {
    /// Waits, then gives the value.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn wait(self) -> Result<T, StoreError> {
        self.ticket.wait()?;
        Ok(self.value)
    }
}
