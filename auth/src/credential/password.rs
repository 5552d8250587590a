//! Passwords: Argon2id (RFC 9106), never enough alone. What is easily guessed is not taken.

use argon2::{Algorithm, Argon2, Params, Version};
use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;
use zxcvbn::{Score, zxcvbn};

use crate::limits::{
    PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PASSWORD_LANES, PASSWORD_MEMORY_KIB, PASSWORD_MEMORY_KIB_MAX,
    PASSWORD_PASSES, PASSWORD_PASSES_MAX,
};

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters")]
    Short,
    /// Too long.
    #[error("a password has at most {PASSWORD_BYTES_MAX} bytes")]
    Long,
    /// Guessed within hours by who has its hash: a word, a name, a pattern, one of the passwords that are in every list.
    #[error(
        "this password is easily guessed: take a longer one, of words that have nothing to do with each other"
    )]
    Weak,
    /// Nothing to draw from, or no memory.
    #[error("the system has no randomness or no memory to give")]
    System,
}

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredPassword {
    #[cbor(n(0), with = "minicbor::bytes")]
    salt: [u8; 16],
    #[cbor(n(1), with = "minicbor::bytes")]
    hash: [u8; 32],
    #[n(2)]
    memory_kib: u32,
    #[n(3)]
    passes: u32,
    #[n(4)]
    lanes: u32,
}

/// Whether a password may be set; `about` are words that an attacker tries first: names of the user and its customer.
///
/// # Errors
/// [`PasswordError`].
pub fn accept(password: &str, about: &[&str]) -> Result<(), PasswordError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::Long);
    }
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(PasswordError::Short);
    }
    match zxcvbn(password, about).score() {
        Score::Four => Ok(()),
        // The type may grow; what is not known to be strong is not.
        Score::Zero | Score::One | Score::Two | Score::Three | _ => Err(PasswordError::Weak),
    }
}

impl StoredPassword {
    /// Hashes a password: about 19 MiB and 20 ms of a core.
    ///
    /// # Errors
    /// [`PasswordError::System`].
    pub fn new(password: &str) -> Result<Self, PasswordError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| PasswordError::System)?;
        let (memory_kib, passes, lanes) = (PASSWORD_MEMORY_KIB, PASSWORD_PASSES, PASSWORD_LANES);
        let mut stored = Self { salt, hash: [0; 32], memory_kib, passes, lanes };
        stored.hash = stored.computed(password).ok_or(PasswordError::System)?;
        Ok(stored)
    }

    /// One that no password opens and that costs the same: for names that nobody has.
    pub fn of_nobody() -> Self {
        let (memory_kib, passes, lanes) = (PASSWORD_MEMORY_KIB, PASSWORD_PASSES, PASSWORD_LANES);
        Self { salt: [0; 16], hash: [0; 32], memory_kib, passes, lanes }
    }

    fn computed(&self, password: &str) -> Option<[u8; 32]> {
        if self.memory_kib > PASSWORD_MEMORY_KIB_MAX || self.passes > PASSWORD_PASSES_MAX {
            return None;
        }
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut hash = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(password.as_bytes(), &self.salt, &mut hash)
            .ok()?;
        Some(hash)
    }

    /// Whether this is the password. Costs what hashing costs, whatever the answer; an empty or overlong one is none.
    pub fn is(&self, password: &str) -> bool {
        let is_possible = !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX;
        let Some(mut hash) = self.computed(if is_possible { password } else { "" }) else { return false };
        let is_right = bool::from(hash.ct_eq(&self.hash));
        hash.zeroize();
        is_right && is_possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_what_it_was_set_for_and_nothing_else_does() {
        let stored = StoredPassword::new("wagon saffron lattice umbrella").unwrap();
        assert!(stored.is("wagon saffron lattice umbrella"));
        for other in ["wagon saffron lattice umbrell", "Wagon saffron lattice umbrella", "", "\0"] {
            assert!(!stored.is(other), "{other:?}");
        }
        assert!(!stored.is(&"a".repeat(PASSWORD_BYTES_MAX + 1)));
        assert_ne!(stored, StoredPassword::new("wagon saffron lattice umbrella").unwrap(), "salted");
        let bytes = minicbor::to_vec(&stored).unwrap();
        assert_eq!(minicbor::decode::<StoredPassword>(&bytes).unwrap(), stored);
    }

    #[test]
    fn nobody_has_no_password_not_even_an_empty_one() {
        let nobody = StoredPassword::of_nobody();
        assert!(!nobody.is("") && !nobody.is("wagon saffron lattice umbrella"));
        let empty = StoredPassword::new("").unwrap();
        assert!(!empty.is(""), "an empty password never opens anything, even where one is stored");
    }

    #[test]
    fn what_is_easily_guessed_is_not_taken() {
        let about = ["dupont", "clinic"];
        for (password, answer) in [
            ("", Err(PasswordError::Short)),
            ("short pw", Err(PasswordError::Short)),
            ("password1234", Err(PasswordError::Weak)),
            ("azertyuiop123", Err(PasswordError::Weak)),
            ("dupontclinic1", Err(PasswordError::Weak)),
            ("aaaaaaaaaaaaaaaaaaaa", Err(PasswordError::Weak)),
            ("wagon saffron lattice umbrella", Ok(())),
            ("kq7#Vw2!pZr9", Ok(())),
        ] {
            assert_eq!(accept(password, &about), answer, "{password}");
        }
        assert_eq!(accept(&"é".repeat(PASSWORD_BYTES_MAX), &about), Err(PasswordError::Long));
    }

    #[test]
    fn a_stored_cost_that_nobody_could_pay_is_not_paid() {
        let stored = StoredPassword { memory_kib: u32::MAX, ..StoredPassword::of_nobody() };
        assert!(!stored.is("anything"));
        let stored = StoredPassword { passes: u32::MAX, ..StoredPassword::of_nobody() };
        assert!(!stored.is("anything"));
    }
}
