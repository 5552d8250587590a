//! What is stored anew when a tree is uploaded again as it was, and when a database dump comes again with a few changes.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use coffre_storage::Vault;
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Precondition;
use coffre_tests::files::noise;

use super::bed::{Bed, cost, draft, ratio};

/// Bytes of the smallest and of the largest file of the tree; sizes between are as likely on a scale of powers of two.
const FILE_BYTES_MIN_LOG: u64 = 12;
const FILE_BYTES_MAX_LOG: u64 = 24;
const PIECE_BYTES: usize = 256 * 1024;
const DUMP_BYTES: usize = 200_000_000;
const EDITS: u64 = 100;

fn number(seed: u64, below: u64) -> u64 {
    noise(seed, 8).into_iter().fold(0_u64, |all, byte| (all << 8) | u64::from(byte)) % below
}

fn size(file: u64) -> usize {
    let log = FILE_BYTES_MIN_LOG + number(file * 2 + 1_000_000, FILE_BYTES_MAX_LOG - FILE_BYTES_MIN_LOG);
    usize::try_from((1 << log) + number(file * 2 + 1_000_001, 1 << log)).unwrap_or(0)
}

fn put(vault: &Vault, name: &str, content: &[u8]) -> Result<()> {
    let mut upload = vault.begin_upload()?;
    for piece in content.chunks(PIECE_BYTES) {
        upload.write(piece)?;
    }
    let (at, mode) = ((InodeId::ROOT, name.as_bytes()), AttributeChange::default());
    upload.commit(at, Precondition::None, &mode, draft(Action::FileWrite))?.wait()?;
    Ok(())
}

/// Uploads a tree, each file waited for: the padding of their batches counts. Returns its bytes and files.
fn put_tree(vault: &Vault, bytes: u64) -> Result<(u64, u64)> {
    let (mut done, mut file) = (0, 0);
    while done < bytes {
        let content = noise(file + 1, size(file));
        put(vault, &format!("file-{file}"), &content)?;
        done += content.len() as u64;
        file += 1;
    }
    Ok((done, file))
}

/// Rows of a dump as `pg_dump --inserts` writes them.
fn dump(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 1000);
    text.push_str(
        "CREATE TABLE orders (id bigint, customer bigint, created timestamp, state text, note text);\n",
    );
    let mut row = 0_u64;
    while text.len() < bytes {
        row += 1;
        let (customer, second) = (number(row, 90_000), number(row + 7, 31_536_000));
        let state = ["new", "paid", "sent", "returned"][usize::try_from(row * 7 % 4).unwrap_or(0)];
        let note = number(row + 13, u64::MAX);
        // Writing to a string cannot fail.
        if writeln!(
            text,
            "INSERT INTO orders VALUES ({row}, {customer}, '2026-01-01'::timestamp + {second} * interval '1 s', '{state}', 'ref {note:016x}');"
        )
        .is_err()
        {
            break;
        }
    }
    text
}

/// The same dump after a day: rows changed, added and deleted here and there.
fn edited(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for edit in 0..EDITS {
        let at = usize::try_from(number(edit + 5_000_000, lines.len() as u64)).unwrap_or(0);
        match edit % 3 {
            0 => lines[at] = "INSERT INTO orders VALUES (0, 0, now(), 'changed', 'by hand');",
            1 => lines.insert(at, "INSERT INTO orders VALUES (1, 1, now(), 'added', 'by hand');"),
            _ => drop(lines.remove(at)),
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// Measures.
pub(crate) fn run(parent: &Path, mib: u64) -> Result<()> {
    let bed = Bed::make(parent)?;
    let ((bytes, files), first) = cost(|| put_tree(&bed.vault, mib << 20))?;
    let (bed, before) = bed.pack_bytes()?;
    let (_, again) = cost(|| put_tree(&bed.vault, mib << 20))?;
    let (bed, after) = bed.pack_bytes()?;
    println!(
        "a tree of {} MiB in {files} files: {before} bytes of packs; again as it was: {} bytes, {:.2} %, target 1 %",
        bytes >> 20,
        after - before,
        ratio(after - before, bytes) * 100.0
    );
    println!(
        "the first time {:.1} s, {:.1} s of CPU; again {:.1} s, {:.1} s of CPU (making the content included)",
        first.wall.as_secs_f64(),
        first.cpu.as_secs_f64(),
        again.wall.as_secs_f64(),
        again.cpu.as_secs_f64()
    );
    bed.store.shutdown()?;

    let bed = Bed::make(parent)?;
    let text = dump(DUMP_BYTES);
    put(&bed.vault, "dump.sql", text.as_bytes())?;
    let (bed, before) = bed.pack_bytes()?;
    let second = edited(&text);
    put(&bed.vault, "dump.sql", second.as_bytes())?;
    let (bed, after) = bed.pack_bytes()?;
    println!(
        "a dump of {} bytes: {before} bytes of packs; with {EDITS} edits: {} bytes, {:.1} %, target 15 %",
        text.len(),
        after - before,
        ratio(after - before, before) * 100.0
    );
    bed.store.shutdown()?;
    Ok(())
}
