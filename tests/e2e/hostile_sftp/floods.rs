//! Clients that ask and do not read.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{RawSftp, kind, request, string};

use super::{CREATE, READ, WRITE, Witness, watch_memory, with_victim};

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

#[test]
fn a_million_requests_whose_answers_are_never_read_hold_little_memory() -> Result<()> {
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let mut raw = RawSftp::start(&gateway)?;
    let mut sender = raw.take_sender().context("a sender")?;
    // Blocks once the server stops reading; ends when the connection is dropped.
    std::thread::spawn(move || {
        (0..1_000_u32).try_for_each(|thousand| {
            let asks: Vec<u8> = (0..1_000)
                .flat_map(|one| request(kind::REALPATH, thousand * 1_000 + one, &[&string(&[b'a'; 200])]))
                .collect();
            sender.write_all(&asks)
        })
    });
    watch_memory(&gateway)?;
    // The first of them were taken: their answers are there for whoever reads them.
    let answer = raw.answer()?.context("an answer")?;
    ensure!(answer.kind == kind::NAME, "{answer:?}");
    witness.noticed_nothing(&gateway)
}

#[test]
fn listings_whose_answers_are_never_fetched_hold_little_memory() -> Result<()> {
    let gateway = with_victim()?;
    let mut maker = RawSftp::start(&gateway)?;
    ensure!(maker.ask(kind::MKDIR, &[&string(b"/wide"), &0_u32.to_be_bytes()])?.status() == Some(0));
    for number in 0..400 {
        let name = format!("/wide/{number:0250}");
        let made = maker.ask(kind::SYMLINK, &[&string(b"x"), &string(name.as_bytes())])?;
        ensure!(made.status() == Some(0), "{made:?}");
    }
    let witness = Witness::start(&gateway)?;
    let mut floods = Vec::new();
    for _ in 0..8 {
        let mut raw = RawSftp::start(&gateway)?;
        let mut asks = Vec::new();
        for _ in 0..60 {
            let directory = raw.ask(kind::OPENDIR, &[&string(b"/wide")])?;
            (0..5).for_each(|id| asks.extend(request(kind::READDIR, id, &[&string(&directory.string())])));
        }
        let mut sender = raw.take_sender().context("a sender")?;
        std::thread::spawn(move || drop(sender.write_all(&asks)));
        floods.push(raw);
    }
    watch_memory(&gateway)?;
    drop(floods);
    witness.noticed_nothing(&gateway)
}

#[test]
fn files_of_many_channels_that_are_written_and_not_closed_hold_little_memory() -> Result<()> {
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let mut sessions = Vec::new();
    // Twice as much in all as the server may hold, and less in each file than makes it stage anything by itself.
    for session in 0..2_u64 {
        let mut raw = RawSftp::start(&gateway)?;
        for number in 0..240_u64 {
            let path = format!("/open-{session}-{number}");
            let handle = string(&raw.open(path.as_bytes(), WRITE | CREATE)?);
            for piece in 0..4_u64 {
                let bytes = string(&noise(session << 32 | number << 8 | piece | 1, 240 << 10));
                let at = (piece * (240 << 10)).to_be_bytes();
                let written = raw.ask(kind::WRITE, &[&handle, &at, &bytes])?;
                ensure!(written.status() == Some(0), "{written:?}");
            }
        }
        sessions.push(raw);
    }
    watch_memory(&gateway)?;
    // What was written is there, closed or not.
    let handle = string(&sessions[0].open(b"/open-1-7", READ)?);
    let at = (240_u64 << 10).to_be_bytes();
    let read = sessions[0].ask(kind::READ, &[&handle, &at, &100_u32.to_be_bytes()])?;
    ensure!(read.string() == noise(1 << 32 | 7 << 8 | 1 | 1, 240 << 10)[..100], "another content");
    witness.noticed_nothing(&gateway)
}
