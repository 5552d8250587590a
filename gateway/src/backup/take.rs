//! Taking a backup of a store that may be serving.
//!
//! Order: lock; the former manifest; packs held; an export in the log if the journal after the last one is long; the store's
//! durable extent; copies, each read back; configuration; directories synced; the manifest, under another name first; then,
//! and only then, what is no longer needed goes.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coffre_storage::Store;
use coffre_storage::commit::DurableExtent;
use rustix::fs::{FlockOperation, flock};

use super::manifest::{FileEntry, Manifest, ManifestError};
use super::verified::{begins_alike, bring_forward, directory, erase, hash_of, small, sync_directory};
use super::{CONFIG, LOCK, MANIFEST, secrets};
use crate::config::Config;
use crate::limits::{BACKUP_JOURNAL_PACKS_MAX, BACKUP_LISTINGS_MAX};

/// Which copies are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Those just written; the others by their length.
    Written,
    /// All.
    All,
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// What it holds now.
    pub manifest: Manifest,
    /// Packs in it.
    pub packs: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes written this time.
    pub written: u64,
    /// Files that the store has no more, and that were removed.
    pub removed: u64,
}

/// Takes a backup into `destination`. Tells `progress` bytes done and in all; an error of its stops the backup, and leaves the
/// former one whole.
///
/// # Errors
/// Another backup runs there; the directory holds something else; its disk is full; what stops reading or writing.
pub fn take(
    store: &Store,
    config: &Config,
    destination: &Path,
    verify: Verify,
    progress: &mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
) -> anyhow::Result<BackupSummary> {
    let former_time = std::cell::Cell::new(None);
    let taken = try_take(store, config, destination, verify, progress, &former_time);
    taken.map_err(|error| {
        let full = error.chain().any(|cause| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|cause| {
                matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            })
        });
        let left = match former_time.get() {
            Some(()) => "the former backup there is whole",
            None => "there is no whole backup there",
        };
        if full { error.context(format!("{} is full; {left}", destination.display())) } else { error }
    })
}

fn try_take(
    store: &Store,
    config: &Config,
    destination: &Path,
    verify: Verify,
    progress: &mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
    former_there: &std::cell::Cell<Option<()>>,
) -> anyhow::Result<BackupSummary> {
    if !destination.is_absolute() {
        bail!("the backup's directory must be an absolute path");
    }
    refuse_the_store_itself(config, destination)?;
    refuse_others(destination)?;
    directory(destination)?;
    let _lock = take_lock(destination)?;
    let former = former(store, destination)?;
    former_there.set(former.as_ref().map(|_| ()));
    let _held = store.hold_packs();
    export_if_due(store)?;
    let extent = extent(store)?;
    if let Some(former) = former.as_ref().filter(|former| former.commit > extent.commit) {
        bail!(
            "{} holds a later state of the store (commit {}) than there is now (commit {}): take another directory",
            destination.display(),
            former.commit,
            extent.commit
        );
    }
    let mut copies = Copies {
        store,
        destination,
        former: former.as_ref(),
        verify,
        files: Vec::new(),
        written: 0,
        done: 0,
        total: extent.blobs.iter().map(|(_, bytes)| bytes).sum(),
        progress,
    };
    for (name, bytes) in &extent.blobs {
        copies.bring(name, *bytes)?;
    }
    let (mut files, written) = (copies.files, copies.written);
    files.extend(write_config(store, config, destination)?);
    files.sort();
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: store.clock_now().0,
        commit: extent.commit,
        batch: extent.batch,
        records: extent.records,
        root: extent.root,
        files,
    };
    publish(store, destination, &manifest)?;
    let removed = remove_others(destination, &manifest)?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    Ok(BackupSummary { manifest, packs: extent.packs, bytes, written, removed })
}

/// A backup inside of what is backed up would be lost with it.
fn refuse_the_store_itself(config: &Config, destination: &Path) -> anyhow::Result<()> {
    let real = |path: &Path| {
        // What does not exist yet lies where the nearest directory above it does.
        path.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or_else(|| path.to_owned())
    };
    if real(destination).starts_with(real(&config.data)) {
        bail!("{} is inside the data directory: take a directory on another disk", destination.display());
    }
    Ok(())
}

/// A directory with anything else in it is not touched.
fn refuse_others(destination: &Path) -> anyhow::Result<()> {
    if destination.join(MANIFEST).exists() || !destination.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(destination).with_context(|| destination.display().to_string())?;
    for entry in entries {
        let name = entry?.file_name();
        // What a first backup leaves when it is interrupted.
        if ![LOCK, CONFIG, "packs", "audit", "backup.new"].iter().any(|own| name == *own) {
            bail!("{} is not empty and holds no backup; nothing was changed", destination.display());
        }
    }
    Ok(())
}

fn take_lock(destination: &Path) -> anyhow::Result<fs::File> {
    let path = destination.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("another backup into {} is running", destination.display())
        }
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// The manifest that is there.
fn former(store: &Store, destination: &Path) -> anyhow::Result<Option<Manifest>> {
    match Manifest::read(destination, store.gateway_key()) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ManifestError::Absent) => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("{}: take another directory", destination.display()))
        }
    }
}

/// Restoring reads the newest export and the journal after it: an export is written when that would be long.
fn export_if_due(store: &Store) -> anyhow::Result<()> {
    let newest = extent(store)?.pack;
    let due = store
        .newest_export()?
        .is_none_or(|export| newest.0.saturating_sub(export.base_pack.0) >= BACKUP_JOURNAL_PACKS_MAX);
    if due {
        store.export_index(&mut |_| {}).context("writing the index into the log")?;
    }
    Ok(())
}

/// A pack that was given up just before it was held may vanish between being listed and being asked: then look again.
fn extent(store: &Store) -> anyhow::Result<DurableExtent> {
    for _ in 0..BACKUP_LISTINGS_MAX {
        match store.durable_extent() {
            Err(coffre_storage::StoreError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            answered => return Ok(answered?),
        }
    }
    bail!("packs vanish while they are listed")
}

struct Copies<'c> {
    store: &'c Store,
    destination: &'c Path,
    former: Option<&'c Manifest>,
    verify: Verify,
    files: Vec<FileEntry>,
    written: u64,
    done: u64,
    total: u64,
    progress: &'c mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
}

impl Copies<'_> {
    fn bring(&mut self, name: &str, bytes: u64) -> anyhow::Result<()> {
        let path = self.destination.join(name);
        let source = self.store.blobs().open(name).with_context(|| format!("reading {name}"))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            directory(parent)?;
        }
        let known = self.former.and_then(|former| former.file(name));
        // Without an entry, what is there is what an interrupted backup left.
        let mut from = known.map_or(0, |known| known.bytes);
        if known.is_some() && path.exists() && !begins_alike(source.as_ref(), &path)? {
            bail!(
                "{} is of another history of the store than the one there is now: take another directory",
                path.display()
            );
        }
        let on_disk = fs::metadata(&path).map_or(0, |found| found.len());
        if on_disk < from {
            from = 0;
        }
        if from > bytes {
            bail!("{} is longer than the store's own: take another directory", path.display());
        }
        let base = self.done;
        let hash = match known.filter(|known| known.bytes == bytes && from == bytes) {
            Some(known) if self.verify == Verify::Written => known.hash,
            Some(known) if hash_of(&path, bytes)? == Some(known.hash) => known.hash,
            Some(_) | None => {
                let from = if from == bytes { 0 } else { from };
                let (progress, total) = (&mut *self.progress, self.total);
                let mut done = base + from;
                let (hash, written) = bring_forward(source.as_ref(), bytes, &path, from, &mut |piece| {
                    done += piece;
                    progress(done, total)
                })?;
                self.written += written;
                hash
            }
        };
        self.done = base + bytes;
        (self.progress)(self.done, self.total)?;
        self.files.push(FileEntry { name: name.to_owned(), bytes, hash });
        Ok(())
    }
}

/// A directory of its own for each backup, so that the former one's stays as it is.
fn write_config(store: &Store, config: &Config, destination: &Path) -> anyhow::Result<Vec<FileEntry>> {
    let above = destination.join(CONFIG);
    directory(&above)?;
    let numbers = fs::read_dir(&above)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let number = numbers.max().unwrap_or(0_u64) + 1;
    let own = above.join(number.to_string());
    directory(&own)?;
    let mut entries = Vec::new();
    for (name, bytes) in secrets::files(config, store.gateway_key())? {
        let hash = small(&own.join(&name), &bytes)?;
        entries.push(FileEntry {
            name: format!("{CONFIG}/{number}/{name}"),
            bytes: bytes.len() as u64,
            hash,
        });
    }
    sync_directory(&own)?;
    sync_directory(&above)?;
    Ok(entries)
}

/// Puts the manifest in the place of the former one, once everything that it names is durable.
fn publish(store: &Store, destination: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    for name in ["packs", "audit"] {
        sync_directory(&destination.join(name))?;
    }
    let text = manifest.sign(store.gateway_key()).context("signing the manifest")?;
    let pending = destination.join("backup.new");
    small(&pending, text.as_bytes())?;
    sync_directory(destination)?;
    let place = destination.join(MANIFEST);
    fs::rename(&pending, &place).with_context(|| format!("writing {}", place.display()))?;
    sync_directory(destination)
}

/// Erases what the manifest does not name: packs that the store gave up, former configurations, leftovers.
fn remove_others(destination: &Path, manifest: &Manifest) -> anyhow::Result<u64> {
    let named: BTreeSet<PathBuf> = manifest.files.iter().map(|file| destination.join(&file.name)).collect();
    let mut directories = vec![destination.join("packs"), destination.join("audit")];
    let configs: Vec<PathBuf> =
        fs::read_dir(destination.join(CONFIG))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    directories.extend(configs.iter().cloned());
    let mut removed = 0;
    for directory in directories {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if !named.contains(&path) {
                erase(&path)?;
                removed += 1;
            }
        }
        sync_directory(&directory)?;
    }
    for config in configs {
        // The one in use is not empty, and stays.
        drop(fs::remove_dir(config));
    }
    Ok(removed)
}
