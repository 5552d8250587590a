//! What a client sends to a command: waits in memory until the command takes it, in the pieces that it needs.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use crate::line::inlet::{Inlet, Next};

/// A command's standard input.
#[derive(Debug, Default)]
pub struct Pipe {
    inlet: Inlet,
    gone: CancellationToken,
}

impl Pipe {
    /// Where it waits.
    pub fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    /// Puts bytes in; never waits. Tells how much waits now, in bytes of memory.
    pub fn push(&self, bytes: &[u8]) -> usize {
        self.inlet.put(Bytes::copy_from_slice(bytes));
        self.inlet.waiting()
    }

    /// Nobody is there any more, neither to send nor to read.
    pub fn cut(&self) {
        self.inlet.end();
        self.gone.cancel();
    }

    /// Ends when nobody is there any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

/// Takes a pipe's bytes out in the pieces that a command needs.
#[derive(Debug)]
pub(super) struct Reader {
    pipe: Arc<Pipe>,
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe, rest: Bytes::new() }
    }

    /// Something to take; false at the end.
    async fn fill(&mut self) -> bool {
        while self.rest.is_empty() {
            match self.pipe.inlet.next().await {
                Some(next) => self.rest = next,
                None => return false,
            }
        }
        true
    }

    /// One byte; nothing at the end.
    pub(super) async fn byte(&mut self) -> Option<u8> {
        if self.fill().await { self.rest.try_get_u8().ok() } else { None }
    }

    /// A line of at most `bytes_max`, without its newline; nothing when it does not come.
    pub(super) async fn line(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.byte().await? {
                b'\n' => return Some(line),
                _ if line.len() >= bytes_max => return None,
                byte => line.push(byte),
            }
        }
    }

    /// Between one and `bytes_max` bytes, as many as are there; nothing at the end.
    pub(super) async fn some(&mut self, bytes_max: usize) -> Option<Bytes> {
        if !self.fill().await {
            return None;
        }
        let first = self.rest.split_to(self.rest.len().min(bytes_max));
        let mut joined: Option<BytesMut> = None;
        while joined.as_ref().map_or(first.len(), BytesMut::len) < bytes_max {
            if self.rest.is_empty() {
                match self.pipe.inlet.try_next() {
                    Next::Piece(next) => self.rest = next,
                    // The end is told when it is all that is left.
                    Next::End | Next::Wait => break,
                }
            }
            let joined = joined.get_or_insert_with(|| {
                let mut all = BytesMut::with_capacity(bytes_max);
                all.extend_from_slice(&first);
                all
            });
            let more = self.rest.len().min(bytes_max - joined.len());
            joined.extend_from_slice(&self.rest.split_to(more));
        }
        Some(joined.map_or(first, BytesMut::freeze))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_pieces_come_out_however_they_went_in() {
        let pipe = Arc::new(Pipe::default());
        for packet in [&b"C0"[..], b"644 3 f\nab", b"c", b"\0rest"] {
            pipe.push(packet);
        }
        let mut reader = Reader::new(Arc::clone(&pipe));
        assert_eq!(reader.line(100).await.unwrap(), b"C0644 3 f");
        assert_eq!(reader.some(3).await.unwrap(), &b"abc"[..]);
        assert_eq!(reader.byte().await, Some(0));
        assert_eq!(reader.some(100).await.unwrap(), &b"rest"[..]);
        pipe.inlet().end();
        assert_eq!((reader.byte().await, reader.some(1).await), (None, None));
        assert_eq!((pipe.push(b"late"), pipe.inlet().waiting()), (0, 0), "nothing is kept after the end");
    }

    #[tokio::test]
    async fn a_line_that_does_not_end_is_given_up() {
        let pipe = Arc::new(Pipe::default());
        pipe.push(&[b'C'; 50]);
        assert_eq!(Reader::new(pipe).line(40).await, None);
    }
}
