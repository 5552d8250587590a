//! The command line: its words and their types. What they do is in [`crate::admin`], [`crate::serve`] and [`crate::setup`].

mod audit;
mod certificate;
mod credential;
mod keys;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use coffre_auth::Policy;

pub use certificate::{CertificateCommand, MarkArguments};

pub use keys::{EscrowCommand, SlotCommand};

use crate::admin::{CustomerLimits, KeyRequest, Request, VaultLimits};
use crate::export::Format;
use crate::units::{Bound, parse_count_bound, parse_duration, parse_moment_bound, parse_size_bound};
pub use audit::{AuditCommand, SearchArguments};
pub use credential::CredentialCommand;

/// A storage gateway: SFTP and WebDAV in front, encrypted and audited behind.
#[derive(Debug, Parser)]
#[command(name = "coffre", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// Data directory that administration commands speak to.
    #[arg(long, global = true, value_name = "DIR", default_value = "coffre-data")]
    pub data: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up a demo where there is none, then serve: prints ready-to-paste client commands.
    Quickstart {
        /// Address of the SFTP listener; port 0 picks a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2022")]
        sftp: SocketAddr,
        /// Address of the WebDAV listener; port 0 picks a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
        webdav: SocketAddr,
    },
    /// Make a data directory: keys, host keys, certificate, configuration, empty store and audit log.
    Init,
    /// Serve.
    Serve {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Customers.
    #[command(subcommand)]
    Customer(CustomerCommand),
    /// Vaults.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// Credentials.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// The audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What somebody must be told of: quotas, uploads that broke off, damage. The newest, oldest first.
    Incidents {
        /// How many.
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
        lines: u32,
        /// Only those after this one, from the first of them on.
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
    /// Check the store: structure, references, quota, history, audit log.
    Check {
        /// Read and open every stored frame too.
        #[arg(long)]
        read_data: bool,
        /// Count anew, restore what the log still has, set aside what cannot be read, and tell which files are concerned.
        #[arg(long)]
        repair: bool,
    },
    /// Give space back now: superseded states out of their window, chunks that nobody refers to, packs that are mostly dead.
    Gc {
        /// How long emptied packs stay on the disk, instead of the configured time.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        grace: Option<Duration>,
    },
    /// Escrow of vaults whose key the customer holds.
    #[command(subcommand)]
    Escrow(EscrowCommand),
    /// Copy everything but the gateway key into a directory, while the server serves: only what is new is written, and is
    /// read back.
    Backup {
        /// Directory on another disk; the next backup into it is faster.
        #[arg(value_name = "DEST")]
        destination: PathBuf,
        /// Read back what was just written, or all copies.
        #[arg(long, value_enum, default_value = "new")]
        verify: VerifyExtent,
    },
    /// Make a data directory (`--data`, empty) from a backup.
    Restore {
        /// A directory that `coffre backup` wrote.
        #[arg(value_name = "SRC")]
        source: PathBuf,
        /// The gateway key's file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Make a data directory from packs alone, and tell exactly what is lost. No server is needed; the packs are only read.
    Recover {
        /// Directory of the packs.
        #[arg(long, value_name = "DIR")]
        packs: PathBuf,
        /// The gateway key's file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The new data directory: empty, or not there yet.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The former audit directory, if it is not beside the packs.
        #[arg(long, value_name = "DIR")]
        audit: Option<PathBuf>,
        /// Read and open every stored frame too.
        #[arg(long)]
        read_data: bool,
    },
    /// Give a vault's data back: one moment of it with a signed manifest, or verify what was given.
    Export(ExportArguments),
    /// Figures of the store and its sessions.
    Status,
}

/// Which copies of a backup are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyExtent {
    /// Those just written; others by their length.
    New,
    /// All of them.
    All,
}

/// What to export and where to, or what to verify.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// `CUSTOMER/VAULT`.
    #[arg(required_unless_present = "verify")]
    pub vault: Option<String>,
    /// An absent or empty directory, or that of an interrupted export, which then goes on. The process that holds the store
    /// writes to it: the server, when one runs.
    #[arg(required_unless_present = "verify", value_name = "DEST")]
    pub destination: Option<PathBuf>,
    /// The moment (RFC 3339 time or date) or the snapshot to export; without it, now.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    pub at: Option<String>,
    /// As a tree of files, or as one tar archive.
    #[arg(long, value_enum, default_value = "tree")]
    pub format: Format,
    /// Read an export again and say what differs from its signed manifest. Needs no data directory.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["vault", "destination", "at", "format"])]
    pub verify: Option<PathBuf>,
    /// The line that the export printed, by which the signature is verified; without it, the one beside the export.
    #[arg(long, value_name = "LINE", requires = "verify")]
    pub verifier: Option<String>,
}

/// Customers.
#[derive(Debug, Subcommand)]
pub enum CustomerCommand {
    /// Add a customer.
    Add {
        /// Its name.
        name: String,
        /// Its limits.
        #[command(flatten)]
        limits: CustomerBounds,
    },
    /// Set limits of a customer; those that are not said stay as they are.
    Set {
        /// Its name.
        name: String,
        /// Its limits.
        #[command(flatten)]
        limits: CustomerBounds,
    },
    /// List customers.
    List,
    /// Show one customer: limits, what is used of them, vaults.
    Show {
        /// Its name.
        name: String,
    },
    /// Close a customer: its users' sessions end, none of them comes in. What it stores stays.
    Close {
        /// Its name.
        name: String,
    },
    /// Let a closed customer's users in again.
    Reopen {
        /// Its name.
        name: String,
    },
}

/// Limits of a customer.
#[derive(Debug, Clone, Copy, Args)]
pub struct CustomerBounds {
    /// Users it may have, or `none` for no limit.
    #[arg(long, value_name = "N", value_parser = parse_count_bound::<u32>)]
    pub users_max: Option<Bound<u32>>,
    /// Bytes it may store, such as `10G`, or `none` for no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bound)]
    pub bytes_max: Option<Bound<u64>>,
    /// Files, directories and links it may have, or `none` for no limit.
    #[arg(long, value_name = "N", value_parser = parse_count_bound::<u64>)]
    pub files_max: Option<Bound<u64>>,
    /// When its contract ends (RFC 3339 time or date), or `none`.
    #[arg(long, value_name = "DATE", value_parser = parse_moment_bound)]
    pub expires: Option<Bound<i64>>,
    /// Sessions of its users at once, or `none` for what the server allows everybody.
    #[arg(long, value_name = "N", value_parser = parse_count_bound::<u32>)]
    pub sessions_max: Option<Bound<u32>>,
    /// Bytes a second of all its sessions, each way, such as `10M`, or `none` for what the server allows everybody.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bound)]
    pub rate_max: Option<Bound<u64>>,
    /// How its users may log in: `default`, or some of `machine-key`, `smart-card`, `ssh-certificate`, `tls-certificate`,
    /// `key+code`, `key+password`, `password+code`, `token`, `key`, with commas between. The default takes all but `key`, a
    /// person's SSH key alone.
    #[arg(long, value_name = "WAYS")]
    pub login: Option<Policy>,
}

/// Limits of a vault.
#[derive(Debug, Clone, Copy, Args)]
pub struct VaultBounds {
    /// Bytes of its current files, such as `10G`, or `none` for no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bound)]
    pub bytes_max: Option<Bound<u64>>,
    /// Its current files, directories and links, or `none` for no limit.
    #[arg(long, value_name = "N", value_parser = parse_count_bound::<u64>)]
    pub files_max: Option<Bound<u64>>,
    /// What it may take on the disk, earlier states included, or `none` for no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bound)]
    pub stored_max: Option<Bound<u64>>,
}

/// Vaults.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Add a vault.
    Add {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// Who holds the key: `managed`, the gateway; `passphrase`, the customer. Then the vault is locked until it is unlocked
        /// with its passphrase, which this command asks for; who loses it, and has no escrow, has lost what is in the vault.
        #[arg(long, value_enum, default_value = "managed")]
        key: KeyHolder,
        /// With `--key passphrase`: the `.pub` file of an offline key that opens the vault too.
        #[arg(long, value_name = "FILE")]
        escrow: Option<PathBuf>,
        /// How long superseded states are kept, such as `30d`.
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
        retention: Duration,
        /// Its limits, within those of its customer.
        #[command(flatten)]
        limits: VaultBounds,
    },
    /// Set limits of a vault; those that are not said stay as they are.
    Set {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// Its limits, within those of its customer.
        #[command(flatten)]
        limits: VaultBounds,
    },
    /// Unlock a customer-held vault for a time; asks for a passphrase of it.
    Unlock {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// For this long, such as `8h`; a week at most.
        #[arg(long = "for", value_name = "DURATION", default_value = "8h", value_parser = parse_duration)]
        time: Duration,
    },
    /// Lock it again: its sessions end, its keys are forgotten.
    Lock {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// List the key slots of a customer-held vault.
    Slots {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// Change the key slots of a customer-held vault.
    #[command(subcommand)]
    Slot(SlotCommand),
    /// List vaults.
    List,
    /// Show one vault: its figures, how long its past is kept, legal holds.
    Show {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// Keep this moment under a name, whatever the retention; or let one go.
    Snapshot {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The snapshot's name: letters, digits, `.`, `_`, `-`, `@`.
        name: String,
        /// For this long, such as `90d`; without it until it is deleted.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        keep: Option<Duration>,
        /// Let it go before its time: it stays for the configured grace (`storage.retention_grace`, 7 days).
        #[arg(long, conflicts_with = "keep")]
        delete: bool,
    },
    /// List named snapshots.
    Snapshots {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// List what WebDAV clients have locked.
    Locks {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// End a lock whose client is gone; what it still sends with that lock is refused.
    BreakLock {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// As shown by `vault locks`.
        number: u64,
    },
    /// Put an earlier state of a file or directory back. What is there now goes to history.
    Restore {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The path in the vault; `/` for all of it.
        path: String,
        /// When: an RFC 3339 time, a date, or a snapshot's name.
        #[arg(long, value_name = "TIME|SNAPSHOT")]
        at: String,
        /// Put it under this path instead, which must not exist.
        #[arg(long, value_name = "PATH")]
        to: Option<String>,
    },
    /// Set how long superseded states are kept. A shorter time counts after the configured grace.
    Retention {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// Such as `30d`.
        #[arg(value_name = "DURATION", value_parser = parse_duration)]
        retention: Duration,
    },
    /// Place a legal hold: nothing of the vault's past is pruned or erased until it is lifted.
    Hold {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// What the hold is for.
        #[arg(default_value = "/")]
        path: String,
        /// Why: a case, an order.
        #[arg(long)]
        reason: String,
    },
    /// Lift a legal hold.
    Lift {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// As shown by `vault show`.
        number: u64,
    },
    /// Erase a closed customer's vault for good: its key slot, its records, every pack that says anything of it.
    Erase {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The vault's name once more.
        #[arg(long, value_name = "CUSTOMER/VAULT")]
        confirm: String,
        /// Directories of backups from which it goes too.
        #[arg(long = "backup", value_name = "DIR", value_parser = absolute)]
        backups: Vec<PathBuf>,
        /// Where to write the signed certificate.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
    },
    /// Whether content written from now on is compressed.
    Compression {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// `lz4` or `off`.
        #[arg(value_enum)]
        setting: CompressionSetting,
    },
}

/// Whether content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionSetting {
    /// Where it saves at least an eighth.
    Lz4,
    /// Not.
    Off,
}

/// Who holds a vault's key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyHolder {
    /// The gateway.
    Managed,
    /// The customer.
    Passphrase,
}

/// Users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user.
    Add {
        /// `CUSTOMER/USER`.
        user: String,
        /// `PATH=VAULT[:SUBPATH][,rights]`; the vault is `CUSTOMER/VAULT` or `VAULT` of the same customer; rights are
        /// `read-only`, `append-only`, `drop-box` or `read-write`.
        #[arg(long = "mount", value_name = "MOUNT")]
        mounts: Vec<String>,
    },
    /// List users.
    List,
    /// End a user's sessions and refuse new ones.
    Disable {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
    /// Let a disabled user in again.
    Enable {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
    /// Delete a user and its credentials; vaults stay.
    Delete {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
}

impl Command {
    /// Where a certificate or an envelope that the command brings is to be written.
    pub fn certificate_file(&self) -> Option<&Path> {
        if let Self::Vault(VaultCommand::Erase { certificate, .. }) = self {
            certificate.as_deref()
        } else if let Self::Escrow(EscrowCommand::Envelope { file, .. }) = self {
            Some(file)
        } else {
            None
        }
    }

    /// Where the proof that the command brings is to be written.
    pub fn proof_file(&self) -> Option<&Path> {
        if let Self::Audit(command) = self { command.proof_file() } else { None }
    }

    /// The request to the admin service that this command is; nothing for those that are not one.
    ///
    /// # Errors
    /// A key file that cannot be read.
    pub fn into_request(self) -> anyhow::Result<Option<Request>> {
        Ok(Some(match self {
            Self::Quickstart { .. }
            | Self::Init
            | Self::Serve { .. }
            | Self::Restore { .. }
            | Self::Recover { .. }
            | Self::Export(ExportArguments { vault: None, .. } | ExportArguments { destination: None, .. }) =>
            {
                return Ok(None);
            }
            Self::Customer(CustomerCommand::Add { name, limits }) => {
                Request::CustomerAdd { name, limits: limits.into() }
            }
            Self::Customer(CustomerCommand::Set { name, limits }) => {
                Request::CustomerSet { name, limits: limits.into() }
            }
            Self::Customer(CustomerCommand::List) => Request::CustomerList,
            Self::Customer(CustomerCommand::Show { name }) => Request::CustomerShow { name },
            Self::Customer(CustomerCommand::Close { name }) => Request::CustomerClose { name },
            Self::Customer(CustomerCommand::Reopen { name }) => Request::CustomerReopen { name },
            Self::Vault(command) => command.into_request()?,
            Self::Escrow(command) => return command.into_request(),
            // It is the server that writes: from where it stands the path may mean something else.
            Self::Backup { destination, verify } => Request::Backup {
                destination: std::path::absolute(destination)?,
                verify_all: verify == VerifyExtent::All,
            },
            Self::Gc { grace } => Request::Reclaim { grace_secs: grace.map(|grace| grace.as_secs()) },
            Self::User(UserCommand::Add { user, mounts }) => Request::UserAdd { user, mounts },
            Self::User(UserCommand::List) => Request::UserList,
            Self::User(UserCommand::Disable { user }) => Request::UserDisable { user },
            Self::User(UserCommand::Enable { user }) => Request::UserEnable { user },
            Self::User(UserCommand::Delete { user }) => Request::UserDelete { user },
            Self::Credential(command) => command.into_request()?,
            Self::Audit(command) => return command.into_request(),
            Self::Incidents { lines, after } => Request::Incidents { max: lines, after },
            Self::Export(ExportArguments {
                vault: Some(vault), destination: Some(path), at, format, ..
            }) => Request::Export { vault, destination: std::path::absolute(path)?, at, format },
            Self::Check { read_data, repair } => Request::Check { read_data, repair },
            Self::Status => Request::Status,
        }))
    }
}

impl From<CustomerBounds> for CustomerLimits {
    fn from(bounds: CustomerBounds) -> Self {
        let CustomerBounds { users_max, bytes_max, files_max, expires, sessions_max, rate_max, login } =
            bounds;
        Self { users_max, bytes_max, files_max, expires, sessions_max, rate_max, login }
    }
}

impl From<VaultBounds> for VaultLimits {
    fn from(bounds: VaultBounds) -> Self {
        let VaultBounds { bytes_max, files_max, stored_max } = bounds;
        Self { bytes_max, files_max, stored_max }
    }
}

/// A path as the server sees it too, which may run in another directory.
fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

impl VaultCommand {
    fn into_request(self) -> anyhow::Result<Request> {
        let about_keys = |vault, request| Request::VaultKeys { vault, request };
        Ok(match self {
            Self::Add { vault, key: KeyHolder::Passphrase, escrow, retention, limits } => {
                let escrow = escrow.map(|file| crate::escrow::recipient(&file)).transpose()?;
                let passphrase = keys::new(&format!("passphrase of {vault}"))?;
                let retention_secs = retention.as_secs();
                let escrow = escrow.map(|recipient| recipient.0);
                let request = KeyRequest::Add { retention_secs, limits: limits.into(), passphrase, escrow };
                Request::VaultKeys { vault, request }
            }
            Self::Add { key: KeyHolder::Managed, escrow: Some(_), .. } => {
                anyhow::bail!("an escrow is for vaults whose key the customer holds: --key passphrase")
            }
            Self::Unlock { vault, time } => {
                let request = KeyRequest::Unlock { passphrase: keys::present(&vault)?, secs: time.as_secs() };
                Request::VaultKeys { vault, request }
            }
            Self::Lock { vault } => about_keys(vault, KeyRequest::Lock),
            Self::Slots { vault } => about_keys(vault, KeyRequest::Slots),
            Self::Slot(command) => command.into_request()?,
            Self::Add { vault, key: KeyHolder::Managed, escrow: None, retention, limits } => {
                Request::VaultAdd { vault, retention_secs: retention.as_secs(), limits: limits.into() }
            }
            Self::Set { vault, limits } => Request::VaultSet { vault, limits: limits.into() },
            Self::List => Request::VaultList,
            Self::Show { vault } => Request::VaultShow { vault },
            Self::Snapshot { vault, name, delete: true, .. } => Request::VaultSnapshotDelete { vault, name },
            Self::Snapshot { vault, name, keep, delete: false } => {
                Request::VaultSnapshot { vault, name, keep_secs: keep.map(|keep| keep.as_secs().max(1)) }
            }
            Self::Snapshots { vault } => Request::VaultSnapshots { vault },
            Self::Locks { vault } => Request::VaultLocks { vault },
            Self::BreakLock { vault, number } => Request::VaultBreakLock { vault, number },
            Self::Restore { vault, path, at, to } => Request::VaultRestore { vault, path, at, to },
            Self::Retention { vault, retention } => {
                Request::VaultRetention { vault, retention_secs: retention.as_secs() }
            }
            Self::Hold { vault, path, reason } => Request::VaultHold { vault, path, reason },
            Self::Lift { vault, number } => Request::VaultLift { vault, number },
            Self::Erase { vault, confirm, backups, certificate: _ } => {
                Request::VaultErase { vault, confirm, backups }
            }
            Self::Compression { vault, setting } => {
                Request::VaultCompression { vault, on: setting == CompressionSetting::Lz4 }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
