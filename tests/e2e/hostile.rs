//! What attackers do over SSH and SFTP, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, packet, request, string};
use coffre_tests::{Gateway, run, run_ok, until};

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;

/// Memory that a flood may not reach: the bound of the acceptance list.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;
/// Seconds after which a silent login must be over: the grace time of 30 s, and room for a busy machine.
const GRACE_SECS_MAX: u64 = 60;

fn with_victim() -> Result<Gateway> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"the victim's content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} victim\n", file.display()))?;
    Ok(gateway)
}

fn content(gateway: &Gateway, path: &str) -> Result<Vec<u8>> {
    let work = tempfile::tempdir()?;
    let got = work.path().join("got");
    gateway.sftp_batch(&format!("get {path} {}\n", got.display()))?;
    Ok(std::fs::read(&got)?)
}

fn assert_victim(gateway: &Gateway) -> Result<()> {
    let found = content(gateway, "victim")?;
    ensure!(found == b"the victim's content", "the victim holds {found:?}");
    Ok(())
}

#[test]
fn an_oversized_packet_ends_the_channel_and_the_request_hidden_in_it_is_not_run() -> Result<()> {
    let gateway = with_victim()?;
    let hidden = request(kind::REMOVE, 77, &[&string(b"/victim")]);
    for len in [0_u32, 256 * 1024 + 4096, 1 << 24, 0x7fff_ffff, 0xffff_ffff] {
        for greet in [true, false] {
            let mut raw = if greet { RawSftp::start(&gateway)? } else { RawSftp::connect(&gateway)? };
            // The server may close before it has read everything.
            drop(raw.send(&[&len.to_be_bytes()[..], &hidden.repeat(1000)].concat()));
            let answers = raw.read_to_end().with_context(|| format!("a packet of {len} bytes"))?;
            ensure!(!answers.iter().any(|answer| answer.id() == 77), "length {len}: {answers:?}");
            assert_victim(&gateway)?;
        }
    }
    Ok(())
}

#[test]
fn a_request_before_init_and_a_second_init_end_the_channel() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::connect(&gateway)?;
    raw.send(&request(kind::REMOVE, 1, &[&string(b"/victim")]))?;
    drop(raw.send(&packet(kind::INIT, &3_u32.to_be_bytes())));
    let answers = raw.read_to_end()?;
    ensure!(answers.iter().all(|answer| answer.status() != Some(0)), "{answers:?}");
    assert_victim(&gateway)?;
    let mut raw = RawSftp::start(&gateway)?;
    raw.send(&packet(kind::INIT, &3_u32.to_be_bytes()))?;
    drop(raw.send(&request(kind::REMOVE, 2, &[&string(b"/victim")])));
    let answers = raw.read_to_end()?;
    ensure!(!answers.iter().any(|answer| answer.kind == kind::VERSION), "a second version: {answers:?}");
    assert_victim(&gateway)
}

#[test]
fn a_request_cut_short_or_with_lying_lengths_is_refused_and_nothing_runs() -> Result<()> {
    let gateway = with_victim()?;
    let lying = [&9_u32.to_be_bytes()[..], &0xffff_fff0_u32.to_be_bytes(), b"/victim"].concat();
    for body in [&b""[..], &[0, 0], &9_u32.to_be_bytes(), &lying] {
        for kind in [kind::REMOVE, kind::OPEN, kind::RENAME, kind::READ, kind::WRITE, kind::EXTENDED] {
            let mut raw = RawSftp::start(&gateway)?;
            raw.send(&packet(kind, body))?;
            // A well-formed request after it shows whether the server still speaks; either way is right.
            let id = 500_u32;
            drop(raw.send(&request(kind::STAT, id, &[&string(b"/victim")])));
            if let Some(answer) = raw.answer()? {
                ensure!(answer.id() == id || answer.status() != Some(0), "{kind}: {answer:?}");
            }
        }
    }
    assert_victim(&gateway)
}

#[test]
fn an_unknown_request_is_answered_under_its_own_id() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    for kind in [2_u8, 99, 150, 201, 255] {
        // `ask` compares the ids.
        ensure!(raw.ask(kind, &[b"whatever"])?.status() == Some(8), "kind {kind}");
    }
    ensure!(raw.ask(kind::EXTENDED, &[&string(b"no-such@extension")])?.status() == Some(8));
    Ok(())
}

#[test]
fn handles_are_good_only_where_they_were_opened() -> Result<()> {
    let gateway = with_victim()?;
    let mut first = RawSftp::start(&gateway)?;
    let mut second = RawSftp::start(&gateway)?;
    let handle = first.open(b"/victim", READ)?;
    let read = |raw: &mut RawSftp, handle: &[u8]| -> Result<Answer> {
        raw.ask(kind::READ, &[&string(handle), &0_u64.to_be_bytes(), &100_u32.to_be_bytes()])
    };
    ensure!(read(&mut first, &handle)?.string() == b"the victim's content");
    let stolen = read(&mut second, &handle)?;
    ensure!(stolen.status().is_some_and(|code| code != 0), "another channel's handle: {stolen:?}");
    for forged in [&b""[..], b"\0\0\0\0", &[255; 256], &[255; 300], b"/victim"] {
        let answer = read(&mut first, forged)?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{forged:?}: {answer:?}");
    }
    ensure!(first.ask(kind::CLOSE, &[&string(&handle)])?.status() == Some(0));
    let late = read(&mut first, &handle)?;
    ensure!(late.status().is_some_and(|code| code != 0), "a closed handle: {late:?}");
    Ok(())
}

#[test]
fn handles_have_a_limit_and_the_session_goes_on() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let mut handles = Vec::new();
    let refused = loop {
        let answer =
            raw.ask(kind::OPEN, &[&string(b"/victim"), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        if answer.kind != kind::HANDLE {
            break answer;
        }
        handles.push(answer.string());
        ensure!(handles.len() <= 2000, "handles without end");
    };
    ensure!(
        refused.status().is_some() && handles.len() >= 100,
        "{} handles, then {refused:?}",
        handles.len()
    );
    let first = handles.first().context("a handle")?;
    ensure!(raw.ask(kind::CLOSE, &[&string(first)])?.status() == Some(0));
    raw.open(b"/victim", READ)?;
    Ok(())
}

#[test]
fn no_spelling_of_a_path_leaves_the_namespace() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let host = gateway.data.display().to_string();
    for path in [
        "../../../../etc/passwd",
        "/../../etc/passwd",
        "/etc/passwd",
        "//etc//passwd",
        "/./../etc/passwd",
        "/victim/../../etc/passwd",
        "/etc/passwd\0.txt",
        "victim\0",
        host.as_str(),
    ] {
        let answer =
            raw.ask(kind::OPEN, &[&string(path.as_bytes()), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{path:?}: {answer:?}");
        let answer =
            raw.ask(kind::MKDIR, &[&string(format!("{path}/x").as_bytes()), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{path:?}: {answer:?}");
    }
    // A link is data: it leads inside the namespace or nowhere.
    for (name, target) in
        [("l1", "/etc/passwd"), ("l2", "../../../../etc/passwd"), ("l3", "/proc/self/environ")]
    {
        // OpenSSH's order: target first.
        let made = raw.ask(kind::SYMLINK, &[&string(target.as_bytes()), &string(name.as_bytes())])?;
        ensure!(made.status() == Some(0), "{name}: {made:?}");
        let answer =
            raw.ask(kind::OPEN, &[&string(name.as_bytes()), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{name}: {answer:?}");
    }
    for (name, target) in [("circle-a", "circle-b"), ("circle-b", "circle-a"), ("self", "self/x")] {
        raw.ask(kind::SYMLINK, &[&string(target.as_bytes()), &string(name.as_bytes())])?;
    }
    for name in ["circle-a", "self"] {
        ensure!(
            raw.ask(kind::STAT, &[&string(name.as_bytes())])?.status().is_some_and(|code| code != 0),
            "{name}"
        );
    }
    assert_victim(&gateway)
}

#[test]
fn every_operation_of_a_read_only_credential_that_would_change_something_is_refused() -> Result<()> {
    let gateway = with_victim()?;
    let work = tempfile::tempdir()?;
    let key = gateway.add_key(&gateway.user, work.path(), "reader", &["--rights", "read-only"])?;
    let mut raw = RawSftp::start_with(&gateway.ssh_options_with(&key.secret), &gateway.user)?;
    let victim = string(b"/victim");
    let other = string(b"/other");
    let permissions = [&4_u32.to_be_bytes()[..], &0o600_u32.to_be_bytes()].concat();
    let size = [&1_u32.to_be_bytes()[..], &0_u64.to_be_bytes()].concat();
    let none = 0_u32.to_be_bytes();
    let handle = string(&raw.open(b"/victim", READ)?);
    let copied = [&handle[..], &[0; 16], &handle, &[0; 8]].concat();
    let attempts: [(&str, u8, Vec<&[u8]>); 15] = [
        ("open to write", kind::OPEN, vec![&victim, &[0, 0, 0, 2], &none]),
        ("open to append", kind::OPEN, vec![&victim, &[0, 0, 0, 6], &none]),
        ("open to create", kind::OPEN, vec![&other, &[0, 0, 0, 0x0a], &none]),
        ("open to truncate", kind::OPEN, vec![&victim, &[0, 0, 0, 0x12], &none]),
        ("write", kind::WRITE, vec![&handle, &[0; 8], &[0, 0, 0, 1], b"x"]),
        ("setstat", kind::SETSTAT, vec![&victim, &permissions]),
        ("truncate", kind::SETSTAT, vec![&victim, &size]),
        ("fsetstat", kind::FSETSTAT, vec![&handle, &size]),
        ("remove", kind::REMOVE, vec![&victim]),
        ("mkdir", kind::MKDIR, vec![&other, &none]),
        ("rename", kind::RENAME, vec![&victim, &other]),
        ("symlink", kind::SYMLINK, vec![&victim, &other]),
        ("posix-rename", kind::EXTENDED, vec![b"\0\0\0\x18posix-rename@openssh.com", &victim, &other]),
        ("hardlink", kind::EXTENDED, vec![b"\0\0\0\x14hardlink@openssh.com", &victim, &other]),
        ("copy-data", kind::EXTENDED, vec![b"\0\0\0\x09copy-data", &copied]),
    ];
    for (what, kind, rest) in attempts {
        let answer = raw.ask(kind, &rest)?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{what}: {answer:?}");
    }
    ensure!(!run(&mut gateway.sftp_command(), b"ls other\n")?.status.success(), "something was made");
    assert_victim(&gateway)
}

#[test]
fn reads_whose_answers_are_never_fetched_hold_little_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("big");
    write_file(&file, &noise(1, 32 << 20), 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} big\n", file.display()))?;
    let mut floods = Vec::new();
    for _ in 0..8 {
        let mut raw = RawSftp::start(&gateway)?;
        let handle = string(&raw.open(b"/big", READ)?);
        let mut sender = raw.take_sender().context("a sender")?;
        let asks: Vec<u8> = (0..20_000_u32)
            .flat_map(|id| {
                let offset = u64::from(id % 128) << 18;
                request(kind::READ, id, &[&handle, &offset.to_be_bytes(), &(255_u32 << 10).to_be_bytes()])
            })
            .collect();
        // Blocks once the server stops reading; ends when the connection is dropped.
        std::thread::spawn(move || drop(sender.write_all(&asks)));
        floods.push(raw);
    }
    watch_memory(&gateway)?;
    drop(floods);
    gateway.sftp_batch("ls -l big\n")?;
    Ok(())
}

#[test]
fn writes_whose_answers_are_never_fetched_hold_little_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut floods = Vec::new();
    for number in 0..8_u32 {
        let mut raw = RawSftp::start(&gateway)?;
        let handle = string(&raw.open(format!("/flood-{number}").as_bytes(), WRITE | CREATE)?);
        let mut sender = raw.take_sender().context("a sender")?;
        let piece = noise(u64::from(number) + 1, 128 << 10);
        std::thread::spawn(move || {
            // Blocks once the server stops reading; ends when the connection is dropped.
            (0..4000_u32).try_for_each(|id| {
                let offset = (u64::from(id) << 17) % (1 << 28);
                sender.write_all(&request(
                    kind::WRITE,
                    id,
                    &[&handle, &offset.to_be_bytes(), &string(&piece)],
                ))
            })
        });
        floods.push(raw);
    }
    watch_memory(&gateway)?;
    drop(floods);
    gateway.sftp_batch("ls\n")?;
    Ok(())
}

/// Looks at the server's memory while a flood runs against it.
fn watch_memory(gateway: &Gateway) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(6);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gateway.resident_bytes()?);
        ensure!(most < RESIDENT_BYTES_MAX, "the server holds {} MiB", most >> 20);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("the server held {} MiB", most >> 20);
    Ok(())
}

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
    let public = key.with_extension("pub").display().to_string();
    gateway.coffre_json(&["credential", "add-key", &gateway.user, &public])?;
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

#[test]
fn a_closed_half_of_a_connection_ends_it_in_order() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = string(&raw.open(b"/half", WRITE | CREATE)?);
    let write = raw.ask(kind::WRITE, &[&handle, &0_u64.to_be_bytes(), &string(b"what arrived stays")])?;
    ensure!(write.status() == Some(0));
    drop(raw.take_sender());
    raw.read_to_end()?;
    ensure!(content(&gateway, "half")? == b"what arrived stays");
    Ok(())
}
