//! TLS: 1.2 and 1.3 only, one provider (aws-lc-rs), HTTP/1.1; and a self-signed certificate to begin with.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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

/// Loads a certificate chain and key.
///
/// # Errors
/// Files that cannot be read; a key that does not fit.
pub fn server_config(certificate_file: &Path, key_file: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("certificate file {}", certificate_file.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key_file).with_context(|| format!("key file {}", key_file.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and {}", certificate_file.display(), key_file.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
