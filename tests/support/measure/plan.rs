//! Who takes part, what is measured of whom, and how much of it.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::table::Table;

/// Whose figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Ours.
    Coffre,
    /// The usual server on a plain directory.
    Plain,
    /// The same on gocryptfs.
    Gocryptfs,
    /// `rclone serve` over a crypt remote.
    Rclone,
}

impl Side {
    /// In the table's order.
    pub const ALL: [Self; 4] = [Self::Coffre, Self::Plain, Self::Gocryptfs, Self::Rclone];

    /// A peer by its name in `peers=`.
    fn named(name: &str) -> Result<Self> {
        match name {
            "plain" => Ok(Self::Plain),
            "gocryptfs" => Ok(Self::Gocryptfs),
            "rclone" => Ok(Self::Rclone),
            _ => bail!("{name} is none of plain, gocryptfs, rclone"),
        }
    }

    /// What a table calls it, where the usual server has this name.
    pub fn head(self, server: &str) -> String {
        match self {
            Self::Coffre => "Coffre".to_owned(),
            Self::Plain => server.to_owned(),
            Self::Gocryptfs => format!("{server} on gocryptfs"),
            Self::Rclone => "rclone crypt".to_owned(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Coffre => "Coffre",
            Self::Plain => "plain",
            Self::Gocryptfs => "gocryptfs",
            Self::Rclone => "rclone",
        })
    }
}

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On the disk that the servers store on.
    pub work: PathBuf,
    /// Where clients keep their files: memory, so that only servers wait for the disk.
    pub client: PathBuf,
    /// How often each figure is taken.
    pub rounds: usize,
    /// Size of a large file.
    pub mib: u64,
    /// Number of small files.
    pub files: usize,
    /// Names of the large directory.
    pub names: usize,
    /// Sessions that do nothing.
    pub idle: usize,
    /// Sessions that transfer.
    pub active: usize,
    /// Who takes part, Coffre first.
    pub sides: Vec<Side>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            work: env!("CARGO_MANIFEST_DIR").into(),
            client: "/dev/shm".into(),
            rounds: 5,
            mib: 1024,
            files: 5000,
            names: 10_000,
            idle: 200,
            active: 32,
            sides: Side::ALL.to_vec(),
        }
    }
}

impl Plan {
    /// With what `NAME=VALUE` arguments say.
    ///
    /// # Errors
    /// A name that is not known, or a value that is none.
    fn with(mut self, arguments: impl Iterator<Item = String>) -> Result<Self> {
        for argument in arguments {
            let (name, value) =
                argument.split_once('=').with_context(|| format!("NAME=VALUE, not {argument}"))?;
            match name {
                "work" => self.work = value.into(),
                "client" => self.client = value.into(),
                "rounds" => self.rounds = value.parse()?,
                "mib" => self.mib = value.parse()?,
                "files" => self.files = value.parse()?,
                "names" => self.names = value.parse()?,
                "idle" => self.idle = value.parse()?,
                "active" => self.active = value.parse()?,
                "peers" => {
                    let peers = value.split(',').filter(|peer| !peer.is_empty());
                    let all = std::iter::once(Ok(Side::Coffre)).chain(peers.map(Side::named));
                    self.sides = all.collect::<Result<_>>()?;
                }
                _ => bail!("{name} is not known"),
            }
        }
        Ok(self)
    }
}

/// A measurement by its name.
pub type Row = (&'static str, fn(&Plan, &mut Table) -> Result<()>);

/// Runs what the command line asks for (`NAME`, or the beginning of some, or `all`; then `NAME=VALUE`), and prints the table.
///
/// # Errors
/// A name that is not known; the first measurement that fails, when those before it were printed.
pub fn measure(rows: &[Row], server: &'static str, plan: Plan) -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let wanted = arguments.next().context("NAME, or all")?;
    let plan = plan.with(arguments)?;
    let chosen: Vec<&Row> =
        rows.iter().filter(|(name, _)| wanted == "all" || name.starts_with(&wanted)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
        bail!("no measurement begins with {wanted}: {}", names.join(", "));
    }
    let mut table = Table::new(&plan.sides, server);
    let outcome = chosen.into_iter().try_for_each(|(name, measure)| {
        eprintln!("{name}");
        measure(&plan, &mut table).with_context(|| (*name).to_owned())
    });
    // What was measured before a failure is still worth reading.
    print!("{table}");
    outcome
}

/// The order of a round: each begins in its turn, for the second finds a machine that the first has warmed.
pub fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (place + round) % count)
}
