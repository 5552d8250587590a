//! Durability of a submitted transaction, to wait for or to be told of. Whoever does either hurries the batch that holds it;
//! a ticket that is dropped or kept hurries nothing, and what it stands for is durable soon all the same.

use std::sync::Arc;

use super::cell::{Callback, TicketCell};
use super::log_state::LogShared;
use crate::error::StoreError;
use crate::id::{BatchNumber, CommitNumber};

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
    pub fn wait(self) -> Result<CommitNumber, StoreError> {
        self.log.hurry(self.batch);
        self.cell.wait()
    }

    /// Calls `done` once with the outcome, from the committer's thread (or at once): keep it short.
    pub fn notify(self, done: Callback) {
        if !self.cell.notify(done) {
            self.log.hurry(self.batch);
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
