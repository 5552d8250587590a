//! Packets that no polite client sends.

use anyhow::{Context, Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::raw_sftp::{RawSftp, kind, packet, request, string};

use super::{Witness, assert_victim, with_victim};

#[test]
fn an_oversized_packet_ends_the_channel_and_the_request_hidden_in_it_is_not_run() -> Result<()> {
    let gateway = with_victim()?;
    let hidden = request(kind::REMOVE, 77, &[&string(b"/victim")]);
    for len in [0_u32, 256 * 1024 + 4096, 1 << 24, 0x7fff_ffff, 0xffff_ffff] {
        for greet in [true, false] {
            let mut raw = if greet { RawSftp::start(&gateway)? } else { RawSftp::connect(&gateway)? };
            // The server may close before it has read everything.
            drop(raw.send(&[&len.to_be_bytes()[..], &hidden.repeat(1000)].concat()));
            let answers = raw.read_to_end().with_context(|| format!("a packet of {len} bytes"))?;
            ensure!(!answers.iter().any(|answer| answer.id() == 77), "length {len}: {answers:?}");
            assert_victim(&gateway)?;
        }
    }
    Ok(())
}

#[test]
fn a_request_before_init_and_a_second_init_end_the_channel() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::connect(&gateway)?;
    raw.send(&request(kind::REMOVE, 1, &[&string(b"/victim")]))?;
    drop(raw.send(&packet(kind::INIT, &3_u32.to_be_bytes())));
    let answers = raw.read_to_end()?;
    ensure!(answers.iter().all(|answer| answer.status() != Some(0)), "{answers:?}");
    assert_victim(&gateway)?;
    let mut raw = RawSftp::start(&gateway)?;
    raw.send(&packet(kind::INIT, &3_u32.to_be_bytes()))?;
    drop(raw.send(&request(kind::REMOVE, 2, &[&string(b"/victim")])));
    let answers = raw.read_to_end()?;
    ensure!(!answers.iter().any(|answer| answer.kind == kind::VERSION), "a second version: {answers:?}");
    assert_victim(&gateway)
}

#[test]
fn a_request_cut_short_or_with_lying_lengths_is_refused_and_nothing_runs() -> Result<()> {
    let gateway = with_victim()?;
    let lying = [&9_u32.to_be_bytes()[..], &0xffff_fff0_u32.to_be_bytes(), b"/victim"].concat();
    for body in [&b""[..], &[0, 0], &9_u32.to_be_bytes(), &lying] {
        for kind in [kind::REMOVE, kind::OPEN, kind::RENAME, kind::READ, kind::WRITE, kind::EXTENDED] {
            let mut raw = RawSftp::start(&gateway)?;
            raw.send(&packet(kind, body))?;
            // A well-formed request after it shows whether the server still speaks; either way is right.
            let id = 500_u32;
            drop(raw.send(&request(kind::STAT, id, &[&string(b"/victim")])));
            if let Some(answer) = raw.answer()? {
                ensure!(answer.id() == id || answer.status() != Some(0), "{kind}: {answer:?}");
            }
        }
    }
    assert_victim(&gateway)
}

#[test]
fn half_packets_wait_and_garbage_behind_a_packet_ends_only_its_own_channel() -> Result<()> {
    let gateway = with_victim()?;
    let witness = Witness::start(&gateway)?;
    let stat = request(kind::STAT, 5, &[&string(b"/victim")]);
    // A packet that never ends: nothing is answered, nothing runs, and its end is no answer either.
    for cut in 1..stat.len() {
        let mut raw = RawSftp::start(&gateway)?;
        raw.send(&stat[..cut])?;
        drop(raw.take_sender());
        ensure!(raw.read_to_end()?.is_empty(), "{cut} bytes of a request were answered");
    }
    // Byte by byte it is one request.
    let mut raw = RawSftp::start(&gateway)?;
    stat.iter().try_for_each(|byte| raw.send(&[*byte]))?;
    ensure!(raw.answer()?.context("an answer")?.kind == kind::ATTRS);
    // Whatever bytes: each channel ends or answers, for itself.
    for seed in 1..40 {
        let mut raw = RawSftp::start(&gateway)?;
        drop(raw.send(&noise(seed, 3000)));
        drop(raw.take_sender());
        raw.read_to_end()?;
    }
    witness.noticed_nothing(&gateway)
}

#[test]
fn an_unknown_request_is_answered_under_its_own_id() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    for kind in [2_u8, 99, 150, 201, 255] {
        // `ask` compares the ids.
        ensure!(raw.ask(kind, &[b"whatever"])?.status() == Some(8), "kind {kind}");
    }
    ensure!(raw.ask(kind::EXTENDED, &[&string(b"no-such@extension")])?.status() == Some(8));
    Ok(())
}
