//! `coffre check`: structure, references, quota, history, audit; with `read_data` every batch and every frame.
//!
//! What is checked is one snapshot of the index, exactly as a checkpoint left it: a store that serves goes on meanwhile,
//! and the snapshot stays consistent in itself. What the disk holds may be newer; so what looks wrong there is looked at
//! again before it is a finding, and packs are not unlinked meanwhile.

mod concerned;
mod content;
mod finding;
mod history;
pub(crate) mod incident;
mod log;
mod repair;
mod system;
mod vault;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::commit::{Position, Store};
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::{ChunkId, CommitNumber, PackId, SegmentId, VaultId};
use crate::index::{Snapshot, Table};
use crate::limits::{BLOCK_BYTES, DAMAGED_CHUNKS_MAX, FINDINGS_MAX};
use crate::record::RecordKey;
use crate::rows::after_prefix;

pub use concerned::ConcernedFile;
pub use finding::{Count, Finding, UsageCounts};
pub use repair::{RepairKind, RepairReport};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Entries read from the index at a time.
const PIECE: usize = 4096;
const END: [u8; 65] = [0xff; 65];

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
    /// Those among them that are locked: only their slots and what they take of the packs was looked at.
    pub vaults_locked: Vec<VaultId>,
    /// Inodes, history not counted.
    pub inodes: u64,
    /// Superseded inodes and names.
    pub superseded: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Chunks that are damaged and were set aside earlier.
    pub chunks_set_aside: u64,
    /// Packs.
    pub packs: u64,
    /// Pack bytes read (with `read_data`).
    pub bytes_read: u64,
    /// Every finding, up to `FINDINGS_MAX`; empty when all is well.
    pub findings: Vec<Finding>,
    /// Files, present and past, of which something cannot be read: because of what was found, or set aside earlier.
    pub files: Vec<ConcernedFile>,
    /// How many more there are.
    pub files_left_out: u64,
    /// Chunks that cannot be read where they lie, and were not set aside.
    lost: Vec<(VaultId, ChunkId, FramePlace)>,
}

impl CheckReport {
    fn find(&mut self, what: Finding) {
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
    pub fn check(&self, options: CheckOptions<'_>) -> Result<CheckReport, StoreError> {
        let _held = self.hold_packs();
        let whole = self.index().verify()?;
        let (snapshot, position) = self.checkpoint_view()?;
        let mut check = Check {
            store: self,
            snapshot: snapshot.as_ref(),
            position,
            last_number: self.last_number(),
            report: CheckReport::default(),
            packs: HashMap::new(),
            live: BTreeMap::new(),
            missing: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        if !whole {
            check.report.find(Finding::IndexFile);
        }
        check.run(options)?;
        Ok(check.report)
    }
}

/// Parts of a vault's contents that cannot be read.
#[derive(Debug, Default)]
struct Unreadable {
    chunks: BTreeSet<ChunkId>,
    segments: BTreeSet<SegmentId>,
}

struct Check<'s> {
    store: &'s Store,
    snapshot: &'s dyn Snapshot,
    /// Up to where exactly the snapshot is complete.
    position: Position,
    /// The store's sequence, taken after the snapshot.
    last_number: u64,
    report: CheckReport,
    /// Packs and their bytes.
    packs: HashMap<PackId, u64>,
    /// Packs and the bytes of frames that chunks refer to.
    live: BTreeMap<PackId, u64>,
    /// Packs that are not there, and the chunks that lay in them.
    missing: BTreeMap<PackId, u64>,
    /// What cannot be read, by vault.
    unreadable: BTreeMap<VaultId, Unreadable>,
}

impl Check<'_> {
    fn run(&mut self, mut options: CheckOptions<'_>) -> Result<(), StoreError> {
        self.packs()?;
        self.vaults()?;
        self.missing_packs();
        self.pack_counts()?;
        self.system_rows()?;
        self.audit()?;
        if options.read_data {
            let total = self.packs.values().sum();
            let mut progress = |done| {
                if let Some(tell) = &mut options.progress {
                    tell(done, total);
                }
            };
            self.read_packs(&mut progress)?;
            self.read_frames()?;
        }
        self.concerned()
    }

    fn find(&mut self, what: Finding) {
        self.report.find(what);
    }

    /// Notes a chunk that cannot be read where it should be.
    fn lose_frame(&mut self, vault: VaultId, chunk: ChunkId, place: FramePlace) {
        if self.report.lost.len() < DAMAGED_CHUNKS_MAX {
            self.report.lost.push((vault, chunk, place));
        }
        self.lose_chunk(vault, chunk);
    }

    /// Notes a chunk that cannot be read.
    fn lose_chunk(&mut self, vault: VaultId, chunk: ChunkId) {
        let lost = self.unreadable.entry(vault).or_default();
        if lost.chunks.len() < DAMAGED_CHUNKS_MAX {
            lost.chunks.insert(chunk);
        }
    }

    /// A number that the sequence has not given yet would be given again.
    fn number(&mut self, table: Table, number: u64) {
        if number > self.last_number {
            self.find(Finding::Number { table, number, sequence: self.last_number });
        }
    }

    /// Whether a transaction is one that the snapshot knows.
    fn knows(&self, commit: CommitNumber) -> bool {
        commit.0 <= self.position.last_commit
    }

    /// Calls `each` with every opened row of a table below a prefix; what does not open is a finding.
    fn rows(
        &mut self,
        (keys, table): (&[&RecordKey], Table),
        prefix: &[u8],
        mut each: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let to = if prefix.is_empty() { END.to_vec() } else { after_prefix(prefix) };
        let mut from = prefix.to_vec();
        loop {
            let piece = self.snapshot.range(table, &from, &to, PIECE)?;
            let more = piece.len() == PIECE;
            for (at, sealed) in piece {
                let opened = keys.iter().find_map(|key| key.open(table, &at, &sealed));
                match opened.map(|row| each(self, &at, &row)) {
                    Some(Ok(())) => {}
                    // It opens, and is not what a row of this table is.
                    None | Some(Err(StoreError::DamagedRecord)) => {
                        self.find(Finding::Record { table, key: at.clone() });
                    }
                    Some(Err(error)) => return Err(error),
                }
                from = at;
                from.push(0);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn is_in_bounds(&self, place: &FramePlace) -> bool {
        let end = place.offset.saturating_add(u64::from(place.stored_bytes));
        self.packs.get(&place.pack).is_some_and(|bytes| place.offset >= BLOCK && end <= *bytes)
    }
}

/// The identifier of 8 bytes behind the vault's in a key.
fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    let number = key.get(16..24).and_then(|bytes| bytes.first_chunk());
    Ok(u64::from_be_bytes(*number.ok_or(StoreError::DamagedRecord)?))
}

fn chunk_of(key: &[u8]) -> Result<ChunkId, StoreError> {
    let id = key.get(16..).and_then(|bytes| bytes.try_into().ok());
    id.map(ChunkId).ok_or(StoreError::DamagedRecord)
}

fn pack_of(key: &[u8]) -> Result<PackId, StoreError> {
    let number = key.try_into().map_err(|_| StoreError::DamagedRecord)?;
    Ok(PackId(u64::from_be_bytes(number)))
}
