//! The protocol of the old `scp`: `source` sends files, `sink` takes them (`scp -O`; the client starts the other half here).
//!
//! Each message is a line that begins with its letter, and is answered by a zero byte, or by 1 (a warning; the file is left
//! out) or 2 (the end) with a line of text. It has no specification; what is written here was read off OpenSSH's client.

mod message;
mod sink;
mod source;

use super::Shell;
use super::output::{Gone, shown};

/// Which half of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// `-f`: sends.
    Source,
    /// `-t`: takes.
    Sink,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the program's own independent options")]
pub(super) struct Copy {
    half: Half,
    /// `-r`: directories too.
    recursive: bool,
    /// `-p`: times and all mode bits.
    preserve: bool,
    /// `-d`: the target must be a directory.
    into_directory: bool,
    paths: Vec<Vec<u8>>,
}

impl Copy {
    /// Takes the words after `scp`.
    pub(super) fn parse(words: &[Vec<u8>]) -> Result<Self, &'static str> {
        let (mut recursive, mut preserve, mut into_directory) = (false, false, false);
        let (mut source, mut sink) = (false, false);
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word == b"--" {
                rest = after;
                break;
            }
            let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
            for letter in letters {
                match letter {
                    b'r' => recursive = true,
                    b'p' => preserve = true,
                    b'd' => into_directory = true,
                    b'f' => source = true,
                    b't' => sink = true,
                    // How much is told.
                    b'v' | b'q' => {}
                    _ => return Err("this option is not known here"),
                }
            }
            rest = after;
        }
        let half = match (source, sink) {
            (true, false) => Half::Source,
            (false, true) => Half::Sink,
            (true, true) | (false, false) => return Err("scp is started by another scp only: with -t or -f"),
        };
        if rest.is_empty() || (half == Half::Sink && rest.len() > 1) {
            return Err("scp takes one target, or some sources");
        }
        Ok(Self { half, recursive, preserve, into_directory, paths: rest.to_vec() })
    }

    pub(super) async fn run(&self, shell: &Shell) -> Result<u32, Gone> {
        match self.half {
            Half::Source => source::run(self, shell).await,
            Half::Sink => sink::run(self, shell).await,
        }
    }
}

/// A warning as the other half shows it.
fn warning(name: &[u8], reason: &str) -> Vec<u8> {
    [b"\x01scp: ", &shown(name)[..], b": ", &shown(reason.as_bytes())[..], b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Copy, &'static str> {
        Copy::parse(&words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn options_come_alone_or_together() {
        let copy = parse(&["-v", "-rp", "-d", "-t", "--", "-x"]).unwrap();
        assert!(copy.recursive && copy.preserve && copy.into_directory && copy.half == Half::Sink);
        assert_eq!(copy.paths, [b"-x"]);
        assert_eq!(parse(&["-f", "a", "b"]).unwrap().paths.len(), 2);
    }

    #[test]
    fn what_no_other_half_sends_is_refused() {
        for words in
            [&["a", "b"][..], &["-t"], &["-f"], &["-t", "a", "b"], &["-tf", "a"], &["-S", "sh", "-t", "a"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_warning_is_one_line() {
        assert_eq!(warning(b"a\nb", "no\nroom"), b"\x01scp: a?b: no?room\n");
    }
}
