//! Moments as names below `/.snapshots`: any RFC 3339 time, also with `-` for each `:`, because Windows cannot open a name
//! that holds a colon. A name that begins like a year is a time and nothing else: snapshots have no such names.

use coffre_storage::time::UnixNanos;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const NANOS: i64 = 1_000_000_000;
const DAY_SECS: i64 = 86_400;
/// Digits of a fraction that count.
const FRACTION_DIGITS: usize = 9;

/// How a time is written into a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `2026-11-22T10:00:00Z`
    Colons,
    /// `2026-11-22T10-00-00Z`
    NoColons,
}

/// What is left of a name that is being read.
struct Rest<'n>(&'n [u8]);

impl Rest<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        head.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
        })
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        bytes.contains(first).then_some(*first)
    }

    /// Nanoseconds of `.5` and the like; none without a point.
    fn fraction(&mut self) -> Option<i64> {
        let Some(digits) = self.0.strip_prefix(b".") else { return Some(0) };
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        let mut nanos = 0;
        for at in 0..FRACTION_DIGITS {
            let digit = digits.get(at).filter(|_| at < count).map_or(0, |digit| digit - b'0');
            nanos = nanos * 10 + i64::from(digit);
        }
        self.0 = digits.get(count..)?;
        Some(nanos)
    }

    /// Seconds by which the clock on the wall is ahead of UTC.
    fn offset(&mut self, separator: u8) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        self.one_of(&[separator])?;
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

/// The time that a name says; nothing for a name that is no time, or lies outside what nanoseconds count (1677 to 2262).
pub fn time_of(name: &[u8]) -> Option<UnixNanos> {
    let mut rest = Rest(name);
    let year = i16::try_from(rest.number(4)?).ok()?;
    rest.one_of(b"-")?;
    let month = i8::try_from(rest.number(2)?).ok()?;
    rest.one_of(b"-")?;
    let day = i8::try_from(rest.number(2)?).ok()?;
    rest.one_of(b"Tt")?;
    let hour = rest.number(2).filter(|hour| *hour < 24)?;
    let separator = rest.one_of(b":-")?;
    let minute = rest.number(2).filter(|minute| *minute < 60)?;
    rest.one_of(&[separator])?;
    let second = rest.number(2).filter(|second| *second <= 60)?;
    let nanos = rest.fraction()?;
    let offset = rest.offset(separator)?;
    if !rest.0.is_empty() {
        return None;
    }
    let midnight = Date::new(year, month, day).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let secs = midnight + hour * 3600 + minute * 60 + second - offset;
    // A leap second is the last of a day in UTC; our clock counts it with the first of the next.
    if second == 60 && secs.rem_euclid(DAY_SECS) != 0 {
        return None;
    }
    secs.checked_mul(NANOS)?.checked_add(nanos).map(UnixNanos)
}

/// The name of a time, in UTC.
pub fn name_of(time: UnixNanos, spelling: Spelling) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let name = stamp.to_string();
    match spelling {
        Spelling::Colons => name,
        Spelling::NoColons => name.replace(':', "-"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(name: &str) -> Option<i64> {
        time_of(name.as_bytes()).map(|time| time.0 / NANOS)
    }

    #[test]
    fn a_time_has_many_names() {
        let ten = secs("2026-11-22T10:00:00Z").unwrap();
        assert_eq!(ten, 1_795_341_600);
        for name in [
            "2026-11-22T10-00-00Z",
            "2026-11-22t10:00:00z",
            "2026-11-22T11:00:00+01:00",
            "2026-11-22T11-00-00+01-00",
            "2026-11-21T22:30:00-11:30",
            "2026-11-22T10:00:00-00:00",
            "2026-11-22T10:00:00.000Z",
        ] {
            assert_eq!(secs(name), Some(ten), "{name}");
        }
        assert_eq!(time_of(b"2026-11-22T11-00-00.5+01-00"), Some(UnixNanos(ten * NANOS + NANOS / 2)),);
        assert_eq!(time_of(b"1970-01-01T00:00:00.1234567899Z"), Some(UnixNanos(123_456_789)));
        // A leap second is counted with the second after it.
        assert_eq!(secs("2016-12-31T23:59:60Z"), secs("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for name in [
            "",
            "2026",
            "2026-11-22",
            "2026-11-22T10:00Z",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00Z",
            "2026-11-22T10:00-00Z",
            "2026-11-22T10-00-00+01:00",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:61Z",
            "2026-11-22T10:00:60Z",
            "2026-02-30T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "9999-99-99T99:99:99Z",
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "-026-11-22T10:00:00Z",
            "-2026-11-22T10:00:00Z",
            "+2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00Z ",
            "2026-11-22T10:00:00ZZ",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00+0100",
            "20261122T100000Z",
            "2026-W47-7T10:00:00Z",
            "2026-11-22T10:00:00Z[UTC]",
            "\u{0662}026-11-22T10:00:00Z",
        ] {
            assert_eq!(time_of(name.as_bytes()), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_time_comes_back_from_both_of_its_names(nanos in any::<i64>()) {
            for spelling in [Spelling::Colons, Spelling::NoColons] {
                let name = name_of(UnixNanos(nanos), spelling);
                prop_assert_eq!(time_of(name.as_bytes()), Some(UnixNanos(nanos)), "{}", name);
            }
        }

        #[test]
        fn no_bytes_make_a_name_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for name in [bytes.clone(), [b"2026-11-22T10:00:00", &bytes[..]].concat()] {
                prop_assert!(time_of(&name).is_none() || name.len() >= "2026-11-22T10:00:00Z".len());
            }
        }
    }
}
