//! Where a stream is cut: FastCDC (2020) with a seed per vault (`limits::CHUNK_BYTES_*`), so that equal data of two
//! vaults is cut at different places.

use std::borrow::Cow;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use crate::limits::{CHUNK_BYTES_AVG, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// Cuts byte streams for one vault.
#[derive(Clone)]
pub struct Chunker {
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
    mask_small: u64,
    mask_large: u64,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunker(..)")
    }
}

impl Chunker {
    /// A chunker with the vault's seed.
    pub fn new(seed: u64) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        let (mask_small, mask_large) = select_masks(CHUNK_BYTES_AVG, Normalization::Level1);
        Self { gear, gear_shifted, mask_small, mask_large }
    }

    /// Length of the first chunk of `bytes`. With `last` false and no cut point certain yet, nothing: more bytes
    /// are needed (never the case from `CHUNK_BYTES_MAX` bytes on). The cuts of a stream do not depend on how it is fed.
    pub fn cut(&self, bytes: &[u8], last: bool) -> Option<usize> {
        if bytes.len() <= CHUNK_BYTES_MIN {
            return (last && !bytes.is_empty()).then_some(bytes.len());
        }
        let window = &bytes[..bytes.len().min(CHUNK_BYTES_MAX)];
        let (_, len) = cut_gear(
            window,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVG,
            CHUNK_BYTES_MAX,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        // A cut at the very end of a short window is no cut point, only the end of what is there; and near the
        // average the normal size depends on the window, so only a full window or a cut well inside it is certain.
        let certain = last || window.len() == CHUNK_BYTES_MAX;
        certain.then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[4]
            })
            .collect()
    }

    fn cuts(chunker: &Chunker, bytes: &[u8], step: usize) -> Vec<usize> {
        let (mut cuts, mut start, mut end) = (Vec::new(), 0, 0);
        while start < bytes.len() {
            match chunker.cut(&bytes[start..end], end == bytes.len()) {
                Some(len) => {
                    start += len;
                    cuts.push(len);
                }
                None => end = (end + step).min(bytes.len()),
            }
        }
        cuts
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_stream_is_fed() {
        let (chunker, bytes) = (Chunker::new(42), noise(3_000_000));
        let whole = cuts(&chunker, &bytes, bytes.len());
        assert_eq!(whole.iter().sum::<usize>(), bytes.len());
        assert!(whole.len() > 20 && whole.iter().all(|len| *len <= CHUNK_BYTES_MAX));
        for step in [1_000, 4_096, 32_768, 261_120] {
            assert_eq!(cuts(&chunker, &bytes, step), whole, "fed by {step}");
        }
    }

    #[test]
    fn two_vaults_cut_the_same_bytes_at_different_places() {
        let bytes = noise(2_000_000);
        assert_ne!(cuts(&Chunker::new(1), &bytes, 65_536), cuts(&Chunker::new(2), &bytes, 65_536));
    }
}
