//! One login over SSH, from the first factor to the session: verifies what comes, has [`Login`] decide, writes down every step that
//! counts.

use std::net::IpAddr;

use coffre_auth::authenticate::{Key, Login, Proven, Question, Reason, Service, Step};
use coffre_auth::credential::app_token;
use coffre_auth::credential::password::StoredPassword;
use coffre_auth::{Combination, CredentialId, Factor, Proof};
use coffre_storage::audit::Protocol;
use zeroize::Zeroizing;

use super::Accounts;
use super::passwords::Busy;
use crate::limits::ANSWER_BYTES_MAX;
use crate::session::SharedSession;

/// What the client is told.
#[derive(Debug)]
pub enum Reply {
    /// It is in.
    Session(SharedSession),
    /// So far so good: the rest at a prompt.
    More,
    /// A prompt.
    Ask(Question),
    /// No.
    Refused,
}

/// A login under way.
#[derive(Debug)]
pub struct Dialogue {
    accounts: Accounts,
    source: IpAddr,
    login: Login,
    /// Who was tried for with keys that are nobody's, until something else of this login is written down.
    tried: Option<String>,
    /// What was typed where a password was asked for: looked at when its code comes.
    secret: Zeroizing<String>,
}

impl Dialogue {
    /// Begins: nothing is proven.
    pub fn new(accounts: Accounts, source: IpAddr) -> Self {
        Self { accounts, source, login: Login::new(Service::Ssh), tried: None, secret: Zeroizing::default() }
    }

    /// Whether a signature by this key could be of use (SSH key probe). Records nothing.
    pub fn is_key_acceptable(&self, user: &str, key: &russh::keys::PublicKey) -> bool {
        self.accounts.known_key(user, key, self.source).is_some()
    }

    /// A key was offered that is not this user's: clients try all they have. Written down at the end of the connection, once, if
    /// nothing else came of it.
    pub fn offered_in_vain(&mut self, user: &str) {
        if self.tried.is_none() {
            self.tried = Some(super::login::offered(user).to_owned());
        }
    }

    /// Whether a key was proven, and the rest is awaited.
    pub fn is_key_proven(&self) -> bool {
        self.login.key_proven().is_some()
    }

    /// A key whose signature was verified.
    pub async fn key(&mut self, user: &str, key: &russh::keys::PublicKey) -> Reply {
        let Some(now) = self.begin(user) else { return Reply::Refused };
        let known = self.accounts.known_key(user, key, self.source);
        let step = self.login.key(known, self.accounts.rules(user, now));
        self.go_on(user, step).await
    }

    /// Whether a key that nobody registered may be one that a certificate is for.
    pub fn takes_certificates(&self) -> bool {
        self.accounts.takes_certificates()
    }

    /// An OpenSSH certificate: russh has verified its signature, its dates, and that the client has its key.
    pub async fn certificate(&mut self, user: &str, certificate: &russh::keys::Certificate) -> Reply {
        let Some(now) = self.begin(user) else { return Reply::Refused };
        let at = (self.source, Protocol::Sftp);
        let (refusal, details) = match self.accounts.certified(user, certificate, self.source) {
            Ok(principal) => {
                let rules = self.accounts.rules(user, now);
                let by = principal.credential.clone();
                match self.login.certificate(by, Factor::SshCertificate, rules) {
                    Step::Accepted(_) => {
                        let admitted = self.accounts.admit_principal(principal, user, at).await;
                        return admitted.map_or(Reply::Refused, Reply::Session);
                    }
                    Step::Refused(reason) => (reason.to_string(), Vec::new()),
                    Step::More | Step::Ask(_) => (Reason::NotAsked.to_string(), Vec::new()),
                }
            }
            Err(refusal) => refusal,
        };
        self.accounts.refuse_with(user, at, &refusal, details).await;
        Reply::Refused
    }

    /// An app token, at the prompt for a password.
    pub async fn token(&mut self, user: &str, text: &str) -> Reply {
        let Some(now) = self.begin(user) else { return Reply::Refused };
        let known = self.accounts.known_token(user, text);
        let step = self.login.token(known, self.accounts.rules(user, now));
        self.go_on(user, step).await
    }

    /// The client wants to be asked.
    pub async fn interactive(&mut self, user: &str) -> Reply {
        let Some(now) = self.begin(user) else { return Reply::Refused };
        let step = self.login.interactive(self.accounts.rules(user, now));
        self.go_on(user, step).await
    }

    /// What was typed at the prompt; nothing stands for an answer that is none.
    pub async fn answer(&mut self, user: &str, text: Option<Zeroizing<String>>) -> Reply {
        let now = self.accounts.now();
        let text = text.filter(|text| text.len() <= ANSWER_BYTES_MAX).unwrap_or_default();
        if self.accounts.throttled(user, self.source).is_err() {
            return Reply::Refused;
        }
        let rules = self.accounts.rules(user, now);
        let step = match self.login.question(user, now) {
            // A token that is mistyped is no password either: nothing more is asked of a script.
            Some(Question::Secret) if text.starts_with(app_token::PREFIX) => {
                let known = self.accounts.known_token(user, &text);
                self.login.token(known, rules)
            }
            Some(Question::Secret) => {
                self.secret = text;
                self.login.secret()
            }
            Some(Question::PasswordAfterKey) => match self.password(user, text).await {
                Ok(right) => self.login.password(right, rules),
                Err(busy) => return self.busy(user, busy).await,
            },
            Some(Question::CodeAfterKey) => {
                let counts = self.login.key_proven().is_some() && rules.policy.takes(Combination::KeyAndCode);
                let code = self.accounts.redeem(user, text, self.source, counts).await;
                self.login.code(None, code, rules)
            }
            Some(Question::CodeAfterPassword) => {
                let secret = std::mem::take(&mut self.secret);
                match self.password(user, secret).await {
                    Ok(password) => {
                        let counts = password.is_some() && rules.policy.takes(Combination::PasswordAndCode);
                        let code = self.accounts.redeem(user, text, self.source, counts).await;
                        self.login.code(password, code, rules)
                    }
                    Err(busy) => return self.busy(user, busy).await,
                }
            }
            None => Step::Refused(Reason::NotAsked),
        };
        self.go_on(user, step).await
    }

    /// Nothing was looked at, so nothing failed that would count.
    async fn busy(&self, user: &str, busy: Busy) -> Reply {
        let at = (self.source, Protocol::Sftp);
        self.accounts.note_refusal(user, at, &busy.to_string(), Vec::new()).await;
        Reply::Refused
    }

    fn begin(&mut self, user: &str) -> Option<i64> {
        let now = self.accounts.now();
        self.login.name(Service::Ssh, user, now);
        self.tried = None;
        self.accounts.throttled(user, self.source).is_ok().then_some(now)
    }

    /// Whose password this is. Costs the same for a user that has none, and for nobody.
    async fn password(&self, user: &str, text: Zeroizing<String>) -> Result<Option<CredentialId>, Busy> {
        let known = self.accounts.known_password(user, self.source);
        let (id, stored) =
            known.map_or_else(|| (None, StoredPassword::of_nobody()), |(id, stored)| (Some(id), stored));
        let is_right = self.accounts.inner.passwords.is(stored, text, self.source).await?;
        Ok(id.filter(|_| is_right))
    }

    async fn go_on(&mut self, user: &str, step: Step) -> Reply {
        match step {
            Step::Accepted(proven) => self.accepted(user, proven).await,
            Step::More => match self.login.key_proven().cloned() {
                Some(key) if self.accounts.note_step(user, &key, self.source).await.is_ok() => Reply::More,
                Some(_) | None => Reply::Refused,
            },
            Step::Ask(question) => Reply::Ask(question),
            Step::Refused(reason) => {
                let at = (self.source, Protocol::Sftp);
                let reason = reason.to_string();
                match self.login.key_proven() {
                    Some(key) => self.accounts.refuse_after(user, key, at, &reason).await,
                    None => self.accounts.refuse(user, self.source, Protocol::Sftp, &reason).await,
                }
                Reply::Refused
            }
        }
    }

    /// All factors are proven.
    async fn accepted(&self, user: &str, proven: Vec<Proven>) -> Reply {
        let admitted = self.accounts.admit(&proven, user, self.source, Protocol::Sftp).await;
        admitted.map_or(Reply::Refused, Reply::Session)
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let (Some(user), Ok(runtime)) = (self.tried.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (accounts, at) = (self.accounts.clone(), (self.source, Protocol::Sftp));
        runtime.spawn(async move {
            accounts.note_refusal(&user, at, "no key that was offered is accepted", Vec::new()).await;
        });
    }
}

impl Accounts {
    /// A key of this user that is good now, from there.
    fn known_key(&self, user: &str, key: &russh::keys::PublicKey, source: IpAddr) -> Option<Key> {
        let key = coffre_auth::credential::ssh_key::accept(key.key_data()).ok()?;
        let (now, directory) = (self.now(), self.read());
        let user = directory.user(user).filter(|user| directory.may_come_in(user, now))?.id;
        let holders = directory.keys.get(&key.bytes)?.iter();
        let good = |known: &&coffre_auth::Credential| {
            known.user == user && known.is_live(now) && known.is_from(source)
        };
        let known = holders.filter_map(|id| directory.credentials.get(id)).find(good)?;
        Some(match known.proof {
            Proof::SshKey { machine: true, .. } => Key::Machine(known.id.clone()),
            Proof::SshKey { smart_card: true, .. } => Key::SmartCard(known.id.clone()),
            Proof::SshKey { machine: false, smart_card: false, .. }
            | Proof::TlsCertificate { .. }
            | Proof::Token { .. }
            | Proof::Password { .. }
            | Proof::Totp { .. }
            | Proof::RecoveryCodes { .. } => Key::Person(known.id.clone()),
        })
    }

    /// The password of this user that is good now, from there.
    fn known_password(&self, user: &str, source: IpAddr) -> Option<(CredentialId, StoredPassword)> {
        let (now, directory) = (self.now(), self.read());
        let user = directory.user(user)?.id;
        directory.live_of(user, now).filter(|known| known.is_from(source)).find_map(|known| {
            match &known.proof {
                Proof::Password { stored } => Some((known.id.clone(), stored.clone())),
                Proof::Token { .. }
                | Proof::TlsCertificate { .. }
                | Proof::SshKey { .. }
                | Proof::Totp { .. }
                | Proof::RecoveryCodes { .. } => None,
            }
        })
    }
}
