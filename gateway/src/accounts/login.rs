//! Logging in, sessions, and their end.

use std::net::IpAddr;
use std::sync::Arc;

use coffre_auth::authenticate::{Login, Proven, Reason, Rules, Service, Step};
use coffre_auth::credential::app_token::AppToken;
use coffre_auth::{Credential, CredentialId, Factor, Principal, Proof};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, Protocol, RecordDraft};
use tokio_util::sync::CancellationToken;

use super::{Accounts, certificate};
use crate::limits::{OFFERED_NAME_BYTES_MAX, REQUEST_SESSION_IDLE_SECS};
use crate::session::{Session, SharedSession};

/// A login that was refused. Says the same for an unknown user and a wrong credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong, unknown, revoked, expired, disabled, wrong network.
    #[error("the credential is not accepted")]
    Refused,
    /// Too many failures: wait this long.
    #[error("too many failed logins; try again in {0} s")]
    Throttled(u64),
    /// The user or its customer has as many sessions as it may.
    #[error("too many sessions at once")]
    Crowded,
    /// The store cannot record the login, so there is none.
    #[error("logins are not possible now")]
    Unavailable,
}

impl Accounts {
    /// A token of this user, if the text is one; whether it is good now is seen when it is admitted.
    pub(super) fn known_token(&self, user: &str, token: &str) -> Option<CredentialId> {
        let token = AppToken::parse(token)?;
        let directory = self.read();
        let known = directory.credentials.get(&token.id());
        let stored = match known.map(|credential| &credential.proof) {
            Some(Proof::Token { mac }) => *mac,
            // As long as a wrong token takes.
            Some(
                Proof::SshKey { .. }
                | Proof::TlsCertificate { .. }
                | Proof::Password { .. }
                | Proof::Totp { .. }
                | Proof::RecoveryCodes { .. },
            )
            | None => [0; 32],
        };
        let matches = token.matches(self.inner.token_key.expose(), &stored);
        let credential = known.filter(|_| matches)?;
        let named = directory.user(user)?.id;
        (credential.user == named).then(|| credential.id.clone())
    }

    /// The session of a WebDAV request: one for each credential and source, reused while it is used at least every five
    /// minutes; the token is verified at every call (one MAC).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn request_session(
        &self,
        user: &str,
        token: &str,
        source: IpAddr,
    ) -> Result<SharedSession, LoginError> {
        let now = self.now();
        let mut login = Login::new(Service::Http);
        login.name(Service::Http, user, now);
        let step = login.token(self.known_token(user, token), self.rules(user, now));
        let Step::Accepted(proven) = step else {
            self.throttled(user, source)?;
            let reason = match step {
                Step::Refused(reason) => reason,
                Step::Accepted(_) | Step::More | Step::Ask(_) => Reason::Wrong,
            };
            self.refuse(user, source, Protocol::Webdav, &reason.to_string()).await;
            return Err(LoginError::Refused);
        };
        let principal = self.read().principal(&proven, source, now);
        if let Some(principal) = principal {
            let at = (principal.credential, source);
            if let Some((session, used)) =
                self.sessions().requests.get_mut(&at).filter(|(session, _)| session.is_live())
            {
                *used = now;
                return Ok(Arc::clone(session));
            }
            let session = self.admit(&proven, user, source, Protocol::Webdav).await?;
            self.sessions().requests.insert(at, (Arc::clone(&session), now));
            return Ok(session);
        }
        self.throttled(user, source)?;
        self.admit(&proven, user, source, Protocol::Webdav).await
    }

    pub(super) fn rules(&self, user: &str, now: i64) -> Rules {
        self.read().rules(user, now)
    }

    /// The name that failures count for: a user's own, however it was spelled.
    fn counted(&self, user: &str) -> String {
        let directory = self.read();
        directory.user(user).map_or_else(|| offered(user).to_owned(), |known| directory.full_name(known))
    }

    pub(super) fn throttled(&self, user: &str, source: IpAddr) -> Result<(), LoginError> {
        match self.throttle().wait_secs(&self.counted(user), source, self.now()) {
            0 => Ok(()),
            secs => Err(LoginError::Throttled(secs)),
        }
    }

    /// Writes down that somebody was not let in, and counts it. A store that cannot write has let nobody in either.
    pub(super) async fn refuse(&self, user: &str, source: IpAddr, protocol: Protocol, reason: &str) {
        self.throttle().failed(&self.counted(user), source, self.now());
        self.note_refusal(user, (source, protocol), reason, Vec::new()).await;
    }

    /// The same, with more for who may read names.
    pub(super) async fn refuse_with(
        &self,
        user: &str,
        at: (IpAddr, Protocol),
        reason: &str,
        details: Vec<(DetailKey, Vec<u8>)>,
    ) {
        self.throttle().failed(&self.counted(user), at.0, self.now());
        self.note_refusal(user, at, reason, details).await;
    }

    /// Writes down that somebody was not let in.
    pub(super) async fn note_refusal(
        &self,
        user: &str,
        (source, protocol): (IpAddr, Protocol),
        reason: &str,
        mut details: Vec<(DetailKey, Vec<u8>)>,
    ) {
        details.insert(0, (DetailKey::UserName, offered(user).as_bytes().to_vec()));
        let record = RecordDraft {
            source: Some(source),
            protocol,
            outcome: Outcome::Refused,
            reason: Some(reason.to_owned()),
            details,
            ..RecordDraft::new(Actor::Unknown, Action::Login)
        };
        if let Err(error) = self.record(record).await {
            tracing::warn!(%error, "a refused login could not be recorded");
        }
    }

    /// Writes down that who had proven a key failed at the rest, and counts it.
    pub(super) async fn refuse_after(
        &self,
        user: &str,
        key: &CredentialId,
        (source, protocol): (IpAddr, Protocol),
        reason: &str,
    ) {
        self.throttle().failed(&self.counted(user), source, self.now());
        let who = self.read().user(user).map(|user| (user.customer, user.id));
        let record = RecordDraft {
            customer: who.map(|(customer, _)| customer.0),
            credential: Some(key.0.clone()),
            factors: vec![Factor::SshKey.name()],
            source: Some(source),
            protocol,
            outcome: Outcome::Refused,
            reason: Some(reason.to_owned()),
            details: vec![(DetailKey::UserName, offered(user).as_bytes().to_vec())],
            ..RecordDraft::new(who.map_or(Actor::Unknown, |(_, id)| Actor::User(id.0)), Action::Login)
        };
        if let Err(error) = self.record(record).await {
            tracing::warn!(%error, "a refused login could not be recorded");
        }
    }

    /// Writes down that a key was proven, and more is asked.
    pub(super) async fn note_step(
        &self,
        user: &str,
        key: &CredentialId,
        source: IpAddr,
    ) -> Result<(), LoginError> {
        let who = self.read().user(user).map(|user| (user.customer, user.id));
        let (customer, id) = who.ok_or(LoginError::Refused)?;
        self.record(RecordDraft {
            customer: Some(customer.0),
            credential: Some(key.0.clone()),
            factors: vec![Factor::SshKey.name()],
            source: Some(source),
            protocol: Protocol::Sftp,
            ..RecordDraft::new(Actor::User(id.0), Action::LoginStep)
        })
        .await
    }

    /// Lets somebody in who has proven all that policy asks, if all of it is good at this moment.
    pub(super) async fn admit(
        &self,
        proven: &[Proven],
        user: &str,
        source: IpAddr,
        protocol: Protocol,
    ) -> Result<SharedSession, LoginError> {
        let principal = self.read().principal(proven, source, self.now());
        if let Some(principal) = principal {
            return self.admit_principal(principal, user, (source, protocol)).await;
        }
        self.refuse(user, source, protocol, &LoginError::Refused.to_string()).await;
        Err(LoginError::Refused)
    }

    /// Lets somebody in.
    pub(super) async fn admit_principal(
        &self,
        principal: Principal,
        user: &str,
        (source, protocol): (IpAddr, Protocol),
    ) -> Result<SharedSession, LoginError> {
        self.throttle().succeeded(&self.counted(user), source);
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| LoginError::Unavailable)?;
        // The directory is never asked while the sessions are held.
        let shares = self.shares_of(&principal);
        let pace = shares.map(|shares| self.pace(&principal, &shares)).unwrap_or_default();
        let session =
            Arc::new(Session { id, principal, protocol, source, pace, ended: CancellationToken::new() });
        // Known before it is looked at again: a revocation from here on ends it.
        let has_room = {
            let mut sessions = self.sessions();
            let has_room = shares.is_none_or(|shares| shares.have_room(&sessions, &session.principal));
            if has_room {
                sessions.live.insert(id, Arc::clone(&session));
            }
            has_room
        };
        if !has_room {
            let reason = Some(LoginError::Crowded.to_string());
            let record = RecordDraft { outcome: Outcome::Refused, reason, ..session.record(Action::Login) };
            self.record(record).await?;
            return Err(LoginError::Crowded);
        }
        let mut record = session.record(Action::Login);
        if let Some(claim) = &session.principal.certificate {
            record.details.push((DetailKey::Note, certificate::shown(claim)));
        }
        if let Err(error) = self.record(record).await {
            self.sessions().live.remove(&id);
            return Err(error);
        }
        self.end_what_is_not_good();
        if session.is_live() { Ok(session) } else { Err(LoginError::Refused) }
    }

    pub(super) async fn record(&self, record: RecordDraft) -> Result<(), LoginError> {
        let store = self.inner.store.clone();
        let pending = tokio::task::spawn_blocking(move || store.record(record)).await;
        let pending = pending.map_err(|_| LoginError::Unavailable)?.map_err(|_| LoginError::Unavailable)?;
        let (told, heard) = tokio::sync::oneshot::channel();
        pending.ticket.notify(Box::new(move |outcome| drop(told.send(outcome))));
        match heard.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(LoginError::Unavailable),
        }
    }

    /// Records the end of a session with its totals. Blocking.
    pub fn close_session(&self, session: &SharedSession, bytes_in: u64, bytes_out: u64) {
        session.ended.cancel();
        if self.sessions().live.remove(&session.id).is_none() {
            return;
        }
        self.inner.session_closed.notify_all();
        let mut record = session.record(Action::SessionClose);
        record.bytes = Some(bytes_in.saturating_add(bytes_out));
        record.details =
            vec![(DetailKey::Note, format!("received {bytes_in}, sent {bytes_out}").into_bytes())];
        if let Err(error) = self.inner.store.record(record) {
            tracing::warn!(%error, "the end of a session could not be recorded");
        }
    }

    /// Ends what has expired and forgets WebDAV sessions that nobody uses. Called twice a second.
    pub fn sweep(&self) {
        self.lock_what_is_over();
        self.end_what_is_not_good();
        let idle = self.now().saturating_sub(REQUEST_SESSION_IDLE_SECS.saturating_mul(1_000_000_000));
        let gone: Vec<SharedSession> = {
            let mut sessions = self.sessions();
            let at: Vec<(CredentialId, IpAddr)> = sessions
                .requests
                .iter()
                .filter(|(_, (session, used))| *used < idle || !session.is_live())
                .map(|(at, _)| at.clone())
                .collect();
            at.iter().filter_map(|at| sessions.requests.remove(at)).map(|(session, _)| session).collect()
        };
        gone.iter().for_each(|session| self.close_session(session, 0, 0));
    }

    /// Cancels every session whose credential, user or customer is not good any more.
    pub(super) fn end_what_is_not_good(&self) {
        let now = self.now();
        let directory = self.read();
        for session in self.sessions().live.values() {
            let again = if let Some(claim) = &session.principal.certificate {
                let user = directory.users.get(&session.principal.user);
                let name = user.map(|user| directory.full_name(user)).unwrap_or_default();
                directory.certified(&name, claim, session.source, now).ok()
            } else {
                let proven: Vec<Proven> = session.principal.proven().collect();
                directory.principal(&proven, session.source, now)
            };
            let good = again.is_some_and(|principal| principal.mounts == session.principal.mounts);
            if !good {
                session.ended.cancel();
            }
        }
    }

    /// Cancels every session: the server stops.
    pub fn end_all_sessions(&self) {
        let all: Vec<SharedSession> = self.sessions().live.values().cloned().collect();
        all.iter().for_each(|session| session.ended.cancel());
    }

    /// Records the end of WebDAV sessions that are left when the server stops.
    pub fn close_all_sessions(&self) {
        let all: Vec<SharedSession> = self.sessions().live.values().cloned().collect();
        all.iter().for_each(|session| self.close_session(session, 0, 0));
    }

    /// Sessions that are live, for `coffre status`.
    pub fn session_count(&self) -> usize {
        self.sessions().live.len()
    }
}

/// What was offered as a user name, cut to what is worth keeping.
pub(super) fn offered(user: &str) -> &str {
    let mut end = user.len().min(OFFERED_NAME_BYTES_MAX);
    while !user.is_char_boundary(end) {
        end -= 1;
    }
    user.get(..end).unwrap_or_default()
}

impl super::Directory {
    /// What is good about a credential, for listings.
    pub(super) fn state(credential: &Credential, now: i64) -> &'static str {
        if credential.revoked.is_some() {
            "revoked"
        } else if !credential.is_live(now) {
            "expired"
        } else {
            "live"
        }
    }
}
