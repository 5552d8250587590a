//! Conditions of a request: `If` (RFC 4918 section 10.4), If-Match and If-None-Match (RFC 9110 section 13), Lock-Token.

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::super::status::{Refused, refuse};
use super::fields::text;
use crate::limits::IF_LISTS_MAX;

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
            // Lists with and without a resource are not mixed.
            if resource.is_none() && !lists.is_empty() {
                return None;
            }
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
        if lists.len() >= IF_LISTS_MAX {
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
        // npm's `webdav` sends it bare. It is the sender's own or none.
        .map(|text| text.strip_prefix('<').and_then(|token| token.strip_suffix('>')).unwrap_or(text))
        .filter(|token| !token.is_empty() && !token.contains(['<', '>']));
    token
        .map(str::to_owned)
        .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "Lock-Token is missing or malformed"))
}

/// Entity tags of If-Match or If-None-Match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`
    Any,
    /// These, with their quotes and without `W/`; of If-Match only the strong ones, since a weak one is never the same.
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

/// The text of a header that is a list, over all its lines (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Option<Vec<&str>> =
        headers.get_all(name).iter().map(|value| value.to_str().ok().map(str::trim)).collect();
    lines.filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
}

/// Entity tags, each with whether it is weak.
fn parse_tags(value: &str) -> Option<Vec<(String, bool)>> {
    let mut tags = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let (tag, after) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        tags.push((format!("\"{tag}\""), weak.is_some()));
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    (!tags.is_empty()).then_some(tags)
}

fn tags(value: &str, keep: impl Fn(bool) -> bool) -> Option<Tags> {
    if value == "*" {
        return Some(Tags::Any);
    }
    let kept = parse_tags(value)?.into_iter().filter(|(_, weak)| keep(*weak)).map(|(tag, _)| tag);
    Some(Tags::List(kept.collect()))
}

/// If-Match.
///
/// # Errors
/// 400: a condition that cannot be read is never ignored.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Tags>, Refused> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let lines = joined(headers, &header::IF_MATCH);
    match lines.and_then(|value| tags(&value, |weak| !weak)) {
        Some(tags) => Ok(Some(tags)),
        None => refuse(StatusCode::BAD_REQUEST, "the If-Match header cannot be read"),
    }
}

/// If-None-Match. A malformed one is ignored: Joplin sends it unquoted, and the worst is one transfer too many.
pub fn if_none_match(headers: &HeaderMap) -> Option<Tags> {
    joined(headers, &header::IF_NONE_MATCH).and_then(|value| tags(&value, |_| true))
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
        for bad in ["(<urn:x", "(", "()", "urn:a", "(<a>) x", "<u>", "([e)", "(Not)", "(<a>) <u> (<b>)"] {
            assert_eq!(parse_if(bad), None, "{bad}");
        }
        let many = |lists: usize| "(<urn:a>)".repeat(lists);
        assert_eq!(parse_if(&many(IF_LISTS_MAX)).unwrap().len(), IF_LISTS_MAX);
        assert_eq!(parse_if(&many(IF_LISTS_MAX + 1)), None);
    }

    #[test]
    fn tags_are_quoted_and_a_malformed_if_match_is_refused() {
        assert!(if_match(&with("if-match", "\"")).is_err());
        assert_eq!(if_none_match(&with("if-none-match", "unquoted")), None);
        assert!(if_match(&with("if-match", "\"a\" \"b\"")).is_err());
        let tags = if_match(&with("if-match", "\"a\", W/\"b\"")).unwrap().unwrap();
        assert!(tags.matches("\"a\"") && !tags.matches("\"b\"") && !tags.matches("\"c\""));
        let tags = if_none_match(&with("if-none-match", "\"a\", W/\"b\"")).unwrap();
        assert!(tags.matches("\"a\"") && tags.matches("\"b\"") && !tags.matches("\"c\""));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[<>()\\[\\]\"WNot/ a*,=0-9-]{0,40}") {
            drop(parse_if(&text));
            drop(parse_tags(&text));
        }
    }
}
