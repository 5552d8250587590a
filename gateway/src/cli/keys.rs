//! Commands about the keys of customer-held vaults. Passphrases come from the terminal, or line by line from standard input;
//! never from the command line, which other users of the machine see.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Subcommand;
use coffre_storage::keys::Passphrase;

use crate::admin::{KeyRequest, Request, SecretText};
use crate::escrow;
use crate::limits::PASSPHRASE_BYTES_MAX;

/// Key slots of a customer-held vault.
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// Add a second passphrase; asks for a present one first.
    AddPassphrase {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// Put a new passphrase in the place of a present one, in one step.
    Change {
        /// `CUSTOMER/VAULT`.
        vault: String,
    },
    /// Let the owner of an offline key open the vault too; asks for a present passphrase.
    AddEscrow {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The `.pub` file of `coffre escrow keygen`.
        recipient: PathBuf,
    },
    /// Take a slot away.
    Remove {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// As shown by `vault slots`.
        slot: u64,
        /// The vault's name once more, to remove the last way into it: nobody will ever read it again.
        #[arg(long, value_name = "CUSTOMER/VAULT")]
        confirm: Option<String>,
    },
}

/// Escrow: an offline key that opens a vault when its passphrases are lost.
#[derive(Debug, Subcommand)]
pub enum EscrowCommand {
    /// Make a key, on a machine without a network: FILE is private, `FILE.pub` goes to the gateway.
    Keygen {
        /// The private key's file.
        file: PathBuf,
        /// Without a passphrase: the file alone opens every vault that it is the escrow of.
        #[arg(long)]
        plain: bool,
    },
    /// On the gateway: write a vault's escrow slots into FILE, to be carried to the offline key.
    Envelope {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The envelope.
        file: PathBuf,
    },
    /// On the machine of the offline key: open an envelope and write the answer, the vault's key under a new passphrase.
    Open {
        /// The envelope.
        envelope: PathBuf,
        /// The private key's file.
        #[arg(long)]
        key: PathBuf,
        /// The answer.
        #[arg(long)]
        out: PathBuf,
    },
    /// On the gateway: take the answer; its passphrase opens the vault from now on.
    Restore {
        /// `CUSTOMER/VAULT`.
        vault: String,
        /// The answer.
        answer: PathBuf,
    },
}

fn keys(vault: String, request: KeyRequest) -> Request {
    Request::VaultKeys { vault, request }
}

impl SlotCommand {
    /// The request that it is.
    ///
    /// # Errors
    /// A passphrase or file that cannot be read.
    pub fn into_request(self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::AddPassphrase { vault } => {
                let passphrase = present(&vault)?;
                keys(vault, KeyRequest::AddPassphrase { passphrase, new: new("new passphrase")? })
            }
            Self::Change { vault } => {
                let passphrase = present(&vault)?;
                keys(vault, KeyRequest::Change { passphrase, new: new("new passphrase")? })
            }
            Self::AddEscrow { vault, recipient } => {
                let recipient = escrow::recipient(&recipient)?.0;
                let passphrase = present(&vault)?;
                keys(vault, KeyRequest::AddEscrow { passphrase, recipient })
            }
            Self::Remove { vault, slot, confirm } => {
                let confirmed = confirm.is_some_and(|confirm| confirm == vault);
                keys(vault, KeyRequest::Remove { number: slot, confirmed })
            }
        })
    }
}

impl EscrowCommand {
    /// The request that it is; what needs no store is done here.
    ///
    /// # Errors
    /// A passphrase or file that cannot be read or written; an envelope that is not for the key.
    pub fn into_request(self) -> anyhow::Result<Option<Request>> {
        match self {
            Self::Keygen { file, plain } => {
                let passphrase = if plain { None } else { Some(new("passphrase of the key")?) };
                let recipient = escrow::generate(&file, passphrase.map(|it| it.passphrase()).as_ref())?;
                say(&recipient)?;
                Ok(None)
            }
            Self::Envelope { vault, file: _ } => Ok(Some(keys(vault, KeyRequest::Envelope))),
            Self::Open { envelope, key, out } => {
                let key = escrow::key(&key, || Ok(ask("passphrase of the key")?.passphrase()))?;
                let passphrase: Passphrase = new("new passphrase of the vault")?.passphrase();
                let vault = escrow::open(&envelope, &key, &passphrase, &out)?;
                say(&format!("the key of vault {vault} is in {}", out.display()))?;
                Ok(None)
            }
            Self::Restore { vault, answer } => {
                let carried = escrow::answer(&answer)?;
                let passphrase = ask("passphrase of the answer")?;
                let answer = carried.slot.to_bytes()?;
                Ok(Some(keys(vault, KeyRequest::Restore { passphrase, of: carried.vault.0, answer })))
            }
        }
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// A passphrase that opens the vault now.
pub(super) fn present(vault: &str) -> anyhow::Result<SecretText> {
    ask(&format!("passphrase of {vault}"))
}

/// A passphrase that will be needed: asked for twice where somebody types.
pub(super) fn new(what: &str) -> anyhow::Result<SecretText> {
    let first = ask(what)?;
    if std::io::stdin().is_terminal() {
        ensure!(ask(&format!("{what}, again"))? == first, "the two are not the same");
    }
    Ok(first)
}

fn ask(what: &str) -> anyhow::Result<SecretText> {
    if std::io::stdin().is_terminal() {
        return Ok(SecretText::new(rpassword::prompt_password(format!("{what}: "))?));
    }
    // Byte by byte: the next line is somebody else's.
    let mut line = zeroize::Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    let (mut stdin, mut byte) = (std::io::stdin().lock(), zeroize::Zeroizing::new([0]));
    while stdin.read(byte.as_mut_slice())? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
        ensure!(line.len() <= PASSPHRASE_BYTES_MAX, "a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes");
    }
    ensure!(!line.is_empty(), "standard input holds no {what}");
    let text = std::str::from_utf8(&line).with_context(|| format!("the {what} is not UTF-8"))?;
    Ok(SecretText::new(text.trim_end_matches('\r').to_owned()))
}
