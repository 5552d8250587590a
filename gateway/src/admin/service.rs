//! What the administration commands do. Blocking; the same with and without a server.

use anyhow::{Context, bail};
use coffre_auth::credential::recovery::RecoveryCode;
use coffre_auth::{Credential, Customer, Mount, Proof};
use coffre_storage::Store;
use coffre_storage::audit::{Action, Actor, Outcome, RecordDraft};
use coffre_storage::frame::Compression;
use coffre_storage::id::OwnerId;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::VaultRecord;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Answer, Request, Scope, incidents};
use crate::accounts::{Accounts, CredentialScope, KeyPlace};
use crate::config::{Config, Upkeep};
use crate::units::{lossless, moment, parse_rights, rights_name};

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) store: Store,
    pub(super) accounts: Accounts,
    pub(super) upkeep: Upkeep,
    life: Life,
    /// What a backup needs besides the store.
    pub(super) backing: Option<Box<Config>>,
    /// Fires when long works are to end.
    pub(super) stop: CancellationToken,
}

/// Whether a server runs around the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Served,
    /// The command line opened the store itself.
    Alone,
}

impl Service {
    /// The service on a store.
    pub fn new(store: Store, accounts: Accounts, upkeep: Upkeep, life: Life) -> Self {
        Self { store, accounts, upkeep, life, stop: CancellationToken::new(), backing: None }
    }

    /// The same service, whose long works end when `stop` fires.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    /// Does what is asked; tells `progress` bytes done and in all.
    ///
    /// # Errors
    /// Why not, for people.
    #[expect(clippy::too_many_lines, reason = "a table: one line for each thing that can be asked")]
    pub fn execute(&self, request: Request, progress: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Answer> {
        let accounts = &self.accounts;
        Ok(match request {
            Request::CustomerAdd { name, limits } => {
                let customer = accounts.add_customer(&name, limits)?;
                json!({ "customer": customer.name, "id": customer.id.to_string() }).into()
            }
            Request::CustomerSet { name, limits } => self.changed(accounts.set_customer(&name, limits)?),
            Request::CustomerList => self.customers().into(),
            Request::CustomerShow { name } => self.customer_shown(&name)?.into(),
            Request::CustomerClose { name } => self.changed(accounts.close_customer(&name)?),
            Request::CustomerReopen { name } => self.changed(accounts.reopen_customer(&name)?),
            Request::VaultAdd { vault, retention_secs, limits } => {
                let id = accounts.add_vault(&vault, retention_secs, limits)?;
                json!({ "vault": vault, "id": id.to_string() }).into()
            }
            Request::VaultSet { vault, limits } => {
                accounts.set_vault(&vault, limits)?;
                self.vault_show(&vault)?.into()
            }
            Request::VaultKeys { vault, request } => self.vault_keys(&vault, request)?.into(),
            Request::VaultList => {
                let rows: Vec<Value> =
                    accounts.vaults()?.iter().map(|(name, vault)| vault_row(name, vault)).collect();
                Value::Array(rows).into()
            }
            Request::VaultShow { vault } => self.vault_show(&vault)?.into(),
            Request::VaultRetention { vault, retention_secs } => {
                self.vault_retention(&vault, retention_secs)?.into()
            }
            Request::VaultSnapshot { vault, name, keep_secs } => {
                self.snapshot_add(&vault, &name, keep_secs)?.into()
            }
            Request::VaultSnapshotDelete { vault, name } => self.snapshot_delete(&vault, &name)?.into(),
            Request::VaultSnapshots { vault } => self.snapshots(&vault)?.into(),
            Request::VaultLocks { vault } => self.vault_locks(&vault)?.into(),
            Request::VaultBreakLock { vault, number } => self.vault_break_lock(&vault, number)?.into(),
            Request::VaultRestore { vault, path, at, to } => {
                self.vault_restore((&vault, &path), (&at, to.as_deref()), progress)?.into()
            }
            Request::VaultHold { vault, path, reason } => self.vault_hold(&vault, &path, &reason)?.into(),
            Request::VaultLift { vault, number } => self.vault_lift(&vault, number)?.into(),
            Request::VaultCompression { vault, on } => self.vault_compression(&vault, on)?.into(),
            Request::Backup { destination, verify_all } => self.backup(&destination, verify_all, progress)?,
            Request::VaultErase { vault, confirm, backups } => {
                self.vault_erase(&vault, &confirm, &backups, progress)?
            }
            Request::Reclaim { grace_secs } => self.reclaim(grace_secs, progress)?.into(),
            Request::UserAdd { user, mounts } => {
                let added = accounts.add_user(&user, &mounts)?;
                json!({ "user": user, "id": added.id.to_string() }).into()
            }
            Request::UserList => self.users()?.into(),
            Request::UserDisable { user } => {
                accounts.set_user_disabled(&user, true)?;
                json!({ "user": user, "state": "disabled" }).into()
            }
            Request::UserEnable { user } => {
                accounts.set_user_disabled(&user, false)?;
                json!({ "user": user, "state": "enabled" }).into()
            }
            Request::UserDelete { user } => {
                accounts.delete_user(&user)?;
                json!({ "user": user, "state": "deleted" }).into()
            }
            Request::CredentialAddKey { user, key, machine, smart_card, scope } => {
                let place = match (machine, smart_card) {
                    (false, false) => KeyPlace::Person,
                    (true, false) => KeyPlace::Machine,
                    (false, true) => KeyPlace::SmartCard,
                    (true, true) => bail!("a machine has no PIN to say: one of both"),
                };
                let added = accounts.add_key(&user, &key, place, scope_of(&scope)?)?;
                let mut row = credential_row(&user, "live", &added);
                if let Some(fields) = row.as_object_mut()
                    && let Some(why) = accounts.why_not_enough(&user, &added)
                {
                    fields.insert("note".to_owned(), why.into());
                }
                row.into()
            }
            Request::CredentialAddToken { user, scope } => {
                let issued = accounts.add_token(&user, scope_of(&scope)?)?;
                let (token, expires) = (issued.token.expose(), moment(issued.expires));
                json!({ "id": issued.id.to_string(), "token": token, "user": user, "expires": expires })
                    .into()
            }
            Request::CredentialAddPassword { user, password } => {
                let added = accounts.add_password(&user, &password.0)?;
                credential_row(&user, "live", &added).into()
            }
            Request::CredentialAddTotp { user } => {
                let made = accounts.add_totp(&user)?;
                let uri = made.secret.uri("Coffre", &made.user);
                json!({ "id": made.id.to_string(), "user": made.user, "secret": made.secret.expose(), "uri": uri })
                    .into()
            }
            Request::CredentialConfirm { id, code } => {
                accounts.confirm(&id, &code)?;
                json!({ "id": id, "state": "live" }).into()
            }
            Request::CredentialAddCodes { user } => {
                let made = accounts.add_codes(&user)?;
                let codes: Vec<String> = made.secret.iter().map(RecoveryCode::expose).collect();
                json!({ "id": made.id.to_string(), "user": made.user, "codes": codes }).into()
            }
            Request::CredentialList { user } => {
                let all = accounts.credentials(user.as_deref())?;
                let mut rows: Vec<Value> =
                    all.iter().map(|(user, state, known)| credential_row(user, state, known)).collect();
                if user.is_none() {
                    rows.extend(self.authority_rows());
                }
                Value::Array(rows).into()
            }
            Request::TlsCertificateAdd { user, certificate, scope } => {
                let added = accounts.add_certificate(&user, &certificate, scope_of(&scope)?)?;
                credential_row(&user, "live", &added).into()
            }
            Request::AuthorityAdd { customer, key, life_secs_max, scope } => {
                self.authority_add(&customer, &key, life_secs_max, scope_of(&scope)?)?.into()
            }
            Request::CertificateRevoke { authority, mark } => {
                self.certificate_revoke(&authority, mark)?.into()
            }
            Request::CredentialRevoke { id } => {
                accounts.revoke(&id)?;
                json!({ "id": id, "state": "revoked" }).into()
            }
            Request::AuditTail { lines } => self.audit_tail(lines)?.into(),
            Request::AuditVerify { kept } => self.audit_verify(&kept)?,
            Request::AuditProve { number, customer } => {
                self.audit_prove_record(number, customer.as_deref())?.into()
            }
            Request::AuditProveSince { old } => self.audit_prove_since(old)?.into(),
            Request::AuditExportCustomer { customer, directory, details } => {
                self.audit_export_customer(&customer, &directory, details)?
            }
            Request::AuditDossier { credential, from, to } => self.audit_dossier(&credential, from, to)?,
            Request::AuditSearch { query, place } => self.audit_search(&query, place)?,
            Request::Incidents { max, after } => {
                self.note(Action::IncidentsRead, "list", true)?;
                incidents::list(&self.store, &self.accounts, max, after)?.into()
            }
            Request::Export { vault, destination, at, format } => {
                self.export(&vault, (destination, format), at, progress)?
            }
            Request::Check { read_data, repair } => {
                super::check::run(&self.store, Some(accounts), (read_data, repair), progress)?
            }
            Request::Status => self.status()?.into(),
        })
    }

    pub(super) fn note(&self, action: Action, what: &str, good: bool) -> anyhow::Result<()> {
        let outcome = if good { Outcome::Done } else { Outcome::Failed };
        let record = RecordDraft {
            outcome,
            reason: Some(what.to_owned()),
            ..RecordDraft::new(Actor::Operator, action)
        };
        self.store.record(record)?.wait()?;
        Ok(())
    }

    fn customers(&self) -> Value {
        self.accounts.customers().iter().map(|customer| self.customer_row(customer)).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "it came from its change and goes nowhere else")]
    fn changed(&self, customer: Customer) -> Answer {
        self.customer_row(&customer).into()
    }

    fn customer_row(&self, customer: &Customer) -> Value {
        let used = self.store.quotas().customer(OwnerId(customer.id.0)).used;
        let state = match customer.closed {
            Some(_) => "closed",
            None if customer.is_live(self.store.clock_now().0) => "live",
            None => "expired",
        };
        json!({
            "name": customer.name, "id": customer.id.to_string(), "users_max": customer.users_max,
            "bytes_max": customer.bytes_max, "bytes_used": used.bytes, "files_max": customer.files_max,
            "files_used": used.files, "sessions_max": customer.sessions_max, "rate_max": customer.rate_max, "login": customer.login().to_string(),
            "login_note": customer.login.is_none().then_some(LOGIN_OF_BEFORE),
            "expires": customer.expires.map(moment), "state": state,
            "closed": customer.closed.map(moment), "created": moment(customer.created),
        })
    }

    /// A customer with what it has.
    fn customer_shown(&self, name: &str) -> anyhow::Result<Value> {
        let customer = self.accounts.customer(name)?;
        let own = |(_, vault): &&(String, VaultRecord)| vault.owner.0 == customer.id.0;
        let (vaults, users) = (self.accounts.vaults()?, self.accounts.users());
        let stored: u64 = vaults.iter().filter(own).map(|(_, vault)| vault.stored_bytes).sum();
        let mut shown = self.customer_row(&customer);
        if let Some(fields) = shown.as_object_mut() {
            let users = users.iter().filter(|(_, user)| user.customer == customer.id).count();
            fields.insert("users".to_owned(), users.into());
            fields.insert("bytes_stored".to_owned(), stored.into());
            let names: Vec<&str> = vaults.iter().filter(own).map(|(name, _)| name.as_str()).collect();
            fields.insert("vaults".to_owned(), names.into());
        }
        Ok(shown)
    }

    fn users(&self) -> anyhow::Result<Value> {
        let vaults = self.accounts.vaults()?;
        let shown = |mount: &Mount| {
            let path = |names: &[minicbor::bytes::ByteVec]| {
                names.iter().map(|name| format!("/{}", lossless(name))).collect::<Vec<_>>().concat()
            };
            let vault = vaults
                .iter()
                .find(|(_, vault)| vault.id.0 == mount.vault)
                .map_or("?", |(name, _)| name.as_str());
            let subtree =
                if mount.subtree.is_empty() { String::new() } else { format!(":{}", path(&mount.subtree)) };
            let at = if mount.path.is_empty() { "/".to_owned() } else { path(&mount.path) };
            format!("{at}={vault}{subtree},{}", rights_name(mount.rights))
        };
        Ok(self
            .accounts
            .users()
            .iter()
            .map(|(name, user)| {
                json!({
                    "user": name, "id": user.id.to_string(), "mounts": user.mounts.iter().map(shown).collect::<Vec<_>>(),
                    "state": if user.disabled { "disabled" } else { "enabled" }, "created": moment(user.created),
                })
            })
            .collect())
    }

    fn status(&self) -> anyhow::Result<Value> {
        let status = self.store.status();
        Ok(json!({
            "state": match self.life {
                _ if status.poisoned => "stopped after a write error",
                Life::Served => "serving",
                Life::Alone => "in order, and no server runs",
            },
            "version": env!("CARGO_PKG_VERSION"), "commit_number": status.commit_number, "batch_number": status.batch_number,
            "packs": status.packs, "audit_records": status.audit_records, "free_bytes": status.free_bytes,
            "sessions": self.accounts.session_count(), "time": moment(self.store.clock_now().0),
            "scrub": super::check::scrub(&self.store)?,
        }))
    }
}

pub(super) fn vault_row(name: &str, vault: &VaultRecord) -> Value {
    let UnixNanos(created) = vault.created;
    json!({
        "vault": name, "id": vault.id.to_string(), "key": match (vault.erased, vault.managed) { (Some(_), _) => "erased", (None, true) => "managed", (None, false) => "customer" },
        "erased": vault.erased.map(|at| moment(at.0)), "bytes_used": vault.used_bytes,
        "bytes_max": vault.allowance.bytes_max, "files_used": vault.used_inodes.saturating_sub(1),
        "files_max": vault.allowance.files_max, "bytes_unique": vault.unique_bytes, "bytes_stored": vault.stored_bytes,
        "stored_max": vault.allowance.stored_max,
        "compression": match vault.compression { Compression::Off => "off", Compression::Lz4 => "lz4" },
        "retention_secs": vault.retention_secs, "created": moment(created),
    })
}

/// Of customers that nobody has asked yet.
const LOGIN_OF_BEFORE: &str = "not chosen yet: a person's SSH key alone is enough, as before there was a choice; `customer set --login default` ends that";

fn credential_row(user: &str, state: &str, credential: &Credential) -> Value {
    let (kind, fingerprint) = match &credential.proof {
        Proof::Token { .. } => ("token", None),
        Proof::SshKey { fingerprint, smart_card: true, .. } => ("smart card", Some(fingerprint)),
        Proof::SshKey { fingerprint, machine: false, .. } => ("key", Some(fingerprint)),
        Proof::SshKey { fingerprint, machine: true, .. } => ("machine key", Some(fingerprint)),
        Proof::Password { .. } => ("password", None),
        Proof::Totp { confirmed: true, .. } => ("one-time codes", None),
        Proof::Totp { confirmed: false, .. } => ("one-time codes, not confirmed", None),
        Proof::RecoveryCodes { .. } => ("recovery codes", None),
        Proof::TlsCertificate { .. } => ("tls certificate", None),
    };
    let subject =
        if let Proof::TlsCertificate { subject, .. } = &credential.proof { Some(subject) } else { None };
    json!({
        "id": credential.id.to_string(), "user": user, "kind": kind, "subject": subject, "state": state, "fingerprint": fingerprint,
        "rights": credential.rights.map(rights_name),
        "from": credential.networks.iter().map(|network| network.0.to_string()).collect::<Vec<_>>(),
        "expires": credential.expires.map(moment), "created": moment(credential.created),
    })
}

fn scope_of(scope: &Scope) -> anyhow::Result<CredentialScope> {
    let rights = scope.rights.as_deref().map(parse_rights).transpose().map_err(anyhow::Error::msg)?;
    let networks = scope
        .from
        .iter()
        .map(|network| network.parse().with_context(|| format!("`{network}` is no network")));
    Ok(CredentialScope {
        rights,
        networks: networks.collect::<anyhow::Result<_>>()?,
        expires_secs: scope.expires_secs,
    })
}
