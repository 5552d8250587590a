//! A directory with very many names, listed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use coffre_tests::measure::{Plan, Samples, Served, Side, Table, Target, cpu, order};

use crate::raw::fill;
use crate::server::{Server, start_all};

/// Lists it as `sftp` does: by name only, and with everything.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let servers = start_all(&plan.work, &plan.sides)?;
    for server in &servers {
        let begin = Instant::now();
        fill(server, "many", plan.names).with_context(|| server.side.to_string())?;
        eprintln!("  {}: {} names made in {:.1} s", server.side, plan.names, begin.elapsed().as_secs_f64());
    }
    for command in ["ls -1", "ls -ln"] {
        let what = format!("{command} of {} entries", plan.names);
        let mut wall = Samples::new(&what, "s", &[Target::AtMost(1.0, Side::Plain)]);
        let mut spent = Samples::new(&what, "server CPU s", &[]);
        for round in 0..plan.rounds {
            for at in order(servers.len(), round) {
                let server = &servers[at];
                let before = cpu::seconds_settled(&server.processes())?;
                wall.add(server.side, list(server, command, plan.names)?);
                spent.add(server.side, cpu::seconds_settled(&server.processes())? - before);
            }
            wall.tell(round);
        }
        table.add([wall, spent]);
    }
    Ok(())
}

/// Seconds that a listing takes; it must have every name.
fn list(server: &Server, command: &str, names: usize) -> Result<f64> {
    let mut sftp: Command = server.sftp(&[]);
    let begin = Instant::now();
    let mut child = sftp.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("standard input")?;
    std::io::Write::write_all(&mut stdin, format!("{command} {}many\n", server.root).as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{} ended with {}", server.side, output.status);
    let seen = output.stdout.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b".dat")).count();
    ensure!(seen == names, "{} listed {seen} of {names} names", server.side);
    Ok(seconds)
}
