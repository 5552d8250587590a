//! Range (RFC 9110 section 14.2).

use http::{HeaderMap, header};

use super::fields::text;

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

#[cfg(test)]
mod tests {
    use http::HeaderName;

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
        for whole in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-2", "bytes=x-y", "bytes="] {
            assert_eq!(of(whole), Range::Whole, "{whole}");
        }
    }
}
