//! The first walk: every name of the past leads again to what it led to.

use super::step::Step;
use super::{Level, Progress, Restore, Then};
use crate::audit::Action;
use crate::error::StoreError;
use crate::id::InodeId;
use crate::rows::{DentryRow, InodeRow};
use crate::tree::Kind;

/// What a name of the past leads to from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    /// What it leads to already.
    Here(InodeId),
    /// What lives under another name.
    Moved(InodeId),
    /// Something new.
    New,
}

/// Begins the name of what stands in the way of something else and is wanted itself: it waits there for its turn, or
/// for the second walk, which removes it.
const ASIDE: &str = ".coffre-aside-";

impl Restore<'_> {
    /// Makes the directories that lead to the target, where they are missing, as they were.
    pub(super) fn bring_above(
        &mut self,
        path: &[Vec<u8>],
        target: &[Vec<u8>],
    ) -> Result<Vec<(InodeId, Then)>, StoreError> {
        let (mut parent, mut made) = (InodeId::ROOT, Vec::new());
        for depth in 1..target.len() {
            let (here, there) = (target.get(..depth), path.get(..depth));
            let (Some(here), Some(name)) = (here, here.and_then(<[_]>::last)) else { break };
            match self.vault.dentry_now(parent, name)? {
                Some(found) if found.kind == Kind::Directory => parent = found.inode,
                Some(_) => return Err(StoreError::NotADirectory),
                None => {
                    let then = self.past.then_at(there.ok_or(StoreError::NotFound)?)?;
                    let step = self.steps.step()?;
                    let model = (&then.row, then.mtime);
                    let now = step.change.create_alike(parent, name, model, &then.row.properties)?;
                    step.note(Action::Restored, now, None, here);
                    self.report.restored += 1;
                    self.noted.insert(now);
                    self.steps.end()?;
                    made.push((now, then));
                    parent = now;
                }
            }
        }
        Ok(made)
    }

    fn parent_of(&self, target: &[Vec<u8>]) -> Result<InodeId, StoreError> {
        let (_, above) = target.split_last().ok_or(StoreError::InvalidMove)?;
        above.iter().try_fold(InodeId::ROOT, |parent, name| {
            Ok(self.vault.dentry_now(parent, name)?.ok_or(StoreError::NotFound)?.inode)
        })
    }

    /// Brings the target itself back, and all below it. Returns the directory that is to be settled.
    pub(super) fn bring_top(
        &mut self,
        root: Then,
        target: &[Vec<u8>],
        progress: &mut Progress<'_>,
    ) -> Result<Option<Level>, StoreError> {
        let then = root.inode;
        let (Some(name), true) = (target.last(), then != InodeId::ROOT) else {
            let top = match target {
                // The whole vault, in its place.
                [] => InodeId::ROOT,
                target => self.new_directory(&root, target)?,
            };
            self.bring_below(Level { then, now: top, path: target.to_vec() }, progress)?;
            return Ok(Some(Level { then, now: top, path: target.to_vec() }));
        };
        let parent = self.parent_of(target)?;
        let mut root = root;
        root.name.clone_from(name);
        if let Some(found) = self.vault.dentry_now(parent, name)? {
            match (found.kind, root.row.kind) {
                // Goes on in the directory that is there, whichever it is: nothing outside the path moves.
                (Kind::Directory, Kind::Directory) => {
                    self.claim(then, found.inode);
                }
                (Kind::Directory, _) => {
                    self.remove_tree(parent, &found, target)?;
                }
                (Kind::File | Kind::SymbolicLink, _) => {}
            }
        }
        let is_directory = root.row.kind == Kind::Directory;
        let now = self.bring(parent, &root, target)?;
        self.steps.end()?;
        self.progress(&root, progress);
        if !is_directory {
            return Ok(None);
        }
        self.bring_below(Level { then, now, path: target.to_vec() }, progress)?;
        Ok(Some(Level { then, now, path: target.to_vec() }))
    }

    /// A directory for the root of the vault under another path.
    fn new_directory(&mut self, root: &Then, target: &[Vec<u8>]) -> Result<InodeId, StoreError> {
        let parent = self.parent_of(target)?;
        let name = target.last().ok_or(StoreError::InvalidName)?;
        let step = self.steps.step()?;
        let now = step.change.create_alike(parent, name, (&root.row, root.mtime), &root.row.properties)?;
        step.note(Action::Restored, now, None, target);
        self.report.restored += 1;
        self.noted.insert(now);
        self.steps.end()?;
        Ok(now)
    }

    fn claim(&mut self, then: InodeId, now: InodeId) {
        if then != now {
            self.made.insert(then, now);
            self.claimed.insert(now);
        }
    }

    fn progress(&mut self, then: &Then, progress: &mut Progress<'_>) {
        self.done += then.row.content.size;
        progress(self.done.min(self.total), self.total);
    }

    fn bring_below(&mut self, top: Level, progress: &mut Progress<'_>) -> Result<(), StoreError> {
        let mut pending = vec![top];
        while let Some(level) = pending.pop() {
            let past = self.past;
            // The past is looked at between transactions, not in one.
            past.each_piece(level.then, &mut |piece| {
                for then in piece {
                    let path = [&level.path[..], std::slice::from_ref(&then.name)].concat();
                    let now = if self.is_brought(level.now, &then)? {
                        self.report.unchanged += u64::from(then.row.kind != Kind::Directory);
                        then.inode
                    } else {
                        self.bring(level.now, &then, &path)?
                    };
                    self.progress(&then, progress);
                    if then.row.kind == Kind::Directory {
                        pending.push(Level { then: then.inode, now, path });
                    }
                }
                self.steps.end()
            })?;
        }
        Ok(())
    }

    /// Whether a name leads where it led, to the same state: looked at without a transaction, so that what did not change
    /// costs nothing. While one is open, that one decides.
    fn is_brought(&self, parent: InodeId, then: &Then) -> Result<bool, StoreError> {
        if self.steps.is_open() || self.made.contains_key(&then.inode) || self.claimed.contains(&then.inode) {
            return Ok(false);
        }
        let found = self.vault.dentry_now(parent, &then.name)?;
        if found.is_none_or(|found| found.inode != then.inode) {
            return Ok(false);
        }
        Ok(then.row.kind == Kind::Directory || then.is_state_of(&self.vault.row(then.inode)?))
    }

    fn bring(&mut self, parent: InodeId, then: &Then, path: &[Vec<u8>]) -> Result<InodeId, StoreError> {
        // Opened first: what is decided below is decided in it.
        self.steps.step()?;
        let present = self.steps.step()?.change.dentry(parent, &then.name)?;
        let becomes = self.becomes(parent, then, present.as_ref())?;
        match becomes {
            Becomes::Here(now) => self.give_state(now, then, path, 0)?,
            Becomes::Moved(now) => {
                self.clear(parent, present.as_ref())?;
                if then.row.kind == Kind::Directory {
                    self.move_directory(now, (parent, &then.name), path)?;
                } else {
                    self.steps.step()?.change.add_dentry(parent, &then.name, now, then.row.kind)?;
                    self.give_state(now, then, path, 1)?;
                }
            }
            Becomes::New => {
                self.clear(parent, present.as_ref())?;
                let step = self.steps.step()?;
                let model = (&then.row, then.mtime);
                let now = step.change.create_alike(parent, &then.name, model, &then.row.properties)?;
                step.note(Action::Restored, now, Some(&then.row), path);
                self.made.insert(then.inode, now);
                self.noted.insert(now);
                self.report.restored += 1;
                self.report.bytes += then.row.content.size;
            }
        }
        Ok(match becomes {
            Becomes::Here(now) | Becomes::Moved(now) => now,
            Becomes::New => self.made.get(&then.inode).copied().ok_or(StoreError::NotFound)?,
        })
    }

    fn lives(&mut self, inode: InodeId) -> Result<bool, StoreError> {
        match self.steps.step()?.change.inode(inode) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the moment knows an inode.
    fn was(&self, inode: InodeId) -> Result<bool, StoreError> {
        match self.past.row(inode) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn becomes(
        &mut self,
        parent: InodeId,
        then: &Then,
        present: Option<&DentryRow>,
    ) -> Result<Becomes, StoreError> {
        let here = present.map(|present| present.inode);
        if let Some(now) = self.made.get(&then.inode).copied() {
            if here == Some(now) {
                return Ok(Becomes::Here(now));
            }
            if self.lives(now)? {
                return Ok(Becomes::Moved(now));
            }
            self.made.remove(&then.inode);
            return Ok(Becomes::New);
        }
        if !self.claimed.contains(&then.inode) {
            if here == Some(then.inode) {
                return Ok(Becomes::Here(then.inode));
            }
            if self.alive.contains(&then.inode) && self.lives(then.inode)? {
                let circle = then.row.kind == Kind::Directory
                    && self.steps.step()?.change.is_below(parent, then.inode)?;
                return Ok(if circle { Becomes::New } else { Becomes::Moved(then.inode) });
            }
        }
        // What came after the moment, and is alike: an earlier run was interrupted, or a client made it again.
        if let Some(present) = present
            && present.kind == then.row.kind
            && !self.claimed.contains(&present.inode)
            && !self.was(present.inode)?
        {
            let alike = match then.row.kind {
                Kind::Directory => true,
                Kind::File | Kind::SymbolicLink => {
                    then.is_state_of(&self.steps.step()?.change.inode(present.inode)?)
                }
            };
            if alike {
                self.claim(then.inode, present.inode);
                return Ok(Becomes::Here(present.inode));
            }
        }
        Ok(Becomes::New)
    }

    /// Makes room at a name. What the past knows, and directories, wait aside.
    fn clear(&mut self, parent: InodeId, present: Option<&DentryRow>) -> Result<(), StoreError> {
        let Some(present) = present else { return Ok(()) };
        let wanted = present.kind == Kind::Directory
            || (self.alive.contains(&present.inode) && self.was(present.inode)?);
        let step = self.steps.step()?;
        if !wanted {
            return step.change.unlink(parent, present);
        }
        let aside = format!("{ASIDE}{}", step.change.txn.next_number());
        step.change.drop_dentry(parent, present)?;
        step.change.add_dentry(parent, aside.as_bytes(), present.inode, present.kind)
    }

    fn move_directory(
        &mut self,
        now: InodeId,
        (parent, name): (InodeId, &[u8]),
        path: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        let step = self.steps.step()?;
        let change = &mut step.change;
        let old = change.inode(now)?;
        let from = old.parent.ok_or(StoreError::InvalidMove)?;
        let known = change.entries(from)?.into_iter().find(|entry| entry.inode == now);
        change.drop_dentry(from, &known.ok_or(StoreError::DamagedRecord)?)?;
        change.add_dentry(parent, name, now, Kind::Directory)?;
        if from != parent {
            let old = change.inode(now)?;
            let new = InodeRow { parent: Some(parent), ..old.successor() };
            change.replace_inode(now, &old, new)?;
        }
        step.note(Action::Restored, now, None, path);
        self.noted.insert(now);
        self.report.restored += 1;
        Ok(())
    }

    /// Gives a file or link its earlier state, and so many more names.
    fn give_state(
        &mut self,
        now: InodeId,
        then: &Then,
        path: &[Vec<u8>],
        more_links: u32,
    ) -> Result<(), StoreError> {
        if then.row.kind == Kind::Directory {
            return Ok(());
        }
        let step: &mut Step<'_> = self.steps.step()?;
        let old = step.change.inode(now)?;
        if more_links == 0 && then.is_state_of(&old) {
            self.report.unchanged += 1;
            return Ok(());
        }
        let mut new = old.successor();
        then.give_attributes(&mut new);
        new.links = old.links.saturating_add(more_links);
        let content = if then.has_content_of(&old) {
            None
        } else {
            new.content = step.change.share_content(&then.row.content)?;
            step.refresh(now, new.clone());
            Some(&then.row)
        };
        step.change.replace_inode(now, &old, new)?;
        step.note(Action::Restored, now, content, path);
        self.report.restored += 1;
        self.report.bytes += content.map_or(0, |row| row.content.size);
        Ok(())
    }
}
