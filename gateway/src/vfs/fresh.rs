//! What a credential made lately: under append-only rights such a file may be finished, get attributes, and be renamed
//! once within its grace time. Kept in memory: a restart ends every grace.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffre_auth::CredentialId;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::time::UnixNanos;

use crate::limits::{FRESH_FILES_MAX, FRESH_GRACE_SECS};

#[derive(Debug)]
struct Fresh {
    credential: CredentialId,
    until: i64,
    renamed: bool,
}

/// Files and directories within their grace time.
#[derive(Debug, Default)]
pub(super) struct FreshFiles {
    made: Mutex<HashMap<(VaultId, InodeId), Fresh>>,
}

impl FreshFiles {
    fn lock(&self) -> MutexGuard<'_, HashMap<(VaultId, InodeId), Fresh>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `credential` made this.
    pub(super) fn note(&self, object: (VaultId, InodeId), credential: &CredentialId, now: UnixNanos) {
        let mut made = self.lock();
        if made.len() >= FRESH_FILES_MAX {
            made.retain(|_, fresh| fresh.until > now.0);
        }
        // Full of living ones: the newest has no grace, which only refuses, never allows.
        if made.len() < FRESH_FILES_MAX {
            let until = now.0.saturating_add(FRESH_GRACE_SECS.saturating_mul(1_000_000_000));
            made.insert(object, Fresh { credential: credential.clone(), until, renamed: false });
        }
    }

    /// Whether `credential` made this within the grace time.
    pub(super) fn is_fresh(
        &self,
        object: (VaultId, InodeId),
        credential: &CredentialId,
        now: UnixNanos,
    ) -> bool {
        self.lock().get(&object).is_some_and(|fresh| fresh.credential == *credential && fresh.until > now.0)
    }

    /// Whether it may still be renamed.
    pub(super) fn may_rename(
        &self,
        object: (VaultId, InodeId),
        credential: &CredentialId,
        now: UnixNanos,
    ) -> bool {
        self.lock()
            .get(&object)
            .is_some_and(|fresh| fresh.credential == *credential && fresh.until > now.0 && !fresh.renamed)
    }

    /// Its one rename happened.
    pub(super) fn renamed(&self, object: (VaultId, InodeId)) {
        if let Some(fresh) = self.lock().get_mut(&object) {
            fresh.renamed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_is_its_makers_for_the_grace_time_and_renamed_once() {
        let fresh = FreshFiles::default();
        let (object, maker, other) =
            ((VaultId([1; 16]), InodeId(7)), CredentialId("a".into()), CredentialId("b".into()));
        fresh.note(object, &maker, UnixNanos(0));
        assert!(fresh.is_fresh(object, &maker, UnixNanos(1)));
        assert!(!fresh.is_fresh(object, &other, UnixNanos(1)));
        assert!(!fresh.is_fresh(object, &maker, UnixNanos(FRESH_GRACE_SECS * 1_000_000_000)));
        assert!(fresh.may_rename(object, &maker, UnixNanos(1)));
        fresh.renamed(object);
        assert!(!fresh.may_rename(object, &maker, UnixNanos(1)));
        assert!(fresh.is_fresh(object, &maker, UnixNanos(1)));
    }
}
