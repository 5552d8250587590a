//! Files of an escrow: lines of a word that says what they are, and base64. The private key, its public half, the envelope in
//! which a gateway gives a vault's escrow slot out, and the answer: the same root key under a passphrase. Opening an envelope
//! needs no store and no network.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffre_storage::id::VaultId;
use coffre_storage::keys::{
    EscrowKey, EscrowRecipient, LockedEscrowKey, Passphrase, PassphraseSlot, Secret32, Slot,
};
use zeroize::Zeroizing;

use crate::limits::ESCROW_FILE_BYTES_MAX;

const RECIPIENT: &str = "coffre-escrow-recipient-1";
const KEY: &str = "coffre-escrow-key-1";
const LOCKED_KEY: &str = "coffre-escrow-locked-key-1";
const ENVELOPE: &str = "coffre-escrow-envelope-1";
const ANSWER: &str = "coffre-escrow-answer-1";

/// A slot of a vault, on its way between a gateway and an escrow.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Of which vault.
    pub vault: VaultId,
    /// The slot.
    pub slot: Slot,
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let length = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    ensure!(length <= ESCROW_FILE_BYTES_MAX, "{} is no file of an escrow: it is too long", file.display());
    Ok(Zeroizing::new(std::fs::read_to_string(file).with_context(|| file.display().to_string())?))
}

/// Writes a file that is not there yet, for its owner alone.
fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.with_context(|| file.display().to_string())?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    Ok(())
}

/// Makes a key. Its public half lies beside it, in `FILE.pub`, and is returned.
///
/// # Errors
/// A file that is there already; the system's.
pub fn generate(file: &Path, passphrase: Option<&Passphrase>) -> anyhow::Result<String> {
    let key = EscrowKey::generate()?;
    let recipient = format!("{RECIPIENT} {}\n", STANDARD.encode(key.recipient()?.0));
    let text = Zeroizing::new(match passphrase {
        Some(passphrase) => {
            format!("{LOCKED_KEY} {}\n", STANDARD.encode(minicbor::to_vec(key.lock(passphrase)?)?))
        }
        None => format!("{KEY} {}\n", STANDARD.encode(key.expose().expose())),
    });
    write_new(file, &text)?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    write_new(Path::new(&public), &recipient)?;
    Ok(recipient.trim_end().to_owned())
}

/// Reads a recipient's file.
///
/// # Errors
/// Another file.
pub fn recipient(file: &Path) -> anyhow::Result<EscrowRecipient> {
    parse_recipient(&read(file)?).with_context(|| format!("{} is no recipient of an escrow", file.display()))
}

/// Reads a recipient's line.
pub fn parse_recipient(text: &str) -> Option<EscrowRecipient> {
    let encoded = text.trim().strip_prefix(RECIPIENT)?.trim();
    Some(EscrowRecipient(STANDARD.decode(encoded).ok()?.try_into().ok()?))
}

/// Reads a private key; asks for its passphrase where it has one.
///
/// # Errors
/// Another file; a wrong passphrase.
pub fn key(file: &Path, ask: impl FnOnce() -> anyhow::Result<Passphrase>) -> anyhow::Result<EscrowKey> {
    let text = read(file)?;
    let (word, encoded) = text.trim().split_once(' ').unwrap_or_default();
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).unwrap_or_default());
    match word {
        KEY => {
            let bytes = Zeroizing::new(<[u8; 32]>::try_from(decoded.as_slice()).context("a damaged key")?);
            Ok(EscrowKey::from_secret(Secret32::new(*bytes)))
        }
        LOCKED_KEY => {
            let locked: LockedEscrowKey = minicbor::decode(&decoded).context("a damaged key")?;
            locked.open(&ask()?).context("the escrow key does not open with this passphrase")
        }
        _ => bail!("{} is no private key of an escrow", file.display()),
    }
}

fn lines(word: &str, carried: &[Carried]) -> anyhow::Result<String> {
    let line = |Carried { vault, slot }: &Carried| {
        Ok(format!("{word} {vault} {}\n", STANDARD.encode(slot.to_bytes()?)))
    };
    carried.iter().map(line).collect()
}

fn parse(word: &str, text: &str) -> Vec<Carried> {
    let line = |line: &str| {
        let mut fields = line.strip_prefix(word)?.split_whitespace();
        let (vault, slot) = (fields.next()?, fields.next()?);
        let vault = VaultId(crate::units::parse_hex(vault)?);
        Some(Carried { vault, slot: Slot::from_bytes(&STANDARD.decode(slot).ok()?).ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// An envelope's text.
///
/// # Errors
/// None that a slot has.
pub fn envelope(carried: &[Carried]) -> anyhow::Result<String> {
    lines(ENVELOPE, carried)
}

/// Reads an answer.
///
/// # Errors
/// Another file.
pub fn answer(file: &Path) -> anyhow::Result<Carried> {
    let found = parse(ANSWER, &read(file)?).into_iter().next();
    found.with_context(|| format!("{} is no answer of an escrow", file.display()))
}

/// Opens an envelope and writes the answer: the root key under a new passphrase.
///
/// # Errors
/// An envelope that is not for this key; an answer that is there already.
pub fn open(envelope: &Path, key: &EscrowKey, passphrase: &Passphrase, to: &Path) -> anyhow::Result<VaultId> {
    let carried = parse(ENVELOPE, &read(envelope)?);
    ensure!(!carried.is_empty(), "{} is no envelope of an escrow", envelope.display());
    for Carried { vault, slot } in carried {
        if let Slot::Escrow(slot) = slot
            && let Ok(root) = slot.open(vault, key)
        {
            let slot = Slot::Passphrase(PassphraseSlot::seal(vault, &root, passphrase)?);
            write_new(to, &lines(ANSWER, &[Carried { vault, slot }])?)?;
            return Ok(vault);
        }
    }
    bail!("the envelope is not for this key")
}
