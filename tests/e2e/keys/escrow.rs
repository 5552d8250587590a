//! A lost passphrase: the escrow's offline key brings the vault back; without it nobody does, and that is said.

use anyhow::{Result, ensure};

use super::{Held, PASSPHRASE, SECOND, tell, told};

#[test]
fn an_escrow_key_gives_a_new_passphrase_to_a_vault_whose_passphrase_is_lost() -> Result<()> {
    let offline = tempfile::tempdir()?;
    let at = |name: &str| offline.path().join(name).display().to_string();
    let (key, public, envelope, answer) = (at("key"), at("key.pub"), at("envelope"), at("answer"));
    let elsewhere = coffre_tests::Gateway::start()?;
    let shown = tell(&elsewhere, &["escrow", "keygen", &key], &["of the notary in the rue Haute 1897"])?;
    ensure!(shown.contains("coffre-escrow-recipient-1 "), "{shown}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    let held = Held::new(&["--escrow", &public])?;
    let file = held.fill()?;
    tell(&held.gateway, &["vault", "lock", "demo/held"], &[])?;
    tell(&held.gateway, &["escrow", "envelope", "demo/held", &envelope], &[])?;
    let open = ["escrow", "open", &envelope, "--key", &key, "--out", &answer];
    let wrong = told(&elsewhere, &open, &["not the notary", SECOND])?;
    ensure!(!wrong.status.success() && !std::path::Path::new(&answer).exists(), "{}", wrong.text());
    tell(&elsewhere, &open, &["of the notary in the rue Haute 1897", SECOND])?;
    tell(&held.gateway, &["escrow", "restore", "demo/held", &answer], &[SECOND])?;
    tell(&held.gateway, &["vault", "unlock", "demo/held"], &[SECOND])?;
    let got = held.work.path().join("got");
    ensure!(held.get(&got)?.status.success() && std::fs::read(&got)? == std::fs::read(&file)?);

    // A key that is another's opens nothing.
    let other = at("other");
    tell(&elsewhere, &["escrow", "keygen", &other, "--plain"], &[])?;
    let stolen = at("stolen");
    let refused =
        told(&elsewhere, &["escrow", "open", &envelope, "--key", &other, "--out", &stolen], &[SECOND])?;
    ensure!(!refused.status.success() && refused.stderr.contains("not for this key"), "{}", refused.stderr);
    let records = held.gateway.admin(&["audit", "tail", "--lines", "1000"])?.text();
    ensure!(records.contains("slot-export") && records.contains("slot-add"), "{records}");
    Ok(())
}

#[test]
fn without_escrow_and_passphrase_it_is_said_that_nobody_can_open_the_vault() -> Result<()> {
    let held = Held::new(&[])?;
    let envelope = held.work.path().join("envelope").display().to_string();
    let refused = told(&held.gateway, &["escrow", "envelope", "demo/held", &envelope], &[])?;
    ensure!(!refused.status.success() && refused.stderr.contains("nobody can open it"), "{}", refused.stderr);
    let refused = told(&held.gateway, &["vault", "unlock", "demo/held"], &["I do not remember it"])?;
    ensure!(!refused.status.success());
    ensure!(refused.stderr.contains("neither this gateway nor its operators can"), "{}", refused.stderr);
    tell(&held.gateway, &["vault", "unlock", "demo/held"], &[PASSPHRASE])?;
    Ok(())
}
