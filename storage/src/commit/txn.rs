//! Transactions: read, decide, change, submit, under the store's one writer lock.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::cell::TicketCell;
use super::sequence::Sequence;
use super::ticket::Ticket;
use super::{Store, lock};
use crate::audit::RecordDraft;
use crate::audit::record::encode_record;
use crate::error::StoreError;
use crate::id::{ChunkId, CommitNumber, PackId, RecordNumber, VaultId};
use crate::index::{Change, Entries, Table};
use crate::keys::VaultKeys;
use crate::limits::JOURNAL_BYTES_MAX;
use crate::record::RecordKey;
use crate::rows::{ChunkRow, VaultRow, chunk_key, decode};
use crate::time::UnixNanos;

/// One transaction under the writer lock. Dropped without [`Txn::submit`] it changes nothing.
#[derive(Debug)]
pub struct Txn<'store> {
    store: &'store Store,
    shared: MutexGuard<'store, Sequence>,
    own: Sequence,
    changes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    records: Vec<Vec<u8>>,
    deltas: BTreeMap<PackId, i64>,
    bytes: usize,
    failed: Option<StoreError>,
}

impl Store {
    /// Starts a transaction: waits for the one before to be submitted or dropped.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn begin(&self) -> Result<Txn<'_>, StoreError> {
        let shared = lock(&self.inner.sequence);
        if self.inner.log.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let mut own = shared.clone();
        own.last_commit += 1;
        own.last_time = self.inner.options.clock.now().0.max(shared.last_time + 1);
        Ok(Txn {
            store: self,
            shared,
            own,
            changes: BTreeMap::new(),
            records: Vec::new(),
            deltas: BTreeMap::new(),
            bytes: 0,
            failed: None,
        })
    }
}

impl Txn<'_> {
    /// The number this transaction gets.
    pub fn number(&self) -> CommitNumber {
        CommitNumber(self.own.last_commit)
    }

    /// The time of this transaction; strictly increasing from one to the next.
    pub fn time(&self) -> UnixNanos {
        UnixNanos(self.own.last_time)
    }

    /// A fresh number from the store's sequence (inode, content and segment numbers), never given twice.
    pub fn next_number(&mut self) -> u64 {
        self.own.last_number += 1;
        self.own.last_number
    }

    /// Opens one value; sees this transaction's own changes.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub fn get(&self, key: &RecordKey, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(&(table, at.to_vec())) {
            Some(None) => Ok(None),
            Some(Some(sealed)) => key.open(table, at, sealed).ok_or(StoreError::DamagedRecord).map(Some),
            None => self.store.get(key, table, at),
        }
    }

    /// One value as it is stored; sees this transaction's own changes.
    pub(crate) fn sealed(&self, table: Table, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(&(table, at.to_vec())) {
            Some(own) => Ok(own.clone()),
            None => self.store.sealed(table, at),
        }
    }

    /// What is known of a chunk; sees this transaction's own changes.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub(crate) fn chunk(&self, keys: &VaultKeys, chunk: ChunkId) -> Result<Option<ChunkRow>, StoreError> {
        let at = chunk_key(keys.vault, chunk);
        match self.changes.get(&(Table::Chunks, at.clone())) {
            Some(None) => Ok(None),
            Some(Some(sealed)) => self.store.open_chunk(keys, &at, sealed).map(Some),
            None => self.store.chunk(keys, chunk),
        }
    }

    /// As [`Store::range`]; sees this transaction's own changes.
    ///
    /// # Errors
    /// `DamagedRecord`, `Index`.
    pub fn range(
        &self,
        key: &RecordKey,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Entries, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let overlay = self.store.inner.overlay.range(table, from, to);
        let mut pending: BTreeMap<_, _> =
            overlay.into_iter().map(|(at, value)| (at, value.map(|value| value.to_vec()))).collect();
        let own = self.changes.range((table, from.to_vec())..(table, to.to_vec()));
        pending.extend(own.map(|((_, at), value)| (at.clone(), value.clone())));
        self.store.merged_range(key, table, (from, to), max, pending)
    }

    /// Seals and puts a value. What cannot be sealed fails the submit.
    pub fn put(&mut self, key: &RecordKey, table: Table, at: &[u8], plaintext: &[u8]) {
        match key.seal(table, at, plaintext) {
            Ok(sealed) => {
                self.bytes += sealed.len() + at.len() + 16;
                self.changes.insert((table, at.to_vec()), Some(sealed));
            }
            Err(error) => self.failed = Some(error),
        }
    }

    /// Puts a value that is sealed already.
    pub(crate) fn put_sealed(&mut self, table: Table, at: &[u8], sealed: Vec<u8>) {
        self.bytes += sealed.len() + at.len() + 16;
        self.changes.insert((table, at.to_vec()), Some(sealed));
    }

    /// Numbers up to this one are in use: the sequence goes on behind it.
    pub(crate) fn skip_numbers(&mut self, through: u64) {
        self.own.last_number = self.own.last_number.max(through);
    }

    /// Deletes a key.
    pub fn delete(&mut self, table: Table, at: &[u8]) {
        self.bytes += at.len() + 16;
        self.changes.insert((table, at.to_vec()), None);
    }

    /// Notes that a pack gained (or lost) bytes of frames that are referred to.
    pub(crate) fn count(&mut self, pack: PackId, bytes: i64) {
        *self.deltas.entry(pack).or_default() += bytes;
    }

    /// Bytes of journal so far: a long work ends its transaction in time.
    pub(crate) fn journal_bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an audit record, durable together with the changes. Details are sealed with `details` (the vault's audit
    /// key) or the system's. What is done to a vault is its customer's to know, whoever does it.
    pub fn audit(&mut self, mut record: RecordDraft, details: Option<&RecordKey>) {
        if record.customer.is_none() {
            record.customer = record.vault.and_then(|vault| self.owner_of(vault));
        }
        let number = RecordNumber(self.own.next_record);
        let boot = self.store.inner.options.clock.boot_nanos();
        let key = details.unwrap_or(&self.store.inner.audit_details);
        match encode_record(&record, number, self.time(), boot, key) {
            Ok(encoded) => {
                self.own.next_record += 1;
                self.bytes += encoded.len();
                self.records.push(encoded);
            }
            Err(error) => self.failed = Some(error),
        }
    }

    /// A vault's customer; nobody for one that is not there.
    fn owner_of(&self, vault: VaultId) -> Option<[u8; 16]> {
        let row = self.get(&self.store.inner.system_key, Table::Vaults, &vault.0).ok()??;
        decode::<VaultRow>(&row).ok().map(|row| row.owner.0)
    }

    /// Gives the changes to the open batch and to every reader.
    ///
    /// # Errors
    /// `TooLarge`, `DiskFull`, `Poisoned`: nothing changed.
    pub fn submit(self) -> Result<Ticket, StoreError> {
        self.submit_then(|| {})
    }

    /// As [`Txn::submit`]. `then` runs when the changes are everybody's, before the next transaction begins: what mirrors a
    /// table in memory is changed there.
    pub(crate) fn submit_then(mut self, then: impl FnOnce()) -> Result<Ticket, StoreError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.bytes > JOURNAL_BYTES_MAX {
            return Err(StoreError::TooLarge("the transaction"));
        }
        let changes: Vec<_> = std::mem::take(&mut self.changes)
            .into_iter()
            .map(|((table, key), value)| Change { table, key, value })
            .collect();
        let cell = TicketCell::new(self.number());
        let inner = &self.store.inner;
        let batch = inner.log.append_commit(super::log_state::Submission {
            changes,
            records: std::mem::take(&mut self.records),
            first_record: self.shared.next_record,
            sequence: self.own.clone(),
            bytes: self.bytes,
            deltas: std::mem::take(&mut self.deltas),
            cell: std::sync::Arc::clone(&cell),
            overlay: &inner.overlay,
        })?;
        inner.audit_records.store(self.own.next_record, Ordering::Relaxed);
        inner.last_time.store(self.own.last_time, Ordering::Release);
        inner.last_commit.store(self.own.last_commit, Ordering::Release);
        *self.shared = self.own.clone();
        then();
        Ok(Ticket::new(cell, &inner.log, batch))
    }
}
