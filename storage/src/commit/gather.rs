//! Whether a batch that somebody waits for stays open a little longer. Writers that each wait for their own change fall into
//! two halves: one prepares while the other's sync runs, and each change costs twice the syncs that it needs. Where a sync
//! takes longer than those who were just answered need to come back, to wait for them is faster for everybody.
//!
//! The wait is never longer than half a sync, ends when all have come, and is not tried again for a while when they do not
//! come in time: they have nothing more to write, or the disk is faster than they are. One writer alone waits for nobody.

use std::time::Duration;

/// Batches that are closed at once after a wait that was in vain.
const PAUSE_BATCHES: u32 = 32;
/// Of the mean sync, one sync counts this part.
const SYNC_SHARE: u32 = 8;

/// What the committer remembers of its last batches.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How many waited for the last batch.
    answered: usize,
    sync_mean: Duration,
    pause: u32,
}

/// For how many, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hope {
    /// When so many wait, all have come.
    pub(super) waiting: usize,
    /// At most.
    pub(super) longest: Duration,
}

impl Gather {
    /// A batch is durable: so many waited for it, and its sync took so long.
    pub(super) fn answered(&mut self, waiting: usize, sync: Duration) {
        self.answered = waiting;
        self.sync_mean = (self.sync_mean * (SYNC_SHARE - 1) + sync) / SYNC_SHARE;
        self.pause = self.pause.saturating_sub(1);
    }

    /// For whom a batch is held open: those who were answered last may come back, and `early` waited for it already then, so
    /// they are others.
    pub(super) fn hope(&self, early: usize) -> Option<Hope> {
        (self.answered > 0 && self.pause == 0)
            .then(|| Hope { waiting: early + self.answered, longest: self.sync_mean / 2 })
    }

    /// The batch is closed: so many wait for it.
    pub(super) fn ended(&mut self, hope: Hope, waiting: usize) {
        if waiting < hope.waiting {
            self.pause = PAUSE_BATCHES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_millis(8);

    fn after_syncs(waiting: usize) -> Gather {
        let mut gather = Gather::default();
        (0..100).for_each(|_| gather.answered(waiting, SYNC));
        gather
    }

    #[test]
    fn one_writer_alone_is_never_held_up() {
        // Its next change can only come after the last one was answered.
        assert_eq!(after_syncs(1).hope(0).unwrap().waiting, 1);
    }

    #[test]
    fn two_halves_become_one_batch() {
        let hope = after_syncs(4).hope(4).unwrap();
        assert_eq!(hope.waiting, 8);
        assert!(hope.longest <= SYNC / 2 && hope.longest > SYNC / 4, "{hope:?}");
        let mut gather = after_syncs(4);
        gather.ended(hope, 8);
        gather.answered(8, SYNC);
        assert_eq!(gather.hope(0).unwrap().waiting, 8, "and stay one");
    }

    #[test]
    fn those_who_do_not_come_back_are_waited_for_only_now_and_then() {
        let mut gather = after_syncs(4);
        let (mut held, mut batches) = (0, 0);
        for _ in 0..1000 {
            batches += 1;
            if let Some(hope) = gather.hope(4) {
                held += 1;
                gather.ended(hope, 4);
            }
            gather.answered(4, SYNC);
        }
        assert!(held > 0 && held * PAUSE_BATCHES <= batches + PAUSE_BATCHES, "{held} of {batches}");
    }
}
