//! Reads an export again and says what is not as it was signed. Works anywhere, without a store.
//!
//! A tree is walked and each name looked up in the manifest; what is left over in the manifest is missing. An archive is
//! compared with the one way in which it can be written: each member's headers byte for byte, its content by its sum.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, digest};
use coffre_storage::audit::checkpoint;
use coffre_storage::note;
use coffre_storage::time::UnixNanos;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use serde::Serialize;
use tar::EntryType;

use super::archive::{BLOCK_BYTES, END_BYTES, Member};
use super::below::{Below, names_in, open_directory};
use super::destination::Destination;
use super::manifest::{Line, LineKind, Summary, Text, read_line};
use super::seal::{Tally, file_sha256, scan};
use super::{
    ARCHIVE, ExportError, FILES, Format, MANIFEST, ORIGIN, SIGNATURE, STATE, SUMS, VERIFIER, moment_text,
};
use crate::limits::EXPORT_NAMED_MAX;
use crate::units::{hex, lossless, parse_moment};

/// Bytes of the longest signed note and verifier line.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Something that is not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where.
    pub path: String,
    /// What.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// `verified` or `different`.
    pub state: &'static str,
    /// Of which vault, by the signed note.
    pub vault: Option<String>,
    /// Of which moment.
    pub moment: Option<String>,
    /// The store's commit number when it was exported.
    pub commit_number: Option<u64>,
    /// Names of files in the manifest.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symbolic_links: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many the export itself says were not exported.
    pub not_exported: u64,
    /// The key that the signature was verified with: compare it with the one that came by another way.
    pub verifier: String,
    /// How much is not as it was signed.
    pub differences: u64,
    /// The first of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub different: Vec<Difference>,
}

impl Verified {
    /// Whether all is as it was signed.
    pub fn is_good(&self) -> bool {
        self.differences == 0
    }
}

/// Differences, counted, the first of them kept.
#[derive(Default)]
struct Found {
    count: u64,
    first: Vec<Difference>,
}

impl Found {
    fn note(&mut self, path: &[u8], what: impl Into<String>) {
        self.count += 1;
        if self.first.len() < EXPORT_NAMED_MAX {
            self.first.push(Difference { path: lossless(path), what: what.into() });
        }
    }
}

/// Beginning of the SHA-256 of a path.
type PathKey = [u8; 16];

fn path_key(path: &[u8]) -> PathKey {
    let hash = digest(&SHA256, path);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Verifies an export with the key of a verifier line, or else with the one that lies beside it. Whoever could change the
/// export could change that one too.
///
/// # Errors
/// [`ExportError`]: what cannot be read at all. What differs is in the answer.
pub fn verify(directory: &Path, verifier: Option<&str>) -> Result<Verified, ExportError> {
    let destination = Destination::look(directory)?;
    let names = destination.io(destination.names())?;
    let holds = |wanted: &str| names.iter().any(|name| name == wanted.as_bytes());
    if holds(STATE) {
        return Err(ExportError::Unfinished(directory.to_owned()));
    }
    if !holds(SIGNATURE) {
        return Err(ExportError::NoExport(directory.to_owned()));
    }
    let mut found = Found::default();
    let line = match verifier {
        Some(line) => line.to_owned(),
        None => text(&destination, VERIFIER)?,
    };
    let key = note::parse_verifier(ORIGIN, &line).or_else(|| checkpoint::parse_verifier(&line));
    let key = key.ok_or_else(|| ExportError::NoVerifier(line.trim_end().to_owned()))?;
    let signed = text(&destination, SIGNATURE)?;
    if let Err(error) = note::verify(ORIGIN, &signed, &key) {
        found.note(SIGNATURE.as_bytes(), error.to_string());
    }
    // What it says is read all the same, so that everything that differs is told at once.
    let summary = signed.split_once("\n\n").and_then(|(body, _)| Summary::parse(&format!("{body}\n")));
    if summary.is_none() {
        found.note(SIGNATURE.as_bytes(), "it does not say what an export's signature says");
    }
    let format = match &summary {
        Some(summary) if summary.format == Format::Tar.name() => Format::Tar,
        None if holds(ARCHIVE) => Format::Tar,
        Some(_) | None => Format::Tree,
    };
    let own = [SIGNATURE, VERIFIER, MANIFEST, SUMS, format.target()];
    for name in names.iter().filter(|name| !own.iter().any(|own| own.as_bytes() == *name)) {
        found.note(name, "it is extra");
    }
    let mut index = HashMap::new();
    let tally = destination.io(manifest(&destination, summary.as_ref(), &mut index, &mut found))?;
    match format {
        Format::Tree => destination.io(tree(&destination, index, &mut found))?,
        Format::Tar => destination.io(archive(&destination, &mut found))?,
    }
    Ok(Verified {
        state: if found.count == 0 { "verified" } else { "different" },
        moment: summary.as_ref().map(|summary| moment_text(summary.moment)),
        commit_number: summary.as_ref().map(|summary| summary.commit),
        vault: summary.map(|summary| summary.vault),
        files: tally.counts.files,
        directories: tally.counts.directories,
        symbolic_links: tally.counts.symbolic_links,
        bytes: tally.counts.bytes,
        not_exported: tally.counts.not_exported,
        verifier: note::verifier(ORIGIN, &key).trim_end().to_owned(),
        differences: found.count,
        different: found.first,
    })
}

fn text(destination: &Destination, name: &str) -> Result<String, ExportError> {
    let mut bytes = Vec::new();
    let file = destination.io(destination.file(name, OFlags::RDONLY))?;
    destination.io(file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the manifest and the sums are those that were signed, and where each exported path has its line.
fn manifest(
    destination: &Destination,
    summary: Option<&Summary>,
    index: &mut HashMap<PathKey, u64>,
    found: &mut Found,
) -> std::io::Result<Tally> {
    let sha256_of = |name| destination.file(name, OFlags::RDONLY).and_then(file_sha256).map(|(sum, _)| sum);
    let (mut sums, mut twice) = (Context::new(&SHA256), Vec::new());
    let tally = scan(
        destination.file(MANIFEST, OFlags::RDONLY)?,
        &mut |line| {
            sums.update(line);
            Ok(())
        },
        &mut |at, line| {
            let path = line.path.bytes().unwrap_or_default();
            if line.is_exported() && index.insert(path_key(&path), at).is_some() {
                twice.push(path);
            }
        },
    )?;
    for path in twice {
        found.note(&path, "the manifest has it twice");
    }
    if let Some(number) = tally.unreadable {
        found.note(MANIFEST.as_bytes(), format!("line {number} is none"));
    }
    if let Some(summary) = summary {
        if sha256_of(MANIFEST)? != summary.manifest_sha256 {
            found.note(MANIFEST.as_bytes(), "it is not the one that was signed");
        }
        if tally.counts != summary.counts {
            found.note(MANIFEST.as_bytes(), "it does not have as many lines as were signed");
        }
    }
    match sha256_of(SUMS) {
        Ok(sum) if summary.is_some_and(|summary| sum != summary.sums_sha256) => {
            found.note(SUMS.as_bytes(), "it is not the one that was signed");
        }
        Ok(sum) if sum != hex(sums.finish().as_ref()) => {
            found.note(SUMS.as_bytes(), "it is not that of the manifest");
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.note(SUMS.as_bytes(), "it is missing");
        }
        Err(error) => return Err(error),
    }
    Ok(tally)
}

/// The manifest, line by line from anywhere.
struct Lines(BufReader<File>);

impl Lines {
    fn at(&mut self, offset: u64) -> std::io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        self.0.seek(SeekFrom::Start(offset))?;
        read_line(&mut self.0, &mut bytes)?;
        Ok(Line::parse(&bytes))
    }
}

/// The walk through an exported tree.
struct Look<'v> {
    below: Below,
    lines: Lines,
    index: HashMap<PathKey, u64>,
    /// Inode numbers of files that have several names.
    linked: HashMap<PathKey, u64>,
    /// Paths that are to be other names of a file: path, its inode number, the first name.
    other_names: Vec<(Vec<u8>, u64, PathKey)>,
    found: &'v mut Found,
}

fn tree(destination: &Destination, index: HashMap<PathKey, u64>, found: &mut Found) -> std::io::Result<()> {
    let top = destination.file(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let lines = Lines(BufReader::new(destination.file(MANIFEST, OFlags::RDONLY)?));
    let mut look = Look {
        below: Below::new(top.into())?,
        lines,
        index,
        linked: HashMap::new(),
        other_names: Vec::new(),
        found,
    };
    // Directories on the way down: path, and names that are still to come.
    let mut levels = vec![(Vec::new(), vec![FILES.as_bytes().to_vec()].into_iter())];
    while let Some((above, names)) = levels.last_mut() {
        if let Some(name) = names.next() {
            let path = if above.is_empty() { name.clone() } else { [&above[..], b"/", &name].concat() };
            if let Some(names) = look.see(&path, &name)? {
                levels.push((path, names.into_iter()));
            }
        } else {
            levels.pop();
            if !levels.is_empty() {
                look.below.leave()?;
            }
        }
    }
    for (path, inode, first) in std::mem::take(&mut look.other_names) {
        if look.linked.get(&first) != Some(&inode) {
            look.found.note(&path, "it is no hard link to its first name");
        }
    }
    let mut missing: Vec<u64> = look.index.into_values().collect();
    missing.sort_unstable();
    for offset in missing {
        if let Some(line) = look.lines.at(offset)? {
            look.found.note(&line.path.bytes().unwrap_or_default(), "it is missing");
        }
    }
    Ok(())
}

impl Look<'_> {
    /// Compares one name; goes into a directory and gives the names in it.
    fn see(&mut self, path: &[u8], name: &[u8]) -> std::io::Result<Option<Vec<Vec<u8>>>> {
        let stat = match statat(self.below.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (key, file_type) = (path_key(path), FileType::from_raw_mode(stat.st_mode));
        if stat.st_nlink > 1 && file_type == FileType::RegularFile {
            self.linked.insert(key, stat.st_ino);
        }
        let line = match self.index.remove(&key) {
            Some(offset) => self.lines.at(offset)?,
            None => None,
        };
        match &line {
            None => self.found.note(path, "it is extra"),
            Some(line) => self.compare(path, name, line, &stat)?,
        }
        if file_type != FileType::Directory {
            return Ok(None);
        }
        match open_directory(self.below.here(), name) {
            Ok(opened) => {
                let names = names_in(opened.as_fd())?;
                self.below.enter(name, opened);
                Ok(Some(names))
            }
            Err(error) => {
                self.found.note(path, format!("it cannot be opened: {error}"));
                Ok(None)
            }
        }
    }

    fn compare(
        &mut self,
        path: &[u8],
        name: &[u8],
        line: &Line,
        stat: &rustix::fs::Stat,
    ) -> std::io::Result<()> {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let same_kind = match line.kind {
            LineKind::File => file_type == FileType::RegularFile,
            LineKind::Directory | LineKind::Listing => file_type == FileType::Directory,
            LineKind::SymbolicLink => file_type == FileType::Symlink,
        };
        if !same_kind {
            self.found.note(path, "it is of another kind");
            return Ok(());
        }
        let mtime = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        if line.mtime_nanos().map(i128::from) != Some(mtime) {
            self.found.note(path, "its modification time is another");
        }
        match line.kind {
            LineKind::File => {
                self.compare_mode(path, line, stat);
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = openat(self.below.here(), name, flags, Mode::empty()).map(File::from);
                match opened.map_err(Into::into).and_then(file_sha256) {
                    Ok(sum) if line.sha256.as_deref() == Some(&sum.0) && line.size == sum.1 => {}
                    Ok(_) => self.found.note(path, "its content is another"),
                    Err(error) => self.found.note(path, format!("it cannot be read: {error}")),
                }
                if let Some(first) = line.hard_link_to.as_ref().and_then(Text::bytes) {
                    self.other_names.push((path.to_vec(), stat.st_ino, path_key(&first)));
                }
            }
            LineKind::Directory | LineKind::Listing => self.compare_mode(path, line, stat),
            LineKind::SymbolicLink => {
                let target = readlinkat(self.below.here(), name, Vec::new())?.into_bytes();
                if line.target.as_ref().and_then(Text::bytes) != Some(target) {
                    self.found.note(path, "its target is another");
                }
            }
        }
        Ok(())
    }

    fn compare_mode(&mut self, path: &[u8], line: &Line, stat: &rustix::fs::Stat) {
        if line.applied_mode() != Some(stat.st_mode & 0o7777) {
            self.found.note(path, "its mode is another");
        }
    }
}

fn archive(destination: &Destination, found: &mut Found) -> std::io::Result<()> {
    let file = match destination.file(ARCHIVE, OFlags::RDONLY) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.note(ARCHIVE.as_bytes(), "it is missing");
            return Ok(());
        }
        opened => opened?,
    };
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut at, mut manifest) = (0, BufReader::new(destination.file(MANIFEST, OFlags::RDONLY)?));
    let mut bytes = Vec::new();
    loop {
        if read_line(&mut manifest, &mut bytes)? == 0 {
            break;
        }
        let Some(line) = Line::parse(&bytes).filter(Line::is_exported) else { continue };
        let path = line.path.bytes().unwrap_or_default();
        match member(&line, &path, &mut reader)? {
            Ok(()) => {}
            Err(what) => found.note(&path, what),
        }
        // Wherever this one ended, the next begins where it was written.
        let end = line.tar_end.unwrap_or(at);
        if end != reader.stream_position()? {
            reader.seek(SeekFrom::Start(end))?;
        }
        at = end;
    }
    if !is_zeros(&mut reader, END_BYTES)? || len != at.saturating_add(END_BYTES) {
        found.note(ARCHIVE.as_bytes(), "it does not end where it should");
    }
    Ok(())
}

/// Compares a member where the reader is.
fn member(
    line: &Line,
    path: &[u8],
    reader: &mut (impl Read + Seek),
) -> std::io::Result<Result<(), &'static str>> {
    let leads_to = line.hard_link_to.as_ref().or(line.target.as_ref()).and_then(Text::bytes);
    let nanos = |text: &str| UnixNanos(parse_moment(text).unwrap_or_default());
    let member = Member {
        path,
        kind: match line.kind {
            LineKind::File if line.hard_link_to.is_some() => EntryType::Link,
            LineKind::File => EntryType::Regular,
            LineKind::Directory | LineKind::Listing => EntryType::Directory,
            LineKind::SymbolicLink => EntryType::Symlink,
        },
        link: leads_to.as_deref(),
        size: line.size,
        mode: line.applied_mode().unwrap_or(0),
        uid: line.uid,
        gid: line.gid,
        mtime: nanos(&line.mtime),
        atime: nanos(&line.atime),
    };
    let expected = member.headers()?;
    let mut there = vec![0; expected.len()];
    match reader.read_exact(&mut there) {
        Ok(()) if there == expected => {}
        Ok(()) => return Ok(Err("its header in the archive is another")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Err("it is missing")),
        Err(error) => return Err(error),
    }
    let bytes = member.content_bytes();
    if member.kind == EntryType::Regular {
        let (sum, read) = file_sha256(reader.by_ref().take(bytes))?;
        if read != bytes || line.sha256.as_ref() != Some(&sum) {
            return Ok(Err("its content is another"));
        }
    }
    let padding = bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(bytes) - bytes;
    Ok(if is_zeros(reader, padding)? { Ok(()) } else { Err("what fills its last block is not zeros") })
}

fn is_zeros(reader: &mut impl Read, bytes: u64) -> std::io::Result<bool> {
    let mut there = Vec::new();
    reader.take(bytes).read_to_end(&mut there)?;
    Ok(there.len() as u64 == bytes && there.iter().all(|byte| *byte == 0))
}
