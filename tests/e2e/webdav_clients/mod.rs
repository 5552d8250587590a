//! WebDAV clients: those that run here run; of the others, what they send, in their order (`WebTrace`).

mod cadaver;
mod desktops;
mod finder;
mod npm;
mod office;
mod pypi;
mod synchronizers;
mod windows;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Where `tests/run packages` installs clients that no distribution has.
fn installed(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // <target>/debug/deps/e2e
    let target = own.ancestors().nth(3).context("the target directory")?;
    let found = target.join("clients").join(name);
    ensure!(found.exists(), "{} is missing: run `./tests/run packages` first", found.display());
    Ok(found)
}
