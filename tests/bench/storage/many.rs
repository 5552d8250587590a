//! Many files in one vault: does a file cost more when there are millions, how long does the store take to open after
//! a kill, how much memory does it take, how fast is a very large directory listed.
//!
//! The vault is filled by a child process, which is killed in the middle of writing; this process opens what it left.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::Action;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::keys::GatewayKey;
use coffre_storage::secret::Secret32;
use coffre_storage::tree::{AttributeChange, Cursor};
use coffre_storage::upload::Precondition;
use coffre_storage::{Store, Ticket, Vault};
use coffre_tests::files::noise;

use super::bed::{Bed, Cost, cost, draft, make, memory_mib, micros_each, options, rate};

/// Files of one directory.
const DIRECTORY_FILES: u64 = 10_000;
/// Bytes of a file: 10 million of 4 KiB would be 40 GiB of noise, and the index does not see the difference.
const FILE_BYTES: usize = 256;
/// Writers, each with this many files on their way while the vault is filled.
const WRITERS: u64 = 8;
const IN_FLIGHT: usize = 256;
/// Files that a cost is measured over: long enough for checkpoints to be in it.
const WINDOW: u64 = 50_000;
/// Names that are looked up in one directory before the next is picked, when a client walks through what it listed.
const WALK: u64 = 200;
/// Where the first cost is taken.
const FEW: u64 = 10_000;
/// Names that are looked up for the cost of a stat.
const STATS: u64 = 20_000;

/// How long the child goes on writing before it is killed.
const KILL_AFTER: Duration = Duration::from_millis(2500);
/// Entries of one page of a listing: what the SFTP channel asks for at once is less, so this is no worse than it.
const LIST_PAGE: usize = 1000;
/// Directories that are listed.
const LISTED_MAX: u64 = 20;

/// A random name that is the same for the same number.
fn name(number: u64) -> Vec<u8> {
    let bytes = noise(number + 1, 8);
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn directory_name(number: u64) -> Vec<u8> {
    format!("directory-{number}").into_bytes()
}

fn directory(vault: &Vault, file: u64) -> Result<InodeId> {
    Ok(vault.lookup(InodeId::ROOT, &directory_name(file / DIRECTORY_FILES))?.inode)
}

fn put(vault: &Vault, parent: InodeId, file: u64) -> Result<Ticket> {
    let mut upload = vault.begin_upload()?;
    upload.write(&noise(file + 1, FILE_BYTES))?;
    let attributes = AttributeChange::default();
    let at = (parent, &name(file)[..]);
    Ok(upload.commit(at, Precondition::Absent, &attributes, draft(Action::FileWrite))?.ticket)
}

/// Puts files `from..to`, with so many on the way for each writer: none, and each file is waited for.
fn fill(vault: &Vault, (from, to): (u64, u64), in_flight: usize) -> Result<()> {
    for number in from / DIRECTORY_FILES..=(to - 1) / DIRECTORY_FILES {
        if from <= number * DIRECTORY_FILES {
            let (name, mode) = (directory_name(number), AttributeChange::default());
            drop(vault.make_directory(InodeId::ROOT, &name, &mode, draft(Action::DirectoryCreate))?);
        }
    }
    let next = AtomicU64::new(from);
    let writer = || -> Result<()> {
        let mut pending = std::collections::VecDeque::new();
        let mut known: Option<(u64, InodeId)> = None;
        loop {
            let file = next.fetch_add(1, Ordering::Relaxed);
            if file >= to {
                break;
            }
            let parent = match known {
                Some((number, parent)) if number == file / DIRECTORY_FILES => parent,
                _ => directory(vault, file)?,
            };
            known = Some((file / DIRECTORY_FILES, parent));
            pending.push_back(put(vault, parent, file)?);
            if pending.len() > in_flight
                && let Some(ticket) = pending.pop_front()
            {
                ticket.wait()?;
            }
        }
        for ticket in pending {
            ticket.wait()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })
}

fn random(seed: u64, count: u64) -> Result<Vec<u64>> {
    let bytes = noise(seed, usize::try_from(count * 8)?);
    bytes.chunks_exact(8).map(|number| Ok(u64::from_le_bytes(number.try_into()?))).collect()
}

fn find(vault: &Vault, file: u64) -> Result<()> {
    let parent = directory(vault, file)?;
    ensure!(vault.lookup(parent, &name(file))?.size == FILE_BYTES as u64, "file {file} is there");
    Ok(())
}

/// Looks names of the first `files` up, anywhere.
fn stat(vault: &Vault, files: u64, seed: u64) -> Result<()> {
    random(seed, STATS)?.into_iter().try_for_each(|pick| find(vault, pick % files))
}

/// Looks names of the first `files` up, several of a directory before those of another.
fn walk(vault: &Vault, files: u64, seed: u64) -> Result<()> {
    for pick in random(seed, STATS / WALK)? {
        let first = pick % files / DIRECTORY_FILES * DIRECTORY_FILES;
        for pick in random(pick, WALK)? {
            find(vault, first + pick % DIRECTORY_FILES.min(files))?;
        }
    }
    Ok(())
}

/// Measures a vault that holds so many files, and puts more into it. Returns how many it holds then.
fn measure(vault: &Vault, files: u64) -> Result<u64> {
    let ((), bulk) = cost(|| fill(vault, (files, files + WINDOW), IN_FLIGHT))?;
    say(&format!("{files} files, put, {IN_FLIGHT} on the way for each of {WRITERS} writers"), bulk, WINDOW);
    let ((), each) = cost(|| fill(vault, (files + WINDOW, files + 2 * WINDOW), 0))?;
    say(&format!("{files} files, put, {WRITERS} writers that wait for each"), each, WINDOW);
    stat(vault, files, 7)?;
    let ((), anywhere) = cost(|| stat(vault, files, 8))?;
    say(&format!("{files} files, stat, anywhere"), anywhere, STATS);
    let ((), near) = cost(|| walk(vault, files, 9))?;
    say(&format!("{files} files, stat, {WALK} of a directory"), near, STATS);
    Ok(files + 2 * WINDOW)
}

fn say(what: &str, each: Cost, count: u64) {
    println!(
        "{what}: {:.1} us of wall time, {:.1} us of CPU",
        micros_each(each.wall, count),
        micros_each(each.cpu, count)
    );
}

/// The child: fills, measures, then goes on writing until it is killed.
pub(crate) fn child(home: &Path, files: u64) -> Result<()> {
    let key = GatewayKey::generate()?;
    std::fs::write(home.join("key"), key.expose().expose())?;
    let (store, vault) = make(home, &key)?;
    std::fs::write(home.join("vault"), vault.id().to_string())?;
    fill(&vault, (0, FEW), IN_FLIGHT)?;
    let mut done = measure(&vault, FEW)?;
    while done < files {
        let step = (files / 10).min(files - done);
        let ((), spent) = cost(|| fill(&vault, (done, done + step), IN_FLIGHT))?;
        done += step;
        say(&format!("filling up to {done}"), spent, step);
    }
    let mut at = measure(&vault, files.max(done))?;
    println!("memory of the filling process: {} MiB at most", memory_mib()?);
    drop(store);
    println!("filled");
    std::io::stdout().flush()?;
    loop {
        fill(&vault, (at, at + DIRECTORY_FILES), IN_FLIGHT)?;
        at += DIRECTORY_FILES;
    }
}

/// Fills, kills, opens, looks names up, lists.
pub(crate) fn run(parent: &Path, files: u64) -> Result<()> {
    let home = tempfile::tempdir_in(parent).context("the directory to measure")?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("many-child")
        .arg(home.path())
        .arg(files.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().context("the child's output")?);
    let mut filled = false;
    for line in output.lines() {
        let line = line?;
        filled = line == "filled";
        if filled {
            break;
        }
        println!("{line}");
    }
    // Well into the writing that follows: several batches behind the last checkpoint.
    let deadline = Instant::now() + KILL_AFTER;
    while filled && Instant::now() < deadline {
        std::thread::yield_now();
    }
    child.kill()?;
    child.wait()?;
    ensure!(filled, "the child filled the vault");

    read(home.path(), files)
}

/// What the killed child left.
fn read(home: &Path, files: u64) -> Result<()> {
    let index = std::fs::metadata(home.join("index.redb"))?.len();
    println!("index: {} MiB", index >> 20);
    let key = GatewayKey::from_secret(Secret32::new(read_key(home)?));
    let (store, opened) = cost(|| Ok(Store::open(options(home, &key)?)?))?;
    println!(
        "opening after kill -9: {:.0} ms, {:.0} ms of CPU",
        opened.wall.as_secs_f64() * 1e3,
        opened.cpu.as_secs_f64() * 1e3
    );
    let id = std::fs::read_to_string(home.join("vault"))?;
    let vault = store.vault(VaultId::parse(&id).context("the vault's identity")?)?;
    stat(&vault, files, 11)?;
    let ((), spent) = cost(|| stat(&vault, files, 12))?;
    say(&format!("{files} files, stat, anywhere, store opened again"), spent, STATS);
    let ((), spent) = cost(|| walk(&vault, files, 13))?;
    say(&format!("{files} files, stat, {WALK} of a directory, store opened again"), spent, STATS);
    let (entries, spent) = cost(|| list_all(&vault, files / DIRECTORY_FILES))?;
    println!(
        "listing directories of {DIRECTORY_FILES}: {:.0} entries a second, {:.2} us of CPU each",
        rate(entries, spent.wall),
        micros_each(spent.cpu, entries)
    );
    println!("memory of the reading process: {} MiB at most", memory_mib()?);
    store.shutdown()?;
    Ok(())
}

fn read_key(home: &Path) -> Result<[u8; 32]> {
    std::fs::read(home.join("key"))?.try_into().map_err(|_| anyhow::anyhow!("the key"))
}

fn list(vault: &Vault, directory: InodeId) -> Result<u64> {
    let (mut entries, mut cursor): (u64, Option<Cursor>) = (0, None);
    loop {
        let (page, next) = vault.list(directory, cursor, LIST_PAGE)?;
        entries += page.len() as u64;
        if next.is_none() {
            return Ok(entries);
        }
        cursor = next;
    }
}

fn list_all(vault: &Vault, directories: u64) -> Result<u64> {
    (0..directories.min(LISTED_MAX))
        .map(|number| list(vault, directory(vault, number * DIRECTORY_FILES)?))
        .sum()
}

/// One directory of so many entries.
pub(crate) fn listing(parent: &Path, entries: u64) -> Result<()> {
    let bed = Bed::make(parent)?;
    let at = (InodeId::ROOT, &b"large"[..]);
    let made =
        bed.vault.make_directory(at.0, at.1, &AttributeChange::default(), draft(Action::DirectoryCreate))?;
    let large = made.wait()?;
    fill_one(&bed.vault, large, entries)?;
    for round in ["warm", "warm"] {
        let (found, spent) = cost(|| list(&bed.vault, large))?;
        ensure!(found == entries, "all entries are listed");
        println!(
            "a directory of {entries}, {round}: {:.0} entries a second, {:.2} us of CPU each",
            rate(found, spent.wall),
            micros_each(spent.cpu, found)
        );
    }
    let bed = bed.reopen()?;
    let (found, spent) = cost(|| list(&bed.vault, large))?;
    println!(
        "a directory of {entries}, store opened again: {:.0} entries a second, {:.2} us of CPU each",
        rate(found, spent.wall),
        micros_each(spent.cpu, found)
    );
    println!("memory: {} MiB at most", memory_mib()?);
    bed.store.shutdown()?;
    Ok(())
}

fn fill_one(vault: &Vault, parent: InodeId, entries: u64) -> Result<()> {
    let mut last = None;
    for number in 0..entries {
        let mode = AttributeChange::default();
        last = Some(vault.create_file(parent, &name(number), &mode, draft(Action::FileCreate))?.ticket);
    }
    if let Some(ticket) = last {
        ticket.wait()?;
    }
    Ok(())
}
