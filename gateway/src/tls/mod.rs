//! TLS: 1.2 and 1.3 only, one provider (aws-lc-rs), forward secrecy and AEAD only; the certificate that is served, and how it
//! is replaced; a self-signed one to begin with.

pub mod acme;
pub mod certificate;
pub mod client;
pub mod watch;

use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::server::ServerSessionMemoryCache;

use crate::limits::TLS_SESSIONS_MAX;
use certificate::Certificates;
use client::{KeyHolder, Wanted};

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate; its own authority.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: zeroize::Zeroizing<String>,
}

/// Names that the first certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Days that it is valid.
const DAYS: i64 = 825;

/// Makes a self-signed certificate for this machine's loopback names.
///
/// # Errors
/// When no key can be made.
pub fn self_signed() -> anyhow::Result<Identity> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Coffre on this machine");
    // A day back, for clients whose clock is behind.
    let day = |days: i64| {
        let date = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_hours(24 * days));
        date.map(|date| date.to_zoned(jiff::tz::TimeZone::UTC).date())
    };
    let at = |date: jiff::civil::Date| {
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    params.not_before = at(day(-1)?);
    params.not_after = at(day(DAYS)?);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem().into() })
}

/// HTTP/1.1 and HTTP/2 by their names in a handshake, the one that we prefer first: one stream is faster over HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", HTTP_2];
/// HTTP/2 by its name in a handshake.
pub const HTTP_2: &[u8] = b"h2";

/// What an ACME directory asks for (RFC 8737): the handshake is all of it.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What the listener's handshakes are made with. The provider's suites are those with ephemeral keys and authenticated
/// ciphers; sessions are resumed from a bounded memory, so that no key outlives the process, and nothing is accepted early.
///
/// # Errors
/// None that depends on what is given: the provider's.
pub fn server_config(
    certificates: Arc<Certificates>,
    answers_acme: bool,
    wanted: Wanted,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(KeyHolder { provider, wanted }))
        .with_cert_resolver(certificates);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    if answers_acme {
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    config.session_storage = ServerSessionMemoryCache::new(TLS_SESSIONS_MAX);
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
