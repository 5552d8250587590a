//! SIGHUP: the configuration is read again, and what may change while the server serves counts from then on.
//!
//! That is the shares of `[sessions]` (`user_max`, `customer_max`, `user_rate`, `customer_rate`), of `[webdav]`
//! `public_names`, `source_connections_max`, `hsts`, and the certificate. Everything else needs a restart. A configuration that
//! cannot be used changes nothing. An order at an ACME directory that has failed is tried again at once.

use std::path::PathBuf;

use coffre_storage::Store;
use coffre_storage::audit::{Action, Actor, Outcome, RecordDraft};

use crate::accounts::{Accounts, Shares};
use crate::config::{Acme, Config, ConfigError, Sessions, Webdav};
use crate::tls::acme::{self, Subscription};
use crate::tls::certificate::{Certificate, CertificateError, Files};
use crate::tls::watch::CertificateWatch;
use crate::webdav::settings::{Live, Settings};

/// What a new configuration is given to.
#[derive(Debug)]
pub struct Reload {
    /// The configuration's file.
    pub file: PathBuf,
    /// Where it is recorded.
    pub store: Store,
    /// Who has the shares.
    pub accounts: Accounts,
    /// Who orders its certificate, if it comes from an ACME directory. Ends before the watch that it gives certificates to.
    pub acme: Option<acme::Acme>,
    /// The WebDAV listener's settings and certificate, if there is one.
    pub webdav: Option<(Live, CertificateWatch)>,
}

/// The shares of everybody.
pub fn shares(config: &Config) -> Shares {
    let Sessions { user_max, customer_max, .. } = config.sessions;
    Shares {
        user_sessions: user_max,
        customer_sessions: customer_max,
        user_rate: config.session_bounds.user_rate,
        customer_rate: config.session_bounds.customer_rate,
    }
}

/// What is ordered from an ACME directory.
pub fn subscription(section: &Acme) -> Subscription {
    let Acme { domains, contact, directory, ca_file, cache } = section.clone();
    Subscription { domains, contact, directory, ca_file, cache }
}

/// Where the listener's certificate is: what an ACME directory gave, if it has.
pub fn certificate_files(section: &Webdav) -> Files {
    let ordered = section.acme.as_ref().map(|acme| subscription(acme).files());
    if let Some(files) = ordered.filter(|files| files.certificate.exists()) {
        return files;
    }
    configured_files(section)
}

fn configured_files(section: &Webdav) -> Files {
    Files { certificate: section.certificate_file.clone(), key: section.key_file.clone() }
}

/// What is served first: what an ACME directory gave, where it can be read.
///
/// # Errors
/// Neither that nor the configured one can be served.
pub fn first_certificate(section: &Webdav) -> Result<Certificate, CertificateError> {
    let (files, configured) = (certificate_files(section), configured_files(section));
    match Certificate::load(&files) {
        Err(error) if files != configured => {
            tracing::error!(%error, "the certificate in the ACME cache is not used");
            Certificate::load(&configured)
        }
        first => first,
    }
}

impl Reload {
    /// Reads it again. Blocking.
    pub fn run(&self) {
        let read = Config::load(&self.file);
        match &read {
            Ok(config) => {
                self.apply(config);
                tracing::info!("the configuration was read again");
            }
            Err(error) => tracing::error!(%error, "the new configuration is not used, the former one is"),
        }
        self.keep(read.err());
    }

    fn apply(&self, config: &Config) {
        self.accounts.set_shares(shares(config));
        if let (Some((settings, watch)), Some(section)) = (&self.webdav, &config.webdav) {
            settings.set(Settings::of(section));
            watch.reload(certificate_files(section));
        }
        if let Some(acme) = &self.acme {
            acme.try_now();
        }
    }

    fn keep(&self, refused: Option<ConfigError>) {
        let record = RecordDraft {
            outcome: if refused.is_some() { Outcome::Failed } else { Outcome::Done },
            reason: refused.map(|error| error.to_string()),
            ..RecordDraft::new(Actor::System, Action::ConfigurationReload)
        };
        if let Err(error) = self.store.record(record) {
            tracing::warn!(%error, "that the configuration was read again could not be recorded");
        }
    }
}
