//! From a file operation's error to an HTTP status: one total map.

use http::StatusCode;

use crate::vfs::path::PathError;
use crate::vfs::{StoreError, VfsError};

/// Why a request is not answered as asked: status, and a reason for people.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// The reason.
    pub reason: String,
    /// What should have held, by its name in `DAV:`, where a standard names it.
    pub condition: Option<&'static str>,
    /// What it is about, where that condition names resources: as hrefs.
    pub hrefs: Vec<String>,
}

impl Refused {
    /// A status and its reason.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), condition: None, hrefs: Vec::new() }
    }
}

/// Shorthand for a refusal as a result.
///
/// # Errors
/// The refusal to answer with.
pub fn refuse<T>(status: StatusCode, reason: &str) -> Result<T, Refused> {
    Err(Refused::new(status, reason))
}

impl From<PathError> for Refused {
    fn from(error: PathError) -> Self {
        VfsError::from(error).into()
    }
}

impl From<VfsError> for Refused {
    fn from(error: VfsError) -> Self {
        let status = match &error {
            VfsError::Store(error) => of_store(error),
            VfsError::Hidden => StatusCode::NOT_FOUND,
            VfsError::Refused(_) | VfsError::MountPoint | VfsError::WrongMode => StatusCode::FORBIDDEN,
            VfsError::Path(PathError::TooLong | PathError::NameTooLong) => StatusCode::URI_TOO_LONG,
            VfsError::Path(_) | VfsError::ChecksumMismatch | VfsError::PartMissing => StatusCode::BAD_REQUEST,
            VfsError::CrossDevice => StatusCode::BAD_GATEWAY,
            VfsError::LinkLoop => StatusCode::LOOP_DETECTED,
            VfsError::SessionEnded => StatusCode::UNAUTHORIZED,
            VfsError::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        };
        // RFC 4331 section 6.
        let condition = if matches!(error, VfsError::Store(StoreError::QuotaExceeded { .. })) {
            Some("quota-not-exceeded")
        } else if matches!(error, VfsError::Store(StoreError::DiskFull)) {
            Some("sufficient-disk-space")
        } else {
            None
        };
        Self { status, reason: error.to_string(), condition, hrefs: Vec::new() }
    }
}

fn of_store(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NotFound | StoreError::NotADirectory => StatusCode::NOT_FOUND,
        StoreError::Exists | StoreError::IsADirectory => StatusCode::METHOD_NOT_ALLOWED,
        StoreError::NotEmpty | StoreError::LockUnknown => StatusCode::CONFLICT,
        StoreError::WrongKind
        | StoreError::InvalidMove
        | StoreError::ReadOnly
        | StoreError::Held
        | StoreError::LockOfAnother => StatusCode::FORBIDDEN,
        // A locked vault is neither empty nor missing: a client that synchronises deletes nothing.
        StoreError::Locked { .. } | StoreError::LockConflict { .. } | StoreError::VaultLocked(_) => {
            StatusCode::LOCKED
        }
        StoreError::InvalidName => StatusCode::BAD_REQUEST,
        StoreError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        StoreError::QuotaExceeded { .. } | StoreError::DiskFull | StoreError::TooManyLocks => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        StoreError::Changed => StatusCode::PRECONDITION_FAILED,
        StoreError::Poisoned => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Damaged { .. }
        | StoreError::SetAside { .. }
        | StoreError::DamagedRecord
        | StoreError::VaultUnavailable(_)
        | StoreError::Io(_)
        | StoreError::Index(_)
        | StoreError::Randomness => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
