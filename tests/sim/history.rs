//! The past in the model: moments are noted, looked at again through `/.snapshots` in all their spellings, and put back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use coffre::vfs::point::{Spelling, name_of};
use coffre::vfs::{Attributes, Follow, Kind, OpenOptions, UnixNanos, VaultPath};
use coffre_storage::audit::{Action, Actor, RecordDraft};

use crate::Run;
use crate::reference::Reference;

/// Moments that are remembered at most; a random one makes room.
const MOMENTS_MAX: usize = 40;
const NANOS: i64 = 1_000_000_000;

/// A moment and all that there was.
pub(crate) struct Moment {
    time: UnixNanos,
    /// Of a named snapshot.
    name: Option<String>,
    reference: Reference,
    /// What the present showed then.
    shown: BTreeMap<Vec<u8>, Attributes>,
}

/// What stays the same when a file's name count changes outside of what is looked at.
fn comparable(attributes: &Attributes) -> (Kind, u64, u32, UnixNanos, UnixNanos, u32) {
    let Attributes { kind, size, mode, atime, mtime, links, .. } = attributes;
    (*kind, *size, *mode, *atime, *mtime, *links)
}

impl Run {
    /// Now and then notes this moment, compares an earlier one, or puts one back.
    pub(crate) async fn look_back(&mut self) -> Result<()> {
        if self.dice.one_in(40) {
            self.note().await.context("noting a moment")?;
        }
        if self.dice.one_in(40) && !self.moments.is_empty() {
            let at = self.dice.index(self.moments.len());
            self.compare_moment(at).await?;
        }
        if self.dice.one_in(300) && !self.moments.is_empty() {
            let at = self.dice.index(self.moments.len());
            self.put_back(at).await.context("putting a moment back")?;
        }
        Ok(())
    }

    /// What is not saved is not in the past: everything is synced first.
    async fn note(&mut self) -> Result<()> {
        for pair in &self.handles {
            pair.ours.sync().await?;
            self.reference.clean(pair.inode);
        }
        let mut shown = BTreeMap::new();
        for (path, _) in self.reference.whole_tree() {
            let found = self.world.namespace.stat(&VaultPath::parse(&path)?, Follow::No).await?;
            shown.insert(path, found);
        }
        let (mut time, mut name) = (self.world.store.clock_now(), None);
        if self.dice.one_in(4) {
            let own = format!("s{}", self.dice.below(1 << 40));
            let vault = self.world.store.vault(self.world.vault)?;
            let audit = RecordDraft::new(Actor::Operator, Action::SnapshotAdd);
            time = vault.add_snapshot(&own, None, audit)?.wait()?.time;
            name = Some(own);
        }
        if self.moments.len() >= MOMENTS_MAX {
            let at = self.dice.index(self.moments.len());
            self.moments.swap_remove(at);
        }
        self.moments.push(Moment { time, name, reference: self.reference.clone(), shown });
        Ok(())
    }

    /// One of the names that a moment has.
    fn spelling(&mut self, at: usize) -> String {
        let Moment { time, name, .. } = &self.moments[at];
        let (time, name) = (*time, name.clone());
        let zone = |spelling, sign: i64, offset: &str| {
            let local = name_of(UnixNanos(time.0 + sign * 5_400 * NANOS), spelling);
            local.trim_end_matches('Z').to_owned() + offset
        };
        match (self.dice.below(5), name) {
            (0 | 1, Some(name)) => name,
            (0, None) => name_of(time, Spelling::NoColons),
            (1, None) | (2, _) => name_of(time, Spelling::Colons),
            (3, _) => zone(Spelling::Colons, 1, "+01:30"),
            _ => zone(Spelling::NoColons, -1, "-01-30"),
        }
    }

    pub(crate) async fn compare_all_moments(&mut self) -> Result<()> {
        for at in 0..self.moments.len() {
            self.compare_moment(at).await?;
        }
        Ok(())
    }

    async fn compare_moment(&mut self, at: usize) -> Result<()> {
        let name = self.spelling(at);
        let root = VaultPath::parse(format!("/.snapshots/{name}").as_bytes())?;
        self.compare_tree(at, &root).await.with_context(|| format!("{name} in the past"))
    }

    /// The whole tree at a path is that of a moment: names, contents, targets, attributes; links stay inside.
    async fn compare_tree(&mut self, at: usize, root: &VaultPath) -> Result<()> {
        let (moment, namespace) = (&self.moments[at], &self.world.namespace);
        let mut expected: BTreeSet<Vec<u8>> = moment.shown.keys().cloned().collect();
        let mut pending = vec![(Vec::new(), root.clone())];
        while let Some((above, path)) = pending.pop() {
            let mut directory = namespace.open_directory(&path).await?;
            loop {
                let entries = directory.next(3).await?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    let (own, path) = ([&above[..], b"/", &entry.name].concat(), path.join(&entry.name)?);
                    let shown = moment.shown.get(&own).with_context(|| format!("{own:?} was not there"))?;
                    let (ours, was) = (comparable(&entry.attributes), comparable(shown));
                    ensure!(ours == was, "{own:?} shows {ours:?}, and showed {was:?}");
                    let found = namespace.stat(&path, Follow::No).await?;
                    ensure!(comparable(&found) == ours, "{own:?} is {found:?}, and is listed as {ours:?}");
                    ensure!(expected.remove(&own), "{own:?} is listed twice");
                    match entry.attributes.kind {
                        Kind::Directory => pending.push((own, path)),
                        Kind::SymbolicLink => {
                            let target = namespace.read_link(&path).await?;
                            ensure!(moment.reference.target(&own) == Some(&target[..]), "target of {own:?}");
                            let followed = namespace.stat(&path, Follow::Yes).await;
                            let kind = moment.reference.stat(&own, true).map(|seen| (seen.kind, seen.size));
                            let ours = followed.as_ref().map(|found| (found.kind, found.size));
                            ensure!(ours.ok() == kind.ok(), "{own:?} leads to {followed:?}");
                        }
                        Kind::File => {}
                    }
                }
            }
        }
        ensure!(expected.is_empty(), "not there: {expected:?}");
        for (own, content) in moment.reference.whole_tree() {
            let Some(content) = content else { continue };
            let mut names = own.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            let path = names.try_fold(root.clone(), |path, name| path.join(name))?;
            let options = OpenOptions { read: true, ..OpenOptions::default() };
            let file = namespace.open(&path, options).await?;
            ensure!(file.read(0, content.len() + 1).await? == *content, "content of {own:?}");
            file.close().await?;
        }
        Ok(())
    }

    /// The whole vault becomes what it was; history keeps what it is.
    async fn put_back(&mut self, at: usize) -> Result<()> {
        self.note().await?;
        for pair in self.handles.drain(..) {
            self.reference.clean(pair.inode);
            pair.ours.close().await?;
        }
        let at = at.min(self.moments.len() - 1);
        let time = self.moments[at].time;
        let vault = self.world.store.vault(self.world.vault)?;
        let audit = RecordDraft::new(Actor::Operator, Action::Restored);
        vault.at(time)?.restore(&[], None, &audit, &mut |_, _| {})?;
        let again = vault.at(time)?.restore(&[], None, &audit, &mut |_, _| {})?;
        ensure!((again.restored, again.removed) == (0, 0), "a second run changed something: {again:?}");
        self.compare_tree(at, &VaultPath::root()).await?;
        self.reference = self.moments[at].reference.clone();
        Ok(())
    }
}
