//! Who still works with what the index said at an earlier moment. A chunk that lost its last reference is forgotten only
//! when everybody who may have seen the reference is gone, and a pack is given up only when everybody who may have
//! staged frames in it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::CommitNumber;

/// The looks at the index that somebody still works with, in order.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Look,
    looks: BTreeMap<Look, CommitNumber>,
}

/// The place of a look among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look(u64);

/// Somebody who looked at the index; until it is dropped or renewed, what the index said then is kept.
#[derive(Debug)]
pub(crate) struct Epoch {
    epochs: Arc<Epochs>,
    look: Look,
}

impl Epochs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looks from now on; `at` is the newest transaction, or an older one.
    pub(super) fn enter(self: &Arc<Self>, at: CommitNumber) -> Epoch {
        let mut state = self.lock();
        let look = state.next;
        state.next = Look(look.0 + 1);
        state.looks.insert(look, at);
        Epoch { epochs: Arc::clone(self), look }
    }

    /// The oldest transaction at which somebody looked who still works with it.
    pub(super) fn oldest(&self) -> Option<CommitNumber> {
        self.lock().looks.values().min().copied()
    }

    /// The present: looks that begin later are not before it.
    pub(super) fn now(&self) -> Look {
        self.lock().next
    }

    /// Whether everybody who looked before is gone.
    pub(super) fn all_gone_before(&self, then: Look) -> bool {
        self.lock().looks.keys().next().is_none_or(|oldest| *oldest >= then)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.epochs.lock().looks.remove(&self.look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_look_counts_until_all_who_share_it_are_gone() {
        let epochs = Arc::new(Epochs::default());
        assert_eq!(epochs.oldest(), None);
        let first = epochs.enter(CommitNumber(3));
        let again = epochs.enter(CommitNumber(3));
        let between = epochs.now();
        let later = epochs.enter(CommitNumber(3));
        drop(first);
        assert_eq!(epochs.oldest(), Some(CommitNumber(3)));
        assert!(!epochs.all_gone_before(between));
        drop(again);
        assert!(epochs.all_gone_before(between), "the one who came later does not count");
        drop(later);
        assert_eq!(epochs.oldest(), None);
    }
}
