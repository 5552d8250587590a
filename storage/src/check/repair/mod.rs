//! `coffre check --repair`: counts anew, drops what hangs from nothing, restores records from the log, sets aside what
//! cannot be read, so that everything else goes on.
//!
//! A repair works from what a check found, in transactions of bounded size, each with its audit record, beside everybody
//! else. Counts are corrected by the difference that the check saw, added to what the count is by then: what others count
//! meanwhile is right in itself. Whatever else is changed is looked at again under the writer lock, and left alone when it
//! is not what the check saw. Then the check is made again, until it finds nothing more to repair: a crash in between, or
//! a change that came between, is found by the next look.
//!
//! As long as records of a vault are missing that might refer to something, nothing in it is dropped and no count lowered.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each repair takes its findings and leaves all others alone"
)]

mod restore;
mod system;
mod vault;

use std::collections::{BTreeMap, BTreeSet};

use super::{CheckOptions, CheckReport, Finding};
use crate::audit::{Action, Outcome, RecordDraft};
use crate::commit::Store;
use crate::error::StoreError;
use crate::id::VaultId;
use crate::index::Table;
use crate::limits::REPAIR_PASSES_MAX;

/// What a repair did, one kind of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairKind {
    /// Damaged or missing records that the log still had.
    RecordRestored,
    /// Damaged chunks that read as an error from now on, until the same bytes come again.
    ChunkSetAside,
    /// Chunks that were set aside and are whole.
    ChunkTakenBack,
    /// Counts of references that were wrong.
    ReferencesCounted,
    /// Chunks that nobody refers to and that were not on the list of what goes.
    ChunkListed,
    /// Segments that no content lists.
    SegmentDropped,
    /// Digests of contents that no state lists.
    DigestsDropped,
    /// Locks on what is not there.
    LocksDropped,
    /// Names that led nowhere.
    NameDropped,
    /// Inodes without a name.
    InodeDropped,
    /// Counts of names, kinds and parents that were wrong.
    TreeCorrected,
    /// Counts of what a vault uses.
    UsageCounted,
    /// Counts of what of a pack is in use.
    PackCounted,
    /// Headers and footers of packs, written again.
    PackMended,
    /// Packs of which all that cannot be read was set aside.
    PackSettled,
    /// The sequence of numbers, moved behind those in use.
    NumbersSkipped,
}

impl RepairKind {
    /// Its name, as people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordRestored => "records-restored",
            Self::ChunkSetAside => "chunks-set-aside",
            Self::ChunkTakenBack => "chunks-taken-back",
            Self::ReferencesCounted => "references-counted",
            Self::ChunkListed => "chunks-listed",
            Self::SegmentDropped => "segments-dropped",
            Self::DigestsDropped => "digests-dropped",
            Self::LocksDropped => "locks-dropped",
            Self::NameDropped => "names-dropped",
            Self::InodeDropped => "inodes-dropped",
            Self::TreeCorrected => "tree-corrected",
            Self::UsageCounted => "usage-counted",
            Self::PackCounted => "packs-counted",
            Self::PackMended => "packs-mended",
            Self::PackSettled => "packs-settled",
            Self::NumbersSkipped => "numbers-skipped",
        }
    }
}

/// What was found, what was done about it, and what is left.
#[derive(Clone, Debug, Default)]
pub struct RepairReport {
    /// What the first look found.
    pub found: Vec<Finding>,
    /// What was repaired, and how often.
    pub repaired: BTreeMap<RepairKind, u64>,
    /// The last look: its findings are what could not be repaired.
    pub left: CheckReport,
}

impl Store {
    /// Repairs what a check finds while the store may be serving. Each step's record is `audit` with its own action and
    /// reason. A second call waits for the first.
    ///
    /// # Errors
    /// When checking is impossible, or a step could not be written; what was done before stays done.
    pub fn repair(&self, options: CheckOptions<'_>, audit: &RecordDraft) -> Result<RepairReport, StoreError> {
        let _alone = self.wait_for_repair();
        let read_data = options.read_data;
        let first = self.check(options)?;
        let mut repair = Repair { store: self, audit, repaired: BTreeMap::new(), locked: false };
        let found = first.findings.clone();
        // What only a look at the data finds is repaired, or not, by the first pass.
        let (mut left, unrepaired) = repair.pass(first, read_data)?;
        for _ in 1..REPAIR_PASSES_MAX {
            let done = repair.done();
            left = self.check(CheckOptions::default())?;
            if left.findings.is_empty() {
                break;
            }
            left = repair.pass(left, false)?.0;
            if repair.done() == done {
                break;
            }
        }
        if left.findings.is_empty() && left.vaults_locked.is_empty() {
            self.end_recounts(audit)?;
        }
        left.findings.extend(unrepaired.into_iter().filter(|_| read_data));
        Ok(RepairReport { found, repaired: repair.repaired, left })
    }
}

impl Store {
    /// Every reference was counted and is right: what vaults keep because of lost batches may go again.
    fn end_recounts(&self, audit: &RecordDraft) -> Result<(), StoreError> {
        for record in self.vaults()?.into_iter().filter(|record| record.erased.is_none()) {
            // It was locked just now: the next repair ends it.
            let Ok(vault) = self.vault(record.id) else { continue };
            if vault.vault_row()?.recount_due == Some(true) {
                let record_of = RecordDraft { action: Action::Repair, ..audit.clone() };
                self.change_vault(record.id, record_of, |row, _, _| {
                    row.recount_due = None;
                    Ok(())
                })?
                .wait()?;
            }
        }
        Ok(())
    }
}

struct Repair<'r> {
    store: &'r Store,
    audit: &'r RecordDraft,
    repaired: BTreeMap<RepairKind, u64>,
    /// Whether a vault is locked, so that nobody knows all that packs hold.
    locked: bool,
}

/// Vaults of which records are missing that might refer to something.
struct Incomplete(BTreeSet<VaultId>);

impl Incomplete {
    fn of(findings: &[Finding]) -> Self {
        let vault_of = |key: &[u8]| key.first_chunk().copied().map(VaultId);
        let vaults =
            findings.iter().filter_map(|finding| match finding {
                Finding::Record {
                    table:
                        Table::Inodes
                        | Table::Dentries
                        | Table::InodeHistory
                        | Table::DentryHistory
                        | Table::Segments,
                    key,
                } => vault_of(key),
                Finding::SegmentMissing { vault, .. }
                | Finding::NameKey { vault, .. }
                | Finding::RootMissing { vault } => Some(*vault),
                _ => None,
            });
        Self(vaults.collect())
    }

    fn has(&self, vault: VaultId) -> bool {
        self.0.contains(&vault)
    }
}

impl Repair<'_> {
    fn done(&self) -> u64 {
        self.repaired.values().sum()
    }

    fn count(&mut self, kind: RepairKind, times: u64) {
        if times > 0 {
            *self.repaired.entry(kind).or_default() += times;
        }
    }

    /// The record of a step.
    fn record(&self, action: Action, vault: Option<VaultId>, reason: String) -> RecordDraft {
        RecordDraft { action, vault, outcome: Outcome::Done, reason: Some(reason), ..self.audit.clone() }
    }

    /// Repairs what it can of what a look found. Returns the report with, apart, the findings about data that stay.
    fn pass(
        &mut self,
        mut report: CheckReport,
        read_data: bool,
    ) -> Result<(CheckReport, Vec<Finding>), StoreError> {
        let findings = std::mem::take(&mut report.findings);
        self.set_aside(&report.lost)?;
        self.take_back(&findings)?;
        // What a locked vault has in a pack nobody could look at, or set aside.
        self.locked = !report.vaults_locked.is_empty();
        let unrepaired = self.mend_packs(&findings, read_data)?;
        if !self.locked {
            self.give_up_packs(&findings)?;
        }
        if !self.restore(&findings)? {
            // Restored records change what is to be counted: only the next look knows it.
            let incomplete = Incomplete::of(&findings);
            self.correct_trees(&findings, &incomplete)?;
            self.correct_counts(&findings, &incomplete)?;
        }
        report.findings = findings;
        Ok((report, unrepaired))
    }
}

#[cfg(test)]
mod tests;
