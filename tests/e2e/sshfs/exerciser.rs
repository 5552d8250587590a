//! Thousands of random operations against a buffer.

use std::fs;

use anyhow::{Result, ensure};
use coffre_tests::exerciser::Exerciser;
use coffre_tests::mount::NO_CACHES;
use coffre_tests::{Gateway, Mount};

fn exercised(options: &[&str], seed: u64) -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, options)?;
    let expected = Exerciser::new(mount.path().join("exercised"), seed)?.run(4000)?;
    mount.unmount()?;
    // And what lies there is that, not what a handle remembered.
    let again = Mount::new(&gateway, &[])?;
    ensure!(fs::read(again.path().join("exercised"))? == expected, "after a new mount");
    Ok(())
}

#[test]
fn thousands_of_random_operations_leave_what_a_disk_would() -> Result<()> {
    exercised(NO_CACHES, 1)
}

#[test]
fn random_operations_through_the_kernels_caches_leave_what_a_disk_would() -> Result<()> {
    exercised(&[], 2)
}
