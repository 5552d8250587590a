//! Range, Content-Range (RFC 9110 section 14) and sabre/dav's X-Update-Range.

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::super::status::{Refused, refuse};
use super::fields::text;
use crate::limits::{RANGE_GAP_BYTES_MAX, RANGES_MAX};

/// What a Range header means for so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// All of it: none asked, too many asked, or not understood.
    Whole,
    /// From, to (exclusive).
    Part(u64, u64),
    /// Several, which neither overlap nor almost touch, in the order in which they were asked for.
    Parts(Vec<(u64, u64)>),
    /// Beyond the end.
    Unsatisfiable,
}

enum Asked {
    Bytes(u64, u64),
    Beyond,
}

/// Reads a Range header (RFC 9110 section 14.2). Ranges that overlap or almost touch are one: nobody is sent a byte twice.
pub fn range(headers: &HeaderMap, size: u64) -> Range {
    let spec = text(headers, &header::RANGE).ok().flatten().and_then(|text| text.strip_prefix("bytes="));
    let Some(spec) = spec else { return Range::Whole };
    let specs: Vec<&str> =
        spec.split(',').map(str::trim).filter(|spec| !spec.is_empty()).take(RANGES_MAX + 1).collect();
    if specs.is_empty() || specs.len() > RANGES_MAX {
        return Range::Whole;
    }
    let mut parts = Vec::new();
    for spec in specs {
        match one(spec, size) {
            None => return Range::Whole,
            Some(Asked::Beyond) => {}
            Some(Asked::Bytes(from, to)) => join(&mut parts, (from, to)),
        }
    }
    match parts.as_slice() {
        [] => Range::Unsatisfiable,
        [(from, to)] => Range::Part(*from, *to),
        _ => Range::Parts(parts),
    }
}

fn one(spec: &str, size: u64) -> Option<Asked> {
    let (from, to) = spec.split_once('-')?;
    let (from, to) = (from.trim(), to.trim());
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (from, to): (Option<u64>, Option<u64>) = match (from, to) {
        ("", "") => return None,
        ("", last) => (None, Some(number(last)?)),
        (from, "") => (Some(number(from)?), None),
        (from, to) => (Some(number(from)?), Some(number(to)?)),
    };
    let asked = match (from, to) {
        (Some(from), Some(to)) if from > to => return None,
        (Some(from), to) => (from, to.map_or(size, |to| to.saturating_add(1).min(size))),
        (None, last) => (size.saturating_sub(last?), size),
    };
    Some(if asked.0 < asked.1 { Asked::Bytes(asked.0, asked.1) } else { Asked::Beyond })
}

/// Puts a range among others, joined with those that it touches, where the first of them is.
fn join(parts: &mut Vec<(u64, u64)>, (mut from, mut to): (u64, u64)) {
    let mut at = parts.len();
    while let Some(near) = parts.iter().position(|(start, end)| {
        *start <= to.saturating_add(RANGE_GAP_BYTES_MAX) && from <= end.saturating_add(RANGE_GAP_BYTES_MAX)
    }) {
        let (start, end) = parts.remove(near);
        (from, to, at) = (from.min(start), to.max(end), at.min(near));
    }
    parts.insert(at.min(parts.len()), (from, to));
}

/// A part of a file that a PUT brings: where it begins, and behind where it ends.
///
/// # Errors
/// 400: none, another unit, or what is no range.
pub fn content_range(headers: &HeaderMap) -> Result<(u64, u64), Refused> {
    let value = text(headers, &header::CONTENT_RANGE)?.unwrap_or_default();
    let read = || -> Option<(u64, u64)> {
        let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let fits = total == "*" || total.parse::<u64>().ok()? > last;
        (first <= last && fits).then(|| last.checked_add(1).map(|end| (first, end)))?
    };
    match read() {
        Some(part) => Ok(part),
        None => refuse(StatusCode::BAD_REQUEST, "Content-Range is bytes FIRST-LAST/TOTAL, or /*"),
    }
}

/// Where the bytes of a PATCH go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateRange {
    /// Behind what is there.
    Append,
    /// From an offset on; its end, where it was told.
    From(u64, Option<u64>),
    /// So many bytes before the end, and on from there.
    Last(u64),
}

/// X-Update-Range.
///
/// # Errors
/// 400 when it is missing or malformed; 416 for a range that ends before it begins.
pub fn update_range(headers: &HeaderMap) -> Result<UpdateRange, Refused> {
    let Some(value) = text(headers, &HeaderName::from_static("x-update-range"))? else {
        return refuse(StatusCode::BAD_REQUEST, "X-Update-Range is missing");
    };
    if value.eq_ignore_ascii_case("append") {
        return Ok(UpdateRange::Append);
    }
    let read = || -> Option<UpdateRange> {
        let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
        Some(match (first, last) {
            ("", last) => UpdateRange::Last(last.parse().ok()?),
            (first, "") => UpdateRange::From(first.parse().ok()?, None),
            (first, last) => {
                UpdateRange::From(first.parse().ok()?, Some(last.parse::<u64>().ok()?.checked_add(1)?))
            }
        })
    };
    match read() {
        Some(UpdateRange::From(from, Some(to))) if from >= to => {
            refuse(StatusCode::RANGE_NOT_SATISFIABLE, "the range ends before it begins")
        }
        Some(range) => Ok(range),
        None => refuse(StatusCode::BAD_REQUEST, "X-Update-Range is append, bytes=A-B, bytes=A- or bytes=-N"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
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
        assert_eq!(range(&with("range", "bytes=-5"), 0), Range::Unsatisfiable);
        for whole in ["lines=1-2", "bytes=9-2", "bytes=x-y", "bytes=", "bytes=-", "bytes=0-1,x", "bytes=+1-2"]
        {
            assert_eq!(of(whole), Range::Whole, "{whole}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_never_give_a_byte_twice() {
        let of = |spec: &str| range(&with("range", spec), 10_000);
        assert_eq!(of("bytes=5000-5009, 0-9"), Range::Parts(vec![(5000, 5010), (0, 10)]));
        assert_eq!(of("bytes=0-9,20000-,-10"), Range::Parts(vec![(0, 10), (9990, 10_000)]));
        assert_eq!(of("bytes=0-99,50-149"), Range::Part(0, 150), "overlapping");
        assert_eq!(of("bytes=0-9,100-109"), Range::Part(0, 110), "nearer than a part's head is long");
        assert_eq!(of("bytes=0-9,9000-9009,0-"), Range::Part(0, 10_000), "all of it");
        assert_eq!(of("bytes=20000-,30000-30001"), Range::Unsatisfiable);
        let many = format!("bytes={}", vec!["0-"; RANGES_MAX + 1].join(","));
        assert_eq!(of(&many), Range::Whole, "more than anybody needs");
    }

    #[test]
    fn a_part_of_a_file_is_told_exactly_or_refused() {
        let of = |value: &str| content_range(&with("content-range", value)).map_err(|refused| refused.status);
        assert_eq!(of("bytes 0-9/10"), Ok((0, 10)));
        assert_eq!(of("bytes 5-9/*"), Ok((5, 10)));
        for bad in [
            "bytes 0-9/9",
            "bytes 9-0/10",
            "bytes */10",
            "lines 0-9/10",
            "bytes 0-9",
            "0-9/10",
            "bytes a-b/*",
        ] {
            assert_eq!(of(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
        let of = |value: &str| update_range(&with("x-update-range", value)).map_err(|refused| refused.status);
        assert_eq!(of("append"), Ok(UpdateRange::Append));
        assert_eq!(of("bytes=3-6"), Ok(UpdateRange::From(3, Some(7))));
        assert_eq!(of("bytes=3-"), Ok(UpdateRange::From(3, None)));
        assert_eq!(of("bytes=-3"), Ok(UpdateRange::Last(3)));
        assert_eq!(of("bytes=6-3"), Err(StatusCode::RANGE_NOT_SATISFIABLE));
        for bad in ["", "bytes=", "bytes=-", "3-6", "bytes=a-b", "bytes=1-18446744073709551615"] {
            assert_eq!(of(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
        assert!(update_range(&HeaderMap::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic_and_parts_never_overlap(text in "(bytes[= ])?[0-9,*/ a-]{0,60}", size in 0_u64..2000) {
            drop(content_range(&with("content-range", &text)));
            drop(update_range(&with("x-update-range", &text)));
            if let Range::Parts(mut parts) = range(&with("range", &text), size) {
                parts.sort_unstable();
                prop_assert!(parts.iter().all(|(from, to)| from < to && *to <= size));
                prop_assert!(parts.windows(2).all(|two| two[0].1 < two[1].0));
            }
        }
    }
}
