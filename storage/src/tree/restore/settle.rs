//! The second walk, the deepest directories first: names that were not there go, directories get their attributes.

use super::{Level, Restore, Then};
use crate::audit::Action;
use crate::error::StoreError;
use crate::id::InodeId;
use crate::rows::DentryRow;
use crate::tree::Kind;

enum Visit {
    /// First what lies below it.
    Below(Level),
    Itself(Level),
}

impl Restore<'_> {
    pub(super) fn settle(&mut self, top: Level) -> Result<(), StoreError> {
        let mut pending = vec![Visit::Below(top)];
        while let Some(visit) = pending.pop() {
            match visit {
                Visit::Itself(level) => self.settle_directory(&level)?,
                Visit::Below(level) => {
                    let below = self.directories_below(&level)?;
                    pending.push(Visit::Itself(level));
                    pending.extend(below.into_iter().map(Visit::Below));
                }
            }
        }
        Ok(())
    }

    /// Directories of the past in one, where they are still in place: what a client moved away meanwhile is not ours.
    fn directories_below(&self, level: &Level) -> Result<Vec<Level>, StoreError> {
        let mut below = Vec::new();
        self.past.each_piece(level.then, &mut |piece| {
            for then in piece.into_iter().filter(|then| then.row.kind == Kind::Directory) {
                let found = self.vault.dentry_now(level.now, &then.name)?;
                if let Some(found) = found.filter(|found| found.kind == Kind::Directory) {
                    let path = [&level.path[..], &[then.name]].concat();
                    below.push(Level { then: then.inode, now: found.inode, path });
                }
            }
            Ok(())
        })?;
        Ok(below)
    }

    fn settle_directory(&mut self, level: &Level) -> Result<(), StoreError> {
        let (vault, past) = (self.vault, self.past);
        vault.each_piece_now(level.now, &mut |piece| {
            let extra: Vec<DentryRow> = {
                let _calm = past.calm()?;
                let is_extra =
                    |entry: &DentryRow| past.dentry(level.then, &entry.name).map(|it| it.is_none());
                let judged = piece.into_iter().map(|entry| Ok((is_extra(&entry)?, entry)));
                judged
                    .collect::<Result<Vec<_>, StoreError>>()?
                    .into_iter()
                    .filter_map(|(is_extra, entry)| is_extra.then_some(entry))
                    .collect()
            };
            for entry in extra {
                let path = [&level.path[..], &[entry.name.to_vec()]].concat();
                self.remove_tree(level.now, &entry, &path)?;
            }
            self.steps.end()
        })?;
        let then = {
            let _calm = past.calm()?;
            let row = past.row(level.then)?;
            let mtime = past.shown(level.then, &row)?.mtime;
            Then { name: Vec::new(), inode: level.then, row, mtime }
        };
        self.settle_attributes(level.now, &then, &level.path)
    }

    /// Gives a directory its attributes; all that changes its entries is over.
    pub(super) fn settle_attributes(
        &mut self,
        now: InodeId,
        then: &Then,
        path: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        let step = self.steps.step()?;
        let old = match step.change.directory(now) {
            Ok(old) => old,
            // A client removed it meanwhile.
            Err(StoreError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        if then.is_state_of(&old) {
            if !self.noted.contains(&now) {
                self.report.unchanged += 1;
            }
            return self.steps.end();
        }
        let mut new = old.successor();
        then.give_attributes(&mut new);
        step.change.replace_inode(now, &old, new)?;
        if self.noted.insert(now) {
            step.note(Action::Restored, now, None, path);
            self.report.restored += 1;
        } else {
            step.count();
        }
        self.steps.end()
    }

    /// Removes a name and all below it, in as many transactions as that takes.
    pub(super) fn remove_tree(
        &mut self,
        parent: InodeId,
        entry: &DentryRow,
        path: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        struct Doomed {
            parent: InodeId,
            name: Vec<u8>,
            path: Vec<Vec<u8>>,
        }
        let mut pending = vec![Doomed { parent, name: entry.name.to_vec(), path: path.to_vec() }];
        while let Some(doomed) = pending.pop() {
            let step = self.steps.step()?;
            let Some(found) = step.change.dentry(doomed.parent, &doomed.name)? else { continue };
            if found.kind != Kind::Directory || step.change.is_empty(found.inode)? {
                step.change.unlink(doomed.parent, &found)?;
                step.note(Action::Remove, found.inode, None, &doomed.path);
                self.report.removed += 1;
                continue;
            }
            self.steps.end()?;
            let above = doomed.path.clone();
            pending.push(doomed);
            self.vault.each_piece_now(found.inode, &mut |piece| {
                pending.extend(piece.into_iter().map(|entry| {
                    let path = [&above[..], &[entry.name.to_vec()]].concat();
                    Doomed { parent: found.inode, name: entry.name.into(), path }
                }));
                Ok(())
            })?;
        }
        Ok(())
    }
}
