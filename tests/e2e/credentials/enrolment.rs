//! How factors come to be, and what is refused on the way.

use anyhow::{Result, ensure};
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
