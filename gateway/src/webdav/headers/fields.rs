//! Headers of one value: credentials, Depth, Overwrite, Timeout, dates.

use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, HeaderName, StatusCode, header};
use zeroize::Zeroizing;

use super::super::status::{Refused, refuse};
use crate::limits::{LOCK_SECS_DEFAULT, LOCK_SECS_MAX};

/// Depth (RFC 4918 section 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The resource.
    Zero,
    /// And its members.
    One,
    /// And all below.
    Infinity,
}

/// A header's text; nothing when absent, a refusal when it is not text. Said twice it could mean either, to one reader this
/// and to another that: refused.
///
/// # Errors
/// The refusal to answer with.
pub fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => refuse(StatusCode::BAD_REQUEST, "a header that has one value is there twice"),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => refuse(StatusCode::BAD_REQUEST, "a header holds bytes that are no text"),
        },
    }
}

/// Depth, if sent.
///
/// # Errors
/// 400.
pub fn depth(headers: &HeaderMap) -> Result<Option<Depth>, Refused> {
    match text(headers, &HeaderName::from_static("depth"))? {
        None => Ok(None),
        Some("0") => Ok(Some(Depth::Zero)),
        Some("1") => Ok(Some(Depth::One)),
        Some(other) if other.eq_ignore_ascii_case("infinity") => Ok(Some(Depth::Infinity)),
        Some(_) => refuse(StatusCode::BAD_REQUEST, "Depth is 0, 1 or infinity"),
    }
}

/// Overwrite: true unless `F`, in either case.
///
/// # Errors
/// 400.
pub fn overwrite(headers: &HeaderMap) -> Result<bool, Refused> {
    match text(headers, &HeaderName::from_static("overwrite"))? {
        None | Some("T" | "t") => Ok(true),
        Some("F" | "f") => Ok(false),
        Some(_) => refuse(StatusCode::BAD_REQUEST, "Overwrite is T or F"),
    }
}

/// Timeout of a lock, within our bounds.
pub fn timeout(headers: &HeaderMap) -> Duration {
    let asked = text(headers, &HeaderName::from_static("timeout")).ok().flatten().unwrap_or_default();
    let first = asked.split(',').map(str::trim).find_map(|part| match part.strip_prefix("Second-") {
        Some(secs) => secs.parse::<u64>().ok(),
        None => part.eq_ignore_ascii_case("infinite").then_some(LOCK_SECS_MAX),
    });
    Duration::from_secs(first.unwrap_or(LOCK_SECS_DEFAULT).clamp(1, LOCK_SECS_MAX))
}

/// User and token of Basic authentication (RFC 7617).
pub fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (user, token) = text.split_once(':')?;
    Some((user.to_owned(), Zeroizing::new(token.to_owned())))
}

/// Seconds since 1970 of an HTTP date.
pub fn parse_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp().as_second())
}

/// An HTTP date.
pub fn date(secs: i64) -> String {
    let time = jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn dates_read_back() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_date(&date(784_111_777)), Some(784_111_777));
    }

    #[test]
    fn overwrite_is_read_in_either_case() {
        assert!(!overwrite(&with("overwrite", "f")).unwrap());
        assert!(overwrite(&with("overwrite", "x")).is_err());
    }
}
