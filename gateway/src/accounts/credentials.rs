//! Credentials that stand for themselves: keys and tokens; what there is of all kinds, and its end. Blocking.

use coffre_auth::credential::app_token::{self, AppToken, random_text};
use coffre_auth::credential::ssh_key::{self, KeyError};
use coffre_auth::{Credential, CredentialId, Network, Proof, RightsSet, User};
use coffre_storage::audit::Action;
use coffre_storage::index::Table;
use ipnet::IpNet;

use super::Accounts;
use super::changes::{AccountError, operator, put, unknown};

const NANOS: i64 = 1_000_000_000;

/// What a new credential may do, from where, until when.
#[derive(Debug, Clone, Default)]
pub struct CredentialScope {
    /// At most these.
    pub rights: Option<RightsSet>,
    /// Only from these.
    pub networks: Vec<IpNet>,
    /// For this long.
    pub expires_secs: Option<u64>,
}

/// Where an SSH key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file of a person's, an agent, or a security key.
    Person,
    /// In an unattended machine.
    Machine,
    /// On a smart card (PIV) that asks for a PIN, by the operator's word.
    SmartCard,
}

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its identifier.
    pub id: CredentialId,
    /// Its text.
    pub token: AppToken,
    /// When it ends, nanoseconds since 1970.
    pub expires: i64,
}

impl Accounts {
    pub(super) fn add_credential(&self, user: &User, credential: Credential) -> Result<(), AccountError> {
        let mut audit = operator(Action::CredentialAdd, Some(user.customer), &user.name);
        audit.credential = Some(credential.id.0.clone());
        self.commit(audit, |txn| {
            put(txn, self, Table::Credentials, credential.id.0.as_bytes(), &credential)
        })?;
        self.write().insert_credential(credential);
        Ok(())
    }

    pub(super) fn until(&self, secs: u64) -> i64 {
        self.now().saturating_add(i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(NANOS))
    }

    /// Registers an SSH public key.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_key(
        &self,
        user: &str,
        key: &str,
        place: KeyPlace,
        scope: CredentialScope,
    ) -> Result<Credential, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let key = ssh_key::parse(key)?;
        if place == KeyPlace::SmartCard && key.is_security_key() {
            return Err(KeyError::Kind.into());
        }
        let (machine, smart_card) = (place == KeyPlace::Machine, place == KeyPlace::SmartCard);
        let is_pinned = !scope.networks.is_empty() && scope.networks.iter().all(|from| from.prefix_len() > 0);
        if machine && !is_pinned {
            return Err(AccountError::Unpinned);
        }
        let now = self.now();
        let known = {
            let directory = self.read();
            let mut holders = directory
                .keys
                .get(&key.bytes)
                .into_iter()
                .flatten()
                .filter_map(|id| directory.credentials.get(id));
            holders.any(|holder| holder.user == user.id && holder.is_live(now))
        };
        if known {
            return Err(AccountError::Exists { kind: "key", name: key.fingerprint });
        }
        let credential = Credential {
            id: CredentialId(random_text(10)?),
            user: user.id,
            proof: Proof::SshKey { key: key.bytes, fingerprint: key.fingerprint, machine, smart_card },
            rights: scope.rights,
            networks: scope.networks.into_iter().map(Network).collect(),
            created: now,
            expires: scope.expires_secs.map(|secs| self.until(secs)),
            revoked: None,
        };
        self.add_credential(&user, credential.clone())?;
        Ok(credential)
    }

    /// Issues an app token.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_token(&self, user: &str, scope: CredentialScope) -> Result<IssuedToken, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let secs = app_token::lifetime_secs(scope.expires_secs)?;
        let token = AppToken::generate()?;
        if self.read().credentials.contains_key(&token.id()) {
            return Err(AccountError::Exists { kind: "credential", name: token.id().0 });
        }
        let expires = self.until(secs);
        let credential = Credential {
            id: token.id(),
            user: user.id,
            proof: Proof::Token { mac: token.mac(self.inner.token_key.expose()) },
            rights: scope.rights,
            networks: scope.networks.into_iter().map(Network).collect(),
            created: self.now(),
            expires: Some(expires),
            revoked: None,
        };
        self.add_credential(&user, credential)?;
        Ok(IssuedToken { id: token.id(), token, expires })
    }

    /// Credentials with their user's full name and state, newest last.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn credentials(
        &self,
        user: Option<&str>,
    ) -> Result<Vec<(String, &'static str, Credential)>, AccountError> {
        let only = user.map(|name| self.user_named(name)).transpose()?.map(|user| user.id);
        let (directory, now) = (self.read(), self.now());
        let mut all: Vec<(String, &'static str, Credential)> = directory
            .credentials
            .values()
            .filter(|known| only.is_none_or(|only| known.user == only))
            .map(|known| {
                let name = directory
                    .users
                    .get(&known.user)
                    .map_or_else(String::new, |user| directory.full_name(user));
                (name, super::Directory::state(known, now), known.clone())
            })
            .collect();
        all.sort_by(|a, b| (&a.0, a.2.created).cmp(&(&b.0, b.2.created)));
        Ok(all)
    }

    /// Revokes a credential and ends its sessions.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn revoke(&self, id: &str) -> Result<(), AccountError> {
        let _alone = self.changing();
        if self.revoke_authority(id)? {
            return Ok(());
        }
        let known = self
            .read()
            .credentials
            .get(&CredentialId(id.to_owned()))
            .cloned()
            .ok_or_else(|| unknown("credential", id))?;
        let user = self.read().users.get(&known.user).cloned();
        let revoked = Credential { revoked: known.revoked.or_else(|| Some(self.now())), ..known };
        let mut audit = operator(
            Action::CredentialRevoke,
            user.as_ref().map(|user| user.customer),
            user.as_ref().map_or("", |user| user.name.as_str()),
        );
        audit.credential = Some(id.to_owned());
        self.commit(audit, |txn| put(txn, self, Table::Credentials, id.as_bytes(), &revoked))?;
        self.write().insert_credential(revoked);
        self.end_what_is_not_good();
        Ok(())
    }
}
