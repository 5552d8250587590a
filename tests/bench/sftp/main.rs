//! SFTP beside its peers: the same clients, files and ciphers against Coffre, OpenSSH on a plain directory, OpenSSH on
//! gocryptfs, and `rclone serve sftp` over a crypt remote, each started here on a free loopback port.
//!
//! `tests/bench/run sftp [NAME [ROUNDS]]` runs it. Rounds are interleaved and each server begins in its turn; figures are
//! medians. What was transferred is compared byte by byte. The clients' files lie in memory (`client=`), so that only
//! the servers wait for the disk. CPU is the server's, with its children and the file system below it.

mod cpu;
mod delay;
mod distance;
mod large;
mod listing;
mod login;
mod raw;
mod server;
mod sessions;
mod small;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use server::Side;
use table::Table;

/// What to measure, and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// On the disk that the servers store on.
    pub(crate) work: PathBuf,
    /// Where clients keep their files.
    pub(crate) client: PathBuf,
    /// How often each figure is taken.
    pub(crate) rounds: usize,
    /// Size of a large file.
    pub(crate) mib: u64,
    /// Number of small files.
    pub(crate) files: usize,
    /// Names of the large directory.
    pub(crate) names: usize,
    /// Sessions that do nothing.
    pub(crate) idle: usize,
    /// Sessions that transfer.
    pub(crate) active: usize,
    /// Who takes part, Coffre first.
    pub(crate) sides: Vec<Side>,
}

/// A measurement by its name.
type Row = (&'static str, fn(&Plan, &mut Table) -> Result<()>);

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
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let wanted = arguments.next().context("NAME, or all")?;
    let plan = plan(arguments)?;
    let rows: Vec<&Row> =
        ROWS.iter().filter(|(name, _)| wanted == "all" || name.starts_with(&wanted)).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        bail!("no measurement begins with {wanted}: {}", names.join(", "));
    }
    let mut table = Table::new(&plan.sides);
    let outcome = rows.into_iter().try_for_each(|(name, measure)| {
        eprintln!("{name}");
        measure(&plan, &mut table).with_context(|| (*name).to_owned())
    });
    // What was measured before a failure is still worth reading.
    print!("{table}");
    outcome
}

fn plan(arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let mut plan = Plan {
        work: env!("CARGO_TARGET_TMPDIR").into(),
        client: "/dev/shm".into(),
        rounds: 5,
        mib: 1024,
        files: 5000,
        names: 100_000,
        idle: 200,
        active: 32,
        sides: Side::ALL.to_vec(),
    };
    for argument in arguments {
        let (name, value) =
            argument.split_once('=').with_context(|| format!("NAME=VALUE, not {argument}"))?;
        match name {
            "work" => plan.work = value.into(),
            "client" => plan.client = value.into(),
            "rounds" => plan.rounds = value.parse()?,
            "mib" => plan.mib = value.parse()?,
            "files" => plan.files = value.parse()?,
            "names" => plan.names = value.parse()?,
            "idle" => plan.idle = value.parse()?,
            "active" => plan.active = value.parse()?,
            "peers" => {
                let peers = value.split(',').filter(|peer| !peer.is_empty());
                plan.sides =
                    std::iter::once(Ok(Side::Coffre)).chain(peers.map(Side::named)).collect::<Result<_>>()?;
            }
            _ => bail!("{name} is not known"),
        }
    }
    Ok(plan)
}

/// The order of a round: each begins in its turn, for the second finds a machine that the first has warmed.
pub(crate) fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (place + round) % count)
}
