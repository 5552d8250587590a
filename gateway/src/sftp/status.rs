//! From a file operation's error to an SFTP status: one total map.

use russh_sftp::protocol::StatusCode;

use crate::vfs::{StoreError, VfsError};

/// The number of a code on the wire (draft section 7).
pub fn number(code: StatusCode) -> u32 {
    code as u32
}

/// Code and reason of an error. What is not a directory on the way is a missing file, as OpenSSH has it.
pub fn of(error: &VfsError) -> (StatusCode, String) {
    let code = match error {
        VfsError::Store(error) => match error {
            StoreError::NotFound | StoreError::NotADirectory => StatusCode::NoSuchFile,
            StoreError::ReadOnly | StoreError::Held => StatusCode::PermissionDenied,
            StoreError::Exists
            | StoreError::IsADirectory
            | StoreError::NotEmpty
            | StoreError::WrongKind
            | StoreError::InvalidName
            | StoreError::InvalidMove
            | StoreError::TooLarge(_)
            | StoreError::QuotaExceeded { .. }
            | StoreError::DiskFull
            | StoreError::Changed
            | StoreError::Damaged { .. }
            | StoreError::SetAside { .. }
            | StoreError::DamagedRecord
            | StoreError::VaultUnavailable(_)
            | StoreError::Poisoned
            | StoreError::Io(_)
            | StoreError::Index(_)
            | StoreError::Randomness => StatusCode::Failure,
        },
        VfsError::Refused(_) | VfsError::MountPoint | VfsError::SessionEnded => StatusCode::PermissionDenied,
        VfsError::Path(_)
        | VfsError::CrossDevice
        | VfsError::LinkLoop
        | VfsError::WrongMode
        | VfsError::Interrupted => StatusCode::Failure,
    };
    (code, error.to_string())
}
