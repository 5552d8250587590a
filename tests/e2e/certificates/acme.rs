//! A certificate is ordered, proven, served, renewed and kept; whatever the directory does, what was served is served on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run, run_ok, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::pebble::Place;

/// Seconds for an order and two looks at the file, on a busy machine.
const ORDER_SECS_MAX: u64 = 90;
/// A life that no test outlives.
const LONG_LIFE_SECS: u64 = 30 * 86_400;
const DOMAIN: &str = "files.coffre.test";

/// A gateway that orders at a directory that is not open yet.
fn ordering(home: &Path, domains: &[&str]) -> Result<(Place, Gateway)> {
    let place = Place::new(home)?;
    let data = home.join("data");
    Gateway::configure(&data, |text| text + &place.section(domains))?;
    let gateway = Gateway::start_on(&data, &home.join("server.log"))?;
    Ok((place, gateway))
}

fn address(gateway: &Gateway) -> &str {
    gateway.webdav.trim_start_matches("https://").trim_end_matches('/')
}

fn port(gateway: &Gateway) -> &str {
    address(gateway).rsplit(':').next().unwrap_or_default()
}

/// The certificate that is served: its serial number and names.
fn served(gateway: &Gateway) -> Result<String> {
    let shown = run_ok(Command::new("openssl").args([
        "s_client",
        "-connect",
        address(gateway),
        "-servername",
        DOMAIN,
    ]))?;
    let read = ["x509", "-noout", "-serial", "-ext", "subjectAltName"];
    Ok(run(Command::new("openssl").args(read), shown.text().as_bytes())?.text())
}

fn try_now(gateway: &Gateway) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(gateway.pid())?).context("a process")?;
    Ok(kill_process(pid, Signal::HUP)?)
}

fn incidents(gateway: &Gateway) -> Result<Vec<String>> {
    let told = gateway.coffre(&["--json", "incidents"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let own = all.into_iter().filter(|incident| incident["kind"] == "certificate");
    Ok(own.filter_map(|incident| incident["text"].as_str().map(str::to_owned)).collect())
}

fn changes(gateway: &Gateway) -> Result<Vec<(String, String)>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let own = all.iter().filter(|record| record["action"] == "certificate-change");
    Ok(own.map(|record| (text(record, "outcome"), text(record, "reason"))).collect())
}

fn until_ordered(gateway: &Gateway) -> Result<()> {
    until("the ordered certificate", ORDER_SECS_MAX, || Ok(served(gateway)?.contains(DOMAIN)))
        .with_context(|| gateway.log_text())
}

#[test]
fn a_certificate_is_ordered_served_to_clients_and_kept_over_a_restart() -> Result<()> {
    let home = TempDir::new()?;
    let (place, mut gateway) = ordering(home.path(), &[DOMAIN, "dav.coffre.test"])?;
    // The directory is down: what `init` made is served, and somebody is told, once.
    until("an incident", ORDER_SECS_MAX, || Ok(incidents(&gateway)?.len() == 1))?;
    ensure!(served(&gateway)?.contains("localhost"));
    let pebble = place.open(port(&gateway), LONG_LIFE_SECS)?;
    try_now(&gateway)?;
    until_ordered(&gateway)?;
    ensure!(served(&gateway)?.contains("dav.coffre.test"));
    // A client that trusts the directory's authority finds the gateway by its name.
    let root = place.issuing_root()?;
    let found = run_ok(
        Command::new("curl")
            .args(["--silent", "--fail", "--cacert"])
            .arg(&root)
            .args(["--resolve", &format!("{DOMAIN}:{}:127.0.0.1", port(&gateway))])
            .args(["--user", &format!("{}:{}", gateway.user, gateway.token), "-X", "PROPFIND"])
            .args(["-H", "Depth: 0", &format!("https://{DOMAIN}:{}/", port(&gateway))]),
    )?;
    ensure!(found.text().contains("multistatus"));
    // Keys are their owner's alone.
    let cache = gateway.data.join("acme");
    ensure!(fs::metadata(&cache)?.permissions().mode() & 0o777 == 0o700);
    let files = fs::read_dir(&cache)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(files.len() == 2, "an account and a certificate: {files:?}");
    for file in &files {
        ensure!(file.metadata()?.permissions().mode() & 0o777 == 0o600, "{file:?}");
    }
    // What happened is written down, the failure first.
    let told = changes(&gateway)?;
    let outcomes: Vec<&str> = told.iter().map(|(outcome, _)| outcome.as_str()).collect();
    ensure!(outcomes.first() == Some(&"failed") && outcomes.ends_with(&["done", "done"]), "{told:?}");
    ensure!(told.iter().any(|(_, reason)| reason.contains("an account was opened at")), "{told:?}");
    ensure!(incidents(&gateway)?.len() == 1);
    // The next start has it at once, and orders nothing: its directory may be down.
    let before = served(&gateway)?;
    drop(pebble);
    gateway.stop()?;
    let again = Gateway::start_on(&gateway.data.clone(), &gateway.log.clone())?;
    assert_eq!(served(&again)?, before);
    ensure!(incidents(&again)?.len() == 1);
    assert_eq!(place.issued()?, 1);
    Ok(())
}

#[test]
fn a_certificate_is_renewed_with_a_third_of_its_life_left_while_clients_are_served() -> Result<()> {
    let home = TempDir::new()?;
    let (place, gateway) = ordering(home.path(), &[DOMAIN])?;
    let _pebble = place.open(port(&gateway), 60)?;
    try_now(&gateway)?;
    until_ordered(&gateway)?;
    let first = served(&gateway)?;
    until("the next certificate", ORDER_SECS_MAX, || Ok(served(&gateway)? != first))?;
    ensure!(served(&gateway)?.contains(DOMAIN));
    Ok(())
}

#[test]
fn a_directory_that_gets_no_proof_or_another_ones_gives_nothing_and_the_former_certificate_stays()
-> Result<()> {
    let home = TempDir::new()?;
    let (place, gateway) = ordering(home.path(), &[DOMAIN])?;
    let before = served(&gateway)?;
    // The name leads to another gateway, which knows nothing of this order.
    let other = Gateway::start()?;
    let _pebble = place.open(port(&other), LONG_LIFE_SECS)?;
    try_now(&gateway)?;
    until("the refusal", ORDER_SECS_MAX, || {
        Ok(changes(&gateway)?.iter().any(|(_, reason)| reason.contains("refused the order")))
    })
    .with_context(|| gateway.log_text())?;
    ensure!(incidents(&gateway)?.iter().all(|text| text.contains(DOMAIN)));
    assert_eq!(served(&gateway)?, before);
    assert_eq!(place.issued()?, 0);
    Ok(())
}

#[test]
fn nobody_gets_a_challenge_that_is_not_asked_and_no_request_goes_through_one() -> Result<()> {
    let home = TempDir::new()?;
    let (_place, gateway) = ordering(home.path(), &[DOMAIN])?;
    let asked = |protocols: &str| {
        let connect = ["s_client", "-connect", address(&gateway), "-servername", DOMAIN, "-alpn", protocols];
        run(Command::new("openssl").args(connect), b"")
    };
    ensure!(!asked("acme-tls/1")?.status.success(), "nothing is being proven");
    let both = asked("acme-tls/1,http/1.1")?;
    ensure!(both.status.success() && both.text().contains("ALPN protocol: http/1.1"), "{}", both.text());
    let plain = Gateway::start()?;
    let refused = Command::new("openssl")
        .args(["s_client", "-connect", address(&plain), "-alpn", "acme-tls/1"])
        .stdin(std::process::Stdio::null())
        .output()?;
    ensure!(!refused.status.success(), "a gateway without ACME speaks no such protocol");
    Ok(())
}
