//! What customers and vaults use and may use: counted, and reserved before it is accepted.
//!
//! Two steps. An upload holds a `Reservation` for what it has taken and not committed. A transaction settles: what it adds
//! beyond what it held is asked for, then held becomes used. Both are one look at all limits under one lock, so nothing that
//! happens at the same time passes a limit together that would not have passed it one by one.
//!
//! Used amounts come from the index at open, reservations live in memory only. A limit that was lowered below what is in use
//! takes nothing away: it refuses what grows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::allowance::{Allowance, Amounts, Limit};
use crate::error::StoreError;
use crate::id::{OwnerId, VaultId};
use crate::limits::QUOTA_LEVELS;

/// The counters of all customers and vaults.
#[derive(Debug, Default)]
pub struct Quotas {
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    customers: HashMap<OwnerId, Account>,
    vaults: HashMap<VaultId, Account>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Account {
    bytes: Counter,
    files: Counter,
    stored: Counter,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counter {
    used: u64,
    reserved: u64,
    max: Option<u64>,
    /// What was wanted beyond what is used when something was refused: until it would fit, that was told already.
    refused: Option<u64>,
}

/// What a customer or a vault uses, holds and may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaState {
    /// Committed.
    pub used: Amounts,
    /// Of uploads under way.
    pub reserved: Amounts,
    /// The limits.
    pub allowance: Allowance,
}

/// A limit that said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) limit: Limit,
    pub(crate) max: u64,
    /// What was wanted beyond what is used, with all that is reserved.
    pub(crate) wanted: u64,
}

/// A level of a limit that was reached from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) limit: Limit,
    pub(crate) percent: u64,
}

/// What a transaction changes, and what its upload held for that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) added: Amounts,
    pub(crate) removed: Amounts,
    pub(crate) held: Amounts,
}

/// Whether limits are asked for what a transaction adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// They are: somebody wants to store more.
    Limits,
    /// They are not: the store rearranges what it has.
    Nobody,
}

/// A transaction's change of the counters. Dropped without [`Settled::keep`] it never was.
#[derive(Debug)]
pub(crate) struct Settled<'q> {
    quotas: &'q Quotas,
    owner: OwnerId,
    vault: VaultId,
    undo: Option<Growth>,
    /// Levels that were reached.
    pub(crate) crossed: Vec<Crossing>,
    /// Refusals that are over: what was wanted then would fit now. With what was wanted.
    pub(crate) over: Vec<(Limit, u64)>,
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::QuotaExceeded { limit: refusal.limit, max: refusal.max }
    }
}

impl QuotaState {
    fn room(max: Option<u64>, used: u64, reserved: u64) -> Option<u64> {
        max.map(|max| max.saturating_sub(used).saturating_sub(reserved))
    }

    /// Bytes of files that still fit, if they are limited.
    pub fn bytes_free(&self) -> Option<u64> {
        Self::room(self.allowance.bytes_max, self.used.bytes, self.reserved.bytes)
    }

    /// Files that still fit, if they are limited.
    pub fn files_free(&self) -> Option<u64> {
        Self::room(self.allowance.files_max, self.used.files, self.reserved.files)
    }

    /// Stored bytes that still fit, if they are limited.
    pub fn stored_free(&self) -> Option<u64> {
        Self::room(self.allowance.stored_max, self.used.stored, self.reserved.stored)
    }
}

/// The highest level that `used` of `max` has reached; 0 below all.
fn level(used: u64, max: Option<u64>) -> u64 {
    let Some(max) = max else { return 0 };
    let reached = |percent: &u64| u128::from(used) * 100 >= u128::from(max) * u128::from(*percent);
    QUOTA_LEVELS.into_iter().rev().find(reached).unwrap_or(0)
}

impl Counter {
    fn admits(&self, limit: Limit, more: u64) -> Result<(), Refusal> {
        let wanted = self.reserved.saturating_add(more);
        match self.max {
            Some(max) if more > 0 && self.used.saturating_add(wanted) > max => {
                Err(Refusal { limit, max, wanted })
            }
            _ => Ok(()),
        }
    }

    /// The highest level that was told of.
    fn told(&self) -> u64 {
        if self.refused.is_some() { 100 } else { level(self.used, self.max) }
    }

    fn crossed(&self, limit: Limit, before: u64) -> Option<Crossing> {
        let percent = level(self.used, self.max);
        (percent > before).then_some(Crossing { limit, percent })
    }

    /// Ends a refusal that would not be one now; gives what was wanted.
    fn take_over(&mut self) -> Option<u64> {
        let (used, max) = (self.used, self.max);
        self.refused.take_if(|wanted| max.is_none_or(|max| used.saturating_add(*wanted) <= max))
    }
}

impl Account {
    fn state(&self) -> QuotaState {
        QuotaState {
            used: Amounts { bytes: self.bytes.used, files: self.files.used, stored: self.stored.used },
            reserved: Amounts {
                bytes: self.bytes.reserved,
                files: self.files.reserved,
                stored: self.stored.reserved,
            },
            allowance: Allowance {
                bytes_max: self.bytes.max,
                files_max: self.files.max,
                stored_max: self.stored.max,
            },
        }
    }

    /// Sets the limits; tells what that crosses and which refusals it ends.
    fn allow(&mut self, limits: [Limit; 3], allowance: Allowance) -> (Vec<Crossing>, Vec<(Limit, u64)>) {
        let (mut crossed, mut over) = (Vec::new(), Vec::new());
        let counters = [
            (&mut self.bytes, allowance.bytes_max),
            (&mut self.files, allowance.files_max),
            (&mut self.stored, allowance.stored_max),
        ];
        for (limit, (counter, max)) in limits.into_iter().zip(counters) {
            let told = counter.told();
            counter.max = max;
            over.extend(counter.take_over().map(|wanted| (limit, wanted)));
            crossed.extend(counter.crossed(limit, told));
        }
        (crossed, over)
    }
}

impl Accounts {
    fn counters(&mut self, owner: OwnerId, vault: VaultId) -> [(Limit, &mut Counter); 5] {
        let customer = self.customers.entry(owner).or_default();
        let vault = self.vaults.entry(vault).or_default();
        [
            (Limit::CustomerBytes, &mut customer.bytes),
            (Limit::CustomerFiles, &mut customer.files),
            (Limit::VaultBytes, &mut vault.bytes),
            (Limit::VaultFiles, &mut vault.files),
            (Limit::VaultStored, &mut vault.stored),
        ]
    }
}

impl Quotas {
    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a customer uses and may use in all its vaults. What they store is counted for each vault alone.
    pub fn customer(&self, owner: OwnerId) -> QuotaState {
        self.lock().customers.get(&owner).map(Account::state).unwrap_or_default()
    }

    /// What a vault uses and may use.
    pub fn vault(&self, vault: VaultId) -> QuotaState {
        self.lock().vaults.get(&vault).map(Account::state).unwrap_or_default()
    }

    /// Sets a customer's limits as they were read from where they are kept. A change of them is made with
    /// [`Store::allow_customer`](crate::Store::allow_customer).
    pub fn set_customer(&self, owner: OwnerId, allowance: Allowance) {
        self.allow_customer(owner, allowance);
    }

    /// Sets a customer's limits; tells what that crosses and which refusals it ends.
    pub(crate) fn allow_customer(
        &self,
        owner: OwnerId,
        allowance: Allowance,
    ) -> (Vec<Crossing>, Vec<(Limit, u64)>) {
        // A customer's stored bytes are not counted, so their limit never speaks.
        let limits = [Limit::CustomerBytes, Limit::CustomerFiles, Limit::VaultStored];
        let allowance = Allowance { stored_max: None, ..allowance };
        self.lock().customers.entry(owner).or_default().allow(limits, allowance)
    }

    /// The same of a vault.
    pub(crate) fn allow_vault(
        &self,
        vault: VaultId,
        allowance: Allowance,
    ) -> (Vec<Crossing>, Vec<(Limit, u64)>) {
        let limits = [Limit::VaultBytes, Limit::VaultFiles, Limit::VaultStored];
        self.lock().vaults.entry(vault).or_default().allow(limits, allowance)
    }

    /// Counts what a vault uses when the store is opened.
    pub(crate) fn count(&self, owner: OwnerId, vault: VaultId, used: Amounts) {
        for (limit, counter) in self.lock().counters(owner, vault) {
            counter.used = counter.used.saturating_add(limit.of(used));
        }
    }

    /// Whether so much more would be taken.
    pub(crate) fn check(&self, owner: OwnerId, vault: VaultId, more: Amounts) -> Result<(), Refusal> {
        self.lock()
            .counters(owner, vault)
            .iter()
            .try_for_each(|(limit, counter)| counter.admits(*limit, limit.of(more)))
    }

    /// Notes a refusal; false when it needs no telling, because a level of 100 % was told of already.
    pub(crate) fn note_refusal(&self, owner: OwnerId, vault: VaultId, refusal: Refusal) -> bool {
        let mut accounts = self.lock();
        let mut counters = accounts.counters(owner, vault).into_iter();
        let Some((_, counter)) = counters.find(|(limit, _)| *limit == refusal.limit) else { return false };
        // What was refused may fit by now.
        if counter.told() >= 100 || counter.admits(refusal.limit, refusal.wanted).is_ok() {
            return false;
        }
        counter.refused = Some(refusal.wanted);
        true
    }

    /// Notes that a refusal was told of before the store was opened, or forgets that it was.
    pub(crate) fn set_refused(&self, owner: OwnerId, vault: VaultId, limit: Limit, wanted: Option<u64>) {
        let mut accounts = self.lock();
        for (_, counter) in accounts.counters(owner, vault).into_iter().filter(|(known, _)| *known == limit) {
            counter.refused = wanted;
        }
    }

    /// Changes what is used, with the transaction that changes it and while that holds the writer lock.
    pub(crate) fn settle(
        &self,
        owner: OwnerId,
        vault: VaultId,
        growth: Growth,
        asking: Asking,
    ) -> Result<Settled<'_>, Refusal> {
        let mut accounts = self.lock();
        let mut counters = accounts.counters(owner, vault);
        for (limit, counter) in counters.iter().filter(|_| asking == Asking::Limits) {
            let grown = limit.of(growth.added).saturating_sub(limit.of(growth.removed));
            counter.admits(*limit, grown.saturating_sub(limit.of(growth.held)))?;
        }
        let (mut crossed, mut over) = (Vec::new(), Vec::new());
        for (limit, counter) in &mut counters {
            let told = counter.told();
            counter.used =
                counter.used.saturating_add(limit.of(growth.added)).saturating_sub(limit.of(growth.removed));
            counter.reserved = counter.reserved.saturating_sub(limit.of(growth.held));
            over.extend(counter.take_over().map(|wanted| (*limit, wanted)));
            crossed.extend(counter.crossed(*limit, told));
        }
        Ok(Settled { quotas: self, owner, vault, undo: Some(growth), crossed, over })
    }

    /// Holds `wanted` instead of `held`; what shrinks is always done.
    fn hold(
        &self,
        (owner, vault): (OwnerId, VaultId),
        held: Amounts,
        wanted: Amounts,
    ) -> Result<(), Refusal> {
        let mut accounts = self.lock();
        let mut counters = accounts.counters(owner, vault);
        for (limit, counter) in &counters {
            counter.admits(*limit, limit.of(wanted).saturating_sub(limit.of(held)))?;
        }
        for (limit, counter) in &mut counters {
            counter.reserved =
                counter.reserved.saturating_add(limit.of(wanted)).saturating_sub(limit.of(held));
        }
        Ok(())
    }
}

impl Settled<'_> {
    /// The transaction was submitted.
    pub(crate) fn keep(mut self) {
        self.undo = None;
    }
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        let Some(Growth { added, removed, held }) = self.undo else { return };
        let mut accounts = self.quotas.lock();
        for (limit, counter) in accounts.counters(self.owner, self.vault) {
            counter.used = counter.used.saturating_add(limit.of(removed)).saturating_sub(limit.of(added));
            counter.reserved = counter.reserved.saturating_add(limit.of(held));
            let over = self.over.iter().find(|(known, _)| *known == limit);
            counter.refused = counter.refused.or_else(|| over.map(|(_, wanted)| *wanted));
        }
    }
}

/// What an upload holds before it commits; given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    quotas: Arc<Quotas>,
    owner: OwnerId,
    vault: VaultId,
    held: Amounts,
}

impl Reservation {
    /// Holds nothing yet.
    pub(crate) fn new(quotas: Arc<Quotas>, owner: OwnerId, vault: VaultId) -> Self {
        Self { quotas, owner, vault, held: Amounts::default() }
    }

    /// Holds exactly this from now on, or what it held before.
    pub(crate) fn hold(&mut self, wanted: Amounts) -> Result<(), Refusal> {
        if wanted != self.held {
            self.quotas.hold((self.owner, self.vault), self.held, wanted)?;
            self.held = wanted;
        }
        Ok(())
    }

    pub(crate) fn held(&self) -> Amounts {
        self.held
    }

    /// So much of what was held is used now: a transaction settled it.
    pub(crate) fn used(&mut self, settled: Amounts) {
        let Amounts { bytes, files, stored } = self.held;
        self.held = Amounts {
            bytes: bytes.saturating_sub(settled.bytes),
            files: files.saturating_sub(settled.files),
            stored: stored.saturating_sub(settled.stored),
        };
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Giving back is never refused.
        let _given_back = self.hold(Amounts::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: OwnerId = OwnerId([1; 16]);
    const VAULT: VaultId = VaultId([2; 16]);
    const OTHER: VaultId = VaultId([3; 16]);

    fn bytes(bytes: u64) -> Amounts {
        Amounts { bytes, ..Amounts::default() }
    }

    fn of(bytes_max: u64) -> Allowance {
        Allowance { bytes_max: Some(bytes_max), ..Allowance::default() }
    }

    fn add(quotas: &Quotas, vault: VaultId, added: Amounts) -> Result<Vec<(Limit, u64)>, Limit> {
        change(quotas, vault, Growth { added, ..Growth::default() })
    }

    fn remove(quotas: &Quotas, vault: VaultId, removed: Amounts) -> Result<Vec<(Limit, u64)>, Limit> {
        change(quotas, vault, Growth { removed, ..Growth::default() })
    }

    fn change(quotas: &Quotas, vault: VaultId, growth: Growth) -> Result<Vec<(Limit, u64)>, Limit> {
        let settled = quotas.settle(OWNER, vault, growth, Asking::Limits).map_err(|refusal| refusal.limit)?;
        let crossed = settled.crossed.iter().map(|crossing| (crossing.limit, crossing.percent)).collect();
        settled.keep();
        Ok(crossed)
    }

    fn refused(quotas: &Quotas, vault: VaultId, more: Amounts) -> Option<bool> {
        let refusal = quotas.check(OWNER, vault, more).err()?;
        Some(quotas.note_refusal(OWNER, vault, refusal))
    }

    #[test]
    fn parallel_reservations_cannot_pass_the_limit() {
        let quotas = Arc::new(Quotas::default());
        quotas.set_customer(OWNER, of(1000));
        let taken: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|worker| {
                    let quotas = &quotas;
                    scope.spawn(move || {
                        let vault = if worker % 2 == 0 { VAULT } else { OTHER };
                        let mut held = Reservation::new(Arc::clone(quotas), OWNER, vault);
                        let times =
                            (0..100).filter(|_| held.hold(bytes(held.held().bytes + 7)).is_ok()).count();
                        let taken = 7 * times as u64;
                        let growth = Growth { added: bytes(taken), held: held.held(), ..Growth::default() };
                        change(quotas, vault, growth).unwrap();
                        held.used(held.held());
                        taken
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((994..=1000).contains(&taken), "{taken}");
        let state = quotas.customer(OWNER);
        assert_eq!((state.used.bytes, state.reserved), (taken, Amounts::default()));
    }

    #[test]
    fn the_last_byte_fits_one_more_does_not_and_an_aborted_upload_gives_its_bytes_back() {
        let quotas = Arc::new(Quotas::default());
        quotas.set_customer(OWNER, of(100));
        let mut held = Reservation::new(Arc::clone(&quotas), OWNER, VAULT);
        held.hold(bytes(100)).unwrap();
        let refusal = held.hold(bytes(101)).unwrap_err();
        assert_eq!((refusal.limit, refusal.max), (Limit::CustomerBytes, 100));
        assert_eq!(held.held(), bytes(100), "what was held stays");
        assert_eq!(add(&quotas, OTHER, bytes(1)), Err(Limit::CustomerBytes));
        drop(held);
        assert_eq!(add(&quotas, OTHER, bytes(100)), Ok(vec![(Limit::CustomerBytes, 100)]));
    }

    #[test]
    fn both_the_vault_and_its_customer_are_asked_and_the_refusal_says_which() {
        let quotas = Quotas::default();
        quotas
            .set_customer(OWNER, Allowance { bytes_max: Some(100), files_max: Some(3), stored_max: Some(0) });
        quotas
            .allow_vault(VAULT, Allowance { bytes_max: Some(60), files_max: Some(2), stored_max: Some(80) });
        assert_eq!(add(&quotas, VAULT, bytes(61)), Err(Limit::VaultBytes));
        add(&quotas, VAULT, Amounts { bytes: 60, files: 2, stored: 70 }).unwrap();
        assert_eq!(add(&quotas, VAULT, Amounts { files: 1, ..Amounts::default() }), Err(Limit::VaultFiles));
        assert_eq!(
            add(&quotas, VAULT, Amounts { stored: 11, ..Amounts::default() }),
            Err(Limit::VaultStored)
        );
        assert_eq!(add(&quotas, OTHER, bytes(41)), Err(Limit::CustomerBytes));
        assert_eq!(
            add(&quotas, OTHER, Amounts { files: 2, ..Amounts::default() }),
            Err(Limit::CustomerFiles)
        );
        add(&quotas, OTHER, Amounts { bytes: 40, files: 1, stored: 1000 }).unwrap();
    }

    #[test]
    fn a_limit_below_what_is_used_refuses_growth_only() {
        let quotas = Quotas::default();
        add(&quotas, VAULT, Amounts { bytes: 500, files: 5, stored: 700 }).unwrap();
        let low = Allowance { bytes_max: Some(1), files_max: Some(1), stored_max: Some(1) };
        quotas.set_customer(OWNER, low);
        quotas.allow_vault(VAULT, low);
        let swap = Growth { added: bytes(90), removed: bytes(90), held: Amounts::default() };
        change(&quotas, VAULT, swap).unwrap();
        change(&quotas, VAULT, Growth::default()).unwrap();
        assert_eq!(add(&quotas, VAULT, bytes(1)), Err(Limit::CustomerBytes));
        let moved = Amounts { stored: 9, ..Amounts::default() };
        let own = Growth { added: moved, ..Growth::default() };
        quotas.settle(OWNER, VAULT, own, Asking::Nobody).unwrap().keep();
        remove(&quotas, VAULT, moved).unwrap();
        remove(&quotas, VAULT, Amounts { bytes: 400, files: 4, stored: 0 }).unwrap();
        assert_eq!(quotas.vault(VAULT).used, Amounts { bytes: 100, files: 1, stored: 700 });
    }

    #[test]
    fn what_was_not_submitted_was_never_counted() {
        let quotas = Arc::new(Quotas::default());
        quotas.set_customer(OWNER, of(100));
        let mut held = Reservation::new(Arc::clone(&quotas), OWNER, VAULT);
        held.hold(bytes(60)).unwrap();
        let growth = Growth { added: bytes(60), removed: Amounts::default(), held: held.held() };
        drop(quotas.settle(OWNER, VAULT, growth, Asking::Limits).unwrap());
        let state = quotas.customer(OWNER);
        assert_eq!((state.used.bytes, state.reserved.bytes), (0, 60));
        assert_eq!(add(&quotas, VAULT, bytes(41)), Err(Limit::CustomerBytes));
    }

    #[test]
    fn a_level_is_told_once_each_time_it_is_reached_from_below() {
        let quotas = Quotas::default();
        quotas.set_customer(OWNER, of(100));
        let told = |crossed: &[(Limit, u64)]| crossed.iter().map(|(_, percent)| *percent).collect::<Vec<_>>();
        let add = |more| told(&add(&quotas, VAULT, bytes(more)).unwrap());
        let remove = |less| told(&remove(&quotas, VAULT, bytes(less)).unwrap());
        assert_eq!(add(79), []);
        assert_eq!(add(1), [80]);
        assert_eq!(add(14), []);
        assert_eq!(add(1), [95]);
        assert_eq!(add(5), [100]);
        assert_eq!(remove(10), []);
        assert_eq!(add(5), [95]);
        assert_eq!(remove(95), []);
        assert_eq!(add(100), [100], "one telling, of the highest");
    }

    #[test]
    fn a_refusal_is_told_once_until_what_was_wanted_would_fit() {
        let quotas = Quotas::default();
        quotas.set_customer(OWNER, of(100));
        add(&quotas, VAULT, bytes(90)).unwrap();
        assert_eq!(refused(&quotas, VAULT, bytes(20)), Some(true));
        assert_eq!(refused(&quotas, VAULT, bytes(20)), Some(false));
        assert_eq!(refused(&quotas, OTHER, bytes(50)), Some(false), "the same limit of the customer");
        // Told of 100 already: nothing on the way there is told again.
        assert_eq!(add(&quotas, VAULT, bytes(10)), Ok(Vec::new()));
        remove(&quotas, VAULT, bytes(15)).unwrap();
        assert_eq!(refused(&quotas, VAULT, bytes(20)), Some(false));
        remove(&quotas, VAULT, bytes(5)).unwrap();
        assert_eq!(refused(&quotas, VAULT, bytes(20)), None, "it fits");
        assert_eq!(refused(&quotas, VAULT, bytes(21)), Some(true));
    }

    #[test]
    fn a_lowered_limit_crosses_and_a_raised_one_ends_a_refusal() {
        let quotas = Quotas::default();
        quotas.set_customer(OWNER, of(1000));
        add(&quotas, VAULT, bytes(90)).unwrap();
        let (crossed, _) = quotas.allow_customer(OWNER, of(100));
        assert_eq!(crossed, [Crossing { limit: Limit::CustomerBytes, percent: 80 }]);
        assert_eq!(quotas.allow_customer(OWNER, of(100)), (Vec::new(), Vec::new()));
        assert_eq!(refused(&quotas, VAULT, bytes(20)), Some(true));
        let (crossed, over) = quotas.allow_customer(OWNER, of(110));
        assert_eq!((crossed, over), (Vec::new(), vec![(Limit::CustomerBytes, 20)]));
        assert_eq!(quotas.allow_customer(OWNER, Allowance::default()), (Vec::new(), Vec::new()));
    }
}
