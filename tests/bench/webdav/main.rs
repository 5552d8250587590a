//! WebDAV beside its peers: the same clients and files against Coffre, Apache's `mod_dav` on a plain directory and on
//! gocryptfs, and `rclone serve webdav` over a crypt remote, each started here on a free loopback port.
//!
//! `tests/bench/run webdav [NAME [ROUNDS]]` runs it. All speak HTTP/1.1 over TLS 1.3 with a password of the cheapest kind, so
//! that transfers are compared and neither logins nor multiplexing. CPU is the server's, with its children and the file
//! system below it.

mod auth;
mod large;
mod propfind;
mod server;
mod small;
mod wrk;

use anyhow::Result;
use coffre_tests::measure::Plan;
use coffre_tests::measure::plan::{Row, measure};

const ROWS: [Row; 6] = [
    ("large", large::run),
    ("small-curl", small::curl),
    ("small-rclone", small::rclone),
    ("propfind", propfind::run),
    ("wrk", wrk::run),
    ("auth", auth::run),
];

fn main() -> Result<()> {
    measure(&ROWS, "Apache", Plan::default())
}
