//! Customers, users and credentials: in memory for decisions, in the store for good; login and revocation.
//!
//! A change is validated, committed to the store together with its audit record, then applied to memory, then every live
//! session is looked at again: one whose credential, user or customer is not good any more ends at once. The same look
//! happens twice a second for what expires.

mod changes;
mod locking;
mod login;
mod share;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coffre_auth::throttle::Throttle;
use coffre_auth::{Credential, CredentialId, Customer, CustomerId, Principal, User, UserId};
use coffre_storage::id::OwnerId;
use coffre_storage::index::Table;
use coffre_storage::keys::{GatewayLabel, Secret32};
use coffre_storage::{Store, StoreError};

pub use changes::{AccountError, CredentialScope, CustomerLimits, IssuedToken, VaultLimits};
pub use login::LoginError;
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
    directory: RwLock<Directory>,
    /// Held while a change is validated, committed and applied.
    changing: Mutex<()>,
    throttle: Mutex<Throttle>,
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

    /// Who a credential proves at `now` from `source`; nobody when anything about it is not good.
    fn principal(&self, credential: &Credential, source: IpAddr, now: i64) -> Option<Principal> {
        let user = self.users.get(&credential.user)?;
        let customer = self.customers.get(&user.customer)?;
        let good =
            credential.is_live(now) && credential.is_from(source) && !user.disabled && customer.is_live(now);
        good.then(|| {
            let mut mounts = user.mounts.clone();
            if let Some(rights) = credential.rights {
                mounts.iter_mut().for_each(|mount| mount.rights = mount.rights.intersect(rights));
            }
            Principal {
                customer: customer.id,
                customer_name: customer.name.clone(),
                user: user.id,
                user_name: user.name.clone(),
                credential: credential.id.clone(),
                factors: vec![credential.factor()],
                mounts,
            }
        })
    }

    fn insert_credential(&mut self, credential: Credential) {
        if let coffre_auth::Proof::SshKey { key, .. } = &credential.proof {
            let holders = self.keys.entry(key.clone()).or_default();
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
        self.credentials.retain(|_, credential| credential.user != user);
        let credentials = &self.credentials;
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
        let token_key = store.gateway_key().derive(GatewayLabel::TokenMac);
        let inner = Inner {
            store,
            token_key,
            directory: RwLock::new(directory),
            changing: Mutex::default(),
            throttle: Mutex::default(),
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
