//! What the index counts, counted anew from its rows: bytes in use, bytes in use of each pack, and, where batches are
//! missing, references.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::load::Loader;
use crate::commit::PackCountRow;
use crate::error::StoreError;
use crate::id::{ChunkId, CommitNumber, ContentId, PackId, SegmentId, VaultId};
use crate::index::{Change, SharedIndex, Snapshot, Table};
use crate::keys::{GatewayKey, VaultKeys};
use crate::limits::EXPORT_PIECE_MAX;
use crate::record::RecordKey;
use crate::rows::{
    Body, ChunkRow, Content, Extent, InodeRow, PastRow, SegmentRow, UsageRow, VaultRow, after_prefix, decode,
    encode, garbage_key, usage_key,
};

/// Whether references are counted anew too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum References {
    /// The log is without a gap: they are right.
    Trusted,
    /// Batches are missing: a reference that was not counted would let its chunk be thrown away.
    Recounted(CommitNumber),
}

/// Counts, and puts what differs.
pub(super) fn recount(
    index: &SharedIndex,
    gateway_key: &GatewayKey,
    system_key: &RecordKey,
    references: References,
) -> Result<Vec<VaultId>, StoreError> {
    let snapshot = index.snapshot()?;
    let mut loader = Loader::new(index);
    let (mut live, mut closed) = (BTreeMap::<PackId, u64>::new(), Vec::new());
    for (at, sealed) in snapshot.range(Table::Vaults, &[], &[0xff; 17], usize::MAX)? {
        let Ok(id) = at.as_slice().try_into().map(VaultId) else { continue };
        let row = system_key.open(Table::Vaults, &at, &sealed).and_then(|row| decode::<VaultRow>(&row).ok());
        let root = row.as_ref().and_then(|row| row.managed.as_ref()?.open(id, gateway_key).ok());
        let keys = root.map(|root| VaultKeys::derive(id, &root));
        let mut count = Count {
            snapshot: snapshot.as_ref(),
            system_key,
            id,
            loader: &mut loader,
            live: &mut live,
            held: HashMap::new(),
        };
        let (Some(row), Some(keys)) = (&row, keys) else {
            count.packs_only()?;
            if let (Some(row), References::Recounted(_)) = (&row, references)
                && row.managed.is_none()
                && row.erased.is_none()
            {
                let row = VaultRow { recount_due: Some(true), ..row.clone() };
                let value = Some(system_key.seal(Table::Vaults, &at, &encode(&row)?)?);
                loader.take(Change { table: Table::Vaults, key: at, value })?;
                continue;
            }
            // One that was erased is meant to be closed for good.
            // One whose customer holds its key is locked: that is no loss.
            if row.is_none_or(|row| row.erased.is_none() && row.managed.is_some()) {
                closed.push(id);
            }
            continue;
        };
        count.vault(&keys, row, references)?;
    }
    for (at, _) in snapshot.range(Table::PackCounts, &[], &[0xff; 9], usize::MAX)? {
        loader.take(Change { table: Table::PackCounts, key: at, value: None })?;
    }
    for (pack, live) in live {
        let key = pack.0.to_be_bytes().to_vec();
        let value = system_key.seal(Table::PackCounts, &key, &encode(&PackCountRow { live })?)?;
        loader.take(Change { table: Table::PackCounts, key, value: Some(value) })?;
    }
    loader.flush()?;
    Ok(closed)
}

struct Count<'c, 'l> {
    snapshot: &'c dyn Snapshot,
    system_key: &'c RecordKey,
    id: VaultId,
    loader: &'c mut Loader<'l>,
    live: &'c mut BTreeMap<PackId, u64>,
    held: HashMap<ChunkId, u64>,
}

type EachRow<'e> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'e;

impl Count<'_, '_> {
    fn rows(&self, table: Table, keys: &[&RecordKey], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let (mut from, to) = (self.id.0.to_vec(), after_prefix(&self.id.0));
        loop {
            let piece = self.snapshot.range(table, &from, &to, EXPORT_PIECE_MAX)?;
            for (at, sealed) in &piece {
                // What does not open is found by whoever looks for what is lost.
                if let Some(row) = keys.iter().find_map(|key| key.open(table, at, sealed)) {
                    each(at, &row)?;
                }
            }
            match piece.last() {
                Some((at, _)) if piece.len() == EXPORT_PIECE_MAX => from = [at.as_slice(), &[0]].concat(),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// A vault that does not open: its chunks are the system's.
    fn packs_only(&mut self) -> Result<(), StoreError> {
        let mut live = std::mem::take(self.live);
        self.rows(Table::Chunks, &[self.system_key], &mut |_, row| {
            let row: ChunkRow = decode(row)?;
            *live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            Ok(())
        })?;
        *self.live = live;
        Ok(())
    }

    fn vault(&mut self, keys: &VaultKeys, row: &VaultRow, references: References) -> Result<(), StoreError> {
        let mut usage = UsageRow { bytes: 0, inodes: 0, unique: Some(0), stored: Some(0) };
        let mut contents = Contents::default();
        self.rows(Table::Inodes, &[&keys.records], &mut |_, row| {
            let row: InodeRow = decode(row)?;
            usage.bytes += row.content.stored;
            usage.inodes += 1;
            contents.hold(&row.content);
            Ok(())
        })?;
        if let References::Recounted(commit) = references {
            self.rows(Table::InodeHistory, &[&keys.records], &mut |_, row| {
                contents.hold(&decode::<PastRow<InodeRow>>(row)?.row.content);
                Ok(())
            })?;
            self.segments(keys, &mut contents)?;
            self.held = std::mem::take(&mut contents.chunks);
            self.references(keys, commit)?;
        }
        let (mut unique, mut stored, mut live) = (0, 0, std::mem::take(self.live));
        self.rows(Table::Chunks, &[self.system_key, &keys.records], &mut |_, row| {
            let row: ChunkRow = decode(row)?;
            unique += u64::from(row.place.plain_bytes);
            stored += u64::from(row.place.stored_bytes);
            *live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            Ok(())
        })?;
        *self.live = live;
        (usage.unique, usage.stored) = (Some(unique), Some(stored));
        let key = usage_key(row.owner, self.id);
        let value = self.system_key.seal(Table::Usage, &key, &encode(&usage)?)?;
        self.loader.take(Change { table: Table::Usage, key, value: Some(value) })
    }

    fn segments(&mut self, keys: &VaultKeys, contents: &mut Contents) -> Result<(), StoreError> {
        let (mut changed, mut shares, mut lone) = (Vec::new(), HashSet::new(), Vec::new());
        self.rows(Table::Shares, &[&keys.records], &mut |at, _| {
            shares.insert(at.to_vec());
            Ok(())
        })?;
        self.rows(Table::Segments, &[&keys.records], &mut |at, row| {
            let mut row: SegmentRow = decode(row)?;
            hold(&mut contents.chunks, &row.extents);
            let number = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            let listed = number.and_then(|number| contents.segments.get(&SegmentId(number))).copied();
            if listed.is_none() {
                lone.push(at.to_vec());
            }
            // Reclaim holds those that no content lists.
            let refs = listed.unwrap_or(1);
            if refs != row.refs || shares.contains(at) {
                row.refs = refs;
                changed.push((at.to_vec(), encode(&row)?));
            }
            Ok(())
        })?;
        for (key, row) in changed {
            let value = Some(keys.records.seal(Table::Segments, &key, &row)?);
            self.loader.take(Change { table: Table::Segments, key, value })?;
        }
        for key in shares {
            self.loader.take(Change { table: Table::Shares, key, value: None })?;
        }
        self.uploads(lone)
    }

    /// Whoever uploaded is gone: reclaim releases what no content lists.
    fn uploads(&mut self, lone: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let mut stale = Vec::new();
        self.rows(Table::Uploads, &[self.system_key], &mut |at, _| {
            stale.push(at.to_vec());
            Ok(())
        })?;
        for key in stale {
            self.loader.take(Change { table: Table::Uploads, key, value: None })?;
        }
        for key in lone {
            let value = Some(self.system_key.seal(Table::Uploads, &key, &[])?);
            self.loader.take(Change { table: Table::Uploads, key, value })?;
        }
        Ok(())
    }

    fn references(&mut self, keys: &VaultKeys, commit: CommitNumber) -> Result<(), StoreError> {
        let (mut changed, held) = (Vec::new(), std::mem::take(&mut self.held));
        self.rows(Table::Chunks, &[self.system_key, &keys.records], &mut |at, row| {
            let mut row: ChunkRow = decode(row)?;
            let chunk = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(ChunkId);
            let refs = chunk.and_then(|chunk| held.get(&chunk)).copied().unwrap_or(0);
            if let (Some(chunk), true) = (chunk, refs != row.refs) {
                row.refs = refs;
                changed.push((at.to_vec(), chunk, row));
            }
            Ok(())
        })?;
        for (key, chunk, row) in changed {
            let value = Some(self.system_key.seal(Table::Chunks, &key, &encode(&row)?)?);
            self.loader.take(Change { table: Table::Chunks, key, value })?;
            if row.refs == 0 {
                let key = garbage_key(commit, self.id, chunk);
                let value = Some(self.system_key.seal(Table::Garbage, &key, &[])?);
                self.loader.take(Change { table: Table::Garbage, key, value })?;
            }
        }
        Ok(())
    }
}

/// Who holds what.
#[derive(Default)]
struct Contents {
    seen: HashSet<ContentId>,
    segments: HashMap<SegmentId, u64>,
    chunks: HashMap<ChunkId, u64>,
}

impl Contents {
    fn hold(&mut self, content: &Content) {
        if !self.seen.insert(content.id) {
            return;
        }
        match &content.body {
            Body::Inline(extents) => hold(&mut self.chunks, extents),
            Body::Segments(segments) => {
                segments
                    .iter()
                    .flatten()
                    .for_each(|segment| *self.segments.entry(*segment).or_default() += 1);
            }
        }
    }
}

fn hold(chunks: &mut HashMap<ChunkId, u64>, extents: &[Extent]) {
    let distinct: HashSet<ChunkId> = extents.iter().map(|extent| extent.chunk).collect();
    for chunk in distinct {
        *chunks.entry(chunk).or_default() += 1;
    }
}
