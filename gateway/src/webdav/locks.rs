//! Locks (RFC 4918 section 6): who may write where. On the object itself (vault and path inside it), so that all users who
//! see it see its lock. They live in memory: a restart releases them, as an expiry would.
//!
//! A lock is bound to the user who took it: its token in anybody else's request is as good as none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use coffre_auth::UserId;

use crate::limits::{LOCKS_MAX, LOCKS_OF_USER_MAX};

/// What a lock is on: a vault, and names inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The vault.
    pub vault: [u8; 16],
    /// Names, outermost first.
    pub names: Vec<Vec<u8>>,
}

impl Place {
    fn is_at_or_below(&self, above: &Self) -> bool {
        self.vault == above.vault && self.names.starts_with(&above.names)
    }

    fn parent(&self) -> Option<Self> {
        let (_, names) = self.names.split_last()?;
        Some(Self { vault: self.vault, names: names.to_vec() })
    }
}

/// A lock.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "RFC 4918's own two: depth and scope")]
pub struct Lock {
    /// `urn:uuid:...`
    pub token: String,
    /// On what.
    pub place: Place,
    /// And all below.
    pub deep: bool,
    /// Nobody else's beside it.
    pub exclusive: bool,
    /// What the client said of its owner: XML.
    pub owner: String,
    /// Whose.
    pub user: UserId,
    /// Nanoseconds since 1970.
    pub expires: i64,
    /// Seconds it was given.
    pub secs: u64,
}

impl Lock {
    fn covers(&self, place: &Place) -> bool {
        if self.deep { place.is_at_or_below(&self.place) } else { *place == self.place }
    }
}

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Content or properties of what is there.
    Itself,
    /// A name comes, goes or moves, with all below it.
    Name,
}

/// Why a lock was not given, or a change not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody's lock stands in the way.
    #[error("the resource is locked")]
    Locked,
    /// No such lock here.
    #[error("there is no such lock here")]
    Unknown,
    /// It is another user's.
    #[error("the lock belongs to somebody else")]
    NotYours,
    /// Too many locks.
    #[error("there are too many locks")]
    TooMany,
}

/// All locks.
#[derive(Debug, Default)]
pub struct Locks {
    all: Mutex<Vec<Lock>>,
}

impl Locks {
    fn live(&self, now: i64) -> MutexGuard<'_, Vec<Lock>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|lock| lock.expires > now);
        all
    }

    /// Takes a lock.
    ///
    /// # Errors
    /// `Locked`, `TooMany`.
    pub fn take(&self, lock: Lock, now: i64) -> Result<(), LockError> {
        let mut all = self.live(now);
        let conflict = all.iter().any(|known| {
            let touches = known.covers(&lock.place) || (lock.deep && known.place.is_at_or_below(&lock.place));
            touches && (lock.exclusive || known.exclusive)
        });
        if conflict {
            return Err(LockError::Locked);
        }
        if all.len() >= LOCKS_MAX
            || all.iter().filter(|known| known.user == lock.user).count() >= LOCKS_OF_USER_MAX
        {
            return Err(LockError::TooMany);
        }
        all.push(lock);
        Ok(())
    }

    /// Gives one of the user's locks on a place more time.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn refresh(
        &self,
        place: &Place,
        tokens: &[String],
        user: UserId,
        (secs, now): (u64, i64),
    ) -> Result<Lock, LockError> {
        let mut all = self.live(now);
        let found = all
            .iter_mut()
            .find(|lock| lock.user == user && lock.covers(place) && tokens.contains(&lock.token));
        let lock = found.ok_or(LockError::Unknown)?;
        lock.secs = secs;
        lock.expires = until(secs, now);
        Ok(lock.clone())
    }

    /// Releases a lock.
    ///
    /// # Errors
    /// `Unknown`, `NotYours`.
    pub fn release(&self, place: &Place, token: &str, user: UserId, now: i64) -> Result<(), LockError> {
        let mut all = self.live(now);
        let at = all
            .iter()
            .position(|lock| lock.token == token && lock.covers(place))
            .ok_or(LockError::Unknown)?;
        if all.get(at).is_none_or(|lock| lock.user != user) {
            return Err(LockError::NotYours);
        }
        all.remove(at);
        Ok(())
    }

    /// Whether the user may change a place with these tokens. A change of a name changes the directory too.
    ///
    /// # Errors
    /// `Locked`.
    pub fn allows(
        &self,
        place: &Place,
        reach: Reach,
        (tokens, user): (&[String], UserId),
        now: i64,
    ) -> Result<(), LockError> {
        let all = self.live(now);
        let parent = place.parent().filter(|_| reach == Reach::Name);
        let blocking = |lock: &&Lock| {
            lock.covers(place)
                || parent.as_ref().is_some_and(|parent| lock.covers(parent))
                || (reach == Reach::Name && lock.place.is_at_or_below(place))
        };
        let held = |lock: &Lock| lock.user == user && tokens.contains(&lock.token);
        let shared_held = all.iter().filter(blocking).any(|lock| !lock.exclusive && held(lock));
        let allowed = all.iter().filter(blocking).all(|lock| held(lock) || (!lock.exclusive && shared_held));
        if allowed { Ok(()) } else { Err(LockError::Locked) }
    }

    /// Whether a live lock of that token covers a place.
    pub fn is_held(&self, place: &Place, token: &str, user: UserId, now: i64) -> bool {
        self.live(now).iter().any(|lock| lock.token == token && lock.user == user && lock.covers(place))
    }

    /// Locks that cover a place.
    pub fn on(&self, place: &Place, now: i64) -> Vec<Lock> {
        self.live(now).iter().filter(|lock| lock.covers(place)).cloned().collect()
    }

    /// What is gone has no locks.
    pub fn forget(&self, place: &Place, now: i64) {
        self.live(now).retain(|lock| !lock.place.is_at_or_below(place));
    }
}

/// When a lock of so many seconds ends.
pub fn until(secs: u64, now: i64) -> i64 {
    now.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000))
}

/// A fresh lock token.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn fresh_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    let mut number = u128::from_be_bytes(bytes);
    // RFC 9562 section 5.4: version 4, variant 10.
    number = (number & !(0xf << 76)) | (0x4 << 76);
    number = (number & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!("urn:uuid:{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: UserId = UserId([1; 16]);
    const YOU: UserId = UserId([2; 16]);

    fn place(path: &str) -> Place {
        Place {
            vault: [0; 16],
            names: path
                .split('/')
                .filter(|name| !name.is_empty())
                .map(|name| name.as_bytes().to_vec())
                .collect(),
        }
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "the lock's own two")]
    fn lock(path: &str, deep: bool, exclusive: bool, user: UserId) -> Lock {
        let token = fresh_token().unwrap();
        Lock { token, place: place(path), deep, exclusive, owner: String::new(), user, expires: 100, secs: 1 }
    }

    #[test]
    fn a_token_is_good_for_its_own_user_only() {
        let locks = Locks::default();
        let mine = lock("/a", false, true, ME);
        locks.take(mine.clone(), 0).unwrap();
        let tokens = [mine.token.clone()];
        assert!(locks.allows(&place("/a"), Reach::Itself, (&tokens, ME), 0).is_ok());
        assert!(locks.allows(&place("/a"), Reach::Itself, (&[], ME), 0).is_err());
        assert!(locks.allows(&place("/a"), Reach::Itself, (&tokens, YOU), 0).is_err());
        assert_eq!(locks.release(&place("/a"), &mine.token, YOU, 0), Err(LockError::NotYours));
        assert_eq!(locks.release(&place("/b"), &mine.token, ME, 0), Err(LockError::Unknown));
        locks.release(&place("/a"), &mine.token, ME, 0).unwrap();
        assert!(locks.allows(&place("/a"), Reach::Itself, (&[], YOU), 0).is_ok());
    }

    #[test]
    fn deep_locks_reach_down_and_names_reach_up() {
        let locks = Locks::default();
        let mine = lock("/a", true, true, ME);
        locks.take(mine, 0).unwrap();
        assert!(locks.allows(&place("/a/b/c"), Reach::Itself, (&[], YOU), 0).is_err());
        assert!(locks.allows(&place("/ab"), Reach::Itself, (&[], YOU), 0).is_ok());
        assert_eq!(locks.take(lock("/a/b", false, false, YOU), 0), Err(LockError::Locked));
        assert_eq!(locks.take(lock("/", true, true, YOU), 0), Err(LockError::Locked));
        locks.take(lock("/d", false, true, ME), 0).unwrap();
        assert!(
            locks.allows(&place("/d/new"), Reach::Name, (&[], YOU), 0).is_err(),
            "a new name changes the directory"
        );
        assert!(locks.allows(&place("/d/old"), Reach::Itself, (&[], YOU), 0).is_ok());
    }

    #[test]
    fn a_lock_ends_at_its_instant_and_with_its_resource() {
        let locks = Locks::default();
        locks.take(lock("/a/b", false, true, ME), 0).unwrap();
        assert!(locks.allows(&place("/a"), Reach::Name, (&[], YOU), 99).is_err());
        assert!(locks.allows(&place("/a"), Reach::Name, (&[], YOU), 100).is_ok());
        locks.take(lock("/a/b", false, true, ME), 0).unwrap();
        locks.forget(&place("/a"), 0);
        assert!(locks.on(&place("/a/b"), 0).is_empty());
    }

    #[test]
    fn shared_locks_stand_beside_each_other() {
        let locks = Locks::default();
        let (one, two) = (lock("/a", false, false, ME), lock("/a", false, false, YOU));
        locks.take(one.clone(), 0).unwrap();
        locks.take(two, 0).unwrap();
        assert_eq!(locks.take(lock("/a", false, true, ME), 0), Err(LockError::Locked));
        assert!(locks.allows(&place("/a"), Reach::Itself, (&[one.token], ME), 0).is_ok());
    }
}
