//! An export as a tree of files below `files`.
//!
//! While it is written, directories are open to their owner alone; their modes and times are set when all that is in them
//! is there. Owners are not set: they stand in the manifest.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat, openat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::below::{Below, holds_exactly, is_one_step, kind_of, open_own_directory};
use super::manifest::applied_mode;
use super::sink::{Sink, Trouble};
use super::walk::Found;

/// Whether an interrupted export may have left what it had no line for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    None,
    Possible,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    below: Below,
    file: Option<File>,
    at: u64,
    leftovers: Leftovers,
}

fn timespec(nanos: i64) -> Timespec {
    Timespec { tv_sec: nanos.div_euclid(1_000_000_000), tv_nsec: nanos.rem_euclid(1_000_000_000) }
}

fn times(found: &Found) -> Timestamps {
    Timestamps {
        last_access: timespec(found.attributes.atime.0),
        last_modification: timespec(found.attributes.mtime.0),
    }
}

fn mode(found: &Found) -> Mode {
    Mode::from_raw_mode(applied_mode(found.attributes.mode))
}

/// What a file system answers when it cannot take this one thing, and could take others.
fn refusal(error: Errno) -> Trouble {
    let reason = match error {
        Errno::NAMETOOLONG => "the name or target is too long for the target's file system",
        Errno::ILSEQ | Errno::INVAL => "the target's file system does not take this name",
        Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS => "the target's file system has no such kind of file",
        Errno::EXIST => "the target's file system takes another name of this directory for the same",
        Errno::FBIG => "the target's file system takes no file this large",
        Errno::MLINK => "the target's file system takes no more links to this file",
        Errno::NOENT => "the target's file system takes no link without a target",
        error => return Trouble::Io(error.into()),
    };
    Trouble::Refused(format!("{reason} ({error})"))
}

impl Tree {
    /// A tree in a directory.
    pub(super) fn new(destination: OwnedFd, leftovers: Leftovers) -> std::io::Result<Self> {
        Ok(Self { below: Below::new(destination)?, file: None, at: 0, leftovers })
    }

    /// Makes something under a name that is free. What an interrupted export left there is taken away first.
    fn make<T>(&self, name: &[u8], made: impl Fn() -> rustix::io::Result<T>) -> Result<T, Trouble> {
        if !is_one_step(name) {
            return Err(Trouble::Refused("its name is none".to_owned()));
        }
        match made() {
            Err(Errno::EXIST) if self.is_leftover(name)? => {
                let flags = match kind_of(self.below.here(), name).map_err(refusal)? {
                    Some(FileType::Directory) => AtFlags::REMOVEDIR,
                    _ => AtFlags::empty(),
                };
                unlinkat(self.below.here(), name, flags).map_err(refusal)?;
                made().map_err(refusal)
            }
            answered => answered.map_err(refusal),
        }
    }

    fn is_leftover(&self, name: &[u8]) -> Result<bool, Trouble> {
        Ok(self.leftovers == Leftovers::Possible
            && holds_exactly(self.below.here(), name).map_err(refusal)?)
    }
}

impl Sink for Tree {
    fn enter(&mut self, found: &Found) -> Result<(), Trouble> {
        let name = found.name();
        if !is_one_step(name) {
            return Err(Trouble::Refused("its name is none".to_owned()));
        }
        match mkdirat(self.below.here(), name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if found.known.is_some() || self.is_leftover(name)? => {}
            Err(error) => return Err(refusal(error)),
        }
        let opened =
            open_own_directory(self.below.here(), name).map_err(|error| Trouble::Io(error.into()))?;
        self.below.enter(name, opened);
        Ok(())
    }

    fn leave(&mut self, found: &Found) -> Result<(), Trouble> {
        let set = || {
            futimens(self.below.here(), &times(found))?;
            fchmod(self.below.here(), mode(found))
        };
        set().map_err(|error| Trouble::Io(error.into()))?;
        self.below.leave().map_err(|error| Trouble::Io(error.into()))
    }

    fn symbolic_link(&mut self, found: &Found, target: &[u8]) -> Result<(), Trouble> {
        let here = self.below.here();
        self.make(found.name(), || symlinkat(target, here, found.name()))?;
        utimensat(here, found.name(), &times(found), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Trouble::Io(error.into()))
    }

    fn hard_link(&mut self, found: &Found, first: &[u8]) -> Result<(), Trouble> {
        let mut way: Vec<&[u8]> = first.split(|byte| *byte == b'/').collect();
        let Some(name) = way.pop() else { return Err(Trouble::Refused("its first name is none".to_owned())) };
        let directory = self.below.open(way.into_iter()).map_err(|error| match error {
            Errno::ACCESS => Trouble::Refused("the directory of its first name lets nobody in".to_owned()),
            error => Trouble::Io(error.into()),
        })?;
        let here = self.below.here();
        // Without a flag a symbolic link is not followed.
        self.make(found.name(), || linkat(&directory, name, here, found.name(), AtFlags::empty()))
    }

    fn begin(&mut self, found: &Found) -> Result<(), Trouble> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let here = self.below.here();
        let made = self.make(found.name(), || openat(here, found.name(), flags, Mode::RUSR | Mode::WUSR))?;
        self.file = Some(made.into());
        self.at = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::FBIG) => refusal(Errno::FBIG),
            _ => Trouble::Io(error),
        })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Trouble> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.at += bytes;
        file.seek(SeekFrom::Start(self.at)).map(drop).map_err(Trouble::Io)
    }

    fn end(&mut self, found: &Found) -> Result<(), Trouble> {
        let Some(file) = &self.file else { return Ok(()) };
        file.set_len(self.at).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::FBIG | Errno::INVAL) => refusal(Errno::FBIG),
            _ => Trouble::Io(error),
        })?;
        let set = || {
            fchmod(file, mode(found))?;
            futimens(file, &times(found))
        };
        set().map_err(|error| Trouble::Io(error.into()))?;
        self.file = None;
        Ok(())
    }

    fn undo(&mut self, found: &Found) -> Result<(), Trouble> {
        if self.file.take().is_some() {
            unlinkat(self.below.here(), found.name(), AtFlags::empty())
                .map_err(|error| Trouble::Io(error.into()))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(self.below.top())?)
    }

    fn position(&self) -> Option<u64> {
        None
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};

    use coffre_storage::id::{ContentId, InodeId};
    use coffre_storage::time::UnixNanos;
    use coffre_storage::tree::{Attributes, Kind};

    use super::*;

    fn found(path: &[u8], kind: Kind) -> Found {
        let attributes = Attributes {
            inode: InodeId(2),
            kind,
            size: 0,
            mode: 0o6755,
            uid: 0,
            gid: 0,
            atime: UnixNanos(-1),
            mtime: UnixNanos(-1_500_000_001),
            ctime: UnixNanos(0),
            links: 1,
            content: ContentId(1),
            blake3: None,
            incomplete: false,
            has_properties: false,
        };
        Found { path: path.to_vec(), attributes, properties: BTreeMap::new(), target: None, known: None }
    }

    fn tree(at: &std::path::Path, leftovers: Leftovers) -> Tree {
        Tree::new(std::fs::File::open(at).unwrap().into(), leftovers).unwrap()
    }

    #[test]
    fn nothing_is_made_outside_whatever_lies_in_the_way() {
        let home = tempfile::tempdir().unwrap();
        let (inside, outside) = (home.path().join("in"), home.path().join("out"));
        for directory in [&inside, &outside] {
            std::fs::create_dir(directory).unwrap();
        }
        for name in [&b".."[..], b".", b"", b"a\0b"] {
            let mut tree = tree(&inside, Leftovers::Possible);
            assert!(matches!(tree.begin(&found(name, Kind::File)), Err(Trouble::Refused(_))), "{name:?}");
            assert!(
                matches!(tree.enter(&found(name, Kind::Directory)), Err(Trouble::Refused(_))),
                "{name:?}"
            );
        }
        // A link where a directory is to be.
        symlink(&outside, inside.join("files")).unwrap();
        for leftovers in [Leftovers::None, Leftovers::Possible] {
            assert!(tree(&inside, leftovers).enter(&found(b"files", Kind::Directory)).is_err());
        }
        // A link where a file is to be, and where a hard link's first name was.
        symlink(outside.join("target"), inside.join("file")).unwrap();
        let mut fresh = tree(&inside, Leftovers::None);
        assert!(matches!(fresh.begin(&found(b"file", Kind::File)), Err(Trouble::Refused(_))));
        let mut resumed = tree(&inside, Leftovers::Possible);
        resumed.begin(&found(b"file", Kind::File)).unwrap();
        resumed.write(b"mine").unwrap();
        resumed.end(&found(b"file", Kind::File)).unwrap();
        assert!(resumed.hard_link(&found(b"hard", Kind::File), b"files/secret").is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(std::fs::read(inside.join("file")).unwrap(), b"mine");
        let metadata = inside.join("file").symlink_metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o755, "no right to act as the exporter");
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 499_999_999));
    }

    #[test]
    fn a_directory_that_lets_nobody_in_is_entered_again() {
        let home = tempfile::tempdir().unwrap();
        let mut closed = found(b"files", Kind::Directory);
        closed.attributes.mode = 0;
        let mut first = tree(home.path(), Leftovers::None);
        first.enter(&closed).unwrap();
        first.leave(&closed).unwrap();
        let mut again = tree(home.path(), Leftovers::Possible);
        again.enter(&closed).unwrap();
        again.begin(&found(b"late", Kind::File)).unwrap();
        again.end(&found(b"late", Kind::File)).unwrap();
        again.leave(&closed).unwrap();
        assert_eq!(home.path().join("files").metadata().unwrap().mode() & 0o7777, 0);
    }
}
