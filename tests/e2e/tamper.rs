//! A byte that changed on disk is detected, and never served.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256_of, write_file};
use coffre_tests::gateway::binary;
use coffre_tests::{Gateway, run, run_ok};

/// Positions tried in each kind of file.
const POSITIONS: u64 = 12;

/// A stopped store with files in it, and what they hold.
struct Store {
    work: tempfile::TempDir,
    files: BTreeMap<String, String>,
}

impl Store {
    fn filled() -> Result<Self> {
        let work = tempfile::tempdir()?;
        let mut gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
        let here = work.path().join("here");
        let mut files = BTreeMap::new();
        for number in 0..40_u64 {
            let content = noise(number + 1, usize::try_from(number * number * 700)?);
            let name = format!("file-{number}");
            write_file(&here.join(&name), &content, 1_500_000_000)?;
            files.insert(name, sha256_of(&content));
        }
        gateway.sftp_batch(&format!("put -rp {}/. .\n", here.display()))?;
        gateway.stop()?;
        Ok(Self { work, files })
    }

    fn data(&self) -> PathBuf {
        self.work.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.work.path().join("server.log")
    }

    /// The files below the data directory that are wanted.
    fn stored(&self, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(self.data()) {
            let entry = entry?;
            if entry.file_type().is_file() && wanted(entry.path()) && entry.metadata()?.len() > 0 {
                found.push(entry.into_path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn check(&self, more: &[&str]) -> Result<bool> {
        let finished =
            run(Command::new(binary()?).arg("--data").arg(self.data()).arg("check").args(more), b"")?;
        ensure!(finished.status.code().is_some(), "check was killed by a signal: {}", finished.stderr);
        Ok(finished.status.success())
    }

    /// Starts a server and reads everything: true when all came back as it was, false when something was refused. A
    /// wrong byte that was served is an error.
    fn reads_clean(&self) -> Result<bool> {
        let Ok(gateway) = Gateway::start_on(&self.data(), &self.log()) else { return Ok(false) };
        let mut clean = true;
        for (name, hash) in &self.files {
            let served = run(gateway.curl().arg("--fail").arg(gateway.url(name)), b"")?;
            clean &= served.status.success();
            ensure!(
                !served.status.success() || sha256_of(&served.stdout) == *hash,
                "{name}: wrong content was served as if it were right"
            );
        }
        Ok(clean)
    }
}

/// One byte that is not what it was; put back when dropped.
pub(crate) struct Flipped {
    file: File,
    position: u64,
    byte: u8,
}

impl Flipped {
    pub(crate) fn at(path: &Path, position: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, position)?;
        file.write_all_at(&[byte[0] ^ 0x40], position)?;
        Ok(Self { file, position, byte: byte[0] })
    }
}

impl Drop for Flipped {
    fn drop(&mut self) {
        if let Err(error) = self.file.write_all_at(&[self.byte], self.position) {
            eprintln!("the flipped byte stays: {error}");
        }
    }
}

/// Bytes of a file up to its last one that is not zero: packs are preallocated.
pub(crate) fn used_len(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    let (mut at, mut used) = (0, 0);
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok(used);
        }
        if let Some(last) = piece[..len].iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1;
        }
        at += len as u64;
    }
}

/// The first and last used byte and positions spread between.
pub(crate) fn positions(used: u64) -> impl Iterator<Item = u64> {
    (0..POSITIONS).map(move |step| step * (used - 1) / (POSITIONS - 1))
}

fn is_pack(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == "packs")
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "redb")
}

#[test]
fn a_flipped_byte_in_a_pack_is_found_by_check_and_never_served() -> Result<()> {
    let store = Store::filled()?;
    ensure!(store.check(&["--read-data"])? && store.reads_clean()?, "clean before");
    let packs = store.stored(is_pack)?;
    let (used, pack) = packs
        .into_iter()
        .map(|pack| Ok((used_len(&pack)?, pack)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max()
        .context("a pack")?;
    ensure!(used > 1_000_000, "the pack holds the files: {used} bytes");
    for position in positions(used) {
        let flipped = Flipped::at(&pack, position)?;
        ensure!(!store.check(&["--read-data"])?, "byte {position} of {used} was flipped and not found");
        store.reads_clean().with_context(|| format!("byte {position} of {used}"))?;
        drop(flipped);
    }
    ensure!(store.check(&["--read-data"])? && store.reads_clean()?, "clean after the bytes were put back");
    Ok(())
}

#[test]
fn damage_is_told_by_path_set_aside_and_healed_by_the_same_bytes() -> Result<()> {
    let store = Store::filled()?;
    let packs = store.stored(is_pack)?;
    let used = packs.into_iter().map(|pack| Ok((used_len(&pack)?, pack))).collect::<Result<Vec<_>>>()?;
    let (used, pack) = used.into_iter().max().context("a pack")?;
    // In the middle of so many files it lies in one of their frames.
    let flipped = Flipped::at(&pack, used / 2)?;
    let mut gateway = Gateway::start_on(&store.data(), &store.log())?;
    let found = gateway.coffre(&["--json", "check", "--read-data"])?;
    ensure!(!found.status.success(), "a check that finds damage exits with 1");
    let found: serde_json::Value = serde_json::from_slice(&found.stdout)?;
    ensure!(found["state"] == "damaged" && found["findings"].as_array().is_some_and(|all| !all.is_empty()));
    let repaired = gateway.coffre_json(&["check", "--repair", "--read-data"])?;
    ensure!(repaired["state"] == "repaired" && repaired["left"] == serde_json::json!([]), "{repaired}");
    let paths: Vec<String> = repaired["files"]
        .as_array()
        .context("files")?
        .iter()
        .filter_map(|file| Some(file["path"].as_str()?.trim_start_matches('/').to_owned()))
        .collect();
    ensure!(!paths.is_empty() && paths.len() < 5, "{repaired}");
    ensure!(repaired["files"][0]["vault"].as_str().is_some_and(|vault| vault.contains('/')), "{repaired}");
    for (name, hash) in &store.files {
        let served = run(gateway.curl().arg("--fail").arg(gateway.url(name)), b"")?;
        ensure!(served.status.success() != paths.contains(name), "{name}: {}", served.stderr);
        ensure!(!served.status.success() || sha256_of(&served.stdout) == *hash, "{name}");
    }
    ensure!(!gateway.log_text().contains(&paths[0]), "names do not go to the log");
    gateway.admin(&["check", "--read-data"])?;
    // Their owner uploads them again, elsewhere.
    for name in &paths {
        let from = store.work.path().join("here").join(name);
        run_ok(gateway.curl().arg("--fail").arg("-T").arg(from).arg(gateway.url(&format!("again-{name}"))))?;
        let served = run_ok(gateway.curl().arg("--fail").arg(gateway.url(name)))?;
        ensure!(sha256_of(&served.stdout) == store.files[name], "{name} is not healed");
    }
    let clean = gateway.coffre_json(&["check", "--read-data"])?;
    ensure!(clean["state"] == "clean" && clean["chunks_set_aside"] == 0, "{clean}");
    ensure!(gateway.coffre(&["audit", "verify"])?.status.success());
    let tail = gateway.coffre(&["--json", "audit", "tail", "-n", "500"])?.text();
    ensure!(tail.contains("\"set-aside\"") && tail.contains("\"repair\""), "each step has its record");
    gateway.stop()?;
    drop(flipped);
    Ok(())
}

#[test]
fn a_flipped_byte_in_the_index_is_never_served_and_a_sealed_value_is_found() -> Result<()> {
    let store = Store::filled()?;
    let index = store.stored(is_index)?.into_iter().next().context("an index")?;
    let pristine = fs::read(&index)?;
    let used = used_len(&index)?;
    let mut found = 0;
    for position in positions(used) {
        let flipped = Flipped::at(&index, position)?;
        if !store.check(&["--read-data"])?
            || !store.reads_clean().with_context(|| format!("byte {position}"))?
        {
            found += 1;
        }
        drop(flipped);
        // A server that started on the flipped index may have written to it: begin again from the same bytes.
        fs::write(&index, &pristine)?;
    }
    println!("{found} of {POSITIONS} flipped bytes of the index were in use, and found");
    ensure!(found > 0, "no flipped byte of the index was found");
    Ok(())
}

#[test]
fn an_index_taken_from_an_older_moment_is_brought_forward_and_serves_no_old_content() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, log) = (work.path().join("data"), work.path().join("server.log"));
    let mut gateway = Gateway::start_on(&data, &log)?;
    let file = work.path().join("file");
    write_file(&file, b"the first content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} file\n", file.display()))?;
    gateway.stop()?;
    let store = Store { work, files: BTreeMap::new() };
    let index = store.stored(is_index)?.into_iter().next().context("an index")?;
    let old = fs::read(&index)?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    write_file(&file, b"the second content", 1_500_000_001)?;
    gateway.sftp_batch(&format!("put {} file\n", file.display()))?;
    gateway.stop()?;
    fs::write(&index, &old)?;
    // Either the log brings the index forward, or the server refuses to start.
    let Ok(gateway) = Gateway::start_on(&data, &log) else { return Ok(()) };
    let finished = run(gateway.curl().arg("--fail").arg(gateway.url("file")), b"")?;
    ensure!(!finished.status.success() || finished.text() == "the second content", "{}", finished.text());
    Ok(())
}
