//! Customers, users and credentials: in memory for decisions, in the store for good; login and revocation.

use std::net::IpAddr;
use std::sync::Arc;

use coffre_storage::Store;
use coffre_storage::audit::Protocol;

use crate::session::SharedSession;

/// The directory of who is who. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    _store: Store,
}

/// A login that was refused. Says the same for an unknown user and a wrong credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong, unknown, revoked, expired, disabled, wrong network.
    #[error("the credential is not accepted")]
    Refused,
    /// Too many failures: wait this long.
    #[error("too many failed logins; try again in {0} s")]
    Throttled(u64),
    /// The store cannot record the login, so there is none.
    #[error("logins are not possible now")]
    Unavailable,
}

#[allow(unused_variables, reason = "signatures")]
impl Accounts {
    /// Loads everything from the store.
    ///
    /// # Errors
    /// A record that does not open or decode.
    pub fn load(store: Store) -> anyhow::Result<Self> { todo!() }
    /// Whether a signature by this key could log the user in (SSH key probe). Same cost and answer shape for unknown
    /// users. Records nothing.
    pub fn is_key_acceptable(&self, user: &str, key: &russh::keys::PublicKey, source: IpAddr) -> bool { todo!() }
    /// Logs in with a key whose signature russh has verified. Records the login (or its refusal) and the session,
    /// durable before this returns. Async-safe: does its waiting on the ticket, not on a thread.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login_with_key(&self, user: &str, key: &russh::keys::PublicKey, source: IpAddr)
        -> Result<SharedSession, LoginError> { todo!() }
    /// Logs in with an app token (SFTP password prompt).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login_with_token(&self, user: &str, token: &str, source: IpAddr, protocol: Protocol)
        -> Result<SharedSession, LoginError> { todo!() }
    /// The session of a WebDAV request: one per (credential, source), reused while it is used at least every five
    /// minutes; the token is verified at every call (one MAC).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn request_session(&self, user: &str, token: &str, source: IpAddr)
        -> Result<SharedSession, LoginError> { todo!() }
    /// Records the end of a session with its totals.
    pub fn close_session(&self, session: &SharedSession, bytes_in: u64, bytes_out: u64) { todo!() }
}
