//! Which files a loss concerns: every vault that opens is walked, every extent is followed to its frame.

use std::collections::{HashMap, HashSet};

use crate::commit::Store;
use crate::error::StoreError;
use crate::id::{ChunkId, InodeId, PackId, SegmentId, VaultId};
use crate::index::{Snapshot, Table};
use crate::keys::VaultKeys;
use crate::limits::{BLOCK_BYTES, EXPORT_PIECE_MAX, LOST_FILES_MAX, PRUNE_CHUNKS_MAX};
use crate::log::pack::blob_name;
use crate::log::walk::packs;
use crate::record::RecordKey;
use crate::rows::{
    Body, ChunkRow, Content, DentryRow, Extent, InodeRow, PastRow, SegmentRow, after_prefix, chunk_key,
    decode, encode,
};
use crate::tree::Kind;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadExtent {
    /// The index: whether each frame's place is in a pack that is there.
    Places,
    /// Every frame too.
    Everything,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostKind {
    /// Some of its content is not there or does not open.
    Content,
    /// Only a superseded state of it is concerned.
    EarlierState,
    /// The name is there; what it leads to is not.
    Attributes,
    /// It is there; its name, or a directory above it, is not.
    Name,
}

/// A file that is not whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostFile {
    /// Name of its vault.
    pub vault: String,
    /// Identity of its vault.
    pub vault_id: VaultId,
    /// Its path from the vault's root; nothing when it has no name any more.
    pub path: Option<Vec<u8>>,
    /// Its inode.
    pub inode: InodeId,
    /// What is wrong.
    pub kind: LostKind,
}

/// What a look at all vaults found.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// Every file that is not whole, and only these; sorted.
    pub files: Vec<LostFile>,
    /// Rows of the index that do not open.
    pub damaged_rows: u64,
    /// Vaults that do not open.
    pub closed: Vec<VaultId>,
    /// Vaults whose customers hold their keys: nobody could look into them.
    pub locked: Vec<VaultId>,
    /// Chunks whose frame is not there or does not open.
    pub chunks: Vec<(VaultId, ChunkId)>,
}

impl LostKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::EarlierState => "earlier state",
            Self::Attributes => "attributes",
            Self::Name => "name",
        }
    }
}

impl Store {
    /// Finds every file of which something is missing. Tells `progress` the frames read.
    ///
    /// # Errors
    /// Only when looking is impossible.
    pub fn find_losses(
        &self,
        extent: ReadExtent,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Losses, StoreError> {
        let (snapshot, _) = self.checkpoint_view()?;
        let mut sizes = HashMap::new();
        for pack in packs(self.blobs().as_ref())? {
            sizes.insert(pack, self.blobs().open(&blob_name(pack))?.len()?);
        }
        let mut losses = Losses::default();
        let mut frames = 0;
        for record in self.vaults()?.into_iter().filter(|record| record.erased.is_none()) {
            let vault = match self.vault(record.id) {
                Ok(vault) => vault,
                Err(StoreError::VaultLocked(_)) => {
                    losses.locked.push(record.id);
                    continue;
                }
                Err(_) => {
                    losses.closed.push(record.id);
                    continue;
                }
            };
            let mut search = Search {
                store: self,
                snapshot: snapshot.as_ref(),
                keys: vault.keys(),
                packs: &sizes,
                gone: HashSet::new(),
                known: HashSet::new(),
                damaged_rows: 0,
            };
            search.chunks(extent, &mut || {
                frames += 1;
                progress(frames);
            })?;
            search.segments()?;
            search.files(&record.name, &mut losses.files)?;
            losses.damaged_rows += search.damaged_rows;
            losses.chunks.extend(search.gone.iter().map(|chunk| (record.id, *chunk)));
        }
        losses.files.sort();
        losses.files.dedup();
        losses.files.truncate(LOST_FILES_MAX);
        Ok(losses)
    }
}

impl Store {
    /// Sets chunks aside that were found lost: nothing new refers to them, and the same content, when it comes again, is
    /// stored again. Without this an upload of what was lost would find that it is known already.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn set_aside(&self, chunks: &[(VaultId, ChunkId)]) -> Result<(), StoreError> {
        for some in chunks.chunks(PRUNE_CHUNKS_MAX) {
            let mut txn = self.begin()?;
            for &(id, chunk) in some {
                let vault = self.vault(id)?;
                let Some(row) = txn.chunk(vault.keys(), chunk)? else { continue };
                let row = ChunkRow { damaged: row.damaged.or_else(|| Some(txn.time())), ..row };
                txn.put(self.system_key(), Table::Chunks, &chunk_key(id, chunk), &encode(&row)?);
            }
            txn.submit()?.wait()?;
        }
        Ok(())
    }
}

struct Search<'s> {
    store: &'s Store,
    snapshot: &'s dyn Snapshot,
    keys: &'s VaultKeys,
    packs: &'s HashMap<PackId, u64>,
    /// Chunks whose frame is not there or does not open.
    gone: HashSet<ChunkId>,
    /// Segments that are there, with all their chunks.
    known: HashSet<SegmentId>,
    damaged_rows: u64,
}

fn number(at: &[u8]) -> Option<u64> {
    at.get(16..24).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

type EachRow<'e, S> = dyn FnMut(&mut S, &[u8], &[u8]) -> Result<(), StoreError> + 'e;

impl Search<'_> {
    fn rows(
        &mut self,
        table: Table,
        keys: &[&RecordKey],
        each: &mut EachRow<'_, Self>,
    ) -> Result<(), StoreError> {
        let vault = self.keys.vault.0;
        let (mut from, to) = (vault.to_vec(), after_prefix(&vault));
        loop {
            let piece = self.snapshot.range(table, &from, &to, EXPORT_PIECE_MAX)?;
            for (at, sealed) in &piece {
                match keys.iter().find_map(|key| key.open(table, at, sealed)) {
                    Some(row) => each(self, at, &row)?,
                    None => self.damaged_rows += 1,
                }
            }
            match piece.last() {
                Some((at, _)) if piece.len() == EXPORT_PIECE_MAX => from = [at.as_slice(), &[0]].concat(),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Looks at the place of every chunk, and opens every frame in the order of the disk if that is asked for.
    fn chunks(&mut self, extent: ReadExtent, read: &mut dyn FnMut()) -> Result<(), StoreError> {
        let (system, own) = (self.store.system_key(), &self.keys.records);
        let mut places = Vec::new();
        self.rows(Table::Chunks, &[system, own], &mut |search, at, row| {
            let chunk = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(ChunkId);
            let (Some(chunk), Ok(row)) = (chunk, decode::<ChunkRow>(row)) else { return Ok(()) };
            let end = row.place.offset.saturating_add(u64::from(row.place.stored_bytes));
            let inside = search.packs.get(&row.place.pack).is_some_and(|bytes| end <= *bytes);
            if !inside || row.place.offset < BLOCK_BYTES as u64 || row.damaged.is_some() {
                search.gone.insert(chunk);
            } else if extent == ReadExtent::Everything {
                places.push((row.place, chunk));
            }
            Ok(())
        })?;
        places.sort_by_key(|(place, _)| (place.pack, place.offset));
        for (place, chunk) in places {
            let opened = self.store.read_frame_uncached(self.keys, chunk, &place);
            if !opened.is_ok_and(|plain| self.keys.chunk_id(&plain) == chunk) {
                self.gone.insert(chunk);
            }
            read();
        }
        Ok(())
    }

    fn is_there(&self, chunk: ChunkId) -> Result<bool, StoreError> {
        // A row may be missing too, where the log has a gap.
        Ok(!self.gone.contains(&chunk)
            && self.snapshot.get(Table::Chunks, &chunk_key(self.keys.vault, chunk))?.is_some())
    }

    fn are_there(&self, extents: &[Extent]) -> Result<bool, StoreError> {
        for extent in extents {
            if !self.is_there(extent.chunk)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn segments(&mut self) -> Result<(), StoreError> {
        let keys = self.keys;
        self.rows(Table::Segments, &[&keys.records], &mut |own, at, row| {
            let (Some(segment), Ok(row)) = (number(at).map(SegmentId), decode::<SegmentRow>(row)) else {
                return Ok(());
            };
            if own.are_there(&row.extents)? {
                own.known.insert(segment);
            }
            Ok(())
        })
    }

    fn is_whole(&self, content: &Content) -> Result<bool, StoreError> {
        match &content.body {
            Body::Inline(extents) => self.are_there(extents),
            Body::Segments(segments) => {
                Ok(segments.iter().flatten().all(|segment| self.known.contains(segment)))
            }
        }
    }

    fn files(&mut self, vault: &str, files: &mut Vec<LostFile>) -> Result<(), StoreError> {
        let keys = self.keys;
        let mut lost: Vec<(InodeId, LostKind)> = Vec::new();
        let mut there: HashMap<InodeId, Kind> = HashMap::new();
        self.rows(Table::Inodes, &[&keys.records], &mut |own, at, row| {
            let (Some(inode), Ok(row)) = (number(at).map(InodeId), decode::<InodeRow>(row)) else {
                return Ok(());
            };
            there.insert(inode, row.kind);
            if !own.is_whole(&row.content)? {
                lost.push((inode, LostKind::Content));
            }
            Ok(())
        })?;
        self.rows(Table::InodeHistory, &[&keys.records], &mut |own, at, row| {
            if let (Some(inode), Ok(past)) = (number(at).map(InodeId), decode::<PastRow<InodeRow>>(row))
                && !own.is_whole(&past.row.content)?
            {
                lost.push((inode, LostKind::EarlierState));
            }
            Ok(())
        })?;
        let mut names = Names::default();
        self.rows(Table::Dentries, &[&keys.records], &mut |_, at, row| {
            if let (Some(parent), Ok(row)) = (number(at).map(InodeId), decode::<DentryRow>(row)) {
                if !there.contains_key(&row.inode) {
                    lost.push((row.inode, LostKind::Attributes));
                }
                names.add(row.inode, parent, row.name.into());
            }
            Ok(())
        })?;
        lost.extend(
            there.keys().filter(|inode| !names.leads_to(**inode)).map(|inode| (*inode, LostKind::Name)),
        );
        lost.sort();
        lost.dedup();
        for (inode, kind) in lost {
            let mut paths = names.paths(inode);
            if paths.is_empty() {
                paths.push(None);
            }
            files.extend(paths.into_iter().map(|path| LostFile {
                vault: vault.to_owned(),
                vault_id: keys.vault,
                path,
                inode,
                kind,
            }));
        }
        Ok(())
    }
}

/// The names of a vault, by what they lead to.
#[derive(Default)]
struct Names(HashMap<InodeId, Vec<(InodeId, Vec<u8>)>>);

impl Names {
    fn add(&mut self, inode: InodeId, parent: InodeId, name: Vec<u8>) {
        self.0.entry(inode).or_default().push((parent, name));
    }

    fn leads_to(&self, inode: InodeId) -> bool {
        matches!(inode, InodeId::ROOT | InodeId::PARTS) || !self.paths(inode).is_empty()
    }

    /// Every path from the root to an inode.
    fn paths(&self, inode: InodeId) -> Vec<Option<Vec<u8>>> {
        let Some(names) = self.0.get(&inode) else { return Vec::new() };
        names.iter().filter_map(|(parent, name)| self.path(*parent, name)).map(Some).collect()
    }

    fn path(&self, parent: InodeId, name: &[u8]) -> Option<Vec<u8>> {
        let mut parts = vec![name.to_vec()];
        let (mut at, mut climbed) = (parent, 0);
        while at != InodeId::ROOT {
            if at == InodeId::PARTS {
                // No path leads there.
                parts.push(b"(uploads in parts)".to_vec());
                break;
            }
            // Directories have one name; a circle can only be what was left of a damaged tree.
            let (above, name) = self.0.get(&at)?.first()?;
            parts.push(name.clone());
            (at, climbed) = (*above, climbed + 1);
            if climbed > self.0.len() {
                return None;
            }
        }
        Some(parts.iter().rev().flat_map(|part| [b"/", part.as_slice()].concat()).collect())
    }
}
