//! Words of `coffre credential`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use coffre_auth::RightsSet;
use coffre_auth::limits::PASSWORD_BYTES_MAX;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::CertificateCommand;
use crate::admin::{Request, Secret};
use crate::units::{parse_duration, parse_rights, rights_name};

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
        /// A key that was made on a smart card (PIV) and asks for a PIN: a strong credential by itself. Nothing here can verify that.
        #[arg(long, conflicts_with = "machine")]
        piv: bool,
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
    /// Set the password of a user, read from standard input: it never stands alone. An earlier one is revoked.
    AddPassword {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
    /// Add a device that shows one-time codes; its secret is shown once. It counts once `credential confirm` saw a code.
    AddTotp {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
    /// Confirm a device by a code that it shows.
    Confirm {
        /// As shown by `credential add-totp`.
        id: String,
        /// Six digits.
        code: String,
    },
    /// Give a user ten recovery codes, shown once, each good once in the place of a one-time code. Earlier ones are revoked.
    AddCodes {
        /// `USER` or `CUSTOMER/USER`.
        user: String,
    },
    /// Certificates.
    #[command(flatten)]
    Certificate(CertificateCommand),
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
    /// At most these rights: `read-only`, `append-only`, `drop-box` or `read-write`.
    #[arg(long, value_name = "SET", value_parser = parse_rights)]
    pub rights: Option<RightsSet>,
    /// Only from these networks.
    #[arg(long, value_name = "CIDR")]
    pub from: Vec<IpNet>,
    /// For this long, such as `30d`.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
}

impl CredentialCommand {
    pub(super) fn into_request(self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::AddKey { user, file, machine, piv, scope } => {
                let key = key_text(&file)?;
                Request::CredentialAddKey { user, key, machine, smart_card: piv, scope: scope.into() }
            }
            Self::AddToken { user, scope } => Request::CredentialAddToken { user, scope: scope.into() },
            Self::AddPassword { user } => Request::CredentialAddPassword { user, password: password()? },
            Self::AddTotp { user } => Request::CredentialAddTotp { user },
            Self::Confirm { id, code } => Request::CredentialConfirm { id, code },
            Self::AddCodes { user } => Request::CredentialAddCodes { user },
            Self::Certificate(command) => command.into_request()?,
            Self::List { user } => Request::CredentialList { user },
            Self::Revoke { id } => Request::CredentialRevoke { id },
        })
    }
}

/// A password from the terminal, which does not show it, or from standard input, without the end of its line: never an argument, which every process of the machine sees.
fn password() -> anyhow::Result<Secret> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Ok(Secret(rpassword::prompt_password("Password: ")?));
    }
    let mut text = Zeroizing::new(String::new());
    input.lock().take(PASSWORD_BYTES_MAX as u64 + 2).read_to_string(&mut text)?;
    Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The text of a public key file, or of standard input.
pub(super) fn key_text(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
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
