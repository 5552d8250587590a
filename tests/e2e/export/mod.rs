//! A vault's data given back: as a tree and as an archive, looked at with what a customer has.

mod fixture;
mod interruption;
mod verification;

use std::ffi::OsStr;
use std::fs;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_tests::files::{hex, noise, same_listing, write_file};
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{Gateway, Names, RawSftp, listing, run_ok, sample_tree};
use serde_json::Value;

use fixture::*;

#[test]
fn a_tree_comes_back_with_its_bytes_names_times_links_and_holes() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.fill()?;
    let out = fixture.path("out");
    let report = fixture.export(&out, &[])?;
    let files = out.join("files");
    // Looked at before anything reads it.
    ensure!(files.join("sparse").metadata()?.atime_nsec() == 123_456_790);
    same("the tree", &fixture.expected, &seen(&files)?)?;
    ensure!(check_sums(&out)? == files_in(&fixture.expected));
    ensure!(report["files"] == files_in(&fixture.expected) && report["not_exported"] == 0, "{report}");
    ensure!(report["symbolic_links"] == 5, "{report}");
    let inode =
        |name: &[u8]| -> Result<u64> { Ok(files.join(OsStr::from_bytes(name)).symlink_metadata()?.ino()) };
    for name in [&b"hard 2"[..], b"deep/hard 3", b"hard \xff"] {
        ensure!(inode(name)? == inode(b"hard 1")?, "a hard link is one");
    }
    for name in ["sparse", "only a hole"] {
        let metadata = files.join(name).metadata()?;
        ensure!(metadata.blocks() * 512 < 1 << 20, "{name} has its holes: {} blocks", metadata.blocks());
    }
    ensure!(out.metadata()?.mode() & 0o7777 == 0o700, "nobody else reads it");
    let manifest = fs::read(out.join("manifest.jsonl"))?;
    let lines: Vec<Value> =
        manifest.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    ensure!(lines.len() == fixture.expected.len());
    let line = |path: &str| lines.iter().find(|line| line["path"] == path).context("a line");
    ensure!(line("files/set-user-id")?["mode"] == "6755" && line("files/empty")?["uid"] == 3_000_000_000_u64);
    let propertied = lines.iter().find(|line| line.get("properties").is_some()).context("properties")?;
    ensure!(propertied["properties"][0]["value"]["base64"] == "PHY+/zwvdj4=", "{propertied}");
    let (good, verified) = verify(&out, &["--verifier", report["verifier"].as_str().context("a verifier")?])?;
    ensure!(good && verified["state"] == "verified", "{verified}");
    // A finished export is not written over.
    let again = fixture.export_ended(&out, &[])?;
    ensure!(again.status.code() == Some(1) && again.stderr.contains("finished export"), "{}", again.stderr);
    Ok(())
}

const LIST_ARCHIVE: &str = r#"
import hashlib, sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    for member in archive:
        name = member.name.encode("utf-8", "surrogateescape").hex()
        sum = hashlib.sha256(archive.extractfile(member).read()).hexdigest() if member.isreg() else ""
        link = member.linkname.encode("utf-8", "surrogateescape").hex()
        print(name, member.type.decode(), sum or "-", member.pax_headers["mtime"], "%o" % member.mode, member.uid, link or "-")
"#;

#[test]
fn an_archive_is_read_by_gnu_tar_and_python_as_the_same_tree() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.fill()?;
    let out = fixture.path("out");
    fixture.export(&out, &["--format", "tar"])?;
    let unpacked = fixture.path("unpacked");
    fs::create_dir(&unpacked)?;
    let tar = out.join("export.tar");
    let mut extract = Command::new("tar");
    extract
        .args(["--extract", "--same-permissions", "--no-same-owner", "--file"])
        .arg(&tar)
        .arg("--directory");
    run_ok(extract.arg(&unpacked).env("LC_ALL", "C"))?;
    same("by GNU tar", &fixture.expected, &seen(&unpacked.join("files"))?)?;
    fs::copy(out.join("SHA256SUMS"), unpacked.join("SHA256SUMS"))?;
    ensure!(check_sums(&unpacked)? == files_in(&fixture.expected));
    let ino = |name: &str| -> Result<u64> { Ok(unpacked.join("files").join(name).metadata()?.ino()) };
    ensure!(ino("hard 1")? == ino("deep/hard 3")?);

    let listed = run_ok(Command::new("/usr/bin/python3").args(["-c", LIST_ARCHIVE]).arg(&tar))?.text();
    ensure!(listed.lines().count() == fixture.expected.len());
    for line in listed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let path = fixture.expected.keys().find(|path| {
            let full = if path.is_empty() { b"files".to_vec() } else { [b"files/", &path[..]].concat() };
            hex(&full) == words[0]
        });
        let expected = &fixture.expected[path.with_context(|| line.to_owned())?];
        let (whole, part) = words[3].rsplit_once('.').context("a fraction")?;
        let sign = if whole.starts_with('-') { -1 } else { 1 };
        let mtime =
            sign * (whole.trim_start_matches('-').parse::<i128>()? * 1_000_000_000 + part.parse::<i128>()?);
        ensure!(
            mtime == expected.2 && u32::from_str_radix(words[4], 8)? == expected.3,
            "{line}: {expected:?}"
        );
        match words[1] {
            "0" => ensure!(expected.1 == words[2], "{line}"),
            "1" => ensure!(expected.0 == 'f', "{line}"),
            "2" => ensure!(expected.1 == words[6], "{line}"),
            _ => ensure!(words[1] == "5" && expected.0 == 'd', "{line}"),
        }
        ensure!(expected.0 != 'f' || words[5] == "3000000000", "{line}");
    }
    let (good, verified) = verify(&out, &[])?;
    ensure!(good, "{verified}");
    Ok(())
}

#[test]
fn an_earlier_moment_and_a_snapshot_are_exported_as_they_were() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut earlier = Vec::new();
    fixture.with(|store, vault| {
        let kept = vault.make_directory(
            InodeId::ROOT,
            b"kept",
            &change(USUAL, 0o755),
            draft(Action::DirectoryCreate),
        )?;
        for (name, content) in [("changed", "before"), ("removed", "gone"), ("moved", "from")] {
            put(vault, name, content.as_bytes())?;
        }
        vault.add_snapshot("monday", None, draft(Action::VaultAdd))?.wait()?;
        earlier.push(store.clock_now().0);
        put(vault, "changed", b"after, and longer")?;
        drop(vault.remove(InodeId::ROOT, b"removed", draft(Action::Remove))?);
        put(vault, "new", b"new")?;
        vault
            .rename(
                (InodeId::ROOT, b"moved"),
                (kept.value, b"moved"),
                coffre_storage::tree::Replace::Posix,
                draft(Action::Rename),
            )?
            .wait()?;
        Ok(())
    })?;
    let moment = moment_text(earlier[0]);
    let names = |out: &Path| -> Result<Vec<String>> {
        let mut found: Vec<String> = listing(&out.join("files"))?
            .keys()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        found.sort();
        Ok(found)
    };
    for (at, out) in [(moment.as_str(), fixture.path("time")), ("monday", fixture.path("snapshot"))] {
        fixture.export(&out, &["--at", at])?;
        ensure!(names(&out)? == ["changed", "kept", "moved", "removed"], "{:?}", names(&out)?);
        ensure!(fs::read(out.join("files/changed"))? == b"before");
        ensure!(verify(&out, &[])?.0);
    }
    let now = fixture.path("now");
    fixture.export(&now, &[])?;
    ensure!(names(&now)? == ["changed", "kept", "kept/moved", "new"], "{:?}", names(&now)?);
    ensure!(fs::read(now.join("files/changed"))? == b"after, and longer");
    for (at, says) in [("tuesday", "no snapshot"), ("2001-01-01", "no moment"), ("2999-01-01", "no moment")] {
        let refused = fixture.export_ended(&fixture.path("none"), &["--at", at])?;
        ensure!(
            refused.status.code() == Some(1) && refused.stderr.contains(says),
            "{at}: {}",
            refused.stderr
        );
    }
    // The moment of an export is kept no longer than the export.
    fixture.with(|_, vault| {
        let left: Vec<String> = vault.snapshots()?.into_iter().map(|snapshot| snapshot.name).collect();
        ensure!(left == ["monday"], "{left:?}");
        Ok(())
    })
}

/// RFC 3339 with nanoseconds, by GNU date's own words.
fn moment_text(nanos: i64) -> String {
    let (secs, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let shown = run_ok(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S", "-d"]).arg(format!("@{secs}")));
    format!("{}.{rest:09}Z", shown.map(|finished| finished.text().trim().to_owned()).unwrap_or_default())
}

#[test]
fn a_way_down_longer_than_any_path_is_given_back_and_verified() -> Result<()> {
    let fixture = Fixture::new()?;
    let levels = 60;
    fixture.with(|_, vault| {
        let mut above = InodeId::ROOT;
        for _ in 0..levels {
            let made = vault.make_directory(
                above,
                &[b'd'; 200],
                &change(USUAL, 0o755),
                draft(Action::DirectoryCreate),
            )?;
            above = made.value;
        }
        let first =
            vault.create_file(above, b"bottom", &change(USUAL, 0o600), draft(Action::FileCreate))?.value;
        vault.hard_link(first, above, b"bottom too", draft(Action::LinkCreate))?.wait()?;
        Ok(())
    })?;
    for format in ["tree", "tar"] {
        let out = fixture.path(format);
        let report = fixture.export(&out, &["--format", format])?;
        ensure!(report["directories"] == levels + 1 && report["files"] == 2, "{report}");
        let (good, verified) = verify(&out, &[])?;
        ensure!(good, "{verified}");
    }
    Ok(())
}

#[test]
fn an_export_through_the_server_is_one_moment_while_clients_write_and_is_recorded() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let mut sftp = RawSftp::start(&gateway)?;
    let sent = |sftp: &mut RawSftp, kind: u8, rest: &[&[u8]]| -> Result<()> {
        let answer = sftp.ask(kind, rest)?;
        ensure!(answer.status() == Some(0) || answer.kind == kind::HANDLE, "{answer:?}");
        Ok(())
    };
    for number in 0..12 {
        sent(&mut sftp, kind::MKDIR, &[&string(format!("d{number}").as_bytes()), &0_u32.to_be_bytes()])?;
    }
    let handle = sftp.open(b"d0/token", 0x1a)?;
    sent(&mut sftp, kind::WRITE, &[&string(&handle), &0_u64.to_be_bytes(), &string(b"one")])?;
    sent(&mut sftp, kind::CLOSE, &[&string(&handle)])?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let mover = std::thread::spawn(move || -> Result<u32> {
        let mut moves = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let (from, to) = (format!("d{}/token", moves % 12), format!("d{}/token", (moves + 1) % 12));
            let answer = sftp.ask(kind::RENAME, &[&string(from.as_bytes()), &string(to.as_bytes())])?;
            ensure!(answer.status() == Some(0), "{answer:?}");
            moves += 1;
        }
        Ok(moves)
    });
    let vault = gateway.coffre_json(&["vault", "list"])?["vault"].as_str().context("a vault")?.to_owned();
    for round in 0..10 {
        let out = work.path().join(format!("out {round}")).display().to_string();
        let report = gateway.coffre_json(&["export", &vault, &out])?;
        ensure!(report["files"] == 1 && report["directories"] == 13, "the token is there once: {report}");
        ensure!(verify(Path::new(&out), &[])?.0);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let count = mover.join().map_err(|_| anyhow::anyhow!("the mover"))??;
    ensure!(count > 20, "{count} moves");
    let tail = gateway.admin(&["--json", "audit", "tail", "-n", "100000"])?.text();
    let records: Vec<Value> =
        tail.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let count = |action: &str| {
        records.iter().filter(|record| record["action"] == action && record["actor"] == "operator").count()
    };
    ensure!((count("export-begin"), count("file-read"), count("export-end")) == (10, 10, 10));
    let read = records.iter().find(|record| record["action"] == "file-read").context("a record")?;
    ensure!(read["details"]["path"].as_str().is_some_and(|path| path.ends_with("/token")), "{read}");
    let begun = records.iter().find(|record| record["action"] == "export-begin").context("a record")?;
    ensure!(begun["details"]["target"].as_str().is_some_and(|path| path.ends_with("out 0")), "{begun}");
    ensure!(begun["session"] == read["session"] && !begun["session"].is_null());
    Ok(())
}

#[test]
fn what_was_exported_is_what_rclone_sees_and_fills_another_gateway_with_the_same() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, out) = (work.path().join("here"), work.path().join("out"));
    sample_tree(&here, Names::Utf8)?;
    write_file(&here.join("large"), &noise(8, 70 << 20), 1_600_000_000)?;
    run_ok(gateway.rclone_sftp().arg("copy").arg(&here).arg("coffre:"))?;
    let vault = gateway.coffre_json(&["vault", "list"])?["vault"].as_str().context("a vault")?.to_owned();
    gateway.coffre_json(&["export", &vault, &out.display().to_string()])?;
    let files = out.join("files");
    same_listing("the export", &listing(&here)?, &listing(&files)?)?;
    for mut rclone in [gateway.rclone_sftp(), gateway.rclone_webdav()?] {
        run_ok(rclone.arg("check").arg(&files).arg("coffre:").arg("--download"))?;
    }
    let other = Gateway::start()?;
    run_ok(other.rclone_sftp().arg("copy").arg(&files).arg("coffre:"))?;
    run_ok(other.rclone_sftp().arg("check").arg(&files).arg("coffre:").arg("--download"))?;
    let back = work.path().join("back");
    run_ok(other.rclone_sftp().args(["copy", "coffre:"]).arg(&back))?;
    same_listing("by way of another gateway", &listing(&here)?, &listing(&back)?)
}
