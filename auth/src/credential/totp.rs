//! One-time codes by the clock: RFC 6238 with what every authenticator app takes for granted (HMAC-SHA-1, 6 digits, 30 s).
//!
//! A code is good in its own step and in the one before and after it (RFC 6238 section 5.2), and never twice: who calls keeps
//! the step that was accepted last and gives it back.

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::TOTP_DRIFT_STEPS;

/// Bytes of a secret: as many as the hash has (RFC 4226 section 4, requirement 6).
pub const SECRET_BYTES: usize = 20;
/// Seconds of a step.
pub const STEP_SECS: i64 = 30;
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;

/// What the gateway and the user's device share.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TotpSecret([u8; SECRET_BYTES]);

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret(..)")
    }
}

impl<C> minicbor::Encode<C> for TotpSecret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        out.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for TotpSecret {
    fn decode(from: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = from.bytes()?.try_into();
        bytes.map(Self).map_err(|_| minicbor::decode::Error::message("not a secret of one-time codes"))
    }
}

impl TotpSecret {
    /// Draws a secret.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The secret in the letters that people type into an app (RFC 4648 base32), to be shown once.
    pub fn expose(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    /// What an authenticator app reads from a QR code, to be shown once.
    pub fn uri(&self, issuer: &str, account: &str) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (issuer, account) = (escaped(issuer), escaped(account));
        format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECS}",
            self.expose()
        )
    }

    /// The code of a step.
    fn code(&self, step: u64) -> [u8; DIGITS] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let mac = hmac::sign(&key, &step.to_be_bytes());
        // RFC 4226 section 5.3.
        let bytes = mac.as_ref();
        let at = bytes.last().map_or(0, |last| usize::from(last & 0x0f));
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
        let mut number = (u32::from_be_bytes(word) & 0x7fff_ffff) % MODULUS;
        let mut code = [b'0'; DIGITS];
        for digit in code.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
        code
    }

    /// The step whose code this is, `now_secs` after 1970 and later than the step that was accepted last; nothing for any other
    /// text. Spaces that people type between groups do not count. Each step is computed and compared, whichever it is.
    pub fn matching_step(&self, code: &str, now_secs: i64, last_step: Option<i64>) -> Option<i64> {
        let mut given = [0; DIGITS];
        let mut count = 0;
        for byte in code.bytes().filter(|byte| *byte != b' ') {
            *given.get_mut(count)? = byte;
            count += 1;
        }
        let now = now_secs.div_euclid(STEP_SECS);
        let mut found = None;
        for step in now.saturating_sub(TOTP_DRIFT_STEPS)..=now.saturating_add(TOTP_DRIFT_STEPS) {
            let expected = self.code(u64::try_from(step).unwrap_or(0));
            let is_fresh = last_step.is_none_or(|last| step > last);
            if bool::from(expected.ct_eq(&given)) && count == DIGITS && is_fresh && step >= 0 {
                found = Some(step);
            }
        }
        given.zeroize();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_rfc() -> TotpSecret {
        TotpSecret(*b"12345678901234567890")
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        // Its values have eight digits; ours are their last six.
        for (secs, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(of_the_rfc().matching_step(code, secs, None), Some(secs / 30), "{secs}");
        }
    }

    #[test]
    fn a_code_is_good_one_step_early_and_late_and_no_further() {
        let (secret, step) = (of_the_rfc(), 41_152_263);
        let code = secret.code(41_152_263);
        let code = std::str::from_utf8(&code).unwrap();
        for (now, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = secret.matching_step(code, (step + now) * STEP_SECS, None);
            assert_eq!(found.is_some(), good, "{now} steps away");
            assert!(found.is_none_or(|found| found == step));
        }
        let last_second = secret.matching_step(code, (step + 2) * STEP_SECS - 1, None);
        assert_eq!(last_second, Some(step));
    }

    #[test]
    fn a_code_that_was_accepted_is_not_accepted_again_nor_an_older_one() {
        let (secret, step) = (of_the_rfc(), 41_152_263);
        let code = |step: i64| {
            let code = secret.code(u64::try_from(step).unwrap());
            String::from_utf8(code.to_vec()).unwrap()
        };
        let now = step * STEP_SECS;
        assert_eq!(secret.matching_step(&code(step), now, Some(step - 1)), Some(step));
        assert_eq!(secret.matching_step(&code(step), now, Some(step)), None);
        assert_eq!(secret.matching_step(&code(step - 1), now, Some(step)), None);
        assert_eq!(secret.matching_step(&code(step + 1), now, Some(step)), Some(step + 1));
    }

    #[test]
    fn what_is_no_code_matches_nothing() {
        let secret = of_the_rfc();
        for text in ["", "28708", "2870820", "28708a", "٢٨٧٠٨٢", "287082\n", "-87082"] {
            assert_eq!(secret.matching_step(text, 59, None), None, "{text:?}");
        }
        assert_eq!(secret.matching_step("287 082", 59, None), Some(1), "as apps show it");
        assert_eq!(secret.matching_step("287082", i64::MIN, None), None);
        assert_eq!(secret.matching_step("287082", i64::MAX, None), None);
    }

    #[test]
    fn an_app_reads_issuer_account_and_secret() {
        let uri = of_the_rfc().uri("Coffre", "clinic/dr dupont");
        assert!(
            uri.starts_with("otpauth://totp/Coffre:clinic%2Fdr%20dupont?secret=GEZDGNBVGY3TQOJQ"),
            "{uri}"
        );
        assert!(!format!("{:?}", of_the_rfc()).contains("GEZ"));
        let bytes = minicbor::to_vec(of_the_rfc()).unwrap();
        assert_eq!(minicbor::decode::<TotpSecret>(&bytes).unwrap(), of_the_rfc());
        assert!(minicbor::decode::<TotpSecret>(&minicbor::to_vec("short").unwrap()).is_err());
    }
}
