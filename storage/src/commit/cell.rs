//! Where a ticket's outcome is put: the log keeps one end until its batch is durable, the ticket the other.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::StoreError;
use crate::id::CommitNumber;

pub(super) type Outcome = Result<CommitNumber, StoreError>;
pub(super) type Callback = Box<dyn FnOnce(Outcome) + Send>;

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

    /// Waits until it is told.
    pub(super) fn wait(&self) -> Outcome {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                State::Done(outcome) => return outcome.clone(),
                State::Waiting(_) => state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Calls `done` once with the outcome: at once if it is known, which is told.
    pub(super) fn notify(&self, done: Callback) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(callback) => {
                *callback = Some(done);
                false
            }
            State::Done(outcome) => {
                let outcome = outcome.clone();
                drop(state);
                done(outcome);
                true
            }
        }
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
