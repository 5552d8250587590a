//! A code is good once: on one connection and on another, in parallel, and after a restart.

use std::thread;

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, run, until};

use super::{PASSWORD, Person, logins};

#[test]
fn a_one_time_code_is_not_taken_twice_not_even_after_a_restart() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let device = doctor.add_device(&gateway)?;
    ensure!(doctor.set_password(&gateway, PASSWORD)?.status.success());
    let code = device.code(0)?;
    let with_key = [("code", code.as_str())];
    ensure!(doctor.is_let_in(&gateway, true, &with_key)?);
    ensure!(!doctor.is_let_in(&gateway, true, &with_key)?, "again");
    ensure!(
        !doctor.is_let_in(&gateway, false, &[("Password", PASSWORD), ("code", &code)])?,
        "beside another"
    );
    gateway.kill()?;
    let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
    again.keep_directory_of(gateway);
    ensure!(!doctor.is_let_in(&again, true, &with_key)?, "after a crash");
    ensure!(doctor.is_let_in(&again, true, &[("code", &device.code(1)?)])?, "the next one");
    Ok(())
}

#[test]
fn of_many_logins_with_one_code_at_once_one_is_let_in() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let device = doctor.add_device(&gateway)?;
    let code = device.code(0)?;
    let let_in = thread::scope(|scope| {
        let tries: Vec<_> = (0..4)
            .map(|_| {
                let sftp = doctor.sftp(&gateway, true, &[("code", &code)]);
                scope.spawn(move || Ok::<_, anyhow::Error>(run(&mut sftp?, b"pwd\n")?.status.success()))
            })
            .collect();
        let outcome = |one: thread::ScopedJoinHandle<'_, Result<bool>>| {
            one.join().is_ok_and(|ok| ok.is_ok_and(|ok| ok))
        };
        tries.into_iter().map(outcome).filter(|ok| *ok).count()
    });
    ensure!(let_in == 1, "{let_in} were let in with one code");
    Ok(())
}

#[test]
fn a_recovery_code_is_good_once_in_the_place_of_a_device() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let codes = doctor.recovery_codes(&gateway)?;
    ensure!(codes.len() == 10);
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &codes[3])])?);
    ensure!(!doctor.is_let_in(&gateway, true, &[("code", &codes[3])])?, "again");
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &codes[4].to_uppercase().replace('-', " "))])?);
    let told = logins(&gateway)?;
    ensure!(told.contains(&"login done ssh-key+recovery-code".to_owned()), "{told:?}");
    let newer = doctor.recovery_codes(&gateway)?;
    ensure!(!doctor.is_let_in(&gateway, true, &[("code", &codes[5])])?, "those of before are void");
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &newer[0])])?);
    Ok(())
}

#[test]
fn a_session_ends_when_any_of_its_factors_is_revoked() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let device = doctor.add_device(&gateway)?;
    let listed = gateway.admin(&["credential", "list", &doctor.full(), "--json"])?.text();
    let rows = listed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let totp = rows
        .filter(|row| row["kind"] == "one-time codes")
        .find_map(|row| Some(row["id"].as_str()?.to_owned()));
    let totp = totp.unwrap_or_default();
    let mut sftp = doctor.sftp(&gateway, true, &[("code", &device.code(0)?)])?;
    let mut held = sftp.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn()?;
    let is_in = || Ok(logins(&gateway)?.iter().any(|line| line == "login done ssh-key+totp"));
    until("the login", 20, is_in)?;
    gateway.admin(&["credential", "revoke", &totp])?;
    let ended = || {
        let status = gateway.coffre_json(&["status"])?;
        Ok(status["sessions"] == 0)
    };
    until("the session's end", 5, ended)?;
    held.kill()?;
    held.wait()?;
    Ok(())
}
