//! What attackers do over SSH, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::raw_sftp::{RawSftp, kind, string};
use coffre_tests::{Gateway, run, run_ok, until};

/// Seconds after which a silent login must be over: the grace time of 30 s, and room for a busy machine.
const GRACE_SECS_MAX: u64 = 60;

/// The server's SSH greeting and its first packet: the KEXINIT payload as text, lists joined by commas.
fn key_exchange_offer(gateway: &Gateway) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(&gateway.sftp)?;
    stream.set_read_timeout(Some(Duration::from_secs(GRACE_SECS_MAX)))?;
    stream.write_all(b"SSH-2.0-hostile\r\n")?;
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
    }
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut bytes = vec![0; usize::try_from(u32::from_be_bytes(len))?.min(35_000)];
    stream.read_exact(&mut bytes)?;
    ensure!(bytes.get(1) == Some(&20), "KEXINIT comes first");
    Ok((stream, String::from_utf8_lossy(&bytes).into_owned()))
}

#[test]
fn the_key_exchange_is_strict_and_offers_nothing_old_and_no_compression() -> Result<()> {
    let gateway = Gateway::start()?;
    let (_stream, offer) = key_exchange_offer(&gateway)?;
    ensure!(offer.contains("kex-strict-s-v00@openssh.com"), "{offer}");
    ensure!(offer.contains("curve25519-sha256") && offer.contains("aes256-gcm@openssh.com"), "{offer}");
    for old in [
        "diffie-hellman-group1-",
        "diffie-hellman-group14-sha1",
        "group-exchange-sha1",
        "-cbc",
        "3des",
        "arcfour",
        "hmac-sha1",
        "hmac-md5",
        "umac-64",
        "ssh-dss",
        "zlib",
    ] {
        ensure!(!offer.contains(old), "{old} is offered: {offer}");
    }
    ensure!(!offer.contains("ssh-rsa"), "SHA-1 signatures are offered: {offer}");
    Ok(())
}

#[test]
fn a_message_out_of_order_in_a_strict_key_exchange_ends_the_connection() -> Result<()> {
    let gateway = Gateway::start()?;
    let (mut stream, offer) = key_exchange_offer(&gateway)?;
    let mut ignore = vec![2_u8];
    ignore.extend_from_slice(&string(b"x"));
    // The server's own offer, made a client's: the same lists, the client's strict marker.
    let lists = offer.find("curve25519").or_else(|| offer.find("mlkem")).context("the lists")?;
    ensure!(lists > 0);
    let mut kexinit = vec![20_u8];
    kexinit.extend_from_slice(&[7; 16]);
    for list in [
        "curve25519-sha256,kex-strict-c-v00@openssh.com",
        "ssh-ed25519",
        "aes256-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-256-etm@openssh.com",
        "none",
        "none",
        "",
        "",
    ] {
        kexinit.extend_from_slice(&string(list.as_bytes()));
    }
    kexinit.extend_from_slice(&[0; 5]);
    // Terrapin's way: a message that counts, before the key exchange is done.
    stream.write_all(&plain_packet(&kexinit))?;
    drop(stream.write_all(&plain_packet(&ignore)));
    let started = Instant::now();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    ensure!(started.elapsed() < Duration::from_secs(20), "only the login grace time ended it");
    Ok(())
}

/// An SSH packet before encryption (RFC 4253 section 6).
fn plain_packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let len = u32::try_from(payload.len() + padding + 1).unwrap_or(0);
    let mut packet = len.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(0));
    packet.extend_from_slice(payload);
    packet.extend_from_slice(&vec![0; padding]);
    packet
}

#[test]
fn a_login_that_trickles_is_over_after_the_grace_time() -> Result<()> {
    let gateway =
        Gateway::start_configured(|config| config.replacen("[sftp]", "[sftp]\nlogin_grace_secs = 3", 1))?;
    let mut stream = TcpStream::connect(&gateway.sftp)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let started = Instant::now();
    let mut bytes = b"SSH-2.0-trickle\r\n".iter().chain(std::iter::repeat(&0_u8));
    loop {
        let mut byte = [*bytes.next().context("endless")?];
        let sent = stream.write_all(&byte);
        let read = stream.read(&mut byte);
        let over = sent.is_err()
            || matches!(&read, Ok(0))
            || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        if over {
            break;
        }
        ensure!(started.elapsed() < Duration::from_secs(20), "it lives on");
    }
    // Whoever has logged in is not in a hurry.
    let mut raw = RawSftp::start(&gateway)?;
    let patient = Instant::now() + Duration::from_secs(5);
    while let Some(left) = patient.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    ensure!(
        raw.ask(kind::STAT, &[&string(b"/")])?.kind == kind::ATTRS,
        "a session ended with the grace time"
    );
    Ok(())
}

#[test]
fn silent_connections_have_a_cap_and_a_user_gets_in_when_they_are_gone() -> Result<()> {
    let gateway = Gateway::start()?;
    let silent: Vec<TcpStream> =
        (0..450).map(|_| TcpStream::connect(&gateway.sftp)).collect::<std::io::Result<_>>()?;
    let mut turned_away = 0;
    for stream in &silent {
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut all = [0; 256];
        let mut reader = stream;
        loop {
            match reader.read(&mut all) {
                Ok(0) => {
                    turned_away += 1;
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    turned_away += u32::from(error.kind() == std::io::ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
    }
    ensure!(turned_away >= 150, "{turned_away} of {} silent connections were turned away", silent.len());
    for stream in silent {
        drop(stream.shutdown(Shutdown::Both));
    }
    until("a user gets in", 30, || Ok(run(&mut gateway.sftp_command(), b"pwd\n")?.status.success()))
}

#[test]
fn an_unknown_user_is_offered_what_a_known_one_is() -> Result<()> {
    let gateway = Gateway::start()?;
    let offered = |user: &str| -> Result<String> {
        let mut ssh = Command::new("ssh");
        ssh.args(gateway.ssh_options()).args(["-v", "-o", "PreferredAuthentications=none"]);
        let finished = run(ssh.arg(format!("{user}@127.0.0.1")), b"")?;
        ensure!(!finished.status.success(), "no factor at all let {user} in");
        let line = finished.stderr.lines().find(|line| line.contains("Authentications that can continue"));
        Ok(line.with_context(|| finished.stderr.clone())?.to_owned())
    };
    let known = offered(&gateway.user)?;
    ensure!(known == offered("nobody-at-all")?, "{known}");
    ensure!(!known.contains("none") && !known.contains("hostbased"), "{known}");
    Ok(())
}

#[test]
fn signatures_with_sha1_are_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let key = coffre_tests::accounts::keygen(work.path(), "rsa", &["rsa", "-b", "3072"])?;
    gateway.register_key(&gateway.user, &key.with_extension("pub"), &[])?;
    let login = |algorithm: &str| -> Result<bool> {
        let mut sftp = Command::new("sftp");
        sftp.args(gateway.ssh_options_with(&key.display().to_string()));
        sftp.args(["-o", &format!("PubkeyAcceptedAlgorithms={algorithm}"), "-b", "-"]);
        Ok(run(sftp.arg(format!("{}@127.0.0.1", gateway.user)), b"pwd\n")?.status.success())
    };
    ensure!(login("rsa-sha2-256")? && login("rsa-sha2-512")?, "with SHA-2");
    ensure!(!login("ssh-rsa")?, "with SHA-1");
    Ok(())
}

#[test]
fn a_revoked_token_ends_its_live_sftp_session_within_seconds() -> Result<()> {
    let gateway = Gateway::start()?;
    let token = gateway.add_token(&gateway.user, &[])?;
    let mut ssh = gateway.with_password("ssh", &token.secret);
    ssh.args(["-o", "LogLevel=ERROR", "-s"]).arg(format!("{}@127.0.0.1", gateway.user)).arg("sftp");
    let mut raw = RawSftp::through(&mut ssh)?.greet()?;
    ensure!(raw.ask(kind::STAT, &[&string(b"/")])?.kind == kind::ATTRS);
    gateway.admin(&["credential", "revoke", &token.id])?;
    // One second is the promise; the rest is for a busy machine.
    let started = Instant::now();
    raw.read_to_end()?;
    ensure!(started.elapsed() < Duration::from_secs(5), "it lived for {:?}", started.elapsed());
    println!("ended after {:?}", started.elapsed());
    Ok(())
}

#[test]
fn a_user_name_cannot_forge_lines_in_the_log_or_on_the_terminal() -> Result<()> {
    let gateway = Gateway::start()?;
    let script = "import paramiko,sys\n\
        t=paramiko.Transport(('127.0.0.1',int(sys.argv[1])))\n\
        t.start_client()\n\
        try:\n t.auth_password('eve\\nFORGED login accepted\\x1b[31m\\r\\x07','x')\n\
        except paramiko.SSHException: pass\n\
        t.close()\n";
    run_ok(Command::new("/usr/bin/python3").args(["-c", script, gateway.sftp_port()]))?;
    let tail = gateway.coffre(&["audit", "tail"])?;
    for text in [gateway.log_text(), tail.text(), tail.stderr] {
        ensure!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{text}");
        ensure!(!text.contains("\u{1b}[31m\r") && !text.contains('\u{7}'), "{text:?}");
    }
    Ok(())
}

#[test]
fn names_with_control_characters_are_shown_escaped() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    let name = b"/evil\n9999 forged \x1b[31mred\x07";
    ensure!(raw.ask(kind::MKDIR, &[&string(name), &0_u32.to_be_bytes()])?.status() == Some(0));
    let tail = gateway.admin(&["audit", "tail"])?.text();
    ensure!(!tail.contains('\u{1b}') && !tail.contains('\u{7}'), "{tail:?}");
    ensure!(!tail.lines().any(|line| line.starts_with("9999 forged")), "{tail}");
    Ok(())
}
