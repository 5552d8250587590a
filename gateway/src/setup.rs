//! Making a data directory, and the demo in it.
//!
//! ```text
//! coffre.toml          configuration
//! secrets/             gateway.key, host_ed25519, host_ecdsa, tls.key   (0600 in a 0700 directory)
//! tls.crt known_hosts  what clients need to trust us
//! store/               index, packs, audit
//! demo/                key of the quickstart's user
//! ```

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coffre_storage::Store;
use coffre_storage::keys::GatewayKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::admin::service::{Life, Service};
use crate::admin::{CustomerLimits, Request, Scope, VaultLimits};
use crate::config::{self, Config, Upkeep};
use crate::{tls, wiring};

const GATEWAY_KEY: &str = "secrets/gateway.key";
const HOST_KEYS: [&str; 2] = ["secrets/host_ed25519", "secrets/host_ecdsa"];
const TLS_KEY: &str = "secrets/tls.key";
const CERTIFICATE: &str = "tls.crt";
const KNOWN_HOSTS: &str = "known_hosts";
const DEMO_KEY: &str = "demo/id_ed25519";
/// Name of the quickstart's customer, vault and user.
const DEMO: &str = "demo";
/// Networks that the quickstart's machine key is good for.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

pub(crate) fn private_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

pub(crate) fn private_directory(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating {}", path.display()))
}

fn fresh_key(algorithm: Algorithm) -> anyhow::Result<PrivateKey> {
    let mut key = PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm)?;
    key.set_comment("coffre");
    Ok(key)
}

/// Algorithms of the host keys, in the order of their files.
fn host_key_algorithms() -> [Algorithm; 2] {
    [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }]
}

/// New host keys in OpenSSH's form, in the order of the configuration.
pub(crate) fn fresh_host_keys() -> anyhow::Result<Vec<zeroize::Zeroizing<String>>> {
    host_key_algorithms()
        .into_iter()
        .map(|algorithm| Ok(fresh_key(algorithm)?.to_openssh(LineEnding::LF)?))
        .collect()
}

/// The configuration that `init` writes.
pub(crate) fn configuration(sftp: SocketAddr, webdav: SocketAddr) -> String {
    let [ed25519, ecdsa] = HOST_KEYS;
    format!(
        "# Coffre's configuration. Relative paths start here.\n\
         gateway_key_file = \"{GATEWAY_KEY}\"\n\n\
         [sftp]\nlisten = \"{sftp}\"\nhost_key_files = [\"{ed25519}\", \"{ecdsa}\"]\n\n\
         [webdav]\nlisten = \"{webdav}\"\ncertificate_file = \"{CERTIFICATE}\"\nkey_file = \"{TLS_KEY}\"\n"
    )
}

fn write_key(path: &Path, algorithm: Algorithm) -> anyhow::Result<()> {
    let key = fresh_key(algorithm)?;
    private_file(path, key.to_openssh(LineEnding::LF)?.as_bytes())?;
    fs::write(path.with_extension("pub"), format!("{}\n", key.public_key().to_openssh()?))?;
    Ok(())
}

/// Makes a data directory. The configuration is written last: without it there is none, and init may run again.
///
/// # Errors
/// One is there already; the system's.
pub fn init(data: &Path, sftp: SocketAddr, webdav: SocketAddr) -> anyhow::Result<()> {
    if data.join(config::FILE_NAME).exists() {
        bail!("{} is a data directory already", data.display());
    }
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; nothing was changed", data.display());
    }
    private_directory(data)?;
    private_directory(&data.join("secrets"))?;
    let gateway_key = GatewayKey::generate()?;
    private_file(&data.join(GATEWAY_KEY), wiring::gateway_key_text(&gateway_key).as_bytes())?;
    for (file, algorithm) in HOST_KEYS.into_iter().zip(host_key_algorithms()) {
        write_key(&data.join(file), algorithm)?;
    }
    let identity = tls::self_signed()?;
    private_file(&data.join(TLS_KEY), identity.key_pem.as_bytes())?;
    fs::write(data.join(CERTIFICATE), &identity.certificate_pem)?;
    let text = configuration(sftp, webdav);
    let pending = data.join("coffre.toml.new");
    private_file(&pending, text.as_bytes())?;
    let config = Config::load(&pending)?;
    private_directory(&wiring::store_directory(data))?;
    Store::create(&wiring::store_options(&config)?)?;
    // Opened once, so that the log and its first audit record are there.
    wiring::open_store(&config)?.shutdown()?;
    fs::rename(&pending, data.join(config::FILE_NAME))?;
    fs::File::open(data)?.sync_all()?;
    Ok(())
}

/// Lines for a client's `known_hosts`.
///
/// # Errors
/// The system's.
pub fn write_known_hosts(data: &Path, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let path = data.join(KNOWN_HOSTS);
    let mut text = String::new();
    for key in HOST_KEYS {
        let public = fs::read_to_string(data.join(key).with_extension("pub"))?;
        let mut words = public.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        for host in [address.ip().to_string(), "localhost".to_owned()] {
            text.extend([format!("[{host}]:{} {kind} {key}\n", address.port())]);
        }
    }
    fs::write(&path, text)?;
    Ok(path)
}

/// The certificate that clients trust.
pub fn certificate_file(data: &Path) -> PathBuf {
    data.join(CERTIFICATE)
}

/// What the quickstart's user logs in with.
#[derive(Debug)]
pub struct Demo {
    /// User name.
    pub user: &'static str,
    /// Private key file.
    pub key_file: PathBuf,
    /// A fresh app token.
    pub token: String,
}

/// Makes the demo customer, vault and user where they are missing, and a fresh token; the one of an earlier quickstart is
/// revoked.
///
/// # Errors
/// The service's.
pub fn demo(data: &Path, store: &Store, accounts: &Accounts, upkeep: Upkeep) -> anyhow::Result<Demo> {
    let service = Service::new(store.clone(), accounts.clone(), upkeep, Life::Served);
    let run = |request| service.execute(request, &mut |_, _| {}).map(|answer| answer.value);
    let has = |list: &Value, field: &str, value: &str| {
        list.as_array()
            .is_some_and(|rows| rows.iter().any(|row| row.get(field).and_then(Value::as_str) == Some(value)))
    };
    if !has(&run(Request::CustomerList)?, "name", DEMO) {
        run(Request::CustomerAdd { name: DEMO.into(), limits: CustomerLimits::default() })?;
    }
    if !has(&run(Request::VaultList)?, "vault", "demo/demo") {
        run(Request::VaultAdd {
            vault: "demo/demo".into(),
            retention_secs: 30 * 86_400,
            limits: VaultLimits::default(),
        })?;
    }
    if !has(&run(Request::UserList)?, "user", "demo/demo") {
        run(Request::UserAdd { user: "demo/demo".into(), mounts: vec!["/=demo".into()] })?;
    }
    let key_file = std::path::absolute(data.join(DEMO_KEY))?;
    if !key_file.exists() {
        private_directory(&data.join("demo"))?;
        write_key(&key_file, Algorithm::Ed25519)?;
    }
    let known = run(Request::CredentialList { user: Some("demo/demo".into()) })?;
    let public = fs::read_to_string(key_file.with_extension("pub"))?;
    let fingerprint = russh::keys::PublicKey::from_openssh(public.trim())?
        .fingerprint(russh::keys::HashAlg::Sha256)
        .to_string();
    if !has(&known, "fingerprint", &fingerprint) {
        let scope = Scope { from: LOOPBACK.map(str::to_owned).to_vec(), ..Scope::default() };
        run(Request::CredentialAddKey {
            user: "demo/demo".into(),
            key: public,
            machine: true,
            smart_card: false,
            scope,
        })?;
    }
    let earlier = fs::read_to_string(data.join("demo/token-id")).unwrap_or_default();
    if has(&known, "id", earlier.trim()) {
        run(Request::CredentialRevoke { id: earlier.trim().to_owned() })?;
    }
    let issued = run(Request::CredentialAddToken { user: "demo/demo".into(), scope: Scope::default() })?;
    let text = |name: &str| {
        issued.get(name).and_then(Value::as_str).map(str::to_owned).context("the token just issued")
    };
    fs::write(data.join("demo/token-id"), text("id")?)?;
    Ok(Demo { user: DEMO, key_file, token: text("token")? })
}

/// What quickstart says once it serves: one JSON line, or commands to paste.
///
/// # Errors
/// The system's.
pub fn announcement(
    data: &Path,
    demo: &Demo,
    sftp: SocketAddr,
    webdav: SocketAddr,
    as_json: bool,
) -> anyhow::Result<String> {
    let known_hosts = std::path::absolute(write_known_hosts(data, sftp)?)?;
    let ca = std::path::absolute(certificate_file(data))?;
    let url = format!("https://{webdav}/");
    let Demo { user, key_file, token } = demo;
    if as_json {
        return Ok(json!({
            "sftp": sftp.to_string(), "webdav": url, "user": user, "key_file": key_file, "token": token,
            "ca_file": ca, "known_hosts_file": known_hosts,
        })
        .to_string());
    }
    let (host, port) = (sftp.ip(), sftp.port());
    let (key, hosts, ca) = (key_file.display(), known_hosts.display(), ca.display());
    Ok(format!(
        "Coffre serves. Demo user `{user}`; the token is shown once.\n\n\
         OpenSSH:\n  sftp -P {port} -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={hosts} {user}@{host}\n\n\
         rclone, over SFTP:\n  rclone lsl :sftp: --sftp-host {host} --sftp-port {port} --sftp-user {user} --sftp-key-file {key} \
         --sftp-known-hosts-file {hosts}\n\n\
         rclone, over WebDAV:\n  rclone lsl :webdav: --webdav-url {url} --webdav-user {user} \
         --webdav-pass \"$(rclone obscure {token})\" --ca-cert {ca}\n\n\
         curl:\n  curl --cacert {ca} -u {user}:{token} -T FILE {url}\n  curl --cacert {ca} -u {user}:{token} -O {url}FILE\n\n\
         Administration, in another terminal:\n  coffre --data {} status\n\nStop with Ctrl-C.",
        data.display()
    ))
}
