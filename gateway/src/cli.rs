//! The command line: its words and their types. What they do is in [`crate::admin`], [`crate::serve`] and [`crate::setup`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use coffre_auth::RightsSet;
use ipnet::IpNet;
use jiff::SignedDuration;

use crate::admin::Request;

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
    /// Check the store: structure, references, quota.
    Check {
        /// Read and open every stored frame too.
        #[arg(long)]
        read_data: bool,
    },
    /// Figures of the store and its sessions.
    Status,
}

/// Customers.
#[derive(Debug, Subcommand)]
pub enum CustomerCommand {
    /// Add a customer.
    Add {
        /// Its name.
        name: String,
        /// Users it may have.
        #[arg(long, value_name = "N")]
        users_max: Option<u32>,
        /// Bytes it may store, such as `10G`.
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        bytes_max: Option<u64>,
        /// When its contract ends (RFC 3339 time or date).
        #[arg(long, value_name = "DATE", value_parser = parse_moment)]
        expires: Option<i64>,
    },
    /// List customers.
    List,
}

/// Vaults.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Add a vault.
    Add {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// Who holds the key.
        #[arg(long, value_enum, default_value = "managed")]
        key: KeyHolder,
        /// How long superseded states are kept, such as `30d`.
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
        retention: Duration,
    },
    /// List vaults.
    List,
    /// Show one vault.
    Show {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
}

/// Who holds a vault's key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyHolder {
    /// The gateway.
    Managed,
}

/// Users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user.
    Add {
        /// `CUSTOMER/USER`.
        user: String,
        /// `PATH=VAULT[:SUBPATH][,rights]`; the vault is `CUSTOMER/VAULT` or `VAULT` of the same customer; rights are
        /// `read-only`, `append-only` or `read-write`.
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

/// Credentials.
#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// Register an SSH public key.
    AddKey {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
        /// OpenSSH public key file; `-` reads standard input.
        file: PathBuf,
        /// An unattended machine's key; needs `--from`.
        #[arg(long, requires = "from")]
        machine: bool,
        /// What it may do and from where.
        #[command(flatten)]
        scope: Scope,
    },
    /// Issue an app token; it is shown once.
    AddToken {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
        /// What it may do and from where.
        #[command(flatten)]
        scope: Scope,
    },
    /// List credentials.
    List {
        /// Of this user only.
        user: Option<String>,
    },
    /// Revoke a credential: its sessions end.
    Revoke {
        /// As shown by `credential list`.
        id: String,
    },
}

/// What a credential may do, from where, until when.
#[derive(Debug, Args)]
pub struct Scope {
    /// At most these rights: `read-only`, `append-only` or `read-write`.
    #[arg(long, value_name = "SET", value_parser = parse_rights)]
    pub rights: Option<RightsSet>,
    /// Only from these networks.
    #[arg(long, value_name = "CIDR")]
    pub from: Vec<IpNet>,
    /// For this long, such as `30d`.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// The newest records.
    Tail {
        /// How many.
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
        lines: u32,
    },
    /// Verify records and signed checkpoints, of the store or of a copy.
    Verify {
        /// A store directory or a copy of one, read offline; without it the data directory's.
        directory: Option<PathBuf>,
    },
}

/// `10G`, `512M`, `1T`, `1000`: powers of 1024.
///
/// # Errors
/// Anything else.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("`{unit}` is no unit; use K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "a size is a number and a unit, such as 10G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

/// `30d`, `12h`, `1s`, `1d 12h`.
///
/// # Errors
/// Anything else; durations that are not positive.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span =
        text.parse().map_err(|_| "a duration is a number and a unit, such as 30d".to_owned())?;
    let duration: SignedDuration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "a duration has weeks, days, hours, minutes and seconds".to_owned())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a duration is positive".to_owned())
}

/// RFC 3339, or a date meaning its first moment in UTC; nanoseconds since 1970.
///
/// # Errors
/// Anything else.
pub fn parse_moment(text: &str) -> Result<i64, String> {
    let bad = || "a time is RFC 3339 such as 2027-01-31T00:00:00Z, or a date".to_owned();
    let moment: jiff::Timestamp = if let Ok(moment) = text.parse() {
        moment
    } else {
        let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
        date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?.timestamp()
    };
    i64::try_from(moment.as_nanosecond()).map_err(|_| bad())
}

/// `read-only`, `append-only`, `read-write`.
///
/// # Errors
/// Anything else.
pub fn parse_rights(text: &str) -> Result<RightsSet, String> {
    match text {
        "read-only" => Ok(RightsSet::ReadOnly),
        "append-only" => Ok(RightsSet::AppendOnly),
        "read-write" => Ok(RightsSet::ReadWrite),
        _ => Err("rights are read-only, append-only or read-write".to_owned()),
    }
}

impl Command {
    /// The request to the admin service that this command is; nothing for those that are not one.
    ///
    /// # Errors
    /// A key file that cannot be read.
    pub fn into_request(self) -> anyhow::Result<Option<Request>> {
        Ok(Some(match self {
            Self::Quickstart { .. }
            | Self::Init
            | Self::Serve { .. }
            | Self::Audit(AuditCommand::Verify { directory: Some(_) }) => return Ok(None),
            Self::Customer(CustomerCommand::Add { name, users_max, bytes_max, expires }) => {
                Request::CustomerAdd { name, users_max, bytes_max, expires }
            }
            Self::Customer(CustomerCommand::List) => Request::CustomerList,
            Self::Vault(VaultCommand::Add { vault, key: KeyHolder::Managed, retention }) => {
                Request::VaultAdd { vault, retention_secs: retention.as_secs() }
            }
            Self::Vault(VaultCommand::List) => Request::VaultList,
            Self::Vault(VaultCommand::Show { vault }) => Request::VaultShow { vault },
            Self::User(UserCommand::Add { user, mounts }) => Request::UserAdd { user, mounts },
            Self::User(UserCommand::List) => Request::UserList,
            Self::User(UserCommand::Disable { user }) => Request::UserDisable { user },
            Self::User(UserCommand::Enable { user }) => Request::UserEnable { user },
            Self::User(UserCommand::Delete { user }) => Request::UserDelete { user },
            Self::Credential(CredentialCommand::AddKey { user, file, machine, scope }) => {
                let key = if file.as_os_str() == "-" {
                    std::io::read_to_string(std::io::stdin())?
                } else {
                    std::fs::read_to_string(&file)
                        .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?
                };
                Request::CredentialAddKey { user, key, machine, scope: scope.into() }
            }
            Self::Credential(CredentialCommand::AddToken { user, scope }) => {
                Request::CredentialAddToken { user, scope: scope.into() }
            }
            Self::Credential(CredentialCommand::List { user }) => Request::CredentialList { user },
            Self::Credential(CredentialCommand::Revoke { id }) => Request::CredentialRevoke { id },
            Self::Audit(AuditCommand::Tail { lines }) => Request::AuditTail { lines },
            Self::Audit(AuditCommand::Verify { directory: None }) => Request::AuditVerify,
            Self::Check { read_data } => Request::Check { read_data },
            Self::Status => Request::Status,
        }))
    }
}

impl From<Scope> for crate::admin::Scope {
    fn from(scope: Scope) -> Self {
        Self {
            rights: scope.rights.map(|rights| rights_name(rights).to_owned()),
            from: scope.from.iter().map(ToString::to_string).collect(),
            expires_secs: scope.expires.map(|expires| expires.as_secs().max(1)),
        }
    }
}

/// A rights set as people write it.
pub fn rights_name(rights: RightsSet) -> &'static str {
    match rights {
        RightsSet::ReadOnly => "read-only",
        RightsSet::AppendOnly => "append-only",
        RightsSet::ReadWrite => "read-write",
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

    #[test]
    fn sizes_durations_and_moments_read_as_people_write_them() {
        assert_eq!(parse_size("10G"), Ok(10 << 30));
        assert_eq!(parse_size("1000"), Ok(1000));
        assert!(
            parse_size("10X").is_err() && parse_size("G").is_err() && parse_size("99999999999T").is_err()
        );
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 86400)));
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        assert!(
            parse_duration("0s").is_err()
                && parse_duration("-1d").is_err()
                && parse_duration("soon").is_err()
        );
        assert_eq!(parse_moment("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(parse_moment("tomorrow").is_err());
    }
}
