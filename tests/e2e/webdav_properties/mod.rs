//! What WebDAV shows of files: PROPFIND, PROPPATCH, and the page for browsers.

mod listing;
mod page;
mod patch;

use anyhow::{Context, Result, ensure};
use coffre_tests::raw_sftp::{kind, request, string};
use coffre_tests::{Gateway, RawSftp, WebAnswer, WebTrace};

/// A PROPFIND that asks for these, as elements with their namespaces.
fn asked(gateway: &Gateway, path: &str, depth: u8, wanted: &str) -> Result<WebAnswer> {
    let body = format!("<propfind xmlns='DAV:'><prop>{wanted}</prop></propfind>");
    let headers = format!("Depth: {depth}\r\n");
    WebTrace::new(gateway, "").ask(&format!("PROPFIND {path}"), &headers, body.as_bytes(), 207)
}

/// So many directories in one, by an SFTP client that does not wait.
fn make_many(gateway: &Gateway, parent: &str, count: u32) -> Result<()> {
    const AHEAD: u32 = 64;
    let mut raw = RawSftp::start(gateway)?;
    let taken = |raw: &mut RawSftp| -> Result<()> {
        let answer = raw.answer()?.context("the channel was closed")?;
        ensure!(answer.status() == Some(0), "{answer:?}");
        Ok(())
    };
    for number in 0..count {
        let path = format!("{parent}/entry-{number:06}");
        raw.send(&request(kind::MKDIR, 1000 + number, &[&string(path.as_bytes()), &0_u32.to_be_bytes()]))?;
        if number >= AHEAD {
            taken(&mut raw)?;
        }
    }
    (0..count.min(AHEAD)).try_for_each(|_| taken(&mut raw))
}
