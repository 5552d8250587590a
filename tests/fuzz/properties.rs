//! What must hold for any bytes: one function for each parser of what clients send. The fuzz targets search for bytes that
//! break one; `replay.rs` runs all that were ever found interesting.

use bytes::Bytes;
use coffre::limits::{SFTP_FRAME_BYTES_MAX, SFTP_IDS_MAX};
use coffre::sftp::attributes::{self, Owners};
use coffre::sftp::reply::Reply;
use coffre::sftp::wire::{Assembly, Frame, HandleRequest, PathRequest, Request, ServerRequest, parse};
use coffre::vfs::point::{Spelling, name_of, time_of};
use coffre::vfs::{Attributes, ContentId, InodeId, Kind, UnixNanos, VaultPath};

/// Frames of a stream that comes in pieces of `piece` bytes, and whether the stream broke.
fn frames(stream: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let (mut assembly, mut frames) = (Assembly::default(), Vec::new());
    for mut bytes in stream.chunks(piece.max(1)) {
        while !bytes.is_empty() {
            match assembly.feed(&mut bytes) {
                Ok(frame) => frames.extend(frame),
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// Strings of a request.
fn strings(request: &Request) -> Vec<&Bytes> {
    match request {
        Request::OnHandle(handle, request) => match request {
            HandleRequest::Write { data, .. } => vec![handle, data],
            HandleRequest::CopyData { to, .. } => vec![handle, to],
            HandleRequest::CheckFile(check) => vec![handle, &check.algorithms],
            HandleRequest::Close
            | HandleRequest::Read { .. }
            | HandleRequest::FStat
            | HandleRequest::FSetStat { .. }
            | HandleRequest::ReadDir
            | HandleRequest::FStatVfs
            | HandleRequest::FSync => vec![handle],
        },
        Request::OnPath(request) => match request {
            PathRequest::Rename { from, to } | PathRequest::PosixRename { from, to } => vec![from, to],
            PathRequest::HardLink { existing, path } => vec![existing, path],
            PathRequest::Symlink { first, second } => vec![first, second],
            PathRequest::CheckFile { path, check } => vec![path, &check.algorithms],
            PathRequest::Open { path, .. }
            | PathRequest::LStat { path }
            | PathRequest::SetStat { path, .. }
            | PathRequest::LSetStat { path, .. }
            | PathRequest::OpenDir { path }
            | PathRequest::Remove { path }
            | PathRequest::MkDir { path, .. }
            | PathRequest::RmDir { path }
            | PathRequest::RealPath { path }
            | PathRequest::ExpandPath { path }
            | PathRequest::Stat { path }
            | PathRequest::StatVfs { path }
            | PathRequest::ReadLink { path } => vec![path],
        },
        Request::OfServer(ServerRequest::HomeDirectory { user }) => vec![user],
        Request::OfServer(ServerRequest::UsersGroupsById { users, groups }) => {
            assert!(users.len() <= SFTP_IDS_MAX && groups.len() <= SFTP_IDS_MAX);
            Vec::new()
        }
        Request::OfServer(ServerRequest::Limits) | Request::Unknown => Vec::new(),
    }
}

/// A stream of packets means the same in whatever pieces it comes; no frame is larger than it may be; a request holds no more
/// than its frame; after a framing error nothing is understood.
///
/// # Panics
/// When it does not hold.
pub(super) fn packets(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let (whole, broken) = frames(stream, stream.len());
    assert_eq!((&whole, broken), (&frames(stream, usize::from(*piece)).0, frames(stream, 1).1));
    for frame in whole {
        assert!((1..=SFTP_FRAME_BYTES_MAX as usize).contains(&frame.len()));
        let len = frame.len();
        match parse(frame) {
            Ok(Frame::Request(_, Ok(request))) => {
                assert!(strings(&request).iter().map(|string| string.len() + 4).sum::<usize>() <= len);
            }
            Ok(Frame::Request(_, Err(_)) | Frame::Init(_)) => {}
            Err(_) => assert!(len < 5, "a packet with a number is answered under it"),
        }
    }
}

/// What is taken for a path has one spelling, which means itself, and names that lead nowhere else.
///
/// # Panics
/// When it does not hold.
pub(super) fn paths(bytes: &[u8]) {
    let Ok(path) = VaultPath::parse(bytes) else { return };
    let spelt = path.to_bytes();
    assert!(spelt.starts_with(b"/") && spelt.len() <= bytes.len() + 1);
    assert!(VaultPath::parse(&spelt).map_or(spelt.len() > 4096, |again| again == path));
    for name in path.components() {
        assert!((1..=255).contains(&name.len()) && !name.contains(&0) && !name.contains(&b'/'));
        assert!(name != b"." && name != b"..");
    }
    if let Some((above, name)) = path.split_last() {
        assert!(above.join(name).map_or(spelt.len() > 4096, |again| again == path));
        assert!(path.starts_with(&above) && !above.starts_with(&path));
    }
    assert_eq!(
        VaultPath::parse_within(bytes),
        Ok(path.clone()),
        "only what climbs is understood in two ways"
    );
    assert!(path.starts_with(&VaultPath::root()));
}

/// Attributes of any kind are taken or refused; what is taken can be shown again, in an answer and as a line of a listing.
///
/// # Panics
/// When it does not hold.
pub(super) fn attributes(bytes: &[u8]) {
    let frame = [&[9, 0, 0, 0, 7, 0, 0, 0, 2][..], b"/a", bytes].concat();
    let Ok(Frame::Request(7, Ok(Request::OnPath(PathRequest::SetStat { attributes: sent, .. })))) =
        parse(frame.into())
    else {
        return;
    };
    let change = sent.change();
    assert!(change.mode.is_none_or(|mode| mode <= 0o7777));
    let own = Attributes {
        inode: InodeId(1),
        kind: Kind::File,
        size: sent.size.unwrap_or(0),
        mode: change.mode.unwrap_or(0),
        uid: change.uid.unwrap_or(0),
        gid: change.gid.unwrap_or(0),
        atime: change.atime.unwrap_or(UnixNanos(i64::MIN)),
        mtime: change.mtime.unwrap_or(UnixNanos(i64::MAX)),
        ctime: UnixNanos(0),
        links: u32::MAX,
        content: ContentId(0),
        blake3: None,
        incomplete: false,
        has_properties: false,
    };
    let mut reply = Reply::attributes(7);
    attributes::put(&mut reply, &own);
    let shown = reply.finish();
    if let Some((atime, mtime)) = sent.times {
        let times = [atime.to_be_bytes(), mtime.to_be_bytes()].concat();
        assert!(shown.ends_with(&times), "times come back as they were sent");
    }
    let owners = Owners { user: "user".to_owned(), group: "customer".to_owned() };
    let line = attributes::long_name(b"na\xffme", &own, &owners, change.atime.unwrap_or(UnixNanos(i64::MIN)));
    assert!(line.ends_with(b" na\xffme") && !line.contains(&b'\n'));
}

/// What is taken for a moment has a name that means the same moment.
///
/// # Panics
/// When it does not hold.
pub(super) fn moments(bytes: &[u8]) {
    let Some(time) = time_of(bytes) else { return };
    for spelling in [Spelling::Colons, Spelling::NoColons] {
        assert_eq!(time_of(name_of(time, spelling).as_bytes()), Some(time));
    }
}
