//! One vault after the other: inodes, names, how they hang together, and what is counted of them.

use std::collections::{HashMap, HashSet};

use super::content::Holdings;
use super::{Check, Count, Finding, UsageCounts, number_of};
use crate::error::StoreError;
use crate::id::{CommitNumber, ContentId, InodeId, VaultId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::rows::{
    Body, ChunkRow, DentryRow, InodeRow, LockRow, SnapshotRow, UsageRow, VaultRow, decode, usage_key,
};
use crate::tree::Kind;
use crate::tree::digest::DigestRow;

/// What is known of an inode once all have been seen.
struct Seen {
    kind: Kind,
    links: u32,
    begin: CommitNumber,
    /// As it says itself.
    parent: Option<InodeId>,
    names: u32,
}

/// What is counted while a vault is walked.
#[derive(Default)]
struct Counted {
    inodes: HashMap<InodeId, Seen>,
    holdings: Holdings,
    bytes: u64,
}

impl Check<'_> {
    pub(super) fn vaults(&mut self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.rows((&[self.store.system_key()], Table::Vaults), &[], |_, at, row| {
            let id = at.try_into().map_err(|_| StoreError::DamagedRecord)?;
            found.push((VaultId(id), decode::<VaultRow>(row)?));
            Ok(())
        })?;
        let mut usage = HashSet::new();
        for (id, row) in found {
            usage.insert(usage_key(row.owner, id));
            // Nothing of it is left but its name.
            if row.erased.is_some() {
                continue;
            }
            self.report.vaults += 1;
            match self.store.vault(id) {
                Ok(vault) => self.vault(vault.keys(), &row)?,
                Err(StoreError::VaultLocked(_)) => self.locked(id)?,
                Err(_) => self.find(Finding::VaultUnavailable { vault: id }),
            }
        }
        self.rows((&[self.store.system_key()], Table::Usage), &[], |own, at, _| {
            if !usage.contains(at) {
                own.find(Finding::UsageOfNobody { key: at.to_vec() });
            }
            Ok(())
        })
    }

    /// Without its keys: what its chunks take of the packs.
    fn locked(&mut self, vault: VaultId) -> Result<(), StoreError> {
        self.report.vaults_locked.push(vault);
        self.rows((&[self.store.system_key()], Table::Chunks), &vault.0, |own, _, row| {
            let row: ChunkRow = decode(row)?;
            *own.live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            own.report.chunks += 1;
            Ok(())
        })
    }

    fn vault(&mut self, keys: &VaultKeys, vault: &VaultRow) -> Result<(), StoreError> {
        let id = keys.vault;
        let mut counted = Counted::default();
        self.rows((&[&keys.records], Table::Inodes), &id.0, |own, at, row| {
            own.inode(id, InodeId(number_of(at)?), &decode(row)?, &mut counted);
            Ok(())
        })?;
        self.history(keys, &mut counted.holdings)?;
        self.names(keys, &mut counted)?;
        self.ways(id, &counted);
        self.segments(keys, &mut counted.holdings)?;
        self.chunks(keys, &mut counted.holdings)?;
        self.snapshots(keys)?;
        self.digests(keys, &counted.holdings)?;
        self.locks(keys, &counted)?;
        self.usage(id, vault, &counted)
    }

    fn inode(&mut self, vault: VaultId, inode: InodeId, row: &InodeRow, counted: &mut Counted) {
        self.report.inodes += 1;
        self.number(Table::Inodes, inode.0);
        self.number(Table::Inodes, row.content.id.0);
        counted.inodes.insert(
            inode,
            Seen { kind: row.kind, links: row.links, begin: row.begin.commit, parent: row.parent, names: 0 },
        );
        counted.bytes += row.content.stored;
        counted.holdings.content(&row.content);
        if let Body::Inline(extents) = &row.content.body {
            let beyond = extents.last().is_some_and(|last| last.end() > row.content.size);
            let sum: u64 = extents.iter().map(|extent| u64::from(extent.len)).sum();
            if beyond || !super::content::is_ordered(extents) || sum != row.content.stored {
                self.find(Finding::Extents { vault, inode });
            }
        }
        if (row.kind == Kind::SymbolicLink) != row.target.is_some() || !self.knows(row.begin.commit) {
            self.find(Finding::Kind { vault, inode });
        }
    }

    fn names(&mut self, keys: &VaultKeys, counted: &mut Counted) -> Result<(), StoreError> {
        let vault = keys.vault;
        let mut above = HashMap::new();
        self.rows((&[&keys.records], Table::Dentries), &vault.0, |own, at, row| {
            let (parent, row) = (InodeId(number_of(at)?), decode::<DentryRow>(row)?);
            if at.get(24..) != Some(&keys.name_mac(parent, &row.name)[..]) {
                own.find(Finding::NameKey { vault, parent });
            }
            if counted.inodes.get(&parent).is_none_or(|seen| seen.kind != Kind::Directory) {
                own.find(Finding::NameParent { vault, parent, key: at.to_vec() });
            }
            match counted.inodes.get_mut(&row.inode) {
                Some(seen) if seen.kind == row.kind => {
                    seen.names += 1;
                    if row.kind == Kind::Directory {
                        above.insert(row.inode, parent);
                    }
                }
                Some(_) | None => {
                    let (inode, key) = (row.inode, at.to_vec());
                    own.find(Finding::NameTarget { vault, parent, inode, key });
                }
            }
            Ok(())
        })?;
        let roots = [InodeId::ROOT, InodeId::PARTS];
        for (&inode, seen) in counted.inodes.iter().filter(|(inode, _)| !roots.contains(inode)) {
            if seen.names == 0 {
                self.find(Finding::Nameless { vault, inode, begin: seen.begin });
            } else if let Some(count) = Count::differs(seen.links.into(), seen.names.into()) {
                self.find(Finding::Links { vault, inode, count });
            }
            if let Some(&found) = above.get(&inode)
                && seen.parent != Some(found)
            {
                self.find(Finding::Parent { vault, inode, found });
            }
        }
        if counted.inodes.get(&InodeId::ROOT).is_none_or(|root| root.kind != Kind::Directory) {
            self.find(Finding::RootMissing { vault });
        }
        Ok(())
    }

    /// Directories that name each other in a circle hang together with nothing else.
    fn ways(&mut self, vault: VaultId, counted: &Counted) {
        let mut reached: HashSet<InodeId> = HashSet::from([InodeId::ROOT, InodeId::PARTS]);
        for (&start, _) in counted.inodes.iter().filter(|(_, seen)| seen.kind == Kind::Directory) {
            let (mut way, mut at) = (HashSet::new(), start);
            while !reached.contains(&at) && way.insert(at) {
                match counted.inodes.get(&at).and_then(|seen| seen.parent.filter(|_| seen.names > 0)) {
                    Some(parent) => at = parent,
                    // What has no name, or no parent, was found already.
                    None => drop(reached.insert(at)),
                }
            }
            if !reached.contains(&at) {
                self.find(Finding::Unreachable { vault, inode: start });
            }
            reached.extend(way);
        }
    }

    fn snapshots(&mut self, keys: &VaultKeys) -> Result<(), StoreError> {
        let vault = keys.vault;
        let mut names = HashSet::new();
        let now = self.store.clock_now();
        self.rows((&[&keys.records], Table::Snapshots), &vault.0, |own, at, row| {
            let (number, row) = (number_of(at)?, decode::<SnapshotRow>(row)?);
            own.number(Table::Snapshots, number);
            if !own.knows(row.moment.commit) {
                own.find(Finding::Snapshot { vault, number, why: "shows a moment that has not come" });
            }
            if row.expires.is_none_or(|expires| expires > now) && !names.insert(row.name) {
                own.find(Finding::Snapshot { vault, number, why: "has the name of another" });
            }
            Ok(())
        })
    }

    /// Digests are kept of contents that some state lists.
    fn digests(&mut self, keys: &VaultKeys, holdings: &Holdings) -> Result<(), StoreError> {
        let vault = keys.vault;
        self.rows((&[&keys.records], Table::Digests), &vault.0, |own, at, row| {
            decode::<DigestRow>(row)?;
            let content = ContentId(number_of(at)?);
            if !holdings.contents.contains(&content) {
                own.find(Finding::DigestsOfNothing { vault, content });
            }
            Ok(())
        })
    }

    /// A lock ends in the transaction in which what it is on goes.
    fn locks(&mut self, keys: &VaultKeys, counted: &Counted) -> Result<(), StoreError> {
        let vault = keys.vault;
        self.rows((&[&keys.records], Table::Locks), &vault.0, |own, at, row| {
            decode::<LockRow>(row)?;
            let (inode, number) = (InodeId(number_of(at)?), number_of(at.get(8..).unwrap_or_default())?);
            own.number(Table::Locks, number);
            if !counted.inodes.contains_key(&inode) {
                own.find(Finding::LockOfNothing { vault, inode, number });
            }
            Ok(())
        })
    }

    fn usage(&mut self, vault: VaultId, row: &VaultRow, counted: &Counted) -> Result<(), StoreError> {
        let key = usage_key(row.owner, vault);
        let sealed = self.snapshot.get(Table::Usage, &key)?;
        let opened = sealed.and_then(|sealed| self.store.system_key().open(Table::Usage, &key, &sealed));
        let said = opened.and_then(|row| decode::<UsageRow>(&row).ok()).map(UsageCounts::from);
        let found = UsageCounts {
            bytes: counted.bytes,
            inodes: counted.inodes.len() as u64,
            unique: counted.holdings.unique,
            stored: counted.holdings.stored,
        };
        if said != Some(found) {
            self.find(Finding::Usage { vault, owner: row.owner, said, found });
        }
        Ok(())
    }
}
