//! Passwords are checked few at a time: each takes 19 MiB and much of a core for a moment. Who waits is counted by network, so that
//! guesses from one place never fill the queue that others stand in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffre_auth::credential::password::StoredPassword;
use coffre_auth::throttle::network;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::limits::{PASSWORDS_AT_ONCE, PASSWORDS_WAITING, PASSWORDS_WAITING_OF_NETWORK};

/// Too many passwords wait to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked: try again in a moment")]
pub(super) struct Busy;

/// The queue.
#[derive(Debug)]
pub(super) struct Passwords {
    room: Arc<Semaphore>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE)), waiting: Mutex::default() }
    }
}

/// A place in the queue, until it is dropped.
struct Place<'q>(&'q Passwords, IpAddr);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

impl Passwords {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, source: IpAddr) -> Result<Place<'_>, Busy> {
        let (mut waiting, from) = (self.lock(), network(source));
        let all: usize = waiting.values().sum();
        let own = waiting.get(&from).copied().unwrap_or(0);
        if all >= PASSWORDS_WAITING || own >= PASSWORDS_WAITING_OF_NETWORK {
            return Err(Busy);
        }
        waiting.insert(from, own + 1);
        Ok(Place(self, from))
    }

    /// Whether this is the password.
    pub(super) async fn is(
        &self,
        stored: StoredPassword,
        given: Zeroizing<String>,
        source: IpAddr,
    ) -> Result<bool, Busy> {
        let place = self.place(source)?;
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return Err(Busy) };
        // The room goes with the check, which goes on when nobody waits for it any more.
        let checked = tokio::task::spawn_blocking(move || {
            let _room = room;
            stored.is(&given)
        });
        let checked = checked.await;
        drop(place);
        checked.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_of_one_network_leave_room_for_others_and_all_are_bounded() {
        let queue = Passwords::default();
        let from = |n: u8| IpAddr::from([10, n, 0, 1]);
        let mut held: Vec<Place<'_>> =
            (0..PASSWORDS_WAITING_OF_NETWORK).map(|_| queue.place(from(1)).unwrap()).collect();
        assert!(queue.place(from(1)).is_err() && queue.place(IpAddr::from([10, 1, 0, 9])).is_err());
        for n in 0..u8::try_from(PASSWORDS_WAITING - held.len()).unwrap() {
            held.push(queue.place(from(10 + n)).unwrap());
        }
        assert!(queue.place(from(2)).is_err(), "as many as may wait");
        held.clear();
        assert!(queue.lock().is_empty() && queue.place(from(1)).is_ok());
    }
}
