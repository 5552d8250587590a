//! The bounds on what all open files of a store hold unsaved in memory: bytes, and extents.
//!
//! Invariant: the sum of all shares is at most the limit and one write of each writer: who finds the sum above the limit
//! stages what its own file holds before it takes anything else, so nobody waits for another file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all open files hold together.
#[derive(Debug)]
pub(crate) struct Unsaved {
    held: AtomicUsize,
    held_max: usize,
}

impl Unsaved {
    pub(crate) fn new(held_max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), held_max })
    }
}

/// What one open file holds of it; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arc<Unsaved>,
    held: usize,
}

impl Share {
    pub(crate) fn new(all: &Arc<Unsaved>) -> Self {
        Self { all: Arc::clone(all), held: 0 }
    }

    /// The file holds so much now.
    pub(crate) fn set(&mut self, held: usize) {
        let before = std::mem::replace(&mut self.held, held);
        if held >= before {
            self.all.held.fetch_add(held - before, Ordering::Relaxed);
        } else {
            self.all.held.fetch_sub(before - held, Ordering::Relaxed);
        }
    }

    /// Whether all files together hold more than they may, and this one some of it.
    pub(crate) fn is_over(&self) -> bool {
        self.held > 0 && self.all.held.load(Ordering::Relaxed) > self.all.held_max
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
        assert_eq!(all.held.load(Ordering::Relaxed), 0);
    }
}
