//! Handles that were never given, belong to others, or are too many.

use anyhow::{Context, Result, ensure};
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, string};

use super::{CREATE, READ, WRITE, Witness, assert_victim, with_victim};

#[test]
fn handles_are_good_only_where_they_were_opened() -> Result<()> {
    let gateway = with_victim()?;
    let mut first = RawSftp::start(&gateway)?;
    let mut second = RawSftp::start(&gateway)?;
    let handle = first.open(b"/victim", READ)?;
    let read = |raw: &mut RawSftp, handle: &[u8]| -> Result<Answer> {
        raw.ask(kind::READ, &[&string(handle), &0_u64.to_be_bytes(), &100_u32.to_be_bytes()])
    };
    ensure!(read(&mut first, &handle)?.string() == b"the victim's content");
    let stolen = read(&mut second, &handle)?;
    ensure!(stolen.status().is_some_and(|code| code != 0), "another channel's handle: {stolen:?}");
    for forged in [&b""[..], b"\0\0\0\0", &[255; 256], &[255; 300], b"/victim"] {
        let answer = read(&mut first, forged)?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{forged:?}: {answer:?}");
    }
    ensure!(first.ask(kind::CLOSE, &[&string(&handle)])?.status() == Some(0));
    let late = read(&mut first, &handle)?;
    ensure!(late.status().is_some_and(|code| code != 0), "a closed handle: {late:?}");
    Ok(())
}

#[test]
fn handles_have_a_limit_and_the_session_goes_on() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let mut handles = Vec::new();
    let refused = loop {
        let answer =
            raw.ask(kind::OPEN, &[&string(b"/victim"), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        if answer.kind != kind::HANDLE {
            break answer;
        }
        handles.push(answer.string());
        ensure!(handles.len() <= 2000, "handles without end");
    };
    ensure!(
        refused.status().is_some() && handles.len() >= 100,
        "{} handles, then {refused:?}",
        handles.len()
    );
    let first = handles.first().context("a handle")?;
    ensure!(raw.ask(kind::CLOSE, &[&string(first)])?.status() == Some(0));
    raw.open(b"/victim", READ)?;
    Ok(())
}

#[test]
fn a_listing_of_a_file_and_a_read_of_a_directory_are_refused() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let file = string(&raw.open(b"/victim", READ)?);
    let opened = raw.ask(kind::OPENDIR, &[&string(b"/")])?;
    let directory = string(&opened.string());
    let range = [&0_u64.to_be_bytes()[..], &100_u32.to_be_bytes()].concat();
    let size = [&1_u32.to_be_bytes()[..], &0_u64.to_be_bytes()].concat();
    let attempts: [(&str, u8, Vec<&[u8]>); 6] = [
        ("READDIR on a file", kind::READDIR, vec![&file]),
        ("READ on a directory", kind::READ, vec![&directory, &range]),
        ("WRITE on a directory", kind::WRITE, vec![&directory, &[0; 8], &[0, 0, 0, 1], b"x"]),
        ("FSETSTAT on a directory", kind::FSETSTAT, vec![&directory, &size]),
        ("fsync on a directory", kind::EXTENDED, vec![b"\0\0\0\x11fsync@openssh.com", &directory]),
        ("OPENDIR on a file", kind::OPENDIR, vec![b"\0\0\0\x07/victim"]),
    ];
    for (what, kind, rest) in attempts {
        let answer = raw.ask(kind, &rest)?;
        ensure!(answer.status().is_some_and(|code| code > 1), "{what}: {answer:?}");
    }
    // Both handles are as good as before.
    ensure!(raw.ask(kind::READ, &[&file, &range])?.string() == b"the victim's content");
    ensure!(raw.ask(kind::READDIR, &[&directory])?.kind == kind::NAME);
    assert_victim(&gateway)
}

#[test]
fn offsets_and_lengths_at_the_ends_of_their_numbers_are_answered_and_take_no_memory() -> Result<()> {
    const END_OF_FILE: u32 = 1;
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let before = gateway.resident_bytes()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = string(&raw.open(b"/edge", READ | WRITE | CREATE)?);
    let start = raw.ask(kind::WRITE, &[&handle, &0_u64.to_be_bytes(), &string(b"edge")])?;
    ensure!(start.status() == Some(0));
    let whole = raw.ask(kind::READ, &[&handle, &0_u64.to_be_bytes(), &u32::MAX.to_be_bytes()])?;
    ensure!(whole.string() == b"edge", "a read of 2^32 bytes: {whole:?}");
    for offset in [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 4, u64::MAX - 1, u64::MAX] {
        let at = u64::to_be_bytes(offset);
        for len in [1, 4, u32::MAX] {
            let read = raw.ask(kind::READ, &[&handle, &at, &u32::to_be_bytes(len)])?;
            ensure!(read.status() == Some(END_OF_FILE), "READ at {offset}: {read:?}");
        }
        let written = raw.ask(kind::WRITE, &[&handle, &at, &string(b"far")])?;
        ensure!(written.status().is_some_and(|code| code > 1), "WRITE at {offset}: {written:?}");
        let size = [&1_u32.to_be_bytes()[..], &at].concat();
        let cut = raw.ask(kind::FSETSTAT, &[&handle, &size])?;
        ensure!(cut.status().is_some_and(|code| code > 1), "a size of {offset}: {cut:?}");
        let other = string(&raw.open(b"/copy", WRITE | CREATE)?);
        for (from, len, to) in [(offset, 1, 0), (0, 1, offset), (0, offset, offset), (offset, offset, offset)]
        {
            let numbers = [u64::to_be_bytes(from), u64::to_be_bytes(len), u64::to_be_bytes(to)];
            let rest = [&string(b"copy-data")[..], &handle, &numbers[0], &numbers[1], &other, &numbers[2]];
            let copied = raw.ask(kind::EXTENDED, &rest)?;
            ensure!(copied.status().is_some(), "copy-data {from} {len} {to}: {copied:?}");
        }
        ensure!(raw.ask(kind::CLOSE, &[&other])?.status() == Some(0));
    }
    let whole = raw.ask(kind::READ, &[&handle, &0_u64.to_be_bytes(), &100_u32.to_be_bytes()])?;
    ensure!(whole.string() == b"edge", "{whole:?}");
    let after = gateway.resident_bytes()?;
    ensure!(after < before + (64 << 20), "it grew from {before} to {after} bytes");
    witness.noticed_nothing(&gateway)
}

#[test]
fn a_channel_that_takes_every_handle_leaves_those_of_others() -> Result<()> {
    let gateway = with_victim()?;
    let mut greedy = RawSftp::start(&gateway)?;
    while greedy.ask(kind::OPENDIR, &[&string(b"/")])?.kind == kind::HANDLE {}
    // Refused opens give back what they had reserved: one handle less is one more.
    let witness = Witness::start(&gateway)?;
    for _ in 0..300 {
        let refused = greedy.ask(kind::OPENDIR, &[&string(b"/")])?;
        ensure!(refused.status().is_some_and(|code| code > 1), "{refused:?}");
        let missing = greedy.ask(kind::OPENDIR, &[&string(b"/missing")])?;
        ensure!(missing.status().is_some_and(|code| code > 1), "{missing:?}");
    }
    witness.noticed_nothing(&gateway)
}
