//! Why a file operation did not happen: what protocols map to their codes, in words a human understands.

use coffre_auth::principal::Refusal;
use coffre_storage::StoreError;
use coffre_storage::audit::Outcome;

use super::path::PathError;

/// Why.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VfsError {
    /// Storage's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Policy's answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Policy's answer where even the name is not for this access: from outside as if nothing were there.
    #[error("no such file or directory")]
    Hidden,
    /// The bytes are no path.
    #[error(transparent)]
    Path(#[from] PathError),
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
    /// What came in has another digest than its sender says. In the words that clients of ownCloud look for.
    #[error("The computed checksum does not match the one received from the client.")]
    ChecksumMismatch,
    /// Parts of an upload that say where they belong leave a gap.
    #[error("a part of the upload is missing")]
    PartMissing,
    /// The session was revoked, has expired or is closing.
    #[error("the session has ended")]
    SessionEnded,
    /// The gateway is stopping.
    #[error("the operation was interrupted")]
    Interrupted,
}

impl VfsError {
    /// What the audit log says of an operation that ended so; nothing for answers that are part of normal work
    /// (a missing file, a taken name).
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Refused(_)
            | Self::Hidden
            | Self::MountPoint
            | Self::Store(
                StoreError::QuotaExceeded { .. }
                | StoreError::ReadOnly
                | StoreError::Held
                | StoreError::Locked { .. }
                | StoreError::LockOfAnother
                | StoreError::TooManyLocks
                | StoreError::VaultLocked(_),
            ) => Some(Outcome::Refused),
            Self::Store(
                StoreError::DiskFull
                | StoreError::Damaged { .. }
                | StoreError::SetAside { .. }
                | StoreError::DamagedRecord
                | StoreError::VaultUnavailable(_)
                | StoreError::Io(_)
                | StoreError::Index(_)
                | StoreError::Randomness,
            )
            | Self::ChecksumMismatch
            | Self::PartMissing => Some(Outcome::Failed),
            // A poisoned store cannot record anything.
            Self::Store(_)
            | Self::Path(_)
            | Self::CrossDevice
            | Self::LinkLoop
            | Self::WrongMode
            | Self::SessionEnded
            | Self::Interrupted => None,
        }
    }
}
