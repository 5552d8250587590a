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

use super::least::Least;
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

    /// Whether it may not be as fast as it can.
    pub fn is_limited(&self) -> bool {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Pace::is_limited)
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
    /// What the other end must take while we wait for it.
    least: Option<Least>,
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
            least: None,
        }
    }

    /// The same, failing when the other end takes too little for too long of what is sent to it.
    #[must_use]
    pub fn with_readers_watched(mut self) -> Self {
        self.least = Some(Least::default());
        self
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
        let Poll::Ready(written) = Pin::new(&mut self.inner).poll_write(context, bytes) else {
            let Some(least) = &mut self.least else { return Poll::Pending };
            ready!(least.poll_too_slow(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        if let Ok(written) = &written {
            self.writing = self.rein.take(Way::Out, *written);
            if let Some(least) = &mut self.least {
                least.moved(*written);
            }
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
