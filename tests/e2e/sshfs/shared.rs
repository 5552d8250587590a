//! Two mounts of one vault at once: what one has closed, the other opens.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::thread;

use anyhow::{Result, ensure};
use coffre_tests::exerciser::{Dice, Exerciser};
use coffre_tests::files::noise;
use coffre_tests::mount::NO_CACHES;
use coffre_tests::{Gateway, Mount};

const BLOCK: usize = 4096;
const BLOCKS: usize = 512;

#[test]
fn two_mounts_see_what_the_other_has_closed() -> Result<()> {
    let gateway = Gateway::start()?;
    let mounts = [Mount::new(&gateway, NO_CACHES)?, Mount::new(&gateway, NO_CACHES)?];
    for round in 0..40_usize {
        let (writer, reader) = (&mounts[round % 2], &mounts[(round + 1) % 2]);
        let content = noise(round as u64, 1 + round * 3001);
        fs::write(writer.path().join("shared"), &content)?;
        ensure!(fs::read(reader.path().join("shared"))? == content, "round {round}");
        let size = fs::metadata(reader.path().join("shared"))?.len();
        ensure!(size == content.len() as u64, "round {round}: {size} bytes");
    }
    Ok(())
}

#[test]
fn random_writes_of_two_mounts_into_one_file_are_all_there() -> Result<()> {
    let gateway = Gateway::start()?;
    let mounts = [Mount::new(&gateway, NO_CACHES)?, Mount::new(&gateway, NO_CACHES)?];
    fs::write(mounts[0].path().join("file"), vec![0; BLOCK * BLOCKS])?;
    let mut expected = vec![0; BLOCK * BLOCKS];
    for round in 0..5_u64 {
        // Each has blocks of its own, one beside the other's; all are written while both have the file open.
        let written: Vec<Vec<(usize, Vec<u8>)>> = thread::scope(|scope| {
            let writers: Vec<_> = mounts
                .iter()
                .enumerate()
                .map(|(number, mount)| {
                    let path = mount.path().join("file");
                    scope.spawn(move || write_at_random(&path, round, number))
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer"))?)
                .collect::<Result<_>>()
        })?;
        for (offset, piece) in written.into_iter().flatten() {
            expected[offset..offset + BLOCK].copy_from_slice(&piece);
        }
        for mount in &mounts {
            ensure!(fs::read(mount.path().join("file"))? == expected, "round {round}");
        }
    }
    Ok(())
}

fn write_at_random(path: &std::path::Path, round: u64, number: usize) -> Result<Vec<(usize, Vec<u8>)>> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut dice = Dice::new(round * 2 + number as u64 + 1);
    let mut written = Vec::new();
    for step in 0..100_u64 {
        let offset = (dice.below(BLOCKS / 2) * 2 + number) * BLOCK;
        let piece = noise(round << 16 | step << 1 | number as u64, BLOCK);
        file.write_all_at(&piece, offset as u64)?;
        written.push((offset, piece));
    }
    Ok(written)
}

#[test]
fn two_mounts_are_exercised_at_once() -> Result<()> {
    let gateway = Gateway::start()?;
    let mounts = [Mount::new(&gateway, NO_CACHES)?, Mount::new(&gateway, NO_CACHES)?];
    thread::scope(|scope| {
        let runs: Vec<_> = mounts
            .iter()
            .zip(10..)
            .map(|(mount, seed)| {
                let path = mount.path().join(format!("exercised-{seed}"));
                scope.spawn(move || Exerciser::new(path, seed)?.run(1000).map(drop))
            })
            .collect();
        runs.into_iter().try_for_each(|run| run.join().map_err(|_| anyhow::anyhow!("an exerciser"))?)
    })
}

#[test]
fn lines_that_two_mounts_append_are_all_there_and_whole() -> Result<()> {
    let gateway = Gateway::start()?;
    let mounts = [Mount::new(&gateway, NO_CACHES)?, Mount::new(&gateway, NO_CACHES)?];
    fs::write(mounts[0].path().join("log"), b"")?;
    thread::scope(|scope| {
        let writers: Vec<_> = mounts
            .iter()
            .enumerate()
            .map(|(number, mount)| {
                let path = mount.path().join("log");
                scope.spawn(move || -> Result<()> {
                    let mut log = OpenOptions::new().append(true).open(path)?;
                    for line in 0..200 {
                        log.write_all(format!("{number} {line:03}\n").as_bytes())?;
                    }
                    Ok(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer"))?)
    })?;
    let mut text = String::new();
    fs::File::open(mounts[0].path().join("log"))?.read_to_string(&mut text)?;
    for number in 0..2 {
        let own: Vec<String> =
            text.lines().filter(|line| line.starts_with(&format!("{number} "))).map(str::to_owned).collect();
        let wanted: Vec<String> = (0..200).map(|line| format!("{number} {line:03}")).collect();
        ensure!(own == wanted, "the lines of mount {number}, in order: {} of 200", own.len());
    }
    ensure!(text.lines().count() == 400, "{} lines", text.lines().count());
    Ok(())
}
