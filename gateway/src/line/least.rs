//! The least that a peer must move while we wait for it: who trickles holds a connection and its buffers for nothing.
//!
//! Only time in which we wait for the peer counts: not our own work, not the rests that its pace asks of us. A window of
//! waiting in which too little moved is the end; a slow peer that goes on fills each window.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::{LEAST_BYTES, LEAST_WINDOW};

/// What moved one way, and the wait that we are in.
#[derive(Debug, Default)]
pub struct Least {
    window: Window,
    waiting: Option<Waiting>,
}

/// How long we have waited since it began, and what came meanwhile.
#[derive(Debug, Default)]
struct Window {
    waited: Duration,
    moved: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Window {
    /// How much longer it is.
    fn left(&self) -> Duration {
        LEAST_WINDOW.saturating_sub(self.waited)
    }

    /// Bytes moved after such a wait. It begins with a wait: what moved before is no credit for who stops then.
    fn moved(&mut self, bytes: u64, wait: Duration) {
        self.waited = self.waited.saturating_add(wait);
        if !self.waited.is_zero() {
            self.moved = self.moved.saturating_add(bytes);
        }
    }

    /// It is over: whether too little moved in it. The next one begins.
    fn is_too_little(&mut self) -> bool {
        std::mem::take(self).moved < LEAST_BYTES
    }
}

impl Least {
    /// Bytes moved; we wait no longer.
    pub fn moved(&mut self, bytes: usize) {
        let waiting = self.waiting.take();
        let wait = waiting.map_or(Duration::ZERO, |waiting| waiting.since.elapsed());
        self.window.moved(bytes as u64, wait);
    }

    /// Nothing moves now; ready once the peer was too slow. Wakes the task when that is to be asked again.
    pub fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = self.window.left();
            let waiting = self.waiting.get_or_insert_with(|| {
                let since = Instant::now();
                Waiting { since, timer: Box::pin(tokio::time::sleep_until(since + left)) }
            });
            ready!(waiting.timer.as_mut().poll(context));
            self.waiting = None;
            if self.window.is_too_little() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Moves so many bytes after each wait, until they are too few or `count` waits are over; how long it lived.
    fn lived(bytes: u64, wait: Duration, count: u32) -> Duration {
        let mut window = Window::default();
        for number in 0..count {
            if window.left() <= wait && window.is_too_little() {
                return wait * (number + 1);
            }
            window.moved(bytes, wait);
        }
        wait * count
    }

    #[test]
    fn a_byte_now_and_then_is_the_end_after_one_window() {
        assert_eq!(lived(1, SECOND, 10_000), LEAST_WINDOW);
        assert_eq!(lived(1, LEAST_WINDOW / 2, 10_000), LEAST_WINDOW);
    }

    #[test]
    fn who_is_slow_and_goes_on_lives() {
        let a_second = LEAST_BYTES / LEAST_WINDOW.as_secs() + 1;
        assert_eq!(lived(a_second, SECOND, 5000), SECOND * 5000);
        assert_eq!(lived(a_second * 60, SECOND * 59, 500), SECOND * 59 * 500, "in bursts too");
    }

    #[test]
    fn who_stops_after_much_is_given_one_window() {
        let mut window = Window::default();
        window.moved(u64::MAX, Duration::ZERO);
        assert_eq!(window.left(), LEAST_WINDOW);
        assert!(window.is_too_little());
    }

    #[test]
    fn our_own_work_is_not_the_peers_time() {
        let mut window = Window::default();
        for _ in 0..1000 {
            window.moved(1, Duration::ZERO);
        }
        assert_eq!(window.left(), LEAST_WINDOW);
    }
}
