//! After a disaster: a data directory made again, from a backup (`restore`) or from packs alone (`recover`).
//!
//! Both write into an empty directory and put its configuration file last: without it there is no data directory. What
//! they read is never changed.

mod identity;
mod recover;
mod restore;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coffre_storage::Store;
use coffre_storage::audit::{Action, Actor, RecordDraft};

use crate::admin::Answer;
use crate::config::{self, Config};
use crate::{setup, wiring};

pub use recover::{RecoverOptions, recover};
pub use restore::restore;

/// What is told at the end: to programs, and to people.
#[derive(Debug)]
pub struct Told {
    /// For programs.
    pub answer: Answer,
    /// For people.
    pub lines: Vec<String>,
}

/// A directory that is being filled; emptied again when dropped before it is whole.
#[derive(Debug)]
struct Unfinished {
    directory: PathBuf,
    whole: bool,
}

impl Unfinished {
    /// Takes an empty directory, or makes one.
    fn begin(directory: &Path) -> anyhow::Result<Self> {
        if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty; nothing was changed", directory.display());
        }
        setup::private_directory(directory)?;
        let own = Self { directory: std::path::absolute(directory)?, whole: false };
        setup::private_directory(&own.packs())?;
        setup::private_directory(&own.directory.join("secrets"))?;
        Ok(own)
    }

    fn packs(&self) -> PathBuf {
        wiring::store_directory(&self.directory).join("packs")
    }

    /// The configuration takes its name: from now on this is a data directory.
    fn finish(mut self, config: &Config) -> anyhow::Result<PathBuf> {
        fs::rename(&config.file, self.directory.join(config::FILE_NAME))?;
        fs::File::open(&self.directory)?.sync_all()?;
        self.whole = true;
        Ok(self.directory.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.whole {
            return;
        }
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(%error, path = %path.display(), "an unfinished directory is left");
            }
        }
    }
}

fn say_step(step: &'static str, last: &mut &'static str) {
    if *last != step {
        tracing::info!("{step}");
        *last = step;
    }
}

/// Opens what was rebuilt, and notes how it came to be.
fn open_rebuilt(config: &Config, action: Action) -> anyhow::Result<Store> {
    let store = wiring::open_store(config).context("opening what was rebuilt")?;
    store.record(RecordDraft::new(Actor::Operator, action))?.wait()?;
    Ok(store)
}
