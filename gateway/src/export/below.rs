//! A way down into a directory: each step is opened from the one before it and follows no symbolic link, so that nothing
//! in the tree leads out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmod, openat, statat};
use rustix::io::{Errno, Result};

/// Where a walk through a tree of directories is.
#[derive(Debug)]
pub(super) struct Below {
    top: OwnedFd,
    here: OwnedFd,
    names: Vec<Vec<u8>>,
}

/// Whether a name is one step down and nothing else.
pub(super) fn is_one_step(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Opens a directory that is really there under that name.
pub(super) fn open_directory(above: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    if !is_one_step(name) {
        return Err(Errno::INVAL);
    }
    openat(
        above,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens a directory of ours whose final mode may already keep us out, and lets us in.
pub(super) fn open_own_directory(above: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    match open_directory(above, name) {
        Err(Errno::ACCESS) => {
            let path = openat(
                above,
                name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&path);
            chmod(format!("/proc/self/fd/{number}"), Mode::RWXU)?;
            open_directory(above, name)
        }
        opened => {
            let opened = opened?;
            rustix::fs::fchmod(&opened, Mode::RWXU)?;
            Ok(opened)
        }
    }
}

/// Whether a directory holds a name with exactly these bytes: a file system that folds case answers for others too.
pub(super) fn holds_exactly(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        if entry?.file_name().to_bytes() == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names in a directory.
pub(super) fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// What is there under a name, a link as a link; nothing when nothing is.
pub(super) fn kind_of(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Below {
    pub(super) fn new(top: OwnedFd) -> Result<Self> {
        let here = rustix::io::fcntl_dupfd_cloexec(&top, 0)?;
        Ok(Self { top, here, names: Vec::new() })
    }

    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Goes down into a directory that was opened here.
    pub(super) fn enter(&mut self, name: &[u8], opened: OwnedFd) {
        self.names.push(name.to_vec());
        self.here = opened;
    }

    /// Goes up again.
    pub(super) fn leave(&mut self) -> Result<()> {
        self.names.pop();
        self.here = self.open(self.names.iter().map(Vec::as_slice))?;
        Ok(())
    }

    /// Opens a directory by the way from the top.
    pub(super) fn open<'n>(&self, names: impl Iterator<Item = &'n [u8]>) -> Result<OwnedFd> {
        let mut opened = rustix::io::fcntl_dupfd_cloexec(&self.top, 0)?;
        for name in names {
            opened = open_directory(opened.as_fd(), name)?;
        }
        Ok(opened)
    }
}
