//! Why a file operation did not happen: what protocols map to their codes, in words a human understands.

use coffre_auth::principal::Refusal;
use coffre_storage::StoreError;

/// Why.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VfsError {
    /// Storage's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Policy's answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The operation would cross vaults.
    #[error("the two names lie in different vaults")]
    CrossDevice,
    /// Symbolic links lead in a circle, or too deep.
    #[error("too many symbolic links")]
    LinkLoop,
    /// A mount point cannot be moved, removed or replaced.
    #[error("this is a mount point")]
    MountPoint,
    /// The handle was not opened for this.
    #[error("the file was not opened for this")]
    WrongMode,
    /// The session was revoked, has expired or is closing.
    #[error("the session has ended")]
    SessionEnded,
}
