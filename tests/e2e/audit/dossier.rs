//! What a stolen credential touched, for those who must be told.

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;

#[test]
fn a_dossier_lists_what_a_credential_touched_and_nothing_that_another_did() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &[7; 5000], 1_500_000_000)?;
    let stolen = gateway.add_key("demo", work.path(), "stolen", &[])?;
    gateway.sftp_batch(&format!("mkdir charts\nput {} charts/one\nput {0} charts/two\n", file.display()))?;
    let before = gateway.coffre_json(&["status"])?["time"].as_str().context("a time")?.to_owned();
    let batch =
        format!("get charts/one /dev/null\nrename charts/two charts/gone\nput {} planted\n", file.display());
    ensure!(gateway.sftp_as("demo", &stolen.secret, &batch)?.status.success());
    let after = gateway.coffre_json(&["status"])?["time"].as_str().context("a time")?.to_owned();
    gateway.sftp_batch("mkdir later\n")?;
    ensure!(gateway.sftp_as("demo", &stolen.secret, "mkdir too-late\n")?.status.success());
    gateway.admin(&["credential", "revoke", &stolen.id])?;

    let asked = ["audit", "dossier", "--credential", stolen.id.as_str()];
    let found = gateway.coffre_json(&[&asked[..], &["--from", &before, "--to", &after]].concat())?;
    let touched = found["touched"].as_array().context("rows")?;
    let paths: Vec<_> = touched.iter().filter_map(|row| row["path"].as_str()).collect();
    ensure!(paths == ["/charts/gone", "/charts/one", "/charts/two", "/planted"], "{paths:?}");
    ensure!(touched[1]["bytes_read"] == 5000 && touched[1]["vault"] == "demo/demo", "{}", touched[1]);
    ensure!(touched[3]["bytes_written"] == 5000, "{}", touched[3]);
    ensure!(found["bytes_read"] == 5000 && found["bytes_written"] == 5000, "{found}");
    ensure!(found["accounts"] == serde_json::json!(["demo/demo"]) && found["logins"] == 1, "{found}");
    ensure!(found["sources"][0]["source"] == "127.0.0.1" && found["state"] == "revoked", "{found}");
    ensure!(found["customers"] == serde_json::json!(["demo"]), "{found}");

    let whole = gateway.coffre_json(&asked)?;
    let done: Vec<_> =
        whole["administration"].as_array().context("rows")?.iter().map(|row| row["action"].clone()).collect();
    ensure!(done == ["credential-add", "credential-revoke"], "{done:?}");
    ensure!(whole["logins"] == 2 && whole["paths"] == 5, "{whole}");
    // For people: the figures, then a table.
    let text = gateway.admin(&asked)?.text();
    ensure!(text.contains("bytes read") && text.lines().any(|line| line.contains("/too-late")), "{text}");
    let newest = gateway.admin(&["--json", "audit", "search", "--newest", "-n", "2"])?.text();
    ensure!(newest.contains("\"dossier\""), "it is a record itself: {newest}");
    let nobody = gateway.coffre(&["audit", "dossier", "--credential", "nobody"])?;
    ensure!(!nobody.status.success() && nobody.stderr.contains("no record names it"), "{}", nobody.stderr);
    Ok(())
}
