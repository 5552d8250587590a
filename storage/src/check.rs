//! `coffre check`: structure, references, quota, and with `read_data` every frame.
use crate::commit::Store;
use crate::error::StoreError;

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
    /// Vaults, inodes, chunks, packs looked at.
    pub vaults: u64,
    /// Inodes, history not counted.
    pub inodes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Packs.
    pub packs: u64,
    /// Frame bytes read (with `read_data`).
    pub bytes_read: u64,
    /// Every finding in words an operator understands; empty when all is well.
    pub findings: Vec<String>,
}

impl Store {
    /// Checks the store while it may be serving.
    ///
    /// # Errors
    /// Only when checking itself is impossible; damage is a finding.
    pub fn check(&self, _options: CheckOptions<'_>) -> Result<CheckReport, StoreError> { todo!() }
}
