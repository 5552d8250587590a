//! SSH public keys: which are taken, and their form in the store.

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};

use crate::limits::RSA_BITS_MIN;

/// Why a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an OpenSSH public key.
    #[error("this is not an OpenSSH public key")]
    Unreadable,
    /// A private key where a public one was asked for.
    #[error("this is a private key; register the public one (the file ending in .pub)")]
    Private,
    /// A kind that is not taken.
    #[error("keys of this kind are not accepted; use Ed25519, ECDSA or RSA of at least 3072 bits")]
    Kind,
    /// Too short.
    #[error("an RSA key needs at least 3072 bits, this one has {0}")]
    RsaBits(usize),
    /// Certificates are not keys.
    #[error("an SSH certificate cannot be registered as a key")]
    Certificate,
}

/// A public key of a kind that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedKey {
    /// RFC 4253 section 6.6 encoding.
    pub bytes: Vec<u8>,
    /// `SHA256:...`
    pub fingerprint: String,
}

impl AcceptedKey {
    /// Whether a FIDO security key holds it (`sk-...`).
    pub fn is_security_key(&self) -> bool {
        // A name's length, then the name.
        self.bytes.get(4..).is_some_and(|name| name.starts_with(b"sk-"))
    }
}

/// Whether a key is of a kind that is taken.
///
/// # Errors
/// [`KeyError`].
pub fn accept(key: &KeyData) -> Result<AcceptedKey, KeyError> {
    match key {
        // What a security key signs says whether it was touched, and nobody looks: it is worth what a key in a file is worth.
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {}
        KeyData::Rsa(rsa) => {
            let modulus = rsa.n().as_positive_bytes().unwrap_or_default();
            let zeros = modulus.first().map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0));
            let bits = (modulus.len() * 8).saturating_sub(zeros);
            if bits < RSA_BITS_MIN {
                return Err(KeyError::RsaBits(bits));
            }
        }
        KeyData::Dsa(_)
        | KeyData::Certificate(_)
        | KeyData::Other(_)
        // The type may grow; what is not known is not taken.
        | _ => return Err(KeyError::Kind),
    }
    let public = PublicKey::new(key.clone(), "");
    let bytes = public.to_bytes().map_err(|_| KeyError::Unreadable)?;
    Ok(AcceptedKey { bytes, fingerprint: public.fingerprint(HashAlg::Sha256).to_string() })
}

/// Reads the first key of an OpenSSH public key file.
///
/// # Errors
/// [`KeyError`].
pub fn parse(text: &str) -> Result<AcceptedKey, KeyError> {
    if text.contains("PRIVATE KEY") {
        return Err(KeyError::Private);
    }
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .ok_or(KeyError::Unreadable)?;
    if line.split_whitespace().next().is_some_and(|kind| kind.contains("-cert-")) {
        return Err(KeyError::Certificate);
    }
    accept(PublicKey::from_openssh(line).map_err(|_| KeyError::Unreadable)?.key_data())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";

    #[test]
    fn an_ed25519_key_is_taken_and_keeps_its_fingerprint() {
        let key = parse(&format!("# a comment\n{ED25519}\n")).unwrap();
        assert!(key.fingerprint.starts_with("SHA256:"));
        assert_eq!(parse(ED25519).unwrap(), key);
    }

    #[test]
    fn keys_of_security_keys_are_taken_and_known_as_such() {
        let ed25519 = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqtiAAAABHNzaDo= x";
        assert!(parse(ed25519).unwrap().is_security_key());
        assert!(!parse(ED25519).unwrap().is_security_key());
    }

    #[test]
    fn what_is_no_public_key_is_refused_by_name() {
        assert_eq!(parse(""), Err(KeyError::Unreadable));
        assert_eq!(parse("ssh-ed25519 AAAA"), Err(KeyError::Unreadable));
        assert_eq!(parse("-----BEGIN OPENSSH PRIVATE KEY-----"), Err(KeyError::Private));
        assert_eq!(parse("ssh-ed25519-cert-v01@openssh.com AAAA"), Err(KeyError::Certificate));
    }
}
