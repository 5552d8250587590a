//! How factors come to be, and what is refused on the way.

use anyhow::{Result, ensure};
use coffre_tests::accounts::keygen;
use coffre_tests::{Gateway, run_ok};

use super::{PASSWORD, Person};

#[test]
fn a_device_counts_once_a_code_of_it_was_seen() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let (device, id) = doctor.add_unconfirmed(&gateway)?;
    ensure!(!doctor.is_let_in(&gateway, true, &[("code", &device.code(0)?)])?, "not confirmed");
    let code = device.code(0)?;
    let wrong = if code.starts_with('0') { "111111" } else { "000000" };
    let refused = gateway.coffre(&["credential", "confirm", &id, wrong])?;
    ensure!(!refused.status.success() && refused.stderr.contains("clock"), "{}", refused.stderr);
    gateway.admin(&["credential", "confirm", &id, &device.code(0)?])?;
    let twice = gateway.coffre(&["credential", "confirm", &id, &device.code(1)?])?;
    ensure!(!twice.status.success(), "confirmed twice");
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &device.code(1)?)])?);
    Ok(())
}

#[test]
fn a_terminal_shows_the_device_a_code_to_read() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let shown = run_ok(&mut gateway.coffre_command(&["credential", "add-totp", &doctor.full()])?)?.text();
    ensure!(
        shown.contains("otpauth://totp/") && shown.lines().filter(|line| line.contains('█')).count() > 15,
        "{shown}"
    );
    Ok(())
}

#[test]
fn weak_passwords_are_refused_with_the_reason_and_no_secret_is_listed() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    for (weak, reason) in [
        ("", "10 characters"),
        ("short", "10 characters"),
        ("password1234", "guessed"),
        ("doctordoctor1", "guessed"),
    ] {
        let refused = doctor.set_password(&gateway, weak)?;
        ensure!(!refused.status.success() && refused.stderr.contains(reason), "{weak}: {}", refused.stderr);
    }
    ensure!(!doctor.set_password(&gateway, &"x".repeat(10_000))?.status.success());
    ensure!(doctor.set_password(&gateway, &format!("{PASSWORD}\n"))?.status.success());
    doctor.add_device(&gateway)?;
    doctor.recovery_codes(&gateway)?;
    let listed = gateway.admin(&["credential", "list", &doctor.full(), "--json"])?.text();
    ensure!(listed.lines().count() == 4 && listed.contains("recovery codes"), "{listed}");
    ensure!(
        !listed.contains("saffron") && !listed.contains("secret") && !listed.contains("hash"),
        "{listed}"
    );
    ensure!(doctor.is_let_in(
        &gateway,
        true,
        &[("Password", PASSWORD), ("code", &doctor.recovery_codes(&gateway)?[0])]
    )?);
    Ok(())
}

#[test]
fn a_machines_key_is_pinned_to_networks_and_not_to_all_there_are() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let key = keygen(work.path(), "key", &["ed25519"])?.with_extension("pub").display().to_string();
    let add = |from: &[&str]| {
        gateway.coffre(&[&["credential", "add-key", "demo/demo", &key, "--machine"], from].concat())
    };
    for from in [&["--from", "0.0.0.0/0"][..], &["--from", "10.0.0.0/8", "--from", "::/0"]] {
        let refused = add(from)?;
        ensure!(!refused.status.success() && refused.stderr.contains("pinned"), "{}", refused.stderr);
    }
    ensure!(!add(&[])?.status.success());
    ensure!(add(&["--from", "10.0.0.0/8"])?.status.success());
    Ok(())
}

#[test]
fn a_key_that_is_not_enough_is_registered_with_a_word_about_it() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let key = keygen(doctor.work.path(), "second", &["ed25519"])?.with_extension("pub").display().to_string();
    let added = gateway.coffre_json(&["credential", "add-key", &doctor.full(), &key])?;
    ensure!(added["note"].as_str().is_some_and(|note| note.contains("add-totp")), "{added}");
    doctor.add_device(&gateway)?;
    let key = keygen(doctor.work.path(), "third", &["ed25519"])?.with_extension("pub").display().to_string();
    let added = gateway.coffre_json(&["credential", "add-key", &doctor.full(), &key])?;
    ensure!(added["note"].is_null(), "{added}");
    Ok(())
}
