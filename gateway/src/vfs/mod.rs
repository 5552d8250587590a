//! The one door to files: resolve mount -> permit -> audit -> storage. Every protocol comes through here.
//!
//! Async outside, storage's blocking calls on the runtime's bounded pool inside (in place where the answer is in memory). An
//! operation that returned `Ok` is durable together with its audit record, with one exception: what an open makes (a
//! new file, a cut one) is durable when its handle is synced or closed, as POSIX has it.

pub mod digest;
pub mod error;
mod fresh;
mod locks;
mod open_directory;
mod open_file;
mod operations;
mod parts;
pub mod path;
mod permits;
pub mod point;
mod pool;
mod read_ahead;
mod resolve;
mod snapshots;
mod space;
mod tree;
mod upload;

use std::sync::Arc;

pub use coffre_storage::StoreError;
pub use coffre_storage::audit::{Action, DetailKey, Outcome, RecordDraft};
pub use coffre_storage::id::{ContentId, InodeId, VaultId};
pub use coffre_storage::time::UnixNanos;
pub use coffre_storage::tree::lock::{Bearer, LockDepth, LockRecord, LockScope, LockToken, Rest};
pub use coffre_storage::tree::{AttributeChange, Attributes, Kind, Properties, Replace};
pub use coffre_storage::upload::Precondition;
use coffre_storage::{Pending, Store, Ticket};
pub use error::VfsError;
pub use locks::{LockRequest, LocksSeen, Reach, SeenLock};
pub use open_directory::DirectoryHandle;
pub use open_file::FileHandle;
pub use parts::{Assembly, Part};
pub use path::VaultPath;
pub use snapshots::SNAPSHOTS;
pub use upload::{Checksum, UploadHandle};

use crate::session::SharedSession;
use fresh::FreshFiles;
use pool::{blocking, brief};

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vfs {
    inner: Arc<VfsInner>,
}

#[derive(Debug)]
struct VfsInner {
    store: Store,
    /// What append-only credentials made lately and may still finish.
    fresh: FreshFiles,
    started: UnixNanos,
    hashing: digest::Turns,
}

/// One session's view of files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    vfs: Vfs,
    session: SharedSession,
    /// A path at which a protocol shows it as well; empty if it has none.
    also_at: Arc<[Vec<u8>]>,
    /// For whom locks are asked about a change; nobody where a protocol has no locks.
    bearer: Option<Arc<Bearer>>,
}

/// Whether the last component is followed when it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// stat
    Yes,
    /// lstat
    No,
}

/// What an open does with an existing or missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Creation {
    /// It must exist.
    #[default]
    Never,
    /// Created if missing.
    IfMissing,
    /// It must be missing.
    Exclusive,
}

/// How a file is opened (SFTP pflags).
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the protocol's own independent flags")]
pub struct OpenOptions {
    /// Reading.
    pub read: bool,
    /// Reading for digests only: nothing of the content is told.
    pub verify: bool,
    /// Reading what is committed now, whatever is written meanwhile. Unsaved writes of others are not seen.
    pub still: bool,
    /// Writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Cut to zero.
    pub truncate: bool,
    /// About existence.
    pub creation: Creation,
    /// For a created file.
    pub attributes: AttributeChange,
}

/// Where a change of a part of a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditOffset {
    /// So many bytes behind its start.
    Start(u64),
    /// So many bytes before its end; 0 appends.
    BeforeEnd(u64),
}

/// A change of a part of a file.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is the usual one")]
pub enum Edit {
    /// Under way.
    Begun {
        /// Takes the bytes.
        upload: UploadHandle,
        /// What the file holds meanwhile.
        content: ContentId,
    },
    /// It would begin outside of what there is.
    OutOfReach {
        /// Bytes of the file.
        size: u64,
    },
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// Name bytes.
    pub name: Vec<u8>,
    /// Attributes (of the link itself for a link; of the mounted directory for a mount point).
    pub attributes: Attributes,
}

/// Figures for statvfs and quota properties: those of the tightest of what limits the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceState {
    /// Bytes in all (a quota, or the disk).
    pub total_bytes: u64,
    /// Bytes still writable here.
    pub free_bytes: u64,
    /// Bytes that count against those in all.
    pub used_bytes: u64,
    /// Files in all and still to be made, where they are limited.
    pub files: Option<FileRoom>,
}

/// How many files there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRoom {
    /// In all.
    pub total: u64,
    /// More than there are.
    pub free: u64,
}

impl Vfs {
    /// The door to a store.
    pub fn new(store: Store) -> Self {
        let started = store.clock_now();
        Self {
            inner: Arc::new(VfsInner {
                store,
                fresh: FreshFiles::default(),
                started,
                hashing: digest::Turns::default(),
            }),
        }
    }

    /// A session's view.
    pub fn namespace(&self, session: SharedSession) -> Namespace {
        Namespace { vfs: self.clone(), session, also_at: Arc::default(), bearer: None }
    }
}

/// Durability that is on its way.
#[derive(Debug)]
struct Coming(tokio::sync::oneshot::Receiver<Result<coffre_storage::id::CommitNumber, StoreError>>);

impl Coming {
    /// Asks for it now, to wait for it later.
    fn ask(ticket: Ticket) -> Self {
        let (told, heard) = tokio::sync::oneshot::channel();
        ticket.notify(Box::new(move |outcome| drop(told.send(outcome))));
        Self(heard)
    }

    /// Waits for it without holding a thread.
    async fn here(self) -> Result<(), VfsError> {
        match self.0.await {
            Ok(outcome) => outcome.map(drop).map_err(VfsError::from),
            Err(_) => Err(VfsError::Store(StoreError::Poisoned)),
        }
    }
}

/// Waits for durability without holding a thread.
async fn durable(ticket: Ticket) -> Result<(), VfsError> {
    Coming::ask(ticket).here().await
}

async fn durable_value<T>(pending: Pending<T>) -> Result<T, VfsError> {
    durable(pending.ticket).await?;
    Ok(pending.value)
}
