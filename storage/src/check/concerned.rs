//! Which files, present and past, hold something that cannot be read: found by their contents, told by their paths.

use std::collections::{BTreeMap, HashMap};

use super::{Check, Unreadable, number_of};
use crate::error::StoreError;
use crate::id::{CommitNumber, ContentId, InodeId, SegmentId, VaultId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::limits::{CONCERNED_FILES_MAX, PATH_BYTES_MAX};
use crate::rows::{Body, Content, DentryRow, Extent, InodeRow, Moment, PastRow, SegmentRow, decode};
use crate::time::UnixNanos;
use crate::tree::Kind;

/// A file of which something cannot be read. It is told to the operator, never logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcernedFile {
    /// In which vault.
    pub vault: VaultId,
    /// Which inode.
    pub inode: InodeId,
    /// From the vault's root; nothing when no name leads to it any more.
    pub path: Option<Vec<u8>>,
    /// Nothing for the present; for a superseded content the last moment that showed it.
    pub moment: Option<UnixNanos>,
}

impl Unreadable {
    fn touches(&self, extents: &[Extent]) -> bool {
        extents.iter().any(|extent| self.chunks.contains(&extent.chunk))
    }

    fn concerns(&self, content: &Content) -> bool {
        match &content.body {
            Body::Inline(extents) => self.touches(extents),
            Body::Segments(list) => list.iter().flatten().any(|segment| self.segments.contains(segment)),
        }
    }
}

/// A name that led to an inode for a while.
struct Named {
    parent: InodeId,
    name: Vec<u8>,
    begin: CommitNumber,
    /// When it ended; nothing while it lasts.
    end: Option<CommitNumber>,
}

#[derive(Default)]
struct Names(HashMap<InodeId, Vec<Named>>);

impl Names {
    fn at(&self, inode: InodeId, commit: CommitNumber) -> impl Iterator<Item = &Named> {
        self.0
            .get(&inode)
            .into_iter()
            .flatten()
            .filter(move |named| named.begin <= commit && named.end.is_none_or(|end| end > commit))
    }

    fn path(&self, named: &Named, commit: CommitNumber) -> Option<Vec<u8>> {
        let (mut parts, mut bytes, mut at) = (vec![named.name.as_slice()], named.name.len(), named.parent);
        while at != InodeId::ROOT {
            let above = self.at(at, commit).next()?;
            bytes += above.name.len() + 1;
            if bytes > PATH_BYTES_MAX {
                return None;
            }
            parts.push(&above.name);
            at = above.parent;
        }
        Some(parts.iter().rev().flat_map(|part| [b"/", *part].concat()).collect())
    }
}

/// The files of one vault that are concerned.
#[derive(Default)]
struct Concerned {
    present: BTreeMap<InodeId, ContentId>,
    /// Contents that were superseded, and when the last state with each ended.
    past: BTreeMap<(InodeId, ContentId), Moment>,
}

impl Concerned {
    fn has(&self, inode: InodeId) -> bool {
        let mut past = self.past.range((inode, ContentId(0))..=(inode, ContentId(u64::MAX)));
        self.present.contains_key(&inode) || past.next().is_some()
    }
}

impl Check<'_> {
    pub(super) fn concerned(&mut self) -> Result<(), StoreError> {
        for (id, unreadable) in std::mem::take(&mut self.unreadable) {
            if let Ok(vault) = self.store.vault(id) {
                self.concerned_of(vault.keys(), unreadable)?;
            }
        }
        Ok(())
    }

    /// What does not open is a finding already: passed over here.
    fn each_row(
        &mut self,
        keys: &VaultKeys,
        table: Table,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let found = self.report.findings.len();
        self.rows((&[&keys.records], table), &keys.vault.0, |_, at, row| each(at, row))?;
        self.report.findings.truncate(found);
        Ok(())
    }

    fn concerned_of(&mut self, keys: &VaultKeys, mut unreadable: Unreadable) -> Result<(), StoreError> {
        let mut segments = Vec::new();
        self.each_row(keys, Table::Segments, |at, row| {
            if unreadable.touches(&decode::<SegmentRow>(row)?.extents) {
                segments.push(SegmentId(number_of(at)?));
            }
            Ok(())
        })?;
        unreadable.segments.extend(segments);
        let mut concerned = Concerned::default();
        self.each_row(keys, Table::Inodes, |at, row| {
            let row: InodeRow = decode(row)?;
            if unreadable.concerns(&row.content) {
                concerned.present.insert(InodeId(number_of(at)?), row.content.id);
            }
            Ok(())
        })?;
        self.each_row(keys, Table::InodeHistory, |at, row| {
            let past: PastRow<InodeRow> = decode(row)?;
            let (inode, content) = (InodeId(number_of(at)?), past.row.content);
            if unreadable.concerns(&content) && concerned.present.get(&inode) != Some(&content.id) {
                concerned.past.insert((inode, content.id), past.end);
            }
            Ok(())
        })?;
        let names = self.names_of(keys, &concerned)?;
        self.tell(keys.vault, &concerned, &names);
        Ok(())
    }

    /// Names of concerned files, and of all directories: ways lead through them.
    fn names_of(&mut self, keys: &VaultKeys, concerned: &Concerned) -> Result<Names, StoreError> {
        let mut names = Names::default();
        let mut take = |at: &[u8], row: DentryRow, end: Option<CommitNumber>| {
            if row.kind == Kind::Directory || concerned.has(row.inode) {
                let parent = InodeId(number_of(at)?);
                let way = Named { parent, name: row.name.into(), begin: row.begin.commit, end };
                names.0.entry(row.inode).or_default().push(way);
            }
            Ok(())
        };
        self.each_row(keys, Table::Dentries, |at, row| take(at, decode(row)?, None))?;
        self.each_row(keys, Table::DentryHistory, |at, row| {
            let past: PastRow<DentryRow> = decode(row)?;
            take(at, past.row, Some(past.end.commit))
        })?;
        Ok(names)
    }

    fn tell(&mut self, vault: VaultId, concerned: &Concerned, names: &Names) {
        let newest = CommitNumber(u64::MAX);
        let present = concerned.present.keys().map(|inode| (*inode, newest, None));
        let past = concerned.past.iter().map(|((inode, _), end)| {
            (*inode, CommitNumber(end.commit.0.saturating_sub(1)), Some(UnixNanos(end.time.0 - 1)))
        });
        for (inode, commit, moment) in present.chain(past) {
            let paths: Vec<_> =
                names.at(inode, commit).filter_map(|named| names.path(named, commit)).map(Some).collect();
            for path in if paths.is_empty() { vec![None] } else { paths } {
                if self.report.files.len() < CONCERNED_FILES_MAX {
                    self.report.files.push(ConcernedFile { vault, inode, path, moment });
                } else {
                    self.report.files_left_out += 1;
                }
            }
        }
    }
}
