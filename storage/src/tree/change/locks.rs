//! Locks inside a transaction: who may change what, and that a lock ends with what it is on.
//!
//! Asked under the store's writer lock, so no lock can be taken between the question and the change. Only a vault that is
//! [borne by](crate::tree::Vault::borne_by) somebody asks: the store's own work and protocols without locks do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Change;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::index::Table;
use crate::rows::{DentryRow, Kind, LockDepth, LockRow, LockScope, after_prefix, decode, lock_key};
use crate::time::UnixNanos;
use crate::tree::bearer::{Bearer, Rest};
use crate::tree::held::{HeldLock, LockKey, LockMap};

impl Change<'_> {
    /// All locks of the vault, as they were when this transaction began.
    pub(crate) fn held_locks(&self) -> Result<Arc<LockMap>, StoreError> {
        if let Some(known) = self.vault.held_locks().known() {
            return Ok(known);
        }
        let (store, prefix) = (self.vault.store(), self.vault.id().0);
        let rows = store.sealed_range(Table::Locks, &prefix, &after_prefix(&prefix), usize::MAX)?;
        let mut all = LockMap::new();
        for (at, sealed) in rows {
            // What does not open is no lock: a check finds it, and everybody else goes on working.
            let row = self.vault.keys().records.open(Table::Locks, &at, &sealed);
            let row = row.and_then(|row| decode::<LockRow>(&row).ok());
            if let (Some(row), Some(key)) = (row, lock_place(&at)) {
                all.insert(key, HeldLock::from(&row));
            }
        }
        Ok(self.vault.held_locks().fill(all))
    }

    /// Live locks on an inode, and deep ones on what is above it.
    pub(crate) fn covering(
        &self,
        all: &LockMap,
        inode: Option<InodeId>,
        parent: Option<InodeId>,
    ) -> Result<Vec<(LockKey, HeldLock)>, StoreError> {
        covering(all, self.txn.time(), (inode, parent), |directory| Ok(self.inode(directory)?.parent))
    }

    /// Inodes with a lock, strictly below a directory.
    pub(crate) fn locked_below(
        &self,
        all: &LockMap,
        directory: InodeId,
    ) -> Result<Vec<(InodeId, Option<InodeId>)>, StoreError> {
        let (mut asked, mut found) = (BTreeMap::<InodeId, bool>::new(), BTreeSet::new());
        for ((inode, _), lock) in all {
            let Some(parent) = lock.parent else { continue };
            let is_below = match asked.get(&parent) {
                Some(is_below) => *is_below,
                None => match self.is_below(parent, directory) {
                    Ok(is_below) => is_below,
                    Err(StoreError::NotFound) => false,
                    Err(error) => return Err(error),
                },
            };
            asked.insert(parent, is_below);
            if is_below && *inode != directory {
                found.insert((*inode, Some(parent)));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What the bearer rests on still holds.
    fn rests_on_what_holds(&self, bearer: &Bearer, all: &LockMap) -> Result<(), StoreError> {
        let (own, now) = (self.vault.id(), self.txn.time());
        for rest in bearer.rests() {
            let holds = match rest {
                Rest::Lock(vault, token) => {
                    let is_his = |lock: &HeldLock| lock.token == token && lock.holder == bearer.holder;
                    vault != own || all.values().any(|lock| is_his(lock) && lock.is_live(now))
                }
                Rest::Present(vault, inode) => vault != own || self.content_of(inode)?.is_some(),
                Rest::Content(vault, inode, content) => {
                    vault != own || self.content_of(inode)? == Some(content)
                }
            };
            if !holds {
                return Err(StoreError::Changed);
            }
        }
        Ok(())
    }

    fn content_of(&self, inode: InodeId) -> Result<Option<ContentId>, StoreError> {
        match self.inode(inode) {
            Ok(row) => Ok(Some(row.content.id)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a change of content, attributes or properties that a lock does not allow.
    pub(crate) fn may_change(&self, inode: InodeId, parent: Option<InodeId>) -> Result<(), StoreError> {
        let Some(bearer) = self.vault.bearer() else { return Ok(()) };
        let all = self.held_locks()?;
        self.rests_on_what_holds(bearer, &all)?;
        if all.is_empty() {
            return Ok(());
        }
        bearer.may_pass(&self.covering(&all, Some(inode), parent.or(self.vault.within))?)
    }

    /// Refuses that a name comes to a directory, goes or is replaced (`row` with all below it) where a lock does not allow it.
    pub(crate) fn may_name(&self, parent: InodeId, row: Option<&DentryRow>) -> Result<(), StoreError> {
        let Some(bearer) = self.vault.bearer() else { return Ok(()) };
        let all = self.held_locks()?;
        self.rests_on_what_holds(bearer, &all)?;
        if all.is_empty() {
            return Ok(());
        }
        bearer.may_pass(&self.covering(&all, Some(parent), None)?)?;
        let Some(row) = row else { return Ok(()) };
        bearer.may_pass(&self.covering(&all, Some(row.inode), Some(parent))?)?;
        if row.kind == Kind::Directory {
            for (inode, above) in self.locked_below(&all, row.inode)? {
                bearer.may_pass(&self.covering(&all, Some(inode), above)?)?;
            }
        }
        Ok(())
    }

    /// Puts a lock's row.
    pub(crate) fn put_lock(&mut self, (inode, number): LockKey, row: &LockRow) -> Result<(), StoreError> {
        self.put(Table::Locks, &lock_key(self.vault.id(), inode, number), row)?;
        self.lock_changes.push(((inode, number), Some(HeldLock::from(row))));
        Ok(())
    }

    /// Takes a lock's row away.
    pub(crate) fn drop_lock(&mut self, (inode, number): LockKey) {
        self.delete(Table::Locks, &lock_key(self.vault.id(), inode, number));
        self.lock_changes.push(((inode, number), None));
    }

    /// Ends every lock on an inode: a name of it goes.
    pub(crate) fn drop_locks_on(&mut self, inode: InodeId) -> Result<(), StoreError> {
        let all = self.held_locks()?;
        for (key, _) in all.range((inode, 0)..=(inode, u64::MAX)) {
            self.drop_lock(*key);
        }
        Ok(())
    }

    /// Ends every lock below a directory: it moves away.
    pub(crate) fn drop_locks_below(&mut self, directory: InodeId) -> Result<(), StoreError> {
        let all = self.held_locks()?;
        if !all.is_empty() {
            for (inode, _) in self.locked_below(&all, directory)? {
                self.drop_locks_on(inode)?;
            }
        }
        Ok(())
    }
}

/// Live locks on an inode, and deep ones on what is above it. `above` tells a directory's parent.
pub(crate) fn covering(
    all: &LockMap,
    now: UnixNanos,
    (inode, parent): (Option<InodeId>, Option<InodeId>),
    above: impl Fn(InodeId) -> Result<Option<InodeId>, StoreError>,
) -> Result<Vec<(LockKey, HeldLock)>, StoreError> {
    let mut found = Vec::new();
    let live = |inode: InodeId| {
        let on = all.range((inode, 0)..=(inode, u64::MAX));
        on.filter(move |(_, lock)| lock.is_live(now)).map(|(key, lock)| (*key, *lock))
    };
    let mut at = parent;
    if let Some(inode) = inode {
        found.extend(live(inode));
        if at.is_none() {
            at = above(inode)?;
        }
    }
    while let Some(directory) = at {
        found.extend(live(directory).filter(|(_, lock)| lock.depth == LockDepth::Infinity));
        at = above(directory)?;
    }
    Ok(found)
}

impl Bearer {
    /// Whether all locks that cover one place let this bearer pass: each exclusive one must be his, and one of those that
    /// are shared.
    fn may_pass(&self, covering: &[(LockKey, HeldLock)]) -> Result<(), StoreError> {
        let holds = |lock: &HeldLock| lock.holder == self.holder && self.tokens.contains(&lock.token);
        let shares = covering.iter().any(|(_, lock)| lock.scope == LockScope::Shared && holds(lock));
        let blocking =
            covering.iter().find(|(_, lock)| !holds(lock) && (lock.scope == LockScope::Exclusive || !shares));
        match blocking {
            Some(((inode, _), _)) => Err(StoreError::Locked { inode: *inode }),
            None => Ok(()),
        }
    }
}

/// What a lock is on, and its number, of its key.
fn lock_place(key: &[u8]) -> Option<LockKey> {
    let (inode, number) = key.get(16..)?.split_first_chunk::<8>()?;
    let number = number.try_into().ok()?;
    Some((InodeId(u64::from_be_bytes(*inode)), u64::from_be_bytes(number)))
}
