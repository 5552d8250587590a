//! A vault's data given back: as a tree and as an archive, verified by what a customer has, interrupted and continued.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::id::InodeId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, Vault};
use coffre_tests::files::{hex, noise, same_listing, sha256, sha256_of, write_file};
use coffre_tests::gateway::binary;
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{Finished, Gateway, Names, RawSftp, listing, run, run_ok, sample_tree, until};
use serde_json::Value;

/// What a path is: kind, content or target, mtime in nanoseconds, mode.
type Expected = BTreeMap<Vec<u8>, (char, String, i128, u32)>;

/// 2001-09-09T01:46:40.123456789Z.
const USUAL: i64 = 1_000_000_000_123_456_789;

/// A data directory that no server serves, with one vault `c/v`.
struct Fixture {
    work: tempfile::TempDir,
    expected: Expected,
}

fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

fn change(mtime: i64, mode: u32) -> AttributeChange {
    AttributeChange {
        mode: Some(mode),
        uid: Some(3_000_000_000),
        gid: Some(7),
        atime: Some(UnixNanos(mtime + 1)),
        mtime: Some(UnixNanos(mtime)),
    }
}

impl Fixture {
    fn new() -> Result<Self> {
        let fixture = Self { work: tempfile::tempdir()?, expected: Expected::new() };
        fixture.coffre(&["init"])?;
        fixture.coffre(&["customer", "add", "c"])?;
        fixture.coffre(&["vault", "add", "c/v"])?;
        Ok(fixture)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--data").arg(self.path("data")).arg("--json").args(arguments);
        Ok(command)
    }

    fn coffre(&self, arguments: &[&str]) -> Result<Finished> {
        run_ok(&mut self.command(arguments)?)
    }

    /// Works on the store itself.
    fn with(&self, work: impl FnOnce(&Store, &Vault) -> Result<()>) -> Result<()> {
        let config = coffre::config::Config::load(&self.path("data").join("coffre.toml"))?;
        let store = coffre::wiring::open_store(&config)?;
        let vault = store.vaults()?.into_iter().find(|vault| vault.name == "v").context("the vault")?;
        let done = work(&store, &store.vault(vault.id)?);
        store.shutdown()?;
        done
    }

    fn directory(&mut self, vault: &Vault, above: InodeId, path: &[u8], mode: u32) -> Result<InodeId> {
        let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
        let made = vault.make_directory(above, name, &change(USUAL, mode), draft(Action::DirectoryCreate))?;
        self.expected.insert(path.to_vec(), ('d', String::new(), USUAL.into(), mode));
        Ok(made.value)
    }

    /// A file of pieces, each at its offset, and of `size`.
    fn file(
        &mut self,
        vault: &Vault,
        above: InodeId,
        path: &[u8],
        pieces: &[(u64, &[u8])],
        (size, mtime, mode): (u64, i64, u32),
    ) -> Result<InodeId> {
        let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
        let inode = vault.create_file(above, name, &change(mtime, mode), draft(Action::FileCreate))?.value;
        let open = vault.open(inode)?;
        let mut content = vec![0; usize::try_from(size)?];
        for (at, piece) in pieces {
            open.write_at(*at, piece)?;
            let at = usize::try_from(*at)?;
            content[at..at + piece.len()].copy_from_slice(piece);
        }
        open.truncate(size)?;
        drop(open.commit(Completion::Whole, draft(Action::FileWrite))?);
        drop(vault.set_attributes(inode, &change(mtime, mode), draft(Action::AttributesSet))?);
        self.expected.insert(path.to_vec(), ('f', sha256_of(&content), mtime.into(), mode & 0o1777));
        Ok(inode)
    }

    fn link(&mut self, vault: &Vault, above: InodeId, path: &[u8], target: &[u8]) -> Result<()> {
        let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
        let made = vault.make_link(above, name, target, draft(Action::LinkCreate))?.value;
        drop(vault.set_attributes(made, &change(-1, 0o777), draft(Action::AttributesSet))?);
        self.expected.insert(path.to_vec(), ('l', hex(target), -1, 0o777));
        Ok(())
    }

    /// Everything that makes a tree hard to give back.
    fn fill(&mut self) -> Result<()> {
        let data = self.path("data");
        let config = coffre::config::Config::load(&data.join("coffre.toml"))?;
        let store = coffre::wiring::open_store(&config)?;
        let id = store.vaults()?.into_iter().find(|vault| vault.name == "v").context("the vault")?.id;
        let done = self.fill_vault(&store.vault(id)?);
        store.shutdown()?;
        done
    }

    fn fill_vault(&mut self, vault: &Vault) -> Result<()> {
        let root = InodeId::ROOT;
        let deep = self.directory(vault, root, b"deep", 0o755)?;
        let closed = self.directory(vault, deep, b"deep/closed", 0o500)?;
        let empty = (0, USUAL, 0o644);
        self.file(vault, root, b"empty", &[], empty)?;
        self.file(vault, closed, b"deep/closed/inside", &[(0, b"in")], (2, USUAL, 0o400))?;
        let large = noise(1, 70 << 20);
        self.file(vault, deep, b"deep/large", &[(0, &large)], (large.len() as u64, USUAL + 1, 0o640))?;
        let island = noise(2, 100_000);
        let holes: &[(u64, &[u8])] = &[(30 << 20, &island), ((67 << 20) + 5, &island)];
        self.file(vault, root, b"sparse", holes, (80 << 20, USUAL, 0o644))?;
        self.file(vault, root, b"only a hole", &[], (5 << 20, USUAL, 0o644))?;
        self.file(vault, root, b"set-user-id", &[(0, b"#!")], (2, USUAL, 0o6755))?;
        for (number, name) in [
            &b"latin-1 \xe9t\xe9"[..],
            b"new\nline",
            b"back\\slash",
            b"\\n",
            b"return\rinside",
            b"return at the end\r",
            b"-rf",
            b" spaces ",
            "e\u{301} NFD".as_bytes(),
            "\u{e9} NFC".as_bytes(),
            b"...",
            b"SHA256SUMS",
            b"manifest.sig",
            b"export.state",
            b"files",
            &[b'n'; 255],
            &[0xe9; 255],
        ]
        .into_iter()
        .enumerate()
        {
            let content = noise(number as u64 + 9, 777 * number + 1);
            let size = content.len() as u64;
            self.file(vault, root, name, &[(0, &content)], (size, USUAL, 0o644))?;
        }
        for (name, mtime) in [
            ("before 1970", -1_500_000_001),
            ("1902", -2_145_000_000_999_999_999),
            ("2200", 7_258_118_400_000_000_001),
        ] {
            self.file(vault, root, name.as_bytes(), &[(0, b"old")], (3, mtime, 0o644))?;
        }
        let first = self.file(vault, root, b"hard 1", &[(0, b"linked")], (6, USUAL, 0o644))?;
        for (above, path) in [(root, &b"hard 2"[..]), (deep, b"deep/hard 3"), (root, b"hard \xff")] {
            let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
            drop(vault.hard_link(first, above, name, draft(Action::LinkCreate))?);
            self.expected.insert(path.to_vec(), self.expected[&b"hard 1"[..]].clone());
        }
        for (name, target) in [
            (&b"to passwd"[..], &b"/etc/passwd"[..]),
            (b"to above", b"../../x"),
            (b"to directory", b"deep"),
            (b"dangling \xe9", b"nothing \xe9\n"),
            (b"long link", &[b'x'; 3000]),
        ] {
            self.link(vault, root, name, target)?;
        }
        let mut above = deep;
        let mut path = b"deep".to_vec();
        for level in 0..30 {
            path.extend_from_slice(
                format!("/level {level} of a path longer than any buffer {}", "-".repeat(80)).as_bytes(),
            );
            above = self.directory(vault, above, &path, 0o755)?;
        }
        path.extend_from_slice(b"/bottom");
        self.file(vault, above, &path, &[(0, b"deep")], (4, USUAL, 0o644))?;
        let property = (b"urn:x name".to_vec(), Some(b"<v>\xff</v>".to_vec()));
        drop(vault.set_properties(first, &[property], draft(Action::PropertiesSet))?);
        for (path, (kind, _, mtime, mode)) in self.expected.iter().rev().filter(|(_, line)| line.0 == 'd') {
            let _directory = kind;
            let inode = lookup(vault, path)?;
            let restored = change(i64::try_from(*mtime)?, *mode);
            drop(vault.set_attributes(inode, &restored, draft(Action::AttributesSet))?);
        }
        vault.set_attributes(root, &change(USUAL - 5, 0o755), draft(Action::AttributesSet))?.wait()?;
        self.expected.insert(Vec::new(), ('d', String::new(), (USUAL - 5).into(), 0o755));
        Ok(())
    }

    fn export(&self, destination: &Path, more: &[&str]) -> Result<Value> {
        let finished = self.export_ended(destination, more)?;
        ensure!(finished.status.success(), "{}{}", finished.text(), finished.stderr);
        Ok(serde_json::from_slice(&finished.stdout)?)
    }

    fn export_ended(&self, destination: &Path, more: &[&str]) -> Result<Finished> {
        run(self.command(&["export", "c/v"])?.arg(destination).args(more), b"")
    }
}

fn lookup(vault: &Vault, path: &[u8]) -> Result<InodeId> {
    path.split(|byte| *byte == b'/')
        .try_fold(InodeId::ROOT, |above, name| Ok(vault.lookup(above, name)?.inode))
}

fn verify(destination: &Path, more: &[&str]) -> Result<(bool, Value)> {
    let mut command = Command::new(binary()?);
    let finished = run(command.args(["--json", "export", "--verify"]).arg(destination).args(more), b"")?;
    ensure!(!finished.stdout.is_empty(), "{}", finished.stderr);
    Ok((finished.status.success(), serde_json::from_slice(&finished.stdout)?))
}

/// What lies below a directory, as `Expected` tells it.
fn seen(root: &Path) -> Result<Expected> {
    let mut found = Expected::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        let (kind, what) = if metadata.is_dir() {
            ('d', String::new())
        } else if metadata.is_symlink() {
            ('l', hex(fs::read_link(entry.path())?.as_os_str().as_bytes()))
        } else {
            ('f', sha256(entry.path())?)
        };
        let mtime = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let name = entry.path().strip_prefix(root)?.as_os_str().as_bytes().to_vec();
        found.insert(name, (kind, what, mtime, metadata.mode() & 0o7777));
    }
    Ok(found)
}

fn same(what: &str, expected: &Expected, found: &Expected) -> Result<()> {
    for (path, line) in expected {
        let shown = String::from_utf8_lossy(path);
        ensure!(found.get(path) == Some(line), "{what}: {shown:?} is {:?}, not {line:?}", found.get(path));
    }
    let extra = found.keys().find(|path| !expected.contains_key(*path));
    ensure!(extra.is_none(), "{what}: {extra:?} is extra");
    Ok(())
}

/// Sums as the customer checks them; how many were good.
fn check_sums(destination: &Path) -> Result<usize> {
    let finished = run_ok(
        Command::new("sha256sum")
            .args(["--strict", "-c", "SHA256SUMS"])
            .current_dir(destination)
            .env("LC_ALL", "C"),
    )?;
    let good = finished.stdout.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b": OK")).count();
    ensure!(finished.stderr.is_empty(), "{}", finished.stderr);
    Ok(good)
}

fn files_in(expected: &Expected) -> usize {
    expected.values().filter(|line| line.0 == 'f').count()
}

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
    let moment = format!("{}", jiff_text(earlier[0]));
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
fn jiff_text(nanos: i64) -> String {
    let (secs, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let shown = run_ok(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S", "-d"]).arg(format!("@{secs}")));
    format!("{}.{rest:09}Z", shown.map(|finished| finished.text().trim().to_owned()).unwrap_or_default())
}

fn put(vault: &Vault, name: &str, content: &[u8]) -> Result<()> {
    let mut upload = vault.begin_upload()?;
    upload.write(content)?;
    let place = (InodeId::ROOT, name.as_bytes());
    upload
        .commit(
            place,
            coffre_storage::upload::Precondition::None,
            &change(USUAL, 0o644),
            draft(Action::FileWrite),
        )?
        .wait()?;
    Ok(())
}

/// Enough for several steps of an export.
fn many(fixture: &Fixture) -> Result<()> {
    fixture.with(|_, vault| {
        let mut last = None;
        for directory in 0..8_u64 {
            let name = format!("directory {directory}");
            let made = vault.make_directory(
                InodeId::ROOT,
                name.as_bytes(),
                &change(USUAL, 0o555),
                draft(Action::DirectoryCreate),
            )?;
            for number in 0..600_u64 {
                let mut upload = vault.begin_upload()?;
                upload.write(&noise(directory * 1000 + number + 1, 500))?;
                let name = format!("file {number}");
                last = Some(upload.commit(
                    (made.value, name.as_bytes()),
                    coffre_storage::upload::Precondition::None,
                    &change(USUAL + i64::try_from(number)?, 0o444),
                    draft(Action::FileWrite),
                )?);
            }
            let first = vault.lookup(made.value, b"file 1")?.inode;
            drop(vault.hard_link(
                first,
                InodeId::ROOT,
                format!("link {directory}").as_bytes(),
                draft(Action::LinkCreate),
            )?);
        }
        last.context("a file")?.wait()?;
        put(vault, "large", &noise(77, 90 << 20))
    })
}

fn lines(destination: &Path) -> usize {
    fs::read(destination.join("manifest.jsonl")).map_or(0, |bytes| bytes.lines().count())
}

#[test]
fn a_killed_export_goes_on_where_it_stopped_and_ends_as_one_that_was_not() -> Result<()> {
    let fixture = Fixture::new()?;
    many(&fixture)?;
    for format in ["tree", "tar"] {
        let (whole, killed) =
            (fixture.path(&format!("{format} whole")), fixture.path(&format!("{format} killed")));
        fixture.export(&whole, &["--format", format])?;
        let mut kills = 0;
        // Each run is killed after the next step that it made durable.
        while kills < 3 {
            let before = lines(&killed);
            let mut command = fixture.command(&["export", "c/v"])?;
            command.arg(&killed).args(["--format", format]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn()?;
            until(
                "a step of the export",
                120,
                || Ok(lines(&killed) > before || child.try_wait()?.is_some()),
            )?;
            child.kill()?;
            let ended = child.wait()?;
            ensure!(
                !ended.success(),
                "{format}: the export ended before it could be killed {} times",
                kills + 1
            );
            kills += 1;
        }
        ensure!(lines(&killed) > 1024 && lines(&killed) < lines(&whole), "{} lines", lines(&killed));
        let unfinished = run(Command::new(binary()?).args(["export", "--verify"]).arg(&killed), b"")?;
        ensure!(
            !unfinished.status.success() && unfinished.stderr.contains("interrupted"),
            "{}",
            unfinished.stderr
        );
        for other in [
            &["--format", if format == "tar" { "tree" } else { "tar" }][..],
            &["--format", format, "--at", "2999-01-01"],
        ] {
            let refused = fixture.export_ended(&killed, other)?;
            ensure!(refused.stderr.contains("holds an interrupted export of c/v"), "{}", refused.stderr);
        }
        let first = fs::read(killed.join("manifest.jsonl"))?;
        let finished = first.lines().nth(900).context("a line")??;
        let finished: Value = serde_json::from_str(&finished)?;
        let finished = killed.join(finished["path"].as_str().context("a path")?);
        let before = finished
            .symlink_metadata()
            .map(|metadata| (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()));
        // A torn line at the end is no line.
        fs::OpenOptions::new()
            .append(true)
            .open(killed.join("manifest.jsonl"))?
            .write_all_at(b"{\"path\":\"fi", first.len() as u64)?;
        let report = fixture.export(&killed, &["--format", format])?;
        ensure!(report["not_exported"] == 0, "{report}");
        if format == "tree" {
            let after = finished.symlink_metadata()?;
            ensure!(
                before? == (after.ino(), after.ctime(), after.ctime_nsec()),
                "what was finished was written again"
            );
            same("continued", &seen(&whole.join("files"))?, &seen(&killed.join("files"))?)?;
        } else {
            ensure!(sha256(&killed.join("export.tar"))? == sha256(&whole.join("export.tar"))?);
        }
        for name in ["manifest.jsonl", "SHA256SUMS"] {
            ensure!(fs::read(killed.join(name))? == fs::read(whole.join(name))?, "{format}: {name}");
        }
        ensure!(!killed.join("export.state").exists());
        let (good, verified) = verify(&killed, &[])?;
        ensure!(good, "{verified}");
    }
    Ok(())
}

/// Runs in a mount namespace of its own: a disk of `$1`, an export, more room, the same export, the sums.
const SMALL_DISK: &str = r#"
set -u
mkdir -p "$3" && mount -t tmpfs -o size="$1" tmpfs "$3" || exit 90
"$4" --data "$5" export c/v "$3/out" --format "$6" && exit 91
echo "first run: $?"
mount -o remount,size="$2" "$3" || exit 92
"$4" --data "$5" export c/v "$3/out" --format "$6" || exit 93
"$4" export --verify "$3/out" || exit 94
cd "$3/out" && { [ "$6" = tree ] || tar --no-same-owner -xf export.tar 2>&1; } && sha256sum --quiet -c SHA256SUMS && echo all good
"#;

#[test]
fn a_full_disk_is_told_and_the_export_goes_on_when_it_has_grown() -> Result<()> {
    let fixture = Fixture::new()?;
    many(&fixture)?;
    let program = fixture.path("small-disk");
    fs::write(&program, SMALL_DISK)?;
    for format in ["tree", "tar"] {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh"]).arg(&program).args(["60m", "400m"]);
        command.arg(fixture.path("small")).arg(binary()?).arg(fixture.path("data")).arg(format);
        let finished = run(&mut command, b"")?;
        let said = format!("{}{}", finished.text(), finished.stderr);
        ensure!(
            finished.status.success() && said.contains("all good"),
            "{format}: {}\n{said}",
            finished.status
        );
        ensure!(said.contains("first run: 1") && said.contains("no room left"), "{format}: {said}");
    }
    Ok(())
}

#[test]
fn damaged_content_is_left_out_and_named_and_everything_else_is_given_back() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.with(|_, vault| {
        put(vault, "small before", b"small")?;
        put(vault, "victim", &noise(5, 20 << 20))?;
        let victim = vault.lookup(InodeId::ROOT, b"victim")?.inode;
        drop(vault.hard_link(victim, InodeId::ROOT, b"victim too", draft(Action::LinkCreate))?);
        put(vault, "small after", b"small too")
    })?;
    let packs = fixture.path("data/store/packs");
    let pack = fs::read_dir(&packs)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.blocks()))
        .context("a pack")?;
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 10 << 20)?;
    file.write_all_at(&[byte[0] ^ 1], 10 << 20)?;
    for format in ["tree", "tar"] {
        let out = fixture.path(format);
        let finished = fixture.export_ended(&out, &["--format", format])?;
        ensure!(finished.status.code() == Some(1), "{}{}", finished.text(), finished.stderr);
        let report: Value = serde_json::from_slice(&finished.stdout)?;
        ensure!(
            report["state"] == "incomplete" && report["not_exported"] == 2 && report["files"] == 2,
            "{report}"
        );
        let reason = report["not_exported_paths"][0]["reason"].as_str().context("a reason")?;
        ensure!(reason.contains("damaged"), "{report}");
        let (good, verified) = verify(&out, &[])?;
        ensure!(good && verified["not_exported"] == 2, "{verified}");
        if format == "tar" {
            run_ok(Command::new("tar").arg("-xf").arg(out.join("export.tar")).current_dir(&out))?;
        }
        ensure!(check_sums(&out)? == 2);
        ensure!(
            fs::read(out.join("files/small after"))? == b"small too" && !out.join("files/victim").exists()
        );
    }
    Ok(())
}

/// What verification says of a path.
fn differences(destination: &Path) -> Result<Vec<String>> {
    let (good, verified) = verify(destination, &[])?;
    let found: Vec<String> = verified["different"]
        .as_array()
        .map(|all| {
            all.iter().map(|one| format!("{}: {}", one["path"], one["what"]).replace('"', "")).collect()
        })
        .unwrap_or_default();
    ensure!(good == found.is_empty() && verified["differences"] == found.len(), "{verified}");
    Ok(found)
}

/// Changes something, looks, and changes it back.
fn with_change(
    destination: &Path,
    (changed, undone): (&dyn Fn() -> Result<()>, &dyn Fn() -> Result<()>),
    expected: &[&str],
) -> Result<()> {
    ensure!(differences(destination)?.is_empty(), "before: {:?}", differences(destination)?);
    changed()?;
    let found = differences(destination)?;
    undone()?;
    let all = expected.iter().all(|wanted| found.iter().any(|found| found.contains(wanted)));
    ensure!(all && found.len() == expected.len(), "{found:?}, not {expected:?}");
    Ok(())
}

/// Flips a byte without changing times; the same again flips it back.
fn flip(path: &Path, at: u64) -> Result<()> {
    let metadata = path.metadata()?;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x20], at)?;
    let times = fs::FileTimes::new().set_accessed(metadata.accessed()?).set_modified(metadata.modified()?);
    Ok(file.set_times(times)?)
}

#[test]
fn verification_finds_a_flipped_byte_a_missing_and_an_extra_file_and_a_changed_manifest() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.fill()?;
    let out = fixture.path("out");
    let report = fixture.export(&out, &[])?;
    let files = out.join("files");
    let (large, aside) = (files.join("deep/large"), fixture.path("aside"));
    let flipped = || flip(&large, 33 << 20);
    with_change(&out, (&flipped, &flipped), &["files/deep/large: its content"])?;
    let above = files.join("deep");
    let touched = |work: &dyn Fn() -> Result<()>| {
        let times = above.metadata()?.modified()?;
        work()?;
        Ok(fs::File::open(&above)?.set_modified(times)?)
    };
    let missing = || touched(&|| Ok(fs::rename(&large, &aside)?));
    let back = || touched(&|| Ok(fs::rename(&aside, &large)?));
    with_change(&out, (&missing, &back), &["files/deep/large: it is missing"])?;
    let extra = above.join("extra");
    let added = || touched(&|| Ok(fs::write(&extra, b"x")?));
    let removed = || touched(&|| Ok(fs::remove_file(&extra)?));
    with_change(&out, (&added, &removed), &["files/deep/extra: it is extra"])?;
    let replaced = || {
        touched(&|| {
            fs::rename(&large, &aside)?;
            Ok(std::os::unix::fs::symlink(&aside, &large)?)
        })
    };
    let restored = || {
        touched(&|| {
            fs::remove_file(&large)?;
            Ok(fs::rename(&aside, &large)?)
        })
    };
    with_change(&out, (&replaced, &restored), &["files/deep/large: it is of another kind"])?;
    let manifest = out.join("manifest.jsonl");
    let text = fs::read_to_string(&manifest)?;
    let changed = || Ok(fs::write(&manifest, text.replace("\"mode\":\"6755\"", "\"mode\":\"6744\""))?);
    let unchanged = || Ok(fs::write(&manifest, &text)?);
    with_change(
        &out,
        (&changed, &unchanged),
        &["manifest.jsonl: it is not the one", "files/set-user-id: its mode"],
    )?;
    let sums = out.join("SHA256SUMS");
    let summed = || flip(&sums, 3);
    with_change(&out, (&summed, &summed), &["SHA256SUMS: it is not the one"])?;
    let signature = out.join("manifest.sig");
    let signed = fs::read_to_string(&signature)?;
    let resigned = || Ok(fs::write(&signature, signed.replace("commit ", "commit 1"))?);
    let original = || Ok(fs::write(&signature, &signed)?);
    with_change(&out, (&resigned, &original), &["manifest.sig: it is not as it was signed"])?;
    let stray = out.join("stray");
    let strayed = || Ok(fs::write(&stray, b"x")?);
    let tidied = || Ok(fs::remove_file(&stray)?);
    with_change(&out, (&strayed, &tidied), &["stray: it is extra"])?;
    // Another gateway's key is another verifier.
    let other = Fixture::new()?;
    let other = other.export(&other.path("out"), &[])?;
    let (good, verified) = verify(&out, &["--verifier", other["verifier"].as_str().context("a verifier")?])?;
    ensure!(!good && verified["differences"] == 1, "{verified}");
    ensure!(verify(&out, &["--verifier", report["verifier"].as_str().context("a verifier")?])?.0);

    let out = fixture.path("tar");
    fixture.export(&out, &["--format", "tar"])?;
    let tar = out.join("export.tar");
    let len = tar.metadata()?.len();
    for at in (0..len).step_by(usize::try_from(len / 40)?).chain([0, 257, 600, len - 1, len - 1025]) {
        flip(&tar, at)?;
        ensure!(differences(&out)?.len() == 1, "byte {at} of {len}: {:?}", differences(&out)?);
        flip(&tar, at)?;
    }
    fs::OpenOptions::new().append(true).open(&tar)?.set_len(len + 512)?;
    ensure!(differences(&out)? == ["export.tar: it does not end where it should"]);
    fs::OpenOptions::new().append(true).open(&tar)?.set_len(len / 2)?;
    ensure!(differences(&out)?.len() > 1);
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
    let moves = mover.join().map_err(|_| anyhow::anyhow!("the mover"))??;
    ensure!(moves > 20, "{moves} moves");
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

#[test]
fn a_destination_that_is_in_use_or_not_empty_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let out = fixture.path("out");
    fs::create_dir(&out)?;
    fs::write(out.join("something"), b"x")?;
    let refused = fixture.export_ended(&out, &[])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("not empty"), "{}", refused.stderr);
    ensure!(fs::read_dir(&out)?.count() == 1, "nothing was written");
    let refused = fixture.export_ended(&fixture.path("absent/too"), &[])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("absent"), "{}", refused.stderr);
    let empty = fixture.path("empty");
    fs::create_dir(&empty)?;
    let held = fs::File::open(&empty)?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)?;
    let refused = fixture.export_ended(&empty, &[])?;
    ensure!(refused.stderr.contains("under way"), "{}", refused.stderr);
    drop(held);
    fixture.export(&empty, &[])?;
    let unknown = run(fixture.command(&["export", "c/none"])?.arg(fixture.path("x")), b"")?;
    ensure!(unknown.status.code() == Some(1) && unknown.stderr.contains("no vault"), "{}", unknown.stderr);
    Ok(())
}
