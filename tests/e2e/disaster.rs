//! Disasters: a machine is lost, packs are lost, bytes go bad, a backup breaks off. What can come back comes back, byte for
//! byte, and what cannot is named exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{file_holds, noise, sha256, sha256_of, write_file};
use coffre_tests::gateway::binary;
use coffre_tests::process::until;
use coffre_tests::{Finished, Gateway, run, run_ok};
use serde_json::Value;

/// Seconds that a copy may take to reach a certain point.
const COPY_SECS_MAX: u64 = 120;

/// Files by name, with their SHA-256.
type Files = BTreeMap<String, String>;

/// A gateway's machine, a disk for backups, a client's machine.
struct Site {
    work: tempfile::TempDir,
    gateway: Gateway,
}

/// What a client keeps on its own machine.
struct Client {
    key_file: PathBuf,
    token: String,
    ca_file: PathBuf,
    known_hosts: PathBuf,
    /// The name under which it knows the host keys.
    alias: String,
}

impl Site {
    fn new() -> Result<Self> {
        let work = tempfile::tempdir()?;
        let gateway = Gateway::start_on(&work.path().join("data"), &work.path().join("server.log"))?;
        fs::copy(gateway.data.join("secrets/gateway.key"), work.path().join("gateway.key"))?;
        Ok(Self { work, gateway })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn key(&self) -> PathBuf {
        self.path("gateway.key")
    }

    /// Stops and starts: what follows goes to packs of its own.
    fn restart(&mut self) -> Result<()> {
        self.gateway.stop()?;
        self.gateway = Gateway::start_on(&self.path("data"), &self.path("server.log"))?;
        Ok(())
    }

    fn put(&self, name: &str, content: &[u8], files: &mut Files) -> Result<()> {
        let local = self.path("here");
        write_file(&local, content, 1_500_000_000)?;
        let status =
            self.gateway.curl_status(&["-T", &local.display().to_string(), &self.gateway.url(name)])?;
        ensure!(status == 201 || status == 204, "{name}: {status}");
        files.insert(name.to_owned(), sha256_of(content));
        Ok(())
    }

    fn backup(&self, more: &[&str]) -> Result<Value> {
        let destination = self.path("backup").display().to_string();
        self.gateway.coffre_json(&[&["backup", &destination], more].concat())
    }

    fn client(&self) -> Result<Client> {
        let home = self.path("client");
        fs::create_dir_all(&home)?;
        let keep = |from: &Path, name: &str| -> Result<PathBuf> {
            fs::copy(from, home.join(name))?;
            Ok(home.join(name))
        };
        Ok(Client {
            key_file: keep(&self.gateway.key_file, "key")?,
            token: self.gateway.token.clone(),
            ca_file: keep(&self.gateway.ca_file, "ca.pem")?,
            known_hosts: keep(&self.gateway.known_hosts, "known_hosts")?,
            alias: format!("[127.0.0.1]:{}", self.gateway.sftp_port()),
        })
    }
}

impl Client {
    /// The client's own key, token, certificate and host keys, with the server that there is now.
    fn meet(&self, gateway: &mut Gateway) {
        gateway.key_file.clone_from(&self.key_file);
        gateway.token.clone_from(&self.token);
        gateway.ca_file.clone_from(&self.ca_file);
        gateway.known_hosts.clone_from(&self.known_hosts);
    }

    /// OpenSSH, which insists on the host key that it knows.
    fn sftp(&self, gateway: &Gateway, batch: &str) -> Result<Finished> {
        let mut command = Command::new("sftp");
        command.args(gateway.ssh_options()).args(["-o", &format!("HostKeyAlias={}", self.alias)]);
        run(command.args(["-b", "-"]).arg(format!("{}@127.0.0.1", gateway.user)), batch.as_bytes())
    }
}

fn coffre(arguments: &[&str]) -> Result<Finished> {
    run(Command::new(binary()?).args(arguments), b"")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn restore(site: &Site, to: &Path) -> Result<Finished> {
    let (backup, key) = (text(&site.path("backup")), text(&site.key()));
    coffre(&["--json", "--data", &text(to), "restore", &backup, "--key", &key])
}

/// A data directory is in order, every frame and the audit log included.
fn assert_clean(data: &Path) -> Result<()> {
    for arguments in [&["check", "--read-data"][..], &["audit", "verify"]] {
        let finished = coffre(&[&["--data", &text(data)], arguments].concat())?;
        ensure!(finished.status.success(), "{arguments:?}: {}\n{}", finished.text(), finished.stderr);
    }
    Ok(())
}

/// What is served for each name: its hash, or nothing when it is refused.
fn served<'f>(
    gateway: &Gateway,
    names: impl Iterator<Item = &'f String>,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for name in names {
        let got = run(gateway.curl().arg("--fail").arg(gateway.url(name)), b"")?;
        found.insert(name.clone(), got.status.success().then(|| sha256_of(&got.stdout)));
    }
    Ok(found)
}

fn assert_serves(gateway: &Gateway, files: &Files) -> Result<()> {
    for (name, found) in served(gateway, files.keys())? {
        ensure!(found.as_ref() == files.get(&name), "{name}: {found:?}");
    }
    Ok(())
}

fn packs(data: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(data.join("store/packs"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn flip(path: &Path, position: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)?;
    file.write_all_at(&[byte[0] ^ 0x40], position)?;
    Ok(())
}

fn number(value: &Value, field: &str) -> Result<u64> {
    value[field].as_u64().with_context(|| format!("{field} in {value}"))
}

/// Takes two backups while three clients write. Tells what had been acknowledged when the second one began, and all.
fn back_up_under_load(site: &Site) -> Result<(Files, Files)> {
    let (done, written) = (AtomicBool::new(false), Mutex::new(Files::new()));
    let acknowledged = std::thread::scope(|scope| -> Result<Files> {
        let (shared, writers) = (site, &written);
        let hands: Vec<_> = (0..3_u64)
            .map(|hand| {
                let done = &done;
                scope.spawn(move || -> Result<()> {
                    for round in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let content = noise(1000 * (hand + 1) + round, usize::try_from(5000 + round * 777)?);
                        let (name, local) = (format!("w{hand}-{round}"), shared.path(&format!("hand{hand}")));
                        fs::write(&local, &content)?;
                        let put =
                            shared.gateway.curl_status(&["-T", &text(&local), &shared.gateway.url(&name)])?;
                        ensure!(put == 201, "{name}: {put}");
                        writers
                            .lock()
                            .map_err(|_| anyhow::anyhow!("lock"))?
                            .insert(name, sha256_of(&content));
                    }
                    Ok(())
                })
            })
            .collect();
        let backups = || -> Result<Files> {
            let first = site.backup(&[])?;
            ensure!(number(&first, "bytes_written")? > 15_000_000, "{first}");
            let acknowledged = written.lock().map_err(|_| anyhow::anyhow!("lock"))?.clone();
            ensure!(!acknowledged.is_empty(), "clients wrote meanwhile");
            let second = site.backup(&[])?;
            ensure!(
                number(&second, "bytes_written")? < number(&second, "bytes")?,
                "only what is new: {second}"
            );
            Ok(acknowledged)
        };
        let outcome = backups();
        done.store(true, Ordering::Relaxed);
        for hand in hands {
            hand.join().map_err(|_| anyhow::anyhow!("a client's thread panicked"))??;
        }
        outcome
    })?;
    Ok((acknowledged, written.into_inner().map_err(|_| anyhow::anyhow!("lock"))?))
}

#[test]
fn a_lost_machine_comes_back_from_a_backup_that_was_taken_while_clients_wrote() -> Result<()> {
    let mut site = Site::new()?;
    let client = site.client()?;
    let mut files = Files::new();
    for seed in 0..20_u64 {
        site.put(&format!("CANARY-{seed}"), &noise(seed + 1, usize::try_from(seed * 100_000)?), &mut files)?;
    }
    let (before_second, all) = back_up_under_load(&site)?;
    // The machine is gone.
    site.gateway.kill()?;
    let key = fs::read(site.key())?;
    fs::remove_dir_all(site.path("data"))?;
    let needles = vec![b"CANARY".to_vec(), b"PRIVATE KEY".to_vec(), key[..64].to_vec()];
    for entry in walkdir::WalkDir::new(site.path("backup")) {
        let entry = entry?;
        let holds = entry.file_type().is_file() && file_holds(entry.path(), &needles)?;
        ensure!(!holds, "{} is readable", entry.path().display());
    }
    let elsewhere = site.path("elsewhere");
    let restored = restore(&site, &elsewhere)?;
    ensure!(restored.status.success(), "{}\n{}", restored.text(), restored.stderr);
    assert_clean(&elsewhere)?;
    let mut gateway = Gateway::start_on(&elsewhere, &site.path("server.log"))?;
    client.meet(&mut gateway);
    files.extend(before_second);
    assert_serves(&gateway, &files)?;
    let back = site.path("back");
    fs::create_dir(&back)?;
    let got = client.sftp(&gateway, &format!("get -r . {}\nput {} new\n", text(&back), text(&site.key())))?;
    ensure!(got.status.success(), "the host key is the same: {}", got.stderr);
    for (name, hash) in &files {
        ensure!(sha256(&back.join(name))? == *hash, "{name}");
    }
    // What was written after the backup began is there whole, or not there.
    for (name, hash) in all {
        ensure!(!back.join(&name).exists() || sha256(&back.join(&name))? == hash, "{name}");
    }
    ensure!(gateway.curl_status(&[&gateway.url("new")])? == 200);
    // And it goes on being backed up, into the same place.
    gateway.coffre_json(&["backup", &text(&site.path("backup"))])?;
    gateway.stop()
}

#[test]
fn packs_alone_give_every_file_back() -> Result<()> {
    let mut site = Site::new()?;
    let mut files = Files::new();
    for seed in 0..15_u64 {
        site.put(&format!("f{seed}"), &noise(seed + 1, usize::try_from(seed * 70_000)?), &mut files)?;
    }
    site.gateway.sftp_batch("mkdir d\nrename f3 d/moved\n")?;
    let moved = files.remove("f3").context("f3")?;
    files.insert("d/moved".to_owned(), moved);
    // Killed, not stopped: the open pack has no footer.
    site.gateway.kill()?;
    let saved = site.path("saved");
    fs::create_dir(&saved)?;
    run_ok(Command::new("cp").arg("-r").arg(site.path("data/store/packs")).arg(&saved))?;
    fs::remove_dir_all(site.path("data"))?;
    let before = listing(&saved)?;
    let to = site.path("to");
    let arguments =
        ["--json", "recover", "--packs", &text(&saved), "--key", &text(&site.key()), "--to", &text(&to)];
    let recovered = coffre(&[&arguments[..], &["--read-data"]].concat())?;
    ensure!(recovered.status.success(), "{}\n{}", recovered.text(), recovered.stderr);
    let told: Value = serde_json::from_slice(&recovered.stdout)?;
    ensure!(told["state"] == "whole" && told["identity"] == "new", "{told}");
    ensure!(listing(&saved)? == before, "the packs are only read");
    assert_clean(&to)?;
    let mut gateway = Gateway::start_on(&to, &site.path("server.log"))?;
    assert_serves(&gateway, &files)?;
    gateway.stop()
}

/// Every file below a directory, with its hash and time.
fn listing(root: &Path) -> Result<BTreeMap<PathBuf, (String, std::time::SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let modified = entry.metadata()?.modified()?;
            found.insert(entry.path().to_owned(), (sha256(entry.path())?, modified));
        }
    }
    Ok(found)
}

/// A stopped store without index and audit log, of which one pack is gone and another has a flipped byte.
fn damaged_site() -> Result<(Site, Files)> {
    let mut site = Site::new()?;
    let mut files = Files::new();
    site.put("kept", &noise(99, 300_000), &mut files)?;
    site.restart()?;
    // The open pack takes what comes now.
    let lost = packs(&site.path("data"))?.pop_last().context("a pack")?;
    for seed in 0..8_u64 {
        site.put(
            &format!("lost-{seed}"),
            &noise(seed + 1, usize::try_from(100_000 + seed * 90_000)?),
            &mut files,
        )?;
    }
    site.gateway.stop()?;
    site.gateway = Gateway::start_on(&site.path("data"), &site.path("server.log"))?;
    // It writes the index into the log: names and attributes of the pack that is about to go.
    site.backup(&[])?;
    site.restart()?;
    site.put("small", &noise(50, 3000), &mut files)?;
    site.put("large", &noise(51, 6_000_000), &mut files)?;
    site.put("other", &noise(52, 3000), &mut files)?;
    site.gateway.stop()?;
    let store = site.path("data/store");
    let newest = packs(&site.path("data"))?;
    let flipped = newest
        .iter()
        .rev()
        .find(|name| fs::metadata(store.join("packs").join(name)).is_ok_and(|found| found.len() > 5_000_000));
    let flipped = store.join("packs").join(flipped.context("the pack of the large file")?);
    fs::remove_file(store.join("packs").join(lost))?;
    flip(&flipped, fs::metadata(&flipped)?.len() / 2)?;
    for name in ["index.redb", "audit"] {
        let path = store.join(name);
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok((site, files))
}

#[test]
fn a_lost_pack_and_a_flipped_byte_concern_exactly_the_files_that_recover_names() -> Result<()> {
    let (site, files) = damaged_site()?;
    let packs = site.path("data/store/packs");
    let to = site.path("to");
    let recovered = coffre(&[
        "--json",
        "recover",
        "--packs",
        &text(&packs),
        "--key",
        &text(&site.key()),
        "--to",
        &text(&to),
        "--read-data",
    ])?;
    ensure!(recovered.status.code() == Some(1), "{}\n{}", recovered.text(), recovered.stderr);
    let told: Value = serde_json::from_slice(&recovered.stdout)?;
    let rows = told["files"].as_array().context("files")?;
    let named: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            ensure!(row["lost"] == "content" && row["vault"] == "demo/demo", "{row}");
            Ok(row["path"].as_str().context("a path")?.trim_start_matches('/').to_owned())
        })
        .collect::<Result<_>>()?;
    let expected: BTreeSet<String> =
        (0..8).map(|n| format!("lost-{n}")).chain(["large".to_owned()]).collect();
    ensure!(named == expected, "{named:?}");
    ensure!(told["identity"] == "kept", "host keys lay near the packs: {told}");
    let mut gateway = Gateway::start_on(&to, &site.path("server.log"))?;
    for (name, found) in served(&gateway, files.keys())? {
        let whole = found.as_ref() == files.get(&name);
        ensure!(
            whole != named.contains(&name),
            "{name} is named: {}, serves {found:?}",
            named.contains(&name)
        );
        ensure!(whole || found.is_none(), "{name} is served wrong");
    }
    // The same content, uploaded again, is stored again although its chunks are known.
    let again = noise(4, 100_000 + 3 * 90_000);
    write_file(&site.path("here"), &again, 1_500_000_000)?;
    let put = gateway.curl_status(&["-T", &text(&site.path("here")), &gateway.url("lost-3")])?;
    ensure!(put == 204, "{put}");
    let name = "lost-3".to_owned();
    let mended = served(&gateway, std::iter::once(&name))?;
    ensure!(mended.get(&name) == Some(&files.get(&name).cloned()), "{mended:?}");
    let verified = gateway.coffre_json(&["audit", "verify"])?;
    ensure!(number(&verified, "begins_at")? > 0, "the audit log says where it begins: {verified}");
    gateway.stop()
}

/// Starts a backup that gets stuck at `place`, waits until it has come there, and kills the server.
fn kill_backup_at(site: &mut Site, place: &Path, arrived: impl Fn() -> bool) -> Result<()> {
    run_ok(Command::new("mkfifo").arg(place))?;
    let mut child = Command::new(binary()?)
        .arg("--data")
        .arg(site.path("data"))
        .arg("backup")
        .arg(site.path("backup"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    until("the backup comes to where it is stuck", COPY_SECS_MAX, || Ok(arrived()))?;
    site.gateway.kill()?;
    ensure!(!child.wait()?.success(), "the backup was interrupted");
    fs::remove_file(place)?;
    site.gateway = Gateway::start_on(&site.path("data"), &site.path("server.log"))?;
    Ok(())
}

#[test]
fn a_backup_that_is_killed_or_finds_its_disk_full_leaves_the_former_one_whole() -> Result<()> {
    let mut site = Site::new()?;
    let mut files = Files::new();
    for seed in 0..6_u64 {
        site.put(&format!("f{seed}"), &noise(seed + 1, usize::try_from(seed * 200_000)?), &mut files)?;
    }
    site.backup(&[])?;
    let backup = site.path("backup");
    let first = files.clone();
    let restored_is = |site: &Site, name: &str, files: &Files| -> Result<()> {
        let to = site.path(name);
        let restored = restore(site, &to)?;
        ensure!(restored.status.success(), "{}\n{}", restored.text(), restored.stderr);
        assert_clean(&to)?;
        let mut gateway = Gateway::start_on(&to, &site.path("other.log"))?;
        assert_serves(&gateway, files)?;
        let listed = run_ok(gateway.curl().args(["-X", "PROPFIND", "-H", "Depth: 1"]).arg(gateway.url("")))?;
        ensure!(listed.text().matches("<D:response>").count() <= files.len() + 1, "nothing newer is there");
        gateway.stop()
    };
    // In the middle of the packs: the newest is not there yet.
    site.restart()?;
    site.put("later", &noise(70, 500_000), &mut files)?;
    let newest = packs(&site.path("data"))?.pop_last().context("a pack")?;
    let place = backup.join("packs").join(&newest);
    let earlier =
        backup.join("packs").join(packs(&site.path("data"))?.iter().nth_back(1).context("two packs")?);
    let grown = fs::metadata(&earlier)?.len();
    let full =
        fs::metadata(site.path("data/store/packs").join(earlier.file_name().context("a name")?))?.len();
    ensure!(grown < full, "the pack that was open at the first backup grows: {grown}, {full}");
    kill_backup_at(&mut site, &place, || fs::metadata(&earlier).is_ok_and(|found| found.len() == full))?;
    restored_is(&site, "first", &first)?;
    // Before the manifest takes its place.
    let place = backup.join("backup.new");
    let config = backup.join("config");
    let configs = || fs::read_dir(&config).map_or(0, Iterator::count);
    let (before, newest) = (configs(), backup.join("packs").join(&newest));
    kill_backup_at(&mut site, &place, || configs() > before && newest.exists())?;
    restored_is(&site, "second", &first)?;
    // No room.
    site.restart()?;
    site.put("latest", &noise(71, 500_000), &mut files)?;
    let newest = backup.join("packs").join(packs(&site.path("data"))?.pop_last().context("a pack")?);
    std::os::unix::fs::symlink("/dev/full", &newest)?;
    let failed = site.gateway.coffre(&["backup", &text(&backup)])?;
    ensure!(
        !failed.status.success() && failed.stderr.contains("is full; the former backup there is whole"),
        "{}",
        failed.stderr
    );
    fs::remove_file(&newest)?;
    restored_is(&site, "third", &first)?;
    // Nothing of all that is in the way of the next one.
    site.backup(&["--verify", "all"])?;
    ensure!(configs() == 1, "leftovers are gone");
    restored_is(&site, "fourth", &files)?;
    site.gateway.stop()
}

#[test]
fn a_flipped_byte_in_a_backup_another_key_and_a_full_directory_are_refused_with_their_reason() -> Result<()> {
    let mut site = Site::new()?;
    let mut files = Files::new();
    site.put("f", &noise(1, 700_000), &mut files)?;
    site.backup(&[])?;
    let (backup, to) = (site.path("backup"), site.path("to"));
    let stored: Vec<PathBuf> = listing(&backup)?.into_keys().collect();
    let mut tried = 0;
    for path in stored.iter().filter(|path| path.file_name().is_some_and(|name| name != "lock")) {
        let middle = fs::metadata(path)?.len() / 2;
        flip(path, middle)?;
        let refused = restore(&site, &to)?;
        let name = text(path.strip_prefix(&backup)?);
        ensure!(!refused.status.success() && refused.stderr.contains(&name), "{name}: {}", refused.stderr);
        ensure!(fs::read_dir(&to).map_or(0, Iterator::count) == 0, "{name}: something was left");
        flip(path, middle)?;
        tried += 1;
    }
    ensure!(tried > 8, "{tried}");
    // The next backup that looks at everything mends it.
    let pack = stored
        .iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "pack"))
        .context("a pack")?;
    flip(pack, 5000)?;
    site.backup(&["--verify", "all"])?;
    let other = site.path("other.key");
    fs::write(&other, "ab".repeat(32))?;
    let wrong = coffre(&["--data", &text(&to), "restore", &text(&backup), "--key", &text(&other)])?;
    ensure!(!wrong.status.success() && wrong.stderr.contains("another gateway key"), "{}", wrong.stderr);
    let packs = text(&backup.join("packs"));
    let wrong = coffre(&["recover", "--packs", &packs, "--key", &text(&other), "--to", &text(&to)])?;
    ensure!(!wrong.status.success() && wrong.stderr.contains("no pack opens"), "{}", wrong.stderr);
    fs::create_dir_all(&to)?;
    fs::write(to.join("precious"), b"x")?;
    let taken = restore(&site, &to)?;
    ensure!(!taken.status.success() && taken.stderr.contains("not empty"), "{}", taken.stderr);
    let inside = text(&site.path("data/backup"));
    let refused = site.gateway.coffre(&["backup", &inside])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("inside the data directory"),
        "{}",
        refused.stderr
    );
    let refused = site.gateway.coffre(&["backup", &text(&to)])?;
    ensure!(!refused.status.success() && refused.stderr.contains("holds no backup"), "{}", refused.stderr);
    fs::remove_file(to.join("precious"))?;
    let mended = restore(&site, &to)?;
    ensure!(mended.status.success(), "{}\n{}", mended.text(), mended.stderr);
    assert_clean(&to)?;
    // A store that was set back does not overwrite the backup of what it has forgotten.
    site.gateway.stop()?;
    let newer = Gateway::start_on(&site.path("data"), &site.path("server.log"))?;
    newer.coffre_json(&["backup", &text(&backup)])?;
    let refused = coffre(&["--data", &text(&to), "backup", &text(&backup)])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("take another directory"),
        "{}",
        refused.stderr
    );
    Ok(())
}
