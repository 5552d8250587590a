//! A listing of a large directory: PROPFIND with Depth 1, all properties and the four that most clients ask for.

use std::fs;

use anyhow::{Result, ensure};
use coffre_tests::measure::programs::timed;
use coffre_tests::measure::small::make_files;
use coffre_tests::measure::{Plan, Samples, Served, Side, Table, Target, cpu, order};
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::server::{Server, start_all};
use crate::small::puts;

/// Listings of one measurement, on one connection.
const LISTINGS: usize = 5;
/// What rclone, davfs2 and file managers ask for.
const FOUR: &str = "<?xml version=\"1.0\"?><propfind xmlns=\"DAV:\"><prop><resourcetype/><getcontentlength/>\
                    <getlastmodified/><getetag/></prop></propfind>";

/// Each body in rounds.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let files = here.path().join("files");
    make_files(&files, plan.names, 1, 1)?;
    let servers = start_all(&plan.work, &plan.sides)?;
    for server in &servers {
        server.make_directory("many")?;
        timed(&mut server.curl_parallel(), &puts(server, &files, "many", plan.names))?;
    }
    fs::remove_dir_all(&files)?;
    for (what, body) in [("all properties", ""), ("four properties", FOUR)] {
        let what = format!("PROPFIND, Depth 1, {} entries, {what}", plan.names);
        let mut wall = Samples::new(&what, "ms", &[Target::AtMost(0.5, Side::Plain)]);
        let mut spent = Samples::new(&what, "server CPU ms", &[]);
        for round in 0..plan.rounds {
            for at in order(servers.len(), round) {
                let (seconds, cpu) = list(plan, &servers[at], body)?;
                wall.add(servers[at].side, seconds * 1000.0);
                spent.add(servers[at].side, cpu * 1000.0);
            }
            wall.tell(round);
            spent.tell(round);
        }
        table.add([wall, spent]);
    }
    Ok(())
}

/// Seconds of wall time and of the server's CPU that one listing takes; each must have every entry.
fn list(plan: &Plan, server: &Server, body: &str) -> Result<(f64, f64)> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let mut curl = server.curl();
    curl.args(["--request", "PROPFIND", "--header", "Depth: 1", "--write-out", "%{time_total}\n"]);
    if !body.is_empty() {
        curl.args(["--header", "Content-Type: application/xml", "--data-binary", body]);
    }
    // The first one pays for the connection and is not counted.
    for number in 0..=LISTINGS {
        curl.arg("--output").arg(here.path().join(number.to_string())).arg(server.url("many/"));
    }
    let before = cpu::seconds_settled(&server.processes())?;
    let told = run_ok(&mut curl)?.text();
    let spent = cpu::seconds_settled(&server.processes())? - before;
    let seconds = told.lines().map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
    for number in 0..=LISTINGS {
        let answer = fs::read_to_string(here.path().join(number.to_string()))?;
        let closed = |piece: &&str| piece.split('>').next().is_some_and(|name| name.ends_with("response"));
        let seen = answer.split("</").filter(closed).count();
        ensure!(seen == plan.names + 1, "{} listed {seen} of {} entries", server.side, plan.names + 1);
    }
    ensure!(seconds.len() == LISTINGS + 1, "curl told {told}");
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let each = |sum: f64, count: usize| sum / count as f64;
    Ok((each(seconds[1..].iter().sum(), LISTINGS), each(spent, LISTINGS + 1)))
}
