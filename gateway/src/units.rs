//! Sizes, durations, moments and rights as people write them.

use std::time::Duration;

use coffre_auth::RightsSet;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A limit as it is set: one, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound<T> {
    /// As much as anybody likes.
    None,
    /// Up to here.
    At(T),
}

impl<T> Bound<T> {
    /// The limit, if there is one.
    pub fn limit(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// `none`, or what `parse` reads.
fn parse_bound<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Bound<T>, String> {
    if text == "none" { Ok(Bound::None) } else { parse(text).map(Bound::At) }
}

/// A size, or `none`.
///
/// # Errors
/// Anything else.
pub fn parse_size_bound(text: &str) -> Result<Bound<u64>, String> {
    parse_bound(text, parse_size)
}

/// A number, or `none`.
///
/// # Errors
/// Anything else.
pub fn parse_count_bound<T: std::str::FromStr>(text: &str) -> Result<Bound<T>, String> {
    parse_bound(text, |text| text.parse().map_err(|_| "a number, or `none`".to_owned()))
}

/// A moment, or `none`.
///
/// # Errors
/// Anything else.
pub fn parse_moment_bound(text: &str) -> Result<Bound<i64>, String> {
    parse_bound(text, parse_moment)
}

/// `10G`, `512M`, `1T`, `1000`: powers of 1024.
///
/// # Errors
/// Anything else.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("`{unit}` is no unit; use K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "a size is a number and a unit, such as 10G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

/// `30d`, `12h`, `1s`, `1d 12h`.
///
/// # Errors
/// Anything else; durations that are not positive.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span =
        text.parse().map_err(|_| "a duration is a number and a unit, such as 30d".to_owned())?;
    let duration: SignedDuration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "a duration has weeks, days, hours, minutes and seconds".to_owned())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a duration is positive".to_owned())
}

/// RFC 3339, or a date meaning its first moment in UTC; nanoseconds since 1970.
///
/// # Errors
/// Anything else.
pub fn parse_moment(text: &str) -> Result<i64, String> {
    let bad = || "a time is RFC 3339 such as 2027-01-31T00:00:00Z, or a date".to_owned();
    let moment: jiff::Timestamp = if let Ok(moment) = text.parse() {
        moment
    } else {
        let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
        date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?.timestamp()
    };
    i64::try_from(moment.as_nanosecond()).map_err(|_| bad())
}

/// A moment, nanoseconds since 1970, as people read it.
pub fn moment(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| nanos.to_string(), |time| time.to_string())
}

/// Names of a path as an operator writes it.
pub fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// What has a text, as that text, where it is there.
pub mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    /// Reads the text.
    ///
    /// # Errors
    /// A text that is none of this kind.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// `read-only`, `append-only`, `drop-box`, `read-write`.
///
/// # Errors
/// Anything else.
pub fn parse_rights(text: &str) -> Result<RightsSet, String> {
    match text {
        "read-only" => Ok(RightsSet::ReadOnly),
        "append-only" => Ok(RightsSet::AppendOnly),
        "read-write" => Ok(RightsSet::ReadWrite),
        "drop-box" => Ok(RightsSet::DropBox),
        _ => Err("rights are read-only, append-only, drop-box or read-write".to_owned()),
    }
}

/// A rights set as people write it.
pub fn rights_name(rights: RightsSet) -> &'static str {
    match rights {
        RightsSet::ReadOnly => "read-only",
        RightsSet::AppendOnly => "append-only",
        RightsSet::ReadWrite => "read-write",
        RightsSet::DropBox => "drop-box",
        RightsSet::Nothing => "nothing",
    }
}

/// Bytes that may be no text: what is not UTF-8 is written as `\xNN`.
pub fn lossless(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Bytes that [`hex`] wrote.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_moments_read_as_people_write_them() {
        assert_eq!(parse_size("10G"), Ok(10 << 30));
        assert_eq!(parse_size("1000"), Ok(1000));
        assert!(
            parse_size("10X").is_err() && parse_size("G").is_err() && parse_size("99999999999T").is_err()
        );
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 86400)));
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        assert!(
            parse_duration("0s").is_err()
                && parse_duration("-1d").is_err()
                && parse_duration("soon").is_err()
        );
        assert_eq!(parse_moment("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(parse_moment("tomorrow").is_err());
        assert_eq!(parse_size_bound("none"), Ok(Bound::None));
        assert_eq!(parse_size_bound("1K"), Ok(Bound::At(1024)));
        assert_eq!(parse_count_bound::<u32>("7").map(Bound::limit), Ok(Some(7)));
        assert!(parse_count_bound::<u32>("-1").is_err() && parse_size_bound("").is_err());
    }
}
