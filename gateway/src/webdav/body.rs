//! A request's body as it comes in: who trickles is cut off, and is told so.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::line::least::Least;
use crate::line::stream::Rein;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection, or what was sent on it.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// Too little came for too long.
    #[error("the body comes too slowly")]
    TooSlow,
}

/// Whether a request's body was cut off because it trickled.
#[derive(Debug, Clone, Default)]
pub struct Trickled(Arc<AtomicBool>);

impl Trickled {
    /// Whether it was.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct Incoming {
    inner: hyper::body::Incoming,
    least: Least,
    rein: Arc<Rein>,
    trickled: Trickled,
}

impl Incoming {
    /// The body that hyper gives, on a connection with this rein.
    pub fn new(inner: hyper::body::Incoming, rein: Arc<Rein>, trickled: Trickled) -> Self {
        Self { inner, least: Least::default(), rein, trickled }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    self.least.moved(data.len());
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            // The sender may not send faster: that is not its fault.
            Poll::Pending if self.rein.is_limited() => Poll::Pending,
            Poll::Pending => {
                ready!(self.least.poll_too_slow(context));
                self.trickled.0.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
