//! What goes out: replies, in memory of their own size (draft-ietf-secsh-filexfer-02 section 7; OpenSSH's PROTOCOL for
//! extensions).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use bytes::{BufMut, Bytes, BytesMut};
use russh_sftp::protocol::{StatusCode, VERSION};

use super::status::{self, Failure};
use super::wire::RequestId;
use crate::limits::{SFTP_DATA_BYTES_MAX, SFTP_FRAME_BYTES_MAX, SFTP_HANDLES_MAX};
use crate::vfs::{FileRoom, SpaceState};

/// Extensions announced in VERSION, with their versions.
const EXTENSIONS: [(&str, &str); 12] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
    // The names of the digests, as the draft's own versions of SFTP announce them.
    ("check-file", "sha256,sha512,sha384,sha224,sha1,md5"),
];

/// Length, type, number, length of the data.
const DATA_HEAD_BYTES: usize = 13;

/// A reply under construction.
#[derive(Debug)]
pub struct Reply(BytesMut);

impl Reply {
    fn begin(kind: u8, capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(capacity.saturating_add(16));
        bytes.put_u32(0);
        bytes.put_u8(kind);
        Self(bytes)
    }

    fn numbered(kind: u8, id: RequestId, capacity: usize) -> Self {
        let mut reply = Self::begin(kind, capacity);
        reply.u32(id);
        reply
    }

    /// Puts a number.
    pub fn u32(&mut self, value: u32) {
        self.0.put_u32(value);
    }

    /// Puts a long number.
    pub fn u64(&mut self, value: u64) {
        self.0.put_u64(value);
    }

    /// Puts a counted string.
    pub fn string(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.put_slice(value);
    }

    /// Puts bytes as they are, to the end of the packet.
    pub fn bytes(&mut self, value: &[u8]) {
        self.0.put_slice(value);
    }

    /// Puts a counted string of counted strings.
    pub fn strings<'s>(&mut self, values: impl Iterator<Item = &'s str> + Clone) {
        let len: usize = values.clone().map(|value| value.len().saturating_add(4)).sum();
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
        values.for_each(|value| self.string(value.as_bytes()));
    }

    /// The finished frame.
    pub fn finish(mut self) -> Bytes {
        let len = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(prefix) = self.0.first_chunk_mut::<4>() {
            *prefix = len.to_be_bytes();
        }
        self.0.freeze()
    }

    /// `SSH_FXP_VERSION`: always 3, whatever was proposed.
    pub fn version() -> Bytes {
        let mut reply = Self::begin(2, 512);
        reply.u32(VERSION);
        for (name, version) in EXTENSIONS {
            reply.string(name.as_bytes());
            reply.string(version.as_bytes());
        }
        reply.finish()
    }

    /// `SSH_FXP_STATUS`.
    fn status(id: RequestId, code: StatusCode, reason: &str) -> Bytes {
        let mut reply = Self::numbered(101, id, reason.len().saturating_add(24));
        reply.u32(status::number(code));
        reply.string(reason.as_bytes());
        reply.string(b"en");
        reply.finish()
    }

    /// `SSH_FXP_STATUS` of a request that did what it was to do.
    pub fn ok(id: RequestId) -> Bytes {
        Self::status(id, StatusCode::Ok, "Success")
    }

    /// `SSH_FXP_STATUS` of one that did not.
    pub fn failure(id: RequestId, failure: &Failure) -> Bytes {
        let (code, reason) = failure.told();
        Self::status(id, code, &reason)
    }

    /// `SSH_FXP_HANDLE`.
    pub fn handle(id: RequestId, handle: &[u8]) -> Bytes {
        let mut reply = Self::numbered(102, id, 16);
        reply.string(handle);
        reply.finish()
    }

    /// The head of `SSH_FXP_DATA`, with room for `capacity` bytes: the data is appended to it, then
    /// [`Reply::finish_data`] says how much it became.
    pub fn data(id: RequestId, capacity: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(capacity.saturating_add(DATA_HEAD_BYTES));
        bytes.put_u32(0);
        bytes.put_u8(103);
        bytes.put_u32(id);
        bytes.put_u32(0);
        bytes
    }

    /// The finished frame of what [`Reply::data`] began.
    pub fn finish_data(mut bytes: Vec<u8>) -> Bytes {
        let count = |from: usize| u32::try_from(bytes.len().saturating_sub(from)).unwrap_or(u32::MAX);
        let (frame, data) = (count(4), count(DATA_HEAD_BYTES));
        if let Some(head) = bytes.first_chunk_mut::<DATA_HEAD_BYTES>() {
            let (prefix, rest) = head.split_at_mut(4);
            prefix.copy_from_slice(&frame.to_be_bytes());
            rest.split_at_mut(5).1.copy_from_slice(&data.to_be_bytes());
        }
        bytes.into()
    }

    /// `SSH_FXP_NAME`, to which `count` names are added.
    pub fn names(id: RequestId, count: u32) -> Self {
        let mut reply = Self::numbered(104, id, 256);
        reply.u32(count);
        reply
    }

    /// `SSH_FXP_NAME` of one name, which has no attributes to speak of.
    pub fn name(id: RequestId, name: &[u8]) -> Bytes {
        let mut reply = Self::names(id, 1);
        reply.string(name);
        reply.string(name);
        reply.u32(0);
        reply.finish()
    }

    /// `SSH_FXP_ATTRS`, to which attributes are added.
    pub fn attributes(id: RequestId) -> Self {
        Self::numbered(105, id, 32)
    }

    /// `SSH_FXP_EXTENDED_REPLY`.
    pub fn extended(id: RequestId) -> Self {
        Self::numbered(201, id, 96)
    }

    /// The answer to limits@openssh.com.
    pub fn limits(id: RequestId) -> Bytes {
        let mut reply = Self::extended(id);
        let handles = u64::try_from(SFTP_HANDLES_MAX).unwrap_or(0);
        let (frame, data) = (u64::from(SFTP_FRAME_BYTES_MAX), u64::from(SFTP_DATA_BYTES_MAX));
        [frame, data, data, handles].into_iter().for_each(|limit| reply.u64(limit));
        reply.finish()
    }

    /// The answer to statvfs@openssh.com and fstatvfs@openssh.com.
    pub fn space(id: RequestId, space: &SpaceState) -> Bytes {
        const BLOCK: u64 = 4096;
        /// Where files are not limited: as many as anybody asks for.
        const UNLIMITED: FileRoom = FileRoom { total: 0xffff_ffff, free: 0xffff_ffff };
        const NAME_BYTES_MAX: u64 = 255;
        let mut reply = Self::extended(id);
        let (total, free) = (space.total_bytes / BLOCK, space.free_bytes / BLOCK);
        let files = space.files.unwrap_or(UNLIMITED);
        [BLOCK, BLOCK, total, free, free, files.total, files.free, files.free, 0, 0, NAME_BYTES_MAX]
            .into_iter()
            .for_each(|field| reply.u64(field));
        reply.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_reply_counts_what_was_appended() {
        let mut reply = Reply::data(7, 3);
        reply.extend_from_slice(b"abc");
        assert_eq!(&Reply::finish_data(reply)[..], b"\0\0\0\x0c\x67\0\0\0\x07\0\0\0\x03abc");
    }
}
