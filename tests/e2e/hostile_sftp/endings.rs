//! Sessions that end where no client ends them.

use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, packet, request, string};
use coffre_tests::{Gateway, run_ok};

use super::{CREATE, READ, WRITE, Witness, content, with_victim};

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

/// A session as a client has it: each packet, made of the handle that the server gave last.
fn recorded(handle: &[u8]) -> Vec<Vec<u8>> {
    let handle = string(handle);
    let none = 0_u32.to_be_bytes();
    let mode = [&4_u32.to_be_bytes()[..], &0o600_u32.to_be_bytes()].concat();
    let open =
        |id, path: &[u8], flags: u32| request(kind::OPEN, id, &[&string(path), &flags.to_be_bytes(), &none]);
    vec![
        packet(kind::INIT, &3_u32.to_be_bytes()),
        request(kind::MKDIR, 1, &[&string(b"/cut"), &none]),
        open(2, b"/cut/file.part", WRITE | CREATE),
        request(kind::WRITE, 3, &[&handle, &0_u64.to_be_bytes(), &string(&noise(3, 100_000))]),
        request(kind::WRITE, 4, &[&handle, &100_000_u64.to_be_bytes(), &string(&noise(4, 100_000))]),
        request(kind::FSETSTAT, 5, &[&handle, &mode]),
        request(kind::EXTENDED, 6, &[&string(b"fsync@openssh.com"), &handle]),
        request(kind::CLOSE, 7, &[&handle]),
        request(
            kind::EXTENDED,
            8,
            &[&string(b"posix-rename@openssh.com"), &string(b"/cut/file.part"), &string(b"/cut/file")],
        ),
        request(kind::OPENDIR, 9, &[&string(b"/cut")]),
        request(kind::READDIR, 10, &[&handle]),
        open(11, b"/cut/file", READ),
        request(kind::READ, 12, &[&handle, &0_u64.to_be_bytes(), &200_000_u32.to_be_bytes()]),
        request(kind::REMOVE, 13, &[&string(b"/cut/file")]),
    ]
}

/// Plays the first `count` packets, each after the answer to the one before, then `rest` bytes of the next one.
fn play(gateway: &Gateway, count: usize, rest: impl Fn(usize) -> usize) -> Result<()> {
    let mut raw = RawSftp::connect(gateway)?;
    let mut handle = Vec::new();
    for at in 0..count {
        raw.send(&recorded(&handle)[at])?;
        let answer: Option<Answer> = raw.answer()?;
        if let Some(answer) = answer.filter(|answer| answer.kind == kind::HANDLE) {
            handle = answer.string();
        }
    }
    if let Some(next) = recorded(&handle).get(count) {
        raw.send(&next[..rest(next.len())])?;
    }
    // Dropped: ssh is killed, and the connection breaks.
    Ok(())
}

#[test]
fn a_session_that_breaks_at_any_packet_leaves_a_server_that_serves() -> Result<()> {
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let packets = recorded(b"").len();
    for count in 0..=packets {
        // Between two packets, in the middle of one, and with one that nobody waits for the answer of.
        play(&gateway, count, |_| 0)?;
        play(&gateway, count, |len| len / 2)?;
        play(&gateway, count, |len| len)?;
    }
    // Nothing of it is in the way of the next one.
    play(&gateway, packets, |_| 0)?;
    let mut raw = RawSftp::start(&gateway)?;
    let gone = raw.ask(kind::STAT, &[&string(b"/cut/file")])?;
    ensure!(gone.status() == Some(2), "the whole session ended with its removal: {gone:?}");
    witness.noticed_nothing(&gateway)
}

#[test]
fn keys_that_change_all_the_time_break_no_transfer() -> Result<()> {
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let work = tempfile::tempdir()?;
    let (sent, got) = (work.path().join("sent"), work.path().join("got"));
    write_file(&sent, &noise(9, 12 << 20), 1_500_000_000)?;
    for (from, to) in [
        (sent.display().to_string(), format!("{}@127.0.0.1:rekeyed", gateway.user)),
        (format!("{}@127.0.0.1:rekeyed", gateway.user), got.display().to_string()),
    ] {
        let mut scp = Command::new("scp");
        scp.arg("-q").args(gateway.ssh_options()).args(["-o", "RekeyLimit=256K", &from, &to]);
        run_ok(&mut scp)?;
    }
    ensure!(std::fs::read(&sent)? == std::fs::read(&got)?, "something else came back");
    witness.noticed_nothing(&gateway)
}
