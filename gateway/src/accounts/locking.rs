//! Locking customer-held vaults: nobody gets the vault any more, sessions that reach it end, what they leave is finished,
//! then the keys are forgotten.

use std::sync::PoisonError;
use std::time::Duration;

use coffre_storage::StoreError;
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::id::VaultId;

use super::Accounts;
use crate::limits::LOCKING_MILLIS;
use crate::session::SharedSession;

impl Accounts {
    /// Locks a vault. Blocking; within a second nothing of it is open. False when it was not unlocked.
    ///
    /// # Errors
    /// The store's: the keys are forgotten all the same.
    pub fn lock_vault(&self, id: VaultId, audit: &RecordDraft) -> Result<bool, StoreError> {
        let was = self.inner.store.begin_locking(id);
        if was {
            self.end_sessions_of(id);
            self.wait_for_the_end_of_sessions(id);
            self.inner.store.finish_locking(id)?;
        }
        self.inner.store.record(audit.clone())?.wait()?;
        Ok(was)
    }

    /// Locks what was unlocked for a time that is over. Called twice a second: what one call begins the next one finishes.
    pub(super) fn lock_what_is_over(&self) {
        let store = &self.inner.store;
        let (over, closing) = store.vaults_to_lock(store.clock_now());
        for id in closing {
            if let Err(error) = store.finish_locking(id) {
                tracing::warn!(%error, "locking a vault");
            }
        }
        for id in over {
            if store.begin_locking(id) {
                self.end_sessions_of(id);
                let record = RecordDraft {
                    vault: Some(id),
                    reason: Some("its time is over".to_owned()),
                    ..RecordDraft::new(Actor::System, Action::VaultLock)
                };
                if let Err(error) = store.record(record) {
                    tracing::warn!(%error, "the locking of a vault could not be recorded");
                }
            }
        }
    }

    /// Waits until no session reaches the vault; not for long.
    fn wait_for_the_end_of_sessions(&self, id: VaultId) {
        let reaches =
            |session: &SharedSession| session.principal.mounts.iter().any(|mount| mount.vault == id.0);
        let waited = self.inner.session_closed.wait_timeout_while(
            self.sessions(),
            Duration::from_millis(LOCKING_MILLIS),
            |sessions| sessions.live.values().any(reaches),
        );
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn end_sessions_of(&self, id: VaultId) {
        for session in self.sessions().live.values() {
            if session.principal.mounts.iter().any(|mount| mount.vault == id.0) {
                session.ended.cancel();
            }
        }
    }
}
