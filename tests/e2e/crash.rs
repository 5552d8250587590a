//! The process is killed at random moments while four clients change files and an operator gives space back and takes
//! snapshots, and a scrub goes on in the background; what was acknowledged is whole, and every snapshot is there.
//!
//! `COFFRE_CRASH_ROUNDS` (50) sets how often, `COFFRE_CRASH_SEED` repeats a failed run's choices. Each restart reads back
//! the files of the last two rounds; every tenth restart, and the last, reads all of them and runs `coffre check`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256, sha256_of};
use coffre_tests::gateway::binary;
use coffre_tests::{Gateway, run, run_ok, wait};

/// Times the process is killed when the environment does not say.
const ROUNDS_DEFAULT: u64 = 50;
/// Changes each client makes at most in a round: more than it has time for.
const CHANGES_MAX: u64 = 48;
/// Seconds a client may take to notice that its server is gone.
const CLIENT_SECS_MAX: u64 = 60;

/// What a path must hold after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Acknowledged: this content.
    Whole(String),
    /// Acknowledged as removed.
    Gone,
    /// Not acknowledged, replaced in one step: one of these, `None` for nothing.
    OneOf(Vec<Option<String>>),
    /// Not acknowledged and written in place: anything.
    Anything,
}

type Model = BTreeMap<String, Expected>;

/// One change that a client is told to make.
#[derive(Clone, Debug)]
enum Change {
    Put { from: PathBuf, to: String, hash: String },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn setting(name: &str, otherwise: u64) -> Result<u64> {
    match std::env::var_os(name) {
        Some(text) => Ok(text.to_str().context("a number")?.parse()?),
        None => Ok(otherwise),
    }
}

fn seed() -> Result<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[test]
fn every_acknowledged_file_is_whole_after_each_of_many_kills() -> Result<()> {
    let rounds = setting("COFFRE_CRASH_ROUNDS", ROUNDS_DEFAULT)?;
    let seed = setting("COFFRE_CRASH_SEED", seed()?)?;
    // Shown when the test fails: the same choices can be made again.
    println!("COFFRE_CRASH_SEED={seed}");
    let mut dice = Dice(seed | 1);
    let work = tempfile::tempdir()?;
    let (data, log) = (work.path().join("data"), work.path().join("server.log"));
    let mut model = Model::new();
    // Everything that goes on in the background goes on all the time.
    Gateway::configure(&data, |config| {
        format!(
            "{config}\n[storage]\nretention_grace = \"1s\"\nreclaim_grace = \"1s\"\nreclaim_interval = \"1s\"\n\
             reclaim_rate = \"1G\"\nexport_interval = \"1s\"\nscrub = \"1m\"\n"
        )
    })?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.admin(&["vault", "retention", "demo/demo", "1s"])?;
    let mut snapshots = Vec::new();
    for round in 0..rounds {
        let before = model.len();
        let plans = plan(&mut dice, work.path(), round)?;
        make_directories(&gateway, round)?;
        let milliseconds = 20 + dice.below(1200);
        let taken = crash_under_load(&mut gateway, &plans, (round, milliseconds), &mut model)
            .with_context(|| format!("round {round}"))?;
        snapshots.extend(taken);
        let thorough = round % 10 == 9 || round + 1 == rounds;
        if thorough {
            check(&data, &[])?;
        }
        gateway = Gateway::start_on(&data, &log)?;
        let oldest = if thorough { 0 } else { round.saturating_sub(1) };
        verify(&gateway, work.path(), &mut model, oldest..=round)
            .with_context(|| format!("after kill {round} at {milliseconds} ms; {}", gateway.log_text()))?;
        let listed = gateway.coffre(&["--json", "vault", "snapshots", "demo/demo"])?.text();
        let missing: Vec<&String> =
            snapshots.iter().filter(|name| !listed.contains(&format!("\"{name}\""))).collect();
        ensure!(missing.is_empty(), "snapshots that were acknowledged are gone: {missing:?} of {listed}");
        println!("round {round}: killed at {milliseconds} ms, {} paths acknowledged", model.len() - before);
    }
    ensure!(model.len() as u64 > rounds, "the clients got something done between kills");
    ensure!(snapshots.len() as u64 * 4 > rounds, "the operator did too: {snapshots:?}");
    let records = gateway.coffre(&["--json", "audit", "tail", "-n", "100000"])?.text();
    ensure!(records.contains("\"pack-remove\"") && records.contains("\"history-prune\""), "space came back");
    // Once more with a server, and every frame of every pack.
    check(&data, &[])?;
    gateway.stop()?;
    check(&data, &["--read-data"])?;
    ensure!(gateway.coffre(&["audit", "verify"])?.status.success(), "the audit log verifies");
    Ok(())
}

fn check(data: &Path, more: &[&str]) -> Result<()> {
    let finished = run(Command::new(binary()?).arg("--data").arg(data).arg("check").args(more), b"")?;
    ensure!(
        finished.status.success(),
        "coffre check {more:?}: {}\n{}\n{}",
        finished.status,
        finished.text(),
        finished.stderr
    );
    Ok(())
}

/// Four clients: two OpenSSH, one curl that does one thing at a time, one that does four.
const CLIENTS: [&str; 4] = ["sftp-a", "sftp-b", "curl-one", "curl-four"];

fn make_directories(gateway: &Gateway, round: u64) -> Result<()> {
    let lines = CLIENTS.map(|client| format!("-mkdir {client}\nmkdir {client}/{round}\n")).concat();
    gateway.sftp_batch(&lines)?;
    Ok(())
}

/// What each client will do in a round, with the files that it needs on the local disk.
fn plan(dice: &mut Dice, work: &Path, round: u64) -> Result<Vec<Vec<Change>>> {
    let mut plans = Vec::new();
    for (client, name) in CLIENTS.iter().enumerate() {
        let local = work.join("local").join(name);
        if local.exists() {
            fs::remove_dir_all(&local)?;
        }
        fs::create_dir_all(&local)?;
        // Parallel transfers have no order between them, so that client only creates.
        let only_puts = client == 3;
        let mut live: Vec<String> = Vec::new();
        let mut changes = Vec::new();
        for number in 0..CHANGES_MAX {
            let choice = if only_puts || live.len() < 4 { 0 } else { dice.below(10) };
            let old = usize::try_from(dice.below(live.len().max(1) as u64))?;
            changes.push(match choice {
                0..=6 => {
                    let to = format!("{name}/{round}/file-{number}");
                    live.push(to.clone());
                    put(dice, &local.join(number.to_string()), to)?
                }
                7 => put(dice, &local.join(number.to_string()), live[old].clone())?,
                8 => {
                    let to = format!("{name}/{round}/moved-{number}");
                    let from = std::mem::replace(&mut live[old], to.clone());
                    Change::Rename { from, to }
                }
                _ => Change::Remove { name: live.swap_remove(old) },
            });
        }
        plans.push(changes);
    }
    Ok(plans)
}

/// Mostly small files, some of many chunks, some with content that was stored before.
fn put(dice: &mut Dice, from: &Path, to: String) -> Result<Change> {
    let len = match dice.below(20) {
        0 => 0,
        1 => dice.below(8 << 20),
        2..=4 => dice.below(1 << 20),
        _ => dice.below(64 << 10),
    };
    let content_seed = if dice.below(8) == 0 { 1 } else { dice.below(u64::MAX) };
    let content = noise(content_seed, usize::try_from(len)?);
    fs::write(from, &content)?;
    Ok(Change::Put { from: from.to_owned(), to, hash: sha256_of(&content) })
}

fn crash_under_load(
    gateway: &mut Gateway,
    plans: &[Vec<Change>],
    (round, milliseconds): (u64, u64),
    model: &mut Model,
) -> Result<Vec<String>> {
    let (sftp_a, sftp_b) = (sftp_script(&plans[0]), sftp_script(&plans[1]));
    let (results, snapshots) = std::thread::scope(|scope| -> Result<(Vec<Model>, Vec<String>)> {
        let shared: &Gateway = gateway;
        let operator = scope.spawn(move || operate(shared, round));
        let clients = [
            scope.spawn(move || sftp_client(shared, &sftp_a, &plans[0])),
            scope.spawn(move || sftp_client(shared, &sftp_b, &plans[1])),
            scope.spawn(move || curl_one(shared, &plans[2])),
            scope.spawn(move || curl_four(shared, &plans[3])),
        ];
        // The moment of the kill, not a wait for something to happen.
        let moment = Instant::now() + Duration::from_millis(milliseconds);
        while let Some(left) = moment.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(shared.pid())?).context("a process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let changed: Result<Vec<Model>> = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow::anyhow!("a client's thread panicked"))?)
            .collect();
        let taken = operator.join().map_err(|_| anyhow::anyhow!("the operator's thread panicked"))?;
        Ok((changed?, taken))
    })?;
    gateway.kill()?;
    for changed in results {
        model.extend(changed);
    }
    Ok(snapshots)
}

/// Takes snapshots and gives space back until the server is gone; returns the snapshots that were acknowledged. Speaks over
/// the socket only: the command line would open the store itself once the server is dead.
fn operate(gateway: &Gateway, round: u64) -> Vec<String> {
    let mut taken = Vec::new();
    for number in 0..CHANGES_MAX {
        let name = format!("kill-{round}-{number}");
        let snapshot = serde_json::json!({
            "do": "vault-snapshot", "vault": "demo/demo", "name": &name, "keep_secs": null,
        });
        match ask(&gateway.data, &snapshot) {
            Ok(answer) if answer.contains("\"done\"") => taken.push(name),
            Ok(_) | Err(_) => return taken,
        }
        if ask(&gateway.data, &serde_json::json!({ "do": "reclaim", "grace_secs": 1 })).is_err() {
            return taken;
        }
    }
    taken
}

/// One request over the admin socket, and the last line of its answer.
fn ask(data: &Path, request: &serde_json::Value) -> Result<String> {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(data.join("admin.sock"))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let last = BufReader::new(stream).lines().last().context("no answer")?;
    Ok(last?)
}

fn sftp_script(plan: &[Change]) -> String {
    plan.iter()
        .map(|change| match change {
            Change::Put { from, to, .. } => format!("put {} {to}\n", from.display()),
            Change::Rename { from, to } => format!("rename {from} {to}\n"),
            Change::Remove { name } => format!("rm {name}\n"),
        })
        .collect()
}

/// OpenSSH echoes a command of a batch when it begins it, and ends at the first that fails: everything before the last
/// echo was acknowledged.
fn sftp_client(gateway: &Gateway, script: &str, plan: &[Change]) -> Result<Model> {
    let finished = run(&mut gateway.sftp_command(), script.as_bytes())?;
    let echoed = finished.text().lines().filter(|line| line.starts_with("sftp> ")).count();
    let mut model = Model::new();
    for (number, change) in plan.iter().enumerate() {
        if number + 1 < echoed || finished.status.success() {
            apply(&mut model, change);
        } else if number + 1 == echoed {
            doubt(&mut model, change, Written::InPlace);
        }
    }
    Ok(model)
}

/// How a protocol replaces a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// SFTP writes into the file.
    InPlace,
    /// WebDAV PUT is all or nothing.
    AllOrNothing,
}

fn curl_one(gateway: &Gateway, plan: &[Change]) -> Result<Model> {
    let mut model = Model::new();
    for change in plan {
        let mut curl = gateway.curl();
        curl.args(["--max-time", "60", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        match change {
            Change::Put { from, to, .. } => curl.arg("-T").arg(from).arg(gateway.url(to)),
            Change::Rename { from, to } => curl.args([
                "-X",
                "MOVE",
                "-H",
                &format!("Destination: {}", gateway.url(to)),
                &gateway.url(from),
            ]),
            Change::Remove { name } => curl.args(["-X", "DELETE", &gateway.url(name)]),
        };
        let finished = run(&mut curl, b"")?;
        let status = finished.text();
        if finished.status.success() && matches!(status.as_str(), "201" | "204") {
            apply(&mut model, change);
        } else {
            ensure!(!finished.status.success(), "{change:?} was answered with {status}");
            doubt(&mut model, change, Written::AllOrNothing);
            break;
        }
    }
    Ok(model)
}

fn curl_four(gateway: &Gateway, plan: &[Change]) -> Result<Model> {
    let mut curl = gateway.curl();
    curl.args(["--parallel", "--parallel-max", "4", "--max-time", "60", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code} %{url_effective}\\n"]);
    for (number, change) in plan.iter().enumerate() {
        let Change::Put { from, to, .. } = change else { continue };
        if number > 0 {
            curl.args(["--output", "/dev/null"]);
        }
        curl.arg("-T").arg(from).arg(gateway.url(to));
    }
    let output = curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let finished = finish(output)?;
    let mut model = Model::new();
    for change in plan {
        let Change::Put { to, .. } = change else { continue };
        if finished.contains(&format!("201 {}\n", gateway.url(to))) {
            apply(&mut model, change);
        } else {
            doubt(&mut model, change, Written::AllOrNothing);
        }
    }
    Ok(model)
}

fn finish(mut child: std::process::Child) -> Result<String> {
    use std::io::Read as _;
    let mut stdout = child.stdout.take().context("standard output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    wait(&mut child, CLIENT_SECS_MAX)?;
    Ok(reader.join().map_err(|_| anyhow::anyhow!("reader"))??)
}

fn apply(model: &mut Model, change: &Change) {
    match change {
        Change::Put { to, hash, .. } => {
            model.insert(to.clone(), Expected::Whole(hash.clone()));
        }
        Change::Rename { from, to } => {
            if let Some(content) = model.insert(from.clone(), Expected::Gone) {
                model.insert(to.clone(), content);
            }
        }
        Change::Remove { name } => {
            model.insert(name.clone(), Expected::Gone);
        }
    }
}

fn known(model: &Model, name: &str) -> Option<String> {
    match model.get(name) {
        Some(Expected::Whole(hash)) => Some(hash.clone()),
        Some(Expected::Gone | Expected::OneOf(_) | Expected::Anything) | None => None,
    }
}

/// The change under way when the server died: it happened, or it did not.
fn doubt(model: &mut Model, change: &Change, written: Written) {
    let (name, states) = match change {
        Change::Put { to, .. } if written == Written::InPlace => {
            model.insert(to.clone(), Expected::Anything);
            return;
        }
        Change::Put { to, hash, .. } => (to, vec![known(model, to), Some(hash.clone())]),
        Change::Rename { from, to } => {
            let content = known(model, from);
            model.insert(to.clone(), Expected::OneOf(vec![None, content.clone()]));
            (from, vec![content, None])
        }
        Change::Remove { name } => (name, vec![known(model, name), None]),
    };
    model.insert(name.clone(), Expected::OneOf(states));
}

/// Fetches whole rounds over SFTP, compares them with the model, and settles what was in doubt.
fn verify(
    gateway: &Gateway,
    work: &Path,
    model: &mut Model,
    rounds: std::ops::RangeInclusive<u64>,
) -> Result<()> {
    let back = work.join("back");
    fs::create_dir_all(&back)?;
    let mut script = Vec::new();
    for round in rounds.clone() {
        for client in CLIENTS {
            fs::create_dir_all(back.join(client))?;
            script.push(format!("get -r {client}/{round} {}\n", back.join(client).display()));
        }
    }
    gateway.sftp_batch(&script.concat())?;
    for (name, expected) in model.iter_mut() {
        let round: u64 = name.split('/').nth(1).context("a round")?.parse()?;
        if !rounds.contains(&round) {
            continue;
        }
        let path = back.join(name);
        let found = if path.exists() { Some(sha256(&path)?) } else { None };
        match expected {
            Expected::Whole(hash) => ensure!(found.as_ref() == Some(hash), "{name}: {hash} became {found:?}"),
            Expected::Gone => ensure!(found.is_none(), "{name} is back"),
            Expected::OneOf(states) => {
                ensure!(states.contains(&found), "{name}: {found:?} is none of {states:?}");
            }
            Expected::Anything => {}
        }
        // From now on it must stay what it is.
        *expected = found.map_or(Expected::Gone, Expected::Whole);
    }
    run_ok(Command::new("rm").arg("-r").arg(&back))?;
    Ok(())
}
