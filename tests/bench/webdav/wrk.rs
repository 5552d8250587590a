//! Very many reads of middling files at once: requests a second, and how long the slowest hundredth waited, as wrk tells.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use coffre_tests::measure::small::make_files;
use coffre_tests::measure::{Plan, Samples, Served, Side, Table, Target, cpu, order, timed};
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::server::{Server, start_all};
use crate::small::puts;

/// Connections, each with one request under way.
const CONNECTIONS: usize = 64;
/// Files that are asked for in turn.
const FILES: usize = 64;
/// Bytes of each.
const FILE_BYTES: usize = 64 * 1024;
/// Seconds of one measurement.
const SECS: usize = 8;

/// What one run of wrk tells.
struct Told {
    requests_per_sec: f64,
    p99_ms: f64,
    requests: f64,
}

/// Measures each side in rounds.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let (files, script) = (here.path().join("files"), here.path().join("turns.lua"));
    make_files(&files, FILES, FILE_BYTES, 1)?;
    let lua = format!(
        "local turn = 0\nrequest = function()\n  turn = (turn + 1) % {FILES}\n  \
         return wrk.format('GET', string.format('/wrk/%05d', turn))\nend\n"
    );
    fs::write(&script, lua)?;
    let servers = start_all(&plan.work, &plan.sides)?;
    for server in &servers {
        server.make_directory("wrk")?;
        timed(&mut server.curl_parallel(), &puts(server, &files, "wrk", FILES))?;
    }
    let what = |figure: &str| {
        format!("wrk, {CONNECTIONS} connections, GET of {} KiB, {SECS} s: {figure}", FILE_BYTES / 1024)
    };
    let mut rate = Samples::new(what("requests"), "a second", &[Target::AtLeast(1.0, Side::Gocryptfs)]);
    let mut slowest = Samples::new(what("p99"), "ms", &[]);
    let mut cost = Samples::new(what("server CPU of a request"), "us", &[]);
    for round in 0..plan.rounds {
        for at in order(servers.len(), round) {
            let server = &servers[at];
            let before = cpu::seconds_settled(&server.processes())?;
            let told = wrk(server, &script).with_context(|| server.side.to_string())?;
            let spent = cpu::seconds_settled(&server.processes())? - before;
            rate.add(server.side, told.requests_per_sec);
            slowest.add(server.side, told.p99_ms);
            cost.add(server.side, spent * 1e6 / told.requests);
        }
        for samples in [&rate, &slowest, &cost] {
            samples.tell(round);
        }
    }
    table.add([rate, slowest, cost]);
    Ok(())
}

fn wrk(server: &Server, script: &std::path::Path) -> Result<Told> {
    let mut command = Command::new("wrk");
    command.args(["--threads", "2", "--connections", &CONNECTIONS.to_string()]);
    command.args(["--duration", &format!("{SECS}s"), "--latency", "--script"]).arg(script);
    command.args(["--header", &format!("Authorization: {}", server.authorization())]);
    let text = run_ok(command.arg(server.url("")))?.text();
    ensure!(!text.contains("Non-2xx"), "refusals:\n{text}");
    read(&text).with_context(|| format!("wrk said\n{text}"))
}

fn read(text: &str) -> Result<Told> {
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim).with_context(|| format!("no {label}"))
    };
    let total = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    Ok(Told {
        requests_per_sec: after("Requests/sec:")?.parse()?,
        p99_ms: millis(after("99%")?)?,
        requests: total.context("the number of requests")?.0.parse()?,
    })
}

fn millis(time: &str) -> Result<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = time.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("{time} is no time")
}
