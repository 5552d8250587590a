//! The locks of one vault as they are in memory: a mirror of its rows of `Table::Locks`, without what only people read.
//!
//! The table is the truth. The mirror is filled and changed under the store's writer lock only: filled before a transaction
//! changed anything, changed when one was submitted and before the next begins. So whoever holds the writer lock sees in it
//! exactly what was submitted, and a vault without locks answers from memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bearer::LockToken;
use crate::id::InodeId;
use crate::rows::{LockDepth, LockRow, LockScope};
use crate::time::UnixNanos;

/// What a lock is on, and its number.
pub(crate) type LockKey = (InodeId, u64);
/// All locks of a vault, ended ones that nobody has swept away among them.
pub(crate) type LockMap = BTreeMap<LockKey, HeldLock>;

/// What decides about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldLock {
    pub(crate) token: LockToken,
    pub(crate) holder: [u8; 16],
    pub(crate) scope: LockScope,
    pub(crate) depth: LockDepth,
    pub(crate) expires: UnixNanos,
    pub(crate) parent: Option<InodeId>,
}

impl HeldLock {
    /// A lock is over at its instant.
    pub(crate) fn is_live(&self, now: UnixNanos) -> bool {
        now < self.expires
    }
}

impl From<&LockRow> for HeldLock {
    fn from(row: &LockRow) -> Self {
        Self {
            token: LockToken(row.token),
            holder: row.holder,
            scope: row.scope,
            depth: row.depth,
            expires: row.expires,
            parent: row.parent,
        }
    }
}

/// The mirror.
#[derive(Debug)]
pub(crate) struct HeldLocks {
    known: Mutex<Option<Arc<LockMap>>>,
    /// Locks of all vaults.
    total: Arc<AtomicU64>,
}

impl HeldLocks {
    pub(crate) fn new(total: Arc<AtomicU64>) -> Self {
        Self { known: Mutex::default(), total }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<LockMap>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them; nothing before it was filled.
    pub(crate) fn known(&self) -> Option<Arc<LockMap>> {
        self.lock().clone()
    }

    /// Locks of all vaults whose locks are in memory.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Takes what the table holds. Only under the writer lock.
    pub(crate) fn fill(&self, all: LockMap) -> Arc<LockMap> {
        let mut known = self.lock();
        let before = known.as_ref().map_or(0, |known| known.len());
        self.count(before, all.len());
        Arc::clone(known.insert(Arc::new(all)))
    }

    /// Takes what a transaction changed. Only under the writer lock, when it was submitted.
    pub(crate) fn apply(&self, changes: &[(LockKey, Option<HeldLock>)]) {
        let mut known = self.lock();
        if let Some(known) = known.as_mut() {
            let map = Arc::make_mut(known);
            let before = map.len();
            for (key, lock) in changes {
                match lock {
                    Some(lock) => drop(map.insert(*key, *lock)),
                    None => drop(map.remove(key)),
                }
            }
            self.count(before, map.len());
        }
    }

    /// The table was changed in another way: it is read again. A transaction that still looks at the old mirror ends first.
    pub(crate) fn forget(&self) {
        let gone = self.lock().take().map_or(0, |known| known.len());
        self.count(gone, 0);
    }

    fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.total.fetch_add((after - before) as u64, Ordering::Relaxed);
        } else {
            self.total.fetch_sub((before - after) as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for HeldLocks {
    fn drop(&mut self) {
        self.forget();
    }
}
