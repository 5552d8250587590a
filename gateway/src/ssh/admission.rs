//! How many connections there may be: a cap on all, a softer and a harder one on those that have not logged in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::left::Left;
use crate::limits::{UNAUTHENTICATED_MAX, UNAUTHENTICATED_SOFT};

/// The counters of a listener.
#[derive(Debug, Default)]
pub(super) struct Admission {
    all: AtomicUsize,
    unauthenticated: AtomicUsize,
    left: Arc<AtomicUsize>,
}

/// One admitted connection; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    counters: Arc<Admission>,
    authenticated: bool,
}

/// Whether a new connection may come in beside `waiting` others that have not logged in; `dice` is a random byte.
fn admits(waiting: usize, dice: u8) -> bool {
    match waiting {
        waiting if waiting >= UNAUTHENTICATED_MAX => false,
        waiting if waiting < UNAUTHENTICATED_SOFT => true,
        // From 30 % refused at the soft mark to all at the hard one.
        waiting => {
            let span = UNAUTHENTICATED_MAX - UNAUTHENTICATED_SOFT;
            let refused = 77 + (waiting - UNAUTHENTICATED_SOFT) * 179 / span;
            usize::from(dice) >= refused
        }
    }
}

impl Admission {
    /// Counts a connection in, or refuses it.
    pub(super) fn admit(self: &Arc<Self>, connections_max: usize) -> Option<Admitted> {
        let mut dice = [0];
        getrandom::fill(&mut dice).ok()?;
        if self.all.load(Ordering::Acquire) >= connections_max {
            return None;
        }
        let [dice] = dice;
        if !admits(self.unauthenticated.load(Ordering::Acquire), dice) {
            return None;
        }
        self.all.fetch_add(1, Ordering::AcqRel);
        self.unauthenticated.fetch_add(1, Ordering::AcqRel);
        Some(Admitted { counters: Arc::clone(self), authenticated: false })
    }

    /// Counts what a new connection leaves behind.
    pub(super) fn left(&self) -> Left {
        Left::new(Arc::clone(&self.left))
    }

    /// Connections now.
    pub(super) fn connections(&self) -> usize {
        self.all.load(Ordering::Acquire)
    }
}

impl Admitted {
    /// It has logged in.
    pub(super) fn authenticated(&mut self) {
        if !std::mem::replace(&mut self.authenticated, true) {
            self.counters.unauthenticated.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.authenticated();
        self.counters.all.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_come_in_many_come_in_by_chance_too_many_do_not() {
        assert!(admits(UNAUTHENTICATED_SOFT - 1, 0));
        assert!(!admits(UNAUTHENTICATED_SOFT, 0) && admits(UNAUTHENTICATED_SOFT, 255));
        assert!(!admits(UNAUTHENTICATED_MAX, 255));
    }

    #[test]
    fn a_connection_is_counted_until_it_ends() {
        let admission = Arc::new(Admission::default());
        let mut one = admission.admit(1).unwrap();
        assert!(admission.admit(1).is_none());
        one.authenticated();
        assert_eq!(admission.unauthenticated.load(Ordering::Acquire), 0);
        drop(one);
        assert!(admission.admit(1).is_some());
        assert_eq!(admission.unauthenticated.load(Ordering::Acquire), 0);
    }
}
