//! `coffre check`: structure, references, quota, audit; with `read_data` every batch and every frame.
//!
//! What is checked is one snapshot of the index, taken after a checkpoint: a store that serves goes on meanwhile, and the
//! snapshot stays consistent in itself because a batch is applied whole.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::audit::checkpoint::verifier;
use crate::audit::writer::VERIFIER;
use crate::commit::{PackCountRow, PackRow, Store};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{BatchNumber, ChunkId, ContentId, InodeId, PackId, SegmentId, VaultId};
use crate::index::{Snapshot, Table};
use crate::keys::VaultKeys;
use crate::limits::BLOCK_BYTES;
use crate::log::pack::blob_name;
use crate::log::walk::{PackReader, packs};
use crate::record::RecordKey;
use crate::rows::{
    Body, ChunkRow, Content, DentryRow, Extent, InodeRow, PastRow, SegmentRow, UsageRow, VaultRow,
    after_prefix, decode, usage_key,
};
use crate::tree::Kind;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Findings that are told one by one; more of them add nothing.
const FINDINGS_MAX: usize = 1000;
/// Entries read from the index at a time.
const PIECE: usize = 4096;
const END: [u8; 33] = [0xff; 33];

/// What to look at, and whom to tell how far it is.
#[derive(Default)]
pub struct CheckOptions<'a> {
    /// Read and open every batch and every frame of every vault that opens.
    pub read_data: bool,
    /// Called now and then with bytes done and bytes in all.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
}

impl std::fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckOptions").field("read_data", &self.read_data).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Vaults looked at.
    pub vaults: u64,
    /// Inodes, history not counted.
    pub inodes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Packs.
    pub packs: u64,
    /// Pack bytes read (with `read_data`).
    pub bytes_read: u64,
    /// Every finding in words an operator understands; empty when all is well.
    pub findings: Vec<String>,
}

impl CheckReport {
    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }
}

impl Store {
    /// Checks the store while it may be serving.
    ///
    /// # Errors
    /// Only when checking itself is impossible; damage is a finding.
    pub fn check(&self, mut options: CheckOptions<'_>) -> Result<CheckReport, StoreError> {
        self.checkpoint()?;
        let mut report = CheckReport::default();
        if !self.index().verify()? {
            report.find("the index file's own checksums do not hold".to_owned());
        }
        let snapshot = self.index().snapshot()?;
        let mut check = Check {
            store: self,
            snapshot: snapshot.as_ref(),
            report,
            packs: HashMap::new(),
            live: BTreeMap::new(),
        };
        check.packs()?;
        check.vaults()?;
        check.pack_counts()?;
        check.system_rows()?;
        check.audit()?;
        if options.read_data {
            let total = check.packs.values().sum();
            let mut progress = |done| {
                if let Some(tell) = &mut options.progress {
                    tell(done, total);
                }
            };
            check.read_packs(&mut progress)?;
            check.read_frames()?;
        }
        Ok(check.report)
    }
}

struct Check<'s> {
    store: &'s Store,
    snapshot: &'s dyn Snapshot,
    report: CheckReport,
    /// Packs and their bytes.
    packs: HashMap<PackId, u64>,
    /// Packs and the bytes of frames that chunks refer to.
    live: BTreeMap<PackId, u64>,
}

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
    /// Calls `each` with every opened row of a table below a prefix; what does not open is a finding.
    fn rows(
        &mut self,
        (keys, table): (&[&RecordKey], Table),
        prefix: &[u8],
        mut each: impl FnMut(&mut Self, &[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let to = if prefix.is_empty() { END.to_vec() } else { after_prefix(prefix) };
        let mut from = prefix.to_vec();
        loop {
            let piece = self.snapshot.range(table, &from, &to, PIECE)?;
            let more = piece.len() == PIECE;
            for (at, sealed) in piece {
                match keys.iter().find_map(|key| key.open(table, &at, &sealed)) {
                    Some(row) => each(self, &at, &row),
                    None => self.report.find(format!("a record of table {} does not open", table.name())),
                }
                from = at;
                from.push(0);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn packs(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        for pack in packs(blobs.as_ref())? {
            let bytes = blobs.open(&blob_name(pack))?.len()?;
            self.packs.insert(pack, bytes);
            if PackReader::open(blobs.as_ref(), self.store.packs_key(), pack)?.is_err() {
                self.report.find(format!("pack {pack}: its header is damaged"));
            }
        }
        self.report.packs = self.packs.len() as u64;
        self.rows((&[self.store.system_key()], Table::Packs), &[], |own, at, row| {
            let pack = at.try_into().map(|pack| PackId(u64::from_be_bytes(pack)));
            let (Ok(pack), Ok(row)) = (pack, decode::<PackRow>(row)) else {
                return own.report.find("a pack's record is not readable".to_owned());
            };
            if row.removed.is_none() && !own.packs.contains_key(&pack) {
                own.report.find(format!("pack {pack} is missing"));
            }
        })
    }

    fn pack_counts(&mut self) -> Result<(), StoreError> {
        let mut counted = std::mem::take(&mut self.live);
        self.rows((&[self.store.system_key()], Table::PackCounts), &[], |own, at, row| {
            let pack = at.try_into().map(|pack| PackId(u64::from_be_bytes(pack)));
            let (Ok(pack), Ok(row)) = (pack, decode::<PackCountRow>(row)) else {
                return own.report.find("a pack's count is not readable".to_owned());
            };
            let live = counted.remove(&pack).unwrap_or(0);
            if live != row.live {
                own.report.find(format!("pack {pack} counts {} bytes in use and has {live}", row.live));
            }
        })?;
        for pack in counted.keys() {
            self.report.find(format!("pack {pack} has no count of the bytes in use"));
        }
        Ok(())
    }

    fn system_rows(&mut self) -> Result<(), StoreError> {
        let key = self.store.system_key();
        for table in [
            Table::Customers,
            Table::Users,
            Table::Credentials,
            Table::Incidents,
            Table::Garbage,
            Table::Fragmented,
        ] {
            self.rows((&[key], table), &[], |_, _, _| {})?;
        }
        Ok(())
    }

    fn vaults(&mut self) -> Result<(), StoreError> {
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
            if row.erased.is_some() {
                continue;
            }
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

    fn is_in_bounds(&self, place: &FramePlace) -> bool {
        let end = place.offset.saturating_add(u64::from(place.stored_bytes));
        self.packs.get(&place.pack).is_some_and(|bytes| place.offset >= BLOCK && end <= *bytes)
    }

    fn audit(&mut self) -> Result<(), StoreError> {
        let report =
            crate::audit::verify::verify(self.store.blobs().as_ref(), &self.store.audit_public_key())?;
        if let Some(damage) = report.damage {
            self.report.find(format!("the audit log: {damage}"));
        }
        let held = self.store.blobs().open(VERIFIER)?;
        let line = verifier(&self.store.audit_public_key());
        let mut found = vec![0; line.len()];
        let same = held.len()? == line.len() as u64
            && held.read_at(0, &mut found).is_ok()
            && found == line.as_bytes();
        if !same {
            self.report.find("the audit log's public key beside it is not its own".to_owned());
        }
        Ok(())
    }

    /// Walks every pack: batches chain without a gap, each is what was written, closed packs end with their footer.
    fn read_packs(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        let mut all: Vec<PackId> = self.packs.keys().copied().collect();
        all.sort();
        // At least to here the log is whole: what is behind may be written right now.
        let (open_pack, written) = self.store.position_of(self.snapshot)?;
        let mut chain = None;
        let mut before: Option<PackId> = None;
        for pack in all {
            // Packs that were reclaimed took their part of the chain with them.
            if before.is_some_and(|before| before.0 + 1 != pack.0) {
                chain = None;
            }
            before = Some(pack);
            let Ok(reader) = PackReader::open(blobs.as_ref(), self.store.packs_key(), pack)? else {
                chain = None;
                continue;
            };
            let mut offset = BLOCK;
            while let Some(batch) = reader.batch_at(offset)? {
                let follows = chain.is_none_or(|(number, tag): (BatchNumber, _)| {
                    batch.header.number.0 == number.0 + 1 && batch.header.previous == tag
                });
                if !follows {
                    self.report.find(format!(
                        "pack {pack}: the batch at byte {offset} does not follow the one before it"
                    ));
                }
                chain = Some((batch.header.number, batch.tag));
                self.report.bytes_read += batch.end - offset;
                offset = batch.end;
                progress(self.report.bytes_read);
            }
            match reader.footer_at(self.store.packs_key(), offset)? {
                Some(footer)
                    if footer.end == offset
                        && chain.is_none_or(|(last, _)| footer.batches == 0 || footer.last == last) =>
                {
                    if reader.bytes != offset + BLOCK {
                        self.report.find(format!("pack {pack} goes on behind its footer"));
                    }
                }
                // The open pack ends where the next batch will be; one that is newer still holds nothing that counts.
                None if pack > open_pack || (pack == open_pack && offset >= written) => {}
                _ => {
                    self.report.find(format!("pack {pack} is damaged at byte {offset}"));
                    chain = None;
                }
            }
        }
        Ok(())
    }

    /// Opens every frame that the index knows and compares its content with its identifier.
    fn read_frames(&mut self) -> Result<(), StoreError> {
        for record in self.store.vaults()? {
            let Ok(vault) = self.store.vault(record.id) else { continue };
            let keys = vault.keys();
            let mut places = Vec::new();
            self.rows(
                (&[self.store.system_key(), &keys.records], Table::Chunks),
                &record.id.0,
                |_, at, row| {
                    let chunk = at.get(16..).and_then(|bytes| bytes.try_into().ok()).map(ChunkId);
                    if let (Some(chunk), Ok(row)) = (chunk, decode::<ChunkRow>(row)) {
                        places.push((row.place, chunk));
                    }
                },
            )?;
            // In the order of the disk.
            places.sort_by_key(|(place, _)| (place.pack, place.offset));
            for (place, chunk) in places {
                match self.store.read_frame_uncached(keys, chunk, &place) {
                    Ok(plain) if keys.chunk_id(&plain) == chunk => {}
                    Ok(_) => self.report.find(format!("vault {}: {chunk:?} holds something else", record.id)),
                    Err(error) => self.report.find(format!("vault {}: {chunk:?}: {error}", record.id)),
                }
            }
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
