//! Sets of numbers that mostly follow each other.

/// Half-open ranges, ascending, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `from..to`; mostly behind or right after what is there.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        match self.0.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            Some((_, end)) if *end > from => {
                self.0.push((from, to));
                self.tidy();
            }
            Some(_) | None => self.0.push((from, to)),
        }
    }

    fn tidy(&mut self) {
        self.0.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for &(from, to) in &self.0 {
            match merged.last_mut() {
                Some((_, end)) if *end >= from => *end = to.max(*end),
                Some(_) | None => merged.push((from, to)),
            }
        }
        self.0 = merged;
    }

    /// Both together.
    pub(super) fn with(&self, other: (u64, u64)) -> Self {
        let mut both = self.clone();
        if other.0 < other.1 {
            both.0.push(other);
            both.tidy();
        }
        both
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(from, _)| *from <= number);
        at.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, to)| number < *to)
    }

    /// The last range.
    pub(super) fn last(&self) -> Option<(u64, u64)> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_where_they_touch() {
        let mut ranges = Ranges::default();
        for (from, to) in [(0, 3), (3, 5), (5, 5), (9, 12), (4, 6)] {
            ranges.add(from, to);
        }
        assert_eq!(ranges, Ranges(vec![(0, 6), (9, 12)]));
        assert!(ranges.contains(0) && ranges.contains(5) && !ranges.contains(6) && ranges.contains(11));
        assert_eq!(ranges.with((6, 9)).last(), Some((0, 12)));
        assert_eq!(ranges.with((20, 20)).last(), Some((9, 12)));
    }
}
