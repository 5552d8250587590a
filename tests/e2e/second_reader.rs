//! A second reader, written from `storage/FORMAT.md` alone (`tests/vectors/reader.py`, OpenSSL's AES), finds in the packs
//! what clients wrote: the document is true, and whoever has it and the gateway key has the files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, sha256, write_file};
use coffre_tests::fixture::{Fixture, Line, Object, Tree, decoded, vectors};
use coffre_tests::{Gateway, Listing, listing, run_ok};
use serde_json::Value;

use crate::exec::exec;

fn reader(data: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-B").arg(vectors().join("reader.py")).arg(data).args(arguments);
    Ok(run_ok(&mut python)?.stdout)
}

/// Opens everything there is; returns what was counted.
fn verify(data: &Path) -> Result<Value> {
    let counted: Value = serde_json::from_slice(&reader(data, &["verify"])?)?;
    ensure!(counted["checksums"] == counted["batches"], "python3-xxhash is there: {counted}");
    Ok(counted)
}

/// What a vault holds: path -> the reader's line.
fn list(data: &Path, vault: &str) -> Result<BTreeMap<Vec<u8>, Value>> {
    let mut found = BTreeMap::new();
    for line in String::from_utf8(reader(data, &["list"])?)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["vault"] == vault {
            found.insert(decoded(line["path"].as_str().context("path")?)?, line);
        }
    }
    Ok(found)
}

/// The same as a local listing says it.
fn as_listing(lines: &BTreeMap<Vec<u8>, Value>) -> Result<Listing> {
    let text = |line: &Value, field: &str| {
        Ok::<_, anyhow::Error>(line[field].as_str().context("a text")?.to_owned())
    };
    lines
        .iter()
        .map(|(path, line)| {
            let said = match text(line, "kind")?.as_str() {
                "directory" => ("dir".to_owned(), 0),
                "file" => {
                    let mtime_ns = line["mtime_ns"].as_i64().context("mtime")?;
                    (text(line, "sha256")?, mtime_ns.div_euclid(1_000_000_000))
                }
                _ => (format!("-> {}", text(line, "target")?), 0),
            };
            Ok((path.clone(), said))
        })
        .collect()
}

fn matches(line: &Line, found: &Value) -> bool {
    let object = match &line.object {
        Object::Directory => found["kind"] == "directory",
        Object::File { size, sha256, links } => {
            found["kind"] == "file"
                && found["size"] == *size
                && found["sha256"] == sha256.as_str()
                && found["links"] == *links
        }
        Object::Link(target) => {
            found["target"].as_str().and_then(|text| decoded(text).ok()).as_ref() == Some(target)
        }
    };
    // Properties are kept as the XML that they were.
    let properties = line.properties.iter().all(|(space, values)| {
        values.iter().all(|(name, value)| {
            let xml = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            found["properties"][format!("{space}\0{name}")] == xml
        })
    });
    object
        && properties
        && line.mode.is_none_or(|mode| found["mode"] == format!("{mode:04o}"))
        && line.owner.is_none_or(|(uid, gid)| found["uid"] == uid && found["gid"] == gid)
        && line.mtime_ns.is_none_or(|mtime| found["mtime_ns"] == mtime)
        && line.is_incomplete == (found["incomplete"] == true)
}

/// Every line of the expectation and no other, to the nanosecond; `more` may be there too.
fn same_as(tree: &Tree, data: &Path, more: &[Vec<u8>]) -> Result<()> {
    let mut found = list(data, &tree.vault)?;
    for (path, line) in &tree.lines {
        let shown = String::from_utf8_lossy(path);
        let found = found.remove(path).with_context(|| format!("{}: {shown} is not read", tree.vault))?;
        ensure!(matches(line, &found), "{}: {shown} was {line:?} and is read as {found}", tree.vault);
    }
    found.retain(|path, _| !more.contains(path));
    ensure!(found.is_empty(), "{}: {:?} were never there", tree.vault, found.keys().collect::<Vec<_>>());
    Ok(())
}

/// Everything that content can be, and small: the reader's BLAKE3 is slow.
fn small_tree(root: &Path) -> Result<()> {
    write_file(&root.join("empty"), b"", 1_000_000_000)?;
    write_file(&root.join("one"), b"x", 1_100_000_001)?;
    write_file(&root.join("chunks"), &noise(1, 280_000), 1_200_000_002)?;
    write_file(&root.join("again/the same"), &noise(1, 280_000), 1_200_000_003)?;
    write_file(&root.join("compressible"), "la même ligne\n".repeat(8_000).as_bytes(), 1_200_000_004)?;
    write_file(&root.join("zeros"), &vec![0; 100_000], 1_300_000_004)?;
    write_file(&root.join("Dossier médical/été.txt"), "accentué".as_bytes(), 1_400_000_005)?;
    write_file(&root.join(std::ffi::OsStr::from_bytes(b"latin-1 \xe9t\xe9")), b"latin-1", 1_600_000_012)?;
    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(66 << 20)?;
    for island in 0..20 {
        sparse.write_all_at(b"island", (65 << 20) + island * 40_000)?;
    }
    Ok(())
}

#[test]
fn the_second_readers_primitives_give_the_published_answers() -> Result<()> {
    run_ok(Command::new("/usr/bin/python3").arg("-B").arg(vectors().join("test_primitives.py")))?;
    Ok(())
}

#[test]
fn a_reader_made_from_the_document_alone_reads_what_clients_wrote() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, here) = (work.path().join("data"), work.path().join("here"));
    small_tree(&here)?;
    let mut gateway = Gateway::start_on(&data, &work.path().join("server.log"))?;
    gateway.sftp_batch(&format!(
        "put -pr {}/. .\nput {} changed\nput {} changed\nrename changed renamed\nput {} gone\nrm gone\nln -s empty link\n",
        here.display(),
        here.join("one").display(),
        here.join("zeros").display(),
        here.join("empty").display(),
    ))?;
    let upload = here.join("chunks").display().to_string();
    ensure!(gateway.curl_status(&["-T", &upload, &gateway.url("by-dav")])? == 201);
    // One of them is superseded after it was asked for.
    ensure!(exec(&gateway, "sha256sum chunks sparse empty by-dav", b"")?.status.success());
    ensure!(gateway.curl_status(&["-T", &upload, &gateway.url("by-dav")])? == 204);
    gateway.stop()?;

    ensure!(verify(&data)?["digests"] == 4, "digests that were asked for are kept");
    let mut lines = list(&data, "demo/demo")?;
    let renamed = lines.remove(&b"renamed"[..]).context("renamed")?;
    ensure!(renamed["sha256"] == sha256(&here.join("zeros"))?.as_str(), "{renamed}");
    let by_dav = lines.remove(&b"by-dav"[..]).context("by-dav")?;
    ensure!(by_dav["sha256"] == sha256(&here.join("chunks"))?.as_str(), "{by_dav}");
    let link = lines.remove(&b"link"[..]).context("link")?;
    ensure!(link["target"] == "empty", "{link}");
    same_listing("the second reader", &listing(&here)?, &as_listing(&lines)?)?;
    let content = reader(&data, &["cat", "demo/demo", "Dossier%20m%C3%A9dical/%C3%A9t%C3%A9.txt"])?;
    ensure!(content == "accentué".as_bytes(), "cat says the bytes");

    // A killed server's log is read as the next start will read it.
    let mut gateway = Gateway::start_on(&data, &work.path().join("server.log"))?;
    gateway.sftp_batch(&format!("put -p {} late\n", here.join("chunks").display()))?;
    gateway.kill()?;
    let late = list(&data, "demo/demo")?.remove(&b"late"[..]).context("late")?;
    ensure!(late["sha256"] == sha256(&here.join("chunks"))?.as_str(), "{late}");
    Ok(())
}

#[test]
fn the_second_reader_finds_a_changed_byte() -> Result<()> {
    for (name, positions) in [("clean", &[8, 4096 + 200, 300_000, -10][..]), ("killed", &[8192 + 16, 60_000])]
    {
        let fixture = Fixture::unpack("v1", name)?;
        let pack = fixture.data.join("store/packs/0000000000000002.pack");
        let file = File::options().read(true).write(true).open(&pack)?;
        let len = i64::try_from(fs::metadata(&pack)?.len())?;
        for position in positions {
            // Negative ones count from the end.
            let at = u64::try_from(if *position < 0 { len + position } else { *position })?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ 1], at)?;
            ensure!(verify(&fixture.data).is_err(), "{name}: byte {at} was changed");
            file.write_all_at(&byte, at)?;
        }
        verify(&fixture.data)?;
    }
    Ok(())
}

#[test]
fn the_second_reader_reads_the_first_release_before_and_after_this_one_served_it() -> Result<()> {
    for name in ["clean", "killed"] {
        let fixture = Fixture::unpack("v1", name)?;
        let before = verify(&fixture.data)?;
        ensure!(before["incidents"] == u64::from(name == "clean"), "{before}");
        for tree in &fixture.trees {
            same_as(tree, &fixture.data, &fixture.unpromised)?;
        }
        let here = fixture.work().join("here");
        write_file(&here, &noise(1, 300_000), 1_800_000_000)?;
        let mut gateway = Gateway::start_on(&fixture.data, &fixture.log())?;
        gateway.sftp_batch(&format!("put -p {} new\n", here.display()))?;
        gateway.stop()?;
        verify(&fixture.data)?;
        let more = [fixture.unpromised.as_slice(), &[b"new".to_vec()]].concat();
        for tree in &fixture.trees {
            same_as(tree, &fixture.data, &more)?;
        }
        let new = list(&fixture.data, "demo/demo")?.remove(&b"new"[..]).context("new")?;
        ensure!(new["sha256"] == sha256(&here)?.as_str(), "{new}");
    }
    Ok(())
}

/// Now, in nanoseconds since 1970, by the clock that the gateway has too.
fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[test]
fn the_second_reader_shows_a_moment_of_the_past() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, here) = (work.path().join("data"), work.path().join("here"));
    small_tree(&here)?;
    let mut gateway = Gateway::start_on(&data, &work.path().join("server.log"))?;
    gateway.sftp_batch(&format!("put -pr {}/. .\n", here.display()))?;
    let before = now();
    gateway.sftp_batch(&format!(
        "put {} one\nrename chunks moved\nrm again/*\nrmdir again\nput {} new\n",
        here.join("zeros").display(),
        here.join("one").display(),
    ))?;
    gateway.stop()?;
    verify(&data)?;
    let mut found = BTreeMap::new();
    for line in String::from_utf8(reader(&data, &["list", "--at", &before.to_string()])?)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        found.insert(decoded(line["path"].as_str().context("path")?)?, line);
    }
    same_listing("the second reader, before", &listing(&here)?, &as_listing(&found)?)?;
    ensure!(list(&data, "demo/demo")?.contains_key(&b"moved"[..]), "and the present is another");
    Ok(())
}

#[test]
fn the_second_reader_reads_a_store_whose_first_packs_were_reclaimed() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, here, log) =
        (work.path().join("data"), work.path().join("here"), work.path().join("server.log"));
    small_tree(&here)?;
    Gateway::configure(&data, |config| format!("{config}\n[storage]\nretention_grace = \"1s\"\n"))?;
    // Each start begins another pack: two are mostly dead, one is not.
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.admin(&["vault", "retention", "demo/demo", "1s"])?;
    gateway.sftp_batch(&format!(
        "put {} dead\nput {} kept\n",
        here.join("chunks").display(),
        here.join("one").display()
    ))?;
    gateway.stop()?;
    gateway = Gateway::start_on(&data, &log)?;
    gateway.sftp_batch(&format!("rm dead\nput -pr {}/. .\n", here.display()))?;
    gateway.stop()?;
    gateway = Gateway::start_on(&data, &log)?;
    let first = data.join("store/packs/0000000000000001.pack");
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.exists() {
        ensure!(Instant::now() < deadline, "the first pack is not reclaimed");
        gateway.coffre_json(&["gc", "--grace", "1s"])?;
    }
    gateway.stop()?;
    verify(&data)?;
    let mut lines = list(&data, "demo/demo")?;
    ensure!(lines.remove(&b"kept"[..]).context("kept")?["size"] == 1);
    same_listing("the second reader", &listing(&here)?, &as_listing(&lines)?)
}
