//! `testssl.sh` against a gateway whose certificate comes from an authority: nothing of medium severity or above.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;

/// Findings that stay, and why.
const EXPLAINED: [(&str, &str); 1] = [(
    "cert_revocation",
    "this test's authority publishes no revocations; a public one says in the certificate where",
)];
/// Protocols, ciphers, forward secrecy, what a server answers by default, headers, known attacks.
const CHECKS: [&str; 6] = ["--protocols", "--std", "--pfs", "--server-defaults", "--headers", "--vulnerable"];

#[test]
fn testssl_finds_nothing_of_medium_severity_or_above() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, authority) = (directory.path().join("data"), directory.path().join("authority.pem"));
    Gateway::configure(&data, |text| text)?;
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    super::certificate::valid_for(&mut params, 300)?;
    fs::write(&authority, params.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    super::certificate::valid_for(&mut params, 200)?;
    fs::write(data.join("tls.crt"), params.signed_by(&key, &issuer)?.pem())?;
    fs::write(data.join("secrets/tls.key"), key.serialize_pem())?;
    let gateway = Gateway::start_on(&data, &directory.path().join("server.log"))?;

    let report = directory.path().join("report.json");
    let port = gateway.webdav.trim_end_matches('/').rsplit(':').next().context("a port")?.to_owned();
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"]);
    testssl.args(CHECKS).arg("--add-ca").arg(&authority).arg("--jsonfile").arg(&report);
    // Its exit status counts findings of any severity.
    let said = run(testssl.arg(format!("localhost:{port}")), b"")?.text();
    let findings: Vec<Value> = serde_json::from_slice(&fs::read(&report)?)?;
    let found = |id: &str| findings.iter().find(|finding| finding["id"] == id);
    for (id, finding) in
        [("TLS1_3", "offered with final"), ("TLS1_1", "not offered"), ("ROBOT", "not vulnerable")]
    {
        let told = found(id).with_context(|| format!("no finding {id}: {said}"))?;
        ensure!(told["finding"].as_str().is_some_and(|text| text.contains(finding)), "{told}");
    }
    ensure!(found("HSTS_time").is_some_and(|told| told["severity"] == "OK"), "{said}");
    let bad: Vec<&Value> = findings
        .iter()
        .filter(|finding| {
            ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].iter().any(|bad| finding["severity"] == *bad)
        })
        .filter(|finding| EXPLAINED.iter().all(|(id, _)| finding["id"] != *id))
        .collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    Ok(())
}
