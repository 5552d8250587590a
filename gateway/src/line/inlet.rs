//! What a client sent on a channel and nobody has taken yet, in memory.
//!
//! The SSH session's own loop only puts in and never waits; it grants little window while much waits here, so that what
//! waits is bounded: each channel's share, and that of the whole process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Bytes that wait on all channels.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// What a waiting piece weighs besides its bytes: its place in the queue and its allocation.
const PIECE_WEIGHT: usize = 64;

/// Pieces of memory of their own size, in the order in which they came. One task takes them.
#[derive(Debug, Default)]
pub struct Inlet {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    weight: usize,
    ended: bool,
}

/// What is to be taken now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The oldest piece.
    Piece(Bytes),
    /// Nothing, and nothing will come.
    End,
    /// Nothing yet.
    Wait,
}

impl Inlet {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a piece in; never waits. After the end nothing is kept.
    pub fn put(&self, piece: Bytes) {
        let mut queue = self.lock();
        if queue.ended {
            return;
        }
        let weight = piece.len().saturating_add(PIECE_WEIGHT);
        queue.pieces.push_back(piece);
        queue.weight += weight;
        QUEUED.fetch_add(weight, Ordering::Relaxed);
        drop(queue);
        self.changed.notify_one();
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Bytes of memory that wait.
    pub fn waiting(&self) -> usize {
        self.lock().weight
    }

    /// Bytes that wait on every channel of the process.
    pub fn waiting_everywhere() -> usize {
        QUEUED.load(Ordering::Relaxed)
    }

    /// Takes a piece if one is there.
    pub fn try_next(&self) -> Next {
        let mut queue = self.lock();
        match queue.pieces.pop_front() {
            Some(piece) => {
                let weight = piece.len().saturating_add(PIECE_WEIGHT);
                queue.weight -= weight;
                QUEUED.fetch_sub(weight, Ordering::Relaxed);
                Next::Piece(piece)
            }
            None if queue.ended => Next::End,
            None => Next::Wait,
        }
    }

    /// The next piece; nothing at the end.
    pub async fn next(&self) -> Option<Bytes> {
        loop {
            match self.try_next() {
                Next::Piece(piece) => return Some(piece),
                Next::End => return None,
                Next::Wait => self.changed.notified().await,
            }
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.waiting(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_come_out_in_order_then_the_end_and_nothing_is_kept_after_it() {
        let inlet = Inlet::default();
        inlet.put(Bytes::from_static(b"one"));
        inlet.put(Bytes::from_static(b"two"));
        assert_eq!(inlet.waiting(), 6 + 2 * PIECE_WEIGHT);
        assert!(Inlet::waiting_everywhere() >= inlet.waiting());
        inlet.end();
        inlet.put(Bytes::from_static(b"late"));
        assert_eq!(inlet.next().await.unwrap(), &b"one"[..]);
        assert_eq!(inlet.next().await.unwrap(), &b"two"[..]);
        assert_eq!((inlet.next().await, inlet.waiting()), (None, 0));
    }

    #[test]
    fn nothing_there_is_not_the_end() {
        let inlet = Inlet::default();
        assert_eq!(inlet.try_next(), Next::Wait);
        inlet.end();
        assert_eq!(inlet.try_next(), Next::End);
    }
}
