//! One channel's bytes: what the client sent waits in an inbox until the dispatcher takes it; replies leave through the
//! channel's write half.
//!
//! The SSH session's own loop only pushes into the inbox and never waits (it would stop reading window adjustments, and
//! both sides would hang). The inbox is bounded by the window: the session grants little while it is above its mark.
//! A request holds its place and its bytes, with those of its answer, until the answer is with the transport; no more is
//! taken while too much is held, so a client that does not read its answers stops itself. What runs is never held up
//! by what leaves: nobody else waits for a client that does not read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::dispatch::{Dispatcher, Effect};
use super::order::{Order, Slot};
use super::wire::{self, Assembly, WireError};
use crate::limits::{SFTP_IN_FLIGHT_BYTES_MAX, SFTP_IN_FLIGHT_MAX, SFTP_REPLY_BATCH_BYTES};
use crate::line::inlet::Inlet;
use crate::session::Traffic;

/// What a client sent and nobody has taken: whole frames.
#[derive(Debug, Default)]
pub struct Inbox {
    frames: Inlet,
    coming: Mutex<Coming>,
}

/// The frame that is coming in, and the framing error after which none comes.
#[derive(Debug, Default)]
struct Coming {
    frame: Assembly,
    broken: Option<WireError>,
}

impl Inbox {
    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where whole frames wait.
    pub fn inlet(&self) -> &Inlet {
        &self.frames
    }

    /// Puts bytes in; never waits. Tells how much waits now, in bytes of memory.
    pub fn push(&self, mut bytes: &[u8]) -> usize {
        if self.frames.has_ended() {
            return 0;
        }
        let mut coming = self.coming();
        while !bytes.is_empty() && coming.broken.is_none() {
            match coming.frame.feed(&mut bytes) {
                Ok(Some(frame)) => self.frames.put(frame),
                Ok(None) => {}
                Err(error) => {
                    coming.broken = Some(error);
                    self.frames.end();
                }
            }
        }
        self.frames.waiting()
    }

    /// The next whole frame; nothing at the end.
    async fn frame(&self) -> Result<Option<Bytes>, WireError> {
        match (self.frames.next().await, self.coming().broken) {
            (Some(frame), _) => Ok(Some(frame)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }
}

/// A request under way: where its answer leaves, the answer, and what both hold.
type Answering = Pin<Box<dyn Future<Output = (Slot, Bytes, Hold)> + Send>>;

/// What the requests of a channel hold whose answers have not left.
#[derive(Debug, Default)]
struct Held {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    less: Notify,
}

impl Held {
    /// A request's share, with its answer's.
    fn hold(self: &Arc<Self>, bytes: usize) -> Hold {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Hold { held: Arc::clone(self), bytes }
    }

    fn is_full(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= SFTP_IN_FLIGHT_MAX
            || self.bytes.load(Ordering::Relaxed) >= SFTP_IN_FLIGHT_BYTES_MAX
    }
}

/// One request's share, given back on drop.
#[derive(Debug)]
struct Hold {
    held: Arc<Held>,
    bytes: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.requests.fetch_sub(1, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.held.less.notify_one();
    }
}

/// Answers on their way to the transport. There is room for every request that a channel may hold.
type Replies = mpsc::Sender<(Bytes, Hold)>;

/// Serves a channel until the client ends it, breaks the protocol, or `ended` fires. Files that are still open then are
/// committed as broken when the dispatcher goes. It holds a share of `under_way` while a request runs or anything is open.
pub async fn serve(
    mut dispatcher: Dispatcher,
    inbox: Arc<Inbox>,
    channel: ChannelWriteHalf<Msg>,
    (traffic, under_way): (Arc<Traffic>, Weak<()>),
    (ended, drain): (CancellationToken, CancellationToken),
) {
    let (replies, outbox) = mpsc::channel(SFTP_IN_FLIGHT_MAX);
    let writer = tokio::spawn(write_replies(channel, outbox, traffic));
    let outcome = tokio::select! {
        () = ended.cancelled() => Ok(()),
        outcome = converse(&mut dispatcher, &inbox, &replies, (&drain, under_way)) => outcome,
    };
    inbox.inlet().end();
    drop(replies);
    if let Err(error) = outcome {
        tracing::info!(%error, "an SFTP channel was closed");
    }
    // The last replies go out; a client that does not read them does not hold the files.
    drop(dispatcher);
    let polite = async {
        if let Ok(Some(channel)) = writer.await {
            let status = u32::from(outcome.is_err());
            drop(channel.exit_status(status).await);
            drop(channel.eof().await);
            drop(channel.close().await);
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = polite => {}
    }
}

async fn converse(
    dispatcher: &mut Dispatcher,
    inbox: &Inbox,
    replies: &Replies,
    (drain, under_way): (&CancellationToken, Weak<()>),
) -> Result<(), WireError> {
    let mut running = FuturesUnordered::<Answering>::new();
    let mut order = Order::default();
    let in_flight = Arc::new(Held::default());
    let mut open = true;
    // The writer may be gone with its client: what runs still ends, its answers are nobody's.
    let leave = |answer| drop(replies.try_send(answer));
    let mut working = None;
    loop {
        let idle = running.is_empty() && dispatcher.is_idle();
        working = if idle { None } else { working.or_else(|| under_way.upgrade()) };
        let draining = drain.is_cancelled() && dispatcher.is_idle();
        if running.is_empty() && (!open || draining) {
            return Ok(());
        }
        let full = in_flight.is_full();
        let room = open && !draining && !full;
        tokio::select! {
            Some((slot, answer, hold)) = running.next(), if !running.is_empty() => {
                order.done(slot, (answer, hold), leave);
            }
            () = in_flight.less.notified(), if full => {}
            frame = inbox.frame(), if room => match frame? {
                None => open = false,
                Some(frame) => {
                    let bytes = frame.len();
                    match dispatcher.accept(wire::parse(frame)?)? {
                        Effect::Reply(reply) => leave((reply, in_flight.hold(bytes))),
                        Effect::Run { work, lane, answer_bytes_max } => {
                            let (slot, hold) = (order.slot(lane), in_flight.hold(bytes + answer_bytes_max));
                            running.push(Box::pin(async move { (slot, work.await, hold) }));
                        }
                    }
                }
            },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}

/// Sends replies, small ones together; gives the channel back at the end.
async fn write_replies(
    channel: ChannelWriteHalf<Msg>,
    mut outbox: mpsc::Receiver<(Bytes, Hold)>,
    traffic: Arc<Traffic>,
) -> Option<ChannelWriteHalf<Msg>> {
    while let Some((first, hold)) = outbox.recv().await {
        let (mut batch, mut holds) = (first, vec![hold]);
        if batch.len() < SFTP_REPLY_BATCH_BYTES {
            let mut joined: Option<BytesMut> = None;
            while joined.as_ref().map_or(batch.len(), BytesMut::len) < SFTP_REPLY_BATCH_BYTES {
                let Ok((next, hold)) = outbox.try_recv() else { break };
                joined.get_or_insert_with(|| BytesMut::from(&batch[..])).extend_from_slice(&next);
                holds.push(hold);
            }
            batch = joined.map_or(batch, BytesMut::freeze);
        }
        traffic.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
        channel.data_bytes(batch).await.ok()?;
    }
    Some(channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::inlet::Next;

    #[tokio::test]
    async fn frames_come_out_whole_and_the_end_is_told() {
        let inbox = Inbox::default();
        inbox.push(&[0, 0, 0, 5, 1, 0]);
        assert_eq!(inbox.inlet().try_next(), Next::Wait);
        inbox.push(&[0, 0, 3]);
        assert_eq!(inbox.frame().await.unwrap().unwrap().as_ref(), [1, 0, 0, 0, 3]);
        inbox.inlet().end();
        assert_eq!(inbox.frame().await, Ok(None));
        assert_eq!(inbox.push(&[1; 10]), 0, "nothing is kept after the end");
    }
}
