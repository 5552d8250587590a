//! Repairs inside one vault: chunks set aside, names, links, segments, references.

use std::collections::BTreeMap;

use super::{Incomplete, Repair, RepairKind};
use crate::audit::Action;
use crate::check::{Count, Finding};
use crate::error::StoreError;
use crate::frame::{Codec, FramePlace};
use crate::id::{ChunkId, CommitNumber, ContentId, InodeId, PackId, SegmentId, VaultId};
use crate::index::Table;
use crate::limits::REPAIR_ROWS_MAX;
use crate::rows::{
    ChunkRow, DENTRY_KEY_BYTES, DentryRow, InodeRow, Kind, PastRow, SegmentRow, ShareRow, garbage_key,
    inode_key, past_key, segment_key,
};
use crate::tree::Vault;
use crate::tree::change::Change;

/// The place of a chunk of which nothing is known but that something refers to it.
const NOWHERE: FramePlace = FramePlace {
    pack: PackId(0),
    offset: 0,
    stored_bytes: 0,
    plain_bytes: 0,
    codec: Codec::Plain,
    salt_of: PackId(0),
};

/// Items of each vault.
fn by_vault<T>(items: impl IntoIterator<Item = (VaultId, T)>) -> BTreeMap<VaultId, Vec<T>> {
    let mut vaults: BTreeMap<VaultId, Vec<T>> = BTreeMap::new();
    for (vault, item) in items {
        vaults.entry(vault).or_default().push(item);
    }
    vaults
}

/// One correction inside a vault, with what the check saw.
enum Fix<'f> {
    MissingChunk(ChunkId, u64),
    TakeBack(ChunkId),
    Name(&'f [u8]),
    Nameless(InodeId, CommitNumber),
    Links(InodeId, Count),
    Parent(InodeId, InodeId),
    Segment(SegmentId, Count),
    Share(SegmentId),
    Chunk(ChunkId, Count),
    Awaited(ChunkId),
    Digests(ContentId),
    Lock(InodeId, u64),
}

impl Repair<'_> {
    /// Chunks that cannot be read: an error from now on, until the same bytes come again.
    pub(super) fn set_aside(&mut self, lost: &[(VaultId, ChunkId, FramePlace)]) -> Result<(), StoreError> {
        let mut lost = lost.to_vec();
        // One incident for many of one pack.
        lost.sort_by_key(|(vault, _, place)| (*vault, place.pack, place.offset));
        for (id, chunks) in by_vault(lost.into_iter().map(|(vault, chunk, place)| (vault, (chunk, place)))) {
            let Ok(vault) = self.store.vault(id) else { continue };
            for step in chunks.chunks(REPAIR_ROWS_MAX) {
                let mut change = Change::begin(&vault)?;
                let mut packs: BTreeMap<PackId, Vec<ChunkId>> = BTreeMap::new();
                for (chunk, place) in step {
                    // It may have moved, or been written again.
                    let found = change.chunk(*chunk)?;
                    if let Some(row) = found.filter(|row| row.damaged.is_none() && row.place == *place) {
                        let aside = ChunkRow { damaged: Some(change.txn.time()), ..row };
                        change.replace_chunk(*chunk, Some(&row), Some(&aside))?;
                        packs.entry(place.pack).or_default().push(*chunk);
                    }
                }
                let count = packs.values().map(Vec::len).sum::<usize>() as u64;
                if count > 0 {
                    for (pack, chunks) in packs {
                        tell(&mut change, &vault, pack, &chunks)?;
                    }
                    let reason = format!("{count} damaged chunks set aside");
                    change.submit_repair(self.record(Action::SetAside, Some(id), reason))?.wait()?;
                    self.count(RepairKind::ChunkSetAside, count);
                }
            }
        }
        Ok(())
    }

    /// Chunks that were set aside and are whole: the disk that held them came back.
    pub(super) fn take_back(&mut self, findings: &[Finding]) -> Result<(), StoreError> {
        let healed = findings.iter().filter_map(|finding| match finding {
            Finding::ChunkHealed { vault, chunk, .. } => Some((*vault, Fix::TakeBack(*chunk))),
            _ => None,
        });
        self.fix(by_vault(healed))
    }

    pub(super) fn correct_trees(
        &mut self,
        findings: &[Finding],
        incomplete: &Incomplete,
    ) -> Result<(), StoreError> {
        let fixes = findings.iter().filter_map(|finding| match finding {
            Finding::ChunkMissing { vault, chunk, references } => {
                Some((*vault, Fix::MissingChunk(*chunk, *references)))
            }
            Finding::Parent { vault, inode, found } => Some((*vault, Fix::Parent(*inode, *found))),
            Finding::Links { vault, inode, count } if count.growth() > 0 || !incomplete.has(*vault) => {
                Some((*vault, Fix::Links(*inode, *count)))
            }
            Finding::NameTarget { vault, key, .. } | Finding::NameParent { vault, key, .. }
                if !incomplete.has(*vault) =>
            {
                Some((*vault, Fix::Name(key)))
            }
            Finding::Nameless { vault, inode, begin } if !incomplete.has(*vault) => {
                Some((*vault, Fix::Nameless(*inode, *begin)))
            }
            _ => None,
        });
        self.fix(by_vault(fixes))
    }

    pub(super) fn correct_references(
        &mut self,
        findings: &[Finding],
        incomplete: &Incomplete,
    ) -> Result<(), StoreError> {
        let fixes = findings.iter().filter_map(|finding| match finding {
            Finding::SegmentReferences { vault, segment, count }
                if count.growth() > 0 || !incomplete.has(*vault) =>
            {
                Some((*vault, Fix::Segment(*segment, *count)))
            }
            Finding::ShareOfNobody { vault, segment } if !incomplete.has(*vault) => {
                Some((*vault, Fix::Share(*segment)))
            }
            Finding::ChunkReferences { vault, chunk, count }
                if count.growth() > 0 || !incomplete.has(*vault) =>
            {
                Some((*vault, Fix::Chunk(*chunk, *count)))
            }
            Finding::NotAwaited { vault, chunk } if !incomplete.has(*vault) => {
                Some((*vault, Fix::Awaited(*chunk)))
            }
            Finding::DigestsOfNothing { vault, content } if !incomplete.has(*vault) => {
                Some((*vault, Fix::Digests(*content)))
            }
            Finding::LockOfNothing { vault, inode, number } if !incomplete.has(*vault) => {
                Some((*vault, Fix::Lock(*inode, *number)))
            }
            _ => None,
        });
        self.fix(by_vault(fixes))
    }

    /// Corrects in steps; what is not as it was seen is left for the next look.
    fn fix(&mut self, vaults: BTreeMap<VaultId, Vec<Fix<'_>>>) -> Result<(), StoreError> {
        for (id, fixes) in vaults {
            let Ok(vault) = self.store.vault(id) else { continue };
            for step in fixes.chunks(REPAIR_ROWS_MAX) {
                let mut change = Change::begin(&vault)?;
                let mut done: BTreeMap<RepairKind, u64> = BTreeMap::new();
                let mut missing = Vec::new();
                for fix in step {
                    let Some(kind) = apply(&mut change, fix)? else { continue };
                    *done.entry(kind).or_default() += 1;
                    if let Fix::MissingChunk(chunk, _) = fix {
                        missing.push(*chunk);
                    }
                }
                if done.is_empty() {
                    continue;
                }
                if !missing.is_empty() {
                    tell(&mut change, &vault, NOWHERE.pack, &missing)?;
                }
                let said: Vec<String> =
                    done.iter().map(|(kind, times)| format!("{times} {}", kind.name())).collect();
                change.submit_repair(self.record(Action::Repair, Some(id), said.join(", ")))?.wait()?;
                for (kind, times) in done {
                    self.count(kind, times);
                }
            }
        }
        Ok(())
    }
}

/// Raises an incident about chunks of a pack, in the transaction that sets them aside.
fn tell(change: &mut Change<'_>, vault: &Vault, pack: PackId, chunks: &[ChunkId]) -> Result<(), StoreError> {
    let text = format!("{} chunks were set aside", chunks.len());
    let pack = Some(pack).filter(|pack| *pack != NOWHERE.pack);
    let place = (pack, chunks.first().copied());
    crate::check::incident::raise(vault.store(), &mut change.txn, Some(vault), place, text)
}

/// Makes one correction; nothing when it is not needed any more.
fn apply(change: &mut Change<'_>, fix: &Fix<'_>) -> Result<Option<RepairKind>, StoreError> {
    match *fix {
        Fix::MissingChunk(chunk, refs) => missing_chunk(change, chunk, refs),
        Fix::TakeBack(chunk) => {
            let Some(row) = change.chunk(chunk)?.filter(|row| row.damaged.is_some()) else { return Ok(None) };
            change.replace_chunk(chunk, Some(&row), Some(&ChunkRow { damaged: None, ..row }))?;
            Ok(Some(RepairKind::ChunkTakenBack))
        }
        Fix::Name(key) => name(change, key),
        Fix::Nameless(inode, begin) => nameless(change, inode, begin),
        Fix::Links(inode, count) => correct_inode(change, inode, |row| {
            let links = i64::from(row.links).saturating_add(count.growth());
            InodeRow { links: u32::try_from(links.max(1)).unwrap_or(u32::MAX), ..row }
        }),
        // It may have been moved meanwhile: then nothing changes.
        Fix::Parent(inode, found) => {
            correct_inode(change, inode, |row| InodeRow { parent: Some(found), ..row })
        }
        Fix::Segment(segment, count) => correct_segment(change, segment, count),
        Fix::Share(segment) => {
            let key = segment_key(change.vault.id(), segment);
            if change.txn.sealed(Table::Segments, &key)?.is_some() {
                return Ok(None);
            }
            change.delete(Table::Shares, &key);
            Ok(Some(RepairKind::ReferencesCounted))
        }
        Fix::Chunk(chunk, count) => {
            let Some(row) = change.chunk(chunk)? else { return Ok(None) };
            let now = ChunkRow { refs: row.refs.saturating_add_signed(count.growth()), ..row };
            change.replace_chunk(chunk, Some(&row), Some(&now))?;
            if now.refs == 0 {
                await_reclaim(change, chunk);
            }
            Ok(Some(RepairKind::ReferencesCounted))
        }
        Fix::Awaited(chunk) => {
            if change.chunk(chunk)?.is_none_or(|row| row.refs > 0) {
                return Ok(None);
            }
            await_reclaim(change, chunk);
            Ok(Some(RepairKind::ChunkListed))
        }
        Fix::Lock(inode, number) => match change.inode(inode) {
            Err(StoreError::NotFound) => {
                change.held_locks()?;
                change.drop_lock((inode, number));
                Ok(Some(RepairKind::LocksDropped))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        },
        Fix::Digests(content) => Ok(change.forget_digests(content)?.then_some(RepairKind::DigestsDropped)),
    }
}

/// Nothing can be read of it, but all else of its file can, and the same bytes heal it.
fn missing_chunk(
    change: &mut Change<'_>,
    chunk: ChunkId,
    refs: u64,
) -> Result<Option<RepairKind>, StoreError> {
    match change.chunk(chunk) {
        // Somebody wrote it anew: what he counted is corrected after the next look.
        Ok(Some(_)) => return Ok(None),
        Ok(None) | Err(StoreError::DamagedRecord) => {}
        Err(error) => return Err(error),
    }
    let row = ChunkRow { place: NOWHERE, refs, damaged: Some(change.txn.time()) };
    change.replace_chunk(chunk, None, Some(&row))?;
    Ok(Some(RepairKind::ChunkSetAside))
}

/// An inode to which no name leads goes to history, and all below it.
fn nameless(
    change: &mut Change<'_>,
    inode: InodeId,
    begin: CommitNumber,
) -> Result<Option<RepairKind>, StoreError> {
    let row = match change.inode(inode) {
        Ok(row) if row.begin.commit == begin => row,
        Ok(_) | Err(StoreError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    if row.kind == Kind::Directory {
        for entry in change.entries(inode)? {
            change.unlink_tree(inode, &entry)?;
        }
    }
    // All of its names are gone already.
    let last = InodeRow { links: 1, ..change.inode(inode)? };
    change.put(Table::Inodes, &inode_key(change.vault.id(), inode), &last)?;
    change.unlink_inode(inode)?;
    Ok(Some(RepairKind::InodeDropped))
}

/// What is corrected is no change of the file: its state does not begin anew.
fn correct_inode(
    change: &mut Change<'_>,
    inode: InodeId,
    correct: impl FnOnce(InodeRow) -> InodeRow,
) -> Result<Option<RepairKind>, StoreError> {
    let row = match change.inode(inode) {
        Ok(row) => row,
        Err(StoreError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let corrected = correct(row.clone());
    if corrected == row {
        return Ok(None);
    }
    change.put(Table::Inodes, &inode_key(change.vault.id(), inode), &corrected)?;
    Ok(Some(RepairKind::TreeCorrected))
}

fn correct_segment(
    change: &mut Change<'_>,
    segment: SegmentId,
    count: Count,
) -> Result<Option<RepairKind>, StoreError> {
    let key = segment_key(change.vault.id(), segment);
    let Some(row) = change.get::<SegmentRow>(Table::Segments, &key)? else { return Ok(None) };
    // One that does not open counted nothing for the check either.
    let more = change.get::<ShareRow>(Table::Shares, &key).ok().flatten().map_or(0, |share| share.more);
    let said = row.refs.saturating_add(more);
    change.delete(Table::Shares, &key);
    if count.found == 0 && said == count.said {
        change.release(&row.extents);
        change.delete(Table::Segments, &key);
        return Ok(Some(RepairKind::SegmentDropped));
    }
    let refs = said.saturating_add_signed(count.growth());
    change.put(Table::Segments, &key, &SegmentRow { refs, ..row })?;
    Ok(Some(RepairKind::ReferencesCounted))
}

/// Puts a chunk that nobody refers to on the list of what goes.
fn await_reclaim(change: &mut Change<'_>, chunk: ChunkId) {
    let key = garbage_key(change.txn.number(), change.vault.id(), chunk);
    let system = change.vault.store().system_key();
    change.txn.put(system, Table::Garbage, &key, &[]);
}

/// A name that leads nowhere, to something of another kind, or from a directory that is none.
fn name(change: &mut Change<'_>, key: &[u8]) -> Result<Option<RepairKind>, StoreError> {
    let Some(row) = change.get::<DentryRow>(Table::Dentries, key)? else { return Ok(None) };
    let parent = key.get(16..24).and_then(|bytes| bytes.first_chunk());
    let parent = InodeId(u64::from_be_bytes(*parent.ok_or(StoreError::DamagedRecord)?));
    let target = match change.inode(row.inode) {
        Ok(target) => Some(target),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error),
    };
    let in_directory = match change.directory(parent) {
        Ok(_) => true,
        Err(StoreError::NotFound | StoreError::NotADirectory) => false,
        Err(error) => return Err(error),
    };
    match target {
        Some(target) if in_directory && target.kind == row.kind => return Ok(None),
        Some(target) if in_directory => {
            change.put(Table::Dentries, key, &DentryRow { kind: target.kind, ..row })?;
            return Ok(Some(RepairKind::TreeCorrected));
        }
        Some(_) | None => {}
    }
    // It goes to history, as a name does that is removed; what it led to has lost a name, as the next look finds.
    if row.begin.commit != change.txn.number() && key.len() == DENTRY_KEY_BYTES {
        let past = past_key(key, change.txn.number(), row.begin.commit);
        let end = change.moment();
        change.put(Table::DentryHistory, &past, &PastRow { row, end })?;
    }
    change.delete(Table::Dentries, key);
    Ok(Some(RepairKind::NameDropped))
}
