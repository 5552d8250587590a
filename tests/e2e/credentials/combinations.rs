//! The matrix: what opens, and what does not.

use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::accounts::keygen;
use coffre_tests::files::write_file;
use coffre_tests::{Gateway, run, run_ok, until};

use super::{PASSWORD, Person, logins, path_of};

#[test]
fn a_key_and_a_one_time_code_let_in_and_each_alone_does_not() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    ensure!(!doctor.is_let_in(&gateway, true, &[])?, "a person's key alone");
    let device = doctor.add_device(&gateway)?;
    ensure!(!doctor.is_let_in(&gateway, true, &[])?, "a key without the code");
    // A login that is let in ends the rest that failed ones bring.
    let spare = doctor.recovery_codes(&gateway)?;
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &spare[0])])?, "a recovery code");
    let code = device.code(0)?;
    let wrong = if code.starts_with('0') { "111111" } else { "000000" };
    ensure!(!doctor.is_let_in(&gateway, true, &[("code", wrong)])?, "a key with a wrong code");
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", &code), ("code", &code)])?, "a code alone");
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &device.code(0)?)])?, "both");
    ensure!(doctor.prompts()?.contains("One-time code:"), "{}", doctor.prompts()?);
    let told = logins(&gateway)?;
    ensure!(told.contains(&"login done ssh-key+totp".to_owned()), "{told:?}");
    ensure!(told.iter().any(|line| line == "login-step done ssh-key"), "{told:?}");
    Ok(())
}

#[test]
fn a_password_and_a_code_let_in_and_each_alone_does_not() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    let device = doctor.add_device(&gateway)?;
    ensure!(doctor.set_password(&gateway, PASSWORD)?.status.success());
    let code = device.code(0)?;
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", PASSWORD)])?, "a password alone");
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", PASSWORD), ("code", PASSWORD)])?);
    // A login that is let in ends the rest that failed ones bring.
    let spare = doctor.recovery_codes(&gateway)?;
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &spare[0])])?, "a key and a recovery code");
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", &code), ("code", &code)])?, "a code alone");
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", ""), ("code", &code)])?, "an empty password");
    ensure!(doctor.is_let_in(&gateway, true, &[("code", &spare[1])])?, "a key and a recovery code");
    ensure!(!doctor.is_let_in(&gateway, false, &[("Password", "wrong"), ("code", &code)])?);
    // A code that came with a wrong password is not used up by it.
    ensure!(doctor.is_let_in(&gateway, false, &[("Password", PASSWORD), ("code", &code)])?, "both");
    let told = logins(&gateway)?;
    ensure!(told.contains(&"login done password+totp".to_owned()), "{told:?}");
    Ok(())
}

#[test]
fn a_key_and_a_password_let_in() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    ensure!(doctor.set_password(&gateway, PASSWORD)?.status.success());
    ensure!(!doctor.is_let_in(&gateway, true, &[("Password", "another one")])?);
    ensure!(doctor.is_let_in(&gateway, true, &[("Password", PASSWORD)])?);
    let told = logins(&gateway)?;
    ensure!(told.contains(&"login done ssh-key+password".to_owned()), "{told:?}");
    gateway.admin(&["customer", "set", "demo", "--login", "key+code,token"])?;
    ensure!(!doctor.is_let_in(&gateway, true, &[("Password", PASSWORD)])?, "the customer takes it no more");
    Ok(())
}

#[test]
fn nobody_is_asked_the_same_as_somebody_and_a_wrong_password_is_not_told_before_the_code() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    ensure!(doctor.set_password(&gateway, PASSWORD)?.status.success());
    doctor.add_device(&gateway)?;
    let stranger = Person { name: "nobody-of-that-name", ..Person::new(&gateway, "other")? };
    let mut asked = Vec::new();
    for (person, password) in [(&doctor, PASSWORD), (&doctor, "wrong"), (&stranger, "wrong")] {
        drop(std::fs::remove_file(person.work.path().join("askpass.log")));
        ensure!(!person.is_let_in(&gateway, false, &[("Password", password), ("code", "123456")])?);
        asked.push(person.prompts()?.replace(person.name, "NAME"));
    }
    ensure!(asked[0] == asked[1] && asked[1] == asked[2], "{asked:?}");
    ensure!(asked[0].contains("Password:") && asked[0].contains("One-time code:"), "{asked:?}");
    Ok(())
}

#[test]
fn a_token_at_any_prompt_lets_programs_in_and_a_password_in_its_place_does_not() -> Result<()> {
    let gateway = Gateway::start()?;
    let doctor = Person::new(&gateway, "doctor")?;
    ensure!(doctor.set_password(&gateway, PASSWORD)?.status.success());
    let token = gateway.add_token(&doctor.full(), &[])?;
    let of_user = [("Password", token.secret.as_str())];
    ensure!(doctor.is_let_in(&gateway, false, &of_user)?, "at the prompt for a password");
    let mut batch = gateway.sftp_with_password(doctor.name, &token.secret);
    ensure!(run(&mut batch, b"pwd\n")?.status.success(), "by the method for passwords");
    for wrong in [PASSWORD, "", "cofr_"] {
        // A login that is let in ends the rest that failed ones bring.
        ensure!(doctor.is_let_in(&gateway, false, &of_user)?, "before {wrong:?}");
        let mut batch = gateway.sftp_with_password(doctor.name, wrong);
        ensure!(!run(&mut batch, b"pwd\n")?.status.success(), "sftp with {wrong:?}");
        let mut curl = gateway.curl_as(doctor.name, wrong);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]).arg(gateway.url(""));
        ensure!(run_ok(&mut curl)?.text() == "401", "curl with {wrong:?}");
    }
    let obscured = run_ok(Command::new("rclone").args(["obscure", PASSWORD]))?.text();
    for mut rclone in [gateway.rclone_webdav()?, gateway.rclone_sftp()] {
        rclone
            .env("RCLONE_CONFIG_COFFRE_PASS", obscured.trim())
            .env("RCLONE_CONFIG_COFFRE_USER", doctor.name);
        rclone.env_remove("RCLONE_CONFIG_COFFRE_KEY_FILE");
        let listed = run(rclone.args(["lsf", "coffre:", "--retries", "1", "--low-level-retries", "1"]), b"")?;
        ensure!(!listed.status.success(), "rclone with a password: {}", listed.text());
    }
    // The doctor's name rests now, after so much that failed.
    let nurse = Person::new(&gateway, "nurse")?;
    let token = gateway.add_token(&nurse.full(), &[])?;
    let of_user = [("Password", token.secret.as_str())];
    ensure!(nurse.is_let_in(&gateway, false, &of_user)?, "another user, not slowed down by that");
    gateway.admin(&["customer", "set", "demo", "--login", "key+code"])?;
    let mut curl = gateway.curl_as(nurse.name, &token.secret);
    curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]).arg(gateway.url(""));
    let status = run_ok(&mut curl)?.text();
    ensure!(status == "401", "a customer that takes no tokens: {status} over WebDAV");
    ensure!(!nurse.is_let_in(&gateway, false, &of_user)?, "nor over SFTP");
    Ok(())
}

#[test]
fn a_policy_that_changes_ends_the_sessions_that_it_would_not_let_in() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} file\n", file.display()))?;
    let mut held = coffre_tests::RawSftp::start(&gateway)?;
    gateway.admin(&["customer", "set", "demo", "--login", "key+code"])?;
    held.read_to_end()?;
    let got = path_of(work.path(), "got");
    ensure!(gateway.sftp_batch(&format!("get file {got}\n")).is_err(), "a machine's key is taken no more");
    Ok(())
}

#[test]
fn a_connection_that_offers_keys_of_nobody_leaves_one_record_and_makes_nobody_wait() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let refused = || -> Result<usize> {
        Ok(logins(&gateway)?.iter().filter(|line| line.starts_with("login refused")).count())
    };
    let keys: Vec<String> = (0..3)
        .map(|n| Ok(keygen(work.path(), &format!("key-{n}"), &["ed25519"])?.display().to_string()))
        .collect::<Result<_>>()?;
    for tries in 1..=8 {
        let mut sftp = Command::new("sftp");
        sftp.args(gateway.ssh_options_with(&keys[0]));
        sftp.args(keys[1..].iter().flat_map(|key| ["-i", key]));
        sftp.args(["-b", "-"]).arg("demo@127.0.0.1");
        ensure!(!run(&mut sftp, b"pwd\n")?.status.success());
        until("its record", 10, || -> Result<bool> { Ok(refused()? >= tries) })?;
        ensure!(refused()? == tries, "one for each connection");
    }
    ensure!(gateway.sftp_batch("pwd\n").is_ok(), "the user itself is let in at once");
    Ok(())
}
