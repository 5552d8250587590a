//! Trees of files with everything that real trees have, and listings that compare them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{Context, SHA256};

/// What a tree holds: relative path (bytes) -> (SHA-256 or `dir` or link target, mtime in seconds of a file).
pub type Listing = BTreeMap<Vec<u8>, (String, i64)>;

/// Bytes that look random, do not compress, and are the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file with its parents and sets its mtime.
///
/// # Errors
/// The system's.
pub fn write_file(path: &Path, content: &[u8], mtime_secs: u64) -> Result<()> {
    fs::create_dir_all(path.parent().context("parent")?)?;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(mtime_secs)))?;
    Ok(())
}

/// Which names a tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Text only.
    Utf8,
    /// Also names that no UTF-8 client can carry: newline and Latin-1 bytes.
    AnyByte,
}

/// Makes a tree: empty, small, medium files, deep directories, and names with spaces, accents, emoji.
///
/// # Errors
/// The system's.
pub fn sample_tree(root: &Path, names: Names) -> Result<()> {
    fs::create_dir_all(root)?;
    write_file(&root.join("empty"), b"", 1_000_000_000)?;
    write_file(&root.join("one byte"), b"x", 1_100_000_001)?;
    write_file(&root.join("chunk"), &noise(1, 65_536), 1_200_000_002)?;
    write_file(&root.join("medium.bin"), &noise(2, 3_000_001), 1_300_000_003)?;
    write_file(&root.join("zeros"), &vec![0; 1_500_000], 1_300_000_004)?;
    write_file(&root.join("Dossier médical/été – résumé.txt"), "contenu accentué".as_bytes(), 1_400_000_005)?;
    write_file(&root.join("e\u{301} decomposed.txt"), b"NFD", 1_400_000_006)?;
    write_file(&root.join("emoji 🩺📁/scan 🧠.dcm"), &noise(3, 70_000), 1_500_000_007)?;
    write_file(&root.join("a/b/c/d/e/f/g/deep.txt"), b"deep", 1_600_000_008)?;
    write_file(&root.join("odd '\"&<>%20;#?$ name"), b"odd", 1_600_000_009)?;
    write_file(&root.join("n".repeat(255)), b"longest", 1_600_000_010)?;
    for number in 0..64 {
        write_file(
            &root.join(format!("many/file-{number:03}")),
            &noise(number + 10, 4096),
            1_650_000_000 + number,
        )?;
    }
    if names == Names::AnyByte {
        write_file(&root.join(OsStr::from_bytes(b"new\nline")), b"newline", 1_600_000_011)?;
        write_file(&root.join(OsStr::from_bytes(b"latin-1 \xe9t\xe9")), b"latin-1", 1_600_000_012)?;
    }
    Ok(())
}

/// Lists a tree.
///
/// # Errors
/// The system's.
pub fn listing(root: &Path) -> Result<Listing> {
    let mut found = Listing::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let name = entry.path().strip_prefix(root)?.as_os_str().as_bytes().to_vec();
        let metadata = entry.path().symlink_metadata()?;
        let line = if metadata.is_dir() {
            ("dir".to_owned(), 0)
        } else if metadata.is_symlink() {
            (format!("-> {}", fs::read_link(entry.path())?.display()), 0)
        } else {
            (sha256(entry.path())?, metadata.mtime())
        };
        found.insert(name, line);
    }
    Ok(found)
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        context.update(&piece[..len]);
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
        text
    })
}

/// Searches a file for any of the needles, piece by piece: packs are large.
///
/// # Errors
/// When it cannot be read.
pub fn file_holds(path: &Path, needles: &[Vec<u8>]) -> Result<bool> {
    let finders: Vec<_> = needles.iter().map(memchr::memmem::Finder::new).collect();
    let overlap = needles.iter().map(Vec::len).max().unwrap_or(1) - 1;
    let mut file = File::open(path)?;
    let mut window = vec![0; (4 << 20) + overlap];
    let mut kept = 0;
    loop {
        let len = file.read(&mut window[kept..])?;
        if len == 0 {
            return Ok(false);
        }
        let seen = kept + len;
        if finders.iter().any(|finder| finder.find(&window[..seen]).is_some()) {
            return Ok(true);
        }
        kept = overlap.min(seen);
        window.copy_within(seen - kept..seen, 0);
    }
}

/// Fails with the first differences of two listings.
///
/// # Errors
/// When they differ.
pub fn same_listing(what: &str, sent: &Listing, got: &Listing) -> Result<()> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let differing: Vec<String> = sent
        .iter()
        .filter(|(name, line)| got.get(*name) != Some(line))
        .map(|(name, line)| format!("{}: sent {line:?}, got {:?}", shown(name), got.get(name)))
        .chain(
            got.keys()
                .filter(|name| !sent.contains_key(*name))
                .map(|name| format!("{}: not sent", shown(name))),
        )
        .collect();
    let some = &differing[..differing.len().min(10)];
    ensure!(differing.is_empty(), "{what}: {} names differ\n{}", differing.len(), some.join("\n"));
    Ok(())
}
