//! The numbers that transactions take from one another.

/// What transactions take from one another.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    pub(super) last_commit: u64,
    pub(super) last_time: i64,
    /// The last number given by [`Txn::next_number`](super::Txn::next_number).
    pub(super) last_number: u64,
    pub(super) next_record: u64,
}
