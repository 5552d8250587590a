//! Who still works with what the index said at an earlier moment. A chunk that lost its last reference is forgotten only
//! when everybody who may have seen the reference is gone, and a pack is given up only when everybody who may have
//! staged frames in it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::CommitNumber;

/// Moments at which live readers and writers looked at the index.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    looked: Mutex<BTreeMap<CommitNumber, usize>>,
}

/// Somebody who looked at the index; until it is dropped or renewed, what the index said then is kept.
#[derive(Debug)]
pub(crate) struct Epoch {
    epochs: Arc<Epochs>,
    at: CommitNumber,
}

impl Epochs {
    pub(super) fn enter(self: &Arc<Self>, at: CommitNumber) -> Epoch {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner).entry(at).or_default() += 1;
        Epoch { epochs: Arc::clone(self), at }
    }

    /// The oldest look that somebody still works with.
    pub(super) fn oldest(&self) -> Option<CommitNumber> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let mut looked = self.epochs.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = looked.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                looked.remove(&self.at);
            }
        }
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
        let later = epochs.enter(CommitNumber(7));
        drop(first);
        assert_eq!(epochs.oldest(), Some(CommitNumber(3)));
        drop(again);
        assert_eq!(epochs.oldest(), Some(CommitNumber(7)));
        drop(later);
        assert_eq!(epochs.oldest(), None);
    }
}
