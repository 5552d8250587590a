//! One vault after the other: inodes and names, contents and segments, chunks, usage.

use std::collections::{HashMap, HashSet};

use super::Check;
use crate::error::StoreError;
use crate::id::{ChunkId, ContentId, InodeId, SegmentId, VaultId};
use crate::index::Table;
use crate::keys::VaultKeys;
use crate::tree::Kind;
use crate::tree::rows::{
    Body, ChunkRow, Content, DentryRow, Extent, InodeRow, PastRow, SegmentRow, UsageRow, VaultRow, decode,
    usage_key,
};

/// What is counted while a vault is walked.
#[derive(Default)]
struct Counted {
    inodes: HashMap<InodeId, (Kind, u32)>,
    names: HashMap<InodeId, u32>,
    contents: HashSet<ContentId>,
    segments: HashMap<SegmentId, u64>,
    chunks: HashMap<ChunkId, u64>,
    stored: u64,
    unique_bytes: u64,
    frame_bytes: u64,
}

impl Counted {
    fn hold(&mut self, extents: &[Extent]) {
        let distinct: HashSet<ChunkId> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            *self.chunks.entry(chunk).or_default() += 1;
        }
    }

    fn content(&mut self, content: &Content) {
        if !self.contents.insert(content.id) {
            return;
        }
        match &content.body {
            Body::Inline(extents) => self.hold(extents),
            Body::Segments(segments) => {
                segments
                    .iter()
                    .flatten()
                    .for_each(|segment| *self.segments.entry(*segment).or_default() += 1);
            }
        }
    }
}

impl Check<'_> {
    pub(super) fn vaults(&mut self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.rows((&[self.store.system_key()], Table::Vaults), &[], |own, at, row| {
            let id: Option<[u8; 16]> = at.try_into().ok();
            match (id, decode::<VaultRow>(row)) {
                (Some(id), Ok(row)) => found.push((VaultId(id), row)),
                _ => own.report.find("a vault's record is not readable".to_owned()),
            }
        })?;
        let mut usage = HashSet::new();
        for (id, row) in found {
            self.report.vaults += 1;
            match self.store.vault(id) {
                Ok(vault) => self.vault(vault.keys(), &row)?,
                Err(error) => self.report.find(format!("vault {id}: {error}")),
            }
            usage.insert(usage_key(row.owner, id));
        }
        self.rows((&[self.store.system_key()], Table::Usage), &[], |own, at, _| {
            if !usage.contains(at) {
                own.report.find("usage is counted for a vault that is not there".to_owned());
            }
        })
    }

    fn vault(&mut self, keys: &VaultKeys, vault: &VaultRow) -> Result<(), StoreError> {
        let (id, records) = (keys.vault, &keys.records);
        let mut counted = Counted::default();
        self.rows((&[records], Table::Inodes), &id.0, |own, at, row| {
            match (number(at), decode::<InodeRow>(row)) {
                (Some(inode), Ok(row)) => own.inode(id, InodeId(inode), &row, &mut counted),
                _ => own.report.find(format!("vault {id}: an inode record is not readable")),
            }
        })?;
        self.rows((&[records], Table::InodeHistory), &id.0, |own, _, row| {
            match decode::<PastRow<InodeRow>>(row) {
                Ok(past) => counted.content(&past.row.content),
                Err(_) => own.report.find(format!("vault {id}: a past inode record is not readable")),
            }
        })?;
        self.rows((&[records], Table::DentryHistory), &id.0, |own, _, row| {
            if decode::<PastRow<DentryRow>>(row).is_err() {
                own.report.find(format!("vault {id}: a past name is not readable"));
            }
        })?;
        self.names(keys, &mut counted)?;
        self.segments(keys, &mut counted)?;
        self.chunks(keys, &mut counted)?;
        let key = usage_key(vault.owner, id);
        let sealed = self.snapshot.get(Table::Usage, &key)?;
        let row = sealed.and_then(|sealed| self.store.system_key().open(Table::Usage, &key, &sealed));
        let counts = UsageRow {
            bytes: counted.stored,
            inodes: counted.inodes.len() as u64,
            unique: Some(counted.unique_bytes),
            stored: Some(counted.frame_bytes),
        };
        match row.map(|row| decode::<UsageRow>(&row)) {
            Some(Ok(row)) if row == counts => {}
            _ => self.report.find(format!(
                "vault {id}: the counted usage is not {} bytes in {} inodes, {} of chunks, {} of frames",
                counts.bytes, counts.inodes, counted.unique_bytes, counted.frame_bytes
            )),
        }
        Ok(())
    }

    fn inode(&mut self, vault: VaultId, inode: InodeId, row: &InodeRow, counted: &mut Counted) {
        self.report.inodes += 1;
        counted.inodes.insert(inode, (row.kind, row.links));
        counted.stored += row.content.stored;
        counted.content(&row.content);
        if let Body::Inline(extents) = &row.content.body {
            let beyond = extents.last().is_some_and(|last| last.end() > row.content.size);
            let sum: u64 = extents.iter().map(|extent| u64::from(extent.len)).sum();
            if beyond || !is_ordered(extents) || sum != row.content.stored {
                self.report
                    .find(format!("vault {vault}: inode {inode} has extents that do not fit its size"));
            }
        }
        if (row.kind == Kind::SymbolicLink) != row.target.is_some() {
            self.report.find(format!("vault {vault}: inode {inode} has not what its kind has"));
        }
    }

    fn names(&mut self, keys: &VaultKeys, counted: &mut Counted) -> Result<(), StoreError> {
        let id = keys.vault;
        self.rows((&[&keys.records], Table::Dentries), &id.0, |own, at, row| {
            let parent = at
                .get(16..24)
                .and_then(|bytes| bytes.try_into().ok())
                .map(|bytes| InodeId(u64::from_be_bytes(bytes)));
            let (Some(parent), Ok(row)) = (parent, decode::<DentryRow>(row)) else {
                return own.report.find(format!("vault {id}: a name is not readable"));
            };
            if at.get(24..) != Some(&keys.name_mac(parent, &row.name)[..]) {
                own.report.find(format!("vault {id}: a name of directory {parent} is not under its own key"));
            }
            if counted.inodes.get(&parent).is_none_or(|(kind, _)| *kind != Kind::Directory) {
                own.report.find(format!("vault {id}: names are in directory {parent}, which is none"));
            }
            match counted.inodes.get(&row.inode) {
                Some((kind, _)) if *kind == row.kind => *counted.names.entry(row.inode).or_default() += 1,
                Some(_) | None => own
                    .report
                    .find(format!("vault {id}: a name leads to inode {}, which is not there", row.inode)),
            }
        })?;
        for (inode, (_, links)) in &counted.inodes {
            let names = counted.names.get(inode).copied().unwrap_or(0);
            let expected = if *inode == InodeId::ROOT { 0 } else { *links };
            if names != expected || (*inode != InodeId::ROOT && names == 0) {
                self.report.find(format!("vault {id}: inode {inode} has {names} names and counts {links}"));
            }
        }
        Ok(())
    }

    fn segments(&mut self, keys: &VaultKeys, counted: &mut Counted) -> Result<(), StoreError> {
        let id = keys.vault;
        let mut expected = std::mem::take(&mut counted.segments);
        self.rows((&[&keys.records], Table::Segments), &id.0, |own, at, row| {
            let (Some(segment), Ok(row)) = (number(at), decode::<SegmentRow>(row)) else {
                return own.report.find(format!("vault {id}: a segment is not readable"));
            };
            counted.hold(&row.extents);
            let refs = expected.remove(&SegmentId(segment)).unwrap_or(0);
            if refs != row.refs || !is_ordered(&row.extents) {
                own.report.find(format!(
                    "vault {id}: segment {segment} counts {} references and has {refs}",
                    row.refs
                ));
            }
        })?;
        for segment in expected.keys() {
            self.report.find(format!("vault {id}: segment {segment} is missing"));
        }
        Ok(())
    }

    fn chunks(&mut self, keys: &VaultKeys, counted: &mut Counted) -> Result<(), StoreError> {
        let id = keys.vault;
        let mut expected = std::mem::take(&mut counted.chunks);
        self.rows((&[self.store.system_key(), &keys.records], Table::Chunks), &id.0, |own, at, row| {
            let chunk = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(ChunkId);
            let (Some(chunk), Ok(row)) = (chunk, decode::<ChunkRow>(row)) else {
                return own.report.find(format!("vault {id}: a chunk's record is not readable"));
            };
            own.report.chunks += 1;
            counted.unique_bytes += u64::from(row.place.plain_bytes);
            counted.frame_bytes += u64::from(row.place.stored_bytes);
            *own.live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            let refs = expected.remove(&chunk).unwrap_or(0);
            if refs != row.refs {
                own.report
                    .find(format!("vault {id}: {chunk:?} counts {} references and has {refs}", row.refs));
            }
            if !own.is_in_bounds(&row.place) {
                own.report.find(format!("vault {id}: {chunk:?} lies outside of pack {}", row.place.pack));
            }
        })?;
        for chunk in expected.keys() {
            self.report.find(format!("vault {id}: {chunk:?} is missing"));
        }
        Ok(())
    }
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(16..)?.try_into().ok()?))
}

fn is_ordered(extents: &[Extent]) -> bool {
    extents.windows(2).all(|pair| matches!(pair, [before, after] if before.end() <= after.start))
}
