//! Accept-Language (RFC 9110 section 12.5.4), for the languages that we speak.

use http::{HeaderMap, header};

use super::fields::text;

/// A language that pages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English: where nothing else is asked for.
    English,
    /// French.
    French,
}

/// Thousandths of a weight; one that cannot be read is none.
fn weight(parameters: &str) -> u32 {
    let Some(weight) = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q=")) else {
        return 1000;
    };
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = part.bytes().chain(*b"000").take(3).map(u32::from);
    match (whole, part.bytes().all(|digit| digit.is_ascii_digit())) {
        ("1", true) => 1000,
        ("0", true) => digits.fold(0, |sum, digit| sum * 10 + (digit - u32::from(b'0'))),
        _ => 0,
    }
}

/// The language that the reader likes best, of ours. The earlier of two that are liked alike.
pub fn language(headers: &HeaderMap) -> Language {
    let asked = text(headers, &header::ACCEPT_LANGUAGE).ok().flatten().unwrap_or_default();
    let (mut english, mut french, mut other) = (None, None, None);
    for (at, part) in asked.split(',').enumerate() {
        let (range, parameters) = part.split_once(';').unwrap_or((part, ""));
        let primary = range.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        let liked = Some((weight(parameters), std::cmp::Reverse(at)));
        let of = match primary.as_str() {
            "en" => &mut english,
            "fr" => &mut french,
            "*" => &mut other,
            _ => continue,
        };
        *of = liked.max(*of);
    }
    let liked = french.or(other).filter(|(weight, _)| *weight > 0);
    if liked.is_some() && liked > english.or(other) { Language::French } else { Language::English }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_liked_language_is_spoken() {
        let of = |value: &str| {
            language(&HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value.parse().unwrap())]))
        };
        for french in
            ["fr", "fr-CA, en;q=0.9", "de, fr;q=0.5, en;q=0.4", "en;q=0, fr;q=0.001", "FR", "fr;q=1.000,*"]
        {
            assert_eq!(of(french), Language::French, "{french}");
        }
        for english in [
            "",
            "en",
            "de",
            "*",
            "en, fr",
            "fr;q=0.8, en",
            "fr;q=0",
            "fr;q=x",
            "fra",
            "*, fr;q=0.5",
            "fr;q=0.5, *",
        ] {
            assert_eq!(of(english), Language::English, "{english}");
        }
        assert_eq!(language(&HeaderMap::new()), Language::English);
    }
}
