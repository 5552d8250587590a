//! App tokens: `cofr_`, 10 characters of identifier, 32 of secret (190 bit), 6 of CRC-32, all base62.
//!
//! The check sum lets a secret scanner find one and a typing error be told without asking the store. What is stored is an
//! HMAC; the secret has the entropy of a key, so that one MAC is enough.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::CredentialId;
use crate::limits::{TOKEN_DAYS_DEFAULT, TOKEN_DAYS_MAX};

/// How every token begins.
pub const PREFIX: &str = "cofr_";
const ID_CHARS: usize = 10;
const SECRET_CHARS: usize = 32;
const SUM_CHARS: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const DAY_SECS: u64 = 86_400;

/// Asked to live longer than a token may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token lives at most {TOKEN_DAYS_MAX} days")]
pub struct LifetimeError;

/// Seconds that a new token lives, when so many were asked for.
///
/// # Errors
/// [`LifetimeError`].
pub fn lifetime_secs(asked: Option<u64>) -> Result<u64, LifetimeError> {
    let secs = asked.unwrap_or_else(|| u64::from(TOKEN_DAYS_DEFAULT) * DAY_SECS);
    if secs > u64::from(TOKEN_DAYS_MAX) * DAY_SECS { Err(LifetimeError) } else { Ok(secs) }
}

/// A token's whole text.
#[derive(Clone, ZeroizeOnDrop)]
pub struct AppToken(String);

impl std::fmt::Debug for AppToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppToken(..)")
    }
}

fn base62(mut number: u64, digits: usize) -> String {
    let mut out = vec![b'0'; digits];
    for digit in out.iter_mut().rev() {
        *digit = usize::try_from(number % 62).ok().and_then(|at| BASE62.get(at)).copied().unwrap_or(b'0');
        number /= 62;
    }
    out.into_iter().map(char::from).collect()
}

/// Random base62 characters, each equally likely.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn random_text(chars: usize) -> Result<String, getrandom::Error> {
    let mut out = String::with_capacity(chars);
    let mut pool = [0; 64];
    while out.len() < chars {
        getrandom::fill(&mut pool)?;
        // 248 is the largest multiple of 62 in a byte: above it some characters would be likelier.
        let fair =
            pool.iter().filter(|byte| **byte < 248).filter_map(|byte| BASE62.get(usize::from(*byte % 62)));
        out.extend(fair.take(chars - out.len()).map(|letter| char::from(*letter)));
    }
    pool.zeroize();
    Ok(out)
}

impl AppToken {
    /// Draws a token.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut text = String::with_capacity(PREFIX.len() + ID_CHARS + SECRET_CHARS + SUM_CHARS);
        text.push_str(PREFIX);
        text.push_str(&random_text(ID_CHARS)?);
        let mut secret = random_text(SECRET_CHARS)?;
        text.push_str(&secret);
        secret.zeroize();
        let sum = base62(u64::from(crc32fast::hash(text.as_bytes())), SUM_CHARS);
        text.push_str(&sum);
        Ok(Self(text))
    }

    /// Reads what a client sent; nothing when it cannot be a token.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(PREFIX)?;
        if body.len() != ID_CHARS + SECRET_CHARS + SUM_CHARS
            || !body.bytes().all(|byte| BASE62.contains(&byte))
        {
            return None;
        }
        let (signed, sum) = text.split_at_checked(text.len() - SUM_CHARS)?;
        (base62(u64::from(crc32fast::hash(signed.as_bytes())), SUM_CHARS) == sum)
            .then(|| Self(text.to_owned()))
    }

    /// The part that is not secret.
    pub fn id(&self) -> CredentialId {
        CredentialId(self.0.get(PREFIX.len()..PREFIX.len() + ID_CHARS).unwrap_or_default().to_owned())
    }

    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn mac(&self, key: &[u8; 32]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), self.0.as_bytes());
        let mut mac = [0; 32];
        mac.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        mac
    }

    /// Whether it is the token of a stored MAC; compares in constant time.
    pub fn matches(&self, key: &[u8; 32], stored: &[u8; 32]) -> bool {
        self.mac(key).ct_eq(stored).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_reads_back_and_matches_its_own_mac_only() {
        let (token, other) = (AppToken::generate().unwrap(), AppToken::generate().unwrap());
        let again = AppToken::parse(token.expose()).unwrap();
        assert_eq!(again.id(), token.id());
        assert_eq!(token.id().0.len(), 10);
        assert!(again.matches(&[7; 32], &token.mac(&[7; 32])));
        assert!(!other.matches(&[7; 32], &token.mac(&[7; 32])));
        assert!(!again.matches(&[8; 32], &token.mac(&[7; 32])));
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn a_token_with_any_character_changed_is_no_token() {
        let token = AppToken::generate().unwrap();
        for at in 0..token.expose().len() {
            let mut changed = token.expose().as_bytes().to_vec();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(AppToken::parse(std::str::from_utf8(&changed).unwrap()).is_none(), "character {at}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_not_without_panic(text in "(cofr_)?[0-9A-Za-z_é]{0,60}") { drop(AppToken::parse(&text)); }
    }

    #[test]
    fn a_token_lives_a_month_unless_asked_and_a_year_at_most() {
        assert_eq!(lifetime_secs(None), Ok(30 * 86_400));
        assert_eq!(lifetime_secs(Some(365 * 86_400)), Ok(365 * 86_400));
        assert_eq!(lifetime_secs(Some(365 * 86_400 + 1)), Err(LifetimeError));
    }
}
