//! An export as one tar archive: POSIX pax interchange format, so that names of any bytes and length, times before 1970
//! and in nanoseconds, and sizes above 8 GiB are what they were. Holes are zeros.
//!
//! Extended header records beyond the ustar fields: `path` and `linkpath` where the fields are too short or not ASCII, with
//! `hdrcharset=BINARY` where a name is not UTF-8; `mtime` and `atime` always; `uid`, `gid`, `size` where the fields are too
//! narrow. Set-user-id and set-group-id bits stand in the manifest only.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use coffre_storage::time::UnixNanos;
use coffre_storage::tree::Kind;
use tar::{EntryType, Header};

use super::manifest::applied_mode;
use super::sink::{Sink, Trouble};
use super::walk::Found;

/// Bytes of a header and the unit of a member.
pub(super) const BLOCK_BYTES: u64 = 512;
/// Bytes of a name in a ustar header.
const NAME_BYTES_MAX: usize = 100;
/// The largest user and group number of a ustar header.
const OWNER_MAX: u32 = 0o777_7777;
/// The largest size of a ustar header.
const SIZE_MAX: u64 = 0o777_7777_7777;
/// Bytes of zeros at the end.
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES;
/// Bytes written to the archive at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// The archive.
#[derive(Debug)]
pub(super) struct Archive {
    out: BufWriter<File>,
    /// Where the next byte goes.
    at: u64,
    /// Where the open member begins.
    member: u64,
}

/// Seconds of a time, as pax writes them.
fn seconds(time: UnixNanos) -> String {
    let (sign, nanos) = (if time.0 < 0 { "-" } else { "" }, time.0.unsigned_abs());
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Puts a name into its field; whether a record is needed besides.
fn put_name(field: &mut [u8; NAME_BYTES_MAX], name: &[u8]) -> bool {
    let len = name.len().min(NAME_BYTES_MAX);
    field[..len].copy_from_slice(&name[..len]);
    name.len() > NAME_BYTES_MAX || !name.is_ascii()
}

/// What a member's headers say.
pub(super) struct Member<'m> {
    pub(super) path: &'m [u8],
    pub(super) kind: EntryType,
    /// Target of a symbolic or hard link.
    pub(super) link: Option<&'m [u8]>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: UnixNanos,
    pub(super) atime: UnixNanos,
}

impl<'m> Member<'m> {
    fn of(found: &'m Found, kind: EntryType, link: Option<&'m [u8]>) -> Self {
        let attributes = &found.attributes;
        Self {
            path: &found.path,
            kind,
            link,
            size: attributes.size,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            atime: attributes.atime,
        }
    }

    /// Bytes of content that follow the headers.
    pub(super) fn content_bytes(&self) -> u64 {
        if self.kind == EntryType::Regular { self.size } else { 0 }
    }

    /// The one way in which its headers are written.
    pub(super) fn headers(&self) -> std::io::Result<Vec<u8>> {
        let (size, link) = (self.content_bytes(), self.link);
        let mut path = self.path.to_vec();
        if self.kind == EntryType::Directory {
            path.push(b'/');
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(applied_mode(self.mode));
        header.set_uid(self.uid.min(OWNER_MAX).into());
        header.set_gid(self.gid.min(OWNER_MAX).into());
        header.set_size(size);
        header.set_mtime(u64::try_from(self.mtime.0 / 1_000_000_000).unwrap_or(0).min(SIZE_MAX));
        let (mut long_path, mut long_link) = (true, link.is_some());
        if let Some(ustar) = header.as_ustar_mut() {
            long_path = put_name(&mut ustar.name, &path);
            long_link = link.is_some_and(|link| put_name(&mut ustar.linkname, link));
        }
        header.set_cksum();

        let (uid, gid, size_text) = (self.uid.to_string(), self.gid.to_string(), size.to_string());
        let (mtime, atime) = (seconds(self.mtime), seconds(self.atime));
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if [Some(&path[..]), link].into_iter().flatten().any(|name| std::str::from_utf8(name).is_err()) {
            records.push(("hdrcharset", b"BINARY"));
        }
        if long_path {
            records.push(("path", &path));
        }
        records.extend(link.filter(|_| long_link).map(|link| ("linkpath", link)));
        records.push(("mtime", mtime.as_bytes()));
        records.push(("atime", atime.as_bytes()));
        if self.uid > OWNER_MAX {
            records.push(("uid", uid.as_bytes()));
        }
        if self.gid > OWNER_MAX {
            records.push(("gid", gid.as_bytes()));
        }
        if size > SIZE_MAX {
            records.push(("size", size_text.as_bytes()));
        }
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions(records)?;
        let mut bytes = std::mem::take(builder.get_mut());
        bytes.extend_from_slice(header.as_bytes());
        Ok(bytes)
    }
}

impl Archive {
    /// Goes on with an archive at `at`; what is behind it is cut off.
    pub(super) fn new(mut file: File, at: u64) -> std::io::Result<Self> {
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { out: BufWriter::with_capacity(WRITE_BYTES, file), at, member: at })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Trouble::Io)
    }

    fn put_headers(&mut self, found: &Found, kind: EntryType, link: Option<&[u8]>) -> Result<(), Trouble> {
        self.member = self.at;
        let bytes = Member::of(found, kind, link).headers().map_err(Trouble::Io)?;
        self.put(&bytes)
    }

    fn put_zeros(&mut self, bytes: u64) -> Result<(), Trouble> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(ZEROS.len() as u64);
            self.put(&ZEROS[..usize::try_from(len).unwrap_or(0)])?;
            left -= len;
        }
        Ok(())
    }
}

impl Sink for Archive {
    fn enter(&mut self, found: &Found) -> Result<(), Trouble> {
        if found.known.is_some() { Ok(()) } else { self.put_headers(found, EntryType::Directory, None) }
    }

    fn leave(&mut self, _found: &Found) -> Result<(), Trouble> {
        Ok(())
    }

    fn symbolic_link(&mut self, found: &Found, target: &[u8]) -> Result<(), Trouble> {
        self.put_headers(found, EntryType::Symlink, Some(target))
    }

    fn hard_link(&mut self, found: &Found, first: &[u8]) -> Result<(), Trouble> {
        self.put_headers(found, EntryType::Link, Some(first))
    }

    fn begin(&mut self, found: &Found) -> Result<(), Trouble> {
        debug_assert_eq!(found.attributes.kind, Kind::File);
        self.put_headers(found, EntryType::Regular, None)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.put(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Trouble> {
        self.put_zeros(bytes)
    }

    fn end(&mut self, _found: &Found) -> Result<(), Trouble> {
        self.put_zeros(self.at.next_multiple_of(BLOCK_BYTES) - self.at)
    }

    fn undo(&mut self, _found: &Found) -> Result<(), Trouble> {
        let back = (|| {
            self.out.flush()?;
            self.out.get_ref().set_len(self.member)?;
            self.out.seek(SeekFrom::Start(self.member))
        })();
        self.at = back.map_err(Trouble::Io)?;
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_data()
    }

    fn position(&self) -> Option<u64> {
        Some(self.at)
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.put_zeros(END_BYTES).map_err(|trouble| match trouble {
            Trouble::Io(error) => error,
            Trouble::Refused(reason) => std::io::Error::other(reason),
        })?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_their_sign_before_the_seconds() {
        assert_eq!(seconds(UnixNanos(1_500_000_000)), "1.500000000");
        assert_eq!(seconds(UnixNanos(-1)), "-0.000000001");
        assert_eq!(seconds(UnixNanos(-1_500_000_000)), "-1.500000000");
        assert_eq!(seconds(UnixNanos(i64::MIN)), "-9223372036.854775808");
    }
}
