//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02): frames and requests. Pure: bytes in, types out.
//!
//! The codec is our own and only its constants are `russh_sftp`'s, because names are bytes here, a length is checked before
//! anything is done with it, and a framing error ends the channel. Bytes after the last field of a frame are ignored, as
//! OpenSSH does: rclone sends some.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{SFTP_ATTRIBUTE_EXTENSIONS_MAX, SFTP_FRAME_BYTES_MAX, SFTP_IDS_MAX};

/// A request's number, chosen by the client.
pub type RequestId = u32;

/// What ends a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame's length is 0 or over the bound.
    #[error("a packet of {0} bytes is not allowed")]
    Length(u32),
    /// A frame that is too short for its type and number.
    #[error("a packet ends before its request number")]
    Headless,
    /// A request came before INIT, or INIT came twice.
    #[error("a packet came out of order")]
    OutOfOrder,
}

/// What a well-framed request lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is malformed")]
pub struct Malformed;

/// Attributes as a client sent them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireAttributes {
    /// Bytes.
    pub size: Option<u64>,
    /// uid, gid
    pub owner: Option<(u32, u32)>,
    /// With type bits, which some clients send.
    pub permissions: Option<u32>,
    /// atime, mtime; seconds.
    pub times: Option<(u32, u32)>,
}

/// A request after INIT, by what it works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// On what a handle names.
    OnHandle(Bytes, HandleRequest),
    /// On what paths name.
    OnPath(PathRequest),
    /// About the server itself.
    OfServer(ServerRequest),
    /// A type or extension that we do not know.
    Unknown,
}

/// A request on an open file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the draft, section 6, and of OpenSSH's PROTOCOL")]
pub enum HandleRequest {
    Close,
    Read {
        offset: u64,
        len: u32,
    },
    Write {
        offset: u64,
        data: Bytes,
    },
    FStat,
    FSetStat {
        attributes: WireAttributes,
    },
    ReadDir,
    FStatVfs,
    FSync,
    /// The handle is the one to copy from.
    CopyData {
        offset: u64,
        len: u64,
        to: Bytes,
        to_offset: u64,
    },
    CheckFile(CheckFile),
}

/// A request on names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the draft, section 6, and of OpenSSH's PROTOCOL")]
pub enum PathRequest {
    Open {
        path: Bytes,
        /// Bits of `OpenFlags`.
        pflags: u32,
        attributes: WireAttributes,
    },
    LStat {
        path: Bytes,
    },
    SetStat {
        path: Bytes,
        attributes: WireAttributes,
    },
    LSetStat {
        path: Bytes,
        attributes: WireAttributes,
    },
    OpenDir {
        path: Bytes,
    },
    Remove {
        path: Bytes,
    },
    MkDir {
        path: Bytes,
        attributes: WireAttributes,
    },
    RmDir {
        path: Bytes,
    },
    RealPath {
        path: Bytes,
    },
    ExpandPath {
        path: Bytes,
    },
    Stat {
        path: Bytes,
    },
    StatVfs {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
    },
    PosixRename {
        from: Bytes,
        to: Bytes,
    },
    HardLink {
        existing: Bytes,
        path: Bytes,
    },
    ReadLink {
        path: Bytes,
    },
    /// In the order in which they came; clients differ about what it means.
    Symlink {
        first: Bytes,
        second: Bytes,
    },
    CheckFile {
        path: Bytes,
        check: CheckFile,
    },
}

/// What is asked about a file's digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFile {
    /// Names, in the client's order, with commas between.
    pub algorithms: Bytes,
    /// Where the range begins.
    pub offset: u64,
    /// Its bytes; 0: to the end.
    pub len: u64,
    /// Bytes of a block; 0: one digest of all.
    pub block: u32,
    /// The reply begins with the extension's name.
    pub is_echoed: bool,
}

/// Which of SYMLINK's two paths is the target. The draft says the second; OpenSSH and who follows it send it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOrder {
    /// As OpenSSH sends it.
    TargetFirst,
    /// As the draft says.
    LinkFirst,
}

impl LinkOrder {
    /// By the identification string of the client: these keep the draft's order with servers that are not OpenSSH.
    pub fn of_client(ident: &[u8]) -> Self {
        let standard = [&b"AsyncSSH"[..], b"WinSCP", b"SSHJ", b"PuTTY"];
        let is_standard = standard.iter().any(|name| ident.windows(name.len()).any(|part| part == *name));
        if is_standard { Self::LinkFirst } else { Self::TargetFirst }
    }
}

/// A request that needs no file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of OpenSSH's PROTOCOL")]
pub enum ServerRequest {
    Limits,
    HomeDirectory { user: Bytes },
    UsersGroupsById { users: Vec<u32>, groups: Vec<u32> },
}

/// A frame that is coming in, piece by piece.
#[derive(Debug, Default)]
pub struct Assembly {
    prefix: Prefix,
    body: BytesMut,
}

#[derive(Debug)]
enum Prefix {
    /// The length's first bytes.
    Coming([u8; 4], usize),
    /// The body's length.
    Known(usize),
}

impl Default for Prefix {
    fn default() -> Self {
        Self::Coming([0; 4], 0)
    }
}

impl Assembly {
    /// Takes bytes up to the frame's end; gives its body (type, then the rest) when it is whole.
    ///
    /// # Errors
    /// [`WireError::Length`]: the stream has no meaning any more.
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Bytes>, WireError> {
        if let Prefix::Coming(prefix, known) = &mut self.prefix {
            for (place, byte) in prefix.iter_mut().skip(*known).zip(bytes.iter()) {
                *place = *byte;
                *known = known.saturating_add(1);
                bytes.advance(1);
            }
            if *known < prefix.len() {
                return Ok(None);
            }
            // Checked before it is allocated.
            let len = match u32::from_be_bytes(*prefix) {
                len @ 1..=SFTP_FRAME_BYTES_MAX => usize::try_from(len).unwrap_or(usize::MAX),
                len => return Err(WireError::Length(len)),
            };
            self.body = BytesMut::with_capacity(len);
            self.prefix = Prefix::Known(len);
        }
        let Prefix::Known(len) = self.prefix else { return Ok(None) };
        let (taken, rest) = bytes.split_at(bytes.len().min(len.saturating_sub(self.body.len())));
        self.body.extend_from_slice(taken);
        *bytes = rest;
        if self.body.len() < len {
            return Ok(None);
        }
        self.prefix = Prefix::default();
        Ok(Some(std::mem::take(&mut self.body).freeze()))
    }
}

/// Reads fields of a frame.
struct Fields(Bytes);

impl Fields {
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    fn string(&mut self) -> Result<Bytes, Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if len > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(len))
    }

    /// A string that is a list of numbers.
    fn numbers(&mut self) -> Result<Vec<u32>, Malformed> {
        let list = self.string()?;
        let (numbers, rest) = list.as_chunks::<4>();
        if !rest.is_empty() || numbers.len() > SFTP_IDS_MAX {
            return Err(Malformed);
        }
        Ok(numbers.iter().copied().map(u32::from_be_bytes).collect())
    }

    fn attributes(&mut self) -> Result<WireAttributes, Malformed> {
        const SIZE: u32 = 0x1;
        const UIDGID: u32 = 0x2;
        const PERMISSIONS: u32 = 0x4;
        const ACMODTIME: u32 = 0x8;
        const EXTENDED: u32 = 0x8000_0000;
        let flags = self.u32()?;
        let mut read = WireAttributes::default();
        if flags & SIZE != 0 {
            read.size = Some(self.u64()?);
        }
        if flags & UIDGID != 0 {
            read.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            read.permissions = Some(self.u32()?);
        }
        if flags & ACMODTIME != 0 {
            read.times = Some((self.u32()?, self.u32()?));
        }
        if flags & EXTENDED != 0 {
            let count = self.u32()?;
            if count > SFTP_ATTRIBUTE_EXTENSIONS_MAX {
                return Err(Malformed);
            }
            for _ in 0..count {
                self.string()?;
                self.string()?;
            }
        }
        Ok(read)
    }
}

/// A frame, taken apart as far as its number.
#[derive(Debug)]
pub enum Frame {
    /// `SSH_FXP_INIT` with the client's version.
    Init(u32),
    /// A numbered request: its own error does not end the channel.
    Request(RequestId, Result<Request, Malformed>),
}

/// Takes a frame's body apart.
///
/// # Errors
/// [`WireError::Headless`].
pub fn parse(body: Bytes) -> Result<Frame, WireError> {
    let mut fields = Fields(body);
    let kind = fields.0.try_get_u8().map_err(|_| WireError::Headless)?;
    let number = fields.u32().map_err(|Malformed| WireError::Headless)?;
    if kind == 1 { Ok(Frame::Init(number)) } else { Ok(Frame::Request(number, request(kind, fields))) }
}

fn request(kind: u8, mut fields: Fields) -> Result<Request, Malformed> {
    use HandleRequest as H;
    use PathRequest as P;
    Ok(match kind {
        3 => Request::OnPath(P::Open {
            path: fields.string()?,
            pflags: fields.u32()?,
            attributes: fields.attributes()?,
        }),
        4 => Request::OnHandle(fields.string()?, H::Close),
        5 => Request::OnHandle(fields.string()?, H::Read { offset: fields.u64()?, len: fields.u32()? }),
        6 => Request::OnHandle(fields.string()?, H::Write { offset: fields.u64()?, data: fields.string()? }),
        7 => Request::OnPath(P::LStat { path: fields.string()? }),
        8 => Request::OnHandle(fields.string()?, H::FStat),
        9 => Request::OnPath(P::SetStat { path: fields.string()?, attributes: fields.attributes()? }),
        10 => Request::OnHandle(fields.string()?, H::FSetStat { attributes: fields.attributes()? }),
        11 => Request::OnPath(P::OpenDir { path: fields.string()? }),
        12 => Request::OnHandle(fields.string()?, H::ReadDir),
        13 => Request::OnPath(P::Remove { path: fields.string()? }),
        14 => Request::OnPath(P::MkDir { path: fields.string()?, attributes: fields.attributes()? }),
        15 => Request::OnPath(P::RmDir { path: fields.string()? }),
        16 => Request::OnPath(P::RealPath { path: fields.string()? }),
        17 => Request::OnPath(P::Stat { path: fields.string()? }),
        18 => Request::OnPath(P::Rename { from: fields.string()?, to: fields.string()? }),
        19 => Request::OnPath(P::ReadLink { path: fields.string()? }),
        20 => Request::OnPath(P::Symlink { first: fields.string()?, second: fields.string()? }),
        200 => extended(&fields.string()?, fields)?,
        _ => Request::Unknown,
    })
}

fn extended(name: &[u8], mut fields: Fields) -> Result<Request, Malformed> {
    use HandleRequest as H;
    use PathRequest as P;
    Ok(match name {
        b"posix-rename@openssh.com" => {
            Request::OnPath(P::PosixRename { from: fields.string()?, to: fields.string()? })
        }
        b"statvfs@openssh.com" => Request::OnPath(P::StatVfs { path: fields.string()? }),
        b"fstatvfs@openssh.com" => Request::OnHandle(fields.string()?, H::FStatVfs),
        b"hardlink@openssh.com" => {
            Request::OnPath(P::HardLink { existing: fields.string()?, path: fields.string()? })
        }
        b"fsync@openssh.com" => Request::OnHandle(fields.string()?, H::FSync),
        b"lsetstat@openssh.com" => {
            Request::OnPath(P::LSetStat { path: fields.string()?, attributes: fields.attributes()? })
        }
        b"expand-path@openssh.com" => Request::OnPath(P::ExpandPath { path: fields.string()? }),
        b"copy-data" => Request::OnHandle(
            fields.string()?,
            H::CopyData {
                offset: fields.u64()?,
                len: fields.u64()?,
                to: fields.string()?,
                to_offset: fields.u64()?,
            },
        ),
        b"check-file-handle" | b"check-file" => {
            let handle = fields.string()?;
            Request::OnHandle(handle, H::CheckFile(check_file(&mut fields, name == b"check-file")?))
        }
        b"check-file-name" => {
            Request::OnPath(P::CheckFile { path: fields.string()?, check: check_file(&mut fields, false)? })
        }
        b"limits@openssh.com" => Request::OfServer(ServerRequest::Limits),
        b"home-directory" => Request::OfServer(ServerRequest::HomeDirectory { user: fields.string()? }),
        b"users-groups-by-id@openssh.com" => Request::OfServer(ServerRequest::UsersGroupsById {
            users: fields.numbers()?,
            groups: fields.numbers()?,
        }),
        _ => Request::Unknown,
    })
}

fn check_file(fields: &mut Fields, is_echoed: bool) -> Result<CheckFile, Malformed> {
    let (algorithms, offset, len, block) = (fields.string()?, fields.u64()?, fields.u64()?, fields.u32()?);
    Ok(CheckFile { algorithms, offset, len, block, is_echoed })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    fn string(value: &[u8]) -> Vec<u8> {
        frame(value)
    }

    fn frames_of(mut stream: &[u8]) -> Result<Vec<Bytes>, WireError> {
        let (mut assembly, mut frames) = (Assembly::default(), Vec::new());
        while !stream.is_empty() {
            frames.extend(assembly.feed(&mut stream)?);
        }
        Ok(frames)
    }

    #[test]
    fn a_frame_arrives_in_pieces_and_two_at_once() {
        let whole = [frame(&[1, 0, 0, 0, 3]), frame(&[4, 0, 0, 0, 9, 0, 0, 0, 1, 7])].concat();
        let (mut assembly, mut frames) = (Assembly::default(), Vec::new());
        for byte in &whole {
            frames.extend(assembly.feed(&mut &[*byte][..]).unwrap());
        }
        assert_eq!(frames, [&[1, 0, 0, 0, 3][..], &[4, 0, 0, 0, 9, 0, 0, 0, 1, 7]]);
        assert_eq!(frames_of(&whole).unwrap(), frames);
    }

    #[test]
    fn an_oversized_packet_ends_the_stream_and_hides_no_request() {
        let hidden = frame(&[&[13, 0, 0, 0, 1][..], &string(b"/victim")].concat());
        for len in [0, SFTP_FRAME_BYTES_MAX + 1, u32::MAX] {
            let stream = [&len.to_be_bytes()[..], &hidden].concat();
            assert_eq!(frames_of(&stream), Err(WireError::Length(len)));
        }
    }

    #[test]
    fn the_tail_of_a_write_is_ignored() {
        let body = [&[6, 0, 0, 0, 5][..], &string(b"h"), &7_u64.to_be_bytes(), &string(b"data"), b"garbage"]
            .concat();
        let Frame::Request(5, Ok(Request::OnHandle(handle, HandleRequest::Write { offset: 7, data }))) =
            parse(body.into()).unwrap()
        else {
            panic!()
        };
        assert_eq!(&handle[..], b"h");
        assert_eq!(&data[..], b"data");
    }

    #[test]
    fn a_malformed_request_keeps_its_number() {
        for body in [
            vec![3, 0, 0, 0, 8],
            [&[3, 0, 0, 0, 8][..], &u32::MAX.to_be_bytes()].concat(),
            [&[9, 0, 0, 0, 8][..], &string(b"/a"), &0x8000_0000_u32.to_be_bytes(), &u32::MAX.to_be_bytes()]
                .concat(),
        ] {
            assert!(matches!(parse(body.into()).unwrap(), Frame::Request(8, Err(Malformed))));
        }
        assert!(matches!(
            parse(vec![99, 0, 0, 0, 8].into()).unwrap(),
            Frame::Request(8, Ok(Request::Unknown))
        ));
        assert!(matches!(parse(vec![3, 0, 0].into()), Err(WireError::Headless)));
    }

    #[test]
    fn names_are_bytes() {
        let body = [&[7, 0, 0, 0, 1][..], &string(b"/\xe9t\xe9")].concat();
        let Frame::Request(1, Ok(Request::OnPath(PathRequest::LStat { path }))) = parse(body.into()).unwrap()
        else {
            panic!()
        };
        assert_eq!(&path[..], b"/\xe9t\xe9");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            frames_of(&bytes).into_iter().flatten().for_each(|body| drop(parse(body)));
            drop(parse(Bytes::from(bytes)));
        }
    }
}
