//! SSH in floods and beyond its bounds, before a login and after it: memory stays flat and others do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use coffre_tests::{Gateway, run, run_ok};

/// Memory that no flood may reach: the bound of the acceptance list.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;
/// Bytes that somebody without a login may be heard for, whatever the sockets of both sides hold included.
const HEARD_BYTES_MAX: u64 = 64 << 20;

/// Sends `piece` until the server hears no more; the bytes that were taken.
fn heard(gateway: &Gateway, first: &[u8], piece: &[u8]) -> Result<u64> {
    let mut stream = TcpStream::connect(&gateway.sftp)?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(first)?;
    let mut sent = 0;
    while sent < HEARD_BYTES_MAX {
        match stream.write(piece) {
            Ok(0) | Err(_) => break,
            Ok(taken) => sent += taken as u64,
        }
        ensure!(gateway.resident_bytes()? < RESIDENT_BYTES_MAX, "after {sent} bytes");
    }
    Ok(sent)
}

#[test]
fn a_greeting_that_never_comes_is_not_heard_for_long() -> Result<()> {
    let gateway = Gateway::start()?;
    for piece in [b"no greeting yet\r\n".repeat(4096), vec![b'x'; 65536], vec![0; 65536]] {
        let sent = heard(&gateway, b"", &piece)?;
        ensure!(sent < HEARD_BYTES_MAX, "{sent} bytes were heard");
    }
    gateway.sftp_batch("pwd\n")?;
    Ok(())
}

#[test]
fn a_packet_length_beyond_reason_before_a_login_ends_the_connection_and_takes_no_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    for len in [u32::MAX, 1 << 31, 0x7fff_ffff, 1 << 28, 1 << 20, 0, 1, 4] {
        let before = gateway.resident_bytes()?;
        let greeting = [&b"SSH-2.0-hostile\r\n"[..], &len.to_be_bytes()].concat();
        let sent = heard(&gateway, &greeting, &vec![7; 65536])?;
        ensure!(sent < HEARD_BYTES_MAX, "a packet of {len} bytes: {sent} were heard");
        let grown = gateway.resident_bytes()?.saturating_sub(before);
        ensure!(grown < 32 << 20, "a packet of {len} bytes: {grown} bytes of memory");
    }
    gateway.sftp_batch("pwd\n")?;
    Ok(())
}

/// Runs one of the floods of `hostile_ssh_client.py`, beside a user who works; how it ended.
fn flood(attack: &str) -> Result<String> {
    let gateway = Gateway::start()?;
    let mut client = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/hostile_ssh_client.py"))
        .args([gateway.sftp_port(), &gateway.user])
        .args([&gateway.key_file, &gateway.known_hosts])
        .arg(attack)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let started = Instant::now();
    let mut most = 0;
    while client.try_wait()?.is_none() {
        most = most.max(gateway.resident_bytes()?);
        ensure!(most < RESIDENT_BYTES_MAX, "the server holds {} MiB", most >> 20);
        ensure!(started.elapsed() < Duration::from_secs(120), "the flood does not end");
        gateway.sftp_batch("ls\n")?;
    }
    let mut said = String::new();
    if let Some(mut stdout) = client.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    ensure!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
    println!("{attack}: {} MiB at most; {said}", most >> 20);
    if said.is_empty() {
        bail!("the client failed");
    }
    Ok(said)
}

#[test]
fn pings_whose_answers_are_never_read_hold_little_memory() -> Result<()> {
    flood("pings").map(drop)
}

#[test]
fn global_requests_whose_answers_are_never_read_hold_little_memory() -> Result<()> {
    flood("questions").map(drop)
}

#[test]
fn channels_without_end_hold_little_memory() -> Result<()> {
    flood("channels").map(drop)
}

#[test]
fn a_client_that_ignores_its_window_holds_little_memory() -> Result<()> {
    let said = flood("data_beyond_the_window")?;
    ensure!(!said.starts_with("sent"), "all of it was taken: {said}");
    Ok(())
}

#[test]
fn a_login_under_one_name_gives_nothing_to_a_login_under_another() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    gateway.admin(&["customer", "add", "other"])?;
    gateway.admin(&["vault", "add", "other/files"])?;
    gateway.admin(&["user", "add", "other/bob", "--mount", "/=other/files"])?;
    let bob = gateway.add_key("other/bob", work.path(), "bob", &[])?;
    // What alice tries first leaves bob's login as it is, or ends the connection; and bob is bob.
    let script = "import paramiko,sys\n\
        port,alice,alice_key,bob,bob_key=int(sys.argv[1]),*sys.argv[2:6]\n\
        key=paramiko.Ed25519Key.from_private_key_file\n\
        firsts=[lambda t: t.auth_publickey(alice,key(bob_key)), lambda t: t.auth_none(alice),\n\
        \x20lambda t: t.auth_password(alice,''), lambda t: t.auth_publickey(bob,key(alice_key))]\n\
        for first in firsts:\n\
        \x20t=paramiko.Transport(('127.0.0.1',port)); t.start_client()\n\
        \x20try: first(t)\n\
        \x20except paramiko.AuthenticationException: pass\n\
        \x20else: raise AssertionError('it was let in')\n\
        \x20try: t.auth_publickey(bob,key(bob_key))\n\
        \x20except paramiko.SSHException: print('ended')\n\
        \x20else: print(sorted(t.open_sftp_client().listdir('/')))\n\
        \x20t.close()\n";
    let file = work.path().join("file");
    std::fs::write(&file, "alice's")?;
    gateway.sftp_batch(&format!("put {} of-alice\n", file.display()))?;
    let put = gateway.sftp_as("other/bob", &bob.secret, &format!("put {} of-bob\n", file.display()))?;
    ensure!(put.status.success(), "{}", put.stderr);
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script, gateway.sftp_port(), &gateway.user]).arg(&gateway.key_file);
    let seen = run_ok(python.args(["other/bob", &bob.secret]))?.text();
    ensure!(seen.lines().count() == 4, "{seen}");
    for line in seen.lines() {
        ensure!(line == "['of-bob']" || line == "ended", "bob sees {seen}");
    }
    let listed = gateway.sftp_as("other/bob", &bob.secret, "ls -1\n")?;
    ensure!(listed.text().lines().last() == Some("of-bob"), "{}", listed.text());
    ensure!(run(&mut gateway.sftp_command(), b"ls of-alice\n")?.status.success());
    Ok(())
}
