//! `coffre check`: structure, references, quota, audit; with `read_data` every batch and every frame.
//!
//! What is checked is one snapshot of the index, taken after a checkpoint: a store that serves goes on meanwhile, and the
//! snapshot stays consistent in itself because a batch is applied whole.

mod log;
mod system;
mod vault;

use std::collections::{BTreeMap, HashMap};

use crate::commit::Store;
use crate::error::StoreError;
use crate::frame::FramePlace;
use crate::id::PackId;
use crate::index::{Snapshot, Table};
use crate::limits::BLOCK_BYTES;
use crate::record::RecordKey;
use crate::tree::rows::after_prefix;

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

    fn is_in_bounds(&self, place: &FramePlace) -> bool {
        let end = place.offset.saturating_add(u64::from(place.stored_bytes));
        self.packs.get(&place.pack).is_some_and(|bytes| place.offset >= BLOCK && end <= *bytes)
    }
}
