//! One large file in and out with curl over TLS 1.3: wall time and the server's CPU.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::measure::programs::{forget_pages, sync};
use coffre_tests::measure::{Figures, Plan, Side, Table, Target, order, timed_with_cpu};
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::server::{Server, start_all};

/// Figures of one direction.
fn figures(what: &str) -> Figures {
    let wall = [Target::AtMost(1.1, Side::Plain), Target::AtMost(0.7, Side::Gocryptfs)];
    Figures::new(what, &wall, &[])
}

/// One put and two gets for each side and round.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let (file, back) = (here.path().join("large"), here.path().join("back"));
    let servers = start_all(&plan.work, &plan.sides)?;
    let what = |direction: &str| format!("{direction} {} MiB, curl", plan.mib);
    let mut put = figures(&what("PUT"));
    let mut cold = figures(&what("GET, from the disk,"));
    let mut warm = figures(&what("GET, again,"));
    for round in 0..plan.rounds {
        // New content each time: nothing is known already.
        fs::write(&file, noise(round as u64 + 1, usize::try_from(plan.mib << 20)?))?;
        for at in order(servers.len(), round) {
            let server = &servers[at];
            let mut curl = server.curl();
            curl.arg("--upload-file").arg(&file).args(["--output", "/dev/null", &server.url("large")]);
            put.add(server.side, timed_with_cpu(server, &mut curl, "")?);
            sync()?;
        }
        put.tell(round);
        forget_pages()?;
        for figures in [&mut cold, &mut warm] {
            for at in order(servers.len(), round) {
                get(&servers[at], figures, (&file, &back))?;
            }
            figures.tell(round);
        }
        for server in &servers {
            run_ok(server.curl().args(["--request", "DELETE", &server.url("large")]))?;
        }
    }
    table.add([put, cold, warm].into_iter().flat_map(Figures::rows));
    Ok(())
}

fn get(server: &Server, figures: &mut Figures, (file, back): (&Path, &Path)) -> Result<()> {
    let mut curl = server.curl();
    curl.arg("--output").arg(back).arg(server.url("large"));
    figures.add(server.side, timed_with_cpu(server, &mut curl, "")?);
    let same = run_ok(Command::new("cmp").arg(file).arg(back));
    fs::remove_file(back)?;
    ensure!(same.is_ok(), "{} gave back something else", server.side);
    Ok(())
}
