//! Recovery codes: for the day on which the device that shows one-time codes is gone. Each is good once.
//!
//! A code has 10 characters of an alphabet without look-alikes (50 bit). It stands only beside another factor, and guesses
//! are slowed down, so that a MAC is enough of it to keep.

use aws_lc_rs::hmac;
use minicbor::bytes::ByteArray;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::RECOVERY_CODES;

const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
const CHARS: usize = 10;
const GROUP: usize = 5;

/// One code's text, to be shown once.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode(String);

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(..)")
    }
}

impl RecoveryCode {
    /// Draws one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; CHARS];
        getrandom::fill(&mut bytes)?;
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
        let text = letters.map(|letter| char::from(*letter)).collect();
        bytes.zeroize();
        Ok(Self(text))
    }

    /// Draws as many as a user gets at a time.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate_all() -> Result<Vec<Self>, getrandom::Error> {
        (0..RECOVERY_CODES).map(|_| Self::generate()).collect()
    }

    /// Reads what somebody typed: any case, with or without the groups' separator; nothing when it cannot be a code.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 2 * CHARS {
            return None;
        }
        let letters: String = text
            .chars()
            .filter(|letter| !matches!(letter, ' ' | '-'))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let is_code = letters.len() == CHARS && letters.bytes().all(|byte| ALPHABET.contains(&byte));
        is_code.then_some(Self(letters))
    }

    /// The code in two groups.
    pub fn expose(&self) -> String {
        let (first, second) = self.0.split_at_checked(GROUP).unwrap_or((&self.0, ""));
        format!("{first}-{second}")
    }

    /// What is stored of it.
    pub fn mac(&self, key: &[u8; 32]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), self.0.as_bytes());
        let mut mac = [0; 32];
        mac.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        mac
    }

    /// Which of the stored MACs is this code's. All are compared, each in constant time.
    pub fn place(&self, key: &[u8; 32], stored: &[ByteArray<32>]) -> Option<usize> {
        let mac = self.mac(key);
        stored.iter().enumerate().fold(None, |found, (at, one)| {
            if bool::from(one.as_slice().ct_eq(&mac)) { Some(at) } else { found }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_among_those_kept_however_it_is_typed() {
        let (key, codes) = ([7; 32], RecoveryCode::generate_all().unwrap());
        assert_eq!(codes.len(), RECOVERY_CODES);
        let stored: Vec<ByteArray<32>> = codes.iter().map(|code| code.mac(&key).into()).collect();
        for (at, code) in codes.iter().enumerate() {
            let shown = code.expose();
            assert_eq!((shown.len(), shown.as_bytes()[GROUP]), (CHARS + 1, b'-'));
            for typed in
                [shown.clone(), shown.replace('-', ""), shown.to_uppercase(), shown.replace('-', " ")]
            {
                assert_eq!(RecoveryCode::parse(&typed).unwrap().place(&key, &stored), Some(at), "{typed}");
            }
            assert_eq!(code.place(&[8; 32], &stored), None, "another gateway's");
            assert!(!format!("{code:?}").contains(&shown[..GROUP]));
        }
    }

    #[test]
    fn what_is_no_code_is_not_read() {
        for text in ["", "abcde-fghi", "abcde-fghij-k", "abcde-fghoj", &"a".repeat(1000), "éééééé"] {
            assert!(RecoveryCode::parse(text).is_none(), "{text}");
        }
        assert!(RecoveryCode::parse("abcde-fghij").is_some());
        assert!(RecoveryCode::parse("abcde-fgh0j").is_none(), "no look-alikes");
    }
}
