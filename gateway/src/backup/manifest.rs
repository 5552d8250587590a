//! The manifest: a signed note that names every file of a backup.
//!
//! ```text
//! coffre/backup
//! format 1
//! version 0.1.0
//! time 1770000000000000000
//! commit 5678
//! batch 91011
//! records 1234
//! root <root of the audit tree over these records, base64>
//! file <bytes> <BLAKE3, hexadecimal> <name>      one line for each, sorted by name
//! ```

use std::fmt::Write;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffre_storage::id::{BatchNumber, CommitNumber};
use coffre_storage::keys::{GatewayKey, GatewayLabel};
use coffre_storage::note::{self, NoteError};

use super::MANIFEST;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::units::hex;

const ORIGIN: &str = "coffre/backup";
const FORMAT: u32 = 1;

/// A file of a backup: the first `bytes` of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Path from the backup's directory.
    pub name: String,
    /// How many of its bytes belong to the backup; an interrupted later one may have added more.
    pub bytes: u64,
    /// Their BLAKE3.
    pub hash: [u8; 32],
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Version of the program that took it.
    pub version: String,
    /// When, nanoseconds.
    pub time: i64,
    /// The newest transaction in it.
    pub commit: CommitNumber,
    /// The newest batch.
    pub batch: BatchNumber,
    /// Audit records in it.
    pub records: u64,
    /// Root of the audit tree over them.
    pub root: [u8; 32],
    /// Its files, sorted by name.
    pub files: Vec<FileEntry>,
}

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is none: no backup, or the first one was interrupted.
    #[error("there is no whole backup there (no `{MANIFEST}`)")]
    Absent,
    /// It is another gateway's.
    #[error("this backup was taken under another gateway key")]
    OtherKey,
    /// It is not as it was written.
    #[error("the backup's manifest `{MANIFEST}` is damaged")]
    Damaged,
    /// A newer program wrote it.
    #[error("the backup has format {0}: use a newer coffre")]
    Newer(u32),
    /// It cannot be read.
    #[error("reading the backup's manifest")]
    Io(#[source] io::Error),
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    (text.len() == 64 && text.is_ascii()).then_some(())?;
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Whether a name stays below the directory that it is joined to.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

impl Manifest {
    fn body(&self) -> String {
        let mut body = format!(
            "{ORIGIN}\nformat {FORMAT}\nversion {}\ntime {}\ncommit {}\nbatch {}\nrecords {}\nroot {}\n",
            self.version,
            self.time,
            self.commit,
            self.batch,
            self.records,
            BASE64.encode(self.root)
        );
        for file in &self.files {
            let _written = writeln!(body, "file {} {} {}", file.bytes, hex(&file.hash), file.name);
        }
        body
    }

    fn parse(body: &str) -> Result<Self, ManifestError> {
        let mut lines = body.lines().skip(1);
        let mut next = |word: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(word)?.strip_prefix(' '));
            line.map(str::to_owned).ok_or(ManifestError::Damaged)
        };
        let number = |text: String| text.parse::<u64>().map_err(|_| ManifestError::Damaged);
        match next("format")?.parse() {
            Ok(FORMAT) => {}
            Ok(newer) => return Err(ManifestError::Newer(newer)),
            Err(_) => return Err(ManifestError::Damaged),
        }
        let version = next("version")?;
        let time = next("time")?.parse().map_err(|_| ManifestError::Damaged)?;
        let (commit, batch) = (CommitNumber(number(next("commit")?)?), BatchNumber(number(next("batch")?)?));
        let records = number(next("records")?)?;
        let root = BASE64.decode(next("root")?).ok().and_then(|root| root.try_into().ok());
        let file = |line: &str| {
            let mut words = line.strip_prefix("file ")?.splitn(3, ' ');
            let (bytes, hash) = (words.next()?.parse().ok()?, unhex(words.next()?)?);
            let name = words.next().filter(|name| is_inside(name))?.to_owned();
            Some(FileEntry { name, bytes, hash })
        };
        let files: Option<Vec<FileEntry>> = lines.map(file).collect();
        let (Some(root), Some(files)) = (root, files) else { return Err(ManifestError::Damaged) };
        Ok(Self { version, time, commit, batch, records, root, files })
    }

    /// The file's text.
    pub fn sign(&self, key: &GatewayKey) -> Option<String> {
        note::sign(ORIGIN, &self.body(), &key.derive(GatewayLabel::AuditSigning))
    }

    /// Reads a text that this gateway key signed.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn verify(text: &str, key: &GatewayKey) -> Result<Self, ManifestError> {
        let public = note::public_key(&key.derive(GatewayLabel::AuditSigning));
        let body = note::verify(ORIGIN, text, &public.ok_or(ManifestError::Damaged)?);
        Self::parse(body.map_err(|error| match error {
            NoteError::OtherKey => ManifestError::OtherKey,
            NoteError::Damaged => ManifestError::Damaged,
        })?)
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(backup: &Path, key: &GatewayKey) -> Result<Self, ManifestError> {
        let path = backup.join(MANIFEST);
        let bytes = match std::fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ManifestError::Absent),
            Err(error) => return Err(ManifestError::Io(error)),
        };
        if bytes > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Damaged);
        }
        let text = std::fs::read(&path).map_err(ManifestError::Io)?;
        Self::verify(std::str::from_utf8(&text).map_err(|_| ManifestError::Damaged)?, key)
    }

    /// What it says of a file.
    pub fn file(&self, name: &str) -> Option<&FileEntry> {
        let at = self.files.binary_search_by(|file| file.name.as_str().cmp(name));
        at.ok().and_then(|at| self.files.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_under_its_key_and_not_with_a_byte_changed() {
        let key = GatewayKey::generate().unwrap();
        let file = |name: &str| FileEntry { name: name.to_owned(), bytes: 5, hash: [7; 32] };
        let manifest = Manifest {
            version: "0.1.0".to_owned(),
            time: 4,
            commit: CommitNumber(1),
            batch: BatchNumber(2),
            records: 3,
            root: [9; 32],
            files: vec![file("audit/x"), file("packs/1 2.pack")],
        };
        let text = manifest.sign(&key).unwrap();
        assert_eq!(Manifest::verify(&text, &key).unwrap(), manifest);
        assert_eq!(manifest.file("packs/1 2.pack"), manifest.files.last());
        assert!(manifest.file("packs/1").is_none());
        let other = GatewayKey::generate().unwrap();
        assert!(matches!(Manifest::verify(&text, &other), Err(ManifestError::OtherKey)));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(Manifest::verify(&changed, &key).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_name_that_leads_out_of_the_backup_is_refused() {
        for name in ["../x", "/x", "a//b", "a/../b", ""] {
            assert!(!is_inside(name), "{name}");
        }
        assert!(is_inside("packs/0000000000000001.pack"));
    }
}
