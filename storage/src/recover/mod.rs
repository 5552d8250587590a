//! Building a store again from its packs alone (FORMAT.md section 16): fresh index, audit log, closed packs.
//!
//! The packs are those of a copy: what is damaged in them is mended where it can be (headers and footers say nothing that
//! is not known from elsewhere), and cut where the log ends. Order: look at every pack; load the newest whole export into a
//! fresh index; apply every later batch, in order; lay the audit records out; count; write the position and, last of all,
//! the `format` row, without which there is no store. A gap in the log does not stop it: what comes after is applied, and
//! the gap is told.

mod load;
mod lost;
mod ranges;
mod records;
mod recount;
mod scan;

use std::io;
use std::sync::Arc;

use crate::audit::Record;
use crate::audit::customer::CustomerTrees;
use crate::audit::writer::AuditPosition;
use crate::blob::BlobStore;
use crate::commit::{
    EXPORT_KEY, ExportRow, OpenError, POSITION_KEY, PackRow, Position, StoreOptions, format_row,
};
use crate::error::StoreError;
use crate::id::{BatchNumber, CommitNumber, PackId, VaultId};
use crate::index::redb::RedbIndex;
use crate::index::{Change, SharedIndex, Snapshot, Table};
use crate::keys::{GatewayLabel, Secret32};
use crate::limits::BLOCK_BYTES;
use crate::log::pack::{PackFooter, PackHeader, VERSION, blob_name};
use crate::log::salvage::PackEnd;
use crate::record::RecordKey;
use crate::rows::{decode, encode};
use crate::time::UnixNanos;
use load::Loader;
pub use lost::{Losses, LostFile, LostKind, ReadExtent};
use records::{Former, Laid, Records};
use recount::References;
use scan::{Scan, ScanError};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Numbers of inodes and contents that are passed over: a client may remember some that were lost with the log's end, and
/// would take another content for the one it knows.
const NUMBERS_PASSED_OVER: u64 = 1 << 24;

/// Why a store cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There are no packs.
    #[error("there are no packs")]
    NoPacks,
    /// Not one pack opens.
    #[error("no pack opens with this gateway key")]
    WrongKey,
    /// Written by a newer version.
    #[error("the packs have format {found}, this program knows {known}: use a newer coffre")]
    NewerFormat {
        /// On disk.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// There is an index already.
    #[error("there is an index already")]
    Present,
    /// A pack is not what it was a moment ago.
    #[error("pack {0} changes while it is read")]
    Changed(PackId),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<ScanError> for RebuildError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::NoPacks => Self::NoPacks,
            ScanError::WrongKey => Self::WrongKey,
            ScanError::Newer(found) => Self::NewerFormat { found, known: VERSION },
            ScanError::Io(error) => Self::Io(error),
        }
    }
}

impl From<crate::index::IndexError> for RebuildError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Store(error.into())
    }
}

/// What a rebuild did.
#[derive(Debug, Default)]
pub struct RebuildReport {
    /// Packs that could be read.
    pub packs: u64,
    /// The export that it began with: its base; nothing when there was none and all batches were applied.
    pub base: Option<BatchNumber>,
    /// Rows of that export.
    pub rows: u64,
    /// Batches applied.
    pub batches: u64,
    /// The newest commit.
    pub commit: CommitNumber,
    /// Number of the first audit record that is there.
    pub first_record: u64,
    /// Number of the audit record after the last.
    pub next_record: u64,
    /// Signed checkpoints of the former log that fit and were kept.
    pub checkpoints: u64,
    /// Vaults that do not open with this gateway key: their usage was not counted, their files were not looked at.
    pub closed_vaults: Vec<VaultId>,
    /// What is lost, in words an operator understands.
    pub losses: Vec<String>,
    /// What is worth knowing, and no loss.
    pub remarks: Vec<String>,
    /// Audit records that tell of accesses which no batch has.
    pub unbacked: Vec<Record>,
}

/// Rebuilds the store whose packs lie in `options.blobs`; its index must not be there yet. Records that the batches do not
/// have are taken from `former_audit`. Calls `progress` with steps in words, bytes or rows done.
///
/// A crash leaves an index without a `format` row: no store.
///
/// # Errors
/// [`RebuildError`]. Damage is no error: it is in the report.
#[expect(
    clippy::too_many_lines,
    reason = "one order from the first pack to the format row; cutting it would hide it"
)]
pub fn rebuild(
    options: &StoreOptions,
    former_audit: Option<&dyn BlobStore>,
    progress: &mut dyn FnMut(&'static str, u64),
) -> Result<RebuildReport, RebuildError> {
    let _lock = options.take_lock()?;
    let index = match &options.index {
        crate::commit::IndexChoice::Redb if options.redb_path().exists() => {
            return Err(RebuildError::Present);
        }
        crate::commit::IndexChoice::Redb => {
            RedbIndex::create(&options.redb_path())?;
            options.open_index()?
        }
        crate::commit::IndexChoice::Given(index) => Arc::clone(index),
    };
    let (blobs, key) = (options.blobs.as_ref(), &options.gateway_key);
    let (packs_key, seed) = (key.derive(GatewayLabel::Packs), key.derive(GatewayLabel::AuditSigning));
    let system_key = RecordKey::new(&key.derive(GatewayLabel::Records));
    let scan = Scan::of(blobs, &packs_key, &system_key, &mut |done| progress("looking at packs", done))?;

    let mut loader = Loader::new(&index);
    let mut position = Position::default();
    if let Some(export) = &scan.export {
        let keys = (blobs, &packs_key, &system_key);
        position = load::load_export(export, &scan, keys, &mut loader, &mut |done| {
            progress("loading the index", done);
        })?;
    }
    let (base, base_pack, rows) = (BatchNumber(position.batch), PackId(position.pack), loader.rows);
    let edge = scan.export.is_some().then(|| position.audit.clone());
    loader.flush()?;
    let trees = take_trees(&index, &system_key, edge.as_ref())?;
    let expected_from = edge.as_ref().map_or(0, |edge| edge.records);
    let former = match former_audit {
        Some(former) => Former::look(former, &seed, &scan.records, expected_from)?,
        None => Former::default(),
    };
    let mut records = Records::begin(
        &options.blobs,
        &seed,
        (former, former_audit),
        &scan.records,
        edge.as_ref().map(|edge| (edge, trees)),
        options.clock.now(),
    )?;
    let replayed = load::replay(base, &scan, (blobs, &packs_key), &mut loader, &mut records, &mut |done| {
        progress("applying the log", done);
    })?;
    let laid = records.finish(&system_key)?;
    index.apply(&laid.trees)?;

    let mut report = RebuildReport {
        packs: scan.packs.len() as u64,
        base: scan.export.as_ref().map(|_| base),
        rows,
        batches: replayed.batches,
        ..RebuildReport::default()
    };
    tell_of_log(&scan, base, &mut report);
    mend_packs(&scan, blobs, &packs_key, &mut report)?;

    position.last_commit = position.last_commit.max(replayed.last_commit).max(laid.signed_commit);
    position.last_time = position.last_time.max(replayed.last_time);
    position.last_number = position.last_number.max(replayed.last_number) + NUMBERS_PASSED_OVER;
    position.batch = scan.last.0.max(position.batch);
    position.tag = scan.tag;
    position.audit = laid.position.clone();
    position.last_begin = None;
    report.commit = CommitNumber(position.last_commit);
    tell_of_records(laid, &mut report);
    // No number of a pack is given twice: that of one that is gone may still be named by frames that moved.
    let newest = scan.salts.keys().chain(&scan.unreadable).max().copied().unwrap_or(PackId(0));
    position.pack = newest.0.max(position.pack);
    keep_number(&scan, PackId(position.pack), blobs, &packs_key)?;
    position.offset =
        scan.packs.last().filter(|last| last.header.pack.0 == position.pack).map_or(BLOCK, |last| last.end);

    let gap = scan.missing.iter().any(|missing| missing.last > base) || !scan.forks.is_empty();
    progress("counting", 0);
    write_salts(&scan, index.snapshot()?.as_ref(), &system_key, &mut loader)?;
    index.apply(&[export_row(&scan, base_pack, index.snapshot()?.as_ref(), &system_key)?])?;
    let references =
        if gap { References::Recounted(CommitNumber(position.last_commit)) } else { References::Trusted };
    report.closed_vaults = recount::recount(&index, key, &system_key, references)?;
    let sealed = system_key.seal(Table::Store, POSITION_KEY, &encode(&position)?)?;
    let key = POSITION_KEY.to_vec();
    index.apply(&[Change { table: Table::Store, key, value: Some(sealed) }])?;
    index.checkpoint()?;
    index.apply(&[format_row(&options.gateway_key)])?;
    index.checkpoint()?;
    Ok(report)
}

/// The customers' audit trees as an export knows them. They are counted anew from the records, so their rows go.
fn take_trees(
    index: &SharedIndex,
    system_key: &RecordKey,
    edge: Option<&AuditPosition>,
) -> Result<Option<CustomerTrees>, RebuildError> {
    let rows = index.snapshot()?.range(Table::AuditTrees, &[], &[0xff; 17], usize::MAX)?;
    let gone = rows.iter().map(|(key, _)| Change { table: Table::AuditTrees, key: key.clone(), value: None });
    index.apply(&gone.collect::<Vec<_>>())?;
    let from = edge.and_then(|edge| edge.trees_from);
    Ok(from.and_then(|from| CustomerTrees::open(from, rows, system_key)))
}

/// An empty pack in the place of the newest one that anything names, if that one is gone: the store begins behind the newest
/// pack that is there.
fn keep_number(
    scan: &Scan,
    newest: PackId,
    blobs: &dyn BlobStore,
    packs_key: &Secret32,
) -> Result<(), RebuildError> {
    if newest == PackId(0) || scan.packs.iter().any(|sketch| sketch.header.pack == newest) {
        return Ok(());
    }
    // What still names its salt should find it.
    let mut salt = scan.salts.get(&newest).copied().unwrap_or_default();
    if salt == [0; 32] {
        getrandom::fill(&mut salt).map_err(StoreError::from)?;
    }
    let blob = blobs.create(&blob_name(newest), 2 * BLOCK)?;
    let footer = PackFooter { pack: newest, end: BLOCK, batches: 0, last: BatchNumber(0) };
    blob.write_at(0, &PackHeader { pack: newest, salt }.encode(packs_key))?;
    blob.write_at(BLOCK, &footer.encode(packs_key, &salt))?;
    Ok(blob.sync()?)
}

/// The row that names the newest export, by which packs are given up: only one that is whole in these packs may stand there.
fn export_row(
    scan: &Scan,
    base_pack: PackId,
    snapshot: &dyn Snapshot,
    system_key: &RecordKey,
) -> Result<Change, StoreError> {
    let known = snapshot.get(Table::Store, EXPORT_KEY)?;
    let known = known.and_then(|sealed| system_key.open(Table::Store, EXPORT_KEY, &sealed));
    let known = known.and_then(|row| decode::<ExportRow>(&row).ok());
    let row = scan.export.as_ref().map(|found| ExportRow {
        number: found.number,
        base: found.base,
        base_pack,
        time: known.filter(|known| known.base == found.base).map_or(UnixNanos(0), |known| known.time),
    });
    let sealed = row.map(|row| system_key.seal(Table::Store, EXPORT_KEY, &encode(&row)?)).transpose()?;
    Ok(Change { table: Table::Store, key: EXPORT_KEY.to_vec(), value: sealed })
}

/// Rows of packs whose own rows were lost, so that their frames open.
fn write_salts(
    scan: &Scan,
    snapshot: &dyn Snapshot,
    system_key: &RecordKey,
    loader: &mut Loader<'_>,
) -> Result<(), StoreError> {
    for (pack, &salt) in &scan.salts {
        let key = pack.0.to_be_bytes().to_vec();
        if snapshot.get(Table::Packs, &key)?.is_some() {
            continue;
        }
        let row = PackRow { salt, condemned: None, removed: None, damage: None };
        let value = Some(system_key.seal(Table::Packs, &key, &encode(&row)?)?);
        loader.take(Change { table: Table::Packs, key, value })?;
    }
    loader.flush()
}

fn batches(first: BatchNumber, last: BatchNumber) -> String {
    if first == last { format!("batch {first}") } else { format!("batches {first} to {last}") }
}

fn tell_of_log(scan: &Scan, base: BatchNumber, report: &mut RebuildReport) {
    for pack in &scan.unreadable {
        report
            .losses
            .push(format!("pack {pack}: its header is damaged and its salt is known from nowhere else"));
    }
    for missing in &scan.missing {
        let what = batches(missing.first, missing.last);
        let place = match missing.damage {
            Some((from, to)) => format!("damaged in pack {} at bytes {from} to {to}", missing.before),
            None => format!("not there before what pack {} goes on with", missing.before),
        };
        if missing.last <= base {
            let text = format!("{what}: {place}; older than the export, so only content in them can be lost");
            report.remarks.push(text);
        } else {
            report
                .losses
                .push(format!("{what}: {place}; the changes in them are lost, later ones were applied"));
        }
    }
    for (pack, number) in &scan.forks {
        report.losses.push(format!("pack {pack}: batch {number} was not written after the one before it"));
    }
    if let Some((pack, offset)) = scan.torn {
        report.remarks.push(format!(
            "pack {pack} ends at byte {offset} with something that is no whole batch: nobody was told that it was durable"
        ));
    }
}

fn tell_of_records(laid: Laid, report: &mut RebuildReport) {
    report.first_record = laid.first;
    report.next_record = laid.position.records;
    report.checkpoints = laid.checkpoints;
    report.losses.extend(laid.damage);
    report.remarks.extend(laid.remarks);
    if laid.unbacked_count > 0 {
        report.losses.push(format!(
            "{} audit records tell of accesses that no pack knows: if they were changes, these are lost",
            laid.unbacked_count
        ));
    }
    report.unbacked = laid.unbacked;
}

/// Writes damaged headers and footers anew, closes what was open, and puts away what no key can be had for.
fn mend_packs(
    scan: &Scan,
    blobs: &dyn BlobStore,
    packs_key: &Secret32,
    report: &mut RebuildReport,
) -> Result<(), RebuildError> {
    for sketch in &scan.packs {
        let pack = sketch.header.pack;
        let blob = blobs.open(&blob_name(pack))?;
        if sketch.healed {
            blob.write_at(0, &sketch.header.encode(packs_key))?;
            blob.sync()?;
            report.remarks.push(format!("pack {pack}: its header was damaged and was written anew"));
        }
        if let PackEnd::Closed(_) = sketch.state {
            if sketch.bytes > sketch.end + BLOCK {
                blob.set_len(sketch.end + BLOCK)?;
            }
            continue;
        }
        if sketch.bytes == sketch.end + BLOCK {
            report.remarks.push(format!("pack {pack}: its footer was damaged and was written anew"));
        }
        let footer = PackFooter { pack, end: sketch.end, batches: 0, last: sketch.last };
        blob.write_at(sketch.end, &footer.encode(packs_key, &sketch.header.salt))?;
        blob.sync()?;
        blob.set_len(sketch.end + BLOCK)?;
    }
    for pack in crate::log::walk::packs(blobs)? {
        if !scan.packs.iter().any(|sketch| sketch.header.pack == pack) {
            blobs.remove(&blob_name(pack))?;
        }
    }
    Ok(())
}
