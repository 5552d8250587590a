//! Many small files, new ones in each round.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use tempfile::TempDir;

use super::programs::sync;
use super::{Figures, Plan, Served, Target, order};
use crate::files::noise;
use crate::run_ok;

/// Bytes of a small file.
pub const FILE_BYTES: usize = 4096;

/// Makes files of so many bytes each, called by their numbers; the same for the same seed.
///
/// # Errors
/// The system's.
pub fn make_files(directory: &Path, count: usize, bytes: usize, seed: u64) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir(directory)?;
    let content = noise(seed, count * bytes);
    for (number, piece) in content.chunks(bytes).enumerate() {
        fs::write(directory.join(file_name(number)), piece)?;
    }
    Ok(())
}

/// What [`make_files`] calls a file.
pub fn file_name(number: usize) -> String {
    format!("{number:05}")
}

/// Fails unless two directories hold the same.
///
/// # Errors
/// When they do not.
pub fn same(server: &impl Served, sent: &Path, got: &Path) -> Result<()> {
    if run_ok(Command::new("diff").arg("-rq").arg(sent).arg(got)).is_err() {
        bail!("{} gave back something else", server.side());
    }
    Ok(())
}

/// One side's work in one round: its wall time, and the server's CPU.
pub type Work<'w, S> = dyn Fn(&S, &Path, usize) -> Result<(f64, f64)> + 'w;

/// Runs one kind of upload in rounds; calls `after` with each server and the directory that was sent.
///
/// # Errors
/// The first that fails.
pub fn uploads<S: Served>(
    plan: &Plan,
    servers: &[S],
    figures: &mut Figures,
    work: &Work<'_, S>,
    after: &mut dyn FnMut(&S, &Path, usize) -> Result<()>,
) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let files = here.path().join("files");
    for round in 0..plan.rounds {
        make_files(&files, plan.files, FILE_BYTES, round as u64 + 1)?;
        sync()?;
        for at in order(servers.len(), round) {
            figures.add(servers[at].side(), work(&servers[at], &files, round)?);
            sync()?;
        }
        figures.tell(round);
        for at in order(servers.len(), round) {
            after(&servers[at], &files, round)?;
        }
    }
    Ok(())
}

/// Figures of small files moved in some way.
pub fn figures(plan: &Plan, what: &str, wall: &[Target], cpu: &[Target]) -> Figures {
    Figures::new(&format!("{} files of {} KiB, {what}", plan.files, FILE_BYTES / 1024), wall, cpu)
}
