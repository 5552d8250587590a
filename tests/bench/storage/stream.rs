//! One stream in and out, against the algorithms that it cannot do without, and against the disk.

use std::borrow::Cow;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_storage::aead::{Aead, FastAead, NONCE_BYTES, TAG_BYTES};
use coffre_storage::audit::Action;
use coffre_storage::chunker::Chunker;
use coffre_storage::id::InodeId;
use coffre_storage::limits::{
    BATCH_BYTES_TARGET, CHUNK_BYTES_AVG, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_CACHE_BYTES,
};
use coffre_storage::secret::Secret32;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Precondition;
use coffre_storage::{Vault, upload::OpenFile};
use coffre_tests::files::noise;
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use super::bed::{Bed, cost, draft, median};

const ROUNDS: u64 = 5;
/// Bytes that a protocol hands over or asks for at once.
const PIECE_BYTES: usize = 256 * 1024;
/// What the engine may cost: the algorithms are at least this share of it.
const SHARE: f64 = 0.6;

/// CPU seconds of the algorithms alone over a buffer, which is sealed in place.
#[derive(Default)]
struct Algorithms {
    put: Vec<f64>,
    /// With the store's own search for cut points instead of the fastcdc crate's.
    put_cut_here: Vec<f64>,
    put_hashed: Vec<f64>,
    open: Vec<f64>,
}

/// The fastcdc crate's search for a cut point, with what the store gives it.
struct Crate {
    gear: Cow<'static, [u64]>,
    shifted: Cow<'static, [u64]>,
}

impl Crate {
    fn new(seed: u64) -> Self {
        let (gear, shifted) = get_gear_with_seed(seed);
        Self { gear, shifted }
    }

    fn cut(&self, bytes: &[u8]) -> Option<usize> {
        let (min, average, max) = (CHUNK_BYTES_MIN, CHUNK_BYTES_AVG, CHUNK_BYTES_MAX);
        let (small, large) = select_masks(average, Normalization::Level1);
        let window = &bytes[..bytes.len().min(max)];
        let found = cut_gear(
            window,
            min,
            average,
            max,
            small,
            large,
            small << 1,
            large << 1,
            &self.gear,
            &self.shifted,
        );
        (!bytes.is_empty()).then_some(found.1)
    }
}

type Sealed = Vec<(usize, blake3::Hash, [u8; TAG_BYTES])>;

/// Cuts, hashes and seals a buffer, chunk by chunk, in place.
fn seal(buffer: &mut [u8], key: &FastAead, cut: impl Fn(&[u8]) -> Option<usize>) -> Result<Sealed> {
    let (mut at, mut tags) = (0, Vec::new());
    while let Some(len) = cut(&buffer[at..]) {
        let chunk = &mut buffer[at..at + len];
        let id = blake3::keyed_hash(&[9; 32], chunk);
        let tag = key.seal([0; NONCE_BYTES], id.as_bytes(), chunk).context("sealing")?;
        tags.push((len, id, tag));
        at += len;
    }
    Ok(tags)
}

impl Algorithms {
    fn round(&mut self, seed: u64, bytes: usize) -> Result<()> {
        let mut buffer = noise(seed, bytes);
        let chunker = Chunker::new(seed);
        let key = FastAead::new(&Secret32::new([7; 32]));
        let by_the_crate = Crate::new(seed);
        let (_, put) = cost(|| seal(&mut buffer, &key, |bytes| by_the_crate.cut(bytes)))?;
        let (tags, put_cut_here) = cost(|| seal(&mut buffer, &key, |bytes| chunker.cut(bytes, true)))?;
        let ((), whole) = cost(|| {
            std::hint::black_box(blake3::hash(&buffer));
            Ok(())
        })?;
        let ((), open) = cost(|| {
            let mut at = 0;
            for (len, id, tag) in &tags {
                let chunk = &mut buffer[at..at + len];
                ensure!(key.open([0; NONCE_BYTES], id.as_bytes(), chunk, tag), "opening");
                at += len;
            }
            Ok(())
        })?;
        self.put.push(put.cpu.as_secs_f64());
        self.put_cut_here.push(put_cut_here.cpu.as_secs_f64());
        self.put_hashed.push((put.cpu + whole.cpu).as_secs_f64());
        self.open.push(open.cpu.as_secs_f64());
        Ok(())
    }
}

fn put(vault: &Vault, name: &str, bytes: &[u8]) -> Result<InodeId> {
    let mut upload = vault.begin_upload()?;
    for piece in bytes.chunks(PIECE_BYTES) {
        upload.write(piece)?;
    }
    let at = (InodeId::ROOT, name.as_bytes());
    let done =
        upload.commit(at, Precondition::None, &AttributeChange::default(), draft(Action::FileWrite))?;
    Ok(done.wait()?.0)
}

fn get(file: &OpenFile, bytes: usize) -> Result<()> {
    let mut into = Vec::with_capacity(PIECE_BYTES);
    let mut at = 0;
    while at < bytes {
        into.clear();
        file.read_onto(at as u64, PIECE_BYTES, &mut into)?;
        ensure!(!into.is_empty(), "the file ends early");
        at += into.len();
    }
    Ok(())
}

/// Bytes a second that the disk takes durably: writes of a batch's size past the page cache, each one synced.
fn fio(directory: &Path, bytes: usize) -> Result<f64> {
    let file = directory.join("fio");
    let output = Command::new("fio")
        .args(["--name=durable", "--rw=write", "--direct=1", "--fdatasync=1", "--ioengine=psync"])
        .args(["--fallocate=posix", "--output-format=json"])
        .arg(format!("--bs={BATCH_BYTES_TARGET}"))
        .arg(format!("--size={bytes}"))
        .arg(format!("--filename={}", file.display()))
        .output()
        .context("fio is needed")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(file)?;
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let millis = found["jobs"][0]["job_runtime"].as_f64().context("fio's answer")?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    Ok(bytes as f64 / (millis / 1e3))
}

fn line(what: &str, ours: f64, theirs: f64, of: &str) {
    println!(
        "{what}: {ours:.3} CPU s a GiB, {of} {theirs:.3}: {:.2} times, target {:.2}",
        ours / theirs,
        1.0 / SHARE
    );
}

/// Measures.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn run(parent: &Path, mib: u64) -> Result<()> {
    let bytes = usize::try_from(mib << 20)?;
    let gib = bytes as f64 / f64::from(1 << 30);
    let mut algorithms = Algorithms::default();
    let (mut put_cpu, mut put_rate, mut disk_rate) = (Vec::new(), Vec::new(), Vec::new());
    let (mut get_cpu, mut cached_cpu) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        algorithms.round(round, bytes)?;
        disk_rate.push(fio(parent, bytes)?);
        let bed = Bed::make(parent)?;
        // The first bytes into a new process and store pay for pages and a pack.
        put(&bed.vault, "first", &noise(1 << 40, PIECE_BYTES * 64))?;
        let content = noise(round + 100, bytes);
        let (inode, spent) = cost(|| put(&bed.vault, "large", &content))?;
        put_cpu.push(spent.cpu.as_secs_f64());
        put_rate.push(bytes as f64 / spent.wall.as_secs_f64());
        let file = bed.vault.open(inode)?;
        ensure!(
            file.read_at(bytes as u64 / 2, 4096)? == content[bytes / 2..bytes / 2 + 4096],
            "it comes back"
        );
        get(&file, bytes)?;
        let ((), spent) = cost(|| get(&file, bytes))?;
        get_cpu.push(spent.cpu.as_secs_f64());
        let small = CHUNK_CACHE_BYTES / 2;
        let inode = put(&bed.vault, "cached", &content[..small])?;
        let file = bed.vault.open(inode)?;
        get(&file, small)?;
        let ((), spent) = cost(|| get(&file, small))?;
        cached_cpu.push(spent.cpu.as_secs_f64() * bytes as f64 / small as f64);
        bed.store.shutdown()?;
        println!(
            "round {round}: put {:.0} MB/s, disk {:.0} MB/s, {} KiB chunks on average",
            put_rate[put_rate.len() - 1] / 1e6,
            disk_rate[disk_rate.len() - 1] / 1e6,
            CHUNK_BYTES_AVG / 1024
        );
    }
    let each = |figures: Vec<f64>| median(figures) / gib;
    let (put, aes) = (each(put_cpu), each(algorithms.open));
    line("put", put, each(algorithms.put), "cutting, hashing, sealing");
    line("put", put, each(algorithms.put_cut_here), "the same with the store's search for cuts");
    line("put", put, each(algorithms.put_hashed), "the same with BLAKE3 of the whole");
    line("get, packs in the page cache", each(get_cpu), aes, "opening");
    line("get, chunks in the store's cache", each(cached_cpu), aes, "opening");
    let (ours, disk) = (median(put_rate), median(disk_rate));
    println!(
        "durable put: {:.0} MB/s, disk (fio, O_DIRECT, fdatasync each {} MiB) {:.0} MB/s: {:.0} %, target 80 %",
        ours / 1e6,
        BATCH_BYTES_TARGET >> 20,
        disk / 1e6,
        ours / disk * 100.0
    );
    Ok(())
}
