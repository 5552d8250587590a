//! What one user and one customer may have of the gateway at a time: sessions, and bytes a second.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use coffre_auth::{CustomerId, Principal, UserId};

use super::{Accounts, Sessions};
use crate::line::pace::{Lanes, Pace};

/// The shares of everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Sessions of a user.
    pub user_sessions: usize,
    /// Sessions of a customer.
    pub customer_sessions: usize,
    /// Bytes a second of all sessions of a user, each way.
    pub user_rate: Option<u64>,
    /// Bytes a second of all sessions of a customer, each way.
    pub customer_rate: Option<u64>,
}

/// Who shares a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sharer {
    User(UserId),
    Customer(CustomerId),
}

/// The lanes of those who are in.
pub(super) type Sharing = BTreeMap<Sharer, Weak<Lanes>>;

/// The lanes of one, the same for all its sessions as long as it has any; of the rate that was said last.
fn lanes_of(sharing: &mut Sharing, sharer: Sharer, rate: u64) -> Arc<Lanes> {
    if let Some(lanes) = sharing.get(&sharer).and_then(Weak::upgrade) {
        lanes.set_rate(rate);
        return lanes;
    }
    sharing.retain(|_, lanes| lanes.strong_count() > 0);
    let lanes = Arc::new(Lanes::new(rate));
    sharing.insert(sharer, Arc::downgrade(&lanes));
    lanes
}

impl Accounts {
    /// Says what everybody may have from now on. Rates change for those who are in, too; a rate where there was none counts for
    /// sessions that begin.
    pub fn set_shares(&self, shares: Shares) {
        *self.inner.shares.write().unwrap_or_else(PoisonError::into_inner) = Some(shares);
        let directory = self.read();
        let sharing = self.inner.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        for (sharer, lanes) in sharing.iter().filter_map(|(sharer, lanes)| Some((sharer, lanes.upgrade()?))) {
            let rate = match sharer {
                Sharer::User(_) => shares.user_rate,
                Sharer::Customer(id) => {
                    let own = directory.customers.get(id).and_then(|customer| customer.rate_max);
                    own.or(shares.customer_rate)
                }
            };
            lanes.set_rate(rate.unwrap_or(u64::MAX));
        }
    }

    /// The shares of a principal: a customer's own limits stand in the place of everybody's.
    pub(super) fn shares_of(&self, principal: &Principal) -> Option<Shares> {
        let everybody = (*self.inner.shares.read().unwrap_or_else(PoisonError::into_inner))?;
        let directory = self.read();
        let Some(customer) = directory.customers.get(&principal.customer) else { return Some(everybody) };
        let sessions = customer.sessions_max.and_then(|max| usize::try_from(max).ok());
        Some(Shares {
            customer_sessions: sessions.unwrap_or(everybody.customer_sessions),
            customer_rate: customer.rate_max.or(everybody.customer_rate),
            ..everybody
        })
    }

    /// How fast a session of this principal may be.
    pub(super) fn pace(&self, principal: &Principal, shares: &Shares) -> Pace {
        let mut sharing = self.inner.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        let limited = [
            (Sharer::User(principal.user), shares.user_rate),
            (Sharer::Customer(principal.customer), shares.customer_rate),
        ];
        let lanes = limited.into_iter().filter_map(|(sharer, rate)| Some((sharer, rate?)));
        Pace::new(lanes.map(|(sharer, rate)| lanes_of(&mut sharing, sharer, rate)).collect())
    }
}

impl Shares {
    /// Whether one session more of this principal fits beside those that are live.
    pub(super) fn have_room(&self, sessions: &Sessions, principal: &Principal) -> bool {
        let live = || sessions.live.values().filter(|session| session.is_live());
        let of_user = live().filter(|session| session.principal.user == principal.user).count();
        let of_customer = live().filter(|session| session.principal.customer == principal.customer).count();
        of_user < self.user_sessions && of_customer < self.customer_sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_shared_while_somebody_has_them() {
        let (mut sharing, one) = (Sharing::new(), Sharer::User(UserId([1; 16])));
        let first = lanes_of(&mut sharing, one, 5);
        assert!(Arc::ptr_eq(&first, &lanes_of(&mut sharing, one, 5)));
        let other = lanes_of(&mut sharing, Sharer::Customer(CustomerId([1; 16])), 5);
        assert!(!Arc::ptr_eq(&first, &other));
        drop((first, other));
        drop(lanes_of(&mut sharing, Sharer::User(UserId([2; 16])), 5));
        assert_eq!(sharing.len(), 1, "those of who left are forgotten");
    }
}
