//! One large file in and out: wall time and the server's CPU, by cipher.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::server::{Server, Side, start_all, timed_with_cpu};
use crate::table::{Samples, Table, Target};
use crate::{Plan, order};

/// Wall and CPU of one direction.
struct Figures {
    wall: Samples,
    cpu: Samples,
}

impl Figures {
    fn new(what: &str) -> Self {
        let wall = [Target::AtMost(0.9, Side::Plain), Target::AtMost(0.6, Side::Gocryptfs)];
        Self {
            wall: Samples::new(what, "s", &wall),
            cpu: Samples::new(what, "server CPU s", &[Target::AtMost(1.0, Side::Plain)]),
        }
    }

    fn add(&mut self, side: Side, (wall, cpu): (f64, f64)) {
        self.wall.add(side, wall);
        self.cpu.add(side, cpu);
    }

    fn tell(&self, round: usize) {
        self.wall.tell(round);
        self.cpu.tell(round);
    }
}

/// What has been written goes to the disk now, not into the next measurement.
pub(crate) fn sync() -> Result<()> {
    run_ok(&mut Command::new("sync"))?;
    Ok(())
}

/// Forgets what the kernel keeps of files, as if they had been written long ago.
fn forget_pages() -> Result<()> {
    sync()?;
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
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
    let mut put = Figures::new(&what("put"));
    let mut cold = Figures::new(&what("get, from the disk,"));
    let mut warm = Figures::new(&what("get, again,"));
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
    table.add([put, cold, warm].into_iter().flat_map(|figures| [figures.wall, figures.cpu]));
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
    crate::server::timed(&mut server.sftp(&[]), batch)?;
    Ok(())
}
