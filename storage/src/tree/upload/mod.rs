//! Content on its way in and out: the one open file of an inode, and uploads that commit in one step.
//!
//! Both are the same machine: extents of what is stored + dirty bytes in memory. Dirty bytes over
//! `DIRTY_BYTES_TARGET` are cut, hashed, deduplicated, sealed and staged as frames; a commit stages the rest and
//! puts the new content record, chunk references and audit record into one transaction.
//!
//! Locks: a file's state, then the store's writer lock, never the other way round. An inode that lost its last name stays
//! readable and writable through those who have it open; its commits then write their record only. An upload that replaces
//! the content of a file others have open is what they read from then on, unless they have unsaved writes of their own: those
//! go on with what they have, and the last commit wins.

mod claims;
mod dirty;
mod editor;
mod extents;
mod known;
mod open_file;
mod settle;
mod share;
mod whole;

pub(crate) use claims::Claims;
pub use open_file::OpenFile;
pub(crate) use open_file::{FileState, OpenHold, Tense};
pub use whole::{Precondition, Upload};

/// How a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The client closed or synced it.
    Whole,
    /// The connection broke: kept, marked incomplete, an incident is raised.
    Broken,
}
