//! Text and names as XML 1.0 holds them: what may stand there, and how the rest is written.

/// Whether XML can hold a character at all (XML 1.0 section 2.2).
pub fn is_char(letter: char) -> bool {
    matches!(letter,
        '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn starts_name(letter: char) -> bool {
    matches!(letter,
        'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

/// Whether this is a name without a prefix (Namespaces in XML section 3).
pub fn is_name(text: &str) -> bool {
    let goes_on = |letter: char| {
        starts_name(letter)
            || matches!(letter,
                '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let mut letters = text.chars();
    letters.next().is_some_and(starts_name) && letters.all(goes_on)
}

fn push_with(out: &mut String, text: &str, instead: impl Fn(char) -> Option<&'static str>) {
    let mut plain = 0;
    for (at, letter) in text.char_indices() {
        if let Some(written) = instead(letter) {
            out.push_str(text.get(plain..at).unwrap_or_default());
            out.push_str(written);
            plain = at + letter.len_utf8();
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}

fn escaped(letter: char) -> Option<&'static str> {
    match letter {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        // A reader makes a line's end of it otherwise.
        '\r' => Some("&#13;"),
        letter => (!is_char(letter)).then_some("\u{fffd}"),
    }
}

/// Appends text of an element. What XML cannot hold becomes U+FFFD.
pub fn push_text(out: &mut String, text: &str) {
    push_with(out, text, escaped);
}

/// Appends an attribute's value, which stands in double quotes.
pub fn push_attribute(out: &mut String, value: &str) {
    push_with(out, value, |letter| match letter {
        '"' => Some("&quot;"),
        '\n' => Some("&#10;"),
        '\t' => Some("&#9;"),
        letter => escaped(letter),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_replaced_and_the_rest_reads_back() {
        let mut out = String::new();
        push_text(&mut out, "a\u{1}<b>&\"\r\n\u{fffe}é\u{202e}");
        assert_eq!(out, "a\u{fffd}&lt;b&gt;&amp;\"&#13;\n\u{fffd}é\u{202e}");
        let mut out = String::new();
        push_attribute(&mut out, "\"\t\n<");
        assert_eq!(out, "&quot;&#9;&#10;&lt;");
    }

    #[test]
    fn names_are_those_of_the_standard() {
        for good in ["a", "_x", "Win32CreationTime", "e-1.b", "\u{e9}t\u{e9}"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "-a", "a b", "a:b", "a&b", "a\"", "a<", "\u{d7}", "a\u{2028}"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
