//! The socket under a connection: reads in large pieces, rests as its session's pace asks, and fails at once when it is cut.
//!
//! russh reads a packet's length and body separately; the buffer halves its system calls. A session that waits for its
//! socket forever (a client that neither reads nor writes) ends because cutting makes every read and write fail.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::pace::{Pace, Way};
use crate::limits::READ_BUFFER_BYTES;

/// How fast a connection may be: known once somebody has logged in on it.
#[derive(Debug, Default)]
pub struct Rein {
    pace: Mutex<Option<Pace>>,
}

impl Rein {
    /// From now on.
    pub fn set(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace);
    }

    fn take(&self, way: Way, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rest = pace.as_ref()?.take(way, bytes as u64, now);
        (!rest.is_zero()).then(|| Box::pin(tokio::time::sleep_until(now + rest)))
    }
}

/// A socket that can be cut and held back.
#[derive(Debug)]
pub struct Line {
    inner: BufReader<TcpStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    rein: Arc<Rein>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Line {
    /// `cut` ends it, `rein` says how fast it may be.
    pub fn new(inner: TcpStream, cut: CancellationToken, rein: Arc<Rein>) -> Self {
        Self {
            inner: BufReader::with_capacity(READ_BUFFER_BYTES, inner),
            cut: Box::pin(cut.cancelled_owned()),
            rein,
            reading: None,
            writing: None,
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// Waits out a rest.
fn rested(rest: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = rest {
        ready!(sleep.as_mut().poll(context));
        *rest = None;
    }
    Poll::Ready(())
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        ready!(rested(&mut self.reading, context));
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        self.reading = self.rein.take(Way::In, buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        ready!(rested(&mut self.writing, context));
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes));
        if let Ok(written) = &written {
            self.writing = self.rein.take(Way::Out, *written);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
