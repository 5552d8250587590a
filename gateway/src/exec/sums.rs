//! `md5sum`, `sha1sum`, `sha256sum`: lines exactly as coreutils prints them, from digests that are kept.

use std::sync::Arc;

use super::Shell;
use super::output::{Gone, complaint};
use super::pipe::Reader;
use crate::limits::EXEC_PIECE_BYTES;
use crate::vfs::digest::{Algorithm, Hasher};
use crate::vfs::{VaultPath, VfsError};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    /// The program's name.
    pub(super) program: &'static str,
    pub(super) algorithm: Algorithm,
    /// `*` before each name, as `--binary` has it.
    pub(super) binary: bool,
    /// `-` is standard input.
    pub(super) names: Vec<Vec<u8>>,
}

impl Sums {
    /// Takes the words after the program's name.
    pub(super) fn parse(
        program: &'static str,
        algorithm: Algorithm,
        words: &[Vec<u8>],
    ) -> Result<Self, &'static str> {
        let (mut binary, mut names, mut options) = (false, Vec::new(), true);
        for word in words {
            match word.as_slice() {
                b"--" if options => options = false,
                b"-b" | b"--binary" if options => binary = true,
                b"-t" | b"--text" if options => binary = false,
                name if options && name.len() > 1 && name.starts_with(b"-") => {
                    return Err("this option is not known here");
                }
                name => names.push(name.to_vec()),
            }
        }
        if names.is_empty() {
            names.push(b"-".to_vec());
        }
        Ok(Self { program, algorithm, binary, names })
    }

    /// Prints a line for each name; those that cannot be read are told of, and the status is 1.
    pub(super) async fn run(&self, shell: &Shell) -> Result<u32, Gone> {
        let mut status = 0;
        for name in &self.names {
            let digest =
                if name == b"-" { Ok(self.of_input(shell).await) } else { self.of(shell, name).await };
            match digest {
                Ok(digest) => shell.output.print(line(&digest, self.binary, name)).await?,
                Err(error) => {
                    status = 1;
                    shell.output.complain(complaint(self.program, name, &error)).await?;
                }
            }
        }
        Ok(status)
    }

    async fn of(&self, shell: &Shell, name: &[u8]) -> Result<Vec<u8>, VfsError> {
        let digests = shell.namespace.digests(&VaultPath::parse(name)?).await?;
        Ok(self.algorithm.of(&digests).unwrap_or_default().to_vec())
    }

    /// What the client sends: clients see by the digest of nothing whether there is such a program.
    async fn of_input(&self, shell: &Shell) -> Vec<u8> {
        let (mut hasher, mut reader) = (Hasher::new(self.algorithm), Reader::new(Arc::clone(&shell.input)));
        while let Some(piece) = reader.some(EXEC_PIECE_BYTES).await {
            hasher.update(&piece);
        }
        hasher.finish()
    }
}

/// A line. A name that would break it is written with escapes, and the line begins with a backslash.
fn line(digest: &[u8], binary: bool, name: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(2 * digest.len() + name.len() + 8);
    if name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        line.push(b'\\');
    }
    line.extend(digest.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    line.extend_from_slice(if binary { b" *" } else { b"  " });
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            plain => line.push(*plain),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_one_that_coreutils_prints() {
        assert_eq!(line(&[0x0a, 0xff], false, b"a b"), b"0aff  a b\n");
        assert_eq!(line(&[1], true, b"\xe9"), b"01 *\xe9\n");
        assert_eq!(line(&[1], false, b"a\\b\nc\rd"), b"\\01  a\\\\b\\nc\\rd\n");
    }

    #[test]
    fn options_are_few_and_names_may_begin_with_a_dash() {
        let parse = |words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            Sums::parse("md5sum", Algorithm::Md5, &words)
        };
        assert_eq!(parse(&[]).unwrap().names, [b"-"]);
        let sums = parse(&["-b", "a", "--", "-b"]).unwrap();
        assert_eq!((sums.binary, sums.names), (true, vec![b"a".to_vec(), b"-b".to_vec()]));
        assert!(parse(&["-c", "a"]).is_err() && parse(&["--check"]).is_err());
    }
}
