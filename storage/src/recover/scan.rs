//! The first look at the packs: which batches there are, which are missing, where the newest whole export is.

use std::collections::BTreeMap;
use std::io;

use super::ranges::Ranges;
use crate::aead::TAG_BYTES;
use crate::blob::BlobStore;
use crate::commit::PackRow;
use crate::id::{BatchNumber, PackId};
use crate::index::{Change, Table};
use crate::keys::Secret32;
use crate::limits::BLOCK_BYTES;
use crate::log::export::ExportPart;
use crate::log::pack::{HeaderError, PackHeader};
use crate::log::salvage::{Damage, PackEnd, Salvage, SalvagedBatch, Step};
use crate::log::walk::{PackReader, packs};
use crate::record::RecordKey;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A pack that can be read.
#[derive(Clone, Debug)]
pub(super) struct PackSketch {
    pub(super) header: PackHeader,
    /// Whether the header had to be taken from elsewhere.
    pub(super) healed: bool,
    /// The last batch in it that is authentic, or the last before the log ends.
    pub(super) last: BatchNumber,
    /// Where that ends.
    pub(super) end: u64,
    pub(super) state: PackEnd,
    pub(super) bytes: u64,
}

/// Batches that are not there, or not whole enough to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) first: BatchNumber,
    pub(super) last: BatchNumber,
    /// Where the next one is, or, at the end of the log, where they should have been.
    pub(super) before: PackId,
    /// Bytes of that pack that are damaged, when they were there.
    pub(super) damage: Option<(u64, u64)>,
    /// The last batch before it whose header is authentic, with its tag.
    follows: (BatchNumber, [u8; TAG_BYTES]),
}

/// A whole export.
#[derive(Clone, Debug)]
pub(super) struct FoundExport {
    pub(super) number: u64,
    pub(super) base: BatchNumber,
    /// Batches that carry its parts.
    pub(super) places: Vec<(PackId, u64)>,
}

/// What the packs hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) packs: Vec<PackSketch>,
    /// Packs whose header does not open, and whose salt is not known.
    pub(super) unreadable: Vec<PackId>,
    pub(super) missing: Vec<Missing>,
    /// Batches that were not built on the one before them.
    pub(super) forks: Vec<(PackId, BatchNumber)>,
    pub(super) export: Option<FoundExport>,
    /// Numbers of the audit records in the batches.
    pub(super) records: Ranges,
    pub(super) last: BatchNumber,
    pub(super) tag: [u8; TAG_BYTES],
    /// Bytes behind the last batch that may have been one that nobody was told of.
    pub(super) torn: Option<(PackId, u64)>,
    /// Packs that the rows speak of, gone ones included, with their salts.
    pub(super) salts: BTreeMap<PackId, [u8; 32]>,
}

/// Why packs cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error("no pack there")]
    NoPacks,
    #[error("no pack opens with this key")]
    WrongKey,
    #[error("format {0} is newer")]
    Newer(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

struct Scanner<'s> {
    blobs: &'s dyn BlobStore,
    packs_key: &'s Secret32,
    system_key: &'s RecordKey,
    scan: Scan,
    /// The newest batch that something says was durable.
    durable: BatchNumber,
    /// The batch before, and its tag when that is known.
    before: (BatchNumber, Option<[u8; TAG_BYTES]>),
    /// The last authentic header, and its tag.
    authentic: (BatchNumber, [u8; TAG_BYTES]),
    collected: Option<FoundExport>,
}

impl Scan {
    /// Looks at every pack. A header that does not open is made up for when a row elsewhere tells its salt.
    pub(super) fn of(
        blobs: &dyn BlobStore,
        packs_key: &Secret32,
        system_key: &RecordKey,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ScanError> {
        let first = Self::pass(blobs, packs_key, system_key, &BTreeMap::new(), progress)?;
        let healable = |pack: &PackId| first.salts.contains_key(pack);
        if first.unreadable.iter().any(healable) {
            let salts = first.salts;
            return Self::pass(blobs, packs_key, system_key, &salts, progress);
        }
        Ok(first)
    }

    fn pass(
        blobs: &dyn BlobStore,
        packs_key: &Secret32,
        system_key: &RecordKey,
        salts: &BTreeMap<PackId, [u8; 32]>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ScanError> {
        let mut scanner = Scanner {
            blobs,
            packs_key,
            system_key,
            scan: Self::default(),
            durable: BatchNumber(0),
            before: (BatchNumber(0), None),
            authentic: (BatchNumber(0), [0; TAG_BYTES]),
            collected: None,
        };
        let all = packs(blobs)?;
        if all.is_empty() {
            return Err(ScanError::NoPacks);
        }
        let mut done = 0;
        for &pack in &all {
            let (reader, healed) = match PackReader::open(blobs, packs_key, pack)? {
                Ok(reader) => (reader, false),
                Err(HeaderError::Newer(found)) => return Err(ScanError::Newer(found)),
                Err(HeaderError::Damaged) => {
                    let Some(&salt) = salts.get(&pack) else {
                        scanner.scan.unreadable.push(pack);
                        continue;
                    };
                    (PackReader::with_salt(blobs, packs_key, pack, salt)?, true)
                }
            };
            done += reader.bytes;
            scanner.pack(&reader, healed)?;
            progress(done);
        }
        if scanner.scan.packs.is_empty() {
            return Err(ScanError::WrongKey);
        }
        scanner.tail()?;
        // The newest pack may be one that was being made when the process ended: nothing was in it.
        if let (Some(newest), Some(&last)) = (scanner.scan.unreadable.last(), all.last())
            && *newest == last
            && scanner.is_blank(last)?
        {
            scanner.scan.unreadable.pop();
        }
        Ok(scanner.finish())
    }
}

impl Scanner<'_> {
    fn is_blank(&self, pack: PackId) -> io::Result<bool> {
        let blob = self.blobs.open(&crate::log::pack::blob_name(pack))?;
        let mut block = vec![0; BLOCK_BYTES.min(usize::try_from(blob.len()?).unwrap_or(BLOCK_BYTES))];
        blob.read_at(0, &mut block)?;
        Ok(block.iter().all(|byte| *byte == 0))
    }

    fn pack(&mut self, reader: &PackReader, healed: bool) -> io::Result<()> {
        let header = reader.header.clone();
        let pack = header.pack;
        self.scan.salts.insert(pack, header.salt);
        let mut salvage = Salvage::new(reader, self.packs_key);
        let mut damage: Option<Damage> = None;
        let mut last = BatchNumber(0);
        while let Some(step) = salvage.step()? {
            match step {
                Step::Batch(batch) => {
                    self.batch(pack, &batch, damage.take());
                    last = batch.header.number;
                }
                Step::Damage(found) => {
                    if let Some((number, tag)) = found.batch {
                        self.gap(number, pack, damage.take());
                        self.miss(number, number, pack, Some((found.from, found.to)));
                        self.before = (number, Some(tag));
                        self.authentic = (number, tag);
                    } else {
                        damage = Some(found);
                    }
                }
            }
        }
        let (end, state) = salvage.end();
        if let PackEnd::Closed(closing) = state {
            self.durable = self.durable.max(closing);
            self.gap(BatchNumber(closing.0 + 1), pack, damage.take());
            self.scan.torn = None;
        } else {
            // What stands behind the end of an open pack is a torn batch, or zeros.
            self.scan.torn = holds_something_at(reader, end)?.then_some((pack, end));
        }
        self.scan.packs.push(PackSketch { header, healed, last, end, state, bytes: reader.bytes });
        Ok(())
    }

    fn miss(&mut self, first: BatchNumber, last: BatchNumber, before: PackId, damage: Option<(u64, u64)>) {
        self.scan.missing.push(Missing { first, last, before, damage, follows: self.authentic });
    }

    /// Notes what is missing before `next`.
    fn gap(&mut self, next: BatchNumber, pack: PackId, damage: Option<Damage>) {
        let (number, _) = self.before;
        if next.0 > number.0 + 1 {
            let span = damage.map(|damage| (damage.from, damage.to));
            self.miss(BatchNumber(number.0 + 1), BatchNumber(next.0 - 1), pack, span);
            self.before = (BatchNumber(next.0 - 1), None);
        }
    }

    fn batch(&mut self, pack: PackId, batch: &SalvagedBatch, damage: Option<Damage>) {
        let header = &batch.header;
        self.durable = self.durable.max(header.synced_through);
        self.gap(header.number, pack, damage);
        let (number, tag) = self.before;
        if header.number.0 != number.0 + 1 || tag.is_some_and(|tag| tag != header.previous) {
            self.scan.forks.push((pack, header.number));
        }
        if header.number > number {
            self.before = (header.number, Some(batch.tag));
            self.authentic = (header.number, batch.tag);
        }
        let records = batch.meta.records.len() as u64;
        self.scan.records.add(batch.meta.first_record, batch.meta.first_record + records);
        for change in batch.meta.changes.iter().filter(|change| change.table == Table::Packs) {
            self.salt(change);
        }
        if let Some(part) = batch.meta.export.as_deref().and_then(ExportPart::decode) {
            self.part(pack, batch.offset, part);
        }
    }

    fn salt(&mut self, change: &Change) {
        let Change { key, value: Some(sealed), .. } = change else { return };
        let row = self.system_key.open(Table::Packs, key, sealed);
        let row = row.and_then(|row| minicbor::decode::<PackRow>(&row).ok());
        if let (Some(row), Ok(pack)) = (row, key.as_slice().try_into()) {
            self.scan.salts.entry(PackId(u64::from_be_bytes(pack))).or_insert(row.salt);
        }
    }

    fn part(&mut self, pack: PackId, offset: u64, part: ExportPart) {
        for (table, key, value) in part.rows {
            if table == Table::Packs {
                self.salt(&Change { table, key, value: Some(value) });
            }
        }
        if part.part == 0 {
            self.collected = Some(FoundExport { number: part.number, base: part.base, places: Vec::new() });
        }
        let follows = self.collected.as_ref().is_some_and(|collected| {
            (collected.number, collected.base) == (part.number, part.base)
                && collected.places.len() as u64 == part.part
        });
        if !follows {
            self.collected = None;
            return;
        }
        if let Some(collected) = &mut self.collected {
            collected.places.push((pack, offset));
            if part.parts == Some(part.part + 1) {
                self.scan.export = self.collected.take();
            }
        }
    }

    /// What may never have been acknowledged counts only when it is whole, frames and padding included, as for replay.
    fn tail(&mut self) -> io::Result<()> {
        let Some(newest) = self.scan.packs.last() else { return Ok(()) };
        let (header, pack) = (newest.header.clone(), newest.header.pack);
        let reader = PackReader::with_salt(self.blobs, self.packs_key, pack, header.salt)?;
        let mut salvage = Salvage::new(&reader, self.packs_key);
        let mut follows = self.authentic;
        while let Some(step) = salvage.step()? {
            let Step::Batch(batch) = step else { continue };
            let first = batch.header.number;
            if first > self.durable && reader.batch_at(batch.offset)?.is_none() {
                let damage = Some((batch.offset, batch.end));
                let torn = Missing { first, last: first, before: pack, damage, follows };
                let at = self.scan.missing.partition_point(|missing| missing.first < first);
                self.scan.missing.insert(at, torn);
                return Ok(());
            }
            follows = (first, batch.tag);
        }
        Ok(())
    }

    fn finish(mut self) -> Scan {
        // What nobody says was durable was never acknowledged, and the log ends before it.
        let durable = self.durable;
        let torn = self.scan.missing.iter().find(|missing| missing.first > durable).copied();
        if let (Some(torn), Some(last)) = (torn, self.scan.packs.last_mut())
            && torn.before == last.header.pack
            && let Some((from, _)) = torn.damage
        {
            let ends = BatchNumber(torn.first.0 - 1);
            self.scan.missing.retain(|missing| missing.first < torn.first);
            self.scan.forks.retain(|(_, number)| *number <= ends);
            (last.last, last.end, last.state) = (last.last.min(ends), from, PackEnd::Open);
            self.scan.torn = Some((last.header.pack, from));
            self.authentic = torn.follows;
        }
        (self.scan.last, self.scan.tag) = self.authentic;
        self.scan
    }
}

fn holds_something_at(reader: &PackReader, offset: u64) -> io::Result<bool> {
    if offset + BLOCK > reader.bytes {
        return Ok(false);
    }
    let mut block = vec![0; BLOCK_BYTES];
    reader.blob.read_at(offset, &mut block)?;
    Ok(block.iter().any(|byte| *byte != 0))
}
