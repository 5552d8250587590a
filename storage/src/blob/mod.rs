//! The one seam to the disk for packs and other whole files: disk, memory, fault-injecting (S3 comes later).
//! Tests freeze and fail every call here.

pub mod disk;
pub mod faulty;
pub mod memory;
pub mod read_only;

use std::io;
use std::sync::Arc;

/// A store of named byte blobs (pack files, audit segments). Names are `[a-z0-9./-]+`, chosen by us.
pub trait BlobStore: Send + Sync + std::fmt::Debug {
    /// Creates a blob of `bytes` preallocated zero bytes; durable with its name when this returns.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull` when the space cannot be had; whatever the system says.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn Blob>>;
    /// Opens an existing blob for reading and writing.
    ///
    /// # Errors
    /// `NotFound`; whatever the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>>;
    /// Names below `prefix`, sorted.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;
    /// Removes a blob; durable when this returns.
    ///
    /// # Errors
    /// `NotFound`; whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Bytes that could still be written.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open blob. Calls on it may run in parallel.
#[expect(clippy::len_without_is_empty, reason = "nobody asks a pack whether it is empty")]
pub trait Blob: Send + Sync + std::fmt::Debug {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the blob ends before; whatever the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Says that a range will be read soon; whoever can fetches it meanwhile. Nothing depends on it.
    fn will_read(&self, _offset: u64, _len: u64) {}
    /// Writes all of `bytes` at `offset`, growing the blob if needed. Not durable before [`Blob::sync`].
    /// Fastest when offset, length and address are multiples of 4 KiB (then written with `O_DIRECT` where possible).
    ///
    /// # Errors
    /// Whatever the system says; how much was written is then unknown.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written durable (fdatasync).
    ///
    /// # Errors
    /// Whatever the system says; what is durable is then unknown.
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `bytes`, and makes that durable.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Present length.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;
}
