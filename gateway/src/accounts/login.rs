//! Logging in, sessions, and their end.

use std::net::IpAddr;
use std::sync::Arc;

use coffre_auth::credential::app_token::AppToken;
use coffre_auth::credential::ssh_key;
use coffre_auth::{Credential, CredentialId, Principal, Proof};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, Protocol, RecordDraft};
use tokio_util::sync::CancellationToken;

use super::Accounts;
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
    /// Whether a signature by this key could log the user in (SSH key probe). Records nothing.
    pub fn is_key_acceptable(&self, user: &str, key: &russh::keys::PublicKey, source: IpAddr) -> bool {
        self.by_key(user, key, source).is_some()
    }

    fn by_key(&self, user: &str, key: &russh::keys::PublicKey, source: IpAddr) -> Option<Principal> {
        let key = ssh_key::accept(key.key_data()).ok()?;
        let now = self.now();
        let directory = self.read();
        let user = directory.user(user)?.id;
        directory
            .keys
            .get(&key.bytes)?
            .iter()
            .filter_map(|id| directory.credentials.get(id))
            .filter(|credential| credential.user == user)
            .find_map(|credential| directory.principal(credential, source, now))
    }

    fn by_token(&self, user: &str, token: &str, source: IpAddr) -> Option<Principal> {
        let token = AppToken::parse(token)?;
        let now = self.now();
        let directory = self.read();
        let known = directory.credentials.get(&token.id());
        let stored = match known.map(|credential| &credential.proof) {
            Some(Proof::Token { mac }) => *mac,
            // As long as a wrong token takes.
            Some(
                Proof::SshKey { .. }
                | Proof::Password { .. }
                | Proof::Totp { .. }
                | Proof::RecoveryCodes { .. }
                | Proof::SentCode { .. },
            )
            | None => [0; 32],
        };
        let matches = token.matches(self.inner.token_key.expose(), &stored);
        let credential = known.filter(|_| matches)?;
        let named = directory.user(user)?.id;
        (credential.user == named).then(|| directory.principal(credential, source, now)).flatten()
    }

    /// Logs in with a key whose signature russh has verified. The record of the login, or of its refusal, is durable before
    /// this returns.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login_with_key(
        &self,
        user: &str,
        key: &russh::keys::PublicKey,
        source: IpAddr,
    ) -> Result<SharedSession, LoginError> {
        self.throttled(user, source)?;
        let principal = self.by_key(user, key, source);
        self.admit(principal, user, source, Protocol::Sftp).await
    }

    /// Logs in with an app token (SFTP password prompt).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login_with_token(
        &self,
        user: &str,
        token: &str,
        source: IpAddr,
        protocol: Protocol,
    ) -> Result<SharedSession, LoginError> {
        self.throttled(user, source)?;
        let principal = self.by_token(user, token, source);
        self.admit(principal, user, source, protocol).await
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
        if let Some(principal) = self.by_token(user, token, source) {
            let at = (principal.credential.clone(), source);
            let now = self.now();
            if let Some((session, used)) =
                self.sessions().requests.get_mut(&at).filter(|(session, _)| session.is_live())
            {
                *used = now;
                return Ok(Arc::clone(session));
            }
            let session = self.admit(Some(principal), user, source, Protocol::Webdav).await?;
            self.sessions().requests.insert(at, (Arc::clone(&session), now));
            return Ok(session);
        }
        self.throttled(user, source)?;
        self.admit(None, user, source, Protocol::Webdav).await
    }

    fn throttled(&self, user: &str, source: IpAddr) -> Result<(), LoginError> {
        match self.throttle().wait_secs(offered(user), source, self.now()) {
            0 => Ok(()),
            secs => Err(LoginError::Throttled(secs)),
        }
    }

    async fn admit(
        &self,
        principal: Option<Principal>,
        user: &str,
        source: IpAddr,
        protocol: Protocol,
    ) -> Result<SharedSession, LoginError> {
        let Some(principal) = principal else {
            self.throttle().failed(offered(user), source, self.now());
            let record = RecordDraft {
                source: Some(source),
                protocol,
                outcome: Outcome::Refused,
                reason: Some(LoginError::Refused.to_string()),
                details: vec![(DetailKey::UserName, offered(user).as_bytes().to_vec())],
                ..RecordDraft::new(Actor::Unknown, Action::Login)
            };
            self.record(record).await?;
            return Err(LoginError::Refused);
        };
        self.throttle().succeeded(offered(user), source);
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
        if let Err(error) = self.record(session.record(Action::Login)).await {
            self.sessions().live.remove(&id);
            return Err(error);
        }
        self.end_what_is_not_good();
        if session.is_live() { Ok(session) } else { Err(LoginError::Refused) }
    }

    async fn record(&self, record: RecordDraft) -> Result<(), LoginError> {
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
            let credential = directory.credentials.get(&session.principal.credential);
            let good = credential
                .and_then(|credential| directory.principal(credential, session.source, now))
                .is_some_and(|principal| principal.mounts == session.principal.mounts);
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
fn offered(user: &str) -> &str {
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
