//! `coffre vault snapshot`: moments with a name, kept whatever the retention.

use anyhow::Context;
use coffre_storage::audit::{Action, Actor, DetailKey, RecordDraft};
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{SnapshotRecord, VaultRecord};
use coffre_storage::{Store, StoreError, Vault};
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::limits::RETENTION_GRACE_SECS;
use crate::vfs::point::{Spelling, name_of};

const NANOS: u64 = 1_000_000_000;

/// A vault by its full name.
///
/// # Errors
/// None of that name; the store's own.
pub(super) fn vault_named(
    store: &Store,
    accounts: &Accounts,
    name: &str,
) -> anyhow::Result<(VaultRecord, Vault)> {
    let all = accounts.vaults()?;
    let (_, record) =
        all.into_iter().find(|(known, _)| known == name).with_context(|| format!("no vault `{name}`"))?;
    let vault = store.vault(record.id)?;
    Ok((record, vault))
}

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

/// Makes a snapshot of the present.
pub(super) fn add(
    store: &Store,
    accounts: &Accounts,
    vault: &str,
    name: &str,
    keep_secs: Option<u64>,
) -> anyhow::Result<Value> {
    let (record, opened) = vault_named(store, accounts, vault)?;
    let expires = keep_secs.map(|secs| after(store.clock_now(), secs));
    let details = vec![(DetailKey::Name, name.as_bytes().to_vec())];
    let audit = RecordDraft { details, ..operator(Action::SnapshotAdd, &record) };
    let made = opened.add_snapshot(name, expires, audit).map_err(|error| explained(error, name))?.wait()?;
    Ok(row(&made))
}

/// Lets a snapshot go before its time: after the grace time.
pub(super) fn delete(store: &Store, accounts: &Accounts, vault: &str, name: &str) -> anyhow::Result<Value> {
    let (record, opened) = vault_named(store, accounts, vault)?;
    let when = after(store.clock_now(), RETENTION_GRACE_SECS);
    let note = format!("gone at {}", name_of(when, Spelling::Colons));
    let details = vec![(DetailKey::Name, name.as_bytes().to_vec()), (DetailKey::Note, note.into_bytes())];
    let audit = RecordDraft { details, ..operator(Action::SnapshotDelete, &record) };
    opened.expire_snapshot(name, when, audit).map_err(|error| explained(error, name))?.wait()?;
    let left = opened.snapshots()?.into_iter().find(|snapshot| snapshot.name == name);
    Ok(left.map_or(Value::Null, |left| row(&left)))
}

/// Named snapshots, oldest first.
pub(super) fn list(store: &Store, accounts: &Accounts, vault: &str) -> anyhow::Result<Value> {
    let (_, opened) = vault_named(store, accounts, vault)?;
    Ok(opened.snapshots()?.iter().map(row).collect())
}
