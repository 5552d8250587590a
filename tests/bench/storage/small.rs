//! Durable small files a second, against one file for each on the same disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use coffre_storage::Vault;
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::{Completion, Precondition};
use coffre_tests::files::noise;

use super::bed::{Bed, draft, median, rate};

const FILE_BYTES: usize = 4096;
const ROUNDS: u64 = 5;
const WRITERS: [u64; 3] = [1, 8, 64];

/// How a file is written.
#[derive(Clone, Copy)]
enum Way {
    /// As SFTP does: OPEN makes it, CLOSE makes it durable.
    Opened,
    /// As WebDAV's PUT does: one transaction.
    Put,
    /// A temporary file, fsync, rename.
    Plain,
    /// The same, and fsync of the directory.
    PlainSynced,
}

impl Way {
    const ALL: [Self; 4] = [Self::Opened, Self::Put, Self::Plain, Self::PlainSynced];

    fn says(self) -> &'static str {
        match self {
            Self::Opened => "create, write, close",
            Self::Put => "put",
            Self::Plain => "a file for each, fsync and rename",
            Self::PlainSynced => "a file for each, fsync, rename, fsync of the directory",
        }
    }

    fn write(self, bed: &Bed, name: &str, content: &[u8]) -> Result<()> {
        match self {
            Self::Opened => opened(&bed.vault, name, content),
            Self::Put => put(&bed.vault, name, content),
            Self::Plain => plain(&bed.directory().join("plain"), name, content, false),
            Self::PlainSynced => plain(&bed.directory().join("plain"), name, content, true),
        }
    }
}

fn opened(vault: &Vault, name: &str, content: &[u8]) -> Result<()> {
    let mode = AttributeChange::default();
    let created = vault.create_file(InodeId::ROOT, name.as_bytes(), &mode, draft(Action::FileCreate))?;
    let file = vault.open(created.value)?;
    file.write_at(0, content)?;
    file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()?;
    Ok(())
}

fn put(vault: &Vault, name: &str, content: &[u8]) -> Result<()> {
    let mut upload = vault.begin_upload()?;
    upload.write(content)?;
    let (at, mode) = ((InodeId::ROOT, name.as_bytes()), AttributeChange::default());
    upload.commit(at, Precondition::Absent, &mode, draft(Action::FileWrite))?.wait()?;
    Ok(())
}

fn plain(directory: &Path, name: &str, content: &[u8], whole: bool) -> Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, directory.join(name))?;
    if whole {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Durable files a second of so many writers that each wait for each file.
fn round(bed: &Bed, way: Way, writers: u64, files: u64, number: u64) -> Result<f64> {
    let each = files / writers;
    let writer = |writer: u64| -> Result<()> {
        for file in 0..each {
            let name = format!("{}-{writers}-{number}-{writer}-{file}", way as u8);
            let seed =
                (u64::from(way as u8) << 56) | (writers << 48) | (number << 40) | (writer << 32) | file;
            way.write(bed, &name, &noise(seed + 1, FILE_BYTES))?;
        }
        Ok(())
    };
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..writers).map(|at| scope.spawn(move || writer(at))).collect();
        running
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })?;
    Ok(rate(each * writers, begin.elapsed()))
}

/// Measures.
pub(crate) fn run(parent: &Path, files: u64) -> Result<()> {
    let bed = Bed::make(parent)?;
    fs::create_dir(bed.directory().join("plain"))?;
    for writers in WRITERS {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); Way::ALL.len()];
        for number in 0..ROUNDS {
            for (way, rates) in Way::ALL.into_iter().zip(&mut rates) {
                rates.push(round(&bed, way, writers, files.min(2000 * writers), number)?);
            }
        }
        let medians: Vec<f64> = rates.into_iter().map(median).collect();
        for (way, found) in Way::ALL.into_iter().zip(&medians) {
            println!("{writers} writers, {}: {found:.0} a second", way.says());
        }
        for (at, ours) in medians[..2].iter().enumerate() {
            println!(
                "{writers} writers, {}: {:.1} times a file for each, {:.1} times with the directory synced",
                Way::ALL[at].says(),
                ours / medians[2],
                ours / medians[3]
            );
        }
    }
    let last = format!("0-8-{}-7-0", ROUNDS - 1);
    ensure!(bed.vault.lookup(InodeId::ROOT, last.as_bytes())?.size == FILE_BYTES as u64, "it is there");
    bed.store.shutdown()?;
    Ok(())
}
