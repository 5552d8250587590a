//! Customers, users and credentials: in memory for decisions, in the store for good; login and revocation.
//!
//! A change is validated, committed to the store together with its audit record, then applied to memory, then every live
//! session is looked at again: one whose credential, user or customer is not good any more ends at once. The same look
//! happens twice a second for what expires.

mod certificate;
mod changes;
mod credentials;
pub mod dialogue;
mod locking;
mod login;
mod passwords;
mod second_factor;
mod share;
mod tls_certificate;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coffre_auth::authenticate::{Enrolled, Proven, Rules};
use coffre_auth::credential::ssh_certificate::{Authority, Mark, Revocation};
use coffre_auth::throttle::Throttle;
use coffre_auth::{
    Combination, Credential, CredentialId, Customer, CustomerId, Factor, Principal, Proof, User, UserId,
};
use coffre_storage::id::OwnerId;
use coffre_storage::index::Table;
use coffre_storage::keys::{GatewayLabel, Secret32};
use coffre_storage::{Store, StoreError};

pub use changes::{AccountError, CustomerLimits, VaultLimits};
pub use credentials::{CredentialScope, IssuedToken, KeyPlace};
pub use login::LoginError;
use passwords::Passwords;
pub use second_factor::NewSecret;
pub use share::Shares;

use crate::session::SharedSession;

/// The directory of who is who. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    token_key: Secret32,
    /// MAC under which recovery codes are stored.
    code_key: Secret32,
    directory: RwLock<Directory>,
    /// Held while a change is validated, committed and applied.
    changing: Mutex<()>,
    throttle: Mutex<Throttle>,
    passwords: Passwords,
    sessions: Mutex<Sessions>,
    session_closed: Condvar,
    shares: RwLock<Option<Shares>>,
    sharing: Mutex<share::Sharing>,
}

/// Everybody.
#[derive(Debug, Default)]
struct Directory {
    customers: BTreeMap<CustomerId, Customer>,
    users: BTreeMap<UserId, User>,
    /// Name of a user -> who is called so, of all customers.
    names: HashMap<String, Vec<UserId>>,
    credentials: HashMap<CredentialId, Credential>,
    /// User -> its credentials.
    held: HashMap<UserId, Vec<CredentialId>>,
    /// Pins of TLS client certificates -> credentials that prove with them.
    pins: HashMap<[u8; 32], Vec<CredentialId>>,
    /// Whose SSH certificates are taken.
    authorities: BTreeMap<CredentialId, Authority>,
    /// Authority -> which of its certificates are not any more.
    revocations: HashMap<CredentialId, HashSet<Mark>>,
    /// SSH key bytes -> credentials that prove with it.
    keys: HashMap<Vec<u8>, Vec<CredentialId>>,
}

/// Everybody who is in.
#[derive(Debug, Default)]
struct Sessions {
    live: HashMap<[u8; 16], SharedSession>,
    /// WebDAV has no connections: one session for a credential from a place, and when it was used last.
    requests: HashMap<(CredentialId, IpAddr), (SharedSession, i64)>,
}

const END: [u8; 33] = [0xff; 33];

impl Directory {
    /// A wire name: `USER` when only one customer has it, `CUSTOMER/USER` always.
    fn user(&self, name: &str) -> Option<&User> {
        if let Some((customer, user)) = name.split_once('/') {
            let of_customer = |known: &&User| {
                self.customers.get(&known.customer).is_some_and(|known| known.name == customer)
            };
            self.called(user).find(of_customer)
        } else {
            let mut found = self.called(name);
            let first = found.next()?;
            found.next().is_none().then_some(first)
        }
    }

    /// Everybody of that name.
    fn called(&self, name: &str) -> impl Iterator<Item = &User> {
        self.names.get(name).into_iter().flatten().filter_map(|id| self.users.get(id))
    }

    /// Adds a user, or changes one: a name stays as it is.
    fn insert_user(&mut self, user: User) {
        let called = self.names.entry(user.name.clone()).or_default();
        if !called.contains(&user.id) {
            called.push(user.id);
        }
        self.users.insert(user.id, user);
    }

    fn full_name(&self, user: &User) -> String {
        let customer = self.customers.get(&user.customer).map_or("?", |customer| customer.name.as_str());
        format!("{customer}/{}", user.name)
    }

    /// Who these credentials, all of one user, prove together at `now` from `source`; nobody when anything about one is not good, or
    /// the customer does not take the combination.
    fn principal(&self, proven: &[Proven], source: IpAddr, now: i64) -> Option<Principal> {
        let (first, rest) = proven.split_first()?;
        let main = self.credentials.get(&first.0)?;
        let user = self.users.get(&main.user)?;
        let customer = self.customers.get(&user.customer)?;
        let mut mounts = user.mounts.clone();
        for (id, _) in proven {
            let credential = self.credentials.get(id)?;
            let good = credential.user == user.id && credential.is_live(now) && credential.is_from(source);
            good.then_some(())?;
            if let Some(rights) = credential.rights {
                mounts.iter_mut().for_each(|mount| mount.rights = mount.rights.intersect(rights));
            }
        }
        let factors: Vec<Factor> = proven.iter().map(|(_, factor)| *factor).collect();
        let machine = matches!(main.proof, Proof::SshKey { machine: true, .. });
        let taken = Combination::of(&factors, machine).is_some_and(|way| customer.login().takes(way));
        (taken && !user.disabled && customer.is_live(now)).then(|| Principal {
            customer: customer.id,
            customer_name: customer.name.clone(),
            user: user.id,
            user_name: user.name.clone(),
            credential: first.0.clone(),
            beside: rest.iter().map(|(id, _)| id.clone()).collect(),
            factors,
            mounts,
            certificate: None,
        })
    }

    /// Live credentials of a user.
    fn live_of(&self, user: UserId, now: i64) -> impl Iterator<Item = &Credential> {
        let held = self.held.get(&user).into_iter().flatten();
        held.filter_map(|id| self.credentials.get(id)).filter(move |known| known.is_live(now))
    }

    /// Whether anything that a user has lets it in.
    fn may_come_in(&self, user: &User, now: i64) -> bool {
        !user.disabled && self.customers.get(&user.customer).is_some_and(|customer| customer.is_live(now))
    }

    /// What is asked of whom a name names.
    fn rules(&self, name: &str, now: i64) -> Rules {
        self.user(name).map_or(Rules::OF_NOBODY, |user| self.rules_of(user, now))
    }

    /// What is asked of a user.
    fn rules_of(&self, user: &User, now: i64) -> Rules {
        let Some(customer) = self.customers.get(&user.customer) else { return Rules::OF_NOBODY };
        let enrolled =
            self.live_of(user.id, now).fold(Enrolled::Nothing, |found, known| match &known.proof {
                // No recovery codes left is not never had any: a key alone does not come back by using them up.
                Proof::Totp { confirmed: true, .. } | Proof::RecoveryCodes { .. } => found.with_codes(),
                Proof::Password { .. } => found.with_password(),
                Proof::Totp { confirmed: false, .. }
                | Proof::Token { .. }
                | Proof::TlsCertificate { .. }
                | Proof::SshKey { .. } => found,
            });
        Rules { policy: customer.login(), enrolled }
    }

    fn insert_credential(&mut self, credential: Credential) {
        if let Proof::SshKey { key, .. } = &credential.proof {
            let holders = self.keys.entry(key.clone()).or_default();
            if !holders.contains(&credential.id) {
                holders.push(credential.id.clone());
            }
        }
        let held = self.held.entry(credential.user).or_default();
        if !held.contains(&credential.id) {
            held.push(credential.id.clone());
        }
        if let Proof::TlsCertificate { pin, .. } = &credential.proof {
            let holders = self.pins.entry(*pin).or_default();
            if !holders.contains(&credential.id) {
                holders.push(credential.id.clone());
            }
        }
        self.credentials.insert(credential.id.clone(), credential);
    }

    fn remove_user(&mut self, user: UserId) {
        if let Some(user) = self.users.remove(&user)
            && let Some(called) = self.names.get_mut(&user.name)
        {
            called.retain(|id| *id != user.id);
            if called.is_empty() {
                self.names.remove(&user.name);
            }
        }
        self.held.remove(&user);
        self.credentials.retain(|_, credential| credential.user != user);
        let credentials = &self.credentials;
        self.pins.retain(|_, holders| {
            holders.retain(|id| credentials.contains_key(id));
            !holders.is_empty()
        });
        self.keys.retain(|_, holders| {
            holders.retain(|id| credentials.contains_key(id));
            !holders.is_empty()
        });
    }
}

fn rows<T: for<'b> minicbor::Decode<'b, ()>>(store: &Store, table: Table) -> Result<Vec<T>, StoreError> {
    store
        .range(store.system_key(), table, &[], &END, usize::MAX)?
        .into_iter()
        .map(|(_, bytes)| minicbor::decode(&bytes).map_err(|_| StoreError::DamagedRecord))
        .collect()
}

impl Accounts {
    /// Loads everything from the store.
    ///
    /// # Errors
    /// A record that does not open or decode.
    pub fn load(store: Store) -> anyhow::Result<Self> {
        let mut directory = Directory::default();
        for customer in rows::<Customer>(&store, Table::Customers)? {
            store.quotas().set_customer(OwnerId(customer.id.0), changes::allowance(&customer));
            directory.customers.insert(customer.id, customer);
        }
        for user in rows::<User>(&store, Table::Users)? {
            directory.insert_user(user);
        }
        for credential in rows::<Credential>(&store, Table::Credentials)? {
            directory.insert_credential(credential);
        }
        for authority in rows::<Authority>(&store, Table::Authorities)? {
            directory.authorities.insert(authority.id.clone(), authority);
        }
        for revocation in rows::<Revocation>(&store, Table::CertificateRevocations)? {
            directory.insert_revocation(revocation);
        }
        let token_key = store.gateway_key().derive(GatewayLabel::TokenMac);
        let code_key = store.gateway_key().derive(GatewayLabel::RecoveryCodeMac);
        let inner = Inner {
            store,
            token_key,
            code_key,
            directory: RwLock::new(directory),
            changing: Mutex::default(),
            throttle: Mutex::default(),
            passwords: Passwords::default(),
            sessions: Mutex::default(),
            session_closed: Condvar::new(),
            shares: RwLock::default(),
            sharing: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Directory> {
        self.inner.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Directory> {
        self.inner.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.inner.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.inner.store.clock_now().0
    }
}
