//! One large file in and out: wall time and the server's CPU, by cipher.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::measure::programs::{forget_pages, sync};
use coffre_tests::measure::{Figures, Plan, Side, Table, Target, order, timed, timed_with_cpu};
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::server::{Server, start_all};

/// Figures of one direction.
fn figures(what: &str) -> Figures {
    let wall = [Target::AtMost(0.9, Side::Plain), Target::AtMost(0.6, Side::Gocryptfs)];
    Figures::new(what, &wall, &[Target::AtMost(1.0, Side::Plain)])
}

/// Puts and gets with one cipher.
pub(crate) fn run(plan: &Plan, table: &mut Table, cipher: &str) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let (file, back) = (here.path().join("large"), here.path().join("back"));
    let options = [&format!("Ciphers={cipher}")[..]];
    let mut servers = start_all(&plan.work, &plan.sides)?;
    let mut taking_part = Vec::new();
    for server in servers.drain(..) {
        if server.speaks(cipher)? {
            taking_part.push(server);
        } else {
            table.note(format!("{} does not speak {cipher}.", server.side));
        }
    }
    let what = |direction: &str| format!("{direction} {} MiB, {cipher}", plan.mib);
    let mut put = figures(&what("put"));
    let mut cold = figures(&what("get, from the disk,"));
    let mut warm = figures(&what("get, again,"));
    for round in 0..plan.rounds {
        // New content each time: nothing is known already.
        fs::write(&file, noise(round as u64 + 1, usize::try_from(plan.mib << 20)?))?;
        for at in order(taking_part.len(), round) {
            let server = &taking_part[at];
            let batch = format!("put {} {}large\n", file.display(), server.root);
            put.add(server.side, timed_with_cpu(server, &mut server.sftp(&options), &batch)?);
            sync()?;
        }
        put.tell(round);
        forget_pages()?;
        for figures in [&mut cold, &mut warm] {
            for at in order(taking_part.len(), round) {
                get(&taking_part[at], &options, figures, (&file, &back))?;
            }
            figures.tell(round);
        }
        for server in &taking_part {
            run_batch(server, &format!("rm {}large\n", server.root))?;
        }
    }
    table.add([put, cold, warm].into_iter().flat_map(Figures::rows));
    Ok(())
}

fn get(
    server: &Server,
    options: &[&str],
    figures: &mut Figures,
    (file, back): (&std::path::Path, &std::path::Path),
) -> Result<()> {
    let batch = format!("get {}large {}\n", server.root, back.display());
    figures.add(server.side, timed_with_cpu(server, &mut server.sftp(options), &batch)?);
    let same = run_ok(Command::new("cmp").arg(file).arg(back));
    fs::remove_file(back)?;
    ensure!(same.is_ok(), "{} gave back something else", server.side);
    Ok(())
}

/// Runs a batch that is not measured.
pub(crate) fn run_batch(server: &Server, batch: &str) -> Result<()> {
    timed(&mut server.sftp(&[]), batch)?;
    Ok(())
}
