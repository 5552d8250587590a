//! One channel's bytes: what the client sent waits in an inbox until the dispatcher takes it; replies leave through the
//! channel's write half.
//!
//! The SSH session's own loop only pushes into the inbox and never waits (it would stop reading window adjustments, and
//! both sides would hang). The inbox is bounded by the window: the session grants little while it is above its mark.
//! The dispatcher takes no more requests while too many are in flight or their replies are not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::dispatch::{Dispatcher, Effect};
use super::wire::{self, WireError};
use crate::limits::{SFTP_IN_FLIGHT_BYTES_MAX, SFTP_IN_FLIGHT_MAX, SFTP_REPLY_BATCH_BYTES};

/// Bytes that the inboxes of all sessions hold.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// What a client sent and nobody has taken.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: BytesMut,
    ended: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts bytes in; never waits. Tells how many wait now.
    pub fn push(&self, bytes: &[u8]) -> usize {
        let mut queue = self.lock();
        if queue.ended {
            return 0;
        }
        queue.bytes.extend_from_slice(bytes);
        QUEUED.fetch_add(bytes.len(), Ordering::Relaxed);
        let waiting = queue.bytes.len();
        drop(queue);
        self.changed.notify_one();
        waiting
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait in every inbox of the process.
    pub fn queued_everywhere() -> usize {
        QUEUED.load(Ordering::Relaxed)
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    fn try_frame(&self) -> Result<Next, WireError> {
        let mut queue = self.lock();
        let before = queue.bytes.len();
        let frame = wire::next_frame(&mut queue.bytes)?;
        QUEUED.fetch_sub(before - queue.bytes.len(), Ordering::Relaxed);
        Ok(match frame {
            Some(frame) => Next::Frame(frame),
            None if queue.ended => Next::End,
            None => Next::Wait,
        })
    }

    /// The next whole frame; nothing at the end.
    async fn frame(&self) -> Result<Option<Bytes>, WireError> {
        loop {
            match self.try_frame()? {
                Next::Frame(frame) => return Ok(Some(frame)),
                Next::End => return Ok(None),
                Next::Wait => self.changed.notified().await,
            }
        }
    }
}

enum Next {
    Frame(Bytes),
    End,
    Wait,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.len(), Ordering::Relaxed);
    }
}

/// Bytes of one connection.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client.
    pub received: AtomicU64,
    /// To the client.
    pub sent: AtomicU64,
}

/// Serves a channel until the client ends it, breaks the protocol, or `ended` fires. Files that are still open then are
/// committed as broken when the dispatcher goes.
pub async fn serve(
    mut dispatcher: Dispatcher,
    inbox: Arc<Inbox>,
    channel: ChannelWriteHalf<Msg>,
    traffic: Arc<Traffic>,
    (ended, drain): (CancellationToken, CancellationToken),
) {
    let (replies, outbox) = mpsc::channel(SFTP_IN_FLIGHT_MAX);
    let writer = tokio::spawn(write_replies(channel, outbox, traffic));
    let outcome = tokio::select! {
        () = ended.cancelled() => Ok(()),
        outcome = converse(&mut dispatcher, &inbox, &replies, &drain) => outcome,
    };
    inbox.end();
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
    replies: &mpsc::Sender<Bytes>,
    drain: &CancellationToken,
) -> Result<(), WireError> {
    // Answers leave in the order of their requests: OpenSSH 9.2 cuts a download short, without an error, at the place
    // where it saw the first answer out of order.
    let mut running = FuturesOrdered::new();
    let mut held: usize = 0;
    let mut open = true;
    loop {
        let draining = drain.is_cancelled() && dispatcher.is_idle();
        if running.is_empty() && (!open || draining) {
            return Ok(());
        }
        let room = open && !draining && running.len() < SFTP_IN_FLIGHT_MAX && held < SFTP_IN_FLIGHT_BYTES_MAX;
        tokio::select! {
            Some((reply, bytes)) = running.next(), if !running.is_empty() => {
                held = held.saturating_sub(bytes);
                // The writer is gone with its client: what runs still ends, its replies are nobody's.
                drop(replies.send(reply).await);
            }
            frame = inbox.frame(), if room => match frame? {
                None => open = false,
                Some(frame) => match dispatcher.accept(wire::parse(frame)?)? {
                    Effect::Reply(reply) => drop(replies.send(reply).await),
                    Effect::Run(work, bytes) => {
                        held = held.saturating_add(bytes);
                        running.push_back(async move { (work.await, bytes) });
                    }
                },
            },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}

/// Sends replies, small ones together; gives the channel back at the end.
async fn write_replies(
    channel: ChannelWriteHalf<Msg>,
    mut outbox: mpsc::Receiver<Bytes>,
    traffic: Arc<Traffic>,
) -> Option<ChannelWriteHalf<Msg>> {
    while let Some(first) = outbox.recv().await {
        let mut batch = first;
        if batch.len() < SFTP_REPLY_BATCH_BYTES {
            if let Ok(second) = outbox.try_recv() {
                let mut joined = BytesMut::with_capacity(SFTP_REPLY_BATCH_BYTES);
                joined.extend_from_slice(&batch);
                joined.extend_from_slice(&second);
                while joined.len() < SFTP_REPLY_BATCH_BYTES {
                    match outbox.try_recv() {
                        Ok(next) => joined.extend_from_slice(&next),
                        Err(_) => break,
                    }
                }
                batch = joined.freeze();
            }
        }
        traffic.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
        channel.data_bytes(batch).await.ok()?;
    }
    Some(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_whole_and_the_end_is_told() {
        let inbox = Inbox::default();
        inbox.push(&[0, 0, 0, 5, 1, 0]);
        assert!(matches!(inbox.try_frame(), Ok(Next::Wait)));
        inbox.push(&[0, 0, 3]);
        assert_eq!(inbox.frame().await.unwrap().unwrap().as_ref(), [1, 0, 0, 0, 3]);
        inbox.end();
        assert_eq!(inbox.frame().await, Ok(None));
        assert_eq!(inbox.push(&[1; 10]), 0, "nothing is kept after the end");
    }
}
