//! `df`: what is free where a path lies, in the columns that programs parse.

use super::Shell;
use super::output::{Gone, complaint};
use crate::vfs::{SpaceState, VaultPath};

/// Bytes of a block that is counted.
const BLOCK_BYTES: u64 = 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Space {
    /// The header of POSIX (`-P`) instead of GNU's.
    posix: bool,
    paths: Vec<Vec<u8>>,
}

impl Space {
    /// Takes the words after `df`.
    pub(super) fn parse(words: &[Vec<u8>]) -> Result<Self, &'static str> {
        let (mut posix, mut paths, mut options) = (false, Vec::new(), true);
        for word in words {
            match word.as_slice() {
                b"--" if options => options = false,
                letters if options && letters.len() > 1 && letters.starts_with(b"-") => {
                    for letter in letters.iter().skip(1) {
                        match letter {
                            b'k' => {}
                            b'P' => posix = true,
                            _ => return Err("this option is not known here"),
                        }
                    }
                }
                path => paths.push(path.to_vec()),
            }
        }
        if paths.is_empty() {
            paths.push(b"/".to_vec());
        }
        Ok(Self { posix, paths })
    }

    pub(super) async fn run(&self, shell: &Shell) -> Result<u32, Gone> {
        let (mut status, mut lines) = (0, Vec::new());
        for path in &self.paths {
            let found = match VaultPath::parse(path) {
                Ok(path) => shell.namespace.space(&path).await,
                Err(error) => Err(error.into()),
            };
            match found {
                Ok(space) => lines.extend(line(&space).into_bytes()),
                Err(error) => {
                    status = 1;
                    shell.output.complain(complaint("df", path, &error)).await?;
                }
            }
        }
        if !lines.is_empty() {
            shell.output.print([header(self.posix).as_bytes(), &lines].concat()).await?;
        }
        Ok(status)
    }
}

fn header(posix: bool) -> String {
    let (blocks, share) = if posix { ("1024-blocks", "Capacity") } else { ("1K-blocks", "Use%") };
    format!("{:<14} {blocks:>12} {:>12} {:>12} {share:>4} Mounted on\n", "Filesystem", "Used", "Available")
}

fn line(space: &SpaceState) -> String {
    let [total, used, free] = [space.total_bytes, space.used_bytes, space.free_bytes];
    let share = match used.saturating_add(free) {
        0 => "-".to_owned(),
        sum => format!("{}%", (u128::from(used) * 100).div_ceil(u128::from(sum))),
    };
    let [total, used, free] = [total, used, free].map(|bytes| bytes / BLOCK_BYTES);
    format!("{:<14} {total:>12} {used:>12} {free:>12} {share:>4} /\n", "coffre")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_those_of_df() {
        let space = SpaceState { total_bytes: 4096, used_bytes: 1024, free_bytes: 3072, files: None };
        let fields: Vec<String> = line(&space).split_whitespace().map(str::to_owned).collect();
        assert_eq!(fields, ["coffre", "4", "1", "3", "25%", "/"]);
        assert_eq!(header(false).split_whitespace().count(), 7);
        let none = SpaceState { total_bytes: 0, used_bytes: 0, free_bytes: 0, files: None };
        assert!(line(&none).contains(" - /"));
    }

    #[test]
    fn kibibytes_are_the_only_unit() {
        let parse = |word: &str| Space::parse(&[word.as_bytes().to_vec()]);
        assert!(parse("-k").is_ok() && parse("-kP").unwrap().posix && parse("/a").unwrap().paths == [b"/a"]);
        assert!(parse("-h").is_err() && parse("--output").is_err());
    }
}
