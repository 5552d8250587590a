//! A growing byte buffer whose first byte lies on a block boundary, so that it can be written past the page cache.

use crate::limits::BLOCK_BYTES;

/// Bytes that start at a multiple of the block size in memory.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Room for `bytes` without moving.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut storage = Vec::with_capacity(bytes + BLOCK_BYTES);
        let start = padding(&storage);
        storage.resize(start, 0);
        Self { storage, start }
    }

    /// So many zeros.
    pub fn zeros(bytes: usize) -> Self {
        let mut buffer = Self::with_capacity(bytes);
        buffer.pad_to(bytes);
        buffer
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.storage.len() - self.start
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.storage.extend_from_slice(bytes);
    }

    /// Appends zeros up to a length.
    pub fn pad_to(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len()));
        self.storage.resize(self.start + len, 0);
    }

    /// Forgets the bytes, keeps the room.
    pub fn clear(&mut self) {
        self.cut_to(0);
    }

    /// Forgets the bytes behind the first `len`.
    pub fn cut_to(&mut self, len: usize) {
        self.storage.truncate(self.start + len);
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..]
    }

    /// The bytes, to fill in.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..]
    }

    fn reserve(&mut self, more: usize) {
        if self.storage.len() + more > self.storage.capacity() {
            let mut larger = Self::with_capacity((self.len() + more).next_power_of_two());
            larger.storage.extend_from_slice(self.bytes());
            *self = larger;
        }
    }
}

fn padding(storage: &[u8]) -> usize {
    // The allocator may decline to tell; then the buffer is merely not aligned and is written through the page cache.
    match storage.as_ptr().align_offset(BLOCK_BYTES) {
        usize::MAX => 0,
        padding => padding.min(BLOCK_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_aligned_and_whole_while_it_grows() {
        let mut buffer = AlignedBuffer::with_capacity(10);
        let mut expected = Vec::new();
        for step in 0..200_u8 {
            let piece = vec![step; usize::from(step) * 7];
            buffer.extend(&piece);
            expected.extend(piece);
        }
        assert_eq!(buffer.bytes(), expected);
        assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
        buffer.clear();
        assert!(buffer.is_empty());
        assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
    }
}
