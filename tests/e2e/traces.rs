//! What WinSCP, FileZilla and Cyberduck send, packet by packet: they do not run here, their requests do.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::raw_sftp::{Answer, kind, packet, request, string};
use coffre_tests::{Gateway, RawSftp, run};

const OK: Option<u32> = Some(0);
const NO_SUCH_FILE: Option<u32> = Some(2);
const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
/// `SSH_FILEXFER_ATTR_ACMODTIME`
const WITH_TIMES: u32 = 8;
/// `SSH_FILEXFER_ATTR_PERMISSIONS`
const WITH_MODE: u32 = 4;
/// What all three put into one WRITE.
const PIECE_BYTES: usize = 32 * 1024;
/// The same in a READ.
const PIECE: [u8; 4] = 0x8000_u32.to_be_bytes();

fn written(raw: &mut RawSftp, handle: &[u8], offset: usize, piece: &[u8]) -> Result<()> {
    let answer = raw.ask(kind::WRITE, &[&string(handle), &(offset as u64).to_be_bytes(), &string(piece)])?;
    ensure!(answer.status() == OK, "write answered {answer:?}");
    Ok(())
}

/// Sends all pieces before it reads the first answer, as these clients do.
fn write_ahead(raw: &mut RawSftp, handle: &[u8], offset: usize, content: &[u8]) -> Result<()> {
    let pieces: Vec<&[u8]> = content.chunks(PIECE_BYTES).collect();
    let mut answered = 0;
    for (number, piece) in pieces.iter().enumerate() {
        let at = (offset + number * PIECE_BYTES) as u64;
        let id = 10_000 + u32::try_from(number)?;
        raw.send(&request(kind::WRITE, id, &[&string(handle), &at.to_be_bytes(), &string(piece)]))?;
        if number >= 32 {
            acknowledged(raw)?;
            answered += 1;
        }
    }
    (answered..pieces.len()).try_for_each(|_| acknowledged(raw))
}

fn acknowledged(raw: &mut RawSftp) -> Result<()> {
    let answer = raw.answer()?.context("the channel was closed")?;
    ensure!(answer.status() == OK, "write answered {answer:?}");
    Ok(())
}

fn closed(raw: &mut RawSftp, handle: &[u8]) -> Result<()> {
    let answer = raw.ask(kind::CLOSE, &[&string(handle)])?;
    ensure!(answer.status() == OK, "close answered {answer:?}");
    Ok(())
}

fn done(raw: &mut RawSftp, kind: u8, rest: &[&[u8]]) -> Result<()> {
    let answer = raw.ask(kind, rest)?;
    ensure!(answer.status() == OK, "request {kind} answered {answer:?}");
    Ok(())
}

/// Size and times of ATTRS, and the permissions.
fn attributes(answer: &Answer) -> Result<(u64, u32, u32)> {
    ensure!(answer.kind == kind::ATTRS, "{answer:?}");
    let number = |at: usize| -> Result<u32> {
        Ok(u32::from_be_bytes(answer.body.get(at..at + 4).context("a number")?.try_into()?))
    };
    ensure!(number(4)? == 0xf, "size, owner, permissions, times");
    let size = u64::from(number(8)?) << 32 | u64::from(number(12)?);
    Ok((size, number(24)?, number(32)?))
}

fn read_all(raw: &mut RawSftp, path: &[u8]) -> Result<Vec<u8>> {
    let handle = raw.open(path, READ)?;
    let mut content = Vec::new();
    loop {
        let at = (content.len() as u64).to_be_bytes();
        let answer = raw.ask(kind::READ, &[&string(&handle), &at, &PIECE])?;
        if answer.kind != kind::DATA {
            ensure!(answer.status() == Some(1), "the end: {answer:?}");
            closed(raw, &handle)?;
            return Ok(content);
        }
        content.extend(answer.string());
    }
}

fn times(mtime: u32) -> Vec<u8> {
    [WITH_TIMES, mtime, mtime].map(u32::to_be_bytes).concat()
}

/// Names and long names of a directory.
fn listed(raw: &mut RawSftp, path: &[u8]) -> Result<Vec<(Vec<u8>, String)>> {
    let opened = raw.ask(kind::OPENDIR, &[&string(path)])?;
    ensure!(opened.kind == kind::HANDLE, "{opened:?}");
    let handle = opened.string();
    let mut names = Vec::new();
    loop {
        let answer = raw.ask(kind::READDIR, &[&string(&handle)])?;
        if answer.kind != kind::NAME {
            ensure!(answer.status() == Some(1), "the end: {answer:?}");
            closed(raw, &handle)?;
            return Ok(names);
        }
        let mut rest = answer.body.get(8..).context("names")?;
        while !rest.is_empty() {
            let name = take_string(&mut rest)?;
            let long = String::from_utf8(take_string(&mut rest)?)?;
            // Flags, size, owner, permissions, times.
            rest = rest.get(32..).context("attributes")?;
            names.push((name, long));
        }
    }
}

fn take_string(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let len = u32::from_be_bytes(rest.get(..4).context("a length")?.try_into()?) as usize;
    let found = rest.get(4..4 + len).context("a string")?.to_vec();
    *rest = &rest[4 + len..];
    Ok(found)
}

#[test]
fn winscp_uploads_under_another_name_replaces_and_sets_times() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::connect(&gateway)?;
    // It proposes the newest version that it knows.
    raw.send(&packet(kind::INIT, &6_u32.to_be_bytes()))?;
    let version = raw.answer()?.context("a version")?;
    ensure!(version.kind == kind::VERSION && version.body[..4] == 3_u32.to_be_bytes(), "{version:?}");
    let home = raw.ask(kind::REALPATH, &[&string(b".")])?;
    ensure!(home.kind == kind::NAME && home.body[8..13] == *b"\0\0\0\x01/", "{home:?}");
    let (older, newer) = (noise(1, 300_000), noise(2, 500_000));
    for content in [&older, &newer] {
        let there = raw.ask(kind::LSTAT, &[&string(b"/report.pdf")])?;
        ensure!(there.status() == NO_SUCH_FILE || content == &newer, "{there:?}");
        let handle = raw.open(b"/report.pdf.filepart", WRITE | CREATE | TRUNCATE)?;
        write_ahead(&mut raw, &handle, 0, content)?;
        closed(&mut raw, &handle)?;
        done(&mut raw, kind::SETSTAT, &[&string(b"/report.pdf.filepart"), &times(1_234_567_890)])?;
        if there.kind == kind::ATTRS {
            // RENAME does not replace: it removes first.
            let taken =
                raw.ask(kind::RENAME, &[&string(b"/report.pdf.filepart"), &string(b"/report.pdf")])?;
            ensure!(taken.status() == Some(4), "{taken:?}");
            done(&mut raw, kind::REMOVE, &[&string(b"/report.pdf")])?;
        }
        done(&mut raw, kind::RENAME, &[&string(b"/report.pdf.filepart"), &string(b"/report.pdf")])?;
        let mode = [WITH_MODE, 0o644].map(u32::to_be_bytes).concat();
        done(&mut raw, kind::SETSTAT, &[&string(b"/report.pdf"), &mode])?;
        let (size, mode, mtime) = attributes(&raw.ask(kind::STAT, &[&string(b"/report.pdf")])?)?;
        ensure!((size, mode & 0o7777, mtime) == (content.len() as u64, 0o644, 1_234_567_890));
        ensure!(read_all(&mut raw, b"/report.pdf")? == *content);
    }
    Ok(())
}

#[test]
fn winscp_resumes_the_part_of_an_upload_that_broke_off() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(3, 2_000_000);
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/big.filepart", WRITE | CREATE | TRUNCATE)?;
    write_ahead(&mut raw, &handle, 0, &content[..1_100_000])?;
    drop(raw);

    let mut raw = RawSftp::start(&gateway)?;
    let (kept, ..) = attributes(&raw.ask(kind::STAT, &[&string(b"/big.filepart")])?)?;
    ensure!(kept == 1_100_000, "what was acknowledged is there: {kept}");
    let handle = raw.open(b"/big.filepart", WRITE)?;
    let kept = usize::try_from(kept)?;
    write_ahead(&mut raw, &handle, kept, &content[kept..])?;
    closed(&mut raw, &handle)?;
    done(&mut raw, kind::SETSTAT, &[&string(b"/big.filepart"), &times(1_111_111_111)])?;
    done(&mut raw, kind::RENAME, &[&string(b"/big.filepart"), &string(b"/big")])?;
    ensure!(read_all(&mut raw, b"/big")? == content);
    let (size, _, mtime) = attributes(&raw.ask(kind::LSTAT, &[&string(b"/big")])?)?;
    ensure!((size, mtime) == (2_000_000, 1_111_111_111));
    Ok(())
}

#[test]
fn filezilla_reads_long_names_moves_over_several_connections_and_resumes_by_size() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut browsing = RawSftp::start(&gateway)?;
    done(&mut browsing, kind::MKDIR, &[&string(b"/d"), &0_u32.to_be_bytes()])?;
    let mut moving = [RawSftp::start(&gateway)?, RawSftp::start(&gateway)?];
    let contents = [noise(4, 700_000), noise(5, 900_000)];
    for (number, raw) in moving.iter_mut().enumerate() {
        let path = format!("/d/file {number}");
        let handle = raw.open(path.as_bytes(), WRITE | CREATE | TRUNCATE)?;
        for (at, piece) in contents[number][..400_000].chunks(PIECE_BYTES).enumerate() {
            written(raw, &handle, at * PIECE_BYTES, piece)?;
        }
        closed(raw, &handle)?;
        done(raw, kind::SETSTAT, &[&string(path.as_bytes()), &times(1_000_000_000)])?;
    }
    let names = listed(&mut browsing, b"/d")?;
    for number in 0..2 {
        let name = format!("file {number}");
        let (_, long) = names.iter().find(|(found, _)| *found == name.as_bytes()).context("listed")?;
        let fields: Vec<&str> = long.split_whitespace().collect();
        ensure!(fields.len() == 10 && fields[0] == "-rw-r--r--" && fields[4] == "400000", "{long}");
        // The name begins behind the eighth field and one space, whatever it holds.
        ensure!(fields[5..8] == ["Sep", "9", "2001"] && long.ends_with(&format!(" 2001 {name}")), "{long}");
    }
    for (number, raw) in moving.iter_mut().enumerate() {
        let path = format!("/d/file {number}");
        let (size, ..) = attributes(&raw.ask(kind::STAT, &[&string(path.as_bytes())])?)?;
        let size = usize::try_from(size)?;
        let handle = raw.open(path.as_bytes(), WRITE)?;
        write_ahead(raw, &handle, size, &contents[number][size..])?;
        closed(raw, &handle)?;
    }
    for (number, content) in contents.iter().enumerate() {
        ensure!(read_all(&mut browsing, format!("/d/file {number}").as_bytes())? == *content);
    }
    Ok(())
}

#[test]
fn a_client_that_half_closes_gets_every_answer_and_a_clean_end() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/file", WRITE | CREATE)?;
    let content = noise(6, 40 * PIECE_BYTES);
    let mut requests = Vec::new();
    for (number, piece) in content.chunks(PIECE_BYTES).enumerate() {
        let at = ((number * PIECE_BYTES) as u64).to_be_bytes();
        let id = 100 + u32::try_from(number)?;
        requests.extend(request(kind::WRITE, id, &[&string(&handle), &at, &string(piece)]));
    }
    requests.extend(request(kind::CLOSE, 200, &[&string(&handle)]));
    raw.send(&requests)?;
    // No more from the client; what it asked is done.
    drop(raw.take_sender());
    let answers = raw.read_to_end()?;
    ensure!(answers.len() == 41 && answers.iter().all(|answer| answer.status() == OK), "{answers:?}");
    ensure!(read_all(&mut RawSftp::start(&gateway)?, b"/file")? == content);
    Ok(())
}

#[test]
fn cyberduck_moves_eight_megabytes_ahead_of_the_answers() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(7, 8_500_000);
    let mut raw = RawSftp::start(&gateway)?;
    ensure!(raw.ask(kind::STAT, &[&string(b"/upload")])?.status() == NO_SUCH_FILE);
    let handle = raw.open(b"/upload", WRITE | CREATE | TRUNCATE)?;
    write_ahead(&mut raw, &handle, 0, &content)?;
    closed(&mut raw, &handle)?;
    done(&mut raw, kind::SETSTAT, &[&string(b"/upload"), &times(1_222_222_222)])?;
    // A download asks for everything at once.
    let handle = raw.open(b"/upload", READ)?;
    let pieces = content.chunks(PIECE_BYTES).count();
    let mut requests = Vec::new();
    for number in 0..pieces {
        let at = ((number * PIECE_BYTES) as u64).to_be_bytes();
        let id = 20_000 + u32::try_from(number)?;
        requests.extend(request(kind::READ, id, &[&string(&handle), &at, &PIECE]));
    }
    raw.send(&requests)?;
    let mut got = vec![0; content.len()];
    for _ in 0..pieces {
        let answer = raw.answer()?.context("an answer")?;
        ensure!(answer.kind == kind::DATA, "{answer:?}");
        let (at, piece) = ((answer.id() as usize - 20_000) * PIECE_BYTES, answer.string());
        got[at..at + piece.len()].copy_from_slice(&piece);
    }
    ensure!(got == content);
    Ok(())
}

#[test]
fn a_session_ends_with_exit_status_end_of_file_and_close_in_this_order() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut ssh = Command::new("ssh");
    ssh.args(gateway.ssh_options())
        .args(["-vvv", "-s"])
        .arg(format!("{}@127.0.0.1", gateway.user))
        .arg("sftp");
    let finished = run(&mut ssh, &packet(kind::INIT, &3_u32.to_be_bytes()))?;
    ensure!(finished.status.code() == Some(0), "{}", finished.status);
    let place =
        |what: &str| finished.stderr.find(what).with_context(|| format!("{what} in\n{}", finished.stderr));
    let (status, eof, close) = (place("rtype exit-status")?, place("rcvd eof")?, place("rcvd close")?);
    ensure!(status < eof && eof < close, "exit-status at {status}, EOF at {eof}, CLOSE at {close}");
    Ok(())
}
