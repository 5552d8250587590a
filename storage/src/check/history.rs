//! Superseded states: keys say what values say, and the states of one inode or name follow each other without overlapping.

use super::content::Holdings;
use super::{Check, Finding, number_of};
use crate::error::StoreError;
use crate::id::{CommitNumber, InodeId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::rows::{
    DENTRY_KEY_BYTES, DentryRow, INODE_KEY_BYTES, InodeRow, Moment, PastRow, PastSpan, decode,
};

/// The states under one live key so far.
#[derive(Default)]
struct States {
    live: Vec<u8>,
    /// When the newest of them ended.
    end: Option<Moment>,
}

impl Check<'_> {
    pub(super) fn history(&mut self, keys: &VaultKeys, holdings: &mut Holdings) -> Result<(), StoreError> {
        let vault = keys.vault;
        let mut states = States::default();
        self.rows((&[&keys.records], Table::InodeHistory), &vault.0, |own, at, row| {
            let past: PastRow<InodeRow> = decode(row)?;
            holdings.content(&past.row.content);
            own.number(Table::InodeHistory, number_of(at)?);
            own.number(Table::InodeHistory, past.row.content.id.0);
            own.superseded(keys, (Table::InodeHistory, at), &mut states, (past.row.begin, past.end))
        })?;
        self.end_of_states(keys, Table::InodeHistory, &states)?;
        states = States::default();
        self.rows((&[&keys.records], Table::DentryHistory), &vault.0, |own, at, row| {
            let past: PastRow<DentryRow> = decode(row)?;
            let parent = InodeId(number_of(at)?);
            own.number(Table::DentryHistory, past.row.inode.0);
            if at.get(24..DENTRY_KEY_BYTES) != Some(&keys.name_mac(parent, &past.row.name)[..]) {
                own.find(Finding::NameKey { vault, parent });
            }
            own.superseded(keys, (Table::DentryHistory, at), &mut states, (past.row.begin, past.end))
        })?;
        self.end_of_states(keys, Table::DentryHistory, &states)
    }

    fn superseded(
        &mut self,
        keys: &VaultKeys,
        (table, at): (Table, &[u8]),
        states: &mut States,
        (begin, end): (Moment, Moment),
    ) -> Result<(), StoreError> {
        self.report.superseded += 1;
        let live_bytes = if table == Table::InodeHistory { INODE_KEY_BYTES } else { DENTRY_KEY_BYTES };
        let live = at.get(..live_bytes).ok_or(StoreError::DamagedRecord)?;
        if states.live != live {
            self.end_of_states(keys, table, states)?;
            *states = States { live: live.to_vec(), end: None };
        }
        let span = PastSpan::of(at, live_bytes).ok_or(StoreError::DamagedRecord)?;
        let mut wrong = None;
        if span.end != end.commit || span.begin.is_some_and(|said| said != begin.commit) {
            wrong = Some("is not under its own key");
        } else if begin.commit >= end.commit || begin.time >= end.time || !self.knows(end.commit) {
            wrong = Some("did not end after it began");
        } else if states.end.is_some_and(|last| begin.commit < last.commit || begin.time < last.time) {
            wrong = Some("began before the one before it had ended");
        }
        if let Some(why) = wrong {
            self.find(Finding::History { vault: keys.vault, table, key: at.to_vec(), why });
        }
        states.end = Some(end);
        Ok(())
    }

    /// The present state began when the last superseded one had ended.
    fn end_of_states(&mut self, keys: &VaultKeys, table: Table, states: &States) -> Result<(), StoreError> {
        let Some(end) = states.end else { return Ok(()) };
        let live = if table == Table::InodeHistory { Table::Inodes } else { Table::Dentries };
        let Some(sealed) = self.snapshot.get(live, &states.live)? else { return Ok(()) };
        // What does not open is found where its own table is walked.
        let Some(row) = keys.records.open(live, &states.live, &sealed) else { return Ok(()) };
        let begin: Option<CommitNumber> = if table == Table::InodeHistory {
            decode::<InodeRow>(&row).ok().map(|row| row.begin.commit)
        } else {
            decode::<DentryRow>(&row).ok().map(|row| row.begin.commit)
        };
        if begin.is_some_and(|begin| begin < end.commit) {
            let (vault, key) = (keys.vault, states.live.clone());
            let why = "began before the one before it had ended";
            self.find(Finding::History { vault, table: live, key, why });
        }
        Ok(())
    }
}
