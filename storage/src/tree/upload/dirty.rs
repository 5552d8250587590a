//! Bytes written and not yet cut: runs in memory, ordered, neither overlapping nor touching.

use std::collections::BTreeMap;

use crate::limits::BLOCK_BYTES;

/// The dirty bytes of one file.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    runs: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Dirty {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the bytes may come to take: each run may be widened to whole blocks before it is cut.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.runs.len() * BLOCK_BYTES
    }

    /// Where the last byte ends.
    pub(super) fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(start, run)| start + run.len() as u64)
    }

    /// Writes over what is there.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if let Some((start, run)) = self.runs.range_mut(..=offset).next_back() {
            let run_end = start + run.len() as u64;
            if end <= run_end {
                let from = (offset - start) as usize;
                run[from..from + bytes.len()].copy_from_slice(bytes);
                return;
            }
        }
        self.cut_out(offset, end);
        // Join the run before, then the one behind.
        self.bytes += bytes.len();
        let start = match self.runs.range_mut(..offset).next_back() {
            Some((start, run)) if start + run.len() as u64 == offset => {
                run.extend_from_slice(bytes);
                *start
            }
            _ => {
                self.runs.insert(offset, bytes.to_vec());
                offset
            }
        };
        if let Some(behind) = self.runs.remove(&end)
            && let Some(run) = self.runs.get_mut(&start)
        {
            run.extend_from_slice(&behind);
        }
    }

    /// Forgets the bytes of a range.
    pub(super) fn cut_out(&mut self, from: u64, to: u64) {
        if let Some((start, run)) = self.runs.range_mut(..from).next_back() {
            let (start, end) = (*start, start + run.len() as u64);
            if end > from {
                let behind = (end > to).then(|| run[(to - start) as usize..].to_vec());
                self.bytes -= (end.min(to) - from) as usize;
                run.truncate((from - start) as usize);
                if let Some(behind) = behind {
                    self.runs.insert(to, behind);
                    return;
                }
            }
        }
        let covered: Vec<u64> = self.runs.range(from..to).map(|(start, _)| *start).collect();
        for start in covered {
            if let Some(run) = self.runs.remove(&start) {
                let end = start + run.len() as u64;
                self.bytes -= (end.min(to) - start) as usize;
                if end > to {
                    self.runs.insert(to, run[(to - start) as usize..].to_vec());
                }
            }
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> BTreeMap<u64, Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.runs)
    }

    /// Lays what is dirty over `buffer`, which shows the file from `offset`.
    pub(super) fn overlay(&self, offset: u64, buffer: &mut [u8]) {
        let end = offset + buffer.len() as u64;
        for (start, run) in self.touching(offset, end) {
            let run_end = start + run.len() as u64;
            let (from, to) = (start.max(offset), run_end.min(end));
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&run[(from - start) as usize..(to - start) as usize]);
        }
    }

    /// Ranges of `from..to` that are dirty.
    pub(super) fn ranges(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.touching(from, to).map(move |(start, run)| (start.max(from), (start + run.len() as u64).min(to)))
    }

    fn touching(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Vec<u8>)> {
        let before =
            self.runs.range(..from).next_back().filter(|(start, run)| *start + run.len() as u64 > from);
        before.into_iter().chain(self.runs.range(from..to.max(from))).map(|(start, run)| (*start, run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_plain_buffer() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut dirty, mut model) = (Dirty::default(), vec![None; 400]);
            for step in 0..40_u8 {
                let (from, len) = (random(300), random(90));
                let range = from as usize..(from + len) as usize;
                if random(4) == 0 {
                    dirty.cut_out(from, from + len);
                    model[range].fill(None);
                } else {
                    dirty.write(from, &vec![step; len as usize]);
                    model[range].fill(Some(step));
                }
                let mut seen = vec![255; 400];
                dirty.overlay(0, &mut seen);
                let expected: Vec<u8> = model.iter().map(|byte| byte.unwrap_or(255)).collect();
                assert_eq!(seen, expected);
                assert_eq!(dirty.bytes(), model.iter().flatten().count());
                let covered: u64 = dirty.ranges(50, 250).map(|(from, to)| to - from).sum();
                assert_eq!(covered, model[50..250].iter().flatten().count() as u64);
            }
        }
    }
}
