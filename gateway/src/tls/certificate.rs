//! A certificate chain with its key, as files hold them; and the one that new connections get.
//!
//! Replaced as a whole: a handshake sees the old one or the new one. What does not fit together is never taken over.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::ACME_TLS;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain in PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Why files hold no certificate that can be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain cannot be read.
    #[error("certificate file {path}: {source}")]
    Chain {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The key cannot be read.
    #[error("key file {path}: {source}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no certificate in it, or none that can be understood.
    #[error("certificate file {path}: no certificate in it that can be understood")]
    Unreadable {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or the key is of a kind that is not known.
    #[error("certificate file {path} and its key: {source}")]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It has ended.
    #[error("certificate file {path}: it ended at {ended}")]
    Ended {
        /// Which file.
        path: PathBuf,
        /// When.
        ended: String,
    },
}

/// A chain with its key.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// When it begins, in seconds since 1970.
    pub begins_at: i64,
    /// When it ends.
    pub ends_at: i64,
    /// DNS names that it is for.
    pub names: Vec<String>,
    /// It is its own authority: no browser trusts it.
    pub is_self_signed: bool,
}

impl Certificate {
    /// Reads one; its end may have passed.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load(files: &Files) -> Result<Self, CertificateError> {
        let path = || files.certificate.clone();
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| CertificateError::Chain { path: path(), source })?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|source| CertificateError::Key { path: files.key.clone(), source })?;
        Self::new(chain, key, path)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        path: impl Fn() -> PathBuf,
    ) -> Result<Self, CertificateError> {
        let unreadable = || CertificateError::Unreadable { path: path() };
        let (begins_at, ends_at, names, is_self_signed) = {
            let own = chain.first().ok_or_else(unreadable)?;
            let (_, own) = X509Certificate::from_der(own).map_err(|_| unreadable())?;
            let validity = own.validity();
            let (begins_at, ends_at) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            (begins_at, ends_at, dns_names(&own), own.subject() == own.issuer())
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|source| CertificateError::Mismatch { path: path(), source })?;
        Ok(Self { key: Arc::new(key), begins_at, ends_at, names, is_self_signed })
    }

    /// Whether another one is the same.
    fn is(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }

    /// Refuses one that has ended.
    ///
    /// # Errors
    /// [`CertificateError::Ended`].
    pub(super) fn while_good(self, path: &Path, now_secs: i64) -> Result<Self, CertificateError> {
        if now_secs < self.ends_at {
            return Ok(self);
        }
        let ended = crate::units::moment(self.ends_at.saturating_mul(1_000_000_000));
        Err(CertificateError::Ended { path: path.to_owned(), ended })
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| {
        if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
    });
    names.collect()
}

/// The certificate that new connections get. Connections that live keep theirs.
#[derive(Debug)]
pub struct Certificates {
    current: RwLock<Arc<Certificate>>,
    /// By name, what proves to an ACME directory that we are it.
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Begins with this one.
    pub fn new(first: Certificate) -> Self {
        Self { current: RwLock::new(Arc::new(first)), challenges: RwLock::default() }
    }

    /// The one that is served now.
    pub fn current(&self) -> Arc<Certificate> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on answers an ACME directory that asks for this name.
    pub(super) fn answer(&self, name: String, key: Arc<CertifiedKey>) {
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).insert(name, key);
    }

    /// Answers no directory any more.
    pub(super) fn answer_no_more(&self) {
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes over what files hold now, if it is good; tells whether it is another one.
    ///
    /// # Errors
    /// [`CertificateError`]; the one that was served is then served on.
    pub fn reload(&self, files: &Files, now_secs: i64) -> Result<bool, CertificateError> {
        let new = Certificate::load(files)?.while_good(&files.certificate, now_secs)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.is(&new) {
            return Ok(false);
        }
        *current = Arc::new(new);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A directory offers this protocol alone (RFC 8737 section 3): whoever offers another one with it gets that one.
        if hello.alpn().is_some_and(|offered| offered.eq([ACME_TLS])) {
            let name = hello.server_name()?.to_ascii_lowercase();
            return self.challenges.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        }
        Some(Arc::clone(&self.current().key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::self_signed;
    use super::*;

    fn write(files: &Files) {
        let made = self_signed().unwrap();
        std::fs::write(&files.certificate, &made.certificate_pem).unwrap();
        std::fs::write(&files.key, made.key_pem.as_bytes()).unwrap();
    }

    #[test]
    fn only_a_whole_and_living_certificate_takes_the_place_of_the_one_that_is_served() {
        let home = tempfile::tempdir().unwrap();
        let files = Files { certificate: home.path().join("crt"), key: home.path().join("key") };
        write(&files);
        let first = Certificate::load(&files).unwrap();
        assert!(first.is_self_signed);
        let (ends_at, served) = (first.ends_at, Certificates::new(first));
        assert!(!served.reload(&files, 0).unwrap(), "the same one again");
        let before = served.current();
        let key = std::fs::read(&files.key).unwrap();
        write(&files);
        assert!(matches!(served.reload(&files, ends_at + 60), Err(CertificateError::Ended { .. })));
        std::fs::write(&files.key, key).unwrap();
        assert!(matches!(served.reload(&files, 0), Err(CertificateError::Mismatch { .. })));
        std::fs::write(&files.key, "no key").unwrap();
        assert!(matches!(served.reload(&files, 0), Err(CertificateError::Key { .. })));
        std::fs::write(&files.certificate, "").unwrap();
        assert!(served.reload(&files, 0).is_err());
        assert!(Arc::ptr_eq(&before, &served.current()));
        write(&files);
        assert!(served.reload(&files, 0).unwrap());
        assert!(!Arc::ptr_eq(&before, &served.current()));
    }
}
