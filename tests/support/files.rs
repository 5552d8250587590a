//! Trees of files with everything that real trees have, and listings that compare them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::process::run_ok;

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

/// Makes a tree: empty, small, medium files, deep directories, and names with spaces, accents, emoji. With
/// `every_byte`, also names that no UTF-8 client can carry: newline and Latin-1 bytes.
///
/// # Errors
/// The system's.
pub fn sample_tree(root: &Path, every_byte: bool) -> Result<()> {
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
        write_file(&root.join(format!("many/file-{number:03}")), &noise(number + 10, 4096), 1_650_000_000 + number)?;
    }
    if every_byte {
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

/// SHA-256 of a file, by the system's own program.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let finished = run_ok(Command::new("sha256sum").arg("--zero").arg("--").arg(path))?;
    Ok(finished.text().split(' ').next().unwrap_or_default().to_owned())
}
