//! A store to measure, made in a directory that goes with it, and what a measurement reads from the machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{OwnerId, VaultId};
use coffre_storage::keys::GatewayKey;
use coffre_storage::limits::{PACK_BYTES, SETTLE_CHUNKS};
use coffre_storage::time::{Clock, UnixNanos};
use coffre_storage::{Store, StoreOptions, Vault};
use rustix::time::{ClockId, clock_gettime};

/// Longer than any measurement takes.
const RETENTION_SECS: u64 = 365 * 86_400;
/// Time since the program began: enough for stamps in a store that is thrown away.
#[derive(Debug)]
struct Elapsed(Instant);

impl Elapsed {
    fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Clock for Elapsed {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_800_000_000_000_000_000 + i64::try_from(self.nanos()).unwrap_or(i64::MAX / 4))
    }

    fn boot_nanos(&self) -> u64 {
        self.nanos()
    }
}

/// An audit record of the measurement's own.
pub(crate) fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

/// Options of a store in a directory, as the gateway would give them.
pub(crate) fn options(directory: &Path, gateway_key: &GatewayKey) -> Result<StoreOptions> {
    Ok(StoreOptions {
        directory: directory.to_owned(),
        blobs: Arc::new(DiskBlobs::new(directory)?),
        index: IndexChoice::Redb,
        clock: Arc::new(Elapsed(Instant::now())),
        gateway_key: gateway_key.clone(),
        pack_bytes: PACK_BYTES,
        settle_chunks: SETTLE_CHUNKS,
        reserve_bytes: 0,
    })
}

/// A store with one vault, in a directory that is removed with it.
pub(crate) struct Bed {
    home: tempfile::TempDir,
    key: GatewayKey,
    /// The store.
    pub(crate) store: Store,
    /// Its vault.
    pub(crate) vault: Vault,
}

impl Bed {
    /// A new store below `parent`.
    pub(crate) fn make(parent: &Path) -> Result<Self> {
        let home = tempfile::tempdir_in(parent).context("the directory to measure")?;
        let key = GatewayKey::generate()?;
        let (store, vault) = make(home.path(), &key)?;
        Ok(Self { home, key, store, vault })
    }

    /// Where the store is.
    pub(crate) fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Closes the store and opens it again: nothing is cached by it, and its packs are written out.
    pub(crate) fn reopen(self) -> Result<Self> {
        let id = self.vault.id();
        self.store.shutdown()?;
        let Self { home, key, store, vault } = self;
        drop((store, vault));
        let store = Store::open(options(home.path(), &key)?)?;
        let vault = store.vault(id)?;
        Ok(Self { home, key, store, vault })
    }

    /// Bytes of packs in use: a pack is preallocated, so its length alone tells nothing while it is written.
    pub(crate) fn pack_bytes(self) -> Result<(Self, u64)> {
        let bed = self.reopen()?;
        let packs: Vec<PathBuf> = std::fs::read_dir(bed.directory().join("packs"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        let newest = packs.iter().max().cloned();
        let mut bytes = 0;
        for pack in packs {
            // The newest has just been begun.
            if Some(&pack) != newest.as_ref() {
                bytes += pack.metadata()?.len();
            }
        }
        Ok((bed, bytes))
    }
}

/// Makes a store with one vault.
pub(crate) fn make(directory: &Path, key: &GatewayKey) -> Result<(Store, Vault)> {
    Store::create(&options(directory, key)?)?;
    let store = Store::open(options(directory, key)?)?;
    let vault: VaultId =
        store.create_vault(OwnerId([1; 16]), "bench", RETENTION_SECS, draft(Action::VaultAdd))?.wait()?;
    let vault = store.vault(vault)?;
    Ok((store, vault))
}

/// Wall time and CPU time of the whole process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Wall time.
    pub(crate) wall: Duration,
    /// CPU time of all threads, kernel included.
    pub(crate) cpu: Duration,
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// What something costs.
pub(crate) fn cost<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let (begin, before) = (Instant::now(), cpu());
    let value = work()?;
    Ok((value, Cost { wall: begin.elapsed(), cpu: cpu().saturating_sub(before) }))
}

/// The middle one of an odd number of figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Microseconds for each of so many.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn micros_each(spent: Duration, count: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / count as f64
}

/// So many a second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn rate(count: u64, spent: Duration) -> f64 {
    count as f64 / spent.as_secs_f64()
}

/// One in relation to another.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

/// The high-water mark of resident memory, in MiB.
pub(crate) fn memory_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).context("VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
    Ok(kib / 1024)
}
