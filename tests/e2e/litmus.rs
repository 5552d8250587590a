//! litmus, the WebDAV conformance suite, over TLS.

use std::process::Command;

use anyhow::Result;
use coffre_tests::{Gateway, run};

#[test]
fn litmus_passes_basic_copymove_props_locks_and_http() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let finished = run(
        Command::new("litmus")
            .args(["-k", &gateway.webdav, &gateway.user, &gateway.token])
            .env("TESTS", "basic copymove props locks http")
            .env("SSL_CERT_FILE", &gateway.ca_file)
            .current_dir(work.path()),
        b"",
    )?;
    let text = finished.text();
    for suite in ["basic", "copymove", "props", "locks", "http"] {
        let summary = format!("summary for `{suite}'");
        let line = text.lines().find(|line| line.contains(&summary)).unwrap_or_default();
        assert!(
            line.contains(" 0 failed") && !line.contains("of 0 tests"),
            "{suite}: {line}\n{text}\n{}",
            finished.stderr
        );
    }
    assert!(finished.status.success(), "{text}\n{}", finished.stderr);
    Ok(())
}
