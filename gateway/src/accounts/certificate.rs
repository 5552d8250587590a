//! OpenSSH certificates: whose a customer takes, which are revoked, and whom one proves.
//!
//! A session that began with a certificate is looked at like any other: it ends when the certificate would not be taken any more.

use std::net::IpAddr;

use coffre_auth::credential::app_token::random_text;
use coffre_auth::credential::ssh_certificate::{
    Authority, CertificateRefusal, Claim, Mark, Revocation, is_fingerprint,
};
use coffre_auth::credential::ssh_key;
use coffre_auth::{Combination, CredentialId, CustomerId, Factor, Network, Principal};
use coffre_storage::audit::{Action, DetailKey};
use coffre_storage::index::Table;
use russh::keys::Certificate;

use super::changes::{operator, put, unknown};
use super::{AccountError, Accounts, CredentialScope, Directory};
use crate::limits::{AUTHORITIES_MAX, AUTHORITY_LIFE_SECS_MAX, REVOCATIONS_MAX};

/// Key of a row of revocations: whatever the mark says, its length is bounded.
fn revocation_key(revocation: &Revocation) -> Result<[u8; 32], AccountError> {
    let named =
        minicbor::to_vec((&revocation.authority, &revocation.mark)).map_err(|_| AccountError::Encode)?;
    Ok(blake3::hash(&named).into())
}

/// Why a certificate proves nobody, in words for operators, and more for who may read names.
pub(super) type WhyNot = (String, Vec<(DetailKey, Vec<u8>)>);

/// What a record says of a certificate.
pub(super) fn shown(claim: &Claim) -> Vec<u8> {
    format!("certificate serial {}, key id {:?}, {}", claim.serial, claim.key_id, claim.fingerprint)
        .into_bytes()
}

impl Directory {
    pub(super) fn insert_revocation(&mut self, revocation: Revocation) {
        self.revocations.entry(revocation.authority).or_default().insert(revocation.mark);
    }

    /// Whom a certificate proves at `now` from `source`, as the user of this name on the wire.
    pub(super) fn certified(
        &self,
        name: &str,
        claim: &Claim,
        source: IpAddr,
        now: i64,
    ) -> Result<Principal, CertificateRefusal> {
        let user = self.user(name).ok_or(CertificateRefusal::User)?;
        let customer = self.customers.get(&user.customer).ok_or(CertificateRefusal::User)?;
        let mut refusal = CertificateRefusal::Authority;
        let own = self.authorities.values().filter(|known| known.customer == user.customer);
        for authority in own.filter(|known| known.key == claim.authority_key) {
            let full = format!("{}/{}", customer.name, user.name);
            if let Err(why) = claim.check(authority, &[&user.name, &full], source, now) {
                refusal = why;
            } else if self.is_revoked(authority, claim) {
                return Err(CertificateRefusal::Revoked);
            } else if !self.may_come_in(user, now) || !customer.login().takes(Combination::SshCertificate) {
                return Err(CertificateRefusal::User);
            } else {
                let mut mounts = user.mounts.clone();
                if let Some(rights) = authority.rights {
                    mounts.iter_mut().for_each(|mount| mount.rights = mount.rights.intersect(rights));
                }
                return Ok(Principal {
                    customer: customer.id,
                    customer_name: customer.name.clone(),
                    user: user.id,
                    user_name: user.name.clone(),
                    credential: authority.id.clone(),
                    beside: Vec::new(),
                    factors: vec![Factor::SshCertificate],
                    mounts,
                    certificate: Some(claim.clone()),
                });
            }
        }
        Err(refusal)
    }

    fn is_revoked(&self, authority: &Authority, claim: &Claim) -> bool {
        let same_key = self.authorities.values().filter(|known| known.key == authority.key);
        let marks = claim.marks();
        // Registered twice, an authority is still one: what is revoked of it stays so.
        same_key
            .filter(|known| known.customer == authority.customer)
            .filter_map(|known| self.revocations.get(&known.id))
            .any(|revoked| marks.iter().any(|mark| revoked.contains(mark)))
    }
}

impl Accounts {
    /// Whether anybody's certificates are taken: then a key that nobody registered may be one that a certificate is for.
    pub fn takes_certificates(&self) -> bool {
        let now = self.now();
        self.read().authorities.values().any(|authority| authority.is_live(now))
    }

    /// Whom an OpenSSH certificate proves, or why it does not: in words for operators, with more for who may read names.
    pub(super) fn certified(
        &self,
        user: &str,
        certificate: &Certificate,
        source: IpAddr,
    ) -> Result<Principal, WhyNot> {
        let claim = Claim::read(certificate).map_err(|refusal| (refusal.to_string(), Vec::new()))?;
        let proven = self.read().certified(user, &claim, source, self.now());
        proven.map_err(|refusal| (refusal.to_string(), vec![(DetailKey::Note, shown(&claim))]))
    }

    /// Lets users of a customer in with certificates of this authority.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_authority(
        &self,
        customer: &str,
        key: &str,
        life_secs_max: u64,
        scope: CredentialScope,
    ) -> Result<Authority, AccountError> {
        let _alone = self.changing();
        let customer = self.customer(customer)?;
        let key = ssh_key::parse(key)?;
        if key.is_security_key() {
            return Err(ssh_key::KeyError::Kind.into());
        }
        if !(1..=AUTHORITY_LIFE_SECS_MAX).contains(&life_secs_max) {
            return Err(AccountError::Validity);
        }
        let now = self.now();
        let own = |known: &&Authority| known.customer == customer.id && known.is_live(now);
        let (known, count) = {
            let directory = self.read();
            let mut all = directory.authorities.values().filter(own);
            (all.any(|known| known.key == key.bytes), directory.authorities.values().filter(own).count())
        };
        if known {
            return Err(AccountError::Exists { kind: "authority", name: key.fingerprint });
        }
        if count >= AUTHORITIES_MAX {
            return Err(AccountError::Authorities);
        }
        let authority = Authority {
            id: CredentialId(random_text(10)?),
            customer: customer.id,
            key: key.bytes,
            fingerprint: key.fingerprint,
            life_secs_max,
            rights: scope.rights,
            networks: scope.networks.into_iter().map(Network).collect(),
            created: now,
            expires: scope.expires_secs.map(|secs| self.until(secs)),
            revoked: None,
        };
        self.commit_authority(Action::AuthorityAdd, &customer.name, authority.clone())?;
        Ok(authority)
    }

    fn commit_authority(
        &self,
        action: Action,
        customer: &str,
        authority: Authority,
    ) -> Result<(), AccountError> {
        let mut audit = operator(action, Some(authority.customer), customer);
        audit.credential = Some(authority.id.0.clone());
        self.commit(audit, |txn| put(txn, self, Table::Authorities, authority.id.0.as_bytes(), &authority))?;
        self.write().authorities.insert(authority.id.clone(), authority);
        Ok(())
    }

    fn customer_name(&self, id: CustomerId) -> String {
        self.read().customers.get(&id).map_or_else(String::new, |customer| customer.name.clone())
    }

    /// Takes no certificate of an authority any more: their sessions end. False when there is no such authority.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(super) fn revoke_authority(&self, id: &str) -> Result<bool, AccountError> {
        let known = self.read().authorities.get(&CredentialId(id.to_owned())).cloned();
        let Some(known) = known else { return Ok(false) };
        let revoked = Authority { revoked: known.revoked.or_else(|| Some(self.now())), ..known };
        let customer = self.customer_name(revoked.customer);
        self.commit_authority(Action::AuthorityRevoke, &customer, revoked)?;
        self.end_what_is_not_good();
        Ok(true)
    }

    /// Revokes certificates of an authority: their sessions end. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn revoke_certificate(&self, authority: &str, mark: Mark) -> Result<(), AccountError> {
        let _alone = self.changing();
        if let Mark::Fingerprint(text) = &mark
            && !is_fingerprint(text)
        {
            return Err(AccountError::Fingerprint);
        }
        let id = CredentialId(authority.to_owned());
        let known = self.read().authorities.get(&id).cloned();
        let known = known.ok_or_else(|| unknown("authority", authority))?;
        if self.read().revocations.get(&id).is_some_and(|marks| marks.len() >= REVOCATIONS_MAX) {
            return Err(AccountError::Revocations);
        }
        let mut audit =
            operator(Action::CertificateRevoke, Some(known.customer), &self.customer_name(known.customer));
        audit.credential = Some(authority.to_owned());
        audit.details.push((DetailKey::Note, format!("{mark:?}").into_bytes()));
        let revocation = Revocation { authority: id, mark, revoked: self.now() };
        let key = revocation_key(&revocation)?;
        self.commit(audit, |txn| put(txn, self, Table::CertificateRevocations, &key, &revocation))?;
        self.write().insert_revocation(revocation);
        self.end_what_is_not_good();
        Ok(())
    }

    /// Every authority with its customer's name, its state, and how many revocations it has, oldest first.
    pub fn authorities(&self) -> Vec<(String, &'static str, usize, Authority)> {
        let (directory, now) = (self.read(), self.now());
        let mut all: Vec<_> = directory
            .authorities
            .values()
            .map(|known| {
                let customer = directory.customers.get(&known.customer);
                let name = customer.map_or_else(String::new, |customer| customer.name.clone());
                let state = match known {
                    Authority { revoked: Some(_), .. } => "revoked",
                    live if live.is_live(now) => "live",
                    _ => "expired",
                };
                let revoked = directory.revocations.get(&known.id).map_or(0, std::collections::HashSet::len);
                (name, state, revoked, known.clone())
            })
            .collect();
        all.sort_by(|a, b| (&a.0, a.3.created).cmp(&(&b.0, b.3.created)));
        all
    }
}
