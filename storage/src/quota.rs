//! Bytes per owner, reserved before they are accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::StoreError;
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
    fn lock(&self) -> MutexGuard<'_, HashMap<OwnerId, Counter>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or lifts an owner's limit.
    pub fn set_limit(&self, owner: OwnerId, limit_bytes: Option<u64>) {
        self.lock().entry(owner).or_default().limit = limit_bytes;
    }

    /// What an owner uses.
    pub fn state(&self, owner: OwnerId) -> QuotaState {
        let counter = self.lock().get(&owner).copied().unwrap_or_default();
        QuotaState { used_bytes: counter.used, reserved_bytes: counter.reserved, limit_bytes: counter.limit }
    }

    /// Changes what is committed, with the transaction that changes it.
    pub(crate) fn settle(&self, owner: OwnerId, added: u64, removed: u64) {
        let mut owners = self.lock();
        let counter = owners.entry(owner).or_default();
        counter.used = counter.used.saturating_add(added).saturating_sub(removed);
    }

    /// Whether `bytes` more would be taken.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub fn check(&self, owner: OwnerId, bytes: u64) -> Result<(), StoreError> {
        let counter = self.lock().get(&owner).copied().unwrap_or_default();
        counter.admits(bytes)
    }

    fn reserve(&self, owner: OwnerId, bytes: u64) -> Result<(), StoreError> {
        let mut owners = self.lock();
        let counter = owners.entry(owner).or_default();
        counter.admits(bytes)?;
        counter.reserved = counter.reserved.saturating_add(bytes);
        Ok(())
    }

    fn release(&self, owner: OwnerId, bytes: u64) {
        let mut owners = self.lock();
        let counter = owners.entry(owner).or_default();
        counter.reserved = counter.reserved.saturating_sub(bytes);
    }
}

impl Counter {
    fn admits(self, bytes: u64) -> Result<(), StoreError> {
        match self.limit {
            Some(limit_bytes)
                if self.used.saturating_add(self.reserved).saturating_add(bytes) > limit_bytes
                    && bytes > 0 =>
            {
                Err(StoreError::QuotaExceeded { limit_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes an upload holds before it commits; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    quotas: Arc<Quotas>,
    owner: OwnerId,
    bytes: u64,
}

impl Reservation {
    /// Holds nothing yet.
    pub fn new(quotas: Arc<Quotas>, owner: OwnerId) -> Self {
        Self { quotas, owner, bytes: 0 }
    }

    /// Holds more.
    ///
    /// # Errors
    /// `QuotaExceeded`; nothing more is held then.
    pub fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.quotas.reserve(self.owner, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives everything back: it is committed, or it is gone.
    pub fn release(&mut self) {
        self.quotas.release(self.owner, self.bytes);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_reservations_cannot_pass_the_limit() {
        let quotas = Arc::new(Quotas::default());
        let owner = OwnerId([1; 16]);
        quotas.set_limit(owner, Some(1000));
        let taken: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut held = Reservation::new(Arc::clone(&quotas), owner);
                        let taken = (0..100).filter(|_| held.grow(7).is_ok()).count() as u64 * 7;
                        quotas.settle(owner, taken, 0);
                        held.release();
                        taken
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!(taken <= 1000, "{taken}");
        assert_eq!(quotas.state(owner).reserved_bytes, 0);
    }
}
