//! Zeros ahead of a log of small batches. To sync blocks that are only allocated makes the file system write down that they
//! are in use now; over blocks that were written before, a sync is of the bytes alone. So some zeros are written
//! together with a small batch now and then, and the next ones go over them. The log ends where it did: behind its last batch
//! there are zeros in any case.

use crate::limits::{BLOCK_BYTES, SMALL_BATCH_BYTES, ZEROS_AHEAD_BYTES};

/// How far a pack was written.
#[derive(Debug)]
pub(super) struct ZerosAhead {
    pack_bytes: u64,
    /// The byte after the last one that was written, zeros included.
    written: u64,
    after_small: bool,
}

impl ZerosAhead {
    /// Of a pack with nothing but its header.
    pub(super) fn new(pack_bytes: u64) -> Self {
        Self { pack_bytes, written: BLOCK_BYTES as u64, after_small: true }
    }

    /// How many zeros are to be written together with the batch of `len` bytes at `offset`: none while batches are large, and
    /// would be written over them at once, or while zeros are left for it.
    pub(super) fn behind(&mut self, offset: u64, len: usize) -> usize {
        let end = offset + len as u64;
        let small = len <= SMALL_BATCH_BYTES;
        let after_small = std::mem::replace(&mut self.after_small, small);
        let mut zeros = 0;
        if small && after_small && end > self.written {
            let room = usize::try_from(self.pack_bytes.saturating_sub(end)).unwrap_or(usize::MAX);
            zeros = room.min(ZEROS_AHEAD_BYTES);
        }
        self.written = self.written.max(end + zeros as u64);
        zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    #[test]
    fn small_batches_share_zeros_and_none_go_behind_the_end_of_the_pack() {
        let pack_bytes = 3 * ZEROS_AHEAD_BYTES as u64;
        let mut ahead = ZerosAhead::new(pack_bytes);
        let (mut written, mut times) = (BLOCK, 0);
        for offset in (BLOCK..pack_bytes - BLOCK).step_by(BLOCK_BYTES) {
            let end = offset + BLOCK + ahead.behind(offset, BLOCK_BYTES) as u64;
            assert!(end <= pack_bytes);
            if end > offset + BLOCK {
                assert_eq!(offset, written, "what is written already is not written again");
                (written, times) = (end, times + 1);
            }
        }
        assert_eq!(times, 3);
        assert_eq!(ahead.behind(pack_bytes - BLOCK, BLOCK_BYTES), 0);
    }

    #[test]
    fn a_stream_of_large_batches_gets_no_zeros() {
        let (mut ahead, large) = (ZerosAhead::new(1 << 30), SMALL_BATCH_BYTES + BLOCK_BYTES);
        let mut offset = BLOCK;
        for _ in 0..3 {
            assert_eq!(ahead.behind(offset, large), 0);
            offset += large as u64;
        }
        assert_eq!(ahead.behind(offset, BLOCK_BYTES), 0, "one small batch may be the end of a large file");
        assert_eq!(ahead.behind(offset + BLOCK, BLOCK_BYTES), ZEROS_AHEAD_BYTES);
    }
}
