//! asyncssh: recursive copies, globs, symbolic links in the draft's order, limits.

use std::process::Command;

use anyhow::Result;
use coffre_tests::files::same_listing;
use coffre_tests::{Gateway, Names, listing, run_ok, sample_tree};

#[test]
fn asyncssh_copies_trees_globs_and_makes_links() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    run_ok(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/asyncssh_client.py"))
            .args([gateway.sftp_port(), &gateway.user])
            .args([&gateway.key_file, &gateway.known_hosts, &here, &back]),
    )?;
    same_listing("there and back", &listing(&here)?, &listing(&back)?)
}
