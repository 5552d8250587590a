//! From a file operation's error to an SFTP status: one total map.

use coffre_storage::StoreError;

use crate::vfs::VfsError;

/// Status codes (draft section 7).
pub mod code {
    /// SSH_FX_OK
    pub const OK: u32 = 0;
    /// SSH_FX_EOF
    pub const EOF: u32 = 1;
    /// SSH_FX_NO_SUCH_FILE
    pub const NO_SUCH_FILE: u32 = 2;
    /// SSH_FX_PERMISSION_DENIED
    pub const PERMISSION_DENIED: u32 = 3;
    /// SSH_FX_FAILURE
    pub const FAILURE: u32 = 4;
    /// SSH_FX_BAD_MESSAGE
    pub const BAD_MESSAGE: u32 = 5;
    /// SSH_FX_OP_UNSUPPORTED
    pub const OP_UNSUPPORTED: u32 = 8;
}

/// Code and reason of an error. What is not a directory on the way is a missing file, as OpenSSH has it.
pub fn of(error: &VfsError) -> (u32, String) {
    let code = match error {
        VfsError::Store(error) => match error {
            StoreError::NotFound | StoreError::NotADirectory => code::NO_SUCH_FILE,
            _ => code::FAILURE,
        },
        VfsError::Refused(_) | VfsError::MountPoint | VfsError::SessionEnded => code::PERMISSION_DENIED,
        VfsError::Path(_)
        | VfsError::CrossDevice
        | VfsError::LinkLoop
        | VfsError::WrongMode
        | VfsError::Interrupted => code::FAILURE,
    };
    (code, error.to_string())
}
