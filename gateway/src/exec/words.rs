//! A command line taken apart into words: quotes and backslashes as POSIX has them (Shell Command Language, section 2.2),
//! and nothing else. Whatever a shell would do more than that (expand, redirect, substitute, chain) is refused: there is no
//! shell behind this.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::limits::EXEC_WORDS_MAX;

/// Why a command line is not words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.reason())]
pub(super) enum WordsError {
    /// A character that means something to a shell.
    Shell,
    /// A pattern.
    Pattern,
    /// A quote without its end, or a backslash at the end.
    Unclosed,
    /// More words than any client sends.
    TooMany,
    /// A NUL byte.
    Nul,
}

impl WordsError {
    /// In words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Shell => "there is no shell here: quote what is to be taken as it stands",
            Self::Pattern => "patterns are not expanded here: name the files",
            Self::Unclosed => "a quote has no end",
            Self::TooMany => "too many words",
            Self::Nul => "the command holds a NUL byte",
        }
    }
}

/// The words of a command line. A `~` that is a word's own first name is the root: there is one home.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, WordsError> {
    if line.contains(&0) {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        if words.len() >= EXEC_WORDS_MAX {
            return Err(WordsError::TooMany);
        }
        let (found, after) = word(rest)?;
        words.push(found);
        rest = after.trim_ascii_start();
    }
    Ok(words)
}

/// The first word, and what follows it.
fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), WordsError> {
    let mut word = Vec::new();
    if let Some(after) = rest.strip_prefix(b"~") {
        match after.first() {
            None | Some(b' ' | b'\t') => word.push(b'/'),
            Some(b'/') => {}
            Some(_) => return Err(WordsError::Shell),
        }
        rest = after;
    }
    let is_comment = rest.first() == Some(&b'#');
    if is_comment {
        return Err(WordsError::Shell);
    }
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b' ' | b'\t' => return Ok((word, rest)),
            b'\'' => {
                let end = after.iter().position(|byte| *byte == b'\'').ok_or(WordsError::Unclosed)?;
                let (inside, closed) = after.split_at(end);
                word.extend_from_slice(inside);
                closed.strip_prefix(b"'").unwrap_or_default()
            }
            b'"' => quoted(after, &mut word)?,
            b'\\' => match after.split_first().ok_or(WordsError::Unclosed)? {
                // A line goes on.
                (b'\n', after) => after,
                (escaped, after) => {
                    word.push(*escaped);
                    after
                }
            },
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'{' | b'}' | b'\n' | b'\r' => {
                return Err(WordsError::Shell);
            }
            b'*' | b'?' | b'[' => return Err(WordsError::Pattern),
            plain => {
                word.push(*plain);
                after
            }
        };
    }
    Ok((word, rest))
}

/// What stands between double quotes; tells what follows them.
fn quoted<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], WordsError> {
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.split_first()) {
            (b'"', _) => return Ok(after),
            (b'$' | b'`', _) => return Err(WordsError::Shell),
            (b'\\', Some((b'\n', after))) => after,
            (b'\\', Some((escaped @ (b'$' | b'`' | b'"' | b'\\'), after))) => {
                word.push(*escaped);
                after
            }
            (plain, _) => {
                word.push(*plain);
                after
            }
        };
    }
    Err(WordsError::Unclosed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Result<Vec<String>, WordsError> {
        Ok(split(line.as_bytes())?.into_iter().map(|word| String::from_utf8(word).unwrap()).collect())
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_posix() {
        for (line, expected) in [
            ("md5sum a b", vec!["md5sum", "a", "b"]),
            ("  md5sum\t'a b'  ", vec!["md5sum", "a b"]),
            (r"md5sum /a\ b/c\'d", vec!["md5sum", "/a b/c'd"]),
            (r#"md5sum "a \"b\" \$c \d""#, vec!["md5sum", r#"a "b" $c \d"#]),
            ("md5sum a'\n'b", vec!["md5sum", "a\nb"]),
            ("md5sum a\\\nb", vec!["md5sum", "ab"]),
            ("md5sum '' \"\"", vec!["md5sum", "", ""]),
            (r"md5sum '*' \* '~'", vec!["md5sum", "*", "*", "~"]),
            ("scp -f ~/x ~ a~", vec!["scp", "-f", "/x", "/", "a~"]),
            ("x a#b", vec!["x", "a#b"]),
            ("", vec![]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn whatever_a_shell_would_do_more_is_refused() {
        for line in [
            "md5sum a; rm b",
            "md5sum a && rm b",
            "md5sum a | sh",
            "md5sum a\nrm b",
            "md5sum $(id)",
            "md5sum `id`",
            "md5sum \"$(id)\"",
            "md5sum \"`id`\"",
            "md5sum $HOME",
            "md5sum < a",
            "md5sum a > b",
            "md5sum a &",
            "(md5sum a)",
            "md5sum {a,b}",
            "md5sum ~root/a",
            "md5sum a # b",
            "md5sum ~\na",
        ] {
            assert_eq!(words(line), Err(WordsError::Shell), "{line}");
        }
        for line in ["md5sum *", "md5sum a?", "md5sum [ab]"] {
            assert_eq!(words(line), Err(WordsError::Pattern), "{line}");
        }
        for line in ["md5sum 'a", "md5sum \"a", "md5sum a\\"] {
            assert_eq!(words(line), Err(WordsError::Unclosed), "{line}");
        }
        assert_eq!(words("md5sum a\0b"), Err(WordsError::Nul));
        assert_eq!(words(&"a ".repeat(EXEC_WORDS_MAX + 1)), Err(WordsError::TooMany));
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(name in proptest::collection::vec(1_u8.., 1..40)) {
            let single = name.split(|byte| *byte == b'\'').map(|part| [b"'", part, b"'"].concat());
            let single = single.collect::<Vec<_>>().join(&b"\\'"[..]);
            prop_assert_eq!(split(&single), Ok(vec![name]));
        }

        #[test]
        fn any_bytes_are_words_or_refused(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(split(&line));
        }
    }
}
