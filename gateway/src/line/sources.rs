//! How many connections come from where: one address has no more than its share of a listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by source. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    live: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Counted {
    sources: Sources,
    source: IpAddr,
}

/// What one customer of a network provider has: an IPv4 address, or 64 bits of IPv6.
fn place(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        four @ IpAddr::V4(_) => four,
    }
}

impl Sources {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more; nothing when there are `max` of it already.
    pub fn count(&self, source: IpAddr, max: usize) -> Option<Counted> {
        let source = place(source);
        let mut live = self.lock();
        let count = live.get(&source).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        live.insert(source, count + 1);
        Some(Counted { sources: self.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut live = self.sources.lock();
        if let Some(count) = live.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_others_have_theirs() {
        let sources = Sources::default();
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let held: Vec<_> = (0..3).map(|_| sources.count(one, 3).unwrap()).collect();
        assert!(sources.count(one, 3).is_none());
        assert!(sources.count("::ffff:192.0.2.1".parse().unwrap(), 3).is_none(), "the same, mapped");
        drop(sources.count(other, 3).unwrap());
        drop(held);
        assert!(sources.count(one, 3).is_some());
        assert!(sources.lock().is_empty(), "who left is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let sources = Sources::default();
        let _held = sources.count("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(sources.count("2001:db8::ffff:2".parse().unwrap(), 1).is_none());
        assert!(sources.count("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
    }
}
