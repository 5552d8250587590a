//! Who gets in, who does not, and how fast access ends.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use coffre_tests::accounts::keygen;
use coffre_tests::files::{noise, write_file};
use coffre_tests::{Gateway, RawSftp, run, run_ok, wait};

fn login(gateway: &Gateway, user: &str, key: &std::path::Path) -> Result<bool> {
    let mut options = gateway.ssh_options();
    options[3] = key.display().to_string();
    Ok(run(Command::new("sftp").args(options).args(["-b", "-"]).arg(format!("{user}@127.0.0.1")), b"ls\n")?
        .status
        .success())
}

#[test]
fn registered_keys_of_every_accepted_kind_open_sftp_and_others_do_not() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    for (name, kind, accepted) in [
        ("ed25519", &["ed25519"][..], true),
        ("p256", &["ecdsa", "-b", "256"], true),
        ("p384", &["ecdsa", "-b", "384"], true),
        ("rsa3072", &["rsa", "-b", "3072"], true),
        ("rsa2048", &["rsa", "-b", "2048"], false),
    ] {
        let key = keygen(work.path(), name, kind)?;
        assert!(!login(&gateway, &gateway.user, &key)?, "{name} before it is registered");
        let public = key.with_extension("pub").display().to_string();
        let machine = ["--machine", "--from", "127.0.0.0/8"];
        let added =
            gateway.coffre(&[&["credential", "add-key", &gateway.user, &public][..], &machine].concat())?;
        assert_eq!(added.status.success(), accepted, "{name}: {}", added.stderr);
        assert_eq!(login(&gateway, &gateway.user, &key)?, accepted, "{name}");
        assert!(!login(&gateway, "nobody", &key)?, "{name} for an unknown user");
    }
    Ok(())
}

#[test]
fn an_app_token_opens_sftp_and_webdav_until_it_is_revoked() -> Result<()> {
    let gateway = Gateway::start()?;
    let added = gateway.coffre_json(&["credential", "add-token", &gateway.user])?;
    let id = added["id"].as_str().context("id")?.to_owned();
    let token = added["token"].as_str().context("token")?.to_owned();
    assert!(webdav_status(&gateway, &gateway.user, &token)? == 207);
    assert!(sftp_with_token(&gateway, &token)?);
    let mut wrong = token.clone();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    assert_eq!(webdav_status(&gateway, &gateway.user, &wrong)?, 401);
    assert_eq!(webdav_status(&gateway, "nobody", &token)?, 401);
    assert!(!sftp_with_token(&gateway, &wrong)?);
    assert!(gateway.coffre(&["credential", "revoke", &id])?.status.success());
    assert_eq!(webdav_status(&gateway, &gateway.user, &token)?, 401);
    assert!(!sftp_with_token(&gateway, &token)?);
    Ok(())
}

#[test]
fn an_expired_token_is_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    let added = gateway.coffre_json(&["credential", "add-token", &gateway.user, "--expires", "1s"])?;
    let token = added["token"].as_str().context("token")?.to_owned();
    let deadline = Instant::now() + Duration::from_secs(30);
    while webdav_status(&gateway, &gateway.user, &token)? != 401 {
        assert!(Instant::now() < deadline, "the token still works");
    }
    Ok(())
}

fn webdav_status(gateway: &Gateway, user: &str, token: &str) -> Result<u16> {
    let finished = run_ok(
        Command::new("curl")
            .args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                "-X",
                "PROPFIND",
                "-H",
                "Depth: 0",
                "--cacert",
            ])
            .arg(&gateway.ca_file)
            .args(["--user", &format!("{user}:{token}"), &gateway.url("")]),
    )?;
    Ok(finished.text().parse()?)
}

fn sftp_with_token(gateway: &Gateway, token: &str) -> Result<bool> {
    let mut command = Command::new("sshpass");
    command.args(["-e", "sftp", "-F", "/dev/null", "-o"]);
    command.arg(format!("UserKnownHostsFile={}", gateway.known_hosts.display()));
    command.args([
        "-o",
        "PubkeyAuthentication=no",
        "-o",
        "NumberOfPasswordPrompts=1",
        "-P",
        gateway.sftp_port(),
    ]);
    command.arg(format!("{}@127.0.0.1", gateway.user)).env("SSHPASS", token);
    Ok(run(&mut command, b"ls\n")?.status.success())
}

#[test]
fn a_disabled_user_is_out_of_every_protocol_and_back_when_enabled() -> Result<()> {
    let gateway = Gateway::start()?;
    assert!(login(&gateway, &gateway.user, &gateway.key_file)?);
    assert!(gateway.coffre(&["user", "disable", &gateway.user])?.status.success());
    assert!(!login(&gateway, &gateway.user, &gateway.key_file)?);
    assert_eq!(webdav_status(&gateway, &gateway.user, &gateway.token)?, 401);
    assert!(gateway.coffre(&["user", "enable", &gateway.user])?.status.success());
    assert!(login(&gateway, &gateway.user, &gateway.key_file)?);
    assert_eq!(webdav_status(&gateway, &gateway.user, &gateway.token)?, 207);
    Ok(())
}

#[test]
fn revoking_a_credential_ends_its_live_session_and_transfer() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let key = keygen(work.path(), "key", &["ed25519"])?;
    let id = gateway.register_key(&gateway.user, &key.with_extension("pub"), &[])?;
    let big = work.path().join("big");
    write_file(&big, &noise(1, 64 << 20), 1_500_000_000)?;
    let mut options = gateway.ssh_options();
    options[3] = key.display().to_string();
    // One session in the middle of a slow upload, one idle.
    let mut busy = Command::new("sftp")
        .args(&options)
        .args(["-l", "8000", "-b", "-"])
        .arg(format!("{}@127.0.0.1", gateway.user))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    busy.stdin.as_mut().context("stdin")?.write_all(format!("put {} slow\n", big.display()).as_bytes())?;
    // `sftp` waiting for a command does not notice that its connection is gone; `ssh` does.
    let mut idle = RawSftp::start_with(&options, &gateway.user)?;
    for _ in 0..100 {
        if gateway.sftp_batch("ls -1\n")?.text().contains("slow") {
            break;
        }
    }
    assert!(gateway.sftp_batch("ls -1\n")?.text().contains("slow"), "the upload is under way");
    assert!(gateway.coffre(&["credential", "revoke", &id])?.status.success());
    assert!(!wait(&mut busy, 20)?.success(), "a revoked session went on with its upload");
    idle.read_to_end()?;
    Ok(())
}

#[test]
fn a_silent_connection_is_closed_after_the_login_grace_time() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut silent = std::net::TcpStream::connect(&gateway.sftp)?;
    silent.set_read_timeout(Some(Duration::from_secs(90)))?;
    let mut all = Vec::new();
    let started = Instant::now();
    std::io::Read::read_to_end(&mut silent, &mut all)?;
    assert!(started.elapsed() < Duration::from_secs(80));
    assert!(all.starts_with(b"SSH-2.0-"), "it greeted first");
    Ok(())
}

#[test]
fn a_key_of_one_customer_does_not_open_anothers_files() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"of the first customer", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} secret\n", file.display()))?;
    for arguments in
        [&["customer", "add", "second"][..], &["vault", "add", "second/v"], &["user", "add", "second/eve"]]
    {
        let finished = gateway.coffre(arguments)?;
        assert!(finished.status.success(), "{arguments:?}: {}", finished.stderr);
    }
    let key = keygen(work.path(), "eve", &["ed25519"])?;
    gateway.register_key("second/eve", &key.with_extension("pub"), &[])?;
    let mut options = gateway.ssh_options();
    options[3] = key.display().to_string();
    let stolen = work.path().join("stolen");
    for name in ["secret", "/secret", "../secret", "/../../secret", "/demo/secret"] {
        let batch = format!("get {name} {}\n", stolen.display());
        let finished =
            run(Command::new("sftp").args(&options).args(["-b", "-", "eve@127.0.0.1"]), batch.as_bytes())?;
        assert!(!finished.status.success(), "{name}");
        assert!(fs::metadata(&stolen).is_err(), "{name}");
    }
    assert!(!login(&gateway, &gateway.user, &key)?, "eve's key for the first customer's user");
    Ok(())
}

#[test]
fn read_only_and_append_only_credentials_change_nothing_that_exists() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"kept", 1_500_000_000)?;
    let other = work.path().join("other");
    write_file(&other, b"other", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} kept\n", file.display()))?;
    for (rights, may_create) in [("read-only", false), ("append-only", true)] {
        let key = keygen(work.path(), rights, &["ed25519"])?;
        gateway.register_key(&gateway.user, &key.with_extension("pub"), &["--rights", rights])?;
        let mut options = gateway.ssh_options();
        options[3] = key.display().to_string();
        let sftp = |batch: String| -> Result<bool> {
            let mut command = Command::new("sftp");
            command.args(&options).args(["-b", "-"]).arg(format!("{}@127.0.0.1", gateway.user));
            Ok(run(&mut command, batch.as_bytes())?.status.success())
        };
        assert!(sftp(format!("get kept {}\n", work.path().join("got").display()))?, "{rights}: reading");
        for refused in [
            "rm kept\n".to_owned(),
            "rename kept moved\n".to_owned(),
            "chmod 600 kept\n".to_owned(),
            format!("put {} kept\n", other.display()),
        ] {
            assert!(!sftp(refused.clone())?, "{rights}: {refused}");
        }
        assert_eq!(
            sftp(format!("put -p {} new-{rights}\n", other.display()))?,
            may_create,
            "{rights}: creating"
        );
        assert_eq!(sftp(format!("mkdir dir-{rights}\n"))?, may_create, "{rights}: mkdir");
    }
    let got = work.path().join("got2");
    gateway.sftp_batch(&format!("get kept {}\n", got.display()))?;
    assert_eq!(fs::read(got)?, b"kept");
    Ok(())
}
