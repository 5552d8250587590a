//! The one place that names concrete parts: which disk, index and clock a store stands on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::blob::read_only::ReadOnlyFiles;
use coffre_storage::commit::IndexChoice;
use coffre_storage::keys::{GatewayKey, GatewayLabel, Secret32};
use coffre_storage::limits::{PACK_BYTES, SETTLE_CHUNKS};
use coffre_storage::{Store, StoreOptions};

use crate::clock::SystemClock;
use crate::config::Config;

/// Where a data directory keeps its store.
pub fn store_directory(data: &Path) -> PathBuf {
    data.join("store")
}

/// The blobs of a store's directory, or of a copy of one.
///
/// # Errors
/// The system's.
pub fn blobs_at(directory: &Path) -> std::io::Result<Arc<dyn BlobStore>> {
    Ok(Arc::new(DiskBlobs::new(directory)?))
}

/// What a store of this configuration is opened with.
///
/// # Errors
/// A gateway key that is unreadable; a directory that is not there.
pub fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    let directory = store_directory(&config.data);
    Ok(StoreOptions {
        blobs: blobs_at(&directory)?,
        directory,
        index: IndexChoice::Redb,
        clock: Arc::new(SystemClock),
        gateway_key: read_gateway_key(&config.gateway_key_file)?,
        pack_bytes: PACK_BYTES,
        settle_chunks: SETTLE_CHUNKS,
        reserve_bytes: config.reserve_bytes(),
    })
}

/// Opens the store of a configuration.
///
/// # Errors
/// The store's own reasons.
pub fn open_store(config: &Config) -> anyhow::Result<Store> {
    Store::open(store_options(config)?).with_context(|| format!("opening {}", config.data.display()))
}

/// Compares the audit log of a configuration's store with what its witness has, before anything is opened.
///
/// # Errors
/// It was set back or rewritten.
pub fn compare_with_witness(config: &Config) -> anyhow::Result<()> {
    let Some(witness) = &config.audit.witness else { return Ok(()) };
    let seed = read_gateway_key(&config.gateway_key_file)?.derive(GatewayLabel::AuditSigning);
    let public = coffre_storage::note::public_key(&seed).context("the audit log's signing key")?;
    crate::witness::compare(witness, blobs_at(&store_directory(&config.data))?.as_ref(), &public)
}

/// A former store's audit directory, read only.
pub fn audit_at(directory: &Path) -> Arc<dyn BlobStore> {
    Arc::new(ReadOnlyFiles::new("audit/", directory))
}

/// The first bytes of some files of an audit directory, read only.
pub fn audit_part(directory: &Path, lengths: BTreeMap<String, u64>) -> Arc<dyn BlobStore> {
    Arc::new(ReadOnlyFiles::new("audit/", directory).limited_to(lengths))
}

/// Reads a gateway key file.
///
/// # Errors
/// The system's; a file that holds something else.
pub fn read_gateway_key(path: &Path) -> anyhow::Result<GatewayKey> {
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(path).with_context(|| format!("gateway key file {}", path.display()))?,
    );
    parse_gateway_key(&text).with_context(|| format!("{} is not 64 hexadecimal digits", path.display()))
}

fn parse_gateway_key(text: &str) -> Option<GatewayKey> {
    let digits = text.trim().as_bytes();
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(GatewayKey::from_secret(Secret32::new(*bytes)))
}

/// A gateway key as its file holds it.
pub fn gateway_key_text(key: &GatewayKey) -> zeroize::Zeroizing<String> {
    use std::fmt::Write;
    let mut text = zeroize::Zeroizing::new(String::with_capacity(65));
    for byte in key.expose().expose() {
        let _written = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_key_file_reads_back() {
        let key = GatewayKey::generate().unwrap();
        let text = gateway_key_text(&key);
        assert_eq!(parse_gateway_key(&text).unwrap().expose().expose(), key.expose().expose());
        assert!(parse_gateway_key("abc").is_none() && parse_gateway_key(&"x".repeat(64)).is_none());
    }
}
