//! Chunks whose last reference went: forgotten once nobody is left who may have seen the reference.

use std::collections::BTreeMap;

use super::{Interrupted, Pass};
use crate::error::StoreError;
use crate::id::{ChunkId, CommitNumber, VaultId};
use crate::index::Table;
use crate::limits::PRUNE_CHUNKS_MAX;
use crate::rows::garbage_key;
use crate::tree::change::Change;

/// Commit, vault and chunk of a key.
fn parts(key: &[u8]) -> Result<(CommitNumber, VaultId, ChunkId), StoreError> {
    let damaged = || StoreError::DamagedRecord;
    let (commit, rest) = key.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (vault, chunk) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    let chunk = chunk.try_into().map_err(|_| damaged())?;
    Ok((CommitNumber(u64::from_be_bytes(*commit)), VaultId(*vault), ChunkId(chunk)))
}

impl Pass<'_> {
    pub(super) fn forget_chunks(&mut self) -> Result<(), Interrupted> {
        let mut from = Vec::new();
        loop {
            // What lost its last reference after that moment may still be looked for.
            let until = (self.store.oldest_epoch().0 + 1).to_be_bytes();
            let piece = self.store.sealed_range(Table::Garbage, &from, &until, PRUNE_CHUNKS_MAX)?;
            let Some((last, _)) = piece.last() else { return Ok(()) };
            from = [&last[..], &[0]].concat();
            let mut vaults: BTreeMap<VaultId, Vec<(CommitNumber, ChunkId)>> = BTreeMap::new();
            for (key, _) in &piece {
                let (commit, vault, chunk) = parts(key)?;
                vaults.entry(vault).or_default().push((commit, chunk));
            }
            for (vault, chunks) in vaults {
                self.forget_chunks_of(vault, &chunks)?;
            }
        }
    }

    fn forget_chunks_of(
        &mut self,
        vault: VaultId,
        chunks: &[(CommitNumber, ChunkId)],
    ) -> Result<(), Interrupted> {
        // They wait until the vault is opened.
        let Ok(vault) = self.store.vault(vault) else { return Ok(()) };
        if vault.vault_row()?.recount_due == Some(true) {
            return Ok(());
        }
        let mut change = match Change::begin(&vault) {
            // It was locked just now.
            Err(StoreError::VaultLocked(_)) => return Ok(()),
            other => other?,
        };
        for &(commit, chunk) in chunks {
            // Somebody may have come to refer to it again.
            if let Some(row) = change.chunk(chunk)?.filter(|row| row.refs == 0) {
                change.replace_chunk(chunk, Some(&row), None)?;
                self.report.chunks_forgotten += 1;
            }
            change.delete(Table::Garbage, &garbage_key(commit, vault.id(), chunk));
        }
        drop(change.submit_silently()?);
        self.stepped(0)
    }
}
