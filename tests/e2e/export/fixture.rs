//! A data directory with one vault that holds everything hard to give back, and what a customer looks at it with.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::id::InodeId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, Vault};
use coffre_tests::files::{hex, noise, sha256, sha256_of};
use coffre_tests::gateway::binary;
use coffre_tests::{Finished, run, run_ok};
use serde_json::Value;

/// What a path is: kind, content or target, mtime in nanoseconds, mode.
pub(super) type Expected = BTreeMap<Vec<u8>, (char, String, i128, u32)>;

/// 2001-09-09T01:46:40.123456789Z.
pub(super) const USUAL: i64 = 1_000_000_000_123_456_789;

/// A data directory that no server serves, with one vault `c/v`.
pub(super) struct Fixture {
    pub(super) work: tempfile::TempDir,
    pub(super) expected: Expected,
}

impl Fixture {
    pub(super) fn new() -> Result<Self> {
        let fixture = Self { work: tempfile::tempdir()?, expected: Expected::new() };
        fixture.coffre(&["init"])?;
        fixture.coffre(&["customer", "add", "c"])?;
        fixture.coffre(&["vault", "add", "c/v"])?;
        Ok(fixture)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--data").arg(self.path("data")).arg("--json").args(arguments);
        Ok(command)
    }

    fn coffre(&self, arguments: &[&str]) -> Result<Finished> {
        run_ok(&mut self.command(arguments)?)
    }

    /// Works on the store itself.
    pub(super) fn with(&self, work: impl FnOnce(&Store, &Vault) -> Result<()>) -> Result<()> {
        let config = coffre::config::Config::load(&self.path("data").join("coffre.toml"))?;
        let store = coffre::wiring::open_store(&config)?;
        let vault = store.vaults()?.into_iter().find(|vault| vault.name == "v").context("the vault")?;
        let done = work(&store, &store.vault(vault.id)?);
        store.shutdown()?;
        done
    }

    fn directory(&mut self, vault: &Vault, above: InodeId, path: &[u8], mode: u32) -> Result<InodeId> {
        let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
        let attributes = change(USUAL, mode);
        let inode = vault.make_directory(above, name, &attributes, draft(Action::DirectoryCreate))?.value;
        self.expected.insert(path.to_vec(), ('d', String::new(), USUAL.into(), mode));
        Ok(inode)
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
    pub(super) fn fill(&mut self) -> Result<()> {
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
        self.fill_names(vault)?;
        let first = self.file(vault, root, b"hard 1", &[(0, b"linked")], (6, USUAL, 0o644))?;
        for (above, path) in [(root, &b"hard 2"[..]), (deep, b"deep/hard 3"), (root, b"hard \xff")] {
            let name = path.rsplit(|byte| *byte == b'/').next().context("a name")?;
            drop(vault.hard_link(first, above, name, draft(Action::LinkCreate))?);
            self.expected.insert(path.to_vec(), self.expected[&b"hard 1"[..]].clone());
        }
        self.fill_links(vault)?;
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
        for (path, (_, _, mtime, mode)) in self.expected.iter().rev().filter(|(_, line)| line.0 == 'd') {
            let inode = lookup(vault, path)?;
            let restored = change(i64::try_from(*mtime)?, *mode);
            drop(vault.set_attributes(inode, &restored, draft(Action::AttributesSet))?);
        }
        vault.set_attributes(root, &change(USUAL - 5, 0o755), draft(Action::AttributesSet))?.wait()?;
        self.expected.insert(Vec::new(), ('d', String::new(), (USUAL - 5).into(), 0o755));
        Ok(())
    }

    fn fill_names(&mut self, vault: &Vault) -> Result<()> {
        let root = InodeId::ROOT;
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
        Ok(())
    }

    fn fill_links(&mut self, vault: &Vault) -> Result<()> {
        let root = InodeId::ROOT;
        for (name, target) in [
            (&b"to passwd"[..], &b"/etc/passwd"[..]),
            (b"to above", b"../../x"),
            (b"to directory", b"deep"),
            (b"dangling \xe9", b"nothing \xe9\n"),
            (b"long link", &[b'x'; 3000]),
        ] {
            self.link(vault, root, name, target)?;
        }
        Ok(())
    }

    pub(super) fn export(&self, destination: &Path, more: &[&str]) -> Result<Value> {
        let finished = self.export_ended(destination, more)?;
        ensure!(finished.status.success(), "{}{}", finished.text(), finished.stderr);
        Ok(serde_json::from_slice(&finished.stdout)?)
    }

    pub(super) fn export_ended(&self, destination: &Path, more: &[&str]) -> Result<Finished> {
        run(self.command(&["export", "c/v"])?.arg(destination).args(more), b"")
    }
}

pub(super) fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

pub(super) fn change(mtime: i64, mode: u32) -> AttributeChange {
    AttributeChange {
        mode: Some(mode),
        uid: Some(3_000_000_000),
        gid: Some(7),
        atime: Some(UnixNanos(mtime + 1)),
        mtime: Some(UnixNanos(mtime)),
    }
}

pub(super) fn lookup(vault: &Vault, path: &[u8]) -> Result<InodeId> {
    path.split(|byte| *byte == b'/')
        .try_fold(InodeId::ROOT, |above, name| Ok(vault.lookup(above, name)?.inode))
}

pub(super) fn verify(destination: &Path, more: &[&str]) -> Result<(bool, Value)> {
    let mut command = Command::new(binary()?);
    let finished = run(command.args(["--json", "export", "--verify"]).arg(destination).args(more), b"")?;
    ensure!(!finished.stdout.is_empty(), "{}", finished.stderr);
    Ok((finished.status.success(), serde_json::from_slice(&finished.stdout)?))
}

/// What lies below a directory, as `Expected` tells it.
pub(super) fn seen(root: &Path) -> Result<Expected> {
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

pub(super) fn same(what: &str, expected: &Expected, found: &Expected) -> Result<()> {
    for (path, line) in expected {
        let shown = String::from_utf8_lossy(path);
        ensure!(found.get(path) == Some(line), "{what}: {shown:?} is {:?}, not {line:?}", found.get(path));
    }
    let extra = found.keys().find(|path| !expected.contains_key(*path));
    ensure!(extra.is_none(), "{what}: {extra:?} is extra");
    Ok(())
}

/// Sums as the customer checks them; how many were good.
pub(super) fn check_sums(destination: &Path) -> Result<usize> {
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

pub(super) fn files_in(expected: &Expected) -> usize {
    expected.values().filter(|line| line.0 == 'f').count()
}

pub(super) fn put(vault: &Vault, name: &str, content: &[u8]) -> Result<()> {
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
pub(super) fn many(fixture: &Fixture) -> Result<()> {
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
            for number in 0..900_u64 {
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

pub(super) fn lines(destination: &Path) -> usize {
    fs::read(destination.join("manifest.jsonl")).map_or(0, |bytes| bytes.lines().count())
}
