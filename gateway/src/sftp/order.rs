//! Which finished answers may leave, and when.
//!
//! Invariant: the answers to the READs of one handle leave in the order of these READs; every other answer leaves as soon as
//! it is there. Clients find answers by their number (draft-ietf-secsh-filexfer-02 section 6.1), with one exception that
//! was found by trying: OpenSSH's scp, which writes in place, ends a download by cutting the file where the first
//! answer out of order came, and calls that success (9.2, `do_download`).

use std::collections::{HashMap, VecDeque};

/// A row of answers that leave in order: one for the READs of each handle.
pub type LaneKey = u64;

/// The place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It leaves when it is there.
    Free,
    /// It leaves after those of its lane that were asked for before.
    InLane(LaneKey, u64),
}

/// Answers that wait for earlier ones.
#[derive(Debug)]
pub struct Order<T> {
    lanes: HashMap<LaneKey, Lane<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    /// The number of the first that has not left.
    first: u64,
    /// From the first on: there, or not yet.
    answers: VecDeque<Option<T>>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new() }
    }
}

impl<T> Order<T> {
    /// A place behind all that are held in a lane, or one that needs no waiting.
    pub fn slot(&mut self, lane: Option<LaneKey>) -> Slot {
        let Some(key) = lane else { return Slot::Free };
        let lane = self.lanes.entry(key).or_insert_with(|| Lane { first: 0, answers: VecDeque::new() });
        lane.answers.push_back(None);
        Slot::InLane(key, lane.first + (lane.answers.len() as u64 - 1))
    }

    /// An answer is there: gives `leave` all that may leave now.
    pub fn done(&mut self, slot: Slot, answer: T, mut leave: impl FnMut(T)) {
        let (key, number) = match slot {
            Slot::Free => return leave(answer),
            Slot::InLane(key, number) => (key, number),
        };
        let Some(lane) = self.lanes.get_mut(&key) else { return leave(answer) };
        let place = usize::try_from(number.saturating_sub(lane.first)).ok();
        if let Some(place) = place.and_then(|place| lane.answers.get_mut(place)) {
            *place = Some(answer);
        }
        while let Some(Some(_)) = lane.answers.front() {
            lane.first += 1;
            lane.answers.pop_front().flatten().into_iter().for_each(&mut leave);
        }
        if lane.answers.is_empty() {
            self.lanes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_of_a_lane_leave_in_order_and_others_at_once() {
        let (mut order, mut left) = (Order::default(), Vec::new());
        let slots = [Some(1), None, Some(1), Some(2), Some(1)].map(|lane| order.slot(lane));
        for at in [4, 1, 2, 3, 0] {
            order.done(slots[at], at, |answer| left.push(answer));
        }
        assert_eq!(left, [1, 3, 0, 2, 4]);
        assert!(order.lanes.is_empty(), "a lane goes with its last answer");
    }

    proptest! {
        #[test]
        fn every_answer_leaves_once_and_lanes_keep_their_order(
            requests in proptest::collection::vec((proptest::option::of(0_u64..4), any::<u16>()), 0..64)
        ) {
            let (mut order, mut left) = (Order::default(), Vec::new());
            let mut finishing: Vec<(u16, usize, Slot)> = requests
                .iter()
                .enumerate()
                .map(|(at, (lane, when))| (*when, at, order.slot(*lane)))
                .collect();
            finishing.sort_by_key(|(when, at, _)| (*when, *at));
            for (_, at, slot) in finishing {
                order.done(slot, at, |answer| left.push(answer));
            }
            for lane in 0..4 {
                let of_lane: Vec<usize> =
                    left.iter().copied().filter(|at| requests[*at].0 == Some(lane)).collect();
                prop_assert!(of_lane.is_sorted());
            }
            left.sort_unstable();
            prop_assert_eq!(left, (0..requests.len()).collect::<Vec<_>>());
            prop_assert!(order.lanes.is_empty());
        }
    }
}
