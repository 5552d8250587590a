//! The bound on what all open files of a store hold unsaved in memory.
//!
//! Invariant: the sum of all shares is at most the limit and one write of each writer: who finds the sum above the limit
//! stages what its own file holds before it takes anything else, so nobody waits for another file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all open files hold together.
#[derive(Debug)]
pub(crate) struct Unsaved {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Unsaved {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max })
    }
}

/// What one open file holds of it; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arc<Unsaved>,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(all: &Arc<Unsaved>) -> Self {
        Self { all: Arc::clone(all), bytes: 0 }
    }

    /// The file holds so much now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let held = std::mem::replace(&mut self.bytes, bytes);
        if bytes >= held {
            self.all.bytes.fetch_add(bytes - held, Ordering::Relaxed);
        } else {
            self.all.bytes.fetch_sub(held - bytes, Ordering::Relaxed);
        }
    }

    /// Whether all files together hold more than they may, and this one some of it.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes > 0 && self.all.bytes.load(Ordering::Relaxed) > self.all.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let all = Unsaved::new(100);
        let (mut one, mut two) = (Share::new(&all), Share::new(&all));
        one.set(60);
        two.set(40);
        assert!(!one.is_over() && !two.is_over(), "just as much as there may be");
        two.set(41);
        assert!(one.is_over() && two.is_over());
        one.set(0);
        assert!(!one.is_over() && !two.is_over());
        drop((one, two));
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
