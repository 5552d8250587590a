//! Bytes per owner, reserved before they are accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::id::OwnerId;

/// The counters of all owners. Used bytes come from the index at open; reservations live in memory only.
#[derive(Debug, Default)]
pub struct Quotas {
    owners: Mutex<HashMap<OwnerId, Counter>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counter {
    used: u64,
    reserved: u64,
    limit: Option<u64>,
}

/// Bytes an upload holds before it commits; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    _quotas: Arc<Quotas>,
    _owner: OwnerId,
    _bytes: u64,
}

/// What an owner uses and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaState {
    /// Bytes of committed files.
    pub used_bytes: u64,
    /// Bytes of uploads under way.
    pub reserved_bytes: u64,
    /// The limit, if any.
    pub limit_bytes: Option<u64>,
}

impl Quotas {
    /// Sets or lifts an owner's limit.
    pub fn set_limit(&self, _owner: OwnerId, _limit_bytes: Option<u64>) { todo!() }
    /// What an owner uses.
    pub fn state(&self, _owner: OwnerId) -> QuotaState { todo!() }
}
