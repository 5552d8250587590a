//! A clock that a test turns.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicI64, Ordering};

use coffre_storage::time::{Clock, UnixNanos};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3600 * SECOND;

/// A clock that a test turns.
#[derive(Debug, Default)]
pub(crate) struct Dial(AtomicI64);

impl Dial {
    pub(crate) fn turn(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for Dial {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_700_000_000 * SECOND + self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}
