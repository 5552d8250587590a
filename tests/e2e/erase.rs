//! A closed customer's vault is erased: nothing decrypts afterwards with every secret of the server at hand, the vaults
//! beside it go on, and a signed certificate says so.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256};
use coffre_tests::fixture::vectors;
use coffre_tests::process::Finished;
use coffre_tests::{Gateway, run};

/// The second reader, which knows nothing but the format's document and the gateway's key.
fn reader(data: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut python = Command::new("/usr/bin/python3");
    run(python.arg("-B").arg(vectors().join("reader.py")).arg(data).args(arguments), b"")
}

fn listed(data: &Path) -> Result<String> {
    let found = reader(data, &["list"])?;
    ensure!(found.status.success(), "{}", found.stderr);
    Ok(found.text())
}

/// A directory that the second reader takes for a data directory: a copy's packs, the gateway's key.
fn as_data(at: &Path, store: &Path, secrets: &Path) -> Result<()> {
    std::fs::create_dir(at)?;
    std::os::unix::fs::symlink(store, at.join("store"))?;
    Ok(std::os::unix::fs::symlink(secrets, at.join("secrets"))?)
}

/// Its customer is open, its name is not repeated, it is held: each is refused with its reason. Leaves the customer closed.
fn what_keeps_it_from_being_erased(gateway: &Gateway) -> Result<()> {
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

    Ok(())
}

#[test]
fn nothing_of_an_erased_vault_is_left_and_its_neighbours_go_on() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    gateway.admin(&["customer", "add", "gone"])?;
    gateway.admin(&["vault", "add", "gone/records"])?;
    gateway.admin(&["user", "add", "gone/nurse", "--mount", "/=records"])?;
    let key = gateway.add_key("gone/nurse", work.path(), "nurse", &[])?;
    let (theirs, ours) = (work.path().join("theirs"), work.path().join("ours"));
    std::fs::write(&theirs, noise(7, 700_000))?;
    std::fs::write(&ours, noise(8, 700_000))?;
    let as_nurse = |batch: &str| {
        let mut options = gateway.ssh_options();
        options[3] = key.secret.clone();
        run(Command::new("sftp").args(options).args(["-b", "-", "gone/nurse@127.0.0.1"]), batch.as_bytes())
    };
    let put = as_nurse(&format!("mkdir ward\nput {} ward/theirs\n", theirs.display()))?;
    ensure!(put.status.success(), "{}", put.stderr);
    gateway.sftp_batch(&format!("put {} ours\n", ours.display()))?;

    what_keeps_it_from_being_erased(&gateway)?;
    ensure!(listed(&gateway.data)?.contains("gone/records"), "whoever has the key reads it before");
    // A backup has it too, and whoever has that and the gateway's key.
    let (backup, beside) = (work.path().join("backup"), work.path().join("beside"));
    let directory = backup.display().to_string();
    gateway.admin(&["backup", &directory])?;
    as_data(&beside, &backup, &gateway.data.join("secrets"))?;
    ensure!(listed(&beside)?.contains("gone/records"), "the backup has it");
    let file = work.path().join("certificate");
    let path = file.display().to_string();
    let erase = [
        "vault",
        "erase",
        "gone/records",
        "--confirm",
        "gone/records",
        "--backup",
        &directory,
        "--certificate",
        &path,
    ];
    let erased = gateway.coffre_json(&erase)?;
    ensure!(erased["state"] == "erased" && erased["packs_overwritten"].as_u64() > Some(0), "{erased}");
    let certificate = std::fs::read_to_string(&file)?;
    let verifier = std::fs::read_to_string(gateway.data.join("store/audit/checkpoint.pub"))?;
    let public = coffre_storage::audit::checkpoint::parse_verifier(&verifier).context("a verifier")?;
    let origin = coffre_storage::reclaim::CERTIFICATE_ORIGIN;
    let body = coffre_storage::note::verify(origin, &certificate, &public)?;
    let id = erased["id"].as_str().context("an id")?;
    ensure!(body.contains(&format!("vault {id} records")), "{body}");
    ensure!(body.contains(&format!("copy purged {directory}")), "{body}");
    let copied = listed(&beside)?;
    ensure!(!copied.contains("gone/records") && copied.contains("\"ours\""), "{copied}");
    ensure!(!gateway.coffre(&["vault", "show", "gone/records"])?.status.success());
    let all = gateway.admin(&["--json", "vault", "list"])?.text();
    ensure!(all.lines().count() == 2 && all.contains("\"key\":\"erased\""), "{all}");

    let back = work.path().join("back");
    gateway.sftp_batch(&format!("get ours {}\n", back.display()))?;
    ensure!(sha256(&back)? == sha256(&ours)?);
    gateway.admin(&["check", "--read-data"])?;
    gateway.stop()?;
    gateway.admin(&["check", "--read-data"])?;
    // With every secret of the server: its names are gone, what is beside it reads.
    let left = listed(&gateway.data)?;
    ensure!(!left.contains("gone/records") && left.contains("\"ours\""), "{left}");
    let theirs = reader(&gateway.data, &["cat", "gone/records", "ward/theirs"])?;
    ensure!(!theirs.status.success(), "it was read: {}", theirs.stderr);
    Ok(())
}
