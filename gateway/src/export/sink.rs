//! What an export is written into: a tree of files or an archive.

use super::walk::Found;

/// Why one thing was not written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The target takes this one not; others it may.
    Refused(String),
    /// It takes nothing more.
    Io(std::io::Error),
}

/// Where files go. Paths are bytes from the top of the destination; parents come before what is in them.
pub(super) trait Sink {
    /// Makes a directory, or enters one that an interrupted export made.
    fn enter(&mut self, found: &Found) -> Result<(), Trouble>;
    /// Nothing more comes into it.
    fn leave(&mut self, found: &Found) -> Result<(), Trouble>;
    fn symbolic_link(&mut self, found: &Found, target: &[u8]) -> Result<(), Trouble>;
    fn hard_link(&mut self, found: &Found, first: &[u8]) -> Result<(), Trouble>;
    /// Begins a file; its bytes and holes follow in order.
    fn begin(&mut self, found: &Found) -> Result<(), Trouble>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble>;
    fn skip(&mut self, bytes: u64) -> Result<(), Trouble>;
    fn end(&mut self, found: &Found) -> Result<(), Trouble>;
    /// Takes the file back that was begun.
    fn undo(&mut self, found: &Found) -> Result<(), Trouble>;
    /// Makes durable what was written.
    fn sync(&mut self) -> std::io::Result<()>;
    /// Where an archive goes on.
    fn position(&self) -> Option<u64>;
    /// All has come; durable when this returns.
    fn finish(&mut self) -> std::io::Result<()>;
}
