//! The audit log: one record per access, a Merkle tree over them (RFC 6962), signed checkpoints (C2SP
//! tlog-checkpoint), append-only segments that verify offline (FORMAT.md "Audit").
//!
//! A record's fields are in clear except its details, which hold names and are sealed to the vault's audit key (or
//! the system's): anyone with a copy and the public key can prove what happened, only key holders read names.

pub mod beginning;
pub mod checkpoint;
pub mod customer;
pub mod merkle;
pub mod proof;
pub mod record;
pub mod search;
pub mod stream;
pub mod verify;
pub mod writer;

use std::net::IpAddr;

use crate::id::{CommitNumber, InodeId, RecordNumber, VaultId};
pub use record::Record;

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user (by identifier).
    User([u8; 16]),
    /// Nobody proven yet (a failed login).
    Unknown,
    /// The operator, through the command line.
    Operator,
    /// The gateway itself.
    System,
}

/// Through what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Protocol {
    /// The gateway itself or the command line.
    #[n(0)]
    Local,
    /// SFTP over SSH.
    #[n(1)]
    Sftp,
    /// WebDAV over TLS.
    #[n(2)]
    Webdav,
}

/// What was done. The number is in the log: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[expect(missing_docs, reason = "the names say it; `name()` is what people read")]
pub enum Action {
    #[n(0)]
    StoreCreate,
    #[n(1)]
    StoreOpen,
    #[n(2)]
    StoreShutdown,
    #[n(3)]
    CustomerAdd,
    #[n(4)]
    CustomerChange,
    #[n(5)]
    UserAdd,
    #[n(6)]
    UserChange,
    #[n(7)]
    UserDelete,
    #[n(8)]
    CredentialAdd,
    #[n(9)]
    CredentialRevoke,
    #[n(10)]
    VaultAdd,
    #[n(11)]
    VaultOpen,
    #[n(12)]
    Login,
    #[n(13)]
    SessionOpen,
    #[n(14)]
    SessionClose,
    #[n(15)]
    FileOpen,
    #[n(16)]
    FileRead,
    #[n(17)]
    FileWrite,
    #[n(18)]
    FileCreate,
    #[n(19)]
    DirectoryCreate,
    #[n(20)]
    DirectoryList,
    #[n(21)]
    Remove,
    #[n(22)]
    Rename,
    #[n(23)]
    Copy,
    #[n(24)]
    LinkCreate,
    #[n(25)]
    AttributesSet,
    #[n(26)]
    PropertiesSet,
    #[n(27)]
    LockSet,
    #[n(28)]
    LockRelease,
    #[n(29)]
    AuditRead,
    #[n(30)]
    Check,
    #[n(31)]
    Stat,
    #[n(40)]
    VaultChange,
    #[n(41)]
    HistoryPrune,
    #[n(42)]
    PackRemove,
    #[n(43)]
    VaultErase,
    #[n(60)]
    CustomerClose,
    #[n(61)]
    CustomerReopen,
    #[n(62)]
    IncidentsRead,
    #[n(70)]
    Repair,
    #[n(71)]
    SetAside,
    #[n(72)]
    Scrub,
    #[n(80)]
    RestoreBegin,
    #[n(81)]
    RestoreEnd,
    #[n(82)]
    Restored,
    #[n(83)]
    SnapshotAdd,
    #[n(84)]
    SnapshotDelete,
    #[n(90)]
    Backup,
    #[n(91)]
    Restore,
    #[n(92)]
    Recover,
    #[n(100)]
    ExportBegin,
    #[n(101)]
    ExportEnd,
    /// A command over SSH.
    #[n(110)]
    Command,
    /// An operator ended somebody's lock.
    #[n(120)]
    LockBreak,
    /// An operator saw what is locked.
    #[n(121)]
    LocksRead,
    /// An upload that comes in parts.
    #[n(125)]
    PartsBegin,
    /// One of its parts.
    #[n(126)]
    PartWrite,
    /// It was given up, by its owner or because it got no part for long.
    #[n(127)]
    PartsAbandon,
    /// Another certificate is served, or was to be.
    #[n(135)]
    CertificateChange,
    /// The configuration was read again.
    #[n(136)]
    ConfigurationReload,
    /// One of several factors was proven.
    #[n(140)]
    LoginStep,
    /// A device for one-time codes was confirmed.
    #[n(141)]
    CredentialConfirm,
    /// Certificates of an authority are taken.
    #[n(148)]
    AuthorityAdd,
    /// They are not any more.
    #[n(149)]
    AuthorityRevoke,
    /// One of them is not any more.
    #[n(150)]
    CertificateRevoke,
    /// A customer-held vault was opened for a time, or was not.
    #[n(156)]
    VaultUnlock,
    /// It was locked again.
    #[n(157)]
    VaultLock,
    /// A vault got a key slot.
    #[n(158)]
    SlotAdd,
    /// A key slot was taken away.
    #[n(159)]
    SlotRemove,
    /// An escrow slot was written out, to be opened with its offline key.
    #[n(160)]
    SlotExport,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Outcome {
    /// Done.
    #[n(0)]
    Done,
    /// Not allowed.
    #[n(1)]
    Refused,
    /// Allowed, and failed.
    #[n(2)]
    Failed,
}

/// A line of details: these hold names, so they are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DetailKey {
    #[n(0)]
    Path,
    #[n(1)]
    Target,
    #[n(2)]
    UserName,
    #[n(3)]
    Client,
    #[n(4)]
    Name,
    #[n(5)]
    Note,
}

/// What a caller says of an access; the store adds number and times and seals the details.
#[derive(Clone, Debug)]
pub struct RecordDraft {
    /// Customer identifier.
    pub customer: Option<[u8; 16]>,
    /// Who.
    pub actor: Actor,
    /// Credential identifier, as shown by `credential list`.
    pub credential: Option<String>,
    /// Factors proven, in order (`key`, `token`, ...).
    pub factors: Vec<&'static str>,
    /// From where.
    pub source: Option<IpAddr>,
    /// Through what.
    pub protocol: Protocol,
    /// Session identifier.
    pub session: Option<[u8; 16]>,
    /// What.
    pub action: Action,
    /// On which vault.
    pub vault: Option<VaultId>,
    /// On which inode of it.
    pub object: Option<InodeId>,
    /// Bytes moved or stored.
    pub bytes: Option<u64>,
    /// BLAKE3 of the content, where known.
    pub content_hash: Option<[u8; 32]>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why not, in words a human understands (never names).
    pub reason: Option<String>,
    /// Sealed lines.
    pub details: Vec<(DetailKey, Vec<u8>)>,
}

impl RecordDraft {
    /// A done action of `actor` with nothing else known.
    pub fn new(actor: Actor, action: Action) -> Self {
        Self {
            customer: None,
            actor,
            credential: None,
            factors: Vec::new(),
            source: None,
            protocol: Protocol::Local,
            session: None,
            action,
            vault: None,
            object: None,
            bytes: None,
            content_hash: None,
            outcome: Outcome::Done,
            reason: None,
            details: Vec::new(),
        }
    }
}

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Records read.
    pub records: u64,
    /// Number of the first record that is there: earlier ones were lost before a recovery, which signed that.
    pub begins: u64,
    /// Signed checkpoints verified.
    pub checkpoints: u64,
    /// The store's transaction at which the last of them was signed.
    pub commit: Option<CommitNumber>,
    /// Customers whose trees were compared with their own checkpoints.
    pub customers: u64,
    /// Checkpoints of customers verified.
    pub customer_checkpoints: u64,
    /// Records after the last checkpoint (their integrity rests on the log alone).
    pub uncovered: u64,
    /// The first thing that is wrong, in words; nothing when all is well.
    pub damage: Option<String>,
    /// Where: the record number, if it has one.
    pub at: Option<RecordNumber>,
}

impl Action {
    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        // The numbers are the list: whatever decodes is one.
        (0..=u8::MAX).find_map(|number| {
            let encoded = minicbor::to_vec(number).ok()?;
            minicbor::decode::<Self>(&encoded).ok().filter(|action| action.name() == name)
        })
    }

    /// Its name, as people and scripts read it.
    #[expect(clippy::too_many_lines, reason = "a table: one line for each action")]
    pub fn name(self) -> &'static str {
        match self {
            Self::StoreCreate => "store-create",
            Self::StoreOpen => "store-open",
            Self::StoreShutdown => "store-shutdown",
            Self::CustomerAdd => "customer-add",
            Self::CustomerChange => "customer-change",
            Self::UserAdd => "user-add",
            Self::UserChange => "user-change",
            Self::UserDelete => "user-delete",
            Self::CredentialAdd => "credential-add",
            Self::CredentialRevoke => "credential-revoke",
            Self::VaultAdd => "vault-add",
            Self::VaultOpen => "vault-open",
            Self::Login => "login",
            Self::SessionOpen => "session-open",
            Self::SessionClose => "session-close",
            Self::FileOpen => "file-open",
            Self::FileRead => "file-read",
            Self::FileWrite => "file-write",
            Self::FileCreate => "file-create",
            Self::DirectoryCreate => "directory-create",
            Self::DirectoryList => "directory-list",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Copy => "copy",
            Self::LinkCreate => "link-create",
            Self::AttributesSet => "attributes-set",
            Self::PropertiesSet => "properties-set",
            Self::LockSet => "lock-set",
            Self::LockRelease => "lock-release",
            Self::AuditRead => "audit-read",
            Self::Check => "check",
            Self::Stat => "stat",
            Self::VaultChange => "vault-change",
            Self::HistoryPrune => "history-prune",
            Self::PackRemove => "pack-remove",
            Self::VaultErase => "vault-erase",
            Self::CustomerClose => "customer-close",
            Self::CustomerReopen => "customer-reopen",
            Self::IncidentsRead => "incidents-read",
            Self::Repair => "repair",
            Self::SetAside => "set-aside",
            Self::Scrub => "scrub",
            Self::RestoreBegin => "restore-begin",
            Self::RestoreEnd => "restore-end",
            Self::Restored => "restored",
            Self::SnapshotAdd => "snapshot-add",
            Self::SnapshotDelete => "snapshot-delete",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Recover => "recover",
            Self::ExportBegin => "export-begin",
            Self::ExportEnd => "export-end",
            Self::Command => "command",
            Self::VaultUnlock => "vault-unlock",
            Self::VaultLock => "vault-lock",
            Self::SlotAdd => "slot-add",
            Self::SlotRemove => "slot-remove",
            Self::SlotExport => "slot-export",
            Self::LockBreak => "lock-break",
            Self::LocksRead => "locks-read",
            Self::PartsBegin => "parts-begin",
            Self::PartWrite => "part-write",
            Self::PartsAbandon => "parts-abandon",
            Self::CertificateChange => "certificate-change",
            Self::ConfigurationReload => "configuration-reload",
            Self::LoginStep => "login-step",
            Self::CredentialConfirm => "credential-confirm",
            Self::AuthorityAdd => "authority-add",
            Self::AuthorityRevoke => "authority-revoke",
            Self::CertificateRevoke => "certificate-revoke",
        }
    }
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];

    /// Its name, as people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Local, Self::Sftp, Self::Webdav];

    /// Its name, as people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Sftp => "sftp",
            Self::Webdav => "webdav",
        }
    }
}

impl DetailKey {
    /// Its name, as people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Target => "target",
            Self::UserName => "user",
            Self::Client => "client",
            Self::Name => "name",
            Self::Note => "note",
        }
    }
}
