//! TLS client certificates: the key that one is for, pinned to a user.
//!
//! Whoever registers a certificate vouches for its key: no authority does. The handshake has proven that the client holds it; what
//! is left to look at, at every request, is which key it is and whether the certificate is good now.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::limits::{RSA_BITS_MIN, TLS_SUBJECT_CHARS_MAX};

const NANOS: i64 = 1_000_000_000;

/// Why a certificate cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsCertificateError {
    /// Not a certificate in PEM.
    #[error("this is not an X.509 certificate in PEM")]
    Unreadable,
    /// A private key is in the file.
    #[error("there is a private key in this file; register the certificate alone")]
    Private,
    /// A kind of key that is not taken.
    #[error("keys of this kind are not accepted; use ECDSA, Ed25519 or RSA of at least 3072 bits")]
    Kind,
    /// It has ended.
    #[error("the certificate has ended")]
    Ended,
}

/// What a certificate says of its key and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub pin: [u8; 32],
    /// Whom it names, for people to read.
    pub subject: String,
    /// From when on it is good, nanoseconds since 1970.
    pub begins: i64,
    /// From when on it is not any more.
    pub ends: i64,
}

impl ClientCertificate {
    /// Reads a certificate in DER; nothing for what is none, or whose key is of a kind that is not taken.
    ///
    /// # Errors
    /// [`TlsCertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, TlsCertificateError> {
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| TlsCertificateError::Unreadable)?;
        if !rest.is_empty() {
            return Err(TlsCertificateError::Unreadable);
        }
        match read.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => {
                return Err(TlsCertificateError::Kind);
            }
            Ok(PublicKey::DSA(_)) | Err(_) => return Err(TlsCertificateError::Kind),
            Ok(_) => {}
        }
        let mut pin = [0; 32];
        let hash = digest(&SHA256, read.public_key().raw);
        pin.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        let at = |secs: i64| secs.saturating_mul(NANOS);
        Ok(Self {
            pin,
            subject: read.subject().to_string().chars().take(TLS_SUBJECT_CHARS_MAX).collect(),
            begins: at(read.validity().not_before.timestamp()),
            // It is good in the whole of its last second (RFC 5280 section 4.1.2.5).
            ends: at(read.validity().not_after.timestamp().saturating_add(1)),
        })
    }

    /// Reads the first certificate of a PEM file, for it to be registered at `now`.
    ///
    /// # Errors
    /// [`TlsCertificateError`].
    pub fn parse(text: &str, now: i64) -> Result<Self, TlsCertificateError> {
        if text.contains("PRIVATE KEY") {
            return Err(TlsCertificateError::Private);
        }
        let mut found = Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok);
        let first =
            found.find(|block| block.label == "CERTIFICATE").ok_or(TlsCertificateError::Unreadable)?;
        let read = Self::read(&first.contents)?;
        if now < read.ends { Ok(read) } else { Err(TlsCertificateError::Ended) }
    }

    /// Whether it is good at `now`.
    pub fn is_live(&self, now: i64) -> bool {
        (self.begins..self.ends).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_alone_is_refused_by_name() {
        assert_eq!(ClientCertificate::parse("", 0), Err(TlsCertificateError::Unreadable));
        assert_eq!(
            ClientCertificate::parse("-----BEGIN PRIVATE KEY-----", 0),
            Err(TlsCertificateError::Private)
        );
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(ClientCertificate::parse(rubbish, 0), Err(TlsCertificateError::Unreadable));
    }

    #[test]
    fn a_certificate_is_dead_at_the_instant_it_ends() {
        let known = ClientCertificate { pin: [0; 32], subject: String::new(), begins: 5, ends: 9 };
        assert!(!known.is_live(4) && known.is_live(5) && known.is_live(8) && !known.is_live(9));
    }
}
