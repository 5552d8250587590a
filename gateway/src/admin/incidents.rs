//! `coffre incidents`: what happened, to whom, in words. No names of files: an inode's number leads there.

use std::collections::VecDeque;

use anyhow::Context;
use coffre_storage::Store;
use coffre_storage::allowance::Limit;
use coffre_storage::limits::INCIDENTS_MAX;
use coffre_storage::tree::{Incident, IncidentDraft, IncidentKind};
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::units::moment;

/// The newest incidents, or the first ones after a number.
pub(super) fn list(
    store: &Store,
    accounts: &Accounts,
    max: u32,
    after: Option<u64>,
) -> anyhow::Result<Value> {
    let max = usize::try_from(max).ok().filter(|max| *max <= INCIDENTS_MAX);
    let max = max.with_context(|| format!("at most {INCIDENTS_MAX} incidents at a time"))?;
    let found: Vec<Incident> = match after {
        Some(after) => store.incidents(after, max)?,
        None => newest(store, max)?.into(),
    };
    let customers: Vec<([u8; 16], String)> =
        accounts.customers().into_iter().map(|customer| (customer.id.0, customer.name)).collect();
    let vaults = accounts.vaults()?;
    let row = |incident: &Incident| {
        let what = &incident.what;
        let customer = what.owner.and_then(|owner| customers.iter().find(|(id, _)| *id == owner.0));
        let vault = what.vault.and_then(|id| vaults.iter().find(|(_, vault)| vault.id == id));
        json!({
            "id": incident.number, "time": moment(incident.time.0), "kind": what.kind.name(),
            "customer": customer.map(|(_, name)| name), "vault": vault.map(|(name, _)| name),
            "inode": what.inode.map(|inode| inode.0), "limit": what.limit.map(Limit::name), "percent": percent(what),
            "pack": what.pack.map(|pack| pack.0), "text": text(what),
        })
    };
    Ok(found.iter().map(row).collect())
}

/// Incidents lie in the order of their numbers: to the end, keeping the last.
fn newest(store: &Store, max: usize) -> anyhow::Result<VecDeque<Incident>> {
    let (mut kept, mut after) = (VecDeque::new(), 0);
    loop {
        let piece = store.incidents(after, INCIDENTS_MAX)?;
        let Some(last) = piece.last() else { return Ok(kept) };
        after = last.number;
        kept.extend(piece);
        kept.drain(..kept.len().saturating_sub(max));
    }
}

fn percent(what: &IncidentDraft) -> Option<u64> {
    what.value.filter(|_| what.kind == IncidentKind::QuotaLevel)
}

fn text(what: &IncidentDraft) -> String {
    let said = match what.kind {
        IncidentKind::BrokenUpload => {
            "an upload broke off; what arrived is kept and marked incomplete".to_owned()
        }
        IncidentKind::QuotaLevel => {
            let percent = percent(what).unwrap_or(100);
            let limit = match what.limit {
                Some(Limit::CustomerBytes) => "the customer's bytes",
                Some(Limit::CustomerFiles) => "the customer's files",
                Some(Limit::VaultBytes) => "the vault's bytes",
                Some(Limit::VaultFiles) => "the vault's files",
                Some(Limit::VaultStored) => "the vault's stored bytes, earlier states included,",
                None => "a quota",
            };
            if percent >= 100 {
                format!("the quota of {limit} is used up: more is refused")
            } else {
                format!("the quota of {limit} is used to {percent} %")
            }
        }
        IncidentKind::Damage => "stored bytes are damaged".to_owned(),
        IncidentKind::Backup => "a backup is not whole".to_owned(),
        IncidentKind::Certificate => "the certificate of WebDAV".to_owned(),
        IncidentKind::Witness => "the witness of the audit log".to_owned(),
    };
    match &what.text {
        Some(more) => format!("{said}: {more}"),
        None => said,
    }
}
