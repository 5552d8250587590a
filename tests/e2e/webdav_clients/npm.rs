//! The `webdav` package of npm.

use std::process::Command;

use anyhow::Result;
use coffre_tests::{Gateway, run_ok};

use super::installed;

#[test]
fn npm_webdav_lists_stores_moves_locks_and_tells_quota() -> Result<()> {
    let gateway = Gateway::start()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/webdav_clients/npm/session.mjs");
    run_ok(
        Command::new("node")
            .env("NODE_EXTRA_CA_CERTS", &gateway.ca_file)
            .arg(script)
            .arg(installed("npm/node_modules/webdav/dist/node/index.js")?)
            .args([&gateway.webdav, &gateway.user, &gateway.token]),
    )?;
    Ok(())
}
