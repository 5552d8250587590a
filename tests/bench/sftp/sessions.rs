//! Very many sessions: what they cost in memory, and how long a small question waits among them.
//!
//! Clients run here too, so with transfers flat out they and the server share the cores, and everyone waits for the
//! scheduler; paced transfers leave it time. Both are told, each beside the peers under the same load.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffre_tests::RawSftp;
use coffre_tests::files::noise;
use coffre_tests::measure::cpu::resident_bytes;
use coffre_tests::measure::table::percentile;
use coffre_tests::measure::{Plan, Samples, Served, Table, Target, order};
use tempfile::TempDir;

use crate::large::run_batch;
use crate::raw::{session, stats};
use crate::server::{Server, start_all};

/// STATs of one measurement: 20 lie above the 99th percentile.
const STATS: usize = 2000;
/// Sessions that log in at once.
const LOGINS: usize = 8;
/// Size of what an active session moves again and again.
const ACTIVE_MIB: usize = 32;
/// Kilobits a second of a paced session, as `sftp -l` takes it: 32 of them move 64 MB/s together.
const PACE: &str = "16000";
/// How long the transfers run before the question is asked.
const WARM: Duration = Duration::from_secs(2);

/// Active sessions at a pace that leaves the machine time.
pub(crate) fn paced(plan: &Plan, table: &mut Table) -> Result<()> {
    run(plan, table, "paced at 2 MB/s each", &["-l", PACE])
}

/// Active sessions that take what they get.
pub(crate) fn flat_out(plan: &Plan, table: &mut Table) -> Result<()> {
    run(plan, table, "flat out", &[])
}

/// What one round of one side gives.
struct Round {
    idle_p99: f64,
    busy_p99: f64,
    memory_idle: u64,
    memory_most: u64,
}

fn run(plan: &Plan, table: &mut Table, how: &str, more: &[&str]) -> Result<()> {
    let (idle, active) = (plan.idle, plan.active);
    let what = |figure: &str| format!("{idle} idle and {active} active sessions ({how}): {figure}");
    let mut calm = Samples::new(format!("{idle} idle sessions: p99 of stat"), "ms", &[]);
    let mut busy = Samples::new(what("p99 of stat"), "ms", &[]);
    let mut times =
        Samples::new(what("p99 of stat, times its idle value"), "times", &[Target::Absolute(5.0)]);
    let mut resting = Samples::new(format!("{idle} idle sessions: memory"), "MiB", &[]);
    let mut most = Samples::new(what("memory at most"), "MiB", &[Target::Absolute(400.0)]);
    for round in 0..plan.rounds {
        for at in order(plan.sides.len(), round) {
            // One at a time: the sessions of the others would weigh on it.
            let side = plan.sides[at];
            let server = start_all(&plan.work, &[side])?.pop().context("a server")?;
            let seen = measure(plan, &server, more).with_context(|| side.to_string())?;
            calm.add(side, seen.idle_p99);
            busy.add(side, seen.busy_p99);
            times.add(side, seen.busy_p99 / seen.idle_p99);
            #[expect(clippy::cast_precision_loss, reason = "mebibytes")]
            let mib = |bytes: u64| (bytes >> 20) as f64;
            resting.add(side, mib(seen.memory_idle));
            most.add(side, mib(seen.memory_most));
        }
        for samples in [&calm, &busy, &times, &resting, &most] {
            samples.tell(round);
        }
    }
    table.add([calm, busy, times, resting, most]);
    Ok(())
}

fn measure(plan: &Plan, server: &Server, more: &[&str]) -> Result<Round> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let file = here.path().join("file");
    fs::write(&file, noise(1, ACTIVE_MIB << 20))?;
    let root = &server.root;
    run_batch(server, &format!("put {0} {root}asked\nput {0} {root}source\n", file.display()))?;
    let mut asking = session(server)?;
    let asked = format!("{root}asked");
    let idle = open_idle(server, plan.idle)?;
    stats(&mut asking, &asked, STATS / 10)?;
    let idle_p99 = percentile(&stats(&mut asking, &asked, STATS)?, 99.0);
    let memory_idle = resident_bytes(&server.processes())?;
    let mut active = Active::start(plan.active, server, &file, more)?;
    let over = AtomicBool::new(false);
    let (busy, memory_most) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(server, &over));
        thread::park_timeout(WARM);
        let busy = stats(&mut asking, &asked, STATS);
        over.store(true, Ordering::Relaxed);
        (busy, watcher.join())
    });
    let moved = active.all_live()?;
    ensure!(moved, "{}: a transfer ended before the measurement", server.side);
    drop(active);
    drop(idle);
    Ok(Round {
        idle_p99,
        busy_p99: percentile(&busy?, 99.0),
        memory_idle,
        memory_most: memory_most.map_err(|_| anyhow::anyhow!("the watcher"))??,
    })
}

/// The most memory that the server held while it was looked at.
fn watch(server: &Server, over: &AtomicBool) -> Result<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(resident_bytes(&server.processes())?);
        thread::park_timeout(Duration::from_millis(100));
    }
    Ok(most)
}

fn open_idle(server: &Server, count: usize) -> Result<Vec<RawSftp>> {
    thread::scope(|scope| {
        let shares: Vec<_> = (0..LOGINS)
            .map(|share| {
                scope.spawn(move || {
                    (share..count).step_by(LOGINS).map(|_| session(server)).collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for share in shares {
            all.extend(share.join().map_err(|_| anyhow::anyhow!("a login"))??);
        }
        Ok(all)
    })
}

/// Clients that move files until they are dropped: every other one puts, the others get.
struct Active(Vec<Child>);

impl Active {
    fn start(count: usize, server: &Server, file: &std::path::Path, more: &[&str]) -> Result<Self> {
        let mut all = Self(Vec::new());
        for number in 0..count {
            let line = if number % 2 == 0 {
                format!("put {} {}active-{number}\n", file.display(), server.root)
            } else {
                format!("get {}source /dev/null\n", server.root)
            };
            let mut command = Command::new("sftp");
            command.args(server.ssh_options(&[])).args(more).args(["-b", "-"]).arg(server.address());
            let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            all.0.push(child);
            let mut stdin = all.0[number].stdin.take().context("standard input")?;
            // More than any measurement lasts, and little enough for the pipe to take at once.
            stdin.write_all(line.repeat(60_000 / line.len()).as_bytes())?;
        }
        Ok(all)
    }

    fn all_live(&mut self) -> Result<bool> {
        for child in &mut self.0 {
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
