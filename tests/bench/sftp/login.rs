//! How long a user waits for the first answer: connection, key exchange, login, one small listing.

use anyhow::Result;
use coffre_tests::measure::{Plan, Samples, Side, Table, Target, order, timed};

use crate::large::run_batch;
use crate::server::start_all;

/// Logins of each server in a round: each is short.
const LOGINS: usize = 10;

/// The client's own choice of key exchange, and the same one for all.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let servers = start_all(&plan.work, &plan.sides)?;
    for server in &servers {
        run_batch(server, &format!("mkdir {0}one\nmkdir {0}two\n", server.root))?;
    }
    let same: &[&str] = &["KexAlgorithms=curve25519-sha256"];
    for (how, options) in [("the client's choice of key exchange", &[][..]), ("curve25519 for all", same)] {
        let what = format!("connect, login, one ls; {how}");
        let mut wall = Samples::new(&what, "ms", &[Target::AtMost(1.2, Side::Plain)]);
        for round in 0..plan.rounds * LOGINS {
            for at in order(servers.len(), round) {
                let server = &servers[at];
                let seconds = timed(&mut server.sftp(options), &format!("ls {}\n", server.root))?;
                wall.add(server.side, seconds * 1000.0);
            }
        }
        wall.tell(plan.rounds * LOGINS - 1);
        table.add([wall]);
    }
    Ok(())
}
