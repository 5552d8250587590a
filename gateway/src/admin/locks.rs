//! `coffre vault locks` and `vault break-lock`: what WebDAV clients have locked, and the operator's way out when one of them
//! is gone for good. Tokens are not shown: they are worth something in their holder's hands only.

use anyhow::Context;
use coffre_storage::audit::{Action, DetailKey, RecordDraft};
use coffre_storage::tree::lock::{LockDepth, LockRecord, LockScope};
use serde_json::{Value, json};

use super::service::Service;
use super::snapshot::operator;
use crate::units::{lossless, moment};

fn path_of(lock: &LockRecord) -> Vec<u8> {
    if lock.path.is_empty() {
        return b"/".to_vec();
    }
    lock.path.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect()
}

impl Service {
    fn lock_row(&self, lock: &LockRecord) -> Value {
        let users = self.accounts.users();
        let user = users.iter().find(|(_, user)| user.id.0 == lock.holder);
        json!({
            "number": lock.number, "path": lossless(&path_of(lock)),
            "user": user.map(|(name, _)| name),
            "scope": match lock.scope { LockScope::Exclusive => "exclusive", LockScope::Shared => "shared" },
            "depth": match lock.depth { LockDepth::Zero => "0", LockDepth::Infinity => "infinity" },
            "expires": moment(lock.expires.0),
        })
    }

    /// Live locks of a vault, oldest first. Names of files are shown, so it is written down.
    pub(super) fn vault_locks(&self, name: &str) -> anyhow::Result<Value> {
        let record = self.vault_record(name)?;
        let locks = self.store.vault(record.id)?.locks()?;
        self.store.record(operator(Action::LocksRead, &record))?.wait()?;
        Ok(locks.iter().map(|lock| self.lock_row(lock)).collect())
    }

    /// Ends a lock, whoever holds it.
    pub(super) fn vault_break_lock(&self, name: &str, number: u64) -> anyhow::Result<Value> {
        let record = self.vault_record(name)?;
        let vault = self.store.vault(record.id)?;
        let found = vault.locks()?.into_iter().find(|lock| lock.number == number);
        let lock = found.with_context(|| format!("{name} has no lock {number}"))?;
        let details = vec![(DetailKey::Path, path_of(&lock))];
        let audit = RecordDraft { details, ..operator(Action::LockBreak, &record) };
        let broken = vault.break_lock(number, audit).with_context(|| format!("lock {number}"))?.wait()?;
        Ok(self.lock_row(&broken))
    }
}
