//! paramiko: random writes through one handle, prefetch without limit.

use std::process::Command;

use anyhow::Result;
use coffre_tests::{Gateway, run_ok};

#[test]
fn paramiko_writes_at_random_and_prefetches_without_limit() -> Result<()> {
    let gateway = Gateway::start()?;
    run_ok(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/paramiko_client.py"))
            .args([gateway.sftp_port(), &gateway.user])
            .arg(&gateway.key_file),
    )?;
    Ok(())
}
