//! TLS client certificates over WebDAV: curl and rclone with one, refused without; looked at again at every request.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run_ok};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

/// A certificate that signs itself, beside its key: good for so many days less an hour.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

fn made(home: &Path, name: &str, days: u32) -> Result<Identity> {
    of(home, name, days, &KeyPair::generate()?)
}

fn of(home: &Path, name: &str, days: u32, key: &KeyPair) -> Result<Identity> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let (hour, now) = (Duration::from_secs(3600), rcgen::date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed()?);
    params.not_before = now - hour * 48;
    params.not_after = now - hour + hour * 24 * days;
    let identity =
        Identity { certificate: home.join(format!("{name}.crt")), key: home.join(format!("{name}.key")) };
    std::fs::write(&identity.certificate, params.self_signed(key)?.pem())?;
    std::fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}

fn register(gateway: &Gateway, user: &str, identity: &Identity, more: &[&str]) -> Result<String> {
    let file = identity.certificate.display().to_string();
    let added = gateway.coffre_json(&[&["credential", "add-certificate", user, &file], more].concat())?;
    assert_eq!(added["kind"], "tls certificate");
    Ok(added["id"].as_str().context("id")?.to_owned())
}

/// A curl that shows a certificate and no password.
fn curl(gateway: &Gateway, identity: Option<&Identity>) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--cacert"]).arg(&gateway.ca_file);
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    }
    command
}

/// The status of a request for the root's properties.
fn status(gateway: &Gateway, identity: Option<&Identity>, more: &[&str]) -> Result<String> {
    let asked = ["-o", "/dev/null", "-w", "%{http_code}", "-X", "PROPFIND", "-H", "Depth: 0"];
    Ok(run_ok(curl(gateway, identity).args(asked).args(more).arg(&gateway.webdav))?.text())
}

fn logins(gateway: &Gateway, credential: &str) -> Result<Vec<Value>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let own = |record: &Value| record["action"] == "login" && record["credential"] == credential;
    Ok(all.into_iter().filter(own).collect())
}

#[test]
fn curl_and_rclone_work_with_a_client_certificate_over_both_versions_of_http_and_of_tls() -> Result<()> {
    let (home, gateway) = (TempDir::new()?, Gateway::start()?);
    let ann = made(home.path(), "ann", 30)?;
    ensure!(status(&gateway, Some(&ann), &[])? == "401", "not registered");
    let id = register(&gateway, "demo", &ann, &[])?;
    for more in [&["--http1.1"][..], &["--http2"], &["--tls-max", "1.2"], &["--tlsv1.3"]] {
        assert_eq!(status(&gateway, Some(&ann), more)?, "207", "{more:?}");
        assert_eq!(status(&gateway, None, more)?, "401", "{more:?}");
    }
    let source = home.path().join("file");
    std::fs::write(&source, "content")?;
    let url = format!("{}file", gateway.webdav);
    run_ok(curl(&gateway, Some(&ann)).arg("--fail").arg("-T").arg(&source).arg(&url))?;
    // A session that is resumed carries its certificate along.
    let twice =
        run_ok(curl(&gateway, Some(&ann)).args(["--fail", &url, &url]).args(["-H", "Connection: close"]))?;
    assert_eq!(twice.text(), "contentcontent");
    let listed = run_ok(
        Command::new("rclone")
            .args(["--config", "/dev/null", "lsf", ":webdav:", "--webdav-url", &gateway.webdav, "--ca-cert"])
            .arg(&gateway.ca_file)
            .arg("--client-cert")
            .arg(&ann.certificate)
            .arg("--client-key")
            .arg(&ann.key),
    )?;
    assert_eq!(listed.text().trim(), "file");
    let told = logins(&gateway, &id)?;
    ensure!(
        !told.is_empty() && told.iter().all(|one| one["factors"] == serde_json::json!(["tls-certificate"])),
        "{told:?}"
    );
    // Who has no certificate, or one that is nobody's, goes on with a token.
    let token = format!("{}:{}", gateway.user, gateway.token);
    let stranger = made(home.path(), "stranger", 30)?;
    for identity in [None, Some(&stranger), Some(&ann)] {
        assert_eq!(status(&gateway, identity, &["--user", &token])?, "207");
    }
    assert_eq!(status(&gateway, Some(&stranger), &[])?, "401");
    // A wrong token is not made good by a certificate.
    assert_eq!(status(&gateway, Some(&ann), &["--user", "demo:wrong"])?, "401");
    // Nor is one that cannot be read.
    assert_eq!(status(&gateway, Some(&ann), &["-H", "Authorization: Bearer x"])?, "401");
    Ok(())
}

#[test]
fn a_client_certificate_is_looked_at_again_at_every_request_of_a_connection() -> Result<()> {
    let (home, gateway) = (TempDir::new()?, Gateway::start()?);
    let ann = made(home.path(), "ann", 30)?;
    let id = register(&gateway, "demo", &ann, &["--rights", "read-only"])?;
    // The second request of one connection waits until the credential is gone.
    let begun = home.path().join("begun");
    let asked = ["-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null", "--rate", "20/m"];
    let mut child = curl(&gateway, Some(&ann))
        .args(asked)
        .args([&gateway.webdav, "-o", "/dev/null", &gateway.webdav])
        .stdout(std::fs::File::create(&begun)?)
        .spawn()?;
    coffre_tests::until("the first answer", 30, || Ok(!logins(&gateway, &id)?.is_empty()))?;
    gateway.admin(&["credential", "revoke", &id])?;
    child.wait()?;
    let answers = std::fs::read_to_string(&begun)?;
    assert_eq!(answers, "200 1\n401 0\n", "one connection, two verdicts");
    let told = logins(&gateway, &id)?;
    ensure!(told.last().is_some_and(|record| record["outcome"] == "refused"), "{told:?}");
    // Registered anew it is good, with the rights that were said; a disabled user is out.
    register(&gateway, "demo", &ann, &["--rights", "read-only"])?;
    assert_eq!(status(&gateway, Some(&ann), &[])?, "207");
    let put = ["-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--data", "x"];
    let refused = run_ok(curl(&gateway, Some(&ann)).args(put).arg(format!("{}new", gateway.webdav)))?;
    assert_eq!(refused.text(), "403");
    gateway.admin(&["user", "disable", "demo"])?;
    assert_eq!(status(&gateway, Some(&ann), &[])?, "401");
    gateway.admin(&["user", "enable", "demo"])?;
    assert_eq!(status(&gateway, Some(&ann), &[])?, "207");
    Ok(())
}

#[test]
fn a_client_certificate_ends_in_time_is_one_users_and_has_no_weak_key() -> Result<()> {
    let (home, gateway) = (TempDir::new()?, Gateway::start()?);
    // The key of a registered certificate does not outlive it by a certificate that somebody makes for himself.
    let key = KeyPair::generate()?;
    let short = of(home.path(), "short", 1, &key)?;
    let added = gateway.coffre_json(&[
        "credential",
        "add-certificate",
        "demo",
        &short.certificate.display().to_string(),
    ])?;
    let latest = run_ok(Command::new("date").args(["-u", "-d", "+24 hours", "+%Y-%m-%dT%H:%M:%SZ"]))?.text();
    ensure!(added["expires"].as_str().is_some_and(|expires| expires < latest.trim()), "{added}");
    // Shown is one that has ended, of a registered key.
    let ended = of(home.path(), "ended", 0, &key)?;
    assert_eq!(status(&gateway, Some(&short), &[])?, "207");
    assert_eq!(status(&gateway, Some(&ended), &[])?, "401");
    // Elsewhere, another user's, twice, or ended: not taken.
    gateway.admin(&["user", "add", "demo/bob"])?;
    let file = |identity: &Identity| identity.certificate.display().to_string();
    for (user, identity) in [("bob", &short), ("demo", &short)] {
        ensure!(
            !gateway.coffre(&["credential", "add-certificate", user, &file(identity)])?.status.success(),
            "{user}"
        );
    }
    let gone = made(home.path(), "gone", 0)?;
    ensure!(!gateway.coffre(&["credential", "add-certificate", "bob", &file(&gone)])?.status.success());
    ensure!(
        !gateway
            .coffre(&["credential", "add-certificate", "bob", &gone.key.display().to_string()])?
            .status
            .success()
    );
    let weak = home.path().join("weak.crt").display().to_string();
    let key = home.path().join("weak.key").display().to_string();
    let make = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=weak", "-out", &weak, "-keyout", &key,
    ];
    run_ok(Command::new("openssl").args(make))?;
    ensure!(!gateway.coffre(&["credential", "add-certificate", "bob", &weak])?.status.success());
    let away = made(home.path(), "away", 30)?;
    register(&gateway, "bob", &away, &["--from", "192.0.2.0/24"])?;
    assert_eq!(status(&gateway, Some(&away), &[])?, "401");
    Ok(())
}
