//! What a credential touched in a window of time: the figures and the list that a breach notice needs.
//!
//! Everything is taken from the log: each line names its first and last record, so that it can be proven.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use coffre_storage::audit::search::{Order, Span, search};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, Record};
use coffre_storage::time::UnixNanos;
use serde_json::{Value, json};

use super::rows::Reading;
use crate::admin::Answer;
use crate::admin::service::Service;
use crate::limits::DOSSIER_FILES_MAX;
use crate::units::{hex, lossless, moment};

/// What was done to one path.
#[derive(Debug, Default)]
struct Touched {
    actions: BTreeMap<&'static str, u64>,
    bytes_read: u64,
    bytes_written: u64,
    refused: u64,
    when: When,
}

/// First and last record of something.
#[derive(Debug, Default, Clone, Copy)]
struct When {
    first: Option<(u64, i64)>,
    last: Option<(u64, i64)>,
}

impl When {
    fn note(&mut self, record: &Record) {
        let now = (record.number.0, record.utc.0);
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn insert_into(self, row: &mut Value) {
        if let (Some(fields), Some(first), Some(last)) = (row.as_object_mut(), self.first, self.last) {
            fields.insert("first".to_owned(), moment(first.1).into());
            fields.insert("last".to_owned(), moment(last.1).into());
            fields.insert("records".to_owned(), format!("{}-{}", first.0, last.0).into());
        }
    }
}

/// Everything that is found.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    when: When,
    users: BTreeSet<[u8; 16]>,
    customers: BTreeSet<[u8; 16]>,
    sessions: BTreeSet<[u8; 16]>,
    sources: BTreeMap<String, When>,
    protocols: BTreeSet<&'static str>,
    /// By vault and path; a path that cannot be opened is its inode.
    touched: BTreeMap<(String, String), Touched>,
    not_listed: u64,
    logins: u64,
    refused: u64,
    bytes_read: u64,
    bytes_written: u64,
    administration: Vec<Value>,
}

/// Bytes that went out with an action, or came in.
fn moved(record: &Record) -> (u64, u64) {
    let bytes = record.draft.bytes.unwrap_or(0);
    let action = record.draft.action;
    let read = if action == Action::FileRead { bytes } else { 0 };
    (read, if matches!(action, Action::FileWrite | Action::PartWrite) { bytes } else { 0 })
}

impl Found {
    fn take(&mut self, record: &Record, reading: &Reading<'_>, vaults: &BTreeMap<String, String>) {
        let draft = &record.draft;
        let Actor::User(user) = draft.actor else {
            // What somebody did with the credential itself: made it, ended it.
            self.administration.push(json!({
                "number": record.number.0, "time": moment(record.utc.0), "action": draft.action.name(),
                "outcome": draft.outcome.name(),
            }));
            return;
        };
        self.records += 1;
        self.when.note(record);
        self.users.insert(user);
        self.customers.extend(draft.customer);
        self.sessions.extend(draft.session);
        self.protocols.insert(draft.protocol.name());
        if let Some(source) = draft.source {
            self.sources.entry(source.to_string()).or_default().note(record);
        }
        self.logins += u64::from(draft.action == Action::Login && draft.outcome == Outcome::Done);
        self.refused += u64::from(draft.outcome == Outcome::Refused);
        let (read, written) = moved(record);
        self.bytes_read += read;
        self.bytes_written += written;
        let Some(vault) = draft.vault.map(|vault| vault.to_string()) else { return };
        let vault = vaults.get(&vault).cloned().unwrap_or(vault);
        let details = reading.details(record);
        let mut paths: Vec<String> = details
            .iter()
            .filter(|(key, _)| matches!(key, DetailKey::Path | DetailKey::Target))
            .map(|(_, path)| lossless(path))
            .collect();
        if paths.is_empty() {
            paths.extend(draft.object.map(|inode| format!("inode {}", inode.0)));
        }
        for path in paths {
            let key = (vault.clone(), path);
            if !self.touched.contains_key(&key) && self.touched.len() >= DOSSIER_FILES_MAX {
                self.not_listed += 1;
                continue;
            }
            let touched = self.touched.entry(key).or_default();
            *touched.actions.entry(draft.action.name()).or_default() += 1;
            touched.bytes_read += read;
            touched.bytes_written += written;
            touched.refused += u64::from(draft.outcome == Outcome::Refused);
            touched.when.note(record);
        }
    }

    fn rows(&self) -> Vec<Value> {
        let rows = self.touched.iter().map(|((vault, path), touched)| {
            let actions: Vec<_> =
                touched.actions.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let mut row = json!({
                "vault": vault, "path": path, "actions": actions, "bytes_read": touched.bytes_read,
                "bytes_written": touched.bytes_written, "refused": touched.refused,
            });
            touched.when.insert_into(&mut row);
            row
        });
        rows.collect()
    }
}

impl Service {
    /// What a credential touched between two moments.
    pub(in crate::admin) fn audit_dossier(
        &self,
        credential: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> anyhow::Result<Answer> {
        let known = self.accounts.credentials(None)?;
        let known = known.iter().find(|(_, _, known)| known.id.to_string() == credential);
        let users = self.accounts.users();
        let owner = known.and_then(|(_, _, known)| users.iter().find(|(_, user)| user.id == known.user));
        let customer = owner.map(|(_, user)| user.customer.0);
        self.note_reading(
            "dossier",
            customer,
            &json!({ "credential": credential, "from": from, "to": to }).to_string(),
        )?;
        self.store.checkpoint()?;
        let _held = self.store.hold_packs();
        let reading = Reading::new(&self.store, &self.accounts);
        let names = self.accounts.vaults()?;
        let names = names.into_iter().map(|(name, vault)| (vault.id.to_string(), name)).collect();
        let span = Span { from: from.map(UnixNanos), to: to.map(UnixNanos), ..Span::default() };
        let mut found = Found::default();
        let searched = search(self.store.blobs().as_ref(), &span, Order::OldestFirst, 1, &mut |record| {
            if record.draft.credential.as_deref() == Some(credential) {
                found.take(record, &reading, &names);
            }
            // Nothing is held but what is counted.
            false
        })?;
        if let Some(at) = searched.broken {
            bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
        }
        if known.is_none() && found.records == 0 && found.administration.is_empty() {
            return Err(anyhow::anyhow!("no record names it in that time"))
                .with_context(|| format!("credential {credential}"));
        }
        let user_names = |ids: &BTreeSet<[u8; 16]>| -> Vec<String> {
            let name = |id: &[u8; 16]| {
                users
                    .iter()
                    .find(|(_, user)| user.id.0 == *id)
                    .map_or_else(|| hex(id), |(name, _)| name.clone())
            };
            ids.iter().map(name).collect()
        };
        let customers = self.accounts.customers();
        let customer_name = |id: &[u8; 16]| {
            customers
                .iter()
                .find(|known| known.id.0 == *id)
                .map_or_else(|| hex(id), |known| known.name.clone())
        };
        let sources = found.sources.iter().map(|(source, when)| {
            let mut row = json!({ "source": source });
            when.insert_into(&mut row);
            row
        });
        let mut value = json!({
            "credential": credential, "state": known.map(|(_, state, _)| state), "accounts": user_names(&found.users),
            "customers": found.customers.iter().map(customer_name).collect::<Vec<_>>(),
            "from": from.map(moment), "to": to.map(moment), "log_from": self.beginning()?.map(|begins| begins.records),
            "record_count": found.records, "logins": found.logins, "sessions": found.sessions.len(),
            "protocols": found.protocols, "sources": sources.collect::<Vec<_>>(), "refused": found.refused,
            "bytes_read": found.bytes_read, "bytes_written": found.bytes_written, "paths": found.touched.len(),
            "records_not_listed": found.not_listed, "administration": found.administration, "touched": found.rows(),
        });
        found.when.insert_into(&mut value);
        Ok(value.into())
    }
}
