//! What uploads stored before their commit and will never commit: their handle is gone, or the process that had it.

use super::{Interrupted, Pass};
use crate::error::StoreError;
use crate::id::SegmentId;
use crate::index::Table;
use crate::limits::PRUNE_CHUNKS_MAX;
use crate::rows::after_prefix;
use crate::tree::Vault;
use crate::tree::change::Change;

/// Segments looked at in one go.
const PIECE: usize = 256;

impl Pass<'_> {
    pub(super) fn release_uploads(&mut self, vault: &Vault) -> Result<(), Interrupted> {
        let to = after_prefix(&vault.id().0);
        let mut from = vault.id().0.to_vec();
        loop {
            let piece = self.store.sealed_range(Table::Uploads, &from, &to, PIECE)?;
            let Some((last, _)) = piece.last() else { return Ok(()) };
            from = [&last[..], &[0]].concat();
            let mut keys = piece.iter().map(|(key, _)| key).peekable();
            while keys.peek().is_some() {
                let mut change = Change::begin(vault)?;
                let (mut released, mut chunks) = (0, 0);
                while let Some(key) = keys.next_if(|_| chunks < PRUNE_CHUNKS_MAX) {
                    let number = key.last_chunk().ok_or(StoreError::DamagedRecord)?;
                    let segment = SegmentId(u64::from_be_bytes(*number));
                    // Under the writer lock: who commits it has either done so or lost it for good.
                    let waits = change.txn.sealed(Table::Uploads, key)?.is_some();
                    if waits && !vault.claims().has(segment) {
                        chunks += 1 + change.abandon_segment(segment)?;
                        released += 1;
                    }
                }
                if released > 0 {
                    drop(change.submit_silently()?);
                    self.report.segments_released += released;
                    self.stepped(0)?;
                }
            }
        }
    }
}
