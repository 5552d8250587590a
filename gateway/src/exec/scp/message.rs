//! The lines of the protocol.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::vfs::{Attributes, UnixNanos};

/// Permission bits on the wire.
const MODE_MAX: u32 = 0o7777;

/// Access and modification times of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) mtime: UnixNanos,
    pub(super) atime: UnixNanos,
}

/// What the other half says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// `T`
    Times(Times),
    /// `C`: a file of `size` bytes follows.
    File { mode: u32, size: u64, name: Vec<u8> },
    /// `D`: what follows is in this directory, until `E`.
    Directory { mode: u32, name: Vec<u8> },
    /// `E`
    End,
}

/// The line is none of the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("protocol error")]
pub(super) struct Malformed;

fn number(field: &[u8], radix: u32) -> Result<u64, Malformed> {
    let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).map_err(|_| Malformed)?;
    if is_number { u64::from_str_radix(text, radix).map_err(|_| Malformed) } else { Err(Malformed) }
}

/// Seconds and microseconds.
fn time(seconds: &[u8], micros: &[u8]) -> Result<UnixNanos, Malformed> {
    let (seconds, micros) = (number(seconds, 10)?, number(micros, 10)?);
    if micros > 999_999 {
        return Err(Malformed);
    }
    let nanos =
        seconds.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(micros.checked_mul(1000)?));
    nanos.and_then(|nanos| i64::try_from(nanos).ok()).map(UnixNanos).ok_or(Malformed)
}

/// Mode, size and name of a `C` or `D`. The name is checked by whoever makes a path of it.
fn object(rest: &[u8]) -> Result<(u32, u64, Vec<u8>), Malformed> {
    let mut fields = rest.splitn(3, |byte| *byte == b' ');
    let mut field = || fields.next().ok_or(Malformed);
    let (mode, size, name) = (field()?, field()?, field()?);
    let mode = u32::try_from(number(mode, 8)?).ok().filter(|mode| *mode <= MODE_MAX).ok_or(Malformed)?;
    Ok((mode, number(size, 10)?, name.to_vec()))
}

impl Message {
    /// Takes a line apart, without its newline.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let (letter, rest) = line.split_first().ok_or(Malformed)?;
        match letter {
            b'T' => {
                let fields: Vec<&[u8]> = rest.split(|byte| *byte == b' ').collect();
                let [mtime, mtime_micros, atime, atime_micros] = fields[..] else { return Err(Malformed) };
                Ok(Self::Times(Times {
                    mtime: time(mtime, mtime_micros)?,
                    atime: time(atime, atime_micros)?,
                }))
            }
            b'C' => object(rest).map(|(mode, size, name)| Self::File { mode, size, name }),
            b'D' => object(rest).map(|(mode, _, name)| Self::Directory { mode, name }),
            b'E' if rest.is_empty() => Ok(Self::End),
            _ => Err(Malformed),
        }
    }
}

/// The line of `T` for what has these attributes.
pub(super) fn times_line(attributes: &Attributes) -> Vec<u8> {
    // Times before 1970 have no form here.
    let secs = |time: UnixNanos| time.0.max(0).div_euclid(1_000_000_000);
    let micros = |time: UnixNanos| time.0.max(0).rem_euclid(1_000_000_000).div_euclid(1000);
    let (mtime, atime) = (attributes.mtime, attributes.atime);
    format!("T{} {} {} {}\n", secs(mtime), micros(mtime), secs(atime), micros(atime)).into_bytes()
}

/// The line of `C` or `D`.
pub(super) fn object_line(letter: char, attributes: &Attributes, size: u64, name: &[u8]) -> Vec<u8> {
    let head = format!("{letter}{:04o} {size} ", attributes.mode & MODE_MAX).into_bytes();
    [&head, name, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_line_is_read_as_it_is_written() {
        assert_eq!(
            Message::parse(b"C0644 12 a b"),
            Ok(Message::File { mode: 0o644, size: 12, name: b"a b".to_vec() })
        );
        assert_eq!(
            Message::parse(b"D4755 0 \xe9"),
            Ok(Message::Directory { mode: 0o4755, name: b"\xe9".to_vec() })
        );
        let times = Times { mtime: UnixNanos(1_500_000_000_000_007_000), atime: UnixNanos(2_000_000_000) };
        assert_eq!(Message::parse(b"T1500000000 7 2 0"), Ok(Message::Times(times)));
        assert_eq!(Message::parse(b"E"), Ok(Message::End));
    }

    #[test]
    fn a_line_that_is_not_the_protocols_is_refused() {
        for line in [
            &b""[..],
            b"C",
            b"C0644",
            b"C0644 12",
            b"C0848 1 a",
            b"C17777 1 a",
            b"C0644 -1 a",
            b"C0644 +1 a",
            b"C0644  1 a",
            b"C0644 99999999999999999999 a",
            b"T1 2 3",
            b"T1 1000000 3 0",
            b"T99999999999 0 0 0",
            b"E1",
            b"X",
            b"\x00",
        ] {
            assert_eq!(Message::parse(line), Err(Malformed), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_taken_apart_or_refused(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Message::parse(&line));
        }
    }
}
