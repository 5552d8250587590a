//! Decrypted chunks for readers, least recently used first out.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::{ChunkId, VaultId};

type Key = (VaultId, ChunkId);

/// At most so many bytes of chunks.
#[derive(Debug)]
pub(super) struct ChunkCache {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<Key, (Arc<[u8]>, u64)>,
    order: BTreeMap<u64, Key>,
    bytes: usize,
    tick: u64,
}

impl ChunkCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.tick += 1;
        let (chunk, tick) = state.chunks.get_mut(&key)?;
        state.order.remove(tick);
        *tick = state.tick;
        state.order.insert(state.tick, key);
        Some(Arc::clone(chunk))
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).chunks.contains_key(&key)
    }

    pub(super) fn put(&self, key: Key, chunk: Arc<[u8]>) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.tick += 1;
        state.bytes += chunk.len();
        if let Some((old, tick)) = state.chunks.insert(key, (chunk, state.tick)) {
            state.bytes -= old.len();
            state.order.remove(&tick);
        }
        state.order.insert(state.tick, key);
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            if let Some((dropped, _)) = state.chunks.remove(&oldest) {
                state.bytes -= dropped.len();
            }
        }
    }
}
