//! `coffre credential` for certificates: whose are taken, and which are not any more.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::credential::{Scope, key_text};
use crate::admin::{CertificateMark, Request};
use crate::units::parse_duration;

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Register a TLS client certificate for WebDAV: its key is the user's until it ends.
    AddCertificate {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
        /// The certificate in PEM, without its key; `-` reads standard input.
        file: PathBuf,
        /// What it may do and from where.
        #[command(flatten)]
        scope: Scope,
    },
    /// Let users of a customer in who have an OpenSSH user certificate of this authority that names them.
    AddAuthority {
        /// The customer.
        customer: String,
        /// The authority's OpenSSH public key file; `-` reads standard input.
        file: PathBuf,
        /// How long a certificate of it may be valid in all.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
        validity: Duration,
        /// What those users may do and from where.
        #[command(flatten)]
        scope: Scope,
    },
    /// Revoke certificates of an authority: their sessions end.
    RevokeCertificate {
        /// The authority, as shown by `credential list`.
        authority: String,
        /// Which of its certificates.
        #[command(flatten)]
        mark: MarkArguments,
    },
}

/// By what certificates are told.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MarkArguments {
    /// The certificate of this serial number.
    #[arg(long, value_name = "NUMBER")]
    pub serial: Option<u64>,
    /// Those of this key id.
    #[arg(long, value_name = "TEXT")]
    pub key_id: Option<String>,
    /// Those for the key of this fingerprint, `SHA256:...`.
    #[arg(long, value_name = "FINGERPRINT")]
    pub fingerprint: Option<String>,
}

impl CertificateCommand {
    /// The request that it is.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn into_request(self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::AddCertificate { user, file, scope } => {
                Request::TlsCertificateAdd { user, certificate: key_text(&file)?, scope: scope.into() }
            }
            Self::AddAuthority { customer, file, validity, scope } => Request::AuthorityAdd {
                customer,
                key: key_text(&file)?,
                life_secs_max: validity.as_secs(),
                scope: scope.into(),
            },
            Self::RevokeCertificate { authority, mark } => {
                let MarkArguments { serial, key_id, fingerprint } = mark;
                let mark = CertificateMark { serial, key_id, fingerprint };
                Request::CertificateRevoke { authority, mark }
            }
        })
    }
}
