//! Giving a vault's data back: one moment of it, as a tree of files or as one tar archive, with a signed manifest beside it
//! (storage/FORMAT.md section 10).
//!
//! ```text
//! walk (a thread: the moment, read ahead) -> writing (hash, audit, journal) -> tree | archive
//! ```
//!
//! What is written becomes durable in steps: content first, then the lines of `manifest.jsonl` that tell of it. The
//! manifest is thereby the journal too: an interrupted export walks the same moment again, in the same order, and passes
//! over what has its line. `export.state` holds the moment; it goes when the signature is there.
//!
//! Nothing is ever created outside of the destination: each directory is opened from the one above it, and no symbolic
//! link is followed.

mod archive;
mod below;
mod course;
mod destination;
mod manifest;
mod seal;
mod sink;
mod tree;
mod verify;
mod walk;
mod writing;

use std::path::PathBuf;

use coffre_storage::time::UnixNanos;
use coffre_storage::{StoreError, Vault};
use serde::{Deserialize, Serialize};

pub use course::run;
pub use verify::{Verified, verify};

/// The tree of files in a destination, and the first component of every path in a manifest.
const FILES: &str = "files";
/// The archive in a destination.
const ARCHIVE: &str = "export.tar";
/// What every file and directory was.
const MANIFEST: &str = "manifest.jsonl";
/// Sums of all files, for `sha256sum -c`.
const SUMS: &str = "SHA256SUMS";
/// The signature over both.
const SIGNATURE: &str = "manifest.sig";
/// The line that verifies it.
const VERIFIER: &str = "manifest.pub";
/// What an unfinished export is.
const STATE: &str = "export.state";
/// Origin of the signed note.
const ORIGIN: &str = "coffre/export";

/// How files are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As a tree of files.
    Tree,
    /// As one POSIX pax archive.
    Tar,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Tar => "tar",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Tree => FILES,
            Self::Tar => ARCHIVE,
        }
    }
}

/// What is to be exported, and where to.
#[derive(Debug, Clone)]
pub struct Order {
    /// The vault.
    pub vault: Vault,
    /// Its name, `CUSTOMER/VAULT`.
    pub name: String,
    /// A moment or a snapshot's name; absent: now.
    pub at: Option<String>,
    /// A directory: absent, empty, or of an interrupted export.
    pub destination: PathBuf,
    /// How files are laid out.
    pub format: Format,
    /// Bytes that will be about all: the present's.
    pub bytes_expected: u64,
}

/// A file that was not exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotExported {
    /// Its path in the manifest.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `exported`, or `incomplete` when something was not.
    pub state: &'static str,
    /// `CUSTOMER/VAULT`.
    pub vault: String,
    /// Where it lies.
    pub destination: PathBuf,
    /// How.
    pub format: &'static str,
    /// Of which moment.
    pub moment: String,
    /// The store's commit number when the export began.
    pub commit_number: u64,
    /// Names of files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symbolic_links: u64,
    /// Bytes of all names of files.
    pub bytes: u64,
    /// How many files, links and directories were not exported.
    pub not_exported: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_exported_paths: Vec<NotExported>,
    /// The line that verifies the signature: give it to the customer by another way.
    pub verifier: String,
}

impl Report {
    /// Whether all was exported.
    pub fn is_complete(&self) -> bool {
        self.not_exported == 0
    }
}

/// Why an export, or its verification, did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Neither a moment that is kept nor a snapshot.
    #[error("`{0}` is no moment that is kept of this vault, and no snapshot of it")]
    NoMoment(String),
    /// Retention went past the moment while it was exported.
    #[error(
        "the moment {moment} is no longer kept of this vault: the export cannot be finished; begin another in an empty directory"
    )]
    Pruned {
        /// Which.
        moment: String,
    },
    /// Something is there that is no interrupted export.
    #[error("{0} is not empty and holds no interrupted export: choose an empty directory")]
    NotEmpty(PathBuf),
    /// A finished export is there.
    #[error("{0} holds a finished export; `coffre export --verify` looks at it")]
    Finished(PathBuf),
    /// Another process exports there.
    #[error("another export into {0} is under way")]
    Busy(PathBuf),
    /// Another export was interrupted there.
    #[error(
        "{path} holds an interrupted export of {vault} ({format}, --at {at}): continue that one, or choose an empty directory"
    )]
    Another {
        /// Where.
        path: PathBuf,
        /// Of what.
        vault: String,
        /// How.
        format: &'static str,
        /// As its command said.
        at: String,
    },
    /// The state or the manifest of an interrupted export is not what was written.
    #[error("{0} holds an interrupted export that cannot be continued: begin another in an empty directory")]
    State(PathBuf),
    /// No room where the export goes.
    #[error("no room left in {path}: make room and run the same command again, it goes on where it stopped")]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The server stops.
    #[error("the server is stopping: run the same command again to go on")]
    Stopped,
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway's key signs nothing.
    #[error("the signing key is none")]
    Key,
    /// The verifier line is none.
    #[error("`{0}` is no verifier line: coffre/export+ID+KEY")]
    NoVerifier(String),
    /// Nothing to verify there.
    #[error("{0} holds no export: manifest.sig is missing")]
    NoExport(PathBuf),
    /// The export there has not ended.
    #[error("the export in {0} was interrupted: run its command again to finish it first")]
    Unfinished(PathBuf),
}

/// A time as a manifest writes it: RFC 3339 in UTC with nine digits of a second.
fn moment_text(time: UnixNanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0))
        .map_or_else(|_| time.0.to_string(), |time| format!("{time:.9}"))
}

/// What `NotFound` means where it was answered; other errors as they are.
fn gone_or(error: StoreError, gone: impl FnOnce() -> ExportError) -> ExportError {
    if matches!(error, StoreError::NotFound) { gone() } else { error.into() }
}
