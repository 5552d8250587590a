//! Certificates are replaced while the server serves; a bad one never is; their end is told of.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, RawHttp, until};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::records;

/// Seconds in which a change must have been taken up: two looks, and room for a busy machine.
const TAKEN_UP_SECS_MAX: u64 = 60;

struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    fn of(gateway: &Gateway) -> Self {
        Self { certificate: gateway.data.join("tls.crt"), key: gateway.data.join("secrets/tls.key") }
    }

    /// Puts a new certificate and key there; the certificate in DER.
    fn replace(&self, days: u32) -> Result<Vec<u8>> {
        let (certificate, key) = made(days)?;
        fs::write(&self.certificate, certificate.pem())?;
        fs::write(&self.key, key.serialize_pem())?;
        Ok(certificate.der().to_vec())
    }
}

/// A certificate for loopback that ends in so many days.
fn made(days: u32) -> Result<(rcgen::Certificate, KeyPair)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    valid_for(&mut params, days)?;
    Ok((params.self_signed(&key)?, key))
}

/// From yesterday on, for so many days.
pub(super) fn valid_for(params: &mut CertificateParams, days: u32) -> Result<()> {
    let day = Duration::from_secs(86_400);
    let today = rcgen::date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed()?;
    params.not_before = today - day;
    params.not_after = today + day * days;
    Ok(())
}

fn hang_up(gateway: &Gateway) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(gateway.pid())?).context("a process")?;
    Ok(kill_process(pid, Signal::HUP)?)
}

fn served(gateway: &Gateway) -> Result<Vec<u8>> {
    RawHttp::connect(gateway)?.certificate().context("a certificate")
}

fn incidents(gateway: &Gateway) -> Result<Vec<Value>> {
    let told = gateway.coffre(&["--json", "incidents"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|incident| incident["kind"] == "certificate").collect())
}

/// A connection that was made before asks once more.
fn asks_again(raw: &mut RawHttp) -> Result<()> {
    raw.request("OPTIONS /", "")?;
    assert_eq!(raw.status()?, Some(200));
    Ok(())
}

#[test]
fn a_new_certificate_is_served_after_a_hangup_and_connections_go_on() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut old = RawHttp::connect(&gateway)?;
    asks_again(&mut old)?;
    let new = Identity::of(&gateway).replace(300)?;
    hang_up(&gateway)?;
    until("the new certificate", TAKEN_UP_SECS_MAX, || Ok(served(&gateway).is_ok_and(|der| der == new)))?;
    asks_again(&mut old)?;
    until("its record", TAKEN_UP_SECS_MAX, || Ok(records(&gateway, "certificate-change")?.len() == 1))?;
    ensure!(records(&gateway, "configuration-reload")?.len() == 1);
    ensure!(incidents(&gateway)?.is_empty());
    Ok(())
}

#[test]
fn files_that_changed_are_taken_up_without_a_word() -> Result<()> {
    let gateway = Gateway::start()?;
    let new = Identity::of(&gateway).replace(300)?;
    until("the new certificate", TAKEN_UP_SECS_MAX, || Ok(served(&gateway).is_ok_and(|der| der == new)))
}

#[test]
fn a_bad_certificate_leaves_the_former_one_and_tells_the_operator_why() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let identity = Identity::of(&gateway);
    let before = fs::read(&identity.certificate)?;
    // Clients of this test go on trusting what was there.
    let trusted = gateway.data.join("trusted.crt");
    fs::write(&trusted, &before)?;
    gateway.ca_file = trusted;
    let first = served(&gateway)?;
    let (other, _) = made(300)?;
    for (number, bad) in [&b"no certificate"[..], other.pem().as_bytes()].into_iter().enumerate() {
        fs::write(&identity.certificate, bad)?;
        until("an incident", TAKEN_UP_SECS_MAX, || Ok(incidents(&gateway)?.len() == number + 1))?;
        assert_eq!(served(&gateway)?, first);
    }
    let told = incidents(&gateway)?;
    ensure!(
        told.iter().all(|one| one["text"].as_str().is_some_and(|text| text.contains("tls.crt"))),
        "{told:?}"
    );
    ensure!(gateway.log_text().contains("the new certificate is not used"), "{}", gateway.log_text());
    ensure!(records(&gateway, "certificate-change")?.iter().all(|record| record["outcome"] == "failed"));
    fs::write(&identity.certificate, &before)?;
    assert_eq!(served(&gateway)?, first);
    Ok(())
}

#[test]
fn the_end_of_a_certificate_is_told_of_two_weeks_before() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    Gateway::configure(&data, |text| text)?;
    let (certificate, key) = made(13)?;
    fs::write(data.join("tls.crt"), certificate.pem())?;
    fs::write(data.join("secrets/tls.key"), key.serialize_pem())?;
    let gateway = Gateway::start_on(&data, &directory.path().join("server.log"))?;
    until("an incident", TAKEN_UP_SECS_MAX, || Ok(incidents(&gateway)?.len() == 1))?;
    let told = incidents(&gateway)?[0]["text"].to_string();
    ensure!(told.contains("it ends at"), "{told}");
    Ok(())
}

#[test]
fn a_hangup_changes_limits_and_a_bad_configuration_changes_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let file = gateway.data.join("coffre.toml");
    let good = fs::read_to_string(&file)?;
    let strict = |gateway: &Gateway| -> Result<bool> {
        Ok(RawHttp::exchange(gateway, "OPTIONS /", "", b"")?
            .contains("strict-transport-security: max-age=86400"))
    };
    ensure!(!strict(&gateway)?);
    fs::write(&file, good.replace("[webdav]\n", "[webdav]\nhsts = '1d'\n"))?;
    hang_up(&gateway)?;
    until("the new setting", TAKEN_UP_SECS_MAX, || strict(&gateway))?;
    fs::write(&file, good.replace("[webdav]\n", "[webdav]\nhsts = 'sometimes'\n"))?;
    hang_up(&gateway)?;
    until("its refusal", TAKEN_UP_SECS_MAX, || Ok(records(&gateway, "configuration-reload")?.len() == 2))?;
    ensure!(strict(&gateway)?);
    assert_eq!(records(&gateway, "configuration-reload")?[1]["outcome"], "failed");
    ensure!(gateway.log_text().contains("the new configuration is not used"), "{}", gateway.log_text());
    Ok(())
}
