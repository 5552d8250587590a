//! Administration: one service, two ways in. The command line speaks to a running server over `admin.sock` in the data
//! directory, and runs the same service on the store itself when no server runs.
//!
//! On the socket: the client sends one [`Request`] as a JSON line; the server answers with [`Reply`] lines, the last of
//! which is `done` or `failed`.

pub mod audit;
mod backup;
mod certificate;
mod check;
pub mod client;
mod erase;
mod export;
mod incidents;
pub mod listener;
mod locks;
pub mod render;
mod restore;
mod secret_text;
pub mod service;
mod snapshot;
mod vault;
mod vault_keys;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::accounts::{CustomerLimits, VaultLimits};
pub use secret_text::SecretText;
pub use vault_keys::KeyRequest;

/// What is asked of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are the command line's own words, documented there")]
pub enum Request {
    /// `customer add`
    CustomerAdd { name: String, limits: CustomerLimits },
    /// `customer set`
    CustomerSet { name: String, limits: CustomerLimits },
    /// `customer list`
    CustomerList,
    /// `customer show`
    CustomerShow { name: String },
    /// `customer close`
    CustomerClose { name: String },
    /// `customer reopen`
    CustomerReopen { name: String },
    /// `vault add`
    VaultAdd { vault: String, retention_secs: u64, limits: VaultLimits },
    /// `vault set`
    VaultSet { vault: String, limits: VaultLimits },
    /// `backup`; the directory is absolute: it is the server that writes.
    Backup { destination: std::path::PathBuf, verify_all: bool },
    /// `vault add --key passphrase`, `vault unlock`, `vault lock`, `vault slots`, `vault slot ...`, `escrow ...`
    VaultKeys { vault: String, request: KeyRequest },
    /// `vault list`
    VaultList,
    /// `vault show`
    VaultShow { vault: String },
    /// `vault snapshot`
    VaultSnapshot { vault: String, name: String, keep_secs: Option<u64> },
    /// `vault snapshot --delete`
    VaultSnapshotDelete { vault: String, name: String },
    /// `vault snapshots`
    VaultSnapshots { vault: String },
    /// `vault restore`
    VaultRestore { vault: String, path: String, at: String, to: Option<String> },
    /// `vault locks`
    VaultLocks { vault: String },
    /// `vault break-lock`
    VaultBreakLock { vault: String, number: u64 },
    /// `vault retention`
    VaultRetention { vault: String, retention_secs: u64 },
    /// `vault hold`
    VaultHold { vault: String, path: String, reason: String },
    /// `vault lift`
    VaultLift { vault: String, number: u64 },
    /// `vault compression`
    VaultCompression { vault: String, on: bool },
    /// `vault erase`
    VaultErase { vault: String, confirm: String, backups: Vec<std::path::PathBuf> },
    /// `gc`
    Reclaim { grace_secs: Option<u64> },
    /// `user add`
    UserAdd { user: String, mounts: Vec<String> },
    /// `user list`
    UserList,
    /// `user disable`
    UserDisable { user: String },
    /// `user enable`
    UserEnable { user: String },
    /// `user delete`
    UserDelete { user: String },
    /// `credential add-key`
    CredentialAddKey { user: String, key: String, machine: bool, smart_card: bool, scope: Scope },
    /// `credential add-token`
    CredentialAddToken { user: String, scope: Scope },
    /// `credential add-password`
    CredentialAddPassword { user: String, password: Secret },
    /// `credential add-totp`
    CredentialAddTotp { user: String },
    /// `credential confirm`
    CredentialConfirm { id: String, code: String },
    /// `credential add-codes`
    CredentialAddCodes { user: String },
    /// `credential list`
    CredentialList { user: Option<String> },
    /// `credential add-certificate`
    TlsCertificateAdd { user: String, certificate: String, scope: Scope },
    /// `credential add-authority`
    AuthorityAdd { customer: String, key: String, life_secs_max: u64, scope: Scope },
    /// `credential revoke-certificate`
    CertificateRevoke { authority: String, mark: CertificateMark },
    /// `credential revoke`
    CredentialRevoke { id: String },
    /// `audit tail`
    AuditTail { lines: u32 },
    /// `audit verify`, and against notes that were kept elsewhere
    AuditVerify { kept: Vec<String> },
    /// `audit prove NUMBER`
    AuditProve { number: u64, customer: Option<String> },
    /// `audit prove --since`, with the older note
    AuditProveSince { old: String },
    /// `audit export --customer`; the directory is absolute: it is the server that writes.
    AuditExportCustomer { customer: String, directory: std::path::PathBuf, details: audit::Details },
    /// `audit dossier`
    AuditDossier { credential: String, from: Option<i64>, to: Option<i64> },
    /// A page of `audit search`
    AuditSearch { query: audit::Query, place: audit::Place },
    /// `incidents`
    Incidents { max: u32, after: Option<u64> },
    /// `check`
    Check { read_data: bool, repair: bool },
    /// `export`
    Export {
        vault: String,
        destination: std::path::PathBuf,
        at: Option<String>,
        format: crate::export::Format,
    },
    /// `status`
    Status,
}

/// What is not for logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// By what certificates are told: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateMark {
    /// Serial number.
    pub serial: Option<u64>,
    /// Key id.
    pub key_id: Option<String>,
    /// Fingerprint of the certified key.
    pub fingerprint: Option<String>,
}

/// What a credential may do, from where, until when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// A rights set's name.
    pub rights: Option<String>,
    /// Networks.
    pub from: Vec<String>,
    /// Lifetime.
    pub expires_secs: Option<u64>,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// How far a long command is.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The result.
    Done(Answer),
    /// Why not.
    Failed(String),
}

/// A result, and whether it is good news: a check that found damage answers, and exits with 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What to print.
    pub value: Value,
    /// Exit code 0.
    pub good: bool,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self { value, good: true }
    }
}
