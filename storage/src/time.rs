//! Time is a parameter: whatever needs it takes a [`Clock`].

/// Nanoseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct UnixNanos(#[n(0)] pub i64);

/// Where the store reads the time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall-clock time.
    fn now(&self) -> UnixNanos;
    /// Time since the machine booted, nanoseconds; never goes back while the machine runs.
    fn boot_nanos(&self) -> u64;
}
