//! One stream over a line with 50 ms of round trip: what windows and pipelining are worth.
//!
//! OpenSSH's own client gives a server a window of 2 MiB, so no server sends it more than 40 MiB/s over this line; what
//! it sends is bounded by the server's window. psftp gives an unlimited window, and asks for 1 MiB ahead.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::measure::{Plan, Samples, Side, Table, Target, order, timed};
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::delay::relay;
use crate::server::start_all;

/// The line's round trip.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Part of a large file that is moved: a quarter takes long enough.
const PART: u64 = 4;

/// One put and one get of a stream for each side and round.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let (file, back) = (here.path().join("large"), here.path().join("back"));
    let servers = start_all(&plan.work, &plan.sides)?;
    let relays = servers.iter().map(|server| relay(server.port, ROUND_TRIP)).collect::<Result<Vec<_>>>()?;
    let mib = (plan.mib / PART).max(1);
    let target = [Target::AtMost(1.0 / 3.0, Side::Plain)];
    let what = |direction: &str| format!("{direction} {mib} MiB over {} ms, sftp", ROUND_TRIP.as_millis());
    let mut put = Samples::new(what("put"), "s", &target);
    let mut get = Samples::new(what("get"), "s", &target);
    for round in 0..plan.rounds {
        fs::write(&file, noise(round as u64 + 1, usize::try_from(mib << 20)?))?;
        for at in order(servers.len(), round) {
            let server = &servers[at];
            let port = format!("Port={}", relays[at]);
            let key = format!("HostKeyAlias=[127.0.0.1]:{}", server.port);
            let options = ["Ciphers=aes128-gcm@openssh.com", &port, &key];
            let batch = format!("put {} {}large\n", file.display(), server.root);
            put.add(server.side, timed(&mut server.sftp(&options), &batch)?);
            let batch = format!("get {}large {}\n", server.root, back.display());
            get.add(server.side, timed(&mut server.sftp(&options), &batch)?);
            let same = run_ok(Command::new("cmp").arg(&file).arg(&back));
            fs::remove_file(&back)?;
            ensure!(same.is_ok(), "{} gave back something else", server.side);
        }
        put.tell(round);
        get.tell(round);
    }
    table.add([put, get]);
    table.note(
        "Over the line, OpenSSH's client announces a window of 2 MiB, which bounds every server's get to 40 MiB/s.",
    );
    Ok(())
}
