//! Giving space back, in bounded steps beside readers and writers: superseded states older than a vault's window go
//! (`prune`), and what uploads stored that nobody will commit any more (`uploads`), then chunks that nobody refers to (`garbage`), then packs of which little is left: what is left is
//! carried forward (`repack`). Files that fell into crumbs are written anew (`rewrite`).
//!
//! Each step is a transaction like any other, so a crash between any two leaves a whole store; what was not done is found
//! again. A pack is unlinked when nothing refers to it, the index export that lets packs alone rebuild everything is newer
//! than all of it, and its grace time has passed.

mod erase;
mod garbage;
mod prune;
mod repack;
mod rewrite;
mod uploads;

pub use erase::{CERTIFICATE_ORIGIN, Erasure};

use crate::commit::Store;
use crate::error::StoreError;
use crate::tree::Vault;

/// What a pass of reclaim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Superseded inode records that went.
    pub inodes_pruned: u64,
    /// Superseded names that went.
    pub names_pruned: u64,
    /// Chunks that nobody referred to and that went.
    pub chunks_forgotten: u64,
    /// Segments of uploads that ended without a commit.
    pub segments_released: u64,
    /// Segments written anew.
    pub segments_rewritten: u64,
    /// Packs of which the rest was carried forward.
    pub packs_emptied: u64,
    /// Bytes of frames carried forward.
    pub bytes_moved: u64,
    /// Packs unlinked.
    pub packs_removed: u64,
    /// Their bytes.
    pub bytes_freed: u64,
    /// Packs that wait for their grace time.
    pub packs_waiting: u64,
    /// Packs that could not be reclaimed because something in them is damaged.
    pub packs_damaged: u64,
}

/// Whether a pass goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next step.
    GoOn,
    /// Not: the server stops.
    Stop,
}

/// How a pass is made.
#[derive(Clone, Copy, Debug)]
pub struct ReclaimOptions {
    /// Packs of which less than this many hundredths are referred to are emptied.
    pub live_percent_max: u64,
    /// How long an emptied pack stays on the disk, seconds: a copy of the directory that is being made, or an index that
    /// has to be put back, may still want it.
    pub grace_secs: u64,
    /// Whether an export of the index is written when packs wait for one.
    pub export: ExportPolicy,
}

/// When the index is written into the log so that packs can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportPolicy {
    /// When the last one is older than this, seconds.
    OlderThan(u64),
    /// Whenever a pack waits for it.
    WhenNeeded,
}

/// A pass under way.
struct Pass<'p> {
    store: &'p Store,
    options: ReclaimOptions,
    report: ReclaimReport,
    /// Told how many bytes each step wrote; waits as long as it likes.
    pace: &'p mut dyn FnMut(&ReclaimReport, u64) -> Flow,
}

/// Why a pass ended early.
enum Interrupted {
    Stopped,
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Pass<'_> {
    /// A step is done, `bytes` were written by it.
    fn stepped(&mut self, bytes: u64) -> Result<(), Interrupted> {
        match (self.pace)(&self.report, bytes) {
            Flow::GoOn => Ok(()),
            Flow::Stop => Err(Interrupted::Stopped),
        }
    }

    fn tidy(&mut self, vault: &Vault) -> Result<(), Interrupted> {
        self.prune(vault)?;
        self.release_uploads(vault)?;
        self.rewrite(vault)
    }

    fn run(&mut self) -> Result<(), Interrupted> {
        for record in self.store.vaults()? {
            // One that is locked keeps its history; its chunks can still be carried forward.
            let Ok(vault) = self.store.vault(record.id) else { continue };
            // What nobody has counted since batches were lost is not taken for unused.
            if vault.vault_row()?.recount_due == Some(true) {
                continue;
            }
            match self.tidy(&vault) {
                // It was locked in the middle of it: the others have their turn.
                Err(Interrupted::Failed(StoreError::VaultLocked(_))) => continue,
                other => other?,
            }
            // Handles on which nothing is unsaved do without what has just gone.
            vault.renew_handles();
        }
        self.forget_chunks()?;
        self.empty_packs()?;
        self.remove_packs()
    }
}

impl Store {
    /// One pass. `pace` is told after each step what was done so far and how many bytes the step wrote; it decides when,
    /// and whether, the next one comes.
    ///
    /// # Errors
    /// The store's own errors; what was done before stays done.
    pub fn reclaim(
        &self,
        options: ReclaimOptions,
        pace: &mut dyn FnMut(&ReclaimReport, u64) -> Flow,
    ) -> Result<ReclaimReport, StoreError> {
        let _turn = self.wait_for_reclaim();
        let mut pass = Pass { store: self, options, report: ReclaimReport::default(), pace };
        match pass.run() {
            Ok(()) | Err(Interrupted::Stopped) => Ok(pass.report),
            Err(Interrupted::Failed(error)) => Err(error),
        }
    }
}
