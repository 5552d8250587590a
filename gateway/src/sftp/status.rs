//! What a request that did not go well is answered: one total table, each row with its reason.
//!
//! The codes are those of draft-ietf-secsh-filexfer-02 section 7. Clients know two failures by their code, "there is no such
//! file" and "you may not"; for the rest they show the text. OpenSSH's `errno_to_portable` is followed where it does not
//! mislead a client.

use bytes::Bytes;
use russh_sftp::protocol::StatusCode;

use crate::vfs::path::PathError;
use crate::vfs::{StoreError, VfsError};

/// The number of a code on the wire.
pub fn number(code: StatusCode) -> u32 {
    code as u32
}

/// What a request is answered.
pub type Answer = Result<Bytes, Failure>;

/// Why a request has no good answer.
#[derive(Debug)]
pub enum Failure {
    /// What the protocol itself says of it.
    Status(StatusCode, &'static str),
    /// What the files say of it.
    Vfs(VfsError),
}

impl From<VfsError> for Failure {
    fn from(error: VfsError) -> Self {
        Self::Vfs(error)
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Self::Vfs(error.into())
    }
}

impl Failure {
    /// Version 3 has no code for a bad handle. `NO_SUCH_FILE` would make a client believe that the file is gone.
    pub const UNKNOWN_HANDLE: Self = Self::Status(StatusCode::Failure, "no such handle");
    /// OpenSSH's EMFILE.
    pub const TOO_MANY_HANDLES: Self = Self::Status(StatusCode::Failure, "too many open handles");
    /// A read at the end is no failure to any client: the code ends its loop.
    pub const END_OF_FILE: Self = Self::Status(StatusCode::Eof, "end of file");
    /// The code ends a listing.
    pub const END_OF_DIRECTORY: Self = Self::Status(StatusCode::Eof, "end of directory");
    /// The frame is whole and its fields are not: the channel goes on.
    pub const MALFORMED: Self = Self::Status(StatusCode::BadMessage, "the request is malformed");
    /// Clients try an extension and go on without it after this code only.
    pub const UNKNOWN_REQUEST: Self =
        Self::Status(StatusCode::OpUnsupported, "the request is not known here");
    /// OpenSSH's answer for `~somebody`.
    pub const NO_OTHER_HOMES: Self = Self::Status(StatusCode::NoSuchFile, "there are no other homes");
    /// An offset that no file reaches.
    pub const TOO_FAR: Self = Self::Status(StatusCode::Failure, "the offset is too large");
    /// Clients go on with another digest, or without.
    pub const UNKNOWN_DIGEST: Self =
        Self::Status(StatusCode::OpUnsupported, "none of these digests is known here");
    /// The draft's smallest block.
    pub const SMALL_BLOCK: Self = Self::Status(StatusCode::Failure, "a block has at least 256 bytes");
    /// What is asked for has no room in one frame.
    pub const MANY_BLOCKS: Self =
        Self::Status(StatusCode::Failure, "more blocks than fit in a reply: ask for larger ones, or fewer");
    /// OpenSSH refuses this too: it would read what it writes.
    pub const SAME_HANDLE: Self =
        Self::Status(StatusCode::Failure, "a file cannot be copied through one handle");

    /// Code and text.
    pub fn told(&self) -> (StatusCode, String) {
        match self {
            Self::Status(code, reason) => (*code, (*reason).to_owned()),
            Self::Vfs(error) => (of(error), error.to_string()),
        }
    }
}

/// The code of a file operation's error.
#[expect(clippy::match_same_arms, reason = "a table, each row of which has its own reason")]
fn of(error: &VfsError) -> StatusCode {
    match error {
        VfsError::Store(error) => of_store(error),
        // Policy said no: EACCES, and sshfs, WinSCP and rclone say so to their users.
        VfsError::Refused(_) => StatusCode::PermissionDenied,
        // As if nothing were there.
        VfsError::Hidden => StatusCode::NoSuchFile,
        // Nobody may: trying again or with other flags does not help.
        VfsError::MountPoint => StatusCode::PermissionDenied,
        // The credential is no longer good.
        VfsError::SessionEnded => StatusCode::PermissionDenied,
        // ELOOP, as OpenSSH: the name leads to nothing.
        VfsError::LinkLoop => StatusCode::NoSuchFile,
        // The frame was good: BAD_MESSAGE, which OpenSSH sends for ENAMETOOLONG and EINVAL, makes sshfs say that the
        // connection is corrupt.
        VfsError::Path(_) => StatusCode::Failure,
        // EXDEV: clients copy and delete instead.
        VfsError::CrossDevice => StatusCode::Failure,
        // EBADF of a read or write: the handle is there.
        VfsError::WrongMode => StatusCode::Failure,
        // Nobody sends one over SFTP.
        VfsError::ChecksumMismatch | VfsError::PartMissing => StatusCode::Failure,
        // The gateway stops: the text says so.
        VfsError::Interrupted => StatusCode::Failure,
    }
}

#[expect(clippy::match_same_arms, reason = "a table, each row of which has its own reason")]
fn of_store(error: &StoreError) -> StatusCode {
    match error {
        // The one code that every client depends on: whatever else is sent for a missing file aborts WinSCP, restic and
        // rclone.
        StoreError::NotFound => StatusCode::NoSuchFile,
        // ENOTDIR on the way, as OpenSSH.
        StoreError::NotADirectory => StatusCode::NoSuchFile,
        // A moment of the past, or a hold: EROFS and EPERM.
        StoreError::ReadOnly
        | StoreError::Held
        | StoreError::Locked { .. }
        | StoreError::LockConflict { .. }
        | StoreError::LockUnknown
        | StoreError::LockOfAnother
        | StoreError::TooManyLocks => StatusCode::PermissionDenied,
        // EEXIST: version 3 has no FILE_ALREADY_EXISTS, and OpenSSH sends this.
        StoreError::Exists => StatusCode::Failure,
        // EISDIR, ENOTEMPTY, EINVAL: as OpenSSH; clients look at the attributes before they decide.
        StoreError::IsADirectory
        | StoreError::NotEmpty
        | StoreError::WrongKind
        | StoreError::InvalidName
        | StoreError::InvalidMove => StatusCode::Failure,
        // EFBIG, EDQUOT, ENOSPC: version 3 has no code for space; the text says which limit.
        StoreError::TooLarge(_) | StoreError::QuotaExceeded { .. } | StoreError::DiskFull => {
            StatusCode::Failure
        }
        // Somebody else was faster.
        StoreError::Changed => StatusCode::Failure,
        // EIO: never NO_SUCH_FILE, a synchronising client would delete its copy.
        StoreError::Damaged { .. }
        | StoreError::SetAside { .. }
        | StoreError::DamagedRecord
        | StoreError::Poisoned
        | StoreError::Io(_)
        | StoreError::Index(_)
        | StoreError::Randomness => StatusCode::Failure,
        // EACCES: a locked vault is not an empty one, and none of its names is missing.
        StoreError::VaultLocked(_) => StatusCode::PermissionDenied,
        StoreError::VaultUnavailable(_) => StatusCode::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_only_a_missing_file_is_told_as_missing() {
        let missing = [VfsError::Store(StoreError::NotFound), VfsError::Store(StoreError::NotADirectory)];
        assert!(missing.iter().all(|error| of(error) == StatusCode::NoSuchFile));
        for there in [
            VfsError::Store(StoreError::DamagedRecord),
            VfsError::Store(StoreError::Poisoned),
            VfsError::Store(StoreError::Exists),
            VfsError::MountPoint,
            VfsError::Interrupted,
        ] {
            assert_ne!(of(&there), StatusCode::NoSuchFile, "{there}");
        }
        assert_ne!(Failure::UNKNOWN_HANDLE.told().0, StatusCode::NoSuchFile);
    }
}
