//! Read-ahead of one handle: reads that follow each other ask the disk for what comes next.
//!
//! Packs are written past the page cache, so the first read of what was stored goes to the disk, chunk by chunk. Only the
//! system fetches ahead, into its own page cache: nothing is held here, so there is nothing to bound but how far ahead.
//! Reads of one client come in parallel and nearly in order; those near the expected place count as the next.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::limits::READ_AHEAD_BYTES;

/// How a handle was read so far.
#[derive(Debug, Default)]
pub(super) struct ReadAhead(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Reads in a row.
    row: u32,
    /// Where the next one is expected.
    next: u64,
    /// What the disk was asked for ends here.
    asked: u64,
}

/// Reads in a row before the disk is asked: one may be a look at a header.
const ROW_MIN: u32 = 2;

impl ReadAhead {
    /// A read begins; gives what the disk is to be asked for.
    pub(super) fn begin(&self, offset: u64, len: usize) -> Option<Range<u64>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(len as u64);
        if offset.abs_diff(seen.next) > READ_AHEAD_BYTES / 2 {
            *seen = Seen { row: 1, next: end, asked: end };
            return None;
        }
        seen.row = seen.row.saturating_add(1);
        seen.next = seen.next.max(end);
        let enough = seen.next.saturating_add(READ_AHEAD_BYTES / 2);
        if seen.row < ROW_MIN || seen.asked >= enough {
            return None;
        }
        let from = seen.asked.max(seen.next);
        seen.asked = seen.next.saturating_add(READ_AHEAD_BYTES);
        Some(from..seen.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 255 * 1024;

    fn asked(ahead: &ReadAhead, offsets: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
        offsets.into_iter().filter_map(|offset| ahead.begin(offset, PIECE)).collect()
    }

    #[test]
    fn a_stream_is_asked_for_once_and_without_gaps() {
        let ahead = ReadAhead::default();
        let all = asked(&ahead, (0..400).map(|at| at * PIECE as u64));
        assert!(all.len() > 10 && all.windows(2).all(|pair| pair[0].end == pair[1].start), "{all:?}");
        let last = 400 * PIECE as u64;
        assert!(all.last().unwrap().end >= last + READ_AHEAD_BYTES / 2);
        assert!(all.last().unwrap().end <= last + READ_AHEAD_BYTES);
    }

    #[test]
    fn nearly_in_order_is_in_order() {
        let ahead = ReadAhead::default();
        let swapped = (0..200).map(|at: u64| (at ^ 1) * PIECE as u64);
        assert!(asked(&ahead, swapped).len() > 10);
    }

    #[test]
    fn random_reads_ask_for_nothing() {
        let ahead = ReadAhead::default();
        assert!(asked(&ahead, (1..200).map(|at: u64| at * 7_919 % 200 * (16 << 20))).is_empty());
        assert!(asked(&ahead, [0]).is_empty(), "nor does one look at a header");
    }
}
