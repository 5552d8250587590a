//! One transaction on a vault: rows read and written, history kept, references and usage counted.

use std::collections::HashMap;

use super::{Kind, Vault};
use crate::allowance::Amounts;
use crate::audit::RecordDraft;
use crate::commit::{Ticket, Txn};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{ChunkId, ContentId, InodeId, SegmentId};
use crate::index::{Entries, Table};
use crate::limits::NAME_BYTES_MAX;
use crate::quota::{Asking, Growth, Reservation};
use crate::record::RecordKey;
use crate::rows::{
    Body, ChunkRow, Content, DentryRow, Extent, InodeRow, Moment, PastRow, SegmentRow, ShareRow, UsageRow,
    VaultRow, chunk_key, decode, dentry_key, encode, garbage_key, inode_key, past_key, segment_key,
    usage_key,
};
use crate::time::UnixNanos;

/// A transaction on one vault.
pub(crate) struct Change<'v> {
    pub(crate) vault: &'v Vault,
    pub(crate) txn: Txn<'v>,
    /// References that chunks gain or lose, and where new ones lie.
    chunks: HashMap<ChunkId, (Option<FramePlace>, i64)>,
    unique_grown: i64,
    stored_grown: i64,
    bytes_added: u64,
    bytes_removed: u64,
    inodes_added: u64,
    inodes_removed: u64,
}

/// What of a reservation a transaction uses.
#[derive(Clone, Copy)]
enum Using {
    /// All of it.
    All,
    /// As many stored bytes as it adds.
    Stored,
}

/// How much of a content was released.
pub(crate) enum Released {
    /// All of it.
    All {
        /// Chunks looked at.
        chunks: usize,
    },
    /// Its end; this much is left.
    Rest {
        /// What is left.
        content: Content,
    },
}

/// Refuses names that no directory can hold.
pub(crate) fn check_name(name: &[u8]) -> Result<(), StoreError> {
    let bad = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name == b"."
        || name == b".."
        || name.contains(&0)
        || name.contains(&b'/');
    if bad { Err(StoreError::InvalidName) } else { Ok(()) }
}

impl<'v> Change<'v> {
    pub(crate) fn begin(vault: &'v Vault) -> Result<Self, StoreError> {
        let txn = vault.store().begin()?;
        if vault.is_closed() {
            return Err(StoreError::VaultUnavailable(vault.id()));
        }
        Ok(Self {
            vault,
            txn,
            chunks: HashMap::new(),
            unique_grown: 0,
            stored_grown: 0,
            bytes_added: 0,
            bytes_removed: 0,
            inodes_added: 0,
            inodes_removed: 0,
        })
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { commit: self.txn.number(), time: self.txn.time() }
    }

    pub(crate) fn put(
        &mut self,
        table: Table,
        key: &[u8],
        row: &impl minicbor::Encode<()>,
    ) -> Result<(), StoreError> {
        let bytes = encode(row)?;
        self.txn.put(&self.vault.keys().records, table, key, &bytes);
        Ok(())
    }

    pub(crate) fn get<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.txn.get(&self.vault.keys().records, table, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn inode(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        self.get(Table::Inodes, &inode_key(self.vault.id(), inode))?.ok_or(StoreError::NotFound)
    }

    pub(crate) fn directory(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        let row = self.inode(inode)?;
        if row.kind == Kind::Directory { Ok(row) } else { Err(StoreError::NotADirectory) }
    }

    pub(crate) fn dentry(&self, parent: InodeId, name: &[u8]) -> Result<Option<DentryRow>, StoreError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(StoreError::InvalidName);
        }
        let row: Option<DentryRow> = self.get(Table::Dentries, &self.dentry_key(parent, name))?;
        // Two names with one MAC: as likely as guessing a key, and told apart all the same.
        if row.as_ref().is_some_and(|row| row.name.as_slice() != name) {
            Err(StoreError::DamagedRecord)
        } else {
            Ok(row)
        }
    }

    fn dentry_key(&self, parent: InodeId, name: &[u8]) -> Vec<u8> {
        dentry_key(self.vault.id(), parent, self.vault.keys().name_mac(parent, name))
    }

    /// Moves a superseded inode record to history, unless it began in this very transaction.
    fn keep_inode(&mut self, inode: InodeId, old: &InodeRow) -> Result<(), StoreError> {
        if old.begin.commit == self.txn.number() {
            return Ok(());
        }
        let live = inode_key(self.vault.id(), inode);
        let key = past_key(&live, self.txn.number(), old.begin.commit);
        let end = self.moment();
        self.put(Table::InodeHistory, &key, &PastRow { row: old.clone(), end })
    }

    /// Puts a new inode.
    pub(crate) fn add_inode(&mut self, inode: InodeId, row: &InodeRow) -> Result<(), StoreError> {
        self.inodes_added += 1;
        self.bytes_added += row.content.stored;
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), row)
    }

    /// Replaces an inode's record; the old one goes to history.
    pub(crate) fn replace_inode(
        &mut self,
        inode: InodeId,
        old: &InodeRow,
        mut new: InodeRow,
    ) -> Result<(), StoreError> {
        self.keep_inode(inode, old)?;
        new.begin = self.moment();
        new.ctime = self.txn.time();
        self.bytes_added += new.content.stored;
        self.bytes_removed += old.content.stored;
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), &new)
    }

    /// Sets a directory's time: its entries' history tells the rest.
    pub(crate) fn touch_directory(&mut self, inode: InodeId) -> Result<(), StoreError> {
        let mut row = self.directory(inode)?;
        if row.begin.commit == self.txn.number() {
            // Names that came with the state itself do not tell of it: it begins with their time.
            row.mtime = self.txn.time();
        } else {
            row.touched = Some(self.txn.time());
        }
        self.put(Table::Inodes, &inode_key(self.vault.id(), inode), &row)
    }

    /// Takes one link from an inode; the last one ends it.
    pub(crate) fn unlink_inode(&mut self, inode: InodeId) -> Result<(), StoreError> {
        let old = self.inode(inode)?;
        if old.links > 1 {
            let mut new = old.successor();
            new.links -= 1;
            return self.replace_inode(inode, &old, new);
        }
        self.keep_inode(inode, &old)?;
        self.inodes_removed += 1;
        self.bytes_removed += old.content.stored;
        self.txn.delete(Table::Inodes, &inode_key(self.vault.id(), inode));
        Ok(())
    }

    pub(crate) fn add_dentry(
        &mut self,
        parent: InodeId,
        name: &[u8],
        inode: InodeId,
        kind: Kind,
    ) -> Result<(), StoreError> {
        check_name(name)?;
        let row = DentryRow { name: name.to_vec().into(), inode, kind, begin: self.moment() };
        let key = self.dentry_key(parent, name);
        self.put(Table::Dentries, &key, &row)?;
        self.touch_directory(parent)
    }

    /// Takes a name away (the inode stays as it is).
    pub(crate) fn drop_dentry(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        let key = self.dentry_key(parent, &row.name);
        if row.begin.commit != self.txn.number() {
            let end = self.moment();
            let past = past_key(&key, self.txn.number(), row.begin.commit);
            self.put(Table::DentryHistory, &past, &PastRow { row: row.clone(), end })?;
        }
        self.txn.delete(Table::Dentries, &key);
        self.touch_directory(parent)
    }

    /// Takes a name away and one link with it.
    pub(crate) fn unlink(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        self.drop_dentry(parent, row)?;
        self.unlink_inode(row.inode)
    }

    /// Entries of a directory, all of them.
    pub(crate) fn entries(&self, directory: InodeId) -> Result<Vec<DentryRow>, StoreError> {
        let prefix = crate::rows::inode_key(self.vault.id(), directory);
        let rows = self.txn.range(
            &self.vault.keys().records,
            Table::Dentries,
            &prefix,
            &crate::rows::after_prefix(&prefix),
            usize::MAX,
        )?;
        rows.iter().map(|(_, bytes)| decode(bytes)).collect()
    }

    pub(crate) fn is_empty(&self, directory: InodeId) -> Result<bool, StoreError> {
        let prefix = crate::rows::inode_key(self.vault.id(), directory);
        let to = crate::rows::after_prefix(&prefix);
        Ok(self.txn.range(&self.vault.keys().records, Table::Dentries, &prefix, &to, 1)?.is_empty())
    }

    /// Takes a name away with all below it.
    pub(crate) fn unlink_tree(&mut self, parent: InodeId, row: &DentryRow) -> Result<(), StoreError> {
        if row.kind == Kind::Directory {
            for entry in self.entries(row.inode)? {
                self.unlink_tree(row.inode, &entry)?;
            }
        }
        self.unlink(parent, row)
    }

    /// Notes that a holder (a segment or an inline content) refers to these chunks no more.
    pub(crate) fn release(&mut self, extents: &[Extent]) {
        let distinct: std::collections::HashSet<_> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            self.chunks.entry(chunk).or_insert((None, 0)).1 -= 1;
        }
    }

    /// Notes that a holder (a segment or an inline content) refers to these chunks.
    pub(crate) fn refer(&mut self, extents: &[Extent], places: &HashMap<ChunkId, FramePlace>) {
        let distinct: std::collections::HashSet<_> = extents.iter().map(|extent| extent.chunk).collect();
        for chunk in distinct {
            let entry = self.chunks.entry(chunk).or_insert((None, 0));
            entry.0 = entry.0.or_else(|| places.get(&chunk).copied());
            entry.1 += 1;
        }
    }

    /// A content of inline extents.
    pub(crate) fn inline_body(
        &mut self,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Body {
        self.refer(&extents, places);
        Body::Inline(extents)
    }

    /// A new segment.
    pub(crate) fn add_segment(
        &mut self,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<SegmentId, StoreError> {
        self.refer(&extents, places);
        let segment = SegmentId(self.txn.next_number());
        self.put(Table::Segments, &segment_key(self.vault.id(), segment), &SegmentRow { refs: 1, extents })?;
        Ok(segment)
    }

    /// Another content lists a segment. Its own row stays as it is: it may be a thousand times as long.
    pub(crate) fn share_segment(&mut self, segment: SegmentId) -> Result<(), StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let share = self.get::<ShareRow>(Table::Shares, &key)?.unwrap_or_default();
        self.put(Table::Shares, &key, &ShareRow { more: share.more + 1 })
    }

    /// A new segment is held by an upload, until a content adopts it.
    pub(crate) fn hold_segment(&mut self, segment: SegmentId) {
        let key = segment_key(self.vault.id(), segment);
        self.txn.put(self.vault.store().system_key(), Table::Uploads, &key, &[]);
    }

    /// A content lists a segment in place of the upload that held it.
    pub(crate) fn adopt_segment(&mut self, segment: SegmentId) {
        self.txn.delete(Table::Uploads, &segment_key(self.vault.id(), segment));
    }

    /// Gives a segment that only its upload knows other extents.
    pub(crate) fn rewrite_segment(
        &mut self,
        segment: SegmentId,
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<(), StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let row: SegmentRow = self.get(Table::Segments, &key)?.ok_or(StoreError::DamagedRecord)?;
        self.release(&row.extents);
        self.refer(&extents, places);
        self.put(Table::Segments, &key, &SegmentRow { extents, ..row })
    }

    /// Releases a segment whose upload ended without a commit. Returns how many chunks that concerned.
    pub(crate) fn abandon_segment(&mut self, segment: SegmentId) -> Result<usize, StoreError> {
        self.adopt_segment(segment);
        match self.release_segment(segment) {
            // It was lost: `check` tells of that.
            Err(StoreError::DamagedRecord) => Ok(0),
            released => released,
        }
    }

    /// A content of its own with the same bytes.
    pub(crate) fn share_content(&mut self, content: &Content) -> Result<Content, StoreError> {
        match &content.body {
            Body::Inline(extents) => self.refer(extents, &HashMap::new()),
            Body::Segments(segments) => {
                for segment in segments.iter().flatten() {
                    self.share_segment(*segment)?;
                }
            }
        }
        let id = ContentId(self.txn.next_number());
        self.share_digests(content.id, id)?;
        Ok(Content { id, ..content.clone() })
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.txn.delete(table, key);
    }

    /// Opened rows of the vault, as [`Txn::range`].
    pub(crate) fn rows(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Entries, StoreError> {
        self.txn.range(&self.vault.keys().records, table, from, to, max)
    }

    fn vault_row(&self) -> Result<VaultRow, StoreError> {
        let id = self.vault.id();
        let found = self.txn.get(self.vault.store().system_key(), Table::Vaults, &id.0)?;
        decode(&found.ok_or(StoreError::VaultUnavailable(id))?)
    }

    /// Whether what ended before `start` may still go.
    pub(crate) fn may_prune(&self, start: UnixNanos) -> Result<bool, StoreError> {
        let row = self.vault_row()?;
        let held = row.holds.as_ref().is_some_and(|holds| !holds.is_empty());
        Ok(!held && row.erased.is_none() && row.window_start(self.txn.time()) >= start)
    }

    /// Notes that what ended before `start` may be gone.
    pub(crate) fn note_pruned(&mut self, start: UnixNanos) -> Result<(), StoreError> {
        let mut row = self.vault_row()?;
        if row.pruned.is_none_or(|pruned| pruned < start) {
            row.pruned = Some(start);
            let key = self.vault.id().0;
            self.txn.put(self.vault.store().system_key(), Table::Vaults, &key, &encode(&row)?);
        }
        Ok(())
    }

    /// A content is listed by no state of its inode any more. One that has more than about `chunks_max` chunks is released
    /// from its end, a part at a time.
    pub(crate) fn release_content(
        &mut self,
        content: &Content,
        chunks_max: usize,
    ) -> Result<Released, StoreError> {
        let list = match &content.body {
            Body::Inline(extents) => {
                self.release(extents);
                self.forget_digests(content.id)?;
                return Ok(Released::All { chunks: extents.len() });
            }
            Body::Segments(list) => list,
        };
        let (mut rest, mut chunks) = (list.clone(), 0);
        while let Some(last) = rest.pop() {
            if let Some(segment) = last {
                chunks += 1 + self.release_segment(segment)?;
            }
            if chunks >= chunks_max && !rest.is_empty() {
                let content = Content { body: Body::Segments(rest), ..content.clone() };
                return Ok(Released::Rest { content });
            }
        }
        self.forget_digests(content.id)?;
        Ok(Released::All { chunks })
    }

    /// Puts other extents for the same bytes in a segment's place; tells whether it still was as expected.
    pub(crate) fn replace_segment(
        &mut self,
        segment: SegmentId,
        before: &[Extent],
        extents: Vec<Extent>,
        places: &HashMap<ChunkId, FramePlace>,
    ) -> Result<bool, StoreError> {
        let key = segment_key(self.vault.id(), segment);
        let Some(row) = self.get::<SegmentRow>(Table::Segments, &key)?.filter(|row| row.extents == before)
        else {
            return Ok(false);
        };
        self.release(before);
        self.refer(&extents, places);
        self.put(Table::Segments, &key, &SegmentRow { extents, ..row })?;
        Ok(true)
    }

    fn release_segment(&mut self, segment: SegmentId) -> Result<usize, StoreError> {
        let key = segment_key(self.vault.id(), segment);
        if let Some(share) = self.get::<ShareRow>(Table::Shares, &key)? {
            if share.more > 1 {
                self.put(Table::Shares, &key, &ShareRow { more: share.more - 1 })?;
            } else {
                self.txn.delete(Table::Shares, &key);
            }
            if share.more > 0 {
                return Ok(0);
            }
        }
        let mut row: SegmentRow = self.get(Table::Segments, &key)?.ok_or(StoreError::DamagedRecord)?;
        row.refs = row.refs.saturating_sub(1);
        if row.refs > 0 {
            self.put(Table::Segments, &key, &row)?;
            return Ok(0);
        }
        self.release(&row.extents);
        self.txn.delete(Table::Segments, &key);
        Ok(row.extents.len())
    }

    /// Notes that a file is to be written anew in the background.
    pub(crate) fn mark_fragmented(&mut self, inode: InodeId) {
        let key = inode_key(self.vault.id(), inode);
        self.txn.put(self.vault.store().system_key(), Table::Fragmented, &key, &[]);
    }

    /// What is known of a chunk.
    pub(crate) fn chunk(&self, chunk: ChunkId) -> Result<Option<ChunkRow>, StoreError> {
        self.txn.chunk(self.vault.keys(), chunk)
    }

    /// Puts or deletes what is known of a chunk, and counts what that means for its pack and its vault.
    pub(crate) fn replace_chunk(
        &mut self,
        chunk: ChunkId,
        old: Option<&ChunkRow>,
        new: Option<&ChunkRow>,
    ) -> Result<(), StoreError> {
        for (row, sign) in [(old, -1_i64), (new, 1)] {
            if let Some(ChunkRow { place, .. }) = row {
                self.txn.count(place.pack, sign * i64::from(place.stored_bytes));
                self.unique_grown += sign * i64::from(place.plain_bytes);
                self.stored_grown += sign * i64::from(place.stored_bytes);
            }
        }
        let key = chunk_key(self.vault.id(), chunk);
        match new {
            Some(row) => {
                self.txn.put(self.vault.store().system_key(), Table::Chunks, &key, &encode(row)?);
            }
            None => self.txn.delete(Table::Chunks, &key),
        }
        Ok(())
    }

    fn write_references(&mut self) -> Result<(), StoreError> {
        for (chunk, (place, gained)) in std::mem::take(&mut self.chunks) {
            // It went from one holder to the next.
            if gained == 0 && place.is_none() {
                continue;
            }
            let found = self.chunk(chunk)?;
            let row = match (found, place) {
                // Its frame does not open; the same bytes have come again.
                (Some(ChunkRow { refs, damaged: Some(_), .. }), Some(place)) => {
                    ChunkRow { place, refs: refs.saturating_add_signed(gained), damaged: None }
                }
                (Some(found), _) => ChunkRow { refs: found.refs.saturating_add_signed(gained), ..found },
                (None, Some(place)) if gained > 0 => {
                    ChunkRow { place, refs: gained.unsigned_abs(), damaged: None }
                }
                (None, Some(_)) => continue,
                (None, None) => return Err(StoreError::DamagedRecord),
            };
            if row.refs == 0 {
                let key = garbage_key(self.txn.number(), self.vault.id(), chunk);
                self.txn.put(self.vault.store().system_key(), Table::Garbage, &key, &[]);
            }
            self.replace_chunk(chunk, found.as_ref(), Some(&row))?;
        }
        Ok(())
    }

    fn write_usage(&mut self) -> Result<(), StoreError> {
        let unchanged = self.bytes_added == self.bytes_removed
            && self.inodes_added == self.inodes_removed
            && self.unique_grown == 0
            && self.stored_grown == 0;
        if unchanged {
            return Ok(());
        }
        let system = self.vault.store().system_key();
        let key = usage_key(self.vault.owner(), self.vault.id());
        let found =
            self.txn.get(system, Table::Usage, &key)?.map(|bytes| decode::<UsageRow>(&bytes)).transpose()?;
        let mut row = found.unwrap_or_default();
        row.bytes = (row.bytes + self.bytes_added).saturating_sub(self.bytes_removed);
        row.inodes = (row.inodes + self.inodes_added).saturating_sub(self.inodes_removed);
        row.unique = Some(row.unique.unwrap_or(0).saturating_add_signed(self.unique_grown));
        row.stored = Some(row.stored.unwrap_or(0).saturating_add_signed(self.stored_grown));
        self.txn.put(system, Table::Usage, &key, &encode(&row)?);
        Ok(())
    }

    fn growth(&self, held: Amounts) -> Growth {
        let stored = self.stored_grown.unsigned_abs();
        let (stored_added, stored_removed) = if self.stored_grown < 0 { (0, stored) } else { (stored, 0) };
        Growth {
            added: Amounts { bytes: self.bytes_added, files: self.inodes_added, stored: stored_added },
            removed: Amounts {
                bytes: self.bytes_removed,
                files: self.inodes_removed,
                stored: stored_removed,
            },
            held,
        }
    }

    /// Writes references and usage, adds the record, submits. Limits are asked for all that grows.
    pub(crate) fn submit(self, audit: RecordDraft) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), None, Asking::Limits)
    }

    /// The same for a repair: whatever the limits are.
    pub(crate) fn submit_repair(self, audit: RecordDraft) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), None, Asking::Nobody)
    }

    /// The same of a transaction whose growth was reserved before, or a part of it. What was held is used then.
    pub(crate) fn submit_holding(
        self,
        audit: RecordDraft,
        reservation: &mut Reservation,
    ) -> Result<Ticket, StoreError> {
        let details = self.vault.keys().audit.clone();
        self.submit_as(Some((audit, &details)), Some((reservation, Using::All)), Asking::Limits)
    }

    /// As [`Change::submit_silently`], of what an upload stores before it commits: of what was held, the stored bytes that
    /// this adds are used then.
    pub(crate) fn submit_settling(self, reservation: &mut Reservation) -> Result<Ticket, StoreError> {
        self.submit_as(None, Some((reservation, Using::Stored)), Asking::Nobody)
    }

    /// As [`Change::submit`], for what the store does by itself: without a record of its own, and whatever the limits are.
    pub(crate) fn submit_silently(self) -> Result<Ticket, StoreError> {
        self.submit_as(None, None, Asking::Nobody)
    }

    fn submit_as(
        mut self,
        audit: Option<(RecordDraft, &RecordKey)>,
        reservation: Option<(&mut Reservation, Using)>,
        asking: Asking,
    ) -> Result<Ticket, StoreError> {
        self.write_references()?;
        self.write_usage()?;
        let vault = self.vault;
        let quotas = vault.store().quotas();
        let held = match &reservation {
            None => Amounts::default(),
            Some((reservation, Using::All)) => reservation.held(),
            Some((reservation, Using::Stored)) => {
                let grown = u64::try_from(self.stored_grown).unwrap_or(0);
                Amounts { stored: grown.min(reservation.held().stored), ..Amounts::default() }
            }
        };
        let growth = self.growth(held);
        let settled = match quotas.settle(vault.owner(), vault.id(), growth, asking) {
            Ok(settled) => settled,
            Err(refusal) => {
                // Its incident is a transaction of its own: nothing of this one is made.
                drop(self);
                return Err(vault.refused(refusal));
            }
        };
        vault.tell_settled(&mut self.txn, &settled)?;
        if let Some((record, details)) = audit {
            self.txn.audit(record, Some(details));
        }
        let ticket = self.txn.submit()?;
        settled.keep();
        if let Some((reservation, _)) = reservation {
            reservation.used(held);
        }
        Ok(ticket)
    }
}
