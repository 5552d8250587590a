//! Changes to who is who: validated, committed with their audit record, applied, enforced. Blocking.

use coffre_auth::credential::app_token::LifetimeError;
use coffre_auth::credential::password::PasswordError;
use coffre_auth::credential::ssh_key::KeyError;
use coffre_auth::credential::tls_certificate::TlsCertificateError;
use coffre_auth::customer::is_name;
use coffre_auth::{CredentialId, Customer, CustomerId, Mount, Policy, RightsSet, User, UserId};
use coffre_storage::allowance::Allowance;
use coffre_storage::audit::{Action, Actor, DetailKey, RecordDraft};
use coffre_storage::id::{OwnerId, VaultId};
use coffre_storage::index::Table;
use coffre_storage::keys::{RootKey, Slot, SlotError};
use coffre_storage::tree::{NewVault, VaultRecord};
use coffre_storage::{StoreError, Txn};
use serde::{Deserialize, Serialize};

use super::Accounts;
use crate::limits::{AUTHORITIES_MAX, REVOCATIONS_MAX, TOTP_DEVICES_MAX};
use crate::units::Bound;
use crate::vfs::path::PathError;
use crate::vfs::{SNAPSHOTS, VaultPath};

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccountError {
    /// The name is no name.
    #[error(
        "`{0}` is not a name: 1 to 64 letters, digits, `.`, `_`, `-` or `@`, not beginning with `.` or `-`"
    )]
    Name(String),
    /// `CUSTOMER/NAME` was needed.
    #[error("`{0}` has no customer: write CUSTOMER/NAME")]
    NoCustomer(String),
    /// Taken.
    #[error("{kind} `{name}` exists already")]
    Exists {
        /// Of what.
        kind: &'static str,
        /// Which.
        name: String,
    },
    /// Not there, or not unique.
    #[error("no {kind} `{name}`, or more than one of that name: write CUSTOMER/NAME")]
    Unknown {
        /// Of what.
        kind: &'static str,
        /// Which.
        name: String,
    },
    /// The customer has as many users as it may.
    #[error("the customer has its {0} users already")]
    UsersMax(u32),
    /// A mount is not `PATH=VAULT[:SUBPATH][,rights]`.
    #[error("`{0}` is not a mount: write PATH=VAULT[:SUBPATH][,read-only|append-only|read-write]")]
    Mount(String),
    /// Which vault the user sees was not said, and is not clear.
    #[error("customer `{customer}` has {vaults} vaults: say which one the user sees with --mount /=VAULT")]
    NoMount {
        /// Whose user.
        customer: String,
        /// How many vaults it has.
        vaults: usize,
    },
    /// A mount where earlier states are shown.
    #[error("/.snapshots shows earlier states: nothing can be mounted there")]
    MountInSnapshots,
    /// Two mounts at one path.
    #[error("two mounts have the same path")]
    MountTwice,
    /// A path that is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A key that is not taken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The lifetime is too long.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// A password that is not taken.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There is no device that waits for its first code under this identifier.
    #[error("this is no device for one-time codes that waits for its first code")]
    NothingToConfirm,
    /// As many devices as a user may have.
    #[error("the user has {TOTP_DEVICES_MAX} devices for one-time codes already: revoke one first")]
    DevicesMax,
    /// Not the code that the device shows now.
    #[error("this is not the code that the device shows now; is its clock right?")]
    WrongCode,
    /// A machine key without networks.
    #[error("a machine's key is pinned to networks, and not to all there are: say --from")]
    Unpinned,
    /// A TLS certificate that is not taken.
    #[error(transparent)]
    TlsCertificate(#[from] TlsCertificateError),
    /// How long its certificates may be valid is out of bounds.
    #[error("certificates may be valid for between 1 second and 366 days")]
    Validity,
    /// The customer takes the certificates of as many authorities as it may.
    #[error("the customer has its {AUTHORITIES_MAX} authorities already")]
    Authorities,
    /// It has as many revocations as it may.
    #[error("the authority has {REVOCATIONS_MAX} revocations already: make another one and revoke it")]
    Revocations,
    /// Not one that `ssh-keygen -l` shows.
    #[error("this is no fingerprint: write SHA256:... as `ssh-keygen -l` shows it")]
    Fingerprint,
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that does not encode.
    #[error("the record is too large")]
    Encode,
}

impl From<getrandom::Error> for AccountError {
    fn from(error: getrandom::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Limits of a customer that are to be set; those that are not said stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerLimits {
    /// Users it may have.
    pub users_max: Option<Bound<u32>>,
    /// Bytes it may store.
    pub bytes_max: Option<Bound<u64>>,
    /// Files it may have.
    pub files_max: Option<Bound<u64>>,
    /// When its contract ends, nanoseconds since 1970.
    pub expires: Option<Bound<i64>>,
    /// Sessions of its users at once.
    #[serde(default)]
    pub sessions_max: Option<Bound<u32>>,
    /// Bytes a second of all its sessions, each way.
    #[serde(default)]
    pub rate_max: Option<Bound<u64>>,
    /// How its users may log in, as [`Policy`] reads it.
    #[serde(default, with = "crate::units::text")]
    pub login: Option<Policy>,
}

/// Limits of a vault that are to be set; those that are not said stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultLimits {
    /// Bytes of its current files.
    pub bytes_max: Option<Bound<u64>>,
    /// Its current files.
    pub files_max: Option<Bound<u64>>,
    /// What it may take on the disk, earlier states included.
    pub stored_max: Option<Bound<u64>>,
}

fn bounded<T>(before: Option<T>, set: Option<Bound<T>>) -> Option<T> {
    set.map_or(before, Bound::limit)
}

impl CustomerLimits {
    fn of(self, customer: Customer) -> Customer {
        Customer {
            users_max: bounded(customer.users_max, self.users_max),
            bytes_max: bounded(customer.bytes_max, self.bytes_max),
            files_max: bounded(customer.files_max, self.files_max),
            expires: bounded(customer.expires, self.expires),
            sessions_max: bounded(customer.sessions_max, self.sessions_max),
            rate_max: bounded(customer.rate_max, self.rate_max),
            login: self.login.or(customer.login),
            ..customer
        }
    }
}

impl VaultLimits {
    fn of(self, before: Allowance) -> Allowance {
        Allowance {
            bytes_max: bounded(before.bytes_max, self.bytes_max),
            files_max: bounded(before.files_max, self.files_max),
            stored_max: bounded(before.stored_max, self.stored_max),
        }
    }
}

/// What the store counts of a customer.
pub(super) fn allowance(customer: &Customer) -> Allowance {
    Allowance { bytes_max: customer.bytes_max, files_max: customer.files_max, stored_max: None }
}

pub(super) fn unknown(kind: &'static str, name: &str) -> AccountError {
    AccountError::Unknown { kind, name: name.to_owned() }
}

fn checked(name: &str) -> Result<&str, AccountError> {
    if is_name(name) { Ok(name) } else { Err(AccountError::Name(name.to_owned())) }
}

fn split(name: &str) -> Result<(&str, &str), AccountError> {
    let (customer, own) = name.split_once('/').ok_or_else(|| AccountError::NoCustomer(name.to_owned()))?;
    Ok((customer, checked(own)?))
}

pub(super) fn operator(action: Action, customer: Option<CustomerId>, name: &str) -> RecordDraft {
    RecordDraft {
        customer: customer.map(|customer| customer.0),
        details: vec![(DetailKey::Name, name.as_bytes().to_vec())],
        ..RecordDraft::new(Actor::Operator, action)
    }
}

pub(super) fn put(
    txn: &mut Txn<'_>,
    accounts: &Accounts,
    table: Table,
    at: &[u8],
    row: &impl minicbor::Encode<()>,
) -> Result<(), AccountError> {
    let bytes = minicbor::to_vec(row).map_err(|_| AccountError::Encode)?;
    txn.put(accounts.inner.store.system_key(), table, at, &bytes);
    Ok(())
}

impl Accounts {
    pub(super) fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.inner.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn commit(
        &self,
        audit: RecordDraft,
        rows: impl FnOnce(&mut Txn<'_>) -> Result<(), AccountError>,
    ) -> Result<(), AccountError> {
        let mut txn = self.inner.store.begin()?;
        rows(&mut txn)?;
        txn.audit(audit, None);
        txn.submit()?.wait()?;
        Ok(())
    }

    fn customer_named(&self, name: &str) -> Result<Customer, AccountError> {
        self.read()
            .customers
            .values()
            .find(|known| known.name == name)
            .cloned()
            .ok_or_else(|| unknown("customer", name))
    }

    pub(super) fn user_named(&self, name: &str) -> Result<User, AccountError> {
        self.read().user(name).cloned().ok_or_else(|| unknown("user", name))
    }

    /// Writes a customer down, and lets its limits hold, in one transaction.
    fn commit_customer(&self, audit: RecordDraft, customer: &Customer) -> Result<(), AccountError> {
        let store = &self.inner.store;
        let mut txn = store.begin()?;
        put(&mut txn, self, Table::Customers, &customer.id.0, customer)?;
        let allowed = store.allow_customer(&mut txn, OwnerId(customer.id.0), allowance(customer))?;
        txn.audit(audit, None);
        txn.submit()?.wait()?;
        allowed.keep();
        self.write().customers.insert(customer.id, customer.clone());
        Ok(())
    }

    /// Adds a customer.
    ///
    /// # Errors
    /// [`AccountError`], here and below.
    pub fn add_customer(&self, name: &str, limits: CustomerLimits) -> Result<Customer, AccountError> {
        let _alone = self.changing();
        checked(name)?;
        if self.customer_named(name).is_ok() {
            return Err(AccountError::Exists { kind: "customer", name: name.to_owned() });
        }
        let id = CustomerId::random()?;
        let customer = limits.of(Customer {
            id,
            name: name.to_owned(),
            users_max: None,
            bytes_max: None,
            expires: None,
            created: self.now(),
            files_max: None,
            closed: None,
            sessions_max: None,
            rate_max: None,
            login: Some(Policy::STRONG),
        });
        self.commit_customer(operator(Action::CustomerAdd, Some(id), name), &customer)?;
        Ok(customer)
    }

    /// Sets limits of a customer. One that has expired by this ends its users' sessions.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn set_customer(&self, name: &str, limits: CustomerLimits) -> Result<Customer, AccountError> {
        let _alone = self.changing();
        let customer = limits.of(self.customer_named(name)?);
        let mut audit = operator(Action::CustomerChange, Some(customer.id), name);
        let shown = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
        audit.reason = Some(format!(
            "users at most {}, bytes {}, files {}, sessions {}, bytes a second {}, expires {}, login {}",
            shown(customer.users_max.map(|max| max.to_string())),
            shown(customer.bytes_max.map(|max| max.to_string())),
            shown(customer.files_max.map(|max| max.to_string())),
            shown(customer.sessions_max.map(|max| max.to_string())),
            shown(customer.rate_max.map(|max| max.to_string())),
            shown(customer.expires.map(crate::units::moment)),
            customer.login(),
        ));
        self.commit_customer(audit, &customer)?;
        self.end_what_is_not_good();
        Ok(customer)
    }

    /// Closes a customer: its users' sessions end, nobody of it comes in. What it stores stays. Closing twice is closing once.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn close_customer(&self, name: &str) -> Result<Customer, AccountError> {
        let _alone = self.changing();
        let known = self.customer_named(name)?;
        let customer = Customer { closed: known.closed.or_else(|| Some(self.now())), ..known };
        self.commit_customer(operator(Action::CustomerClose, Some(customer.id), name), &customer)?;
        self.end_what_is_not_good();
        Ok(customer)
    }

    /// Lets a closed customer's users in again.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn reopen_customer(&self, name: &str) -> Result<Customer, AccountError> {
        let _alone = self.changing();
        let customer = Customer { closed: None, ..self.customer_named(name)? };
        self.commit_customer(operator(Action::CustomerReopen, Some(customer.id), name), &customer)?;
        Ok(customer)
    }

    /// A customer by its name.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn customer(&self, name: &str) -> Result<Customer, AccountError> {
        self.customer_named(name)
    }

    /// Every customer, by name.
    pub fn customers(&self) -> Vec<Customer> {
        let mut all: Vec<Customer> = self.read().customers.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Adds a vault named `CUSTOMER/VAULT`.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_vault(
        &self,
        name: &str,
        retention_secs: u64,
        limits: VaultLimits,
    ) -> Result<VaultId, AccountError> {
        let _alone = self.changing();
        let (customer, own) = split(name)?;
        let customer = self.customer_named(customer)?;
        let audit = operator(Action::VaultAdd, Some(customer.id), name);
        let (owner, allowance) = (OwnerId(customer.id.0), limits.of(Allowance::default()));
        match self.inner.store.create_vault_within(owner, own, retention_secs, allowance, audit) {
            Ok(pending) => Ok(pending.wait()?),
            Err(StoreError::Exists) => Err(AccountError::Exists { kind: "vault", name: name.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a vault whose key its customer holds, with the slots that `slots` makes.
    ///
    /// # Errors
    /// As [`Accounts::add_vault`].
    pub fn add_customer_vault(
        &self,
        name: &str,
        retention_secs: u64,
        limits: VaultLimits,
        slots: impl FnOnce(VaultId, &RootKey) -> Result<Vec<Slot>, SlotError>,
    ) -> Result<VaultId, AccountError> {
        let _alone = self.changing();
        let (customer, own) = split(name)?;
        let customer = self.customer_named(customer)?;
        let mut audit = operator(Action::VaultAdd, Some(customer.id), name);
        audit.reason = Some("its customer holds the key".to_owned());
        let (owner, allowance) = (OwnerId(customer.id.0), limits.of(Allowance::default()));
        let new = NewVault { owner, name: own, retention_secs, allowance };
        match self.inner.store.create_customer_vault(new, slots, audit) {
            Ok(pending) => Ok(pending.wait()?),
            Err(StoreError::Exists) => Err(AccountError::Exists { kind: "vault", name: name.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// A vault by its full name.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn vault(&self, name: &str) -> Result<VaultRecord, AccountError> {
        let found = self.vaults()?.into_iter().find(|(known, _)| known == name);
        found.map(|(_, vault)| vault).ok_or_else(|| unknown("vault", name))
    }

    /// Sets limits of a vault.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn set_vault(&self, name: &str, limits: VaultLimits) -> Result<(), AccountError> {
        let _alone = self.changing();
        let vault = self.vault(name)?;
        let mut audit = operator(Action::VaultChange, Some(CustomerId(vault.owner.0)), name);
        let Allowance { bytes_max, files_max, stored_max } = limits.of(vault.allowance);
        let shown = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |max| max.to_string());
        audit.reason = Some(format!(
            "bytes at most {}, files {}, stored bytes {}",
            shown(bytes_max),
            shown(files_max),
            shown(stored_max)
        ));
        let store = &self.inner.store;
        store.set_vault_allowance(vault.id, |before| limits.of(before), audit)?.wait()?;
        Ok(())
    }

    /// Every vault with its full name, by name.
    ///
    /// # Errors
    /// The store's.
    pub fn vaults(&self) -> Result<Vec<(String, VaultRecord)>, AccountError> {
        let vaults = self.inner.store.vaults()?;
        let directory = self.read();
        let mut named: Vec<(String, VaultRecord)> = vaults
            .into_iter()
            .map(|vault| {
                let customer = directory
                    .customers
                    .get(&CustomerId(vault.owner.0))
                    .map_or("?", |known| known.name.as_str());
                (format!("{customer}/{}", vault.name), vault)
            })
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named)
    }

    /// `PATH=VAULT[:SUBPATH][,rights]`, the vault being the customer's own.
    fn parse_mount(&self, text: &str, customer: &Customer) -> Result<Mount, AccountError> {
        let bad = || AccountError::Mount(text.to_owned());
        let (path, rest) = text.split_once('=').ok_or_else(bad)?;
        let (rest, rights) = match rest.rsplit_once(',') {
            Some((rest, rights)) => (rest, crate::units::parse_rights(rights).map_err(|_| bad())?),
            None => (rest, RightsSet::ReadWrite),
        };
        let (vault, subtree) = rest.split_once(':').unwrap_or((rest, ""));
        let full = if vault.contains('/') { vault.to_owned() } else { format!("{}/{vault}", customer.name) };
        let vault = self
            .vaults()?
            .into_iter()
            // Another customer's vault is as unknown as none.
            .find(|(name, vault)| *name == full && vault.owner.0 == customer.id.0)
            .ok_or_else(|| unknown("vault", vault))?
            .1
            .id;
        if !path.starts_with('/') {
            return Err(bad());
        }
        let names = |text: &str| -> Result<Vec<minicbor::bytes::ByteVec>, PathError> {
            Ok(VaultPath::parse(text.as_bytes())?
                .components()
                .iter()
                .map(|name| name.clone().into())
                .collect())
        };
        let path = names(path)?;
        if path.first().is_some_and(|name| name.as_slice() == SNAPSHOTS) {
            return Err(AccountError::MountInSnapshots);
        }
        Ok(Mount { path, vault: vault.0, subtree: names(subtree)?, rights })
    }

    /// The customer's only vault at `/`, for a user whose mounts were not said.
    fn default_mount(&self, customer: &Customer) -> Result<Mount, AccountError> {
        let own: Vec<VaultId> = self
            .vaults()?
            .into_iter()
            .filter(|(_, vault)| vault.owner.0 == customer.id.0)
            .map(|(_, vault)| vault.id)
            .collect();
        match own.as_slice() {
            [vault] => Ok(Mount {
                path: Vec::new(),
                vault: vault.0,
                subtree: Vec::new(),
                rights: RightsSet::ReadWrite,
            }),
            none_or_several => {
                Err(AccountError::NoMount { customer: customer.name.clone(), vaults: none_or_several.len() })
            }
        }
    }

    /// Adds a user named `CUSTOMER/USER`. Without mounts its namespace is the customer's only vault, with every right.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_user(&self, name: &str, mounts: &[String]) -> Result<User, AccountError> {
        let _alone = self.changing();
        let (customer, own) = split(name)?;
        let customer = self.customer_named(customer)?;
        if self.user_named(name).is_ok() {
            return Err(AccountError::Exists { kind: "user", name: name.to_owned() });
        }
        let users = self.read().users.values().filter(|user| user.customer == customer.id).count();
        if let Some(max) =
            customer.users_max.filter(|max| u32::try_from(users).map_or(true, |users| users >= *max))
        {
            return Err(AccountError::UsersMax(max));
        }
        let mounts = match mounts {
            [] => vec![self.default_mount(&customer)?],
            said => said.iter().map(|mount| self.parse_mount(mount, &customer)).collect::<Result<_, _>>()?,
        };
        let mut paths: Vec<_> = mounts.iter().map(|mount| &mount.path).collect();
        paths.sort();
        if paths.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(AccountError::MountTwice);
        }
        let id = UserId::random()?;
        let user = User {
            id,
            customer: customer.id,
            name: own.to_owned(),
            mounts,
            disabled: false,
            created: self.now(),
        };
        self.commit(operator(Action::UserAdd, Some(customer.id), name), |txn| {
            put(txn, self, Table::Users, &id.0, &user)
        })?;
        self.write().insert_user(user.clone());
        Ok(user)
    }

    /// Every user with its full name, by name.
    pub fn users(&self) -> Vec<(String, User)> {
        let directory = self.read();
        let mut all: Vec<(String, User)> =
            directory.users.values().map(|user| (directory.full_name(user), user.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Keeps a user out and ends its sessions, or lets it in again.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn set_user_disabled(&self, name: &str, disabled: bool) -> Result<(), AccountError> {
        let _alone = self.changing();
        let user = User { disabled, ..self.user_named(name)? };
        let mut audit = operator(Action::UserChange, Some(user.customer), name);
        audit.reason = Some(if disabled { "disabled" } else { "enabled" }.to_owned());
        self.commit(audit, |txn| put(txn, self, Table::Users, &user.id.0, &user))?;
        self.write().insert_user(user);
        self.end_what_is_not_good();
        Ok(())
    }

    /// Deletes a user and its credentials.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn delete_user(&self, name: &str) -> Result<(), AccountError> {
        let _alone = self.changing();
        let user = self.user_named(name)?;
        let held: Vec<CredentialId> = self
            .read()
            .credentials
            .values()
            .filter(|known| known.user == user.id)
            .map(|known| known.id.clone())
            .collect();
        self.commit(operator(Action::UserDelete, Some(user.customer), name), |txn| {
            txn.delete(Table::Users, &user.id.0);
            held.iter().for_each(|id| txn.delete(Table::Credentials, id.0.as_bytes()));
            Ok(())
        })?;
        self.write().remove_user(user.id);
        self.end_what_is_not_good();
        Ok(())
    }
}
