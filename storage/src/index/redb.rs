//! redb behind the index trait: one table of bytes for each [`Table`], applied without a sync, synced at checkpoints
//! with quick-repair so that it opens in milliseconds after a crash.

use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, TableDefinition, TableError};

use super::{Change, Entries, Entry, Index, IndexError, Snapshot, Table};
use crate::limits::{INDEX_CACHE_BYTES_MAX, INDEX_CACHE_BYTES_MIN};

/// Bytes overwritten at a time.
const OVERWRITE_BYTES: usize = 1024 * 1024;
/// Rows copied in one transaction.
const COPY_ROWS: usize = 4096;
/// The part of an index that its branch pages take, and a little more: with these in memory a lookup reads one page.
const BRANCHES_PART: u64 = 64;

/// Bytes of pages that redb keeps in memory: what an index of this size needs, within bounds.
fn cache_bytes(path: &Path) -> Result<usize, IndexError> {
    let bytes = fs::metadata(path).map_err(backend)?.len() / BRANCHES_PART;
    let bytes = usize::try_from(bytes).unwrap_or(INDEX_CACHE_BYTES_MAX);
    Ok(bytes.clamp(INDEX_CACHE_BYTES_MIN, INDEX_CACHE_BYTES_MAX))
}

/// The embedded index.
pub struct RedbIndex {
    path: PathBuf,
    database: RwLock<Database>,
}

impl std::fmt::Debug for RedbIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedbIndex(..)")
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn backend(error: impl std::error::Error + Send + Sync + 'static) -> IndexError {
    IndexError::Backend(Box::new(error))
}

impl RedbIndex {
    /// Makes an empty index at `path`: under a temporary name first, for a crash while creating leaves a file that
    /// cannot be opened.
    ///
    /// # Errors
    /// The back end's and the system's.
    pub fn create(path: &Path) -> Result<(), IndexError> {
        let temporary = path.with_extension("new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(backend(error)),
            _ => {}
        }
        let database =
            Database::builder().set_cache_size(INDEX_CACHE_BYTES_MIN).create(&temporary).map_err(backend)?;
        let index = Self { path: path.to_owned(), database: RwLock::new(database) };
        index.checkpoint()?;
        drop(index);
        fs::rename(&temporary, path).map_err(backend)?;
        let directory = path.parent().unwrap_or(path);
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(backend)
    }

    /// Opens the index at `path`.
    ///
    /// # Errors
    /// `InUse`; `Unusable` for a damaged file, which may make redb panic: that is caught here.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let cache = cache_bytes(path)?;
        let open = || Database::builder().set_cache_size(cache).open(path);
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(database)) => {
                overwrite_old(path).map_err(backend)?;
                Ok(Self { path: path.to_owned(), database: RwLock::new(database) })
            }
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(IndexError::InUse),
            Ok(Err(error)) => Err(backend(error)),
            Err(_) => Err(IndexError::Unusable("the index file is damaged")),
        }
    }
}

/// The index that was before a rewrite, on its way to being overwritten.
fn old_path(path: &Path) -> PathBuf {
    path.with_extension("old")
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Overwrites and removes what a rewrite left, if anything is there.
fn overwrite_old(path: &Path) -> std::io::Result<()> {
    let old = old_path(path);
    let file = match fs::OpenOptions::new().write(true).open(&old) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (zeros, len) = (vec![0; OVERWRITE_BYTES], file.metadata()?.len());
    let mut at = 0;
    while at < len {
        let piece = usize::try_from(len - at).map_or(OVERWRITE_BYTES, |left| left.min(OVERWRITE_BYTES));
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    file.sync_all()?;
    fs::remove_file(&old)?;
    sync_directory(path)
}

/// Copies every row into a fresh database, a piece a transaction.
fn copy_rows(from: &Database, to: &Database) -> Result<(), IndexError> {
    let snapshot = RedbSnapshot(from.begin_read().map_err(backend)?);
    for table in Table::ALL {
        let mut at = Vec::new();
        loop {
            let piece = snapshot.range(table, &at, &[0xff; 80], COPY_ROWS)?;
            let Some((last, _)) = piece.last() else { break };
            at = [&last[..], &[0]].concat();
            let mut transaction = to.begin_write().map_err(backend)?;
            transaction.set_durability(Durability::None).map_err(backend)?;
            let mut opened = transaction.open_table(definition(table)).map_err(backend)?;
            for (key, value) in &piece {
                drop(opened.insert(key.as_slice(), value.as_slice()).map_err(backend)?);
            }
            drop(opened);
            transaction.commit().map_err(backend)?;
        }
    }
    checkpoint(to)
}

fn checkpoint(database: &Database) -> Result<(), IndexError> {
    let mut transaction = database.begin_write().map_err(backend)?;
    transaction.set_durability(Durability::Immediate).map_err(backend)?;
    transaction.set_quick_repair(true);
    transaction.commit().map_err(backend)
}

struct RedbSnapshot(redb::ReadTransaction);

type Opened = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl RedbSnapshot {
    /// A table, unless nothing was ever put into it.
    fn table(&self, table: Table) -> Result<Option<Opened>, IndexError> {
        match self.0.open_table(definition(table)) {
            Ok(opened) => Ok(Some(opened)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(backend(error)),
        }
    }
}

fn get(table: &Opened, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
    Ok(table.get(key).map_err(backend)?.map(|value| value.value().to_vec()))
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.table(table)?.map_or(Ok(None), |opened| get(&opened, key))
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, IndexError> {
        match self.table(table)? {
            Some(opened) => keys.iter().map(|key| get(&opened, key)).collect(),
            None => Ok(vec![None; keys.len()]),
        }
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], max: usize) -> Result<Entries, IndexError> {
        let Some(opened) = self.table(table)? else { return Ok(Vec::new()) };
        if from >= to {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in opened.range(from..to).map_err(backend)?.take(max) {
            let (key, value) = entry.map_err(backend)?;
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Entry>, IndexError> {
        if from >= to {
            return Ok(None);
        }
        let Some(opened) = self.table(table)? else { return Ok(None) };
        match opened.range(from..to).map_err(backend)?.next_back() {
            None => Ok(None),
            Some(entry) => {
                let (key, value) = entry.map_err(backend)?;
                Ok(Some((key.value().to_vec(), value.value().to_vec())))
            }
        }
    }
}

impl Index for RedbIndex {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(RedbSnapshot(database.begin_read().map_err(backend)?)))
    }

    fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = database.begin_write().map_err(backend)?;
        transaction.set_durability(Durability::None).map_err(backend)?;
        // One open of a table for each run of changes to it: submitters group theirs.
        let mut rest = changes;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|change| change.table == first.table).count();
            let mut table = transaction.open_table(definition(first.table)).map_err(backend)?;
            for change in &rest[..run] {
                match &change.value {
                    Some(value) => {
                        drop(table.insert(change.key.as_slice(), value.as_slice()).map_err(backend)?);
                    }
                    None => drop(table.remove(change.key.as_slice()).map_err(backend)?),
                }
            }
            drop(table);
            rest = &rest[run..];
        }
        transaction.commit().map_err(backend)
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        checkpoint(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn rewrite(&self) -> Result<(), IndexError> {
        // Alone: what came in between would be lost.
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(backend(error)),
            Ok(()) | Err(_) => {}
        }
        let made =
            Database::builder().set_cache_size(cache_bytes(&self.path)?).create(&fresh).map_err(backend)?;
        copy_rows(&database, &made)?;
        // The old one keeps a name until it is overwritten: a crash in between is finished at the next start.
        let old = old_path(&self.path);
        let renamed = fs::hard_link(&self.path, &old)
            .and_then(|()| fs::rename(&fresh, &self.path))
            .and_then(|()| sync_directory(&self.path));
        renamed.map_err(backend)?;
        *database = made;
        overwrite_old(&self.path).map_err(backend)
    }

    fn verify(&self) -> Result<bool, IndexError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match catch_unwind(AssertUnwindSafe(|| database.check_integrity())) {
            Ok(Ok(clean)) => Ok(clean),
            // Somebody reads: the sealed values are verified one by one all the same.
            Ok(Err(DatabaseError::TransactionInProgress)) => Ok(true),
            Ok(Err(error)) => Err(backend(error)),
            Err(_) => Ok(false),
        }
    }
}
