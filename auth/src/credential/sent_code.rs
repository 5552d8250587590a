//! Codes that are sent to a phone or a mailbox: six digits, good for some minutes, for few tries, once. Kept in memory: a
//! restart ends those under way, and the user asks for another.

use std::collections::HashMap;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::UserId;
use crate::limits::{SENT_CODE_REST_SECS, SENT_CODE_SECS, SENT_CODE_TRIES, SENT_CODES_MAX};

const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// A code on its way to its user.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SentCode([u8; DIGITS]);

impl std::fmt::Debug for SentCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SentCode(..)")
    }
}

impl SentCode {
    fn generate() -> Result<Self, getrandom::Error> {
        loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes)?;
            let number = u32::from_le_bytes(bytes);
            // Above the largest multiple some codes would be likelier.
            if number < u32::MAX - u32::MAX % MODULUS {
                let mut digits = [b'0'; DIGITS];
                let mut left = number % MODULUS;
                for digit in digits.iter_mut().rev() {
                    *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
                    left /= 10;
                }
                return Ok(Self(digits));
            }
        }
    }

    /// The digits, for who sends them.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Outstanding {
    /// Nothing once it was used or its tries are gone.
    code: Option<SentCode>,
    sent: i64,
    tries: u32,
}

/// Why no code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendRefusal {
    /// One went out a moment ago.
    #[error("a code was sent a moment ago: wait for it, or try again in {0} s")]
    Recent(u64),
    /// Too many are under way.
    #[error("too many codes are under way: try again in some minutes")]
    Crowded,
    /// Nothing to draw from.
    #[error("the system has no randomness to give")]
    System,
}

/// Codes under way: one for each user.
#[derive(Debug, Default)]
pub struct SentCodes {
    outstanding: HashMap<UserId, Outstanding>,
}

impl SentCodes {
    /// Draws a code for a user at `now`, nanoseconds since 1970. It takes the place of one that is under way.
    ///
    /// # Errors
    /// [`SendRefusal`].
    pub fn issue(&mut self, user: UserId, now: i64) -> Result<SentCode, SendRefusal> {
        if let Some(known) = self.outstanding.get(&user) {
            let rest = known.sent.saturating_add(SENT_CODE_REST_SECS.saturating_mul(SECOND));
            if let Ok(left @ 1..) = u64::try_from(rest.saturating_sub(now)) {
                return Err(SendRefusal::Recent(left.div_ceil(SECOND.unsigned_abs())));
            }
        }
        self.outstanding.retain(|_, known| is_under_way(known, now));
        if self.outstanding.len() >= SENT_CODES_MAX && !self.outstanding.contains_key(&user) {
            return Err(SendRefusal::Crowded);
        }
        let code = SentCode::generate().map_err(|_| SendRefusal::System)?;
        let outstanding = Outstanding { code: Some(code.clone()), sent: now, tries: SENT_CODE_TRIES };
        self.outstanding.insert(user, outstanding);
        Ok(code)
    }

    /// Whether this is the code that is under way for a user. A right one is good once; a wrong one costs a try.
    pub fn redeem(&mut self, user: UserId, given: &str, now: i64) -> bool {
        let Some(known) = self.outstanding.get_mut(&user).filter(|known| is_under_way(known, now)) else {
            return false;
        };
        let typed: Vec<u8> = given.bytes().filter(|byte| *byte != b' ').take(DIGITS + 1).collect();
        let is_right = known.code.as_ref().is_some_and(|code| bool::from(code.0.as_slice().ct_eq(&typed)));
        known.tries = known.tries.saturating_sub(1);
        if is_right || known.tries == 0 {
            known.code = None;
        }
        is_right
    }
}

fn is_under_way(known: &Outstanding, now: i64) -> bool {
    now < known.sent.saturating_add(SENT_CODE_SECS.saturating_mul(SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId([1; 16]);
    const OTHER: UserId = UserId([2; 16]);

    fn wrong(code: &SentCode) -> String {
        let first = if code.expose().starts_with('0') { '1' } else { '0' };
        format!("{first}{}", &code.expose()[1..])
    }

    #[test]
    fn a_code_is_good_for_its_user_for_its_time_and_once() {
        let mut codes = SentCodes::default();
        let code = codes.issue(USER, 0).unwrap();
        assert_eq!(code.expose().len(), DIGITS);
        assert!(!codes.redeem(OTHER, code.expose(), 1));
        assert!(
            !codes.redeem(USER, code.expose(), SENT_CODE_SECS * SECOND),
            "dead at the instant it expires"
        );
        assert!(codes.redeem(USER, code.expose(), SENT_CODE_SECS * SECOND - 1));
        assert!(!codes.redeem(USER, code.expose(), 2), "once");
    }

    #[test]
    fn wrong_tries_are_counted_and_the_last_one_ends_the_code() {
        let mut codes = SentCodes::default();
        let code = codes.issue(USER, 0).unwrap();
        for _ in 1..SENT_CODE_TRIES {
            assert!(!codes.redeem(USER, &wrong(&code), 1));
        }
        assert!(codes.redeem(USER, &code.expose().replace(' ', ""), 1), "its last try");
        let later = SENT_CODE_REST_SECS * SECOND;
        let code = codes.issue(USER, later).unwrap();
        for _ in 0..SENT_CODE_TRIES {
            assert!(!codes.redeem(USER, &wrong(&code), later));
        }
        assert!(!codes.redeem(USER, code.expose(), later));
        for text in ["", "12345", "1234567", "٢٨٧٠٨٢"] {
            assert!(!codes.redeem(USER, text, later), "{text}");
        }
    }

    #[test]
    fn another_code_waits_a_moment_and_takes_the_first_ones_place() {
        let mut codes = SentCodes::default();
        let first = codes.issue(USER, 0).unwrap();
        assert_eq!(
            codes.issue(USER, SECOND),
            Err(SendRefusal::Recent(SENT_CODE_REST_SECS.unsigned_abs() - 1))
        );
        assert!(codes.issue(OTHER, SECOND).is_ok(), "others do not wait for it");
        let later = SENT_CODE_REST_SECS * SECOND;
        let second = codes.issue(USER, later).unwrap();
        assert!(first == second || !codes.redeem(USER, first.expose(), later));
        assert!(codes.redeem(USER, second.expose(), later));
        assert!(codes.issue(USER, later + 1).is_err(), "a used one does not end the rest");
    }

    #[test]
    fn how_many_are_under_way_is_bounded_and_old_ones_make_room() {
        let mut codes = SentCodes::default();
        for n in 0..SENT_CODES_MAX {
            let user = UserId(u128::try_from(n + 10).unwrap().to_be_bytes());
            assert!(codes.issue(user, 0).is_ok());
        }
        assert_eq!(codes.issue(USER, 1), Err(SendRefusal::Crowded));
        assert!(codes.issue(USER, SENT_CODE_SECS * SECOND).is_ok());
    }
}
