//! Bringing an index of format 1 forward: what format 2 counts as it goes is counted once, when the store is opened.
//!
//! Nothing of this is made durable by itself. The first checkpoint writes it together with the position; a crash before
//! it leaves an index of format 1, and the next start counts again.

use std::collections::BTreeMap;

use super::OpenError;
use super::counts::PackCounts;
use crate::error::StoreError;
use crate::id::{PackId, VaultId};
use crate::index::{Change, SharedIndex, Snapshot, Table};
use crate::keys::{GatewayKey, VaultKeys};
use crate::record::RecordKey;
use crate::rows::{ChunkRow, UsageRow, VaultRow, after_prefix, decode, encode, usage_key};

/// Rows read at a time.
const PIECE: usize = 4096;

struct Upgrade<'u> {
    snapshot: &'u dyn Snapshot,
    gateway_key: &'u GatewayKey,
    system_key: &'u RecordKey,
    live: BTreeMap<PackId, u64>,
    changes: Vec<Change>,
}

/// Counts what format 1 did not.
pub(super) fn from_format_1(
    index: &SharedIndex,
    gateway_key: &GatewayKey,
    system_key: &RecordKey,
    counts: &PackCounts,
) -> Result<(), OpenError> {
    let snapshot = index.snapshot()?;
    let mut upgrade = Upgrade {
        snapshot: snapshot.as_ref(),
        gateway_key,
        system_key,
        live: BTreeMap::new(),
        changes: Vec::new(),
    };
    for (at, sealed) in upgrade.snapshot.range(Table::Vaults, &[], &[0xff; 17], usize::MAX)? {
        upgrade.vault(&at, &sealed)?;
    }
    let Upgrade { live, changes, .. } = upgrade;
    counts.replace(live);
    index.apply(&changes)?;
    Ok(())
}

impl Upgrade<'_> {
    fn vault(&mut self, at: &[u8], sealed: &[u8]) -> Result<(), OpenError> {
        let damaged = || StoreError::DamagedRecord;
        let id = VaultId(at.try_into().map_err(|_| damaged())?);
        let row: VaultRow = decode(&self.system_key.open(Table::Vaults, at, sealed).ok_or_else(damaged)?)?;
        // Format 1 knew vaults with a managed slot only.
        let root = row.managed.as_ref().ok_or(StoreError::VaultUnavailable(id))?;
        let root = root.open(id, self.gateway_key).map_err(|_| StoreError::VaultUnavailable(id))?;
        let keys = VaultKeys::derive(id, &root);
        let (mut unique, mut stored) = (0, 0);
        let to = after_prefix(&id.0);
        let mut from = id.0.to_vec();
        loop {
            let piece = self.snapshot.range(Table::Chunks, &from, &to, PIECE)?;
            for (at, sealed) in &piece {
                // Some may have been written since, by a format 2 that did not come to its first checkpoint.
                let opened = keys.records.open(Table::Chunks, at, sealed);
                let opened = opened.or_else(|| self.system_key.open(Table::Chunks, at, sealed));
                let row: ChunkRow = decode(&opened.ok_or_else(damaged)?)?;
                unique += u64::from(row.place.plain_bytes);
                stored += u64::from(row.place.stored_bytes);
                *self.live.entry(row.place.pack).or_default() += u64::from(row.place.stored_bytes);
            }
            match piece.last() {
                Some((at, _)) if piece.len() == PIECE => from = [&at[..], &[0]].concat(),
                _ => break,
            }
        }
        self.usage(&usage_key(row.owner, id), unique, stored)
    }

    fn usage(&mut self, key: &[u8], unique: u64, stored: u64) -> Result<(), OpenError> {
        let sealed = self.snapshot.get(Table::Usage, key)?;
        let found = sealed
            .map(|sealed| self.system_key.open(Table::Usage, key, &sealed).ok_or(StoreError::DamagedRecord));
        let mut usage: UsageRow = match found.transpose()? {
            Some(row) => decode(&row)?,
            None => UsageRow::default(),
        };
        usage.unique = Some(unique);
        usage.stored = Some(stored);
        let value = Some(self.system_key.seal(Table::Usage, key, &encode(&usage)?)?);
        self.changes.push(Change { table: Table::Usage, key: key.to_vec(), value });
        Ok(())
    }
}
