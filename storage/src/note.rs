//! Signed notes (C2SP signed-note, Ed25519): a text that says by itself who wrote it.
//!
//! ```text
//! <first line: the origin>
//! <more lines>
//!
//! — <origin> <base64 of key id (4) || signature (64)>
//! ```

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::secret::Secret32;

/// The public key of a signing seed.
pub fn public_key(seed: &Secret32) -> Option<[u8; 32]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
    pair.public_key().as_ref().try_into().ok()
}

/// The first bytes of SHA-256(origin || 0x0A || 0x01 || key).
fn key_id(origin: &str, public: &[u8; 32]) -> [u8; 4] {
    let hash = digest(&SHA256, &[origin.as_bytes(), b"\n\x01", public].concat());
    let mut id = [0; 4];
    id.copy_from_slice(&hash.as_ref()[..4]);
    id
}

/// The verifier line of a key: `origin+id+base64(0x01 || key)` and a newline.
pub fn verifier(origin: &str, public: &[u8; 32]) -> String {
    let id = format!("{:08x}", u32::from_be_bytes(key_id(origin, public)));
    format!("{origin}+{id}+{}\n", BASE64.encode([&[1], public.as_slice()].concat()))
}

/// Reads a verifier line of that origin.
pub fn parse_verifier(origin: &str, line: &str) -> Option<[u8; 32]> {
    let (name, rest) = line.trim_end().split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let key = BASE64.decode(key).ok()?;
    let public: [u8; 32] = key.strip_prefix(&[1])?.try_into().ok()?;
    let expected = format!("{:08x}", u32::from_be_bytes(key_id(origin, &public)));
    (name == origin && id == expected).then_some(public)
}

/// Signs a body, whose first line must be `origin` and which must end with a newline and hold no empty line; nothing when
/// the seed is no key.
pub fn sign(origin: &str, body: &str, seed: &Secret32) -> Option<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
    let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
    let signature = pair.sign(body.as_bytes());
    let line = BASE64.encode([&key_id(origin, &public)[..], signature.as_ref()].concat());
    Some(format!("{body}\n\u{2014} {origin} {line}\n"))
}

/// Why a note is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It names another key.
    #[error("it was signed with another key")]
    OtherKey,
    /// It is no note, or not as it was signed.
    #[error("it is not as it was signed")]
    Damaged,
}

/// The body of a note that the key signed.
///
/// # Errors
/// [`NoteError`].
pub fn verify<'n>(origin: &str, note: &'n str, public: &[u8; 32]) -> Result<&'n str, NoteError> {
    let damaged = || NoteError::Damaged;
    let at = note.find("\n\n").ok_or_else(damaged)?;
    let (body, line) = (&note[..=at], &note[at + 2..]);
    let line = line.strip_prefix('\u{2014}').and_then(|line| line.strip_prefix(' '));
    let line = line.and_then(|line| line.strip_prefix(origin)?.strip_prefix(' ')).ok_or_else(damaged)?;
    let signature = BASE64.decode(line.strip_suffix('\n').ok_or_else(damaged)?).map_err(|_| damaged())?;
    let (id, signature) = signature.split_first_chunk::<4>().ok_or_else(damaged)?;
    if *id != key_id(origin, public) {
        return Err(NoteError::OtherKey);
    }
    UnparsedPublicKey::new(&ED25519, public).verify(body.as_bytes(), signature).map_err(|_| damaged())?;
    (body.lines().next() == Some(origin)).then_some(body).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_taken_only_as_it_was_signed_and_only_from_its_key() {
        let (seed, other) = (Secret32::new([3; 32]), Secret32::new([4; 32]));
        let public = public_key(&seed).unwrap();
        let note = sign("coffre/test", "coffre/test\nline\n", &seed).unwrap();
        assert_eq!(verify("coffre/test", &note, &public), Ok("coffre/test\nline\n"));
        assert_eq!(verify("coffre/other", &note, &public), Err(NoteError::Damaged));
        assert_eq!(verify("coffre/test", &note, &public_key(&other).unwrap()), Err(NoteError::OtherKey));
        let line = verifier("coffre/test", &public);
        assert_eq!(parse_verifier("coffre/test", &line), Some(public));
        assert_eq!(parse_verifier("coffre/other", &line), None);
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(verify("coffre/test", &changed, &public).is_err(), "byte {at}");
            }
        }
    }
}
