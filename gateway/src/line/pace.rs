//! Bandwidth: bytes that move are paid for in time. A bucket knows until when what moved is paid; whoever moved bytes rests
//! until then, so that the other end feels it as a slow line and nothing piles up.
//!
//! Time is a parameter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::PACE_BURST;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// What moves one way, at so many bytes a second.
#[derive(Debug)]
struct Bucket {
    paid_until: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Takes note of bytes that moved; tells how long to rest.
    fn take(&self, bytes: u64, rate: u64, now: Instant) -> Duration {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Who was still for a while may be quick for a moment.
        let earliest = now.checked_sub(PACE_BURST).unwrap_or(now);
        let from = paid_until.map_or(earliest, |until| until.max(earliest));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let until = from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2));
        *paid_until = Some(until);
        until.saturating_duration_since(now)
    }
}

/// What all sessions of a user, or of a customer, share: each way as many bytes a second.
#[derive(Debug)]
pub struct Lanes {
    rate: AtomicU64,
    ways: [Bucket; 2],
}

impl Lanes {
    /// For so many bytes a second each way.
    pub fn new(rate: u64) -> Self {
        let bucket = || Bucket { paid_until: Mutex::default() };
        Self { rate: AtomicU64::new(rate), ways: [bucket(), bucket()] }
    }

    /// Another rate from now on.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    fn take(&self, way: Way, bytes: u64, now: Instant) -> Duration {
        let [into, out] = &self.ways;
        let bucket = match way {
            Way::In => into,
            Way::Out => out,
        };
        bucket.take(bytes, self.rate.load(Ordering::Relaxed), now)
    }
}

/// The lanes that a session goes through: none when nothing is limited.
#[derive(Debug, Clone, Default)]
pub struct Pace(Vec<Arc<Lanes>>);

impl Pace {
    /// Through all of these.
    pub fn new(lanes: Vec<Arc<Lanes>>) -> Self {
        Self(lanes)
    }

    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes note of bytes that moved; tells how long to rest before more move.
    pub fn take(&self, way: Way, bytes: u64, now: Instant) -> Duration {
        self.0.iter().map(|lanes| lanes.take(way, bytes, now)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_no_more_moves_than_the_rate() {
        let (lanes, start) = (Lanes::new(1000), Instant::now());
        let mut now = start;
        for _ in 0..100 {
            now += lanes.take(Way::Out, 100, now);
        }
        let took = now.duration_since(start) + PACE_BURST;
        assert_eq!(took, Duration::from_secs(10));
    }

    #[test]
    fn sessions_share_a_rate_and_the_ways_do_not() {
        let (lanes, now) = (Arc::new(Lanes::new(1000)), Instant::now());
        let (one, other) = (Pace::new(vec![Arc::clone(&lanes)]), Pace::new(vec![lanes]));
        let first = one.take(Way::In, 1000, now);
        assert_eq!(other.take(Way::In, 1000, now), first + Duration::from_secs(1));
        assert_eq!(one.take(Way::Out, 1000, now), first);
    }

    #[test]
    fn the_tighter_of_two_counts_and_none_is_no_limit() {
        let now = Instant::now();
        let both = Pace::new(vec![Arc::new(Lanes::new(1000)), Arc::new(Lanes::new(10))]);
        assert!(both.take(Way::In, 100, now) > Duration::from_secs(9));
        assert_eq!(Pace::default().take(Way::In, u64::MAX, now), Duration::ZERO);
    }
}
