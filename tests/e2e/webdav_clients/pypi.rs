//! webdavclient3 and webdav4, of `PyPI`.

use std::process::Command;

use anyhow::Result;
use coffre_tests::{Gateway, run_ok};

use super::installed;

fn session(script: &str) -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let script = format!("{}/e2e/webdav_clients/pypi/{script}", env!("CARGO_MANIFEST_DIR"));
    run_ok(
        Command::new(installed("pypi/bin/python3")?)
            .arg(script)
            .args([&gateway.webdav, &gateway.user, &gateway.token])
            .arg(&gateway.ca_file)
            .current_dir(work.path()),
    )?;
    Ok(())
}

#[test]
fn webdavclient3_lists_stores_pulls_moves_and_sets_properties() -> Result<()> {
    session("webdavclient3_session.py")
}

#[test]
fn webdav4_and_its_file_system_list_read_write_and_move() -> Result<()> {
    session("webdav4_session.py")
}
