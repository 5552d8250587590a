//! Open files and directories of one channel. A handle's name holds the channel's random tag, so that another channel's is
//! unknown here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::RwLock;

use super::attributes::Owners;
use super::status::Failure;
use crate::limits::SFTP_HANDLES_MAX;
use crate::vfs::{Attributes, DirectoryHandle, FileHandle};

/// An open file; taken out when it is closed. The lock is fair: requests get it in the order in which they came.
pub type SharedFile = Arc<RwLock<Option<FileHandle>>>;

/// An open directory.
#[derive(Debug)]
pub struct OpenDirectory {
    /// Where the listing is.
    pub handle: DirectoryHandle,
    /// For `.` and `..`, until they are sent.
    pub dots: Option<Attributes>,
    /// Whose names the lines show.
    pub owners: Arc<Owners>,
}

/// An open directory, which gives its next names to one request at a time.
pub type SharedDirectory = Arc<tokio::sync::Mutex<OpenDirectory>>;

/// What a handle names.
#[derive(Debug, Clone)]
pub enum Open {
    /// A file.
    File(SharedFile),
    /// A directory.
    Directory(SharedDirectory),
}

/// Which of the channel's handles; never used twice.
pub type HandleNumber = u64;

/// The handles of a channel. Opens under way hold their place.
#[derive(Debug)]
pub struct Handles {
    tag: [u8; 4],
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: HandleNumber,
    opening: usize,
    open: HashMap<HandleNumber, Open>,
}

/// A place held for an open under way; given back on drop.
#[derive(Debug)]
pub struct Place(Option<Arc<Handles>>);

impl Handles {
    /// None yet.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new() -> Result<Arc<Self>, getrandom::Error> {
        let mut tag = [0; 4];
        getrandom::fill(&mut tag)?;
        Ok(Arc::new(Self { tag, table: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a place, if there is one.
    pub fn reserve(self: &Arc<Self>) -> Option<Place> {
        let mut table = self.lock();
        if table.open.len() + table.opening >= SFTP_HANDLES_MAX {
            return None;
        }
        table.opening += 1;
        Some(Place(Some(Arc::clone(self))))
    }

    fn number(&self, name: &[u8]) -> Option<HandleNumber> {
        let (tag, number) = name.split_first_chunk::<4>()?;
        let number: [u8; 8] = number.try_into().ok()?;
        (*tag == self.tag).then(|| HandleNumber::from_be_bytes(number))
    }

    /// What a handle names.
    pub fn get(&self, name: &[u8]) -> Option<(HandleNumber, Open)> {
        let number = self.number(name)?;
        Some((number, self.lock().open.get(&number)?.clone()))
    }

    /// The open file that a handle names.
    ///
    /// # Errors
    /// [`Failure::UNKNOWN_HANDLE`], for a directory too.
    pub fn file(&self, name: &[u8]) -> Result<(HandleNumber, SharedFile), Failure> {
        match self.get(name) {
            Some((number, Open::File(file))) => Ok((number, file)),
            Some((_, Open::Directory(_))) | None => Err(Failure::UNKNOWN_HANDLE),
        }
    }

    /// Forgets a handle: requests after this do not know it.
    pub fn take(&self, name: &[u8]) -> Option<Open> {
        self.lock().open.remove(&self.number(name)?)
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        let table = self.lock();
        table.open.is_empty() && table.opening == 0
    }
}

impl Place {
    /// Puts what was opened into the place, and names it.
    pub fn fill(mut self, open: Open) -> [u8; 12] {
        let Some(handles) = self.0.take() else { return [0; 12] };
        let mut table = handles.lock();
        table.opening -= 1;
        table.next = table.next.wrapping_add(1);
        let number = table.next;
        table.open.insert(number, open);
        let mut name = [0; 12];
        name[..4].copy_from_slice(&handles.tag);
        name[4..].copy_from_slice(&number.to_be_bytes());
        name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(handles) = self.0.take() {
            handles.lock().opening -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let handles = Handles::new().unwrap();
        let places: Vec<Place> = (0..SFTP_HANDLES_MAX).map(|_| handles.reserve().unwrap()).collect();
        assert!(handles.reserve().is_none());
        drop(places);
        assert!(handles.reserve().is_some() && handles.is_empty());
    }

    #[test]
    fn another_channels_handle_is_unknown() {
        let (one, two) = (Handles::new().unwrap(), Handles::new().unwrap());
        let name = one.reserve().unwrap().fill(Open::File(Arc::default()));
        assert!(one.get(&name).is_some());
        assert!(two.get(&name).is_none() || one.tag == two.tag);
        assert!(one.get(&name[..11]).is_none() && one.get(b"").is_none());
        assert!(one.take(&name).is_some() && one.get(&name).is_none());
    }
}
