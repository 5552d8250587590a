//! The configuration in a backup: as it is, but private keys sealed under the gateway key.

use std::path::Path;

use anyhow::Context;
use coffre_storage::index::Table;
use coffre_storage::keys::{GatewayKey, GatewayLabel};
use coffre_storage::record::RecordKey;

use crate::config::Config;

/// The configuration file.
pub const CONFIGURATION: &str = "coffre.toml";
/// The WebDAV certificate.
pub const CERTIFICATE: &str = "tls-certificate";
/// Its private key, sealed.
pub const TLS_KEY: &str = "tls-key";

/// The name of the n-th SSH host key, sealed.
pub fn host_key(number: usize) -> String {
    format!("host-key-{number}")
}

fn sealing_key(key: &GatewayKey) -> RecordKey {
    RecordKey::new(&key.derive(GatewayLabel::BackupSecrets))
}

/// Opens a sealed file of the configuration; nothing when it is damaged or another key's.
pub fn open(key: &GatewayKey, name: &str, sealed: &[u8]) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    sealing_key(key).open(Table::Store, name.as_bytes(), sealed).map(Into::into)
}

/// Name and bytes of each file, as they go into a backup.
pub(super) fn files(config: &Config, key: &GatewayKey) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let sealing = sealing_key(key);
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let sealed = |name: &str, path: &Path| {
        let plain = zeroize::Zeroizing::new(read(path)?);
        anyhow::Ok((name.to_owned(), sealing.seal(Table::Store, name.as_bytes(), &plain)?))
    };
    let mut files = vec![(CONFIGURATION.to_owned(), read(&config.file)?)];
    for (number, path) in config.sftp.iter().flat_map(|sftp| &sftp.host_key_files).enumerate() {
        files.push(sealed(&host_key(number), path)?);
    }
    if let Some(webdav) = &config.webdav {
        files.push((CERTIFICATE.to_owned(), read(&webdav.certificate_file)?));
        files.push(sealed(TLS_KEY, &webdav.key_file)?);
    }
    Ok(files)
}
