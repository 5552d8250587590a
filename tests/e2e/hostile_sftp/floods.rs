//! Clients that ask and do not read.

use std::io::Write;

use anyhow::{Context, Result};
use coffre_tests::Gateway;
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{RawSftp, kind, request, string};

use super::{CREATE, READ, WRITE, watch_memory};

#[test]
fn reads_whose_answers_are_never_fetched_hold_little_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("big");
    write_file(&file, &noise(1, 32 << 20), 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} big\n", file.display()))?;
    let mut floods = Vec::new();
    for _ in 0..8 {
        let mut raw = RawSftp::start(&gateway)?;
        let handle = string(&raw.open(b"/big", READ)?);
        let mut sender = raw.take_sender().context("a sender")?;
        let asks: Vec<u8> = (0..20_000_u32)
            .flat_map(|id| {
                let offset = u64::from(id % 128) << 18;
                request(kind::READ, id, &[&handle, &offset.to_be_bytes(), &(255_u32 << 10).to_be_bytes()])
            })
            .collect();
        // Blocks once the server stops reading; ends when the connection is dropped.
        std::thread::spawn(move || drop(sender.write_all(&asks)));
        floods.push(raw);
    }
    watch_memory(&gateway)?;
    drop(floods);
    gateway.sftp_batch("ls -l big\n")?;
    Ok(())
}

#[test]
fn writes_whose_answers_are_never_fetched_hold_little_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut floods = Vec::new();
    for number in 0..8_u32 {
        let mut raw = RawSftp::start(&gateway)?;
        let handle = string(&raw.open(format!("/flood-{number}").as_bytes(), WRITE | CREATE)?);
        let mut sender = raw.take_sender().context("a sender")?;
        let piece = noise(u64::from(number) + 1, 128 << 10);
        std::thread::spawn(move || {
            // Blocks once the server stops reading; ends when the connection is dropped.
            (0..4000_u32).try_for_each(|id| {
                let offset = (u64::from(id) << 17) % (1 << 28);
                sender.write_all(&request(
                    kind::WRITE,
                    id,
                    &[&handle, &offset.to_be_bytes(), &string(&piece)],
                ))
            })
        });
        floods.push(raw);
    }
    watch_memory(&gateway)?;
    drop(floods);
    gateway.sftp_batch("ls\n")?;
    Ok(())
}
