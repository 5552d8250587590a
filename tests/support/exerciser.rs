//! The file system exerciser of Apple and Minix (`fsx`) in our words: random reads, writes, truncations and reopenings of one
//! file, compared with a buffer after each. Without mmap, which is the kernel's and not the file system's here.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Bytes that the file never exceeds.
const FILE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one read or write.
const PIECE_BYTES_MAX: usize = 96 * 1024;
/// Operations that a failure tells, the last ones.
const TOLD: usize = 12;

/// Random numbers that are the same for the same seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// By a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % end
    }
}

/// One file and what it must hold.
#[derive(Debug)]
pub struct Exerciser {
    path: PathBuf,
    file: File,
    expected: Vec<u8>,
    dice: Dice,
    done: VecDeque<String>,
    operations: usize,
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
}

impl Exerciser {
    /// On an empty file.
    ///
    /// # Errors
    /// The system's.
    pub fn new(path: PathBuf, seed: u64) -> Result<Self> {
        let file = open(&path)?;
        file.set_len(0)?;
        let done = VecDeque::new();
        Ok(Self { path, file, expected: Vec::new(), dice: Dice::new(seed), done, operations: 0 })
    }

    /// Does so many operations, compares the file whole, closes it, and tells what it must hold from then on.
    ///
    /// # Errors
    /// At the first difference, with what led to it, or the system's.
    pub fn run(mut self, operations: usize) -> Result<Vec<u8>> {
        for _ in 0..operations {
            self.step().with_context(|| self.story())?;
        }
        self.compare_all().with_context(|| self.story())?;
        Ok(self.expected)
    }

    fn story(&self) -> String {
        let told: Vec<&str> = self.done.iter().map(String::as_str).collect();
        format!("operation {}; the last ones:\n  {}", self.operations, told.join("\n  "))
    }

    fn note(&mut self, operation: String) {
        self.operations += 1;
        self.done.push_back(operation);
        if self.done.len() > TOLD {
            self.done.pop_front();
        }
    }

    fn step(&mut self) -> Result<()> {
        match self.dice.below(100) {
            0..=39 => self.write(),
            40..=74 => self.read(),
            75..=84 => self.truncate(),
            85..=89 => self.append(),
            90..=93 => {
                self.note("sync".into());
                Ok(self.file.sync_all()?)
            }
            94..=97 => self.reopen(),
            _ => self.compare_all(),
        }
    }

    /// Somewhere in the file or beyond its end; boundaries of pages and of small pieces are as likely as anything else.
    fn place(&mut self) -> (usize, usize) {
        let mut offset = self.dice.below(FILE_BYTES_MAX - 1);
        if self.dice.below(4) == 0 {
            offset &= !4095;
        }
        let most = PIECE_BYTES_MAX.min(FILE_BYTES_MAX - offset);
        let small = if self.dice.below(3) == 0 { most.min(64) } else { most };
        (offset, 1 + self.dice.below(small))
    }

    fn piece(&mut self, len: usize) -> Vec<u8> {
        let first = self.dice.below(256);
        (0..len).map(|at| u8::try_from((first + at * 7 + at / 256) & 255).unwrap_or(0)).collect()
    }

    fn write(&mut self) -> Result<()> {
        let (offset, len) = self.place();
        self.note(format!("write {len} bytes at {offset}"));
        let piece = self.piece(len);
        self.file.write_all_at(&piece, offset as u64)?;
        self.put(offset, &piece);
        Ok(())
    }

    fn put(&mut self, offset: usize, piece: &[u8]) {
        if self.expected.len() < offset + piece.len() {
            self.expected.resize(offset + piece.len(), 0);
        }
        self.expected[offset..offset + piece.len()].copy_from_slice(piece);
    }

    fn append(&mut self) -> Result<()> {
        let len = 1 + self.dice.below(8192);
        if self.expected.len() + len > FILE_BYTES_MAX {
            return Ok(());
        }
        self.note(format!("append {len} bytes to {}", self.expected.len()));
        let piece = self.piece(len);
        std::io::Write::write_all(&mut OpenOptions::new().append(true).open(&self.path)?, &piece)?;
        self.put(self.expected.len(), &piece);
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let (offset, len) = self.place();
        self.note(format!("read {len} bytes at {offset} of {}", self.expected.len()));
        let mut got = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.file.read_at(&mut got[filled..], (offset + filled) as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        let end = (offset + len).min(self.expected.len());
        let wanted = self.expected.get(offset.min(end)..end).unwrap_or_default();
        differ(&got[..filled], wanted, offset)
    }

    fn truncate(&mut self) -> Result<()> {
        let len = self.dice.below(FILE_BYTES_MAX);
        self.note(format!("truncate {} to {len}", self.expected.len()));
        self.file.set_len(len as u64)?;
        self.expected.resize(len, 0);
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.note("close and open".into());
        self.file = open(&self.path)?;
        let size = self.file.metadata()?.len();
        ensure!(size == self.expected.len() as u64, "{size} bytes, not {}", self.expected.len());
        Ok(())
    }

    fn compare_all(&mut self) -> Result<()> {
        self.note("read all through another handle".into());
        differ(&std::fs::read(&self.path)?, &self.expected, 0)
    }
}

fn differ(got: &[u8], wanted: &[u8], offset: usize) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    let at = got.iter().zip(wanted).position(|(one, other)| one != other);
    match at {
        Some(at) => bail!("byte {} is {}, not {}", offset + at, got[at], wanted[at]),
        None => bail!("{} bytes came, not {}", got.len(), wanted.len()),
    }
}
