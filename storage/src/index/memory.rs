//! An index in memory that forgets, at a power cut, what was not checkpointed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Entries, Entry, Index, IndexError, Snapshot, Table};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The index in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndex {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: Arc<Rows>,
    durable: Arc<Rows>,
}

struct MemorySnapshot(Arc<Rows>);

impl MemoryIndex {
    /// What is found after a power cut.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let durable = Arc::clone(&self.lock().durable);
        Self { state: Arc::new(Mutex::new(State { rows: Arc::clone(&durable), durable })) }
    }

    /// How many rows a table has.
    pub fn rows_of(&self, table: Table) -> usize {
        self.lock().rows.keys().filter(|(of, _)| *of == table).count()
    }

    /// Changes one stored byte of a value, as a failing disk would: of a table's `n`-th row the byte `at`, modulo what there
    /// is. Nothing happens where there is no such row.
    pub fn flip(&self, table: Table, n: usize, at: usize) {
        let mut state = self.lock();
        let mut rows = (*state.rows).clone();
        let found = rows.iter_mut().filter(|((of, _), _)| *of == table).nth(n);
        if let Some((_, value)) = found.filter(|(_, value)| !value.is_empty()) {
            let at = at % value.len();
            value[at] ^= 1;
        }
        state.rows = Arc::new(rows);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], max: usize) -> Result<Entries, IndexError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.0.range((table, from.to_vec())..(table, to.to_vec()));
        Ok(rows.take(max).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Entry>, IndexError> {
        if from >= to {
            return Ok(None);
        }
        let found = self.0.range((table, from.to_vec())..(table, to.to_vec())).next_back();
        Ok(found.map(|((_, key), value)| (key.clone(), value.clone())))
    }
}

impl Index for MemoryIndex {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        Ok(Box::new(MemorySnapshot(Arc::clone(&self.lock().rows))))
    }

    fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        let mut state = self.lock();
        let rows = Arc::make_mut(&mut state.rows);
        for change in changes {
            match &change.value {
                Some(value) => drop(rows.insert((change.table, change.key.clone()), value.clone())),
                None => drop(rows.remove(&(change.table, change.key.clone()))),
            }
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        let mut state = self.lock();
        state.durable = Arc::clone(&state.rows);
        Ok(())
    }

    fn rewrite(&self) -> Result<(), IndexError> {
        self.checkpoint()
    }

    fn verify(&self) -> Result<bool, IndexError> {
        Ok(true)
    }
}
