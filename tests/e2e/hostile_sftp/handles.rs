//! Handles that were never given, belong to others, or are too many.

use anyhow::{Context, Result, ensure};
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, string};

use super::{READ, with_victim};

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
