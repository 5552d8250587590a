//! Superseded states that ended before the window of a vault's retention, and that no named snapshot keeps, go.
//!
//! Several states of an inode may share one content (only attributes changed): it is released with the last of them.
//! States stand in the order of their ends, so the sharers are neighbours.

use super::{Interrupted, Pass};
use crate::audit::{Action, Actor, RecordDraft};
use crate::error::StoreError;
use crate::id::{CommitNumber, ContentId, InodeId};
use crate::index::{Entry, Table};
use crate::limits::{HISTORY_PIECE, PRUNE_CHUNKS_MAX, PRUNE_ROWS_MAX, RECLAIM_JOURNAL_BYTES_MAX};
use crate::rows::{
    DENTRY_KEY_BYTES, DentryRow, INODE_KEY_BYTES, InodeRow, Moment, PastRow, PastSpan, after_prefix, decode,
};
use crate::tree::Vault;
use crate::tree::change::{Change, Released};
use crate::tree::past::View;

/// What may go, of one vault.
struct Window {
    /// States that ended by then.
    start: View,
    /// But not those that these moments show.
    kept: Vec<Moment>,
}

impl Window {
    /// Whether a state is out of the window, as far as its key and its value tell.
    fn lets_go(&self, begin: Moment, end: Moment) -> bool {
        self.start.is_past(end)
            && !self.kept.iter().any(|kept| begin.commit <= kept.commit && kept.commit < end.commit)
    }
}

fn inode_of(key: &[u8], from: usize) -> Result<InodeId, StoreError> {
    let number = key.get(from..from + 8).and_then(|bytes| bytes.first_chunk());
    Ok(InodeId(u64::from_be_bytes(*number.ok_or(StoreError::DamagedRecord)?)))
}

impl Pass<'_> {
    pub(super) fn prune(&mut self, vault: &Vault) -> Result<(), Interrupted> {
        let row = vault.vault_row()?;
        let now = self.store.clock_now();
        if row.erased.is_none() {
            vault.sweep_locks()?;
        }
        if row.erased.is_some() || row.holds.as_ref().is_some_and(|holds| !holds.is_empty()) {
            return Ok(());
        }
        let start = row.window_start(now);
        let window = Window { start: View::of(start, self.store), kept: vault.kept_moments()? };
        let before = (self.report.inodes_pruned, self.report.names_pruned);
        // Contents first: a name that leads to a state that is gone is out of the window too.
        self.prune_table(vault, &window, Table::InodeHistory)?;
        self.prune_table(vault, &window, Table::DentryHistory)?;
        let gone = (self.report.inodes_pruned - before.0, self.report.names_pruned - before.1);
        if gone != (0, 0) {
            let record = RecordDraft {
                vault: Some(vault.id()),
                reason: Some(format!("{} states and {} names ended before the window", gone.0, gone.1)),
                ..RecordDraft::new(Actor::System, Action::HistoryPrune)
            };
            drop(self.store.record(record)?);
        }
        Ok(())
    }

    fn prune_table(&mut self, vault: &Vault, window: &Window, table: Table) -> Result<(), Interrupted> {
        let to = after_prefix(&vault.id().0);
        let mut from = vault.id().0.to_vec();
        loop {
            let piece = self.store.sealed_range(table, &from, &to, HISTORY_PIECE)?;
            let live_bytes = if table == Table::InodeHistory { INODE_KEY_BYTES } else { DENTRY_KEY_BYTES };
            let more = piece.len() == HISTORY_PIECE;
            if let Some((last, _)) = piece.last() {
                from = [&last[..], &[0]].concat();
            }
            // By its key alone most of what stays is seen to stay.
            let stays = |key: &Vec<u8>| {
                PastSpan::of(key, live_bytes).is_some_and(|span| window.start.is_behind(span.end))
            };
            let mut candidates: Vec<Vec<u8>> =
                piece.into_iter().map(|(key, _)| key).filter(|key| !stays(key)).collect();
            while !candidates.is_empty() {
                match prune_step(vault, window, table, &mut candidates, &mut self.report)? {
                    Step::Done { gone: 0 } => {}
                    Step::Done { .. } => self.stepped(0)?,
                    Step::NotAllowed => return Ok(()),
                }
                candidates.retain(|key| !stays(key));
            }
            if !more {
                return Ok(());
            }
        }
    }
}

enum Step {
    Done {
        gone: usize,
    },
    /// Meanwhile a hold was placed, or more is to be kept.
    NotAllowed,
}

/// Prunes some of the candidates in one transaction and takes all that it looked at off the list.
fn prune_step(
    vault: &Vault,
    window: &Window,
    table: Table,
    candidates: &mut Vec<Vec<u8>>,
    report: &mut super::ReclaimReport,
) -> Result<Step, StoreError> {
    // Whoever opens a file from now on waits, and finds what is left.
    let _alone = vault.pruning_alone();
    let mut change = Change::begin(vault)?;
    if !change.may_prune(window.start.time())? {
        return Ok(Step::NotAllowed);
    }
    let (mut gone, mut looked, mut chunks) = (0, 0, 0);
    for key in candidates.iter() {
        let full = change.txn.journal_bytes() >= RECLAIM_JOURNAL_BYTES_MAX;
        if full || gone >= PRUNE_ROWS_MAX || chunks >= PRUNE_CHUNKS_MAX {
            break;
        }
        if table == Table::InodeHistory {
            match prune_inode(vault, window, &mut change, key)? {
                Pruned::Kept => {}
                Pruned::Gone { released } => {
                    report.inodes_pruned += 1;
                    gone += 1;
                    chunks += released;
                }
                // It is looked at again.
                Pruned::InPart => {
                    gone += 1;
                    break;
                }
            }
        } else if prune_name(vault, window, &mut change, key)? {
            report.names_pruned += 1;
            gone += 1;
        }
        looked += 1;
    }
    candidates.drain(..looked);
    if gone > 0 {
        change.note_pruned(window.start.time())?;
        drop(change.submit_silently()?);
    }
    Ok(Step::Done { gone })
}

enum Pruned {
    Kept,
    Gone { released: usize },
    InPart,
}

fn prune_inode(
    vault: &Vault,
    window: &Window,
    change: &mut Change<'_>,
    key: &[u8],
) -> Result<Pruned, StoreError> {
    let inode = inode_of(key, 16)?;
    if vault.lock_kept().contains_key(&inode) {
        return Ok(Pruned::Kept);
    }
    let Some(past) = change.get::<PastRow<InodeRow>>(Table::InodeHistory, key)? else {
        return Ok(Pruned::Kept);
    };
    if !window.lets_go(past.row.begin, past.end) {
        return Ok(Pruned::Kept);
    }
    let content = past.row.content.id;
    let shared =
        is_content_of_next(change, inode, key, content)? || is_content_of_last(change, key, content)?;
    if shared {
        change.delete(Table::InodeHistory, key);
        return Ok(Pruned::Gone { released: 0 });
    }
    match change.release_content(&past.row.content, PRUNE_CHUNKS_MAX)? {
        Released::All { chunks } => {
            change.delete(Table::InodeHistory, key);
            Ok(Pruned::Gone { released: chunks })
        }
        Released::Rest { content } => {
            let rest = PastRow { row: InodeRow { content, ..past.row }, end: past.end };
            change.put(Table::InodeHistory, key, &rest)?;
            Ok(Pruned::InPart)
        }
    }
}

/// Whether the next newer state of the inode has the same content.
fn is_content_of_next(
    change: &Change<'_>,
    inode: InodeId,
    key: &[u8],
    content: ContentId,
) -> Result<bool, StoreError> {
    let live = key.get(..INODE_KEY_BYTES).ok_or(StoreError::DamagedRecord)?;
    let after = [key, &[0]].concat();
    let next = change.rows(Table::InodeHistory, &after, &after_prefix(live), 1)?;
    let row = match next.first() {
        Some((_, bytes)) => decode::<PastRow<InodeRow>>(bytes)?.row,
        None => match change.inode(inode) {
            Ok(row) => row,
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    Ok(row.content.id == content)
}

/// Whether the next older state that is still there has it: a named snapshot keeps that one.
fn is_content_of_last(change: &Change<'_>, key: &[u8], content: ContentId) -> Result<bool, StoreError> {
    let live = key.get(..INODE_KEY_BYTES).ok_or(StoreError::DamagedRecord)?;
    let older: Vec<Entry> = change.rows(Table::InodeHistory, live, key, usize::MAX)?;
    match older.last() {
        Some((_, bytes)) => Ok(decode::<PastRow<InodeRow>>(bytes)?.row.content.id == content),
        None => Ok(false),
    }
}

fn prune_name(
    vault: &Vault,
    window: &Window,
    change: &mut Change<'_>,
    key: &[u8],
) -> Result<bool, StoreError> {
    let Some(past) = change.get::<PastRow<DentryRow>>(Table::DentryHistory, key)? else { return Ok(false) };
    if !window.lets_go(past.row.begin, past.end) {
        return Ok(false);
    }
    change.delete(Table::DentryHistory, key);
    fold_time(vault, change, inode_of(key, 16)?, past.end)?;
    Ok(true)
}

/// The directory remembers for itself when the name went.
fn fold_time(
    vault: &Vault,
    change: &mut Change<'_>,
    directory: InodeId,
    end: Moment,
) -> Result<(), StoreError> {
    let live = crate::rows::inode_key(vault.id(), directory);
    // The state of the directory in which it happened: the first that ended later, or the live one.
    let from = crate::rows::past_key(&live, CommitNumber(end.commit.0 + 1), CommitNumber(0));
    let found = change.rows(Table::InodeHistory, &from[..from.len() - 8], &after_prefix(&live), 1)?;
    let fold = |row: &mut InodeRow| {
        let due = row.begin.commit < end.commit && row.folded.is_none_or(|folded| folded < end.time);
        if due {
            row.folded = Some(end.time);
        }
        due
    };
    if let Some((at, bytes)) = found.first() {
        let mut past: PastRow<InodeRow> = decode(bytes)?;
        if fold(&mut past.row) {
            change.put(Table::InodeHistory, at, &past)?;
        }
        return Ok(());
    }
    match change.inode(directory) {
        Ok(mut row) => {
            if fold(&mut row) {
                change.put(Table::Inodes, &live, &row)?;
            }
            Ok(())
        }
        Err(StoreError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}
