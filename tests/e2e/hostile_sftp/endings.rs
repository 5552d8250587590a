//! Sessions that end where no client ends them.

use anyhow::{Result, ensure};
use coffre_tests::raw_sftp::{RawSftp, kind, string};

use super::{CREATE, WRITE, content, with_victim};

#[test]
fn a_closed_half_of_a_connection_ends_it_in_order() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = string(&raw.open(b"/half", WRITE | CREATE)?);
    let write = raw.ask(kind::WRITE, &[&handle, &0_u64.to_be_bytes(), &string(b"what arrived stays")])?;
    ensure!(write.status() == Some(0));
    drop(raw.take_sender());
    raw.read_to_end()?;
    ensure!(content(&gateway, "half")? == b"what arrived stays");
    Ok(())
}
