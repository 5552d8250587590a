//! Who downloads a file gets one content of it, whatever others do to it meanwhile.

use std::io::Read;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::{Gateway, run_ok};

/// More than all buffers between server and client hold.
const BYTES: usize = 64 << 20;

#[test]
fn a_download_goes_on_with_the_content_it_began_with_when_the_file_is_replaced() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (before, after) = (noise(1, BYTES), noise(2, BYTES));
    let (old, new) = (work.path().join("old"), work.path().join("new"));
    write_file(&old, &before, 1_500_000_000)?;
    write_file(&new, &after, 1_500_000_000)?;
    let url = gateway.url("file");
    for http in ["--http1.1", "--http2"] {
        run_ok(gateway.curl().arg("-T").arg(&old).arg(&url))?;
        let mut download = gateway.curl().args([http, "--no-buffer", &url]).stdout(Stdio::piped()).spawn()?;
        let mut out = download.stdout.take().context("standard output")?;
        let mut got = vec![0; 1 << 20];
        out.read_exact(&mut got)?;
        run_ok(gateway.curl().arg("-T").arg(&new).arg(&url))?;
        out.read_to_end(&mut got)?;
        let ended = download.wait()?;
        ensure!(ended.success() && got == before, "{http}: {} bytes, {ended}", got.len());
    }
    Ok(())
}
