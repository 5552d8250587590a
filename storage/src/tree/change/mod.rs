//! One transaction on a vault: rows read and written, history kept, references and usage counted.

mod holding;
pub(crate) mod locks;

use std::collections::HashMap;

use super::held::{HeldLock, LockKey};
use super::{Kind, Vault};
use crate::allowance::Amounts;
use crate::audit::RecordDraft;
use crate::commit::{Ticket, Txn};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{ChunkId, InodeId};
use crate::index::{Entries, Table};
use crate::limits::NAME_BYTES_MAX;
use crate::quota::{Asking, Growth, Reservation};
use crate::record::RecordKey;
use crate::rows::{
    DentryRow, InodeRow, Moment, PastRow, UsageRow, VaultRow, decode, dentry_key, encode, inode_key,
    past_key, usage_key,
};
use crate::time::UnixNanos;

pub(crate) use holding::Released;

/// A transaction on one vault.
pub(crate) struct Change<'v> {
    pub(crate) vault: &'v Vault,
    pub(crate) txn: Txn<'v>,
    /// References that chunks gain or lose, and where new ones lie.
    chunks: HashMap<ChunkId, (Option<FramePlace>, i64)>,
    unique_grown: i64,
    stored_grown: i64,
    bytes_added: u64,
    bytes_removed: u64,
    inodes_added: u64,
    inodes_removed: u64,
    /// Locks that it gives and ends.
    lock_changes: Vec<(LockKey, Option<HeldLock>)>,
}

/// What of a reservation a transaction uses.
#[derive(Clone, Copy)]
enum Using {
    /// All of it.
    All,
    /// As many stored bytes as it adds.
    Stored,
}

/// Refuses names that no directory can hold.
pub(crate) fn check_name(name: &[u8]) -> Result<(), StoreError> {
    let bad = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name == b"."
        || name == b".."
        || name.contains(&0)
        || name.contains(&b'/');
    if bad { Err(StoreError::InvalidName) } else { Ok(()) }
}

impl<'v> Change<'v> {
    pub(crate) fn begin(vault: &'v Vault) -> Result<Self, StoreError> {
        let txn = vault.store().begin()?;
        if vault.is_closed() {
            return Err(vault.closed_error());
        }
        Ok(Self {
            vault,
            txn,
            chunks: HashMap::new(),
            unique_grown: 0,
            stored_grown: 0,
            bytes_added: 0,
            bytes_removed: 0,
            inodes_added: 0,
            inodes_removed: 0,
            lock_changes: Vec::new(),
        })
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { commit: self.txn.number(), time: self.txn.time() }
    }

    pub(crate) fn put(
        &mut self,
        table: Table,
        key: &[u8],
        row: &impl minicbor::Encode<()>,
    ) -> Result<(), StoreError> {
        let bytes = encode(row)?;
        self.txn.put(&self.vault.keys().records, table, key, &bytes);
        Ok(())
    }

    pub(crate) fn get<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.txn.get(&self.vault.keys().records, table, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn inode(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        self.get(Table::Inodes, &inode_key(self.vault.id(), inode))?.ok_or(StoreError::NotFound)
    }

    pub(crate) fn directory(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        let row = self.inode(inode)?;
        if row.kind == Kind::Directory { Ok(row) } else { Err(StoreError::NotADirectory) }
    }

    pub(crate) fn dentry(&self, parent: InodeId, name: &[u8]) -> Result<Option<DentryRow>, StoreError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(StoreError::InvalidName);
        }
        let row: Option<DentryRow> = self.get(Table::Dentries, &self.dentry_key(parent, name))?;
        // Two names with one MAC: as likely as guessing a key, and told apart all the same.
        if row.as_ref().is_some_and(|row| row.name.as_slice() != name) {
            Err(StoreError::DamagedRecord)
        } else {
            Ok(row)
        }
    }

    fn dentry_key(&self, parent: InodeId, name: &[u8]) -> Vec<u8> {
        dentry_key(self.vault.id(), parent, self.vault.keys().name_mac(parent, name))
    }

    /// Moves a superseded inode record to history, unless it began in this very transaction.
    fn keep_inode(&mut self, inode: InodeId, old: &InodeRow) -> Result<(), StoreError> {
        if old.begin.commit == self.txn.number() {
            return Ok(());
        }
        let live = inode_key(self.vault.id(), inode);
        let key = past_key(&live, self.txn.number(), old.begin.commit);
        let end = self.moment();
        self.put(Table::InodeHistory, &key, &PastRow { row: old.clone(), end })
    }

    /// Puts a new inode.
    pub(crate) fn add_inode(&mut self, inode: InodeId, row: &InodeRow) -> Result<(), StoreError> {
        self.inodes_added += 1;
        self.bytes_added += row.content.stored;
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), row)
    }

    /// Replaces an inode's record; the old one goes to history.
    pub(crate) fn replace_inode(
        &mut self,
        inode: InodeId,
        old: &InodeRow,
        mut new: InodeRow,
    ) -> Result<(), StoreError> {
        self.keep_inode(inode, old)?;
        new.begin = self.moment();
        new.ctime = self.txn.time();
        self.bytes_added += new.content.stored;
        self.bytes_removed += old.content.stored;
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), &new)
    }

    /// Sets a directory's time: its entries' history tells the rest.
    pub(crate) fn touch_directory(&mut self, inode: InodeId) -> Result<(), StoreError> {
        let mut row = self.directory(inode)?;
        if row.begin.commit == self.txn.number() {
            // Names that came with the state itself do not tell of it: it begins with their time.
            row.mtime = self.txn.time();
        } else {
            row.touched = Some(self.txn.time());
        }
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), &row)
    }

    /// Takes one link from an inode; the last one ends it.
    pub(crate) fn unlink_inode(&mut self, inode: InodeId) -> Result<(), StoreError> {
        let old = self.inode(inode)?;
        if old.links > 1 {
            let mut new = old.successor();
            new.links -= 1;
            return self.replace_inode(inode, &old, new);
        }
        self.keep_inode(inode, &old)?;
        self.inodes_removed += 1;
        self.bytes_removed += old.content.stored;
        self.txn.delete(Table::Inodes, &inode_key(self.vault.id(), inode));
        Ok(())
    }

    pub(crate) fn add_dentry(
        &mut self,
        parent: InodeId,
        name: &[u8],
        inode: InodeId,
        kind: Kind,
    ) -> Result<(), StoreError> {
        check_name(name)?;
        let row = DentryRow { name: name.to_vec().into(), inode, kind, begin: self.moment() };
        let key = self.dentry_key(parent, name);
        self.put(Table::Dentries, &key, &row)?;
        self.touch_directory(parent)
    }

    /// Takes a name away (the inode stays as it is). Locks end with it.
    pub(crate) fn drop_dentry(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        let key = self.dentry_key(parent, &row.name);
        if row.begin.commit != self.txn.number() {
            let end = self.moment();
            let past = past_key(&key, self.txn.number(), row.begin.commit);
            self.put(Table::DentryHistory, &past, &PastRow { row: row.clone(), end })?;
        }
        self.txn.delete(Table::Dentries, &key);
        self.drop_locks_on(row.inode)?;
        self.touch_directory(parent)
    }

    /// Takes a name away and one link with it.
    pub(crate) fn unlink(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        self.drop_dentry(parent, row)?;
        self.unlink_inode(row.inode)
    }

    /// Entries of a directory, all of them.
    pub(crate) fn entries(&self, directory: InodeId) -> Result<Vec<DentryRow>, StoreError> {
        let prefix = crate::rows::inode_key(self.vault.id(), directory);
        let rows = self.txn.range(
            &self.vault.keys().records,
            Table::Dentries,
            &prefix,
            &crate::rows::after_prefix(&prefix),
            usize::MAX,
        )?;
        rows.iter().map(|(_, bytes)| decode(bytes)).collect()
    }

    pub(crate) fn is_empty(&self, directory: InodeId) -> Result<bool, StoreError> {
        let prefix = crate::rows::inode_key(self.vault.id(), directory);
        let to = crate::rows::after_prefix(&prefix);
        Ok(self.txn.range(&self.vault.keys().records, Table::Dentries, &prefix, &to, 1)?.is_empty())
    }

    /// Takes a name away with all below it.
    pub(crate) fn unlink_tree(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        if row.kind == Kind::Directory {
            for entry in self.entries(row.inode)? {
                self.unlink_tree(row.inode, &entry)?;
            }
        }
        self.unlink(parent, row)
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.txn.delete(table, key);
    }

    /// Opened rows of the vault, as [`Txn::range`].
    pub(crate) fn rows(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Entries, StoreError> {
        self.txn.range(&self.vault.keys().records, table, from, to, max)
    }

    fn vault_row(&self) -> Result<VaultRow, StoreError> {
        let id = self.vault.id();
        let found = self.txn.get(self.vault.store().system_key(), Table::Vaults, &id.0)?;
        decode(&found.ok_or(StoreError::VaultUnavailable(id))?)
    }

    /// Whether what ended before `start` may still go.
    pub(crate) fn may_prune(&self, start: UnixNanos) -> Result<bool, StoreError> {
        let row = self.vault_row()?;
        let held = row.holds.as_ref().is_some_and(|holds| !holds.is_empty());
        Ok(!held && row.erased.is_none() && row.window_start(self.txn.time()) >= start)
    }

    /// Notes that what ended before `start` may be gone.
    pub(crate) fn note_pruned(&mut self, start: UnixNanos) -> Result<(), StoreError> {
        let mut row = self.vault_row()?;
        if row.pruned.is_none_or(|pruned| pruned < start) {
            row.pruned = Some(start);
            let key = self.vault.id().0;
            self.txn.put(self.vault.store().system_key(), Table::Vaults, &key, &encode(&row)?);
        }
        Ok(())
    }

    /// Notes that a file is to be written anew in the background.
    pub(crate) fn mark_fragmented(&mut self, inode: InodeId) {
        let key = inode_key(self.vault.id(), inode);
        self.txn.put(self.vault.store().system_key(), Table::Fragmented, &key, &[]);
    }

    fn write_usage(&mut self) -> Result<(), StoreError> {
        let unchanged = self.bytes_added == self.bytes_removed
            && self.inodes_added == self.inodes_removed
            && self.unique_grown == 0
            && self.stored_grown == 0;
        if unchanged {
            return Ok(());
        }
        let system = self.vault.store().system_key();
        let key = usage_key(self.vault.owner(), self.vault.id());
        let found =
            self.txn.get(system, Table::Usage, &key)?.map(|bytes| decode::<UsageRow>(&bytes)).transpose()?;
        let mut row = found.unwrap_or_default();
        row.bytes = (row.bytes + self.bytes_added).saturating_sub(self.bytes_removed);
        row.inodes = (row.inodes + self.inodes_added).saturating_sub(self.inodes_removed);
        row.unique = Some(row.unique.unwrap_or(0).saturating_add_signed(self.unique_grown));
        row.stored = Some(row.stored.unwrap_or(0).saturating_add_signed(self.stored_grown));
        self.txn.put(system, Table::Usage, &key, &encode(&row)?);
        Ok(())
    }

    fn growth(&self, held: Amounts) -> Growth {
        let stored = self.stored_grown.unsigned_abs();
        let (stored_added, stored_removed) = if self.stored_grown < 0 { (0, stored) } else { (stored, 0) };
        Growth {
            added: Amounts { bytes: self.bytes_added, files: self.inodes_added, stored: stored_added },
            removed: Amounts {
                bytes: self.bytes_removed,
                files: self.inodes_removed,
                stored: stored_removed,
            },
            held,
        }
    }

    /// Writes references and usage, adds the record, submits. Limits are asked for all that grows.
    pub(crate) fn submit(self, audit: RecordDraft) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), None, Asking::Limits)
    }

    /// The same for a repair: whatever the limits are.
    pub(crate) fn submit_repair(self, audit: RecordDraft) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), None, Asking::Nobody)
    }

    /// The same of a transaction whose growth was reserved before, or a part of it. What was held is used then.
    pub(crate) fn submit_holding(
        self,
        audit: RecordDraft,
        reservation: &mut Reservation,
    ) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), Some((reservation, Using::All)), Asking::Limits)
    }

    /// As [`Change::submit_silently`], of what an upload stores before it commits: of what was held, the stored bytes that
    /// this adds are used then.
    pub(crate) fn submit_settling(self, reservation: &mut Reservation) -> Result<Ticket, StoreError> {
        self.submit_as(None, Some((reservation, Using::Stored)), Asking::Nobody)
    }

    /// As [`Change::submit`], for what the store does by itself: without a record of its own, and whatever the limits are.
    pub(crate) fn submit_silently(self) -> Result<Ticket, StoreError> {
        self.submit_as(None, None, Asking::Nobody)
    }

    fn submit_as(
        mut self,
        audit: Option<(RecordDraft, &RecordKey)>,
        reservation: Option<(&mut Reservation, Using)>,
        asking: Asking,
    ) -> Result<Ticket, StoreError> {
        self.write_references()?;
        self.write_usage()?;
        let vault = self.vault;
        let quotas = vault.store().quotas();
        let held = match &reservation {
            None => Amounts::default(),
            Some((reservation, Using::All)) => reservation.held(),
            Some((reservation, Using::Stored)) => {
                let grown = u64::try_from(self.stored_grown).unwrap_or(0);
                Amounts { stored: grown.min(reservation.held().stored), ..Amounts::default() }
            }
        };
        let growth = self.growth(held);
        let settled = match quotas.settle(vault.owner(), vault.id(), growth, asking) {
            Ok(settled) => settled,
            Err(refusal) => {
                // Its incident is a transaction of its own: nothing of this one is made.
                drop(self);
                return Err(vault.refused(refusal));
            }
        };
        vault.tell_settled(&mut self.txn, &settled)?;
        if let Some((record, details)) = audit {
            self.txn.audit(record, Some(details));
        }
        let (changed, locks) = (std::mem::take(&mut self.lock_changes), vault.held_locks());
        let ticket = self.txn.submit_then(|| locks.apply(&changed))?;
        settled.keep();
        if let Some((reservation, _)) = reservation {
            reservation.used(held);
        }
        Ok(ticket)
    }
}
