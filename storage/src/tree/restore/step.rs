//! Transactions of a bounded size: changes gather in one until it is full. The log keeps their order, so they need not be
//! waited for one by one.

use std::sync::RwLockReadGuard;

use crate::audit::{Action, DetailKey, Outcome, RecordDraft};
use crate::commit::{Epoch, Ticket};
use crate::error::StoreError;
use crate::id::InodeId;
use crate::limits::{RESTORE_JOURNAL_BYTES, RESTORE_OPERATIONS, RESTORE_TICKETS_MAX};
use crate::rows::InodeRow;
use crate::tree::PastVault;
use crate::tree::change::Change;

/// A path as records and people have it.
pub(super) fn text_of(path: &[Vec<u8>]) -> Vec<u8> {
    match path {
        [] => b"/".to_vec(),
        names => names.iter().flat_map(|name| [b"/".as_slice(), name]).collect::<Vec<_>>().concat(),
    }
}

/// A transaction under way. Its guard is older than it and outlives it: pruning takes them in this order too.
pub(super) struct Step<'r> {
    pub(super) change: Change<'r>,
    operations: usize,
    /// Files whose content changed, each with a look that is older than the transaction.
    refreshed: Vec<(InodeId, InodeRow, Epoch)>,
    records: RecordDraft,
    /// What the moment shows stays.
    _calm: RwLockReadGuard<'r, ()>,
}

impl Step<'_> {
    /// Writes down what happened to a name.
    pub(super) fn note(&mut self, action: Action, inode: InodeId, row: Option<&InodeRow>, path: &[Vec<u8>]) {
        let vault = self.change.vault;
        let record = RecordDraft {
            action,
            vault: Some(vault.id()),
            object: Some(inode),
            bytes: row.map(|row| row.content.size),
            content_hash: row.and_then(|row| row.content.blake3),
            details: vec![(DetailKey::Path, text_of(path))],
            ..self.records.clone()
        };
        self.change.txn.audit(record, Some(&vault.keys().audit));
        self.operations += 1;
    }

    /// Counts a change that needs no record of its own.
    pub(super) fn count(&mut self) {
        self.operations += 1;
    }

    /// Whoever has the file open shall see its new content.
    pub(super) fn refresh(&mut self, inode: InodeId, row: InodeRow) {
        self.refreshed.push((inode, row, self.change.vault.store().epoch()));
    }
}

/// All transactions of a restore.
pub(super) struct Steps<'r> {
    past: &'r PastVault,
    records: RecordDraft,
    open: Option<Step<'r>>,
    submitted: Vec<Ticket>,
}

impl<'r> Steps<'r> {
    pub(super) fn new(past: &'r PastVault, records: &RecordDraft) -> Self {
        Self { past, records: records.clone(), open: None, submitted: Vec::new() }
    }

    /// The transaction for the next change.
    pub(super) fn step(&mut self) -> Result<&mut Step<'r>, StoreError> {
        let full = |step: &Step<'_>| {
            step.operations >= RESTORE_OPERATIONS || step.change.txn.journal_bytes() >= RESTORE_JOURNAL_BYTES
        };
        if self.open.as_ref().is_some_and(full) {
            self.end()?;
        }
        let open = if let Some(open) = self.open.take() {
            open
        } else {
            let calm = self.past.calm()?;
            let change = Change::begin(self.past.present())?;
            let records = self.records.clone();
            Step { change, operations: 0, refreshed: Vec::new(), records, _calm: calm }
        };
        Ok(self.open.insert(open))
    }

    /// Whether changes have gathered that others do not see yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Submits what has gathered. Nothing is left open: others may write, and this may look at the store.
    pub(super) fn end(&mut self) -> Result<(), StoreError> {
        let Some(step) = self.open.take() else { return Ok(()) };
        if step.operations == 0 {
            return Ok(());
        }
        let vault = self.past.present();
        let Step { change, refreshed, .. } = step;
        self.submitted.push(change.submit_silently()?);
        // After the transaction: a file's state is locked before the store, never the other way round.
        for (inode, row, epoch) in refreshed {
            if let Some(open) = vault.opened(inode)
                && !open.refresh(&row, epoch)
            {
                vault.close_registered(inode);
            }
        }
        if self.submitted.len() >= RESTORE_TICKETS_MAX { self.finish() } else { Ok(()) }
    }

    /// Submits what has gathered, and waits until all is durable.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.end()?;
        for ticket in std::mem::take(&mut self.submitted) {
            ticket.wait()?;
        }
        Ok(())
    }

    /// Writes down that the restore begins or ends, and waits until that is durable.
    pub(super) fn tell(
        &mut self,
        action: Action,
        error: Option<&StoreError>,
        details: &[(DetailKey, Vec<u8>)],
    ) -> Result<(), StoreError> {
        self.open = None;
        let vault = self.past.present();
        let record = RecordDraft {
            action,
            vault: Some(vault.id()),
            outcome: if error.is_some() { Outcome::Failed } else { Outcome::Done },
            reason: error.map(ToString::to_string),
            details: details.to_vec(),
            ..self.records.clone()
        };
        match vault.store().record(record) {
            Ok(pending) => pending.wait(),
            // What went wrong is said by its own error.
            Err(_) if error.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
