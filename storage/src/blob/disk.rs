//! Blobs as files below a directory: preallocated, written past the page cache where the file system allows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, statvfs};
use rustix::io::Errno;

use super::{Blob, BlobStore};
use crate::limits::BLOCK_BYTES;

/// Files below a directory.
#[derive(Debug, Clone)]
pub struct DiskBlobs {
    root: PathBuf,
}

/// One file.
#[derive(Debug)]
pub struct DiskBlob {
    /// For reads and unaligned writes.
    buffered: File,
    /// For aligned writes; absent where the file system has no such thing.
    direct: Option<File>,
    /// Whether direct writes still work.
    direct_works: AtomicBool,
}

impl DiskBlobs {
    /// Blobs below `root`, which is made when missing.
    ///
    /// # Errors
    /// The system's.
    pub fn new(root: &Path) -> io::Result<Self> {
        make_directory(root)?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"./-".contains(&byte);
        if name.is_empty() || name.starts_with('/') || name.contains("..") || !name.bytes().all(allowed) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.root.join(name))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn open_blob(path: &Path) -> io::Result<DiskBlob> {
    let buffered = OpenOptions::new().read(true).write(true).open(path)?;
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
    Ok(DiskBlob { buffered, direct, direct_works: AtomicBool::new(true) })
}

impl BlobStore for DiskBlobs {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn Blob>> {
        let path = self.path(name)?;
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !parent.is_dir() {
            make_directory(parent)?;
            sync_directory(&self.root)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made =
            preallocate(&file, bytes).and_then(|()| file.sync_all()).and_then(|()| sync_directory(parent));
        match made.and_then(|()| open_blob(&path)) {
            Ok(blob) => Ok(Arc::new(blob)),
            Err(error) => {
                // The name was made by this call and holds nothing yet.
                drop(std::fs::remove_file(&path));
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        Ok(Arc::new(open_blob(&self.path(name)?)?))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let (directory, start) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let at = if directory.is_empty() { self.root.clone() } else { self.path(directory)? };
        let entries = match std::fs::read_dir(at) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with(start))
                && entry.file_type()?.is_file()
            {
                names.push(if directory.is_empty() {
                    name.to_owned()
                } else {
                    format!("{directory}/{name}")
                });
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        std::fs::remove_file(&path)?;
        sync_directory(path.parent().unwrap_or(&self.root))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = statvfs(&self.root)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // No preallocation here: a sparse file of that size still spares the growing.
        Err(Errno::OPNOTSUPP) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

impl Blob for DiskBlob {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.buffered.read_exact_at(buffer, offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        // A file system that does not listen reads when it is asked to.
        fadvise(&self.buffered, offset, NonZeroU64::new(len), Advice::WillNeed).unwrap_or(());
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        let aligned = offset.is_multiple_of(block)
            && bytes.len().is_multiple_of(BLOCK_BYTES)
            && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0;
        if aligned
            && self.direct_works.load(Ordering::Relaxed)
            && let Some(direct) = &self.direct
        {
            match direct.write_all_at(bytes, offset) {
                // Some file systems take the flag and refuse the write.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.direct_works.store(false, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.buffered.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.buffered.set_len(bytes)?;
        self.buffered.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.buffered.metadata()?.len())
    }
}
