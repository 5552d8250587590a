//! `coffre vault snapshot`: moments with a name, kept whatever the retention.

use coffre_storage::StoreError;
use coffre_storage::audit::{Action, Actor, DetailKey, RecordDraft};
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{SnapshotRecord, VaultRecord};
use serde_json::{Value, json};

use super::service::Service;
use crate::vfs::point::{Spelling, name_of};

const NANOS: u64 = 1_000_000_000;

/// The beginning of a record of an operator's about a vault.
pub(super) fn operator(action: Action, record: &VaultRecord) -> RecordDraft {
    RecordDraft {
        customer: Some(record.owner.0),
        vault: Some(record.id),
        ..RecordDraft::new(Actor::Operator, action)
    }
}

fn after(now: UnixNanos, secs: u64) -> UnixNanos {
    let nanos = i64::try_from(secs.saturating_mul(NANOS)).unwrap_or(i64::MAX);
    UnixNanos(now.0.saturating_add(nanos))
}

fn row(snapshot: &SnapshotRecord) -> Value {
    json!({
        "name": snapshot.name, "time": name_of(snapshot.time, Spelling::Colons),
        "expires": snapshot.expires.map(|expires| name_of(expires, Spelling::Colons)),
    })
}

fn explained(error: StoreError, name: &str) -> anyhow::Error {
    if matches!(error, StoreError::InvalidName) {
        anyhow::anyhow!(
            "`{name}` is not a snapshot's name: 1 to 64 letters, digits, `.`, `_`, `-` or `@`, not beginning with `.`, `-` or a year"
        )
    } else if matches!(error, StoreError::Exists) {
        anyhow::anyhow!("snapshot `{name}` exists already")
    } else if matches!(error, StoreError::NotFound) {
        anyhow::anyhow!("no snapshot `{name}`")
    } else {
        error.into()
    }
}

impl Service {
    pub(super) fn snapshot_add(
        &self,
        vault: &str,
        name: &str,
        keep_secs: Option<u64>,
    ) -> anyhow::Result<Value> {
        let record = self.vault_record(vault)?;
        let expires = keep_secs.map(|secs| after(self.store.clock_now(), secs));
        let details = vec![(DetailKey::Name, name.as_bytes().to_vec())];
        let audit = RecordDraft { details, ..operator(Action::SnapshotAdd, &record) };
        let made = self.store.vault(record.id)?.add_snapshot(name, expires, audit);
        Ok(row(&made.map_err(|error| explained(error, name))?.wait()?))
    }

    /// Lets a snapshot go before its time: after the grace time.
    pub(super) fn snapshot_delete(&self, vault: &str, name: &str) -> anyhow::Result<Value> {
        let record = self.vault_record(vault)?;
        let opened = self.store.vault(record.id)?;
        let when = after(self.store.clock_now(), self.upkeep.retention_grace_secs);
        let note = format!("gone at {}", name_of(when, Spelling::Colons));
        let details = vec![(DetailKey::Name, name.as_bytes().to_vec()), (DetailKey::Note, note.into_bytes())];
        let audit = RecordDraft { details, ..operator(Action::SnapshotDelete, &record) };
        opened.expire_snapshot(name, when, audit).map_err(|error| explained(error, name))?.wait()?;
        let left = opened.snapshots()?.into_iter().find(|snapshot| snapshot.name == name);
        Ok(left.map_or(Value::Null, |left| row(&left)))
    }

    /// Named snapshots, oldest first.
    pub(super) fn snapshots(&self, vault: &str) -> anyhow::Result<Value> {
        Ok(self.vault(vault)?.snapshots()?.iter().map(row).collect())
    }
}
