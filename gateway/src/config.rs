//! The one configuration file: typed, unknown keys refused, secrets by file path. Relative paths start at the file's
//! own directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffre_storage::reclaim::{ExportPolicy, ReclaimOptions};
use ipnet::IpNet;
use serde::Deserialize;

use crate::limits::{ACME_DOMAINS_MAX, RECLAIM_LIVE_PERCENT, RECLAIM_REST_MILLIS};

/// Name of the file that `coffre init` writes into the data directory.
pub const FILE_NAME: &str = "coffre.toml";

/// All of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file that this was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// Data directory; the file's own directory when absent.
    #[serde(default)]
    pub data: PathBuf,
    /// File of the gateway key, 64 hexadecimal digits.
    pub gateway_key_file: PathBuf,
    /// Storage.
    #[serde(default)]
    pub storage: Storage,
    /// How the store is kept in order: what `storage` says, in numbers.
    #[serde(skip)]
    pub upkeep: Upkeep,
    /// What sessions may have.
    #[serde(default)]
    pub sessions: Sessions,
    /// What `sessions` says, in numbers.
    #[serde(skip)]
    pub session_bounds: SessionBounds,
    /// The audit log outside of the machine.
    #[serde(default)]
    pub audit: Audit,
    /// SFTP listener; absent: not served.
    pub sftp: Option<Sftp>,
    /// WebDAV listener; absent: not served.
    pub webdav: Option<Webdav>,
}

/// `[storage]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Bytes of the disk that stay free: below, content is refused.
    pub reserve: String,
    /// How long a shorter retention waits before it counts.
    pub retention_grace: String,
    /// How long an emptied pack stays on the disk.
    pub reclaim_grace: String,
    /// Bytes a second that reclaim writes at most.
    pub reclaim_rate: String,
    /// How often reclaim looks for something to do.
    pub reclaim_interval: String,
    /// How often the index is written into the log, when packs wait for it.
    pub export_interval: String,
    /// In what time the scrub reads all closed packs once, or `off`.
    pub scrub: String,
}

impl Default for Storage {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            reserve: text("512M"),
            retention_grace: text("7d"),
            reclaim_grace: text("24h"),
            reclaim_rate: text("32M"),
            reclaim_interval: text("1h"),
            export_interval: text("1d"),
            scrub: text("30d"),
        }
    }
}

/// How the store is kept in order, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Seconds that a shorter retention waits.
    pub retention_grace_secs: u64,
    /// Seconds that an emptied pack stays.
    pub reclaim_grace_secs: u64,
    /// Bytes a second that reclaim writes.
    pub rate_bytes: u64,
    /// Seconds between two passes.
    pub interval_secs: u64,
    /// Seconds between two exports of the index.
    pub export_secs: u64,
    /// Seconds in which the scrub reads everything once; absent: it does not run.
    pub scrub_secs: Option<u64>,
}

impl Upkeep {
    /// What a pass is made with.
    pub fn reclaim(&self, export: ExportPolicy) -> ReclaimOptions {
        ReclaimOptions { live_percent_max: RECLAIM_LIVE_PERCENT, grace_secs: self.reclaim_grace_secs, export }
    }

    /// How long to rest after a step that wrote so many bytes.
    pub fn rest_after(&self, bytes: u64) -> Duration {
        let millis = bytes.saturating_mul(1000) / self.rate_bytes.max(1);
        Duration::from_millis(millis.max(RECLAIM_REST_MILLIS))
    }
}

impl Storage {
    fn upkeep(&self) -> Result<Upkeep, (&'static str, String)> {
        let secs = |key, text: &str| {
            crate::units::parse_duration(text).map(|time| time.as_secs().max(1)).map_err(|why| (key, why))
        };
        Ok(Upkeep {
            retention_grace_secs: secs("storage.retention_grace", &self.retention_grace)?,
            reclaim_grace_secs: secs("storage.reclaim_grace", &self.reclaim_grace)?,
            rate_bytes: crate::units::parse_size(&self.reclaim_rate)
                .map_err(|why| ("storage.reclaim_rate", why))?,
            interval_secs: secs("storage.reclaim_interval", &self.reclaim_interval)?,
            export_secs: secs("storage.export_interval", &self.export_interval)?,
            scrub_secs: match self.scrub.as_str() {
                "off" => None,
                time => Some(secs("storage.scrub", time)?),
            },
        })
    }
}

/// `[audit]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Directory that gets every signed checkpoint; absent: none does.
    pub witness: Option<PathBuf>,
    /// Address that every signed checkpoint is posted to; absent: none is.
    pub witness_url: Option<String>,
    /// Authorities that the address' certificate may be from, in PEM.
    pub witness_ca_file: Option<PathBuf>,
}

/// `[sessions]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Sessions of a user at once.
    pub user_max: usize,
    /// Sessions of a customer at once.
    pub customer_max: usize,
    /// Bytes a second of all sessions of a user, each way, or `none`.
    pub user_rate: String,
    /// Bytes a second of all sessions of a customer, each way, or `none`.
    pub customer_rate: String,
    /// How long an SSH session may last without a byte moving either way, or `none`.
    pub idle: String,
    /// How often a silent SSH client is asked for a sign of life.
    pub keepalive: String,
    /// How long transfers under way have to end once the server was told to stop.
    pub drain: String,
}

impl Default for Sessions {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            user_max: crate::limits::USER_SESSIONS_MAX,
            customer_max: crate::limits::CUSTOMER_SESSIONS_MAX,
            user_rate: text("none"),
            customer_rate: text("none"),
            idle: text("12h"),
            keepalive: text("60s"),
            drain: text("20s"),
        }
    }
}

/// What sessions may have, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionBounds {
    /// Bytes a second of a user.
    pub user_rate: Option<u64>,
    /// Bytes a second of a customer.
    pub customer_rate: Option<u64>,
    /// Without a byte moving.
    pub idle: Option<Duration>,
    /// Between signs of life.
    pub keepalive: Duration,
    /// To end transfers.
    pub drain: Duration,
}

impl Sessions {
    fn bounds(&self) -> Result<SessionBounds, (&'static str, String)> {
        let rate = |key, text: &str| {
            let rate = crate::units::parse_size_bound(text).map_err(|why| (key, why))?.limit();
            if rate == Some(0) { Err((key, "nothing would move".to_owned())) } else { Ok(rate) }
        };
        let secs = |key, text: &str| match crate::units::parse_duration(text) {
            Ok(time) if time.is_zero() => Err((key, "at least 1s".to_owned())),
            other => other.map_err(|why| (key, why)),
        };
        let idle = match self.idle.as_str() {
            "none" => None,
            time => Some(secs("sessions.idle", time)?),
        };
        if self.user_max == 0 || self.customer_max == 0 {
            return Err(("sessions.user_max", "at least 1, as sessions.customer_max".to_owned()));
        }
        Ok(SessionBounds {
            user_rate: rate("sessions.user_rate", &self.user_rate)?,
            customer_rate: rate("sessions.customer_rate", &self.customer_rate)?,
            idle,
            keepalive: secs("sessions.keepalive", &self.keepalive)?,
            drain: crate::units::parse_duration(&self.drain).map_err(|why| ("sessions.drain", why))?,
        })
    }
}

/// `[sftp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sftp {
    /// Address.
    pub listen: SocketAddr,
    /// Private host keys in OpenSSH form.
    pub host_key_files: Vec<PathBuf>,
    /// Seconds a connection may take to log in.
    #[serde(default = "login_grace_secs")]
    pub login_grace_secs: u64,
    /// Connections in all.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Networks of balancers that begin each connection with a PROXY header.
    #[serde(default)]
    pub proxy_from: Vec<IpNet>,
}

/// `[webdav]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webdav {
    /// Address.
    pub listen: SocketAddr,
    /// Certificate chain in PEM.
    pub certificate_file: PathBuf,
    /// Its private key in PEM.
    pub key_file: PathBuf,
    /// Authorities (`files.example.org` or with a port) by which clients reach this listener besides the one they ask for.
    #[serde(default)]
    pub public_names: Vec<String>,
    /// Connections in all.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Connections from one address.
    #[serde(default = "source_connections_max")]
    pub source_connections_max: usize,
    /// `auto`, `off`, or a time.
    #[serde(default)]
    pub hsts: Hsts,
    /// Networks of balancers that begin each connection with a PROXY header.
    #[serde(default)]
    pub proxy_from: Vec<IpNet>,
    /// The certificate comes from an ACME directory; until it has, the one above is served.
    pub acme: Option<Acme>,
}

/// `[webdav.acme]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// Names that the certificate is for.
    pub domains: Vec<String>,
    /// Addresses that the directory's operator may write to: `mailto:...`.
    #[serde(default)]
    pub contact: Vec<String>,
    /// URL of the directory.
    pub directory: String,
    /// The root in PEM that the directory's own certificate is checked against; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The directory that holds the account's key, the certificate and its key.
    #[serde(default = "acme_cache")]
    pub cache: PathBuf,
}

impl Acme {
    /// What is wrong with it.
    fn flaw(&self) -> Option<(&'static str, &'static str)> {
        if !(1..=ACME_DOMAINS_MAX).contains(&self.domains.len()) {
            return Some(("webdav.acme.domains", "between 1 and 100 names"));
        }
        if !self.domains.iter().all(|name| is_host_name(name)) {
            let why = "names such as files.example.org: no addresses, no wildcards, non-ASCII ones as xn--";
            return Some(("webdav.acme.domains", why));
        }
        if !self.contact.iter().all(|contact| contact.starts_with("mailto:")) {
            return Some(("webdav.acme.contact", "such as mailto:admin@example.org"));
        }
        (!self.directory.starts_with("https://"))
            .then_some(("webdav.acme.directory", "a URL that begins with https://"))
    }
}

/// Whether a text is a fully qualified name of a host (RFC 1123), and no address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && text.parse::<std::net::IpAddr>().is_err()
}

fn acme_cache() -> PathBuf {
    PathBuf::from("acme")
}

/// Whether browsers are told to come over TLS only from now on (RFC 6797).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Hsts {
    /// Where the certificate has an authority, for [`HSTS_SECS`](crate::limits::HSTS_SECS): a browser that was told to trust a
    /// self-signed one could not come back.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always, for so many seconds.
    Secs(u64),
}

impl TryFrom<String> for Hsts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            time => Ok(Self::Secs(crate::units::parse_duration(time)?.as_secs())),
        }
    }
}

fn source_connections_max() -> usize {
    crate::limits::SOURCE_CONNECTIONS_MAX
}
fn login_grace_secs() -> u64 {
    crate::limits::LOGIN_GRACE_SECS
}
fn connections_max() -> usize {
    crate::limits::CONNECTIONS_MAX
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what we know.
    #[error("{path}: {source}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{path}: {key}: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

impl Config {
    /// Reads a file; relative paths become absolute.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let home = std::path::absolute(path).map_err(read)?;
        let home = home.parent().unwrap_or(&home).to_owned();
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        config.file = std::path::absolute(path).map_err(read)?;
        config.rebase(&home);
        config.check(path)?;
        let value = |(key, why)| ConfigError::Value { path: path.to_owned(), key, why };
        config.upkeep = config.storage.upkeep().map_err(value)?;
        config.session_bounds = config.sessions.bounds().map_err(value)?;
        Ok(config)
    }

    fn rebase(&mut self, home: &Path) {
        let rebase = |path: &mut PathBuf| *path = home.join(&*path);
        rebase(&mut self.data);
        rebase(&mut self.gateway_key_file);
        let audit = &mut self.audit;
        [&mut audit.witness, &mut audit.witness_ca_file].into_iter().flatten().for_each(rebase);
        if let Some(sftp) = &mut self.sftp {
            sftp.host_key_files.iter_mut().for_each(rebase);
        }
        if let Some(webdav) = &mut self.webdav {
            rebase(&mut webdav.certificate_file);
            rebase(&mut webdav.key_file);
            if let Some(acme) = &mut webdav.acme {
                acme.ca_file.iter_mut().for_each(rebase);
                rebase(&mut acme.cache);
                acme.domains.iter_mut().for_each(|name| name.make_ascii_lowercase());
            }
        }
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let bad =
            |key, why: &str| Err(ConfigError::Value { path: path.to_owned(), key, why: why.to_owned() });
        if let Err(why) = crate::units::parse_size(&self.storage.reserve) {
            return bad("storage.reserve", &why);
        }
        if let Some(url) = &self.audit.witness_url
            && let Err(why) = crate::outbound::Address::parse(url, self.audit.witness_ca_file.as_deref())
        {
            return bad("audit.witness_url", &why);
        }
        if let Some(sftp) = &self.sftp {
            if sftp.host_key_files.is_empty() {
                return bad("sftp.host_key_files", "at least one host key is needed");
            }
            if !(1..=600).contains(&sftp.login_grace_secs) {
                return bad("sftp.login_grace_secs", "between 1 and 600");
            }
        }
        let connections = [
            self.sftp.as_ref().map(|sftp| sftp.connections_max),
            self.webdav.as_ref().map(|dav| dav.connections_max),
        ];
        if connections.iter().flatten().any(|max| !(1..=100_000).contains(max)) {
            return bad("connections_max", "between 1 and 100000");
        }
        if self.webdav.as_ref().is_some_and(|dav| dav.source_connections_max == 0) {
            return bad("webdav.source_connections_max", "at least 1");
        }
        if let Some((key, why)) = self.webdav.as_ref().and_then(|dav| dav.acme.as_ref()).and_then(Acme::flaw)
        {
            return bad(key, why);
        }
        if self.sftp.is_none() && self.webdav.is_none() {
            return bad("sftp", "neither [sftp] nor [webdav] is there: nothing would be served");
        }
        Ok(())
    }

    /// Bytes that stay free on the disk.
    pub fn reserve_bytes(&self) -> u64 {
        crate::units::parse_size(&self.storage.reserve).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    const GOOD: &str = "gateway_key_file = 'k'\n[sftp]\nlisten = '127.0.0.1:0'\nhost_key_files = ['h']\n";

    #[test]
    fn paths_start_at_the_files_own_directory() {
        let config = load(GOOD).unwrap();
        assert!(config.gateway_key_file.is_absolute() && config.data.is_absolute());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused_by_name() {
        let unknown = load(&format!("{GOOD}speed = 9\n")).unwrap_err().to_string();
        assert!(unknown.contains("speed"), "{unknown}");
        assert!(
            load(&format!("{GOOD}login_grace_secs = 0\n"))
                .unwrap_err()
                .to_string()
                .contains("login_grace_secs")
        );
        assert!(
            load("gateway_key_file = 'k'\n").unwrap_err().to_string().contains("nothing would be served")
        );
        assert!(
            load(&format!("{GOOD}[storage]\nreserve = 'lots'\n"))
                .unwrap_err()
                .to_string()
                .contains("reserve")
        );
        for (bad, key) in [
            ("user_rate = '0'", "user_rate"),
            ("customer_rate = 'fast'", "customer_rate"),
            ("idle = '0s'", "idle"),
            ("keepalive = '0s'", "keepalive"),
            ("drain = 'soon'", "drain"),
            ("user_max = 0", "user_max"),
            ("speed = 1", "speed"),
        ] {
            let error = load(&format!("{GOOD}[sessions]\n{bad}\n")).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let dav = "gateway_key_file = 'k'\n[webdav]\nlisten = '127.0.0.1:0'\ncertificate_file = 'c'\nkey_file = 'k'\n";
        for (bad, key) in [
            ("domains = []", "domains"),
            ("domains = ['*.example.org']", "domains"),
            ("domains = ['192.0.2.1']", "domains"),
            ("domains = ['a.example.org']\ncontact = ['admin@example.org']", "contact"),
            ("domains = ['a.example.org']\nrenew = '30d'", "renew"),
        ] {
            let acme = format!("{dav}[webdav.acme]\ndirectory = 'https://acme.test/dir'\n{bad}\n");
            let error = load(&acme).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let plain = "[webdav.acme]\ndirectory = 'http://acme.test/dir'\ndomains = ['a.example.org']\n";
        let error = load(&format!("{dav}{plain}")).unwrap_err().to_string();
        assert!(error.contains("webdav.acme.directory"), "{error}");
        let proxy = load(&format!("{GOOD}proxy_from = ['10.0.0.0/33']\n")).unwrap_err().to_string();
        assert!(proxy.contains("proxy_from"), "{proxy}");
    }
}
