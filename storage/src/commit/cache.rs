//! Decrypted chunks for readers, least recently used first out. A chunk that several readers want at once is read once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::id::{ChunkId, VaultId};

type Key = (VaultId, ChunkId);

/// At most so many bytes of chunks.
#[derive(Debug)]
pub(super) struct ChunkCache {
    state: Mutex<State>,
    /// A reader put its chunk in, or gave up.
    read: Condvar,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<Key, (Arc<[u8]>, u64)>,
    order: BTreeMap<u64, Key>,
    bytes: usize,
    tick: u64,
    /// Chunks that somebody reads now.
    reading: HashSet<Key>,
}

/// What a reader is told.
pub(super) enum Looked<'c> {
    /// Here it is.
    Found(Arc<[u8]>),
    /// Read it; others wait for it.
    Yours(Reading<'c>),
}

/// The duty to read a chunk. Dropped without [`Reading::done`], the next who waits has it.
pub(super) struct Reading<'c> {
    cache: &'c ChunkCache,
    key: Key,
}

impl Reading<'_> {
    pub(super) fn done(self, chunk: Arc<[u8]>) {
        self.cache.lock().put(self.key, chunk, self.cache.bytes_max);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.cache.lock().reading.remove(&self.key);
        self.cache.read.notify_all();
    }
}

impl ChunkCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), read: Condvar::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk, or the duty to read it. Waits for whoever reads it already.
    pub(super) fn look(&self, key: Key) -> Looked<'_> {
        let mut state = self.lock();
        loop {
            if let Some(found) = state.get(key) {
                return Looked::Found(found);
            }
            if state.reading.insert(key) {
                return Looked::Yours(Reading { cache: self, key });
            }
            state = self.read.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forgets every chunk of a vault.
    pub(super) fn forget(&self, vault: VaultId) {
        let mut state = self.lock();
        let gone: Vec<Key> = state.chunks.keys().filter(|(of, _)| *of == vault).copied().collect();
        for key in gone {
            if let Some((chunk, tick)) = state.chunks.remove(&key) {
                state.bytes -= chunk.len();
                state.order.remove(&tick);
            }
        }
    }

    /// The chunk if it is here.
    pub(super) fn find(&self, key: Key) -> Option<Arc<[u8]>> {
        self.lock().get(key)
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.lock().chunks.contains_key(&key)
    }
}

impl State {
    fn get(&mut self, key: Key) -> Option<Arc<[u8]>> {
        self.tick += 1;
        let (chunk, tick) = self.chunks.get_mut(&key)?;
        self.order.remove(tick);
        *tick = self.tick;
        self.order.insert(self.tick, key);
        Some(Arc::clone(chunk))
    }

    fn put(&mut self, key: Key, chunk: Arc<[u8]>, bytes_max: usize) {
        let state = self;
        state.tick += 1;
        state.bytes += chunk.len();
        if let Some((old, tick)) = state.chunks.insert(key, (chunk, state.tick)) {
            state.bytes -= old.len();
            state.order.remove(&tick);
        }
        state.order.insert(state.tick, key);
        while state.bytes > bytes_max {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            if let Some((dropped, _)) = state.chunks.remove(&oldest) {
                state.bytes -= dropped.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        (VaultId([0; 16]), ChunkId([number; 32]))
    }

    fn read(cache: &ChunkCache, number: u8) -> bool {
        match cache.look(key(number)) {
            Looked::Found(_) => false,
            Looked::Yours(reading) => {
                reading.done(Arc::from(&[number; 10][..]));
                true
            }
        }
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let cache = ChunkCache::new(30);
        assert!([1, 2, 3].into_iter().all(|number| read(&cache, number)));
        assert!(!read(&cache, 1));
        assert!(read(&cache, 4), "2 makes room");
        assert!(!cache.contains(key(2)) && cache.contains(key(1)) && cache.contains(key(3)));
    }

    #[test]
    fn many_readers_read_once_and_a_failed_reader_hands_over() {
        let (cache, reads) = (ChunkCache::new(100), std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match cache.look(key(1)) {
                    Looked::Found(found) => assert_eq!(*found, [1; 10]),
                    Looked::Yours(reading) => {
                        // The first two fail.
                        if reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
                            reading.done(Arc::from(&[1; 10][..]));
                        }
                    }
                });
            }
        });
        assert_eq!(reads.into_inner(), 3);
    }
}
