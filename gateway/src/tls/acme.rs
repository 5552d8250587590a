//! Certificates from an ACME directory (RFC 8555), proven over the WebDAV listener itself (TLS-ALPN-01, RFC 8737).
//!
//! A thread of its own orders one when there is none for the configured names and when a third of its life is left. What it
//! gets goes to the cache first, as one file that is replaced in one step, and from there to [`super::watch`] as any
//! certificate does: what cannot be served never is. A failure changes nothing that is served; it is recorded, the first of a
//! series is an incident, and the next attempt waits longer each time. A hang-up tries at once.
//!
//! The account's key, and that of the certificate, are in the cache alone: 0600 in a directory of 0700.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use coffre_storage::Store;
use coffre_storage::audit::Outcome;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::certificate::{Certificate, CertificateError, Certificates, Files};
use super::watch::keep;
use crate::limits::{
    ACME_ATTEMPT_SECS_MAX, ACME_LOOK_SECS, ACME_POLL_SECS_MAX, ACME_RETRY_SECS, ACME_RETRY_SECS_MAX,
};

/// Name of the file in the cache that holds the chain and its key.
const CERTIFICATE: &str = "certificate.pem";
/// A third of a certificate's life is left when the next one is ordered: time for a month of failures with 90 days.
const LIFE_LEFT: i64 = 3;

/// What is ordered, from whom, and where it is kept.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Names that the certificate is for, in lower case.
    pub domains: Vec<String>,
    /// Where the directory's operator may write to: `mailto:...`.
    pub contact: Vec<String>,
    /// The directory's URL.
    pub directory: String,
    /// The root that the directory's own certificate is checked against; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The directory that holds keys and certificate.
    pub cache: PathBuf,
}

impl Subscription {
    /// Where the certificate is, once there is one.
    pub fn files(&self) -> Files {
        let path = self.cache.join(CERTIFICATE);
        Files { certificate: path.clone(), key: path }
    }

    /// An account belongs to one directory.
    fn account_file(&self) -> PathBuf {
        let name = blake3::hash(self.directory.as_bytes()).to_hex();
        self.cache.join(format!("account-{}.json", name.get(..16).unwrap_or_default()))
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    /// It answered with a problem, or not at all.
    #[error("the directory: {}", chain(.0))]
    Directory(#[from] instant_acme::Error),
    /// It offers other proofs only.
    #[error("the directory offers no tls-alpn-01 for {0}")]
    NoChallenge(String),
    /// It was not convinced.
    #[error("the directory refused the order: {0}")]
    Invalid(String),
    /// No key, or no request, could be made.
    #[error("a key could not be made: {0}")]
    Key(#[from] rcgen::Error),
    /// A challenge's certificate cannot be served.
    #[error("a challenge could not be answered: {0}")]
    Challenge(#[from] rustls::Error),
    /// What came is no certificate that can be served.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What came is for other names.
    #[error("the directory gave a certificate for other names")]
    Names,
    /// The cache cannot be read or written.
    #[error("{path}: {source}")]
    Cache {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The account's file is none.
    #[error("{0} is no account file: move it away to register anew")]
    Account(PathBuf),
    /// It took too long.
    #[error("the directory took longer than {ACME_ATTEMPT_SECS_MAX} s")]
    Slow,
}

/// An error with its causes: what failed below HTTP is only there.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// The thread. Dropped, it ends.
#[derive(Debug)]
pub struct Acme {
    stop: CancellationToken,
    now: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Acme {
    /// Starts it. What it gets is handed to `taken`, the end of the watch over what is served.
    ///
    /// # Errors
    /// The system has no thread to give; the cache cannot be made.
    pub fn start(
        store: Store,
        served: Arc<Certificates>,
        subscription: Subscription,
        taken: Sender<Files>,
    ) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&subscription.cache)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, now) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (stopped, asked) = (stop.clone(), Arc::clone(&now));
        let held = Certificate::load(&subscription.files()).ok();
        let ordering = Ordering { store, served, subscription, taken, held, failures: 0, retry_at: i64::MIN };
        let thread = std::thread::Builder::new().name("acme".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = ordering.run(&asked) => {}
                }
            });
        })?;
        Ok(Self { stop, now, thread: Some(thread) })
    }

    /// Has what is due tried now, however long the wait after a failure would be.
    pub fn try_now(&self) {
        self.now.notify_one();
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the thread knows.
struct Ordering {
    store: Store,
    served: Arc<Certificates>,
    subscription: Subscription,
    taken: Sender<Files>,
    /// What the cache holds.
    held: Option<Certificate>,
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// Not before then, in seconds since 1970.
    retry_at: i64,
}

/// When the next one is to be ordered.
fn due_at(held: Option<&Certificate>, domains: &[String]) -> i64 {
    let fitting = held.filter(|held| is_for(held, domains));
    fitting.map_or(i64::MIN, |held| {
        held.ends_at.saturating_sub(held.ends_at.saturating_sub(held.begins_at) / LIFE_LEFT)
    })
}

fn is_for(certificate: &Certificate, domains: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        names
    };
    sorted(&certificate.names) == sorted(domains)
}

/// Seconds to wait after so many failures.
fn wait_secs(failures: u32) -> i64 {
    let grown = 4_i64.checked_pow(failures.saturating_sub(1)).and_then(|by| ACME_RETRY_SECS.checked_mul(by));
    grown.map_or(ACME_RETRY_SECS_MAX, |secs| secs.min(ACME_RETRY_SECS_MAX))
}

impl Ordering {
    async fn run(mut self, asked: &Notify) {
        loop {
            let now = self.now_secs();
            let due = due_at(self.held.as_ref(), &self.subscription.domains);
            let wait = due.max(self.retry_at).saturating_sub(now);
            if wait > 0 {
                // The clock may be set meanwhile: it is looked at again.
                let wait = Duration::from_secs(wait.unsigned_abs().min(ACME_LOOK_SECS));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = asked.notified() => self.retry_at = i64::MIN,
                }
                continue;
            }
            let patience = Duration::from_secs(ACME_ATTEMPT_SECS_MAX);
            let ordered = tokio::time::timeout(patience, self.order()).await;
            self.retry_at = match ordered.unwrap_or(Err(AcmeError::Slow)) {
                Ok(certificate) => {
                    self.held = Some(certificate);
                    self.failures = 0;
                    // The watch ends after this thread.
                    drop(self.taken.send(self.subscription.files()));
                    self.now_secs().saturating_add(ACME_RETRY_SECS)
                }
                Err(error) => {
                    self.failed(&error);
                    self.now_secs().saturating_add(wait_secs(self.failures))
                }
            };
        }
    }

    fn failed(&mut self, error: &AcmeError) {
        self.failures = self.failures.saturating_add(1);
        let text = format!("no new one by ACME for {}: {error}", self.subscription.domains.join(", "));
        tracing::error!(failures = self.failures, "{text}");
        let told = (self.failures == 1).then(|| text.clone());
        keep(&self.store, Outcome::Failed, text, told);
    }

    fn now_secs(&self) -> i64 {
        self.store.clock_now().0.div_euclid(1_000_000_000)
    }

    async fn order(&self) -> Result<Certificate, AcmeError> {
        let account = self.account().await?;
        let names: Vec<Identifier> =
            self.subscription.domains.iter().map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let answering = Answering(&self.served);
        self.answer(&mut order).await?;
        let patience = RetryPolicy::new().timeout(Duration::from_secs(ACME_POLL_SECS_MAX));
        let ready = order.poll_ready(&patience).await;
        drop(answering);
        if !matches!(ready, Ok(OrderStatus::Ready)) {
            let why = refusals(&mut order).await;
            return Err(match ready {
                Err(error) if why.is_empty() => error.into(),
                _ => AcmeError::Invalid(why),
            });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.subscription.domains.clone())?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key)?.der()).await?;
        let chain = order.poll_certificate(&patience).await?;
        let pem = Zeroizing::new(format!("{chain}\n{}", *Zeroizing::new(key.serialize_pem())));
        self.store_certificate(pem.as_bytes())
    }

    /// What is due and cannot be served is not stored.
    fn store_certificate(&self, pem: &[u8]) -> Result<Certificate, AcmeError> {
        let path = self.subscription.files().certificate;
        let pending = write_beside(&path, pem)?;
        let files = Files { certificate: pending.clone(), key: pending.clone() };
        let certificate = Certificate::load(&files)?.while_good(&path, self.now_secs())?;
        if !is_for(&certificate, &self.subscription.domains) {
            return Err(AcmeError::Names);
        }
        replace(&pending, &path)?;
        Ok(certificate)
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let Subscription { directory, contact, ca_file, .. } = &self.subscription;
        let builder = match ca_file {
            Some(root) => Account::builder_with_root(root)?,
            None => Account::builder()?,
        };
        let path = self.subscription.account_file();
        match std::fs::read(&path) {
            Ok(kept) => {
                let kept: AccountCredentials =
                    serde_json::from_slice(&kept).map_err(|_| AcmeError::Account(path))?;
                Ok(builder.from_credentials(kept).await?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let (account, kept) = builder.create(&new, directory.clone(), None).await?;
                let kept = serde_json::to_vec(&kept).map_err(|_| AcmeError::Account(path.clone()))?;
                replace(&write_beside(&path, &Zeroizing::new(kept))?, &path)?;
                keep(&self.store, Outcome::Done, format!("an account was opened at {directory}"), None);
                Ok(account)
            }
            Err(source) => Err(AcmeError::Cache { path, source }),
        }
    }

    /// Has the listener answer every challenge, then says so.
    async fn answer(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .ok_or_else(|| AcmeError::NoChallenge(domain.clone()))?;
            let digest = challenge.key_authorization().digest();
            self.served.answer(domain.clone(), challenge_certificate(&domain, digest.as_ref())?);
            challenge.set_ready().await?;
        }
        Ok(())
    }
}

/// While it lives, challenges are answered.
struct Answering<'a>(&'a Certificates);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.answer_no_more();
    }
}

/// RFC 8737 section 3: for exactly this name, with the critical extension that holds the digest.
fn challenge_certificate(domain: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, AcmeError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not by `from_der`, which reads the certificate again and knows nothing of this critical extension.
    let key = any_supported_type(&key)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// What the directory says of each name that it did not accept.
async fn refusals(order: &mut Order) -> String {
    let mut told = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        told.extend(problems.map(|problem| format!("{}: {problem}", authorization.identifier())));
    }
    told.join("; ")
}

/// A file that only its owner reads, durable, to be put in place by [`replace`].
fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, AcmeError> {
    let pending = path.with_extension("new");
    let failed = |source| AcmeError::Cache { path: pending.clone(), source };
    match std::fs::remove_file(&pending) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&pending)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(pending)
}

fn replace(pending: &Path, path: &Path) -> Result<(), AcmeError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::rename(pending, path)
        .and_then(|()| std::fs::File::open(parent)?.sync_all())
        .map_err(|source| AcmeError::Cache { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_after_failures_grows_to_a_bound() {
        let waits: Vec<i64> = (1..=8).map(wait_secs).collect();
        assert_eq!(waits, [15, 60, 240, 960, 3840, 15_360, 21_600, 21_600]);
        assert_eq!(wait_secs(u32::MAX), ACME_RETRY_SECS_MAX);
    }

    #[test]
    fn the_next_one_is_due_with_a_third_of_its_life_left_or_at_once_for_other_names() {
        let home = tempfile::tempdir().unwrap();
        let files = Files { certificate: home.path().join("crt"), key: home.path().join("key") };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned(), "b.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let held = Certificate::load(&files).unwrap();
        let domains = ["b.test".to_owned(), "a.test".to_owned()];
        assert_eq!(due_at(Some(&held), &domains), held.ends_at - 30 * 86_400);
        assert_eq!(due_at(Some(&held), &domains[..1]), i64::MIN);
        assert_eq!(due_at(None, &domains), i64::MIN);
    }

    #[test]
    fn what_the_cache_holds_is_its_owners_alone_and_replaced_in_one_step() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("account.json");
        for text in [&b"first"[..], b"second"] {
            replace(&write_beside(&path, text).unwrap(), &path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
