//! litmus, the WebDAV conformance suite, over TLS.
//!
//! It warns once: after `DELETE /litmus/frag/#ment` the collection `frag` is gone. A request's target has no fragment (RFC
//! 9112 section 3.2), and the library that reads it takes it off before anybody here could refuse it. No client sends one:
//! what follows a `#` stays in the client, and a `#` in a name is encoded.

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
    let warnings: Vec<&str> = text.split(['\n', '\r']).filter(|line| line.contains("WARNING")).collect();
    assert!(matches!(warnings[..], [only] if only.contains("delete_fragment")), "{warnings:?}");
    assert!(finished.status.success(), "{text}\n{}", finished.stderr);
    Ok(())
}
