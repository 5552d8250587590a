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

/// Whether Windows' redirector sent this: it takes a 401 to its first question for the end, and no more than a megabyte of a
/// listing.
pub fn is_windows(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], http::HeaderValue::as_bytes);
    agent.starts_with(b"Microsoft-WebDAV-MiniRedir/")
}

/// Seconds since 1970 of an HTTP date.
pub fn parse_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp().as_second())
}

/// An HTTP date.
pub fn date(secs: i64) -> String {
    let mut out = String::with_capacity("Sun, 06 Nov 1994 08:49:37 GMT".len());
    push_date(&mut out, secs);
    out
}

/// A moment in UTC. One whose year has not four digits is the beginning of 1970.
fn civil(secs: i64) -> jiff::civil::DateTime {
    let time = jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let civil = jiff::tz::Offset::UTC.to_datetime(time);
    if civil.year() < 0 { jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::UNIX_EPOCH) } else { civil }
}

/// Appends a number of so many digits.
fn push_digits(out: &mut String, number: i16, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_i16.pow(place) % 10;
        out.push(char::from(b'0' + u8::try_from(digit).unwrap_or_default()));
    }
}

fn push_clock(out: &mut String, civil: jiff::civil::DateTime) {
    push_digits(out, civil.hour().into(), 2);
    out.push(':');
    push_digits(out, civil.minute().into(), 2);
    out.push(':');
    push_digits(out, civil.second().into(), 2);
}

/// Appends an HTTP date (RFC 9110 section 5.6.7). Listings are made of them: no format is read anew for each.
pub fn push_date(out: &mut String, secs: i64) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let civil = civil(secs);
    out.push_str(match civil.weekday() {
        jiff::civil::Weekday::Monday => "Mon, ",
        jiff::civil::Weekday::Tuesday => "Tue, ",
        jiff::civil::Weekday::Wednesday => "Wed, ",
        jiff::civil::Weekday::Thursday => "Thu, ",
        jiff::civil::Weekday::Friday => "Fri, ",
        jiff::civil::Weekday::Saturday => "Sat, ",
        jiff::civil::Weekday::Sunday => "Sun, ",
    });
    push_digits(out, civil.day().into(), 2);
    out.push(' ');
    let month = usize::try_from(civil.month()).unwrap_or_default().checked_sub(1);
    out.push_str(month.and_then(|month| MONTHS.get(month)).copied().unwrap_or_default());
    out.push(' ');
    push_digits(out, civil.year(), 4);
    out.push(' ');
    push_clock(out, civil);
    out.push_str(" GMT");
}

/// Appends a moment as RFC 3339 has it, in whole seconds.
pub fn push_rfc3339(out: &mut String, secs: i64) {
    let civil = civil(secs);
    push_digits(out, civil.year(), 4);
    out.push('-');
    push_digits(out, civil.month().into(), 2);
    out.push('-');
    push_digits(out, civil.day().into(), 2);
    out.push('T');
    push_clock(out, civil);
    out.push('Z');
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
        let mut moment = String::new();
        push_rfc3339(&mut moment, 784_111_777);
        assert_eq!(moment, "1994-11-06T08:49:37Z");
        for beyond in [i64::MIN, i64::MAX, -70_000_000_000] {
            assert_eq!(date(beyond), "Thu, 01 Jan 1970 00:00:00 GMT");
        }
    }

    #[test]
    fn overwrite_is_read_in_either_case() {
        assert!(!overwrite(&with("overwrite", "f")).unwrap());
        assert!(overwrite(&with("overwrite", "x")).is_err());
    }
}
