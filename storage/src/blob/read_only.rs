//! Files of a directory that nobody may change: a former store's audit log, a backup.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Blob, BlobStore};

/// The files of one directory, as blobs below one prefix. Every change is refused.
#[derive(Clone, Debug)]
pub struct ReadOnlyFiles {
    prefix: &'static str,
    directory: PathBuf,
    /// Blobs that count, and how many bytes of each; all of all when absent.
    lengths: Option<BTreeMap<String, u64>>,
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: File,
    bytes: u64,
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl ReadOnlyFiles {
    /// The files of `directory`; the blob of file `x` is `prefix` followed by `x`.
    pub fn new(prefix: &'static str, directory: &Path) -> Self {
        Self { prefix, directory: directory.to_owned(), lengths: None }
    }

    /// Only these blobs, and of each only its first bytes: what came later does not count.
    #[must_use]
    pub fn limited_to(mut self, lengths: BTreeMap<String, u64>) -> Self {
        self.lengths = Some(lengths);
        self
    }

    fn counts(&self, name: &str) -> bool {
        self.lengths.as_ref().is_none_or(|lengths| lengths.contains_key(name))
    }
}

impl BlobStore for ReadOnlyFiles {
    fn create(&self, _name: &str, _bytes: u64) -> io::Result<Arc<dyn Blob>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let file = name.strip_prefix(self.prefix).filter(|file| !file.contains('/') && self.counts(name));
        let file = File::open(self.directory.join(file.ok_or(io::ErrorKind::NotFound)?))?;
        let bytes = file.metadata()?.len();
        let limit = self.lengths.as_ref().and_then(|lengths| lengths.get(name)).copied();
        Ok(Arc::new(ReadOnlyFile { file, bytes: bytes.min(limit.unwrap_or(u64::MAX)) }))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let file = entry.file_name();
            let name = file.to_str().map(|file| [self.prefix, file].concat());
            names.extend(name.filter(|name| name.starts_with(prefix) && self.counts(name)));
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl Blob for ReadOnlyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_one_directory_and_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("segment"), b"bytes").unwrap();
        let files = ReadOnlyFiles::new("audit/", home.path());
        assert_eq!(files.list("audit/seg").unwrap(), ["audit/segment"]);
        let blob = files.open("audit/segment").unwrap();
        let mut read = [0; 2];
        blob.read_at(3, &mut read).unwrap();
        assert_eq!(&read, b"es");
        assert!(blob.write_at(0, b"x").is_err() && blob.set_len(0).is_err());
        assert!(files.remove("audit/segment").is_err() && files.create("audit/x", 0).is_err());
        assert!(files.open("packs/segment").is_err() && files.open("audit/../x").is_err());
        std::fs::write(home.path().join("later"), b"bytes").unwrap();
        let limited = files.limited_to([("audit/segment".to_owned(), 3)].into());
        assert_eq!(limited.list("audit/").unwrap(), ["audit/segment"]);
        let blob = limited.open("audit/segment").unwrap();
        assert!(blob.len().unwrap() == 3 && blob.read_at(2, &mut read).is_err());
        assert!(limited.open("audit/later").is_err());
    }
}
