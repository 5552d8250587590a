//! In whose hands a vault is changed: who it is, which lock tokens he gives, and what his change rests on.

use std::sync::{Mutex, PoisonError};

use crate::id::{ContentId, InodeId, VaultId};

/// What tells one lock from all others: random, and worth something in its holder's hands only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LockToken(pub [u8; 16]);

impl std::fmt::Debug for LockToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockToken(..)")
    }
}

/// Who makes a change, and what it rests on.
#[derive(Debug)]
pub struct Bearer {
    /// Who.
    pub holder: [u8; 16],
    /// Tokens that he gives.
    pub tokens: Vec<LockToken>,
    rests: Mutex<Vec<Rest>>,
}

/// What must still hold when a change is made. In another vault it is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The bearer has this lock.
    Lock(VaultId, LockToken),
    /// There is this inode.
    Present(VaultId, InodeId),
    /// And its content is this one.
    Content(VaultId, InodeId, ContentId),
}

impl Bearer {
    /// Somebody with the tokens that he gives.
    pub fn new(holder: [u8; 16], tokens: Vec<LockToken>) -> Self {
        Self { holder, tokens, rests: Mutex::default() }
    }

    /// What he changes from now on rests on this too.
    pub fn rest_on(&self, rest: Rest) {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).push(rest);
    }

    pub(crate) fn rests(&self) -> Vec<Rest> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
