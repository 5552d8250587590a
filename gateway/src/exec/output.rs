//! What a command prints, on its way to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;

use crate::session::Traffic;
use crate::vfs::{StoreError, VfsError};

/// The client is gone: the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub(super) struct Gone;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
const STANDARD_ERROR: u32 = 1;

/// Standard output and standard error.
#[derive(Debug)]
pub(super) struct Output {
    channel: ChannelWriteHalf<Msg>,
    traffic: Arc<Traffic>,
}

impl Output {
    pub(super) fn new(channel: ChannelWriteHalf<Msg>, traffic: Arc<Traffic>) -> Self {
        Self { channel, traffic }
    }

    /// Prints; waits for the client's window.
    pub(super) async fn print(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        self.traffic.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.channel.data_bytes(bytes).await.map_err(|_| Gone)
    }

    /// Prints on standard error.
    pub(super) async fn complain(&self, text: impl Into<Bytes>) -> Result<(), Gone> {
        self.channel.extended_data_bytes(STANDARD_ERROR, text.into()).await.map_err(|_| Gone)
    }

    /// Exit status, EOF, CLOSE, in the order without which some clients hang.
    ///
    /// The client may close first: a channel that the server closes first stays with russh as long as the connection.
    pub(super) async fn end(self, status: u32) {
        drop(self.channel.exit_status(status).await);
        drop(self.channel.eof().await);
        drop(self.channel.close().await);
    }
}

/// Why something did not happen, in the words that every program of this kind uses.
pub(super) fn reason(error: &VfsError) -> String {
    let text = match error {
        VfsError::Store(StoreError::NotFound) | VfsError::Hidden => "No such file or directory",
        VfsError::Store(StoreError::NotADirectory) => "Not a directory",
        VfsError::Store(StoreError::IsADirectory) => "Is a directory",
        VfsError::Store(StoreError::Exists) => "File exists",
        VfsError::Store(StoreError::ReadOnly) => "Read-only file system",
        VfsError::Store(StoreError::DiskFull) => "No space left on device",
        VfsError::Refused(_) => "Permission denied",
        VfsError::Store(_)
        | VfsError::Path(_)
        | VfsError::CrossDevice
        | VfsError::LinkLoop
        | VfsError::MountPoint
        | VfsError::WrongMode
        | VfsError::ChecksumMismatch
        | VfsError::PartMissing
        | VfsError::SessionEnded
        | VfsError::Interrupted => return error.to_string(),
    };
    text.to_owned()
}

/// A line of standard error about something that has a name.
pub(super) fn complaint(program: &str, name: &[u8], error: &VfsError) -> Vec<u8> {
    [program.as_bytes(), b": ", &shown(name), b": ", reason(error).as_bytes(), b"\n"].concat()
}

/// A name as it may stand in a line of text.
pub(super) fn shown(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }).collect()
}
