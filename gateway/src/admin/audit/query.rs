//! What somebody searches in the log, as it comes from the command line, and as it is compared with records.

use anyhow::{Context, bail};
use coffre_storage::audit::search::{Order, Span};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, Protocol, Record};
use coffre_storage::id::RecordNumber;
use coffre_storage::time::UnixNanos;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::units::hex;

/// What somebody searches: a record must be all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// A user, `CUSTOMER/USER` or an identifier; or `operator`, `system`, `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A credential's identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// A path as its user sees it, and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// From this moment on, nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Until before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// One of these actions; any when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub actions: Vec<String>,
    /// `done`, `refused` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `sftp`, `webdav` or `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// A customer's name or identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// A session's identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// Where in the log a page of a search lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Behind this record.
    pub after: Option<u64>,
    /// In front of this record.
    pub before: Option<u64>,
    /// The newest record first.
    pub newest_first: bool,
    /// So many records at most.
    pub records_max: u64,
}

impl Place {
    /// Which record comes first.
    pub fn order(self) -> Order {
        if self.newest_first { Order::NewestFirst } else { Order::OldestFirst }
    }

    /// The place of the page behind one that ended with this record.
    #[must_use]
    pub fn behind(self, number: u64) -> Self {
        if self.newest_first {
            Self { before: Some(number), ..self }
        } else {
            Self { after: Some(number), ..self }
        }
    }
}

/// A query that can be compared.
#[derive(Debug)]
pub(super) struct Wanted {
    actor: Option<Actor>,
    credential: Option<String>,
    path: Option<Vec<u8>>,
    from: Option<UnixNanos>,
    to: Option<UnixNanos>,
    actions: Vec<Action>,
    outcome: Option<Outcome>,
    protocol: Option<Protocol>,
    customer: Option<[u8; 16]>,
    session: Option<[u8; 16]>,
}

/// 16 bytes in hexadecimal digits.
fn identifier(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (hex(&number.to_be_bytes()) == text).then(|| number.to_be_bytes())
}

fn named<T: Copy>(all: &[T], name_of: impl Fn(T) -> &'static str, name: &str) -> anyhow::Result<T> {
    all.iter().copied().find(|one| name_of(*one) == name).with_context(|| {
        let names: Vec<_> = all.iter().map(|one| name_of(*one)).collect();
        format!("`{name}` is none of {}", names.join(", "))
    })
}

/// A customer by name or identifier.
pub(super) fn customer_of(accounts: &Accounts, name: &str) -> anyhow::Result<[u8; 16]> {
    match accounts.customer(name) {
        Ok(customer) => Ok(customer.id.0),
        // One that is gone is in the log by its identifier.
        Err(error) => identifier(name).ok_or_else(|| error.into()),
    }
}

fn actor_of(accounts: &Accounts, name: &str) -> anyhow::Result<Actor> {
    Ok(match name {
        "operator" => Actor::Operator,
        "system" => Actor::System,
        "unknown" => Actor::Unknown,
        _ => {
            let known = accounts.users();
            let of_name: Vec<_> = known
                .iter()
                .filter(|(full, _)| full == name || full.rsplit('/').next() == Some(name))
                .collect();
            match of_name.as_slice() {
                [(_, user)] => Actor::User(user.id.0),
                [] => Actor::User(identifier(name).with_context(|| {
                    format!("no user {name}; one that was deleted is found by its identifier")
                })?),
                _ => bail!("several customers have a user {name}: say CUSTOMER/{name}"),
            }
        }
    })
}

impl Query {
    /// Names become what records hold.
    ///
    /// # Errors
    /// A name that nobody has.
    pub(super) fn resolve(&self, accounts: &Accounts) -> anyhow::Result<Wanted> {
        let action = |name: &String| Action::from_name(name).with_context(|| format!("no action `{name}`"));
        let session = self.session.as_deref().map(|text| {
            identifier(text).with_context(|| format!("`{text}` is no session: 32 hexadecimal digits"))
        });
        Ok(Wanted {
            actor: self.user.as_deref().map(|name| actor_of(accounts, name)).transpose()?,
            credential: self.credential.clone(),
            path: self.path.as_deref().map(|path| path.trim_end_matches('/').as_bytes().to_vec()),
            from: self.from.map(UnixNanos),
            to: self.to.map(UnixNanos),
            actions: self.actions.iter().map(action).collect::<anyhow::Result<_>>()?,
            outcome: self
                .outcome
                .as_deref()
                .map(|name| named(&Outcome::ALL, Outcome::name, name))
                .transpose()?,
            protocol: self
                .protocol
                .as_deref()
                .map(|name| named(&Protocol::ALL, Protocol::name, name))
                .transpose()?,
            customer: self.customer.as_deref().map(|name| customer_of(accounts, name)).transpose()?,
            session: session.transpose()?,
        })
    }
}

impl Wanted {
    pub(super) fn customer(&self) -> Option<[u8; 16]> {
        self.customer
    }

    /// The part of the log in which it can be found.
    pub(super) fn span(&self, place: Place) -> Span {
        Span {
            from: self.from,
            to: self.to,
            after: place.after.map(RecordNumber),
            before: place.before.map(RecordNumber),
            customer: self.customer,
        }
    }

    /// Whether what a record says in clear is wanted.
    pub(super) fn takes(&self, record: &Record) -> bool {
        let draft = &record.draft;
        self.actor.as_ref().is_none_or(|actor| draft.actor == *actor)
            && self.credential.as_ref().is_none_or(|id| draft.credential.as_ref() == Some(id))
            && (self.actions.is_empty() || self.actions.contains(&draft.action))
            && self.outcome.is_none_or(|outcome| draft.outcome == outcome)
            && self.protocol.is_none_or(|protocol| draft.protocol == protocol)
            && self.session.is_none_or(|session| draft.session == Some(session))
    }

    /// Whether the path is wanted. Details are opened only when somebody asks for one.
    pub(super) fn takes_path(&self, details: impl FnOnce() -> Vec<(DetailKey, Vec<u8>)>) -> bool {
        let Some(wanted) = &self.path else { return true };
        details().iter().filter(|(key, _)| matches!(key, DetailKey::Path | DetailKey::Target)).any(
            |(_, path)| match path.strip_prefix(wanted.as_slice()) {
                Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
                None => false,
            },
        )
    }
}
