//! Request headers: credentials, Depth, Destination, Overwrite, Timeout, If, conditions, Range, dates. Pure.

use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use zeroize::Zeroizing;

use super::status::{Refused, refuse};
use crate::limits::{LOCK_SECS_DEFAULT, LOCK_SECS_MAX};
use crate::vfs::VaultPath;

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

/// A header's text; nothing when absent, a refusal when it is not text.
///
/// # Errors
/// The refusal to answer with.
pub fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refused> {
    match headers.get(name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
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

/// A path as it stands in a URI. An encoded `/` would be a separator to one reader and not to another: refused.
///
/// # Errors
/// 400, 414.
pub fn path(encoded: &str) -> Result<VaultPath, Refused> {
    if encoded.is_empty() || !encoded.starts_with('/') {
        return refuse(StatusCode::BAD_REQUEST, "the path does not begin with /");
    }
    let lower = encoded.to_ascii_lowercase();
    if lower.contains("%2f") {
        return refuse(StatusCode::BAD_REQUEST, "an encoded / in a name is not allowed");
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(encoded).collect();
    Ok(VaultPath::parse(&decoded)?)
}

fn authority(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    lower.strip_suffix(":443").map_or_else(|| lower.clone(), str::to_owned)
}

/// Where Destination leads: a path of ours. Another host is another server.
///
/// # Errors
/// 400, 502.
pub fn destination(
    headers: &HeaderMap,
    host: Option<&str>,
    public_names: &[String],
) -> Result<VaultPath, Refused> {
    let Some(text) = text(headers, &HeaderName::from_static("destination"))? else {
        return refuse(StatusCode::BAD_REQUEST, "Destination is missing");
    };
    local_path(text, host, public_names)
}

/// A URI of ours, absolute or only a path.
///
/// # Errors
/// 400, 502.
pub fn local_path(text: &str, host: Option<&str>, public_names: &[String]) -> Result<VaultPath, Refused> {
    if text.starts_with('/') && !text.starts_with("//") {
        return path(text.split(['?', '#']).next().unwrap_or_default());
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse(StatusCode::BAD_REQUEST, "the URI is not one") };
    let Some(named) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("https" | "http"))) else {
        return refuse(StatusCode::BAD_REQUEST, "the URI names no host");
    };
    if named.as_str().contains('@') {
        return refuse(StatusCode::BAD_REQUEST, "the URI holds credentials");
    }
    let ours = host
        .into_iter()
        .chain(public_names.iter().map(String::as_str))
        .any(|name| authority(name) == authority(named.as_str()));
    if ours { path(uri.path()) } else { refuse(StatusCode::BAD_GATEWAY, "the URI names another server") }
}

/// One condition of an `If` list (RFC 4918 section 10.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Preceded by `Not`.
    pub negated: bool,
    /// What must hold.
    pub state: StateToken,
}

/// What a condition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateToken {
    /// A lock token.
    Lock(String),
    /// An entity tag, with its quotes.
    Tag(String),
}

/// A list of an `If` header: for a tagged resource, or for the request's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfList {
    /// The tagged URI.
    pub resource: Option<String>,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// Takes an `If` header apart.
///
/// # Errors
/// 400: what cannot be read is never ignored.
pub fn if_lists(headers: &HeaderMap) -> Result<Vec<IfList>, Refused> {
    match text(headers, &HeaderName::from_static("if"))? {
        None => Ok(Vec::new()),
        Some(value) => parse_if(value)
            .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "the If header cannot be read")),
    }
}

fn parse_if(value: &str) -> Option<Vec<IfList>> {
    let (mut rest, mut resource, mut lists) = (value.trim_start(), None, Vec::new());
    while !rest.is_empty() {
        if let Some(tagged) = rest.strip_prefix('<') {
            let (uri, after) = tagged.split_once('>')?;
            resource = Some(uri.to_owned());
            rest = after.trim_start();
        }
        let (mut conditions, mut inner) = (Vec::new(), rest.strip_prefix('(')?.trim_start());
        while !inner.starts_with(')') {
            let negated = inner.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("not"));
            if negated {
                inner = inner.get(3..)?.trim_start();
            }
            let (state, after) = if let Some(token) = inner.strip_prefix('<') {
                let (token, after) = token.split_once('>')?;
                (StateToken::Lock(token.to_owned()), after)
            } else {
                let (tag, after) = inner.strip_prefix('[')?.split_once(']')?;
                (StateToken::Tag(tag.trim().to_owned()), after)
            };
            conditions.push(Condition { negated, state });
            inner = after.trim_start();
        }
        if conditions.is_empty() {
            return None;
        }
        lists.push(IfList { resource: resource.clone(), conditions });
        rest = inner.strip_prefix(')')?.trim_start();
    }
    (!lists.is_empty()).then_some(lists)
}

/// The token of a Lock-Token header.
///
/// # Errors
/// 400.
pub fn lock_token(headers: &HeaderMap) -> Result<String, Refused> {
    let token = text(headers, &HeaderName::from_static("lock-token"))?
        .and_then(|text| text.strip_prefix('<')?.strip_suffix('>'))
        .filter(|token| !token.is_empty());
    token
        .map(str::to_owned)
        .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "Lock-Token is missing or malformed"))
}

/// Entity tags of If-Match or If-None-Match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`
    Any,
    /// These, with their quotes and without `W/`.
    List(Vec<String>),
}

impl Tags {
    /// Whether an existing resource with this tag is meant.
    pub fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|known| known == tag),
        }
    }
}

fn parse_tags(value: &str) -> Option<Tags> {
    if value == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (tag, after) = quoted.split_once('"')?;
        tags.push(format!("\"{tag}\""));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    (!tags.is_empty()).then_some(Tags::List(tags))
}

/// If-Match.
///
/// # Errors
/// 400: a condition that cannot be read is never ignored.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Tags>, Refused> {
    match text(headers, &header::IF_MATCH)? {
        None => Ok(None),
        Some(value) => match parse_tags(value) {
            Some(tags) => Ok(Some(tags)),
            None => refuse(StatusCode::BAD_REQUEST, "the If-Match header cannot be read"),
        },
    }
}

/// If-None-Match. A malformed one is ignored: Joplin sends it unquoted, and the worst is one transfer too many.
pub fn if_none_match(headers: &HeaderMap) -> Option<Tags> {
    text(headers, &header::IF_NONE_MATCH).ok().flatten().and_then(parse_tags)
}

/// What a Range header means for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All of it: none asked, several asked, or not understood.
    Whole,
    /// From, to (exclusive).
    Part(u64, u64),
    /// Beyond the end.
    Unsatisfiable,
}

/// Reads a Range header (RFC 9110 section 14.2). Several ranges are answered with the whole, as the RFC allows.
pub fn range(headers: &HeaderMap, size: u64) -> Range {
    let Some(spec) =
        text(headers, &header::RANGE).ok().flatten().and_then(|text| text.strip_prefix("bytes="))
    else {
        return Range::Whole;
    };
    let Some((from, to)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else {
        return Range::Whole;
    };
    match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to && from < size => Range::Part(from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if to.trim().is_empty() && from < size => Range::Part(from, size),
        (Err(_), Ok(last)) if from.trim().is_empty() && last > 0 && size > 0 => {
            Range::Part(size.saturating_sub(last), size)
        }
        (Ok(from), Ok(to)) if from > to => Range::Whole,
        (Ok(_), _) | (Err(_), Ok(_))
            if from.trim().is_empty() || to.trim().is_empty() || from.trim().parse::<u64>().is_ok() =>
        {
            Range::Unsatisfiable
        }
        _ => Range::Whole,
    }
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
    use proptest::prelude::*;

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn an_if_header_is_read_or_refused_never_ignored() {
        let lists = parse_if("<https://h/p> (Not <urn:a> [\"e\"]) (<urn:b>)").unwrap();
        assert_eq!(lists.len(), 2);
        assert_eq!(lists[0].resource.as_deref(), Some("https://h/p"));
        assert_eq!(lists[0].conditions.len(), 2);
        assert!(lists[0].conditions[0].negated);
        for bad in ["(<urn:x", "(", "()", "urn:a", "(<a>) x", "<u>", "([e)", "(Not)"] {
            assert_eq!(parse_if(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_are_quoted_and_a_malformed_if_match_is_refused() {
        assert!(if_match(&with("if-match", "\"")).is_err());
        assert_eq!(if_none_match(&with("if-none-match", "unquoted")), None);
        let tags = if_match(&with("if-match", "\"a\", W/\"b\"")).unwrap().unwrap();
        assert!(tags.matches("\"a\"") && tags.matches("\"b\"") && !tags.matches("\"c\""));
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        let of = |spec: &str| range(&with("range", spec), 100);
        assert_eq!(of("bytes=0-9"), Range::Part(0, 10));
        assert_eq!(of("bytes=90-"), Range::Part(90, 100));
        assert_eq!(of("bytes=-10"), Range::Part(90, 100));
        assert_eq!(of("bytes=-1000"), Range::Part(0, 100));
        assert_eq!(of("bytes=50-1000"), Range::Part(50, 100));
        assert_eq!(of("bytes=100-"), Range::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Range::Unsatisfiable);
        for whole in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-2", "bytes=x-y", "bytes="] {
            assert_eq!(of(whole), Range::Whole, "{whole}");
        }
    }

    #[test]
    fn a_destination_is_ours_or_refused() {
        let at = |text: &str| local_path(text, Some("h:8443"), &["files.example".to_owned()]);
        assert_eq!(at("https://H:8443/a%20b").unwrap().to_bytes(), b"/a b");
        assert_eq!(at("https://files.example:443/x").unwrap().to_bytes(), b"/x");
        assert_eq!(at("/x").unwrap().to_bytes(), b"/x");
        assert_eq!(at("https://evil/x").unwrap_err().status, StatusCode::BAD_GATEWAY);
        for bad in [
            "//evil/x",
            "https://u:p@h:8443/x",
            "x",
            "file:///x",
            "https://h:8443/a%2Fb",
            "https://h:8443/../x",
        ] {
            assert_eq!(at(bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
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

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[<>()\\[\\]\"WNot/ a*,=0-9-]{0,40}") {
            drop(parse_if(&text));
            drop(parse_tags(&text));
            drop(local_path(&text, Some("h"), &[]));
        }
    }
}
