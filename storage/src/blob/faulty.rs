//! A disk that fails on purpose: the n-th call that changes something, the n-th read, a disk that is full from the n-th
//! call on until somebody makes room, and power cuts after which unsynced bytes survive in part.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{MemoryBlobs, position};
use super::{Blob, BlobStore};

/// What a disk writes at once: an unsynced write survives a power cut in any subset of these.
const SECTOR_BYTES: usize = 512;

/// Blobs with faults. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FaultyBlobs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    blobs: BTreeMap<String, Cached>,
    calls: u64,
    syncs: u64,
    reads: u64,
    fail_at: Option<u64>,
    fail_read_at: Option<u64>,
    full_from: Option<u64>,
    cut_after_sync: Option<u64>,
    dead: bool,
}

/// A file as the process sees it, and as the platter holds it.
#[derive(Debug, Default, Clone)]
struct Cached {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

/// One file of a faulty disk.
#[derive(Debug)]
struct FaultyBlob {
    disk: Arc<Mutex<Disk>>,
    name: String,
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Counts a call that changes something; an error when it is its turn to fail.
    fn call(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        if self.fail_at == Some(self.calls) {
            return Err(io::Error::other("injected fault"));
        }
        Ok(())
    }

    /// The same for a call that may need room.
    fn call_for_room(&mut self) -> io::Result<()> {
        self.call()?;
        if self.full_from.is_some_and(|from| from <= self.calls) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn synced(&mut self) {
        self.syncs += 1;
        if self.cut_after_sync == Some(self.syncs) {
            self.dead = true;
        }
    }
}

impl FaultyBlobs {
    /// A disk that holds exactly these blobs, all durable.
    pub fn holding(blobs: BTreeMap<String, Vec<u8>>) -> Self {
        let blobs =
            blobs.into_iter().map(|(name, bytes)| (name, Cached { seen: bytes.clone(), durable: bytes }));
        Self { disk: Arc::new(Mutex::new(Disk { blobs: blobs.collect(), ..Disk::default() })) }
    }

    /// Makes the `n`-th changing call from the beginning fail (once).
    pub fn fail_at(&self, n: u64) {
        lock(&self.disk).fail_at = Some(n);
    }

    /// Makes the `n`-th read from the beginning fail (once).
    pub fn fail_read_at(&self, n: u64) {
        lock(&self.disk).fail_read_at = Some(n);
    }

    /// Leaves no room from the `n`-th changing call on: what creates, writes or extends fails, half done.
    pub fn full_from(&self, n: u64) {
        lock(&self.disk).full_from = Some(n);
    }

    /// Makes room again.
    pub fn make_room(&self) {
        lock(&self.disk).full_from = None;
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        lock(&self.disk).reads
    }

    /// Switches the power off right after the `n`-th sync.
    pub fn cut_after_sync(&self, n: u64) {
        lock(&self.disk).cut_after_sync = Some(n);
    }

    /// Switches the power off now.
    pub fn cut(&self) {
        lock(&self.disk).dead = true;
    }

    /// Changing calls so far.
    pub fn calls(&self) -> u64 {
        lock(&self.disk).calls
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        lock(&self.disk).syncs
    }

    /// What is found after the power came back: everything synced, and of the rest a subset of sectors that `seed` picks.
    pub fn after_power_cut(&self, seed: u64) -> MemoryBlobs {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut coin = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state & 1 == 0
        };
        let survive = |cached: &Cached, coin: &mut dyn FnMut() -> bool| {
            // The length on the platter follows the last sync or, by luck, the last write.
            let mut bytes = cached.durable.clone();
            if cached.seen.len() != bytes.len() && coin() {
                bytes.resize(cached.seen.len(), 0);
            }
            for start in (0..bytes.len().min(cached.seen.len())).step_by(SECTOR_BYTES) {
                let end = (start + SECTOR_BYTES).min(bytes.len()).min(cached.seen.len());
                if bytes[start..end] != cached.seen[start..end] && coin() {
                    bytes[start..end].copy_from_slice(&cached.seen[start..end]);
                }
            }
            bytes
        };
        let disk = lock(&self.disk);
        MemoryBlobs::holding(
            disk.blobs.iter().map(|(name, cached)| (name.clone(), survive(cached, &mut coin))).collect(),
        )
    }
}

impl BlobStore for FaultyBlobs {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn Blob>> {
        let mut disk = lock(&self.disk);
        disk.call_for_room()?;
        if disk.blobs.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let zeros = vec![0; position(bytes)?];
        disk.blobs.insert(name.to_owned(), Cached { seen: zeros.clone(), durable: zeros });
        disk.synced();
        Ok(Arc::new(FaultyBlob { disk: Arc::clone(&self.disk), name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        if !lock(&self.disk).blobs.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(FaultyBlob { disk: Arc::clone(&self.disk), name: name.to_owned() }))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(lock(&self.disk).blobs.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.call()?;
        disk.blobs.remove(name).map(drop).ok_or(io::ErrorKind::NotFound)?;
        disk.synced();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl FaultyBlob {
    fn with<T>(&self, use_it: impl FnOnce(&mut Cached) -> io::Result<T>) -> io::Result<T> {
        let mut disk = lock(&self.disk);
        use_it(disk.blobs.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?)
    }
}

impl Blob for FaultyBlob {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = position(offset)?;
        {
            let mut disk = lock(&self.disk);
            disk.reads += 1;
            if disk.fail_read_at == Some(disk.reads) {
                return Err(io::Error::other("injected fault"));
            }
        }
        self.with(|cached| {
            let found = from.checked_add(buffer.len()).and_then(|to| cached.seen.get(from..to));
            buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = position(offset)?;
        let outcome = lock(&self.disk).call_for_room();
        if outcome.is_err() && lock(&self.disk).dead {
            return outcome;
        }
        // A write that fails may have written its first part.
        let taken = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.with(|cached| {
            let to = from.checked_add(taken.len()).ok_or(io::ErrorKind::InvalidInput)?;
            if cached.seen.len() < to {
                cached.seen.resize(to, 0);
            }
            cached.seen[from..to].copy_from_slice(taken);
            Ok(())
        })?;
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.disk).call()?;
        self.with(|cached| {
            cached.durable.clone_from(&cached.seen);
            Ok(())
        })?;
        lock(&self.disk).synced();
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = position(bytes)?;
        // To cut a file needs no room.
        if self.len()? < bytes {
            lock(&self.disk).call_for_room()?;
        } else {
            lock(&self.disk).call()?;
        }
        self.with(|cached| {
            cached.seen.resize(len, 0);
            cached.durable.resize(len, 0);
            Ok(())
        })?;
        lock(&self.disk).synced();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|cached| u64::try_from(cached.seen.len()).map_err(|_| io::ErrorKind::InvalidData.into()))
    }
}
