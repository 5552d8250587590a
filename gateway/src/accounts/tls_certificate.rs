//! TLS client certificates: which are registered, and whom a request proves by one.

use std::net::IpAddr;
use std::sync::Arc;

use coffre_auth::authenticate::{Login, Service, Step};
use coffre_auth::credential::app_token::random_text;
use coffre_auth::credential::tls_certificate::ClientCertificate;
use coffre_auth::{Credential, CredentialId, Factor, Network, Proof};
use coffre_storage::audit::{Action, Actor, Outcome, Protocol, RecordDraft};

use super::{AccountError, Accounts, CredentialScope, LoginError};
use crate::session::SharedSession;

impl Accounts {
    /// Whether anybody's certificate is taken: then clients are asked for one.
    pub fn takes_client_certificates(&self) -> bool {
        let now = self.now();
        let directory = self.read();
        let mut held = directory.pins.values().flatten().filter_map(|id| directory.credentials.get(id));
        held.any(|credential| credential.is_live(now))
    }

    /// The session of a WebDAV request whose client has shown a certificate and no other credential. Everything about it is
    /// looked at again at every call. Nothing when its key is nobody's: such a client has not tried to log in.
    pub async fn certified_request(
        &self,
        certificate: &ClientCertificate,
        source: IpAddr,
    ) -> Option<Result<SharedSession, LoginError>> {
        let now = self.now();
        let (id, name, principal) = {
            let directory = self.read();
            let holders = directory.pins.get(&certificate.pin)?;
            let held: Vec<&Credential> =
                holders.iter().filter_map(|id| directory.credentials.get(id)).collect();
            // The newest says who was tried for, when none is good.
            let newest = held.iter().max_by_key(|credential| credential.created)?;
            let name = directory.users.get(&newest.user).map(|user| directory.full_name(user));
            let mut good = held.iter().filter(|_| certificate.is_live(now));
            let principal = good.find_map(|known| {
                let mut login = Login::new(Service::Http);
                let rules = directory.users.get(&known.user).map(|user| directory.rules_of(user, now))?;
                match login.certificate(known.id.clone(), Factor::TlsCertificate, rules) {
                    Step::Accepted(proven) => directory.principal(&proven, source, now),
                    Step::More | Step::Ask(_) | Step::Refused(_) => None,
                }
            });
            (newest.id.clone(), name.unwrap_or_default(), principal)
        };
        let Some(principal) = principal else { return Some(self.refuse_certificate(id, source).await) };
        let at = (principal.credential.clone(), source);
        if let Some((session, used)) =
            self.sessions().requests.get_mut(&at).filter(|(session, _)| session.is_live())
        {
            *used = now;
            return Some(Ok(Arc::clone(session)));
        }
        let admitted = self.admit_principal(principal, &name, (source, Protocol::Webdav)).await;
        if let Ok(session) = &admitted {
            self.sessions().requests.insert(at, (Arc::clone(session), now));
        }
        Some(admitted)
    }

    /// A certificate that is known and not good. It makes nobody wait who logs in by other means.
    async fn refuse_certificate(
        &self,
        id: CredentialId,
        source: IpAddr,
    ) -> Result<SharedSession, LoginError> {
        self.throttled(&id.0, source)?;
        self.throttle().failed(&id.0, source, self.now());
        let record = RecordDraft {
            source: Some(source),
            protocol: Protocol::Webdav,
            outcome: Outcome::Refused,
            reason: Some("the certificate is not accepted".to_owned()),
            credential: Some(id.0),
            ..RecordDraft::new(Actor::Unknown, Action::Login)
        };
        self.record(record).await?;
        Err(LoginError::Refused)
    }

    /// Registers a TLS client certificate: its key is the user's until the certificate ends.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn add_certificate(
        &self,
        user: &str,
        certificate: &str,
        scope: CredentialScope,
    ) -> Result<Credential, AccountError> {
        let _alone = self.changing();
        let user = self.user_named(user)?;
        let now = self.now();
        let ClientCertificate { pin, subject, ends, .. } = ClientCertificate::parse(certificate, now)?;
        // One key, one user: a request by it names nobody.
        let is_taken = {
            let directory = self.read();
            let mut holders =
                directory.pins.get(&pin).into_iter().flatten().filter_map(|id| directory.credentials.get(id));
            holders.any(|holder| holder.is_live(now))
        };
        if is_taken {
            return Err(AccountError::Exists { kind: "certificate", name: subject });
        }
        let expires = scope.expires_secs.map_or(ends, |secs| self.until(secs).min(ends));
        let credential = Credential {
            id: CredentialId(random_text(10)?),
            user: user.id,
            proof: Proof::TlsCertificate { pin, subject },
            rights: scope.rights,
            networks: scope.networks.into_iter().map(Network).collect(),
            created: now,
            expires: Some(expires),
            revoked: None,
        };
        self.add_credential(&user, credential.clone())?;
        Ok(credential)
    }
}
