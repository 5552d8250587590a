//! Growing delays for failed logins: per (user, network) and per network. Time is a parameter.
//!
//! A delay holds only where the failures came from, so nobody can lock somebody else out from elsewhere. Credentials are
//! keys and 190-bit tokens: the throttle bounds load and noise, not a search.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{
    THROTTLE_DELAY_SECS_MAX, THROTTLE_ENTRIES_MAX, THROTTLE_FORGET_SECS, THROTTLE_FREE_FAILURES,
    THROTTLE_FREE_NETWORK_FAILURES,
};

const SECOND: i64 = 1_000_000_000;

/// The network that an address counts for: /24, or /48 of IPv6.
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & 0xffff_ff00)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80))),
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: i64,
}

impl Failures {
    fn wait_secs(self, free: u32, now: i64) -> u64 {
        let Some(over) = self.count.checked_sub(free) else { return 0 };
        let delay = 1_u64.checked_shl(over).unwrap_or(u64::MAX).min(THROTTLE_DELAY_SECS_MAX);
        let until = self.last.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX).saturating_mul(SECOND));
        u64::try_from(until.saturating_sub(now)).map_or(0, |left| left.div_ceil(SECOND.unsigned_abs()))
    }
}

/// The failures remembered.
#[derive(Debug, Default)]
pub struct Throttle {
    users: HashMap<(String, IpAddr), Failures>,
    networks: HashMap<IpAddr, Failures>,
}

impl Throttle {
    /// Seconds that a login has to wait; 0: go on.
    pub fn wait_secs(&self, user: &str, source: IpAddr, now: i64) -> u64 {
        let network = network(source);
        let own = self
            .users
            .get(&(user.to_owned(), network))
            .map_or(0, |seen| seen.wait_secs(THROTTLE_FREE_FAILURES, now));
        let all =
            self.networks.get(&network).map_or(0, |seen| seen.wait_secs(THROTTLE_FREE_NETWORK_FAILURES, now));
        own.max(all)
    }

    /// Notes a failure.
    pub fn failed(&mut self, user: &str, source: IpAddr, now: i64) {
        let forget = now.saturating_sub(THROTTLE_FORGET_SECS.saturating_mul(SECOND));
        if self.users.len() >= THROTTLE_ENTRIES_MAX {
            self.users.retain(|_, seen| seen.last > forget);
        }
        if self.networks.len() >= THROTTLE_ENTRIES_MAX {
            self.networks.retain(|_, seen| seen.last > forget);
        }
        let network = network(source);
        if self.users.len() < THROTTLE_ENTRIES_MAX {
            Self::count(
                self.users.entry((user.to_owned(), network)).or_insert(Failures { count: 0, last: now }),
                forget,
                now,
            );
        }
        if self.networks.len() < THROTTLE_ENTRIES_MAX {
            Self::count(
                self.networks.entry(network).or_insert(Failures { count: 0, last: now }),
                forget,
                now,
            );
        }
    }

    fn count(seen: &mut Failures, forget: i64, now: i64) {
        if seen.last <= forget {
            seen.count = 0;
        }
        *seen = Failures { count: seen.count.saturating_add(1), last: now };
    }

    /// Notes a success: this user from this network starts afresh.
    pub fn succeeded(&mut self, user: &str, source: IpAddr) {
        self.users.remove(&(user.to_owned(), network(source)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_where_failures_come_from_and_nowhere_else() {
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.7".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let mut throttle = Throttle::default();
        let mut waits = Vec::new();
        for _ in 0..THROTTLE_FREE_FAILURES + 4 {
            waits.push(throttle.wait_secs("u", here, 0));
            throttle.failed("u", here, 0);
        }
        waits.push(throttle.wait_secs("u", here, 0));
        assert!(waits.starts_with(&[0, 0]) && waits.ends_with(&[1, 2, 4, 8, 16]), "{waits:?}");
        assert_eq!(throttle.wait_secs("u", "192.0.2.200".parse().unwrap(), 0), 16);
        assert_eq!(throttle.wait_secs("u", there, 0), 0);
        assert_eq!(throttle.wait_secs("other", here, 0), 0);
        assert_eq!(throttle.wait_secs("u", here, 16 * SECOND), 0);
        throttle.succeeded("u", here);
        assert_eq!(throttle.wait_secs("u", here, 0), 0);
    }

    #[test]
    fn a_network_that_tries_every_name_waits_too_and_memory_is_bounded() {
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        let mut throttle = Throttle::default();
        for n in 0..THROTTLE_ENTRIES_MAX * 2 {
            throttle.failed(&format!("u{n}"), here, 0);
        }
        assert!(throttle.wait_secs("fresh", here, 0) > 0);
        assert!(throttle.users.len() <= THROTTLE_ENTRIES_MAX);
    }
}
