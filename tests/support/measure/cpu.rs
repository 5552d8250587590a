//! CPU and memory of a server, read from `/proc`: of its processes, their descendants, and those that have ended.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Seconds after which a server that is still at work is measured as it is.
const SETTLE_SECS_MAX: u64 = 10;
/// A server that used no CPU for so long has finished what the client asked.
const SETTLED: Duration = Duration::from_millis(250);

/// Ticks of `/proc` in a second: what Linux shows to programs, whatever it counts itself.
const TICKS_PER_SEC: f64 = 100.0;

/// What one process has used: its parent, and its ticks with those of the children that it waited for.
fn processes() -> Result<HashMap<u32, (u32, u64)>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile is counted by its parent.
        let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The program's name is in parentheses and may hold anything.
        let Some((_, fields)) = line.rsplit_once(')') else { continue };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let ticks = (11..=14).map(number).sum();
        all.insert(pid, (u32::try_from(number(1))?, ticks));
    }
    Ok(all)
}

fn tree(roots: &[u32], all: &HashMap<u32, (u32, u64)>) -> HashSet<u32> {
    let mut found: HashSet<u32> = roots.iter().copied().collect();
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, (parent, _))| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// CPU seconds that processes and all that they started have used so far.
///
/// # Errors
/// The system's.
pub fn seconds(roots: &[u32]) -> Result<f64> {
    let all = processes()?;
    let ticks: u64 = tree(roots, &all).iter().filter_map(|pid| all.get(pid)).map(|(_, ticks)| ticks).sum();
    #[expect(clippy::cast_precision_loss, reason = "ticks of an hour fit")]
    Ok(ticks as f64 / TICKS_PER_SEC)
}

/// The same once the server rests.
///
/// # Errors
/// The system's.
pub fn seconds_settled(roots: &[u32]) -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(SETTLE_SECS_MAX);
    let mut before = seconds(roots)?;
    loop {
        thread::park_timeout(SETTLED);
        let now = seconds(roots)?;
        if now - before < 0.005 || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// Bytes of memory that processes and all that they started hold; what several share is counted once.
///
/// # Errors
/// The system's.
pub fn resident_bytes(roots: &[u32]) -> Result<u64> {
    let all = processes()?;
    let mut kib = 0;
    for pid in tree(roots, &all) {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
        kib += line.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
    }
    Ok(kib * 1024)
}
