//! Writing a file so that it can be relied on: synced, dropped from the page cache, read back, compared.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use coffre_storage::blob::Blob;
use rustix::fs::{Advice, fadvise};

use crate::limits::BACKUP_PIECE_BYTES;

/// Told the bytes of each piece; an error stops the copy.
pub(super) type Step<'s> = dyn FnMut(u64) -> anyhow::Result<()> + 's;

/// Makes a directory with the ones above it, for its owner only.
pub(super) fn directory(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating {}", path.display()))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> anyhow::Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("syncing {}", path.display()))
}

/// Whether the first block of a copy is that of its source.
pub(super) fn begins_alike(source: &dyn Blob, copy: &Path) -> io::Result<bool> {
    let (mut one, mut other) = ([0; 4096], [0; 4096]);
    let file = match File::open(copy) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(source.len()?.min(file.metadata()?.len())).unwrap_or(usize::MAX).min(4096);
    source.read_at(0, &mut one[..len])?;
    file.read_exact_at(&mut other[..len], 0)?;
    Ok(one[..len] == other[..len])
}

/// Brings a copy forward to the first `bytes` of its source. Its first `from` bytes are there already, and are not written
/// again unless they turn out to be wrong. Returns the hash of all, and how many bytes were written.
pub(super) fn bring_forward(
    source: &dyn Blob,
    bytes: u64,
    path: &Path,
    from: u64,
    step: &mut Step<'_>,
) -> anyhow::Result<([u8; 32], u64)> {
    let hash = write(source, (from, bytes), path, step)?;
    if hash_of(path, bytes)? == Some(hash) {
        return Ok((hash, bytes - from));
    }
    if from == 0 {
        bail!("{} does not read back as it was written: its disk is not to be trusted", path.display());
    }
    // What was there before is not what it was. A new file beside it, so that nothing is overwritten before there is better.
    let fresh = path.with_extension("new");
    let hash = write(source, (0, bytes), &fresh, step)?;
    if hash_of(&fresh, bytes)? != Some(hash) {
        bail!("{} does not read back as it was written: its disk is not to be trusted", fresh.display());
    }
    std::fs::rename(&fresh, path).with_context(|| format!("replacing {}", path.display()))?;
    Ok((hash, bytes))
}

fn write(
    source: &dyn Blob,
    (from, bytes): (u64, u64),
    path: &Path,
    step: &mut Step<'_>,
) -> anyhow::Result<[u8; 32]> {
    let writing = || format!("writing {}", path.display());
    let file = OpenOptions::new()
        .create(true)
        .truncate(from == 0)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(writing)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; BACKUP_PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(piece.len());
        let piece = &mut piece[..len];
        source.read_at(at, piece).with_context(|| format!("reading what goes to {}", path.display()))?;
        hasher.update(piece);
        let end = at + len as u64;
        if end > from {
            let skip = usize::try_from(from.saturating_sub(at)).unwrap_or(0);
            file.write_all_at(&piece[skip..], at.max(from)).with_context(writing)?;
            step(end - at.max(from))?;
        }
        at = end;
    }
    file.set_len(bytes).and_then(|()| file.sync_all()).with_context(writing)?;
    Ok(*hasher.finalize().as_bytes())
}

/// The hash of a file's first bytes, read from the disk and not from memory where the system lets us; nothing when it is
/// shorter or not there.
pub(super) fn hash_of(path: &Path, bytes: u64) -> anyhow::Result<Option<[u8; 32]>> {
    let reading = || format!("reading {}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    };
    // Not every file system takes the advice; then this compares what the system would serve.
    let _advised = fadvise(&file, 0, None, Advice::DontNeed);
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; BACKUP_PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let read = file.read(&mut piece[..len]).with_context(reading)?;
        if read == 0 {
            return Ok(None);
        }
        hasher.update(&piece[..read]);
        left -= read as u64;
    }
    let _advised = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(Some(*hasher.finalize().as_bytes()))
}

/// Writes a small file whole, and its hash.
pub(super) fn small(path: &Path, bytes: &[u8]) -> anyhow::Result<[u8; 32]> {
    let writing = || format!("writing {}", path.display());
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let mut file = file.with_context(writing)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(writing)?;
    let hash = *blake3::hash(bytes).as_bytes();
    if hash_of(path, bytes.len() as u64)? != Some(hash) {
        bail!("{} does not read back as it was written", path.display());
    }
    Ok(hash)
}

/// Overwrites and removes a file: what the store does not have any more must not live on in its backup.
pub(super) fn erase(path: &Path) -> anyhow::Result<()> {
    let erasing = || format!("removing {}", path.display());
    let file = OpenOptions::new().write(true).open(path).with_context(erasing)?;
    let len = file.metadata().with_context(erasing)?.len();
    let zeros = vec![0; BACKUP_PIECE_BYTES];
    let mut at = 0;
    while at < len {
        let piece = usize::try_from(len - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(&zeros[..piece], at).with_context(erasing)?;
        at += piece as u64;
    }
    file.sync_data().with_context(erasing)?;
    std::fs::remove_file(path).with_context(erasing)
}
