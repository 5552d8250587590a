//! A record as rows for people and programs: what stands in clear, and the details where their vault is open.

use std::collections::HashMap;

use coffre_storage::audit::{Actor, DetailKey, Record};
use coffre_storage::{Store, Vault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::units::{hex, lossless, moment};

/// What becomes of the details.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Details {
    /// They are read.
    #[default]
    Opened,
    /// They stay sealed.
    Sealed,
}

impl Details {
    /// Its name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Sealed => "sealed",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Opened, Self::Sealed].into_iter().find(|one| one.name() == name)
    }
}

/// Somebody who reads records: knows the users' names, and opens details.
#[derive(Debug)]
pub(super) struct Reading<'s> {
    store: &'s Store,
    users: HashMap<[u8; 16], String>,
    opened: Details,
}

impl<'s> Reading<'s> {
    pub(super) fn new(store: &'s Store, accounts: &Accounts) -> Self {
        let users = accounts.users().into_iter().map(|(name, user)| (user.id.0, name)).collect();
        Self { store, users, opened: Details::Opened }
    }

    /// The same reader, for whom details are opened or not.
    pub(super) fn with(self, opened: Details) -> Self {
        Self { opened, ..self }
    }

    /// The details; none while their vault is locked.
    pub(super) fn details(&self, record: &Record) -> Vec<(DetailKey, Vec<u8>)> {
        if record.sealed_details.is_none() || self.opened == Details::Sealed {
            return Vec::new();
        }
        let vault = record.draft.vault.and_then(|vault| self.store.vault(vault).ok());
        let system = self.store.audit_details_key();
        let key = vault.as_ref().map_or(system, Vault::audit_key);
        record.open_details(key).or_else(|| record.open_details(system)).unwrap_or_default()
    }

    /// The row of a record.
    pub(super) fn row(&self, record: &Record) -> Value {
        let details: serde_json::Map<String, Value> = self
            .details(record)
            .iter()
            .map(|(key, value)| (key.name().to_owned(), lossless(value).into()))
            .collect();
        let mut row = clear_row(record);
        if let Some(fields) = row.as_object_mut() {
            if let Some(name) = self.name_of(&record.draft.actor) {
                fields.insert("actor".to_owned(), name.into());
            }
            fields.insert("details".to_owned(), details.into());
        }
        row
    }

    fn name_of(&self, actor: &Actor) -> Option<&str> {
        match actor {
            Actor::User(id) => self.users.get(id).map(String::as_str),
            Actor::Unknown | Actor::Operator | Actor::System => None,
        }
    }
}

/// What a record says to everybody who has it.
pub(super) fn clear_row(record: &Record) -> Value {
    let draft = &record.draft;
    let (actor, user) = match &draft.actor {
        Actor::User(id) => (hex(id), Some(hex(id))),
        Actor::Unknown => ("unknown".to_owned(), None),
        Actor::Operator => ("operator".to_owned(), None),
        Actor::System => ("system".to_owned(), None),
    };
    json!({
        "number": record.number.0, "time": moment(record.utc.0), "actor": actor, "user": user, "action": draft.action.name(),
        "outcome": draft.outcome.name(), "reason": draft.reason, "protocol": draft.protocol.name(),
        "source": draft.source.map(|source| source.to_string()), "credential": draft.credential,
        "factors": record.factors(), "session": draft.session.map(|session| hex(&session)),
        "customer": draft.customer.map(|customer| hex(&customer)), "vault": draft.vault.map(|vault| vault.to_string()),
        "object": draft.object.map(|object| object.0), "bytes": draft.bytes,
        "blake3": draft.content_hash.map(|hash| hex(&hash)), "details": {},
    })
}
