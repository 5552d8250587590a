//! Locks on files and directories (RFC 4918 sections 6 and 7): who alone may change something for a time.
//!
//! A lock is on an inode, so whatever way leads there meets it. It is a row of `Table::Locks`, sealed with the vault's key,
//! durable when its ticket says so. It ends at its instant, when it is given back or broken, and in the transaction that
//! takes a name of its inode away or moves it (or a directory above it): a lock never goes along.
//!
//! Who changes something through a vault that is [borne by](Vault::borne_by) him must hold the locks that cover it
//! (`change/locks`).

use std::sync::Arc;

pub use super::bearer::{Bearer, LockToken, Rest};
use super::change::Change;
use super::held::{HeldLock, HeldLocks, LockKey, LockMap};
use super::{AttributeChange, Kind, Vault};
use crate::audit::{Action, RecordDraft};
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::InodeId;
use crate::index::Table;
use crate::limits::{LOCK_OWNER_BYTES_MAX, LOCKS_MAX, LOCKS_OF_HOLDER_MAX, LOCKS_OF_VAULT_MAX};
pub use crate::rows::{LockDepth, LockScope};
use crate::rows::{LockRow, decode, lock_key};
use crate::time::UnixNanos;

/// What is to be locked.
#[derive(Clone, Copy, Debug)]
pub enum LockTarget<'n> {
    /// A directory that is a root.
    Root(InodeId),
    /// What a name leads to.
    Name(InodeId, &'n [u8]),
    /// A free name: it becomes an empty file.
    Free(InodeId, &'n [u8]),
}

/// A lock that is asked for.
#[derive(Clone, Debug)]
pub struct LockDraft {
    /// Fresh randomness.
    pub token: LockToken,
    /// Whose.
    pub holder: [u8; 16],
    /// Exclusive or shared.
    pub scope: LockScope,
    /// How far down; of a file it is always [`LockDepth::Zero`].
    pub depth: LockDepth,
    /// When it ends.
    pub expires: UnixNanos,
    /// Names from the root of the vault, for people.
    pub path: Vec<Vec<u8>>,
    /// What the client says of its owner.
    pub owner: String,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRecord {
    /// Number from the store's sequence.
    pub number: u64,
    /// What it is on.
    pub inode: InodeId,
    /// Its token.
    pub token: LockToken,
    /// Whose.
    pub holder: [u8; 16],
    /// Exclusive or shared.
    pub scope: LockScope,
    /// How far down.
    pub depth: LockDepth,
    /// When it ends.
    pub expires: UnixNanos,
    /// The directory of the name through which it was taken.
    pub parent: Option<InodeId>,
    /// Names from the root of the vault.
    pub path: Vec<Vec<u8>>,
    /// What the client said of its owner.
    pub owner: String,
}

impl LockRecord {
    fn of((inode, number): LockKey, row: LockRow) -> Self {
        Self {
            number,
            inode,
            token: LockToken(row.token),
            holder: row.holder,
            scope: row.scope,
            depth: row.depth,
            expires: row.expires,
            parent: row.parent,
            path: row.path.into_iter().map(Into::into).collect(),
            owner: row.owner,
        }
    }
}

impl Change<'_> {
    fn lock_row(&self, (inode, number): LockKey) -> Result<LockRow, StoreError> {
        self.get(Table::Locks, &lock_key(self.vault.id(), inode, number))?.ok_or(StoreError::LockUnknown)
    }

    /// The live lock of a token that covers an inode.
    fn lock_covering(
        &self,
        place: (InodeId, Option<InodeId>),
        token: LockToken,
    ) -> Result<(LockKey, HeldLock), StoreError> {
        let covering = self.covering(&*self.held_locks()?, Some(place.0), place.1)?;
        covering.into_iter().find(|(_, lock)| lock.token == token).ok_or(StoreError::LockUnknown)
    }

    fn may_lock(
        &self,
        draft: &LockDraft,
        (inode, parent): (InodeId, Option<InodeId>),
    ) -> Result<(), StoreError> {
        let all = self.held_locks()?;
        let conflict = |locks: &[(LockKey, HeldLock)]| {
            let beside =
                |lock: &HeldLock| draft.scope == LockScope::Shared && lock.scope == LockScope::Shared;
            match locks.iter().find(|(_, lock)| !beside(lock)) {
                Some(((inode, _), _)) => Err(StoreError::LockConflict { inode: *inode }),
                None => Ok(()),
            }
        };
        conflict(&self.covering(&all, Some(inode), parent)?)?;
        if draft.depth == LockDepth::Infinity {
            for (below, above) in self.locked_below(&all, inode)? {
                conflict(&self.covering(&all, Some(below), above)?)?;
            }
        }
        let now = self.txn.time();
        let own = all.values().filter(|lock| lock.holder == draft.holder && lock.is_live(now)).count();
        let live = all.values().filter(|lock| lock.is_live(now)).count();
        if own >= LOCKS_OF_HOLDER_MAX
            || live >= LOCKS_OF_VAULT_MAX
            || self.vault.held_locks().total() >= LOCKS_MAX
        {
            return Err(StoreError::TooManyLocks);
        }
        Ok(())
    }

    /// Takes away the rows of locks that have ended.
    fn sweep_locks(&mut self) -> Result<usize, StoreError> {
        let (all, now) = (self.held_locks()?, self.txn.time());
        let ended: Vec<LockKey> =
            all.iter().filter(|(_, lock)| !lock.is_live(now)).map(|(key, _)| *key).collect();
        ended.iter().for_each(|key| self.drop_lock(*key));
        Ok(ended.len())
    }
}

impl Vault {
    /// The same vault in somebody's hands: what is changed through it must be allowed by the locks that cover it.
    #[must_use]
    pub fn borne_by(&self, bearer: Arc<Bearer>) -> Self {
        Self { inner: Arc::clone(&self.inner), bearer: Some(bearer), within: None }
    }

    /// The same vault, of which an inode is changed that was reached through this directory.
    #[must_use]
    pub fn within(&self, directory: InodeId) -> Self {
        Self { within: Some(directory), ..self.clone() }
    }

    pub(crate) fn bearer(&self) -> Option<&Bearer> {
        self.bearer.as_deref()
    }

    pub(crate) fn held_locks(&self) -> &HeldLocks {
        &self.inner.locks
    }

    /// What is known of the locks, read under the writer lock the first time.
    fn known_locks(&self) -> Result<Arc<LockMap>, StoreError> {
        match self.held_locks().known() {
            Some(known) => Ok(known),
            None => Change::begin(self)?.held_locks(),
        }
    }

    /// Locks something, and makes the empty file where the name was free, in one transaction. Tells whether it did.
    ///
    /// # Errors
    /// `LockConflict`; `Locked` where a new name may not come; `TooManyLocks`; `TooLarge`; `NotFound`; `Exists` when the
    /// name is not free any more; the errors of [`Vault::create_file`].
    pub fn lock(
        &self,
        target: LockTarget<'_>,
        draft: LockDraft,
        mut audit: RecordDraft,
    ) -> Result<Pending<LockRecord>, StoreError> {
        if draft.owner.len() > LOCK_OWNER_BYTES_MAX {
            return Err(StoreError::TooLarge("the owner of a lock"));
        }
        let mut change = Change::begin(self)?;
        let (inode, parent) = match target {
            LockTarget::Root(inode) => (inode, change.inode(inode)?.parent),
            LockTarget::Name(parent, name) => {
                (change.dentry(parent, name)?.ok_or(StoreError::NotFound)?.inode, Some(parent))
            }
            LockTarget::Free(parent, name) => {
                change.may_name(parent, None)?;
                let made =
                    change.create(parent, name, Kind::File, &AttributeChange::default(), None, None)?;
                let record = RecordDraft { action: Action::FileCreate, object: Some(made), ..audit.clone() };
                change.txn.audit(record, Some(self.audit_key()));
                (made, Some(parent))
            }
        };
        let is_directory = change.inode(inode)?.kind == Kind::Directory;
        let depth = if is_directory { draft.depth } else { LockDepth::Zero };
        let draft = LockDraft { depth, ..draft };
        change.may_lock(&draft, (inode, parent))?;
        change.sweep_locks()?;
        let key = (inode, change.txn.next_number());
        let row = LockRow {
            token: draft.token.0,
            holder: draft.holder,
            scope: draft.scope,
            depth,
            expires: draft.expires,
            parent,
            path: draft.path.into_iter().map(Into::into).collect(),
            owner: draft.owner,
        };
        change.put_lock(key, &row)?;
        audit.object = Some(inode);
        Ok(Pending { value: LockRecord::of(key, row), ticket: change.submit(audit)? })
    }

    /// Gives the holder's lock that covers an inode more time.
    ///
    /// # Errors
    /// `LockUnknown`, `LockOfAnother`.
    pub fn refresh_lock(
        &self,
        place: (InodeId, Option<InodeId>),
        (token, holder): (LockToken, [u8; 16]),
        expires: UnixNanos,
        mut audit: RecordDraft,
    ) -> Result<Pending<LockRecord>, StoreError> {
        let mut change = Change::begin(self)?;
        let (key, lock) = change.lock_covering(place, token)?;
        if lock.holder != holder {
            return Err(StoreError::LockOfAnother);
        }
        let row = LockRow { expires, ..change.lock_row(key)? };
        change.put_lock(key, &row)?;
        audit.object = Some(key.0);
        Ok(Pending { value: LockRecord::of(key, row), ticket: change.submit(audit)? })
    }

    /// Gives the holder's lock that covers an inode back.
    ///
    /// # Errors
    /// `LockUnknown`, `LockOfAnother`.
    pub fn unlock(
        &self,
        place: (InodeId, Option<InodeId>),
        (token, holder): (LockToken, [u8; 16]),
        mut audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        let mut change = Change::begin(self)?;
        let (key, lock) = change.lock_covering(place, token)?;
        if lock.holder != holder {
            return Err(StoreError::LockOfAnother);
        }
        change.drop_lock(key);
        audit.object = Some(key.0);
        Ok(Pending { value: (), ticket: change.submit(audit)? })
    }

    /// Ends a lock, whoever holds it.
    ///
    /// # Errors
    /// `LockUnknown`.
    pub fn break_lock(&self, number: u64, mut audit: RecordDraft) -> Result<Pending<LockRecord>, StoreError> {
        let mut change = Change::begin(self)?;
        let all = change.held_locks()?;
        let key = *all.keys().find(|(_, known)| *known == number).ok_or(StoreError::LockUnknown)?;
        let row = change.lock_row(key)?;
        change.drop_lock(key);
        audit.object = Some(key.0);
        Ok(Pending { value: LockRecord::of(key, row), ticket: change.submit(audit)? })
    }

    /// Removes what locks that ended left in the index. Returns how many.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn sweep_locks(&self) -> Result<usize, StoreError> {
        if self.held_locks().known().is_some_and(|known| known.is_empty()) {
            return Ok(0);
        }
        let mut change = Change::begin(self)?;
        let swept = change.sweep_locks()?;
        if swept > 0 {
            drop(change.submit_silently()?);
        }
        Ok(swept)
    }

    /// All live locks, oldest first.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn locks(&self) -> Result<Vec<LockRecord>, StoreError> {
        let now = self.store().clock_now();
        let live = self.known_locks()?;
        let mut found = self.lock_records(live.iter().filter(|(_, lock)| lock.is_live(now)))?;
        found.sort_by_key(|lock| lock.number);
        Ok(found)
    }

    /// Live locks that cover an inode: its own first, then deep ones of directories above it. `parent` is the directory of
    /// the name by which it is looked at.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn locks_over(&self, inode: InodeId, parent: Option<InodeId>) -> Result<Vec<LockRecord>, StoreError> {
        let all = self.known_locks()?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.store().clock_now();
        let above = |directory| Ok(self.row(directory)?.parent);
        let found = super::change::locks::covering(&all, now, (Some(inode), parent), above)?;
        self.lock_records(found.iter().map(|(key, lock)| (key, lock)))
    }

    /// Live locks on what has its name in a directory.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn locks_in(&self, directory: InodeId) -> Result<Vec<LockRecord>, StoreError> {
        let (all, now) = (self.known_locks()?, self.store().clock_now());
        let inside = all.iter().filter(|(_, lock)| lock.is_live(now) && lock.parent == Some(directory));
        self.lock_records(inside)
    }

    fn lock_records<'l>(
        &self,
        locks: impl Iterator<Item = (&'l LockKey, &'l HeldLock)>,
    ) -> Result<Vec<LockRecord>, StoreError> {
        let mut found = Vec::new();
        for (key, _) in locks {
            let at = lock_key(self.id(), key.0, key.1);
            // Given back meanwhile, if it is absent.
            if let Some(row) = self.store().get(&self.keys().records, Table::Locks, &at)? {
                found.push(LockRecord::of(*key, decode(&row)?));
            }
        }
        Ok(found)
    }

    /// Whether a change could be refused because of a lock, or of what the bearer rests on.
    fn may_refuse(&self) -> Result<bool, StoreError> {
        match self.bearer() {
            None => Ok(false),
            Some(bearer) => Ok(!self.known_locks()?.is_empty() || !bearer.rests().is_empty()),
        }
    }

    /// Tells early whether the bearer may change what is there (or put a file where nothing is); asked again when he does.
    ///
    /// # Errors
    /// `Locked`, `Changed`; the store's own errors.
    pub fn may_change(&self, existing: Option<InodeId>, parent: Option<InodeId>) -> Result<(), StoreError> {
        if !self.may_refuse()? {
            return Ok(());
        }
        let change = Change::begin(self)?;
        match (existing, parent) {
            (Some(inode), _) => change.may_change(inode, parent),
            (None, Some(parent)) => change.may_name(parent, None),
            (None, None) => Ok(()),
        }
    }

    /// Tells early whether the bearer may give, take or replace a name; asked again when he does.
    ///
    /// # Errors
    /// `Locked`, `Changed`; the store's own errors.
    pub fn may_name(&self, parent: InodeId, name: &[u8]) -> Result<(), StoreError> {
        if !self.may_refuse()? {
            return Ok(());
        }
        let change = Change::begin(self)?;
        change.may_name(parent, change.dentry(parent, name)?.as_ref())
    }
}
