//! A closed customer's vault is erased: nothing decrypts afterwards with every secret of the server at hand, the vaults
//! beside it go on, and a signed certificate says so.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256};
use coffre_tests::{Gateway, run};

#[test]
fn nothing_of_an_erased_vault_is_left_and_its_neighbours_go_on() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    gateway.admin(&["customer", "add", "gone"])?;
    gateway.admin(&["vault", "add", "gone/records"])?;
    gateway.admin(&["user", "add", "gone/nurse", "--mount", "/=records"])?;
    let key = gateway.add_key("gone/nurse", work.path(), "nurse", &[])?;
    let (theirs, ours) = (work.path().join("theirs"), work.path().join("ours"));
    std::fs::write(&theirs, noise(7, 9 << 20))?;
    std::fs::write(&ours, noise(8, 9 << 20))?;
    let as_nurse = |batch: &str| {
        let mut options = gateway.ssh_options();
        options[3] = key.secret.clone();
        run(Command::new("sftp").args(options).args(["-b", "-", "gone/nurse@127.0.0.1"]), batch.as_bytes())
    };
    let put = as_nurse(&format!("mkdir ward\nput {} ward/theirs\n", theirs.display()))?;
    ensure!(put.status.success(), "{}", put.stderr);
    gateway.sftp_batch(&format!("put {} ours\n", ours.display()))?;

    let refused = gateway.coffre(&["vault", "erase", "gone/records", "--confirm", "gone/records"])?;
    ensure!(!refused.status.success() && refused.stderr.contains("is not closed"), "{}", refused.stderr);
    gateway.admin(&["customer", "close", "gone"])?;
    let refused = gateway.coffre(&["vault", "erase", "gone/records", "--confirm", "gone/other"])?;
    ensure!(!refused.status.success() && refused.stderr.contains("--confirm"), "{}", refused.stderr);
    gateway.admin(&["vault", "hold", "gone/records", "--reason", "order"])?;
    let held = gateway.coffre(&["vault", "erase", "gone/records", "--confirm", "gone/records"])?;
    ensure!(!held.status.success() && held.stderr.contains("legal hold"), "{}", held.stderr);
    let shown = gateway.coffre_json(&["vault", "show", "gone/records"])?;
    let number = shown["holds"][0]["number"].as_u64().context("a hold")?.to_string();
    gateway.admin(&["vault", "lift", "gone/records", &number])?;

    let file = work.path().join("certificate");
    let path = file.display().to_string();
    let erase = ["vault", "erase", "gone/records", "--confirm", "gone/records", "--certificate", &path];
    let erased = gateway.coffre_json(&erase)?;
    ensure!(erased["state"] == "erased" && erased["packs_overwritten"].as_u64() > Some(0), "{erased}");
    let certificate = std::fs::read_to_string(&file)?;
    let verifier = std::fs::read_to_string(gateway.data.join("store/audit/checkpoint.pub"))?;
    let public = coffre_storage::audit::checkpoint::parse_verifier(&verifier).context("a verifier")?;
    let origin = coffre_storage::reclaim::CERTIFICATE_ORIGIN;
    let body = coffre_storage::note::verify(origin, &certificate, &public)?;
    let id = erased["id"].as_str().context("an id")?;
    ensure!(body.contains(&format!("vault {id} records")), "{body}");
    ensure!(!gateway.coffre(&["vault", "show", "gone/records"])?.status.success());
    let all = gateway.admin(&["--json", "vault", "list"])?.text();
    ensure!(all.lines().count() == 2 && all.contains("\"key\":\"erased\""), "{all}");

    let back = work.path().join("back");
    gateway.sftp_batch(&format!("get ours {}\n", back.display()))?;
    ensure!(sha256(&back)? == sha256(&ours)?);
    gateway.admin(&["check", "--read-data"])?;
    gateway.stop()?;
    gateway.admin(&["check", "--read-data"])?;
    Ok(())
}
