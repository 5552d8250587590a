//! How many bytes of each pack's frames are referred to: what reclaim chooses by. Kept in memory, brought forward batch by
//! batch, and written to the index at each checkpoint together with the position.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::committer::PackCountRow;
use crate::error::StoreError;
use crate::id::PackId;
use crate::index::{Change, IndexError, Snapshot, Table};
use crate::record::RecordKey;

/// The counts of all packs, as of the last applied batch.
#[derive(Debug, Default)]
pub(super) struct PackCounts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<PackId, u64>,
    changed: BTreeSet<PackId>,
}

impl PackCounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the last checkpoint wrote; nothing when a row does not open.
    pub(super) fn load(snapshot: &dyn Snapshot, key: &RecordKey) -> Result<Option<Self>, IndexError> {
        let mut live = BTreeMap::new();
        for (at, sealed) in snapshot.range(Table::PackCounts, &[], &[0xff; 9], usize::MAX)? {
            let row = key.open(Table::PackCounts, &at, &sealed);
            let row = row.and_then(|row| minicbor::decode::<PackCountRow>(&row).ok());
            let (Some(row), Ok(pack)) = (row, at.try_into()) else { return Ok(None) };
            live.insert(PackId(u64::from_be_bytes(pack)), row.live);
        }
        Ok(Some(Self { state: Mutex::new(State { live, changed: BTreeSet::new() }) }))
    }

    /// Takes what a batch says.
    pub(super) fn apply(&self, deltas: &BTreeMap<PackId, i64>) {
        let mut state = self.lock();
        for (&pack, &bytes) in deltas {
            let live = state.live.entry(pack).or_default();
            *live = live.saturating_add_signed(bytes);
            state.changed.insert(pack);
        }
    }

    /// Replaces everything: after a recount.
    pub(super) fn replace(&self, counted: BTreeMap<PackId, u64>) {
        let mut state = self.lock();
        state.changed = state.live.keys().chain(counted.keys()).copied().collect();
        state.live = counted;
    }

    /// The rows that changed since the last call.
    pub(super) fn changed_rows(&self, key: &RecordKey) -> Result<Vec<Change>, StoreError> {
        let mut state = self.lock();
        let changed = std::mem::take(&mut state.changed);
        changed
            .into_iter()
            .map(|pack| {
                let at = pack.0.to_be_bytes().to_vec();
                let value = match state.live.get(&pack) {
                    Some(&live) => {
                        let row = crate::rows::encode(&PackCountRow { live })?;
                        Some(key.seal(Table::PackCounts, &at, &row)?)
                    }
                    None => None,
                };
                Ok(Change { table: Table::PackCounts, key: at, value })
            })
            .collect()
    }

    /// Bytes of a pack that are referred to.
    pub(super) fn live(&self, pack: PackId) -> u64 {
        self.lock().live.get(&pack).copied().unwrap_or(0)
    }
}
