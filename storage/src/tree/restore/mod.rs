//! Puts a state of the past back, without reading any content: names, attributes and properties are written anew, and
//! content is shared with history.
//!
//! Past and present are walked side by side, twice: `bring` gives every name of the past what it led to, `settle` then
//! removes the names that were not there and sets the attributes of directories, the deepest first. What is equal is left
//! alone. An inode that still lives below the restored path gets its state back; one that is gone gets a new number, the
//! same for all its names.
//!
//! The work is done in transactions of a bounded size ([`step`]), each of which leaves a consistent tree, and none of which
//! takes anything away for good: what was there before goes to history. Interrupted, it is run again.

mod bring;
mod settle;
mod step;

use std::collections::{HashMap, HashSet};

use super::{Kind, PastVault, Vault};
use crate::allowance::Amounts;
use crate::audit::{Action, DetailKey, RecordDraft};
use crate::error::StoreError;
use crate::id::InodeId;
use crate::index::Table;
use crate::limits::RESTORE_NAMES_PIECE;
use crate::rows::{DentryRow, InodeRow, after_prefix, decode, dentry_key, inode_key};
use crate::time::UnixNanos;
use step::Steps;

/// What a restore did. Names are counted, files and links and directories alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Brought back, or given their earlier content or attributes.
    pub restored: u64,
    /// Not there then: now in history.
    pub removed: u64,
    /// Equal already.
    pub unchanged: u64,
    /// Bytes of the contents that were put back.
    pub bytes: u64,
}

/// Tells how far it is: bytes of files that were looked at, and in all.
type Progress<'p> = dyn FnMut(u64, u64) + 'p;

/// A name of the past with what it led to.
struct Then {
    name: Vec<u8>,
    inode: InodeId,
    row: InodeRow,
    /// As it was shown: a directory's own row does not tell.
    mtime: UnixNanos,
}

impl Then {
    /// Whether an inode has this state, but for its names.
    fn is_state_of(&self, now: &InodeRow) -> bool {
        let then = &self.row;
        let target = now.kind == then.kind && now.target == then.target;
        let owner = (now.mode, now.uid, now.gid) == (then.mode, then.uid, then.gid);
        let times = now.atime == then.atime && now.touched.unwrap_or(now.mtime) == self.mtime;
        let rest = now.incomplete == then.incomplete && now.properties == then.properties;
        target && owner && times && rest && self.has_content_of(now)
    }

    fn has_content_of(&self, now: &InodeRow) -> bool {
        let (then, now) = (&self.row.content, &now.content);
        self.row.kind != Kind::File
            || then.id == now.id
            || (then.size == now.size
                && (then.body == now.body || (then.blake3.is_some() && then.blake3 == now.blake3)))
    }

    /// Puts the state into the successor of a row, except its content.
    fn give_attributes(&self, new: &mut InodeRow) {
        let then = &self.row;
        (new.mode, new.uid, new.gid) = (then.mode, then.uid, then.gid);
        (new.atime, new.mtime) = (then.atime, self.mtime);
        new.incomplete = then.incomplete;
        new.properties.clone_from(&then.properties);
    }
}

/// A directory of the past, the one that it becomes, and its path.
struct Level {
    then: InodeId,
    now: InodeId,
    path: Vec<Vec<u8>>,
}

/// A restore under way.
struct Restore<'r> {
    past: &'r PastVault,
    vault: &'r Vault,
    steps: Steps<'r>,
    /// Inodes that live below the restored path: these may be given back their state.
    alive: HashSet<InodeId>,
    /// Inodes of the past that became another.
    made: HashMap<InodeId, InodeId>,
    /// Inodes that became one of the past's.
    claimed: HashSet<InodeId>,
    /// Directories that were counted as restored.
    noted: HashSet<InodeId>,
    report: RestoreReport,
    done: u64,
    total: u64,
}

impl PastVault {
    /// Puts what was at `path` (names from the vault's root, no link is followed) back there or, with `to`, under another
    /// path, which must be free. Ends when all of it is durable. Open files show what was brought back, unless they hold
    /// unsaved writes.
    ///
    /// `progress` hears bytes of files that were looked at, and in all. `audit` is the beginning of each of its records: one at the begin, one at the end, one for each name that changes.
    ///
    /// # Errors
    /// `NotFound` when there was nothing at `path`, or the moment is not kept any more; `NotADirectory`; `Exists` for `to`;
    /// `QuotaExceeded` when what it would add is over the limit: nothing changed. Others: what was done until then stays,
    /// and another run goes on with the rest.
    pub fn restore(
        &self,
        path: &[Vec<u8>],
        to: Option<&[Vec<u8>]>,
        audit: &RecordDraft,
        progress: &mut (dyn FnMut(u64, u64) + '_),
    ) -> Result<RestoreReport, StoreError> {
        let vault = self.present();
        let root = self.then_at(path)?;
        let mut work = Restore {
            past: self,
            vault,
            steps: Steps::new(self, audit),
            alive: HashSet::new(),
            made: HashMap::new(),
            claimed: HashSet::new(),
            noted: HashSet::new(),
            report: RestoreReport::default(),
            done: 0,
            total: 0,
        };
        let target = to.unwrap_or(path);
        if to.is_some() {
            work.is_free(target)?;
        }
        let place = [(DetailKey::Path, step::text_of(path)), (DetailKey::Target, step::text_of(target))];
        let told = if to.is_some() { &place[..] } else { &place[..1] };
        work.steps.tell(Action::RestoreBegin, None, told)?;
        let outcome = work
            .survey(&root, to.is_none().then_some(target))
            .and_then(|added| {
                let asked = vault.store().quotas().check(vault.owner(), vault.id(), added);
                asked.map_err(|refusal| vault.refused(refusal))
            })
            .and_then(|()| work.run(root, path, target, progress));
        let report = work.report;
        let counts = format!(
            "{} restored, {} removed, {} unchanged, {} bytes",
            report.restored, report.removed, report.unchanged, report.bytes
        );
        let note = [told, &[(DetailKey::Note, counts.into_bytes())]].concat();
        work.steps.tell(Action::RestoreEnd, outcome.as_ref().err(), &note)?;
        outcome.map(|()| report)
    }

    /// What was at a path.
    fn then_at(&self, path: &[Vec<u8>]) -> Result<Then, StoreError> {
        let _calm = self.calm()?;
        let mut inode = InodeId::ROOT;
        for name in path {
            inode = self.dentry(inode, name)?.ok_or(StoreError::NotFound)?.inode;
        }
        let name = path.last().cloned().unwrap_or_default();
        self.then(DentryRow { name: name.into(), inode, kind: Kind::File, begin: self.row(inode)?.begin })
    }

    fn then(&self, dentry: DentryRow) -> Result<Then, StoreError> {
        let row = self.row(dentry.inode)?;
        let mtime = self.shown(dentry.inode, &row)?.mtime;
        Ok(Then { name: dentry.name.into(), inode: dentry.inode, row, mtime })
    }

    /// Names of a directory with what they led to, piece by piece.
    fn each_piece(
        &self,
        directory: InodeId,
        seen: &mut dyn FnMut(Vec<Then>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let piece = {
                let _calm = self.calm()?;
                let (names, next) = self.names(directory, cursor, RESTORE_NAMES_PIECE)?;
                cursor = next;
                names.into_iter().map(|name| self.then(name)).collect::<Result<_, _>>()?
            };
            seen(piece)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

impl Vault {
    fn dentry_now(&self, parent: InodeId, name: &[u8]) -> Result<Option<DentryRow>, StoreError> {
        let key = dentry_key(self.id(), parent, self.keys().name_mac(parent, name));
        self.store().get(&self.keys().records, Table::Dentries, &key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Names of a directory of the present, piece by piece; what changes meanwhile is seen or not.
    fn each_piece_now(
        &self,
        directory: InodeId,
        seen: &mut dyn FnMut(Vec<DentryRow>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = inode_key(self.id(), directory);
        let (mut from, to) = (prefix.clone(), after_prefix(&prefix));
        loop {
            let piece =
                self.store().range(&self.keys().records, Table::Dentries, &from, &to, RESTORE_NAMES_PIECE)?;
            let last = piece.last().filter(|_| piece.len() == RESTORE_NAMES_PIECE);
            let next = last.map(|(at, _)| [&at[..], &[0]].concat());
            seen(piece.iter().map(|(_, bytes)| decode(bytes)).collect::<Result<_, _>>()?)?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

impl Restore<'_> {
    fn is_free(&self, target: &[Vec<u8>]) -> Result<(), StoreError> {
        let (name, above) = target.split_last().ok_or(StoreError::Exists)?;
        let mut parent = InodeId::ROOT;
        for name in above {
            let found = self.vault.dentry_now(parent, name)?.ok_or(StoreError::NotFound)?;
            if found.kind != Kind::Directory {
                return Err(StoreError::NotADirectory);
            }
            parent = found.inode;
        }
        super::change::check_name(name)?;
        if self.vault.dentry_now(parent, name)?.is_some() { Err(StoreError::Exists) } else { Ok(()) }
    }

    /// Counts what there is to do, notes what lives below the path, and returns what will be added.
    fn survey(&mut self, root: &Then, replaced: Option<&[Vec<u8>]>) -> Result<Amounts, StoreError> {
        let mut then = Amounts { bytes: root.row.content.stored, files: 1, stored: 0 };
        let mut shared = HashSet::new();
        self.total = root.row.content.size;
        let mut pending = Vec::new();
        if root.row.kind == Kind::Directory {
            pending.push(root.inode);
        }
        while let Some(directory) = pending.pop() {
            let past = self.past;
            past.each_piece(directory, &mut |piece| {
                for found in piece {
                    self.total += found.row.content.size;
                    if found.row.links <= 1 || shared.insert(found.inode) {
                        then.bytes += found.row.content.stored;
                        then.files += 1;
                    }
                    if found.row.kind == Kind::Directory {
                        pending.push(found.inode);
                    }
                }
                Ok(())
            })?;
        }
        let now = replaced.map_or(Ok(Amounts::default()), |path| self.survey_present(path))?;
        Ok(Amounts {
            bytes: then.bytes.saturating_sub(now.bytes),
            files: then.files.saturating_sub(now.files),
            stored: 0,
        })
    }

    /// Notes every inode at a path and below it; returns what they use.
    fn survey_present(&mut self, path: &[Vec<u8>]) -> Result<Amounts, StoreError> {
        let (vault, mut at, mut used) = (self.vault, InodeId::ROOT, Amounts::default());
        for name in path {
            match vault.dentry_now(at, name)? {
                Some(found) => at = found.inode,
                None => return Ok(used),
            }
        }
        let mut pending = vec![at];
        while let Some(inode) = pending.pop() {
            let row = match vault.row(inode) {
                Ok(row) => row,
                // Removed meanwhile.
                Err(StoreError::NotFound) => continue,
                Err(error) => return Err(error),
            };
            if self.alive.insert(inode) {
                used.bytes += row.content.stored;
                used.files += 1;
            }
            if row.kind == Kind::Directory {
                vault.each_piece_now(inode, &mut |piece| {
                    pending.extend(piece.iter().map(|dentry| dentry.inode));
                    Ok(())
                })?;
            }
        }
        Ok(used)
    }

    fn run(
        &mut self,
        root: Then,
        path: &[Vec<u8>],
        target: &[Vec<u8>],
        progress: &mut Progress<'_>,
    ) -> Result<(), StoreError> {
        let above = self.bring_above(path, target)?;
        let top = self.bring_top(root, target, progress)?;
        self.steps.end()?;
        if let Some(top) = top {
            self.settle(top)?;
        }
        for (now, then) in above.into_iter().rev() {
            self.settle_attributes(now, &then, &[])?;
        }
        self.steps.finish()?;
        progress(self.total, self.total);
        Ok(())
    }
}
