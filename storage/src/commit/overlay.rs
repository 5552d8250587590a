//! Changes that are submitted and not yet in the index: every read looks here first.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::id::BatchNumber;
use crate::index::{Change, Table};

type Key = (Table, Vec<u8>);

#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) value: Option<Arc<[u8]>>,
    batch: BatchNumber,
}

/// The changes of batches that are being made durable.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: RwLock<BTreeMap<Key, Pending>>,
}

impl Overlay {
    /// What a pending change says of a key: nothing known, deleted, or a sealed value.
    #[expect(clippy::option_option, reason = "unknown and deleted are two things")]
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Option<Arc<[u8]>>> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return None;
        }
        rows.get(&(table, key.to_vec())).map(|pending| pending.value.clone())
    }

    /// As [`Overlay::get`], of several keys at one moment.
    #[expect(clippy::option_option, reason = "unknown and deleted are two things")]
    pub(super) fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Vec<Option<Option<Arc<[u8]>>>> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return vec![None; keys.len()];
        }
        keys.iter().map(|key| rows.get(&(table, key.clone())).map(|pending| pending.value.clone())).collect()
    }

    pub(super) fn range(&self, table: Table, from: &[u8], to: &[u8]) -> BTreeMap<Vec<u8>, Option<Arc<[u8]>>> {
        if from >= to {
            return BTreeMap::new();
        }
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.range((table, from.to_vec())..(table, to.to_vec()))
            .map(|((_, key), pending)| (key.clone(), pending.value.clone()))
            .collect()
    }

    pub(super) fn put(&self, changes: &[Change], batch: BatchNumber) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let value = change.value.as_deref().map(Arc::from);
            rows.insert((change.table, change.key.clone()), Pending { value, batch });
        }
    }

    /// Forgets what came with `batch` or before: the index has it.
    pub(super) fn applied(&self, changes: &[Change], batch: BatchNumber) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let key = (change.table, change.key.clone());
            if rows.get(&key).is_some_and(|pending| pending.batch <= batch) {
                rows.remove(&key);
            }
        }
    }
}
