//! Where a stream is cut: FastCDC with a seed per vault (`limits::CHUNK_BYTES_*`).
/// Cuts byte streams for one vault.
#[derive(Clone, Debug)]
pub struct Chunker {
    _seed: u64,
}

impl Chunker {
    /// A chunker with the vault's seed.
    pub fn new(seed: u64) -> Self { Self { _seed: seed } }
    /// Length of the first chunk of `bytes`. With `last` false and fewer bytes than FastCDC needs to be sure
    /// (`CHUNK_BYTES_MAX`), returns `None` unless a cut point was found before the end.
    pub fn cut(&self, _bytes: &[u8], _last: bool) -> Option<usize> { todo!() }
}
