//! Channels that this side closed first. russh keeps memory of each until its connection ends, and some clients wait for
//! the server to close (rclone, which opens a channel for each digest). So they are counted, and a connection that left
//! many behind ends: between two of its commands if it can, so that a client only connects again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{CHANNELS_LEFT_ALL, CHANNELS_LEFT_FAIR, CHANNELS_LEFT_MAX, CHANNELS_LEFT_SOFT};

/// What one connection left; given back when the connection ends.
#[derive(Debug)]
pub(super) struct Left {
    own: usize,
    all: Arc<AtomicUsize>,
}

impl Left {
    /// None of it; `all` counts those of every connection.
    pub(super) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { own: 0, all }
    }

    /// So many more.
    pub(super) fn add(&mut self, channels: usize) {
        self.own += channels;
        self.all.fetch_add(channels, Ordering::Relaxed);
    }

    /// Whether the connection is to end when it is between two commands.
    pub(super) fn is_many(&self) -> bool {
        self.own >= CHANNELS_LEFT_SOFT || self.passes(CHANNELS_LEFT_ALL)
    }

    /// Whether the connection is to end now.
    pub(super) fn is_too_many(&self) -> bool {
        self.own >= CHANNELS_LEFT_MAX || self.passes(2 * CHANNELS_LEFT_ALL)
    }

    /// More than a fair share of more than `all`.
    fn passes(&self, all: usize) -> bool {
        self.own >= CHANNELS_LEFT_FAIR && self.all.load(Ordering::Relaxed) >= all
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_may_leave_many_and_all_together_not_much_more() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut one = Left::new(Arc::clone(&all));
        one.add(CHANNELS_LEFT_SOFT - 1);
        assert!(!one.is_many());
        one.add(1);
        assert!(one.is_many() && !one.is_too_many());
        one.add(CHANNELS_LEFT_MAX);
        assert!(one.is_too_many());

        all.fetch_add(2 * CHANNELS_LEFT_ALL, Ordering::Relaxed);
        let mut other = Left::new(Arc::clone(&all));
        other.add(CHANNELS_LEFT_FAIR - 1);
        assert!(!other.is_many(), "a little is everybody's");
        other.add(1);
        assert!(other.is_many() && other.is_too_many());

        drop((one, other));
        assert_eq!(all.load(Ordering::Relaxed), 2 * CHANNELS_LEFT_ALL);
    }
}
