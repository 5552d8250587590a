//! Blobs in memory, for tests and models.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, BlobStore};

/// Blobs in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs {
    blobs: Arc<Mutex<BTreeMap<String, Arc<MemoryBlob>>>>,
}

/// One blob in memory.
#[derive(Debug, Default)]
pub struct MemoryBlob {
    bytes: Mutex<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl MemoryBlobs {
    /// A store that holds exactly these blobs.
    pub fn holding(blobs: BTreeMap<String, Vec<u8>>) -> Self {
        let blobs =
            blobs.into_iter().map(|(name, bytes)| (name, Arc::new(MemoryBlob { bytes: Mutex::new(bytes) })));
        Self { blobs: Arc::new(Mutex::new(blobs.collect())) }
    }

    /// A copy of everything held.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.blobs).iter().map(|(name, blob)| (name.clone(), lock(&blob.bytes).clone())).collect()
    }
}

impl BlobStore for MemoryBlobs {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn Blob>> {
        let mut blobs = lock(&self.blobs);
        if blobs.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let blob = Arc::new(MemoryBlob { bytes: Mutex::new(vec![0; position(bytes)?]) });
        blobs.insert(name.to_owned(), Arc::clone(&blob));
        Ok(blob)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let blob = lock(&self.blobs).get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(blob)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(lock(&self.blobs).keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.blobs).remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl Blob for MemoryBlob {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = position(offset)?;
        let bytes = lock(&self.bytes);
        let found = from.checked_add(buffer.len()).and_then(|to| bytes.get(from..to));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, written: &[u8]) -> io::Result<()> {
        let from = position(offset)?;
        let to = from.checked_add(written.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = lock(&self.bytes);
        if bytes.len() < to {
            bytes.resize(to, 0);
        }
        bytes[from..to].copy_from_slice(written);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        lock(&self.bytes).resize(position(bytes)?, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        u64::try_from(lock(&self.bytes).len()).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}
