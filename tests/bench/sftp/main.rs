//! SFTP beside its peers: the same clients, files and ciphers against Coffre, OpenSSH on a plain directory, OpenSSH on
//! gocryptfs, and `rclone serve sftp` over a crypt remote, each started here on a free loopback port.
//!
//! `tests/bench/run sftp [NAME [ROUNDS]]` runs it. Rounds are interleaved and each server begins in its turn; figures are
//! medians. What was transferred is compared byte by byte. The clients' files lie in memory (`client=`), so that only
//! the servers wait for the disk. CPU is the server's, with its children and the file system below it.

mod delay;
mod distance;
mod large;
mod listing;
mod login;
mod raw;
mod server;
mod sessions;
mod small;

use anyhow::Result;
use coffre_tests::measure::Plan;
use coffre_tests::measure::plan::{Row, measure};

const ROWS: [Row; 13] = [
    ("large-aes128", |plan, table| large::run(plan, table, "aes128-gcm@openssh.com")),
    ("large-aes256", |plan, table| large::run(plan, table, "aes256-gcm@openssh.com")),
    ("large-chacha20", |plan, table| large::run(plan, table, "chacha20-poly1305@openssh.com")),
    ("small-sftp", small::sftp),
    ("small-durable", small::durable),
    ("small-rclone", small::rclone),
    ("small-verified", small::rclone_verified),
    ("small-sshfs", small::sshfs),
    ("listing", listing::run),
    ("login", login::run),
    ("distance", distance::run),
    ("sessions-paced", sessions::paced),
    ("sessions-flat-out", sessions::flat_out),
];

fn main() -> Result<()> {
    measure(&ROWS, "OpenSSH", Plan { names: 100_000, ..Plan::default() })
}
