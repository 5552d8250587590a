//! A vault as it was at a moment: the live rows that had begun by then, and the superseded ones that had not yet ended.
//!
//! A row of history has the commits of its end and its beginning in its key, and their times in its sealed value. Times
//! of transactions increase with their numbers, so each row that is opened narrows down which commits lie before the
//! moment and which behind it; soon rows are told apart by their keys alone.
//!
//! Live rows are read before history: what moves from one to the other meanwhile is seen twice, never missed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use super::upload::OpenFile;
use super::{Attributes, Cursor, DescribedEntry, Entry, Kind, Properties, Vault};
use crate::commit::Store;
use crate::error::StoreError;
use crate::id::{CommitNumber, InodeId, VaultId};
use crate::index::Table;
use crate::limits::{HISTORY_PIECE, NAME_BYTES_MAX, VIEWS_MAX};
use crate::rows::{
    DENTRY_KEY_BYTES, DentryRow, InodeRow, Moment, PastRow, PastSpan, VaultRow, after_prefix, decode,
    dentry_key, inode_key, past_key,
};
use crate::time::UnixNanos;

/// A moment, and which commits are known to lie on which side of it.
#[derive(Debug)]
pub(crate) struct View {
    time: UnixNanos,
    /// The newest commit known to be at the moment or before it.
    before: AtomicU64,
    /// The newest commit that may be.
    newest: AtomicU64,
}

impl View {
    /// A moment of which nothing is known yet.
    pub(crate) fn of(time: UnixNanos, store: &Store) -> Self {
        // In this order: a commit that comes between is newer than `newest`, and has not the time of the past.
        let newest = store.last_commit();
        let before = if store.last_time() <= time { newest.0 } else { 0 };
        Self { time, before: before.into(), newest: newest.0.into() }
    }

    pub(crate) fn time(&self) -> UnixNanos {
        self.time
    }

    /// Whether a commit is known to come after the moment.
    pub(crate) fn is_behind(&self, commit: CommitNumber) -> bool {
        commit.0 > self.bounds().1
    }

    /// Whether a transaction was at the moment or before; learns from it.
    pub(crate) fn is_past(&self, moment: Moment) -> bool {
        let past = moment.time <= self.time;
        if past {
            self.before.fetch_max(moment.commit.0, Ordering::Relaxed);
        } else {
            self.newest.fetch_min(moment.commit.0.saturating_sub(1), Ordering::Relaxed);
        }
        past
    }

    fn bounds(&self) -> (u64, u64) {
        let before = self.before.load(Ordering::Relaxed);
        (before, self.newest.load(Ordering::Relaxed).max(before))
    }

    /// Whether a key alone says that its row is not of this moment.
    fn excludes(&self, span: PastSpan) -> bool {
        let (before, newest) = self.bounds();
        span.end.0 <= before || span.begin.is_some_and(|begin| begin.0 > newest)
    }

    /// Whether a state was there at the moment.
    fn shows(&self, begin: Moment, end: Moment) -> bool {
        self.is_past(begin) && !self.is_past(end)
    }
}

/// An open vault at a moment. Read-only. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PastVault {
    vault: Vault,
    view: Arc<View>,
}

impl VaultRow {
    /// The oldest moment that is whole: what ended before it may have been pruned.
    pub(crate) fn whole_since(&self, now: UnixNanos) -> UnixNanos {
        let pruned = self.pruned.unwrap_or(self.created).max(self.created);
        if self.holds.as_ref().is_some_and(|holds| !holds.is_empty()) {
            return pruned;
        }
        self.window_start(now).max(pruned)
    }

    /// Seconds that superseded states are kept at `now`.
    pub(crate) fn effective_retention_secs(&self, now: UnixNanos) -> u64 {
        match self.shortening {
            Some(shorter) if shorter.at <= now => shorter.retention_secs,
            Some(_) | None => self.retention_secs,
        }
    }

    /// Where the window of retention begins at `now`.
    pub(crate) fn window_start(&self, now: UnixNanos) -> UnixNanos {
        let kept = i64::try_from(self.effective_retention_secs(now)).unwrap_or(i64::MAX);
        UnixNanos(now.0.saturating_sub(kept.saturating_mul(1_000_000_000)))
    }
}

impl Vault {
    pub(crate) fn vault_row(&self) -> Result<VaultRow, StoreError> {
        let found = self.store().get(self.store().system_key(), Table::Vaults, &self.id().0)?;
        decode(&found.ok_or(StoreError::VaultUnavailable(self.id()))?)
    }

    /// The oldest moment that can be looked at without a named snapshot.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn shown_since(&self) -> Result<UnixNanos, StoreError> {
        Ok(self.vault_row()?.whole_since(self.store().clock_now()))
    }

    /// The vault as it was at `time`.
    ///
    /// # Errors
    /// `NotFound` for a moment that has not come, lies before the vault was made, or is older than what is kept (unless a
    /// named snapshot keeps it).
    pub fn at(&self, time: UnixNanos) -> Result<PastVault, StoreError> {
        let row = self.vault_row()?;
        let now = self.store().clock_now();
        let whole = time >= row.whole_since(now);
        if time < row.created || time > now.max(self.store().last_time()) {
            return Err(StoreError::NotFound);
        }
        if !whole && !self.snapshots()?.iter().any(|snapshot| snapshot.time == time) {
            return Err(StoreError::NotFound);
        }
        Ok(PastVault { vault: self.clone(), view: self.view(time) })
    }

    /// The view of a moment, with what was learnt about it lately.
    fn view(&self, time: UnixNanos) -> Arc<View> {
        let mut views = self.lock_views();
        if let Some(at) = views.iter().position(|view| view.time == time) {
            let view = views.remove(at);
            views.push(Arc::clone(&view));
            return view;
        }
        let view = Arc::new(View::of(time, self.store()));
        if views.len() >= VIEWS_MAX {
            views.remove(0);
        }
        views.push(Arc::clone(&view));
        view
    }
}

impl PastVault {
    /// Which vault.
    pub fn id(&self) -> VaultId {
        self.vault.id()
    }

    /// The vault in the present.
    pub fn present(&self) -> &Vault {
        &self.vault
    }

    /// The moment.
    pub fn time(&self) -> UnixNanos {
        self.view.time
    }

    /// Keeps all that the moment shows as long as the guard lives, if it is still shown. Before a transaction, not in one.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn calm(&self) -> Result<RwLockReadGuard<'_, ()>, StoreError> {
        let calm = self.vault.inner.pruning.read().unwrap_or_else(PoisonError::into_inner);
        self.vault.at(self.view.time)?;
        Ok(calm)
    }

    fn open_past<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        table: Table,
        at: &[u8],
        sealed: &[u8],
    ) -> Result<PastRow<T>, StoreError> {
        decode(&self.vault.keys().records.open(table, at, sealed).ok_or(StoreError::DamagedRecord)?)
    }

    /// The superseded state under a live key that ended first after the moment.
    fn superseded<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        table: Table,
        live: &[u8],
    ) -> Result<Option<PastRow<T>>, StoreError> {
        let to = after_prefix(live);
        let first_from = |end: u64| -> Result<Option<(PastSpan, PastRow<T>)>, StoreError> {
            let from = past_key(live, CommitNumber(end), CommitNumber(0));
            // Format 1 keys are shorter, and come before any of the same end.
            let found = self.vault.store().sealed_range(table, &from[..from.len() - 8], &to, 1)?;
            let Some((at, sealed)) = found.into_iter().next() else { return Ok(None) };
            let span = PastSpan::of(&at, live.len()).ok_or(StoreError::DamagedRecord)?;
            Ok(Some((span, self.open_past(table, &at, &sealed)?)))
        };
        let (mut low, newest) = self.view.bounds();
        // Most have few states: the first one that may be it mostly is.
        match first_from(low + 1)? {
            None => return Ok(None),
            Some((_, row)) if !self.view.is_past(row.end) => return Ok(Some(row)),
            Some((span, _)) => low = low.max(span.end.0),
        }
        // What ended at `low` or before is past; what ended at `high` or later is not.
        let mut high = newest + 1;
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match first_from(middle)? {
                Some((span, row)) if self.view.is_past(row.end) => low = span.end.0,
                Some(_) | None => high = middle,
            }
        }
        Ok(first_from(low + 1)?.map(|(_, row)| row).filter(|row| !self.view.is_past(row.end)))
    }

    pub(crate) fn row(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        match self.vault.row(inode) {
            Ok(row) if self.view.is_past(row.begin) => return Ok(row),
            Ok(_) | Err(StoreError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let live = inode_key(self.id(), inode);
        let past: Option<PastRow<InodeRow>> = self.superseded(Table::InodeHistory, &live)?;
        past.filter(|past| self.view.shows(past.row.begin, past.end))
            .map(|past| past.row)
            .ok_or(StoreError::NotFound)
    }

    pub(crate) fn shown(&self, inode: InodeId, row: &InodeRow) -> Result<Attributes, StoreError> {
        let mut attributes = row.attributes(inode);
        if row.kind == Kind::Directory && row.touched.is_some_and(|touched| touched > self.view.time) {
            let touched = self.touched_by(inode, row)?;
            attributes.mtime = touched.unwrap_or(row.mtime);
            attributes.ctime = touched.unwrap_or(row.ctime).max(row.ctime);
        }
        Ok(attributes)
    }

    /// When a name last came to a directory or left it, since the directory's state began and until the moment.
    fn touched_by(&self, directory: InodeId, row: &InodeRow) -> Result<Option<UnixNanos>, StoreError> {
        let (begin, until) = (row.begin.time, self.view.time);
        let mut last = row.folded.filter(|folded| *folded > begin && *folded <= until);
        let mut see = |time: UnixNanos| {
            if time > begin && time <= until {
                last = last.max(Some(time));
            }
        };
        let prefix = inode_key(self.id(), directory);
        let to = after_prefix(&prefix);
        let mut from = prefix.clone();
        loop {
            let piece = self.vault.store().sealed_range(Table::Dentries, &from, &to, HISTORY_PIECE)?;
            for (at, sealed) in &piece {
                let row: DentryRow = decode(
                    &self
                        .vault
                        .keys()
                        .records
                        .open(Table::Dentries, at, sealed)
                        .ok_or(StoreError::DamagedRecord)?,
                )?;
                see(row.begin.time);
            }
            match piece.last() {
                Some((at, _)) if piece.len() == HISTORY_PIECE => from = [&at[..], &[0]].concat(),
                _ => break,
            }
        }
        let mut from = prefix;
        loop {
            let piece = self.vault.store().sealed_range(Table::DentryHistory, &from, &to, HISTORY_PIECE)?;
            for (at, sealed) in &piece {
                let past: PastRow<DentryRow> = self.open_past(Table::DentryHistory, at, sealed)?;
                see(past.row.begin.time);
                see(past.end.time);
            }
            match piece.last() {
                Some((at, _)) if piece.len() == HISTORY_PIECE => from = [&at[..], &[0]].concat(),
                _ => return Ok(last),
            }
        }
    }

    /// As [`Vault::attributes`].
    ///
    /// # Errors
    /// `NotFound`.
    pub fn attributes(&self, inode: InodeId) -> Result<Attributes, StoreError> {
        self.shown(inode, &self.row(inode)?)
    }

    /// What a name led to.
    pub(crate) fn dentry(&self, parent: InodeId, name: &[u8]) -> Result<Option<DentryRow>, StoreError> {
        let keys = self.vault.keys();
        let live = dentry_key(self.id(), parent, keys.name_mac(parent, name));
        if let Some(bytes) = self.vault.store().get(&keys.records, Table::Dentries, &live)? {
            let row: DentryRow = decode(&bytes)?;
            if self.view.is_past(row.begin) {
                return Ok(Some(row));
            }
        }
        let past: Option<PastRow<DentryRow>> = self.superseded(Table::DentryHistory, &live)?;
        Ok(past.filter(|past| self.view.shows(past.row.begin, past.end)).map(|past| past.row))
    }

    /// As [`Vault::lookup`].
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(StoreError::InvalidName);
        }
        match self.dentry(parent, name)? {
            Some(found) => self.attributes(found.inode),
            None => match self.row(parent)?.kind {
                Kind::Directory => Err(StoreError::NotFound),
                Kind::File | Kind::SymbolicLink => Err(StoreError::NotADirectory),
            },
        }
    }

    /// As [`Vault::list`].
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        self.listed(directory, (cursor, max), |entry, _| entry)
    }

    /// As [`Vault::list_described`].
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list_described(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<DescribedEntry>, Option<Cursor>), StoreError> {
        self.listed(directory, (cursor, max), |entry, row| (entry, row.into_properties()))
    }

    fn listed<T>(
        &self,
        directory: InodeId,
        (cursor, max): (Option<Cursor>, usize),
        describe: impl Fn(Entry, InodeRow) -> T,
    ) -> Result<(Vec<T>, Option<Cursor>), StoreError> {
        if self.row(directory)?.kind != Kind::Directory {
            return Err(StoreError::NotADirectory);
        }
        let (names, next) = self.names(directory, cursor, max)?;
        let keys: Vec<_> = names.iter().map(|row| inode_key(self.id(), row.inode)).collect();
        let live = self.vault.store().get_many(&self.vault.keys().records, Table::Inodes, &keys)?;
        let mut entries = Vec::with_capacity(names.len());
        for (name, live) in names.into_iter().zip(live) {
            let live: Option<InodeRow> = live.map(|bytes| decode(&bytes)).transpose()?;
            let row = match live.filter(|row| self.view.is_past(row.begin)) {
                Some(row) => row,
                None => self.row(name.inode)?,
            };
            let attributes = self.shown(name.inode, &row)?;
            entries.push(describe(Entry { name: name.name.into(), attributes }, row));
        }
        Ok((entries, next))
    }

    /// Up to `max` names after `cursor`, in the order of their keys.
    pub(crate) fn names(
        &self,
        directory: InodeId,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<DentryRow>, Option<Cursor>), StoreError> {
        let prefix = inode_key(self.id(), directory);
        let end = after_prefix(&prefix);
        let from = match cursor {
            // Behind every state of that name.
            Some(Cursor(last)) => after_prefix(&[&prefix[..], &last].concat()),
            None => prefix,
        };
        let records = &self.vault.keys().records;
        let live = self.vault.store().range(records, Table::Dentries, &from, &end, max)?;
        // Names behind the last live one of a full piece belong to the next.
        let mut through = match live.last() {
            Some((at, _)) if live.len() == max => Some(at.clone()),
            _ => None,
        };
        let mut found = BTreeMap::new();
        for (at, bytes) in live {
            let row: DentryRow = decode(&bytes)?;
            if self.view.is_past(row.begin) {
                found.insert(at, row);
            }
        }
        let to = through.as_deref().map_or(end, after_prefix);
        if let Some(stopped) = self.superseded_names((&from, &to), max, &mut found)? {
            found = found.into_iter().take_while(|(at, _)| *at <= stopped).collect();
            through = Some(stopped);
        }
        if found.len() > max {
            through = found.keys().nth(max - 1).cloned();
        }
        let next = through
            .map(|at| at.last_chunk().copied().map(Cursor).ok_or(StoreError::DamagedRecord))
            .transpose()?;
        Ok((found.into_values().take(max).collect(), next))
    }

    /// Adds the names of history that were there. Stops when it has added `max`: at the key returned.
    fn superseded_names(
        &self,
        (from, to): (&[u8], &[u8]),
        max: usize,
        found: &mut BTreeMap<Vec<u8>, DentryRow>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut from, mut added) = (from.to_vec(), 0);
        let mut current: Vec<u8> = Vec::new();
        loop {
            let piece = self.vault.store().sealed_range(Table::DentryHistory, &from, to, HISTORY_PIECE)?;
            for (at, sealed) in &piece {
                let live = at.get(..DENTRY_KEY_BYTES).ok_or(StoreError::DamagedRecord)?;
                if live != current {
                    if added >= max {
                        return Ok(Some(current));
                    }
                    current = live.to_vec();
                }
                let span = PastSpan::of(at, DENTRY_KEY_BYTES).ok_or(StoreError::DamagedRecord)?;
                if self.view.excludes(span) {
                    continue;
                }
                let past: PastRow<DentryRow> = self.open_past(Table::DentryHistory, at, sealed)?;
                if self.view.shows(past.row.begin, past.end) {
                    // What moved to history between the two looks is there already.
                    added += usize::from(found.insert(live.to_vec(), past.row).is_none());
                }
            }
            match piece.last() {
                Some((at, _)) if piece.len() == HISTORY_PIECE => from = [&at[..], &[0]].concat(),
                _ => return Ok(None),
            }
        }
    }

    /// As [`Vault::read_link`].
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> {
        self.row(inode)?.target.map(Into::into).ok_or(StoreError::WrongKind)
    }

    /// As [`Vault::properties`].
    ///
    /// # Errors
    /// `NotFound`.
    pub fn properties(&self, inode: InodeId) -> Result<Properties, StoreError> {
        Ok(self.row(inode)?.into_properties())
    }

    /// Opens a file for reading. What it reads is kept for as long as the handle lives.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `WrongKind`.
    pub fn open(&self, inode: InodeId) -> Result<OpenFile, StoreError> {
        self.vault.open_as(inode, || self.row(inode))
    }
}
