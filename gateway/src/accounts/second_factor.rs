//! What stands beside a key or a password: setting it, and using a code up.

use std::net::IpAddr;

use coffre_auth::authenticate::Enrolled;
use coffre_auth::authenticate::Proven;
use coffre_auth::credential::app_token::random_text;
use coffre_auth::credential::password::{self, StoredPassword};
use coffre_auth::credential::recovery::RecoveryCode;
use coffre_auth::credential::totp::TotpSecret;
use coffre_auth::{Combination, Credential, CredentialId, Factor, Proof, User};
use coffre_storage::audit::{Action, Actor, DetailKey, Protocol, RecordDraft};
use coffre_storage::index::Table;
use zeroize::Zeroizing;

use super::Accounts;
use super::changes::{AccountError, operator, put, unknown};
use crate::limits::TOTP_DEVICES_MAX;

const NANOS: i64 = 1_000_000_000;

/// A secret that was just made, to be shown once.
#[derive(Debug)]
pub struct NewSecret<T> {
    /// Of which credential.
    pub id: CredentialId,
    /// Its user's full name.
    pub user: String,
    /// The secret.
    pub secret: T,
}

/// Which credentials a new one takes the place of.
type Replaced = fn(&Proof) -> bool;

impl Accounts {
    /// Why a key that was just registered does not let its user in by itself; nothing when it does.
    pub fn why_not_enough(&self, user: &str, key: &Credential) -> Option<&'static str> {
        let Proof::SshKey { machine, smart_card, .. } = key.proof else { return None };
        let directory = self.read();
        let user = directory.user(user)?;
        let rules = directory.rules_of(user, self.now());
        if machine {
            let taken = rules.policy.takes(Combination::MachineKey);
            return (!taken).then_some("the customer takes no machine keys: `customer set --login`");
        }
        if smart_card {
            let taken = rules.policy.takes(Combination::SmartCard);
            return (!taken).then_some("the customer takes no keys of smart cards: `customer set --login`");
        }
        match rules.enrolled {
            Enrolled::Nothing if !rules.policy.takes(Combination::Key) => Some(
                "this key alone does not let its user in: add one-time codes (`credential add-totp`) or a password, \
                 or register it with --machine --from if it is a program's",
            ),
            Enrolled::Nothing | Enrolled::Codes | Enrolled::Password | Enrolled::Both => None,
        }
    }

    /// Sets a user's password; an earlier one is revoked.
    ///
    /// # Errors
    /// [`AccountError`], here and below.
    pub fn add_password(&self, user: &str, password: &str) -> Result<Credential, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let name = self.read().full_name(&user);
        let about: Vec<&str> = name.split('/').collect();
        password::accept(password, &about)?;
        let stored = StoredPassword::new(password)?;
        self.add_second(&user, Proof::Password { stored }, |proof| matches!(proof, Proof::Password { .. }))
    }

    /// Adds a device for one-time codes. It counts once a first code was seen.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_totp(&self, user: &str) -> Result<NewSecret<TotpSecret>, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let is_device = |known: &&Credential| matches!(known.proof, Proof::Totp { confirmed: true, .. });
        if self.read().live_of(user.id, self.now()).filter(is_device).count() >= TOTP_DEVICES_MAX {
            return Err(AccountError::DevicesMax);
        }
        let secret = TotpSecret::generate()?;
        let proof = Proof::Totp { secret: secret.clone(), confirmed: false, last_step: None };
        // One that was never confirmed is given up for the next.
        let replaced: Replaced = |proof| matches!(proof, Proof::Totp { confirmed: false, .. });
        let added = self.add_second(&user, proof, replaced)?;
        Ok(NewSecret { id: added.id, user: self.read().full_name(&user), secret })
    }

    /// Gives a user recovery codes; earlier ones are revoked.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_codes(&self, user: &str) -> Result<NewSecret<Vec<RecoveryCode>>, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let secret = RecoveryCode::generate_all()?;
        let key = self.inner.code_key.expose();
        let macs = secret.iter().map(|code| code.mac(key).into()).collect();
        let replaced: Replaced = |proof| matches!(proof, Proof::RecoveryCodes { .. });
        let added = self.add_second(&user, Proof::RecoveryCodes { macs }, replaced)?;
        Ok(NewSecret { id: added.id, user: self.read().full_name(&user), secret })
    }

    /// Confirms a device by a code that it shows.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn confirm(&self, id: &str, code: &str) -> Result<(), AccountError> {
        let _alone = self.changing();
        let known = self.read().credentials.get(&CredentialId(id.to_owned())).cloned();
        let known = known.ok_or_else(|| unknown("credential", id))?;
        let Proof::Totp { secret, confirmed: false, last_step } = &known.proof else {
            return Err(AccountError::NothingToConfirm);
        };
        let now = self.now();
        if !known.is_live(now) {
            return Err(AccountError::NothingToConfirm);
        }
        let step = secret.matching_step(code, now.div_euclid(NANOS), *last_step);
        let step = step.ok_or(AccountError::WrongCode)?;
        let proof = Proof::Totp { secret: secret.clone(), confirmed: true, last_step: Some(step) };
        let user = self.read().users.get(&known.user).cloned();
        let mut audit = operator(
            Action::CredentialConfirm,
            user.as_ref().map(|user| user.customer),
            user.as_ref().map_or("", |user| user.name.as_str()),
        );
        audit.credential = Some(id.to_owned());
        self.replace(audit, Credential { proof, ..known })
    }

    fn replace(&self, audit: RecordDraft, credential: Credential) -> Result<(), AccountError> {
        self.commit(audit, |txn| {
            put(txn, self, Table::Credentials, credential.id.0.as_bytes(), &credential)
        })?;
        self.write().insert_credential(credential);
        Ok(())
    }

    fn add_second(&self, user: &User, proof: Proof, replaced: Replaced) -> Result<Credential, AccountError> {
        let now = self.now();
        let revoked: Vec<Credential> = self
            .read()
            .live_of(user.id, now)
            .filter(|known| replaced(&known.proof))
            .map(|known| Credential { revoked: Some(now), ..known.clone() })
            .collect();
        let credential = Credential {
            id: CredentialId(random_text(10)?),
            user: user.id,
            proof,
            rights: None,
            networks: Vec::new(),
            created: now,
            expires: None,
            revoked: None,
        };
        let mut audit = operator(Action::CredentialAdd, Some(user.customer), &user.name);
        audit.credential = Some(credential.id.0.clone());
        self.commit(audit, |txn| {
            revoked.iter().chain([&credential]).try_for_each(|credential| {
                put(txn, self, Table::Credentials, credential.id.0.as_bytes(), credential)
            })
        })?;
        {
            let mut directory = self.write();
            revoked.into_iter().for_each(|old| directory.insert_credential(old));
            directory.insert_credential(credential.clone());
        }
        self.end_what_is_not_good();
        Ok(credential)
    }

    /// Uses a code up, if it is one of this user's and `counts`; tells which credential's it was. That it is used is durable,
    /// with its record, when this returns: neither another connection nor a restart takes it again.
    pub(super) async fn redeem(
        &self,
        user: &str,
        code: Zeroizing<String>,
        source: IpAddr,
        counts: bool,
    ) -> Option<Proven> {
        let (own, user) = (self.clone(), user.to_owned());
        let redeemed = tokio::task::spawn_blocking(move || own.redeem_now(&user, &code, source, counts));
        redeemed.await.ok().flatten()
    }

    fn redeem_now(&self, user: &str, code: &str, source: IpAddr, counts: bool) -> Option<Proven> {
        // One code at a time: of two that come together the second one sees what the first one used.
        let _alone = self.changing();
        let now = self.now();
        let (user, held) = {
            let directory = self.read();
            let user = directory.user(user)?.clone();
            let live = directory.live_of(user.id, now).filter(|known| known.is_from(source));
            let held: Vec<Credential> = live.cloned().collect();
            (user, held)
        };
        let (spent, factor) = held.into_iter().find_map(|known| self.spent(known, code, now))?;
        if !counts {
            return None;
        }
        let audit = RecordDraft {
            customer: Some(user.customer.0),
            credential: Some(spent.id.0.clone()),
            factors: vec![factor.name()],
            source: Some(source),
            protocol: Protocol::Sftp,
            details: vec![(DetailKey::UserName, user.name.into_bytes())],
            ..RecordDraft::new(Actor::User(user.id.0), Action::LoginStep)
        };
        let proven = (spent.id.clone(), factor);
        match self.replace(audit, spent) {
            Ok(()) => Some(proven),
            Err(error) => {
                tracing::warn!(%error, "a one-time code could not be marked as used, so it is not taken");
                None
            }
        }
    }

    /// A credential after this code of it was used, if it is one.
    fn spent(&self, known: Credential, code: &str, now: i64) -> Option<(Credential, Factor)> {
        match &known.proof {
            Proof::Totp { secret, confirmed: true, last_step } => {
                let step = secret.matching_step(code, now.div_euclid(NANOS), *last_step)?;
                let proof = Proof::Totp { secret: secret.clone(), confirmed: true, last_step: Some(step) };
                Some((Credential { proof, ..known }, Factor::Totp))
            }
            Proof::RecoveryCodes { macs } => {
                let place = RecoveryCode::parse(code)?.place(self.inner.code_key.expose(), macs)?;
                let mut left = macs.clone();
                left.remove(place);
                let proof = Proof::RecoveryCodes { macs: left };
                Some((Credential { proof, ..known }, Factor::RecoveryCode))
            }
            Proof::Totp { confirmed: false, .. }
            | Proof::Password { .. }
            | Proof::TlsCertificate { .. }
            | Proof::SshKey { .. }
            | Proof::Token { .. } => None,
        }
    }
}
