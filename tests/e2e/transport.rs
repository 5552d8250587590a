//! The line below SFTP: algorithms, keys, its pace, its end, and balancers in front.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{RawSftp, kind, string};
use coffre_tests::{Gateway, run, run_ok, until};
use serde_json::Value;

const CREATE_AND_WRITE: u32 = 2 | 8;

fn configured(sessions: &str) -> Result<Gateway> {
    Gateway::start_configured(|text| format!("{text}\n[sessions]\n{sessions}\n"))
}

fn records(gateway: &Gateway, action: &str) -> Result<Vec<Value>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record["action"] == action).collect())
}

/// What ssh-audit has against an algorithm: its name, and the words.
fn complaints(told: &str) -> Vec<(String, String)> {
    let (mut found, mut name) = (Vec::new(), String::new());
    for line in told.lines() {
        let is_first = ["(kex) ", "(key) ", "(enc) ", "(mac) "].iter().any(|kind| line.starts_with(kind));
        if is_first {
            line.split_whitespace().nth(1).unwrap_or_default().clone_into(&mut name);
        }
        for level in ["[fail] ", "[warn] "] {
            if let Some((_, words)) = line.split_once(level) {
                found.push((name.clone(), words.trim().to_owned()));
            }
        }
    }
    found
}

#[test]
fn ssh_audit_finds_nothing_that_the_threat_model_does_not_justify() -> Result<()> {
    let gateway = Gateway::start()?;
    let told =
        run(Command::new("ssh-audit").args(["-n", "-p", gateway.sftp_port(), "127.0.0.1"]), b"")?.text();
    ensure!(told.contains("(kex) curve25519-sha256") && told.contains("(mac) hmac-sha2-256-etm"), "{told}");
    let model = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../THREAT_MODEL.md"))?;
    let justified: BTreeSet<(String, String)> = model
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [name, words, _why] = cells.as_slice() else { return None };
            Some((name.trim_end_matches('`').to_owned(), (*words).to_owned()))
        })
        .collect();
    for complaint in complaints(&told) {
        ensure!(justified.contains(&complaint), "{complaint:?} is in no row of THREAT_MODEL.md:\n{told}");
    }
    ensure!(!told.contains("CVE"), "{told}");
    Ok(())
}

#[test]
fn both_host_keys_are_shown_and_known() -> Result<()> {
    let gateway = Gateway::start()?;
    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
        let mut sftp = Command::new("sftp");
        sftp.args(gateway.ssh_options()).args(["-o", &format!("HostKeyAlgorithms={algorithm}"), "-b", "-"]);
        let finished = run(sftp.arg(format!("{}@127.0.0.1", gateway.user)), b"pwd\n")?;
        ensure!(finished.status.success(), "{algorithm}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn new_keys_in_the_middle_of_a_transfer_change_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, back) = (work.path().join("file"), work.path().join("back"));
    write_file(&file, &noise(1, 24 << 20), 1_500_000_000)?;
    for options in
        [&["-o", "RekeyLimit=512K"][..], &["-o", "RekeyLimit=1M 1", "-c", "chacha20-poly1305@openssh.com"]]
    {
        let mut sftp = Command::new("sftp");
        sftp.args(gateway.ssh_options()).args(options).args(["-v", "-b", "-"]);
        let batch = format!("put {} f\nget f {}\n", file.display(), back.display());
        let finished = run(sftp.arg(format!("{}@127.0.0.1", gateway.user)), batch.as_bytes())?;
        ensure!(finished.status.success(), "{}", finished.stderr);
        let rekeyed = finished.stderr.matches("SSH2_MSG_NEWKEYS received").count();
        ensure!(rekeyed > 10, "keys were exchanged {rekeyed} times only");
        ensure!(fs::read(&file)? == fs::read(&back)?, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_slow_transfer_is_not_idle_and_a_silent_session_is() -> Result<()> {
    let gateway = configured("idle = \"3s\"")?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/slow", CREATE_AND_WRITE)?;
    // Some bytes of one request at a time: no request is whole for longer than may be idle.
    let body = [&string(&handle)[..], &0_u64.to_be_bytes(), &string(&[7; 60])].concat();
    let whole = coffre_tests::raw_sftp::request(kind::WRITE, 900, &[&body]);
    for piece in whole.chunks(whole.len().div_ceil(7)) {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        while now.elapsed() < second {
            std::thread::park_timeout(second.saturating_sub(now.elapsed()));
        }
        raw.send(piece)?;
    }
    ensure!(raw.answer()?.context("an answer")?.status() == Some(0), "written after seven slow seconds");
    let silent = Instant::now();
    ensure!(raw.read_to_end()?.is_empty(), "the server says nothing more");
    ensure!(silent.elapsed() >= Duration::from_secs(3), "ended after {:?}", silent.elapsed());
    until("its record", 20, || Ok(!records(&gateway, "session-close")?.is_empty()))
}

#[test]
fn a_client_that_gives_no_sign_of_life_is_gone_and_one_that_does_stays() -> Result<()> {
    let gateway = configured("keepalive = \"1s\"")?;
    let mut silent = RawSftp::start(&gateway)?;
    let dead = RawSftp::start(&gateway)?;
    dead.suspend()?;
    until("the dead one's end", 30, || Ok(!records(&gateway, "session-close")?.is_empty()))?;
    ensure!(silent.ask(kind::STAT, &[&string(b"/")])?.kind == kind::ATTRS, "the silent one is still there");
    assert_eq!(records(&gateway, "session-close")?.len(), 1);
    Ok(())
}

#[test]
fn transfers_under_way_end_in_peace_when_the_server_stops_and_nobody_else_gets_in() -> Result<()> {
    let mut gateway = configured("drain = \"60s\"")?;
    let mut idle = RawSftp::start(&gateway)?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/kept", CREATE_AND_WRITE)?;
    let write = |raw: &mut RawSftp, offset: u64| -> Result<()> {
        let answer = raw.ask(kind::WRITE, &[&string(&handle), &offset.to_be_bytes(), &string(b"abcdef")])?;
        ensure!(answer.status() == Some(0), "{answer:?}");
        Ok(())
    };
    write(&mut raw, 0)?;
    run_ok(Command::new("kill").args(["-TERM", &gateway.pid().to_string()]))?;
    ensure!(idle.read_to_end()?.is_empty(), "who does nothing is sent away");
    until("nobody gets in", 10, || Ok(TcpStream::connect(&gateway.sftp).is_err()))?;
    write(&mut raw, 6)?;
    ensure!(raw.ask(kind::CLOSE, &[&string(&handle)])?.status() == Some(0), "closed");
    raw.read_to_end()?;
    let stopped = Instant::now();
    gateway.wait_stopped()?;
    ensure!(stopped.elapsed() < Duration::from_secs(30), "it does not wait for the rest of its grace time");
    let (data, log) = (gateway.data.clone(), gateway.log.clone());
    let mut again = Gateway::start_on(&data, &log)?;
    again.keep_directory_of(gateway);
    let back = tempfile::tempdir()?;
    again.sftp_batch(&format!("get kept {}\n", back.path().join("kept").display()))?;
    assert_eq!(fs::read(back.path().join("kept"))?, b"abcdefabcdef");
    let closed = records(&again, "session-close")?.len();
    ensure!(closed >= 2, "{closed} sessions were closed in the log");
    Ok(())
}

#[test]
fn a_second_signal_ends_transfers_at_once_and_they_are_written_down() -> Result<()> {
    let mut gateway = configured("drain = \"600s\"")?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/broken", CREATE_AND_WRITE)?;
    let written = raw.ask(kind::WRITE, &[&string(&handle), &0_u64.to_be_bytes(), &string(b"abc")])?;
    ensure!(written.status() == Some(0));
    run_ok(Command::new("kill").args(["-TERM", &gateway.pid().to_string()]))?;
    until("it drains", 10, || Ok(TcpStream::connect(&gateway.sftp).is_err()))?;
    ensure!(raw.ask(kind::STAT, &[&string(b"/broken")])?.kind == kind::ATTRS, "the transfer goes on");
    gateway.stop()?;
    raw.read_to_end()?;
    let (data, log) = (gateway.data.clone(), gateway.log.clone());
    let mut again = Gateway::start_on(&data, &log)?;
    again.keep_directory_of(gateway);
    ensure!(again.coffre(&["--json", "incidents"])?.text().contains("broken-upload"), "an incident");
    ensure!(records(&again, "session-close")?.len() == 1, "the session's end");
    Ok(())
}

#[test]
fn sessions_of_a_user_have_a_limit_over_both_protocols() -> Result<()> {
    let gateway = configured("user_max = 2")?;
    let first = RawSftp::start(&gateway)?;
    let second = RawSftp::start(&gateway)?;
    let third = run(&mut gateway.sftp_command(), b"pwd\n")?;
    ensure!(!third.status.success(), "a third came in");
    assert_eq!(gateway.curl_status(&[&gateway.url("/")])?, 503);
    let refused = records(&gateway, "login")?.into_iter().filter(|record| record["outcome"] == "refused");
    let reasons: Vec<Value> = refused.map(|record| record["reason"].clone()).collect();
    ensure!(
        reasons.iter().all(|reason| reason == "too many sessions at once") && reasons.len() == 2,
        "{reasons:?}"
    );
    drop(first);
    until("room again", 20, || Ok(run(&mut gateway.sftp_command(), b"pwd\n")?.status.success()))?;
    drop(second);
    Ok(())
}

#[test]
fn a_users_rate_is_shared_by_its_sessions_and_holds_each_way_over_both_protocols() -> Result<()> {
    let gateway = configured("user_rate = \"1M\"")?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 2 << 20), 1_500_000_000)?;
    let timed = |work: &dyn Fn() -> Result<()>| -> Result<Duration> {
        let begun = Instant::now();
        work()?;
        Ok(begun.elapsed())
    };
    // Two mebibytes at one a second, less what may be quicker at the start.
    let least = Duration::from_millis(1500);
    let put = timed(&|| gateway.sftp_batch(&format!("put {} f\n", file.display())).map(drop))?;
    let get =
        timed(&|| gateway.sftp_batch(&format!("get f {}\n", work.path().join("b").display())).map(drop))?;
    let dav = timed(&|| run_ok(gateway.curl().args(["-o", "/dev/null"]).arg(gateway.url("/f"))).map(drop))?;
    let up = timed(&|| run_ok(gateway.curl().arg("-T").arg(&file).arg(gateway.url("/g"))).map(drop))?;
    ensure!([put, get, dav, up].iter().all(|took| *took >= least), "{put:?} {get:?} {dav:?} {up:?}");
    ensure!(fs::read(work.path().join("b"))? == fs::read(&file)?, "what came slowly is whole");
    let together = timed(&|| {
        std::thread::scope(|scope| {
            let get = |name: &'static str| {
                let to = work.path().join(name);
                let gateway = &gateway;
                scope.spawn(move || gateway.sftp_batch(&format!("get f {}\n", to.display())).map(drop))
            };
            [get("one"), get("two")]
                .into_iter()
                .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a thread"))?)
        })
    })?;
    ensure!(together >= Duration::from_millis(3500), "two at once took {together:?}");
    Ok(())
}

#[test]
fn a_customers_own_limits_stand_in_the_place_of_everybodys() -> Result<()> {
    let gateway = configured("customer_max = 1")?;
    let first = RawSftp::start(&gateway)?;
    ensure!(!run(&mut gateway.sftp_command(), b"pwd\n")?.status.success(), "a second came in");
    let set = gateway.coffre_json(&["customer", "set", "demo", "--sessions-max", "2", "--rate-max", "1M"])?;
    ensure!(set["sessions_max"] == 2 && set["rate_max"] == 1 << 20, "{set}");
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, &noise(1, 2 << 20), 1_500_000_000)?;
    let begun = Instant::now();
    gateway.sftp_batch(&format!("put {} f\n", file.display()))?;
    ensure!(begun.elapsed() >= Duration::from_millis(1500), "too quick: {:?}", begun.elapsed());
    let set =
        gateway.coffre_json(&["customer", "set", "demo", "--sessions-max", "none", "--rate-max", "none"])?;
    ensure!(set["sessions_max"].is_null() && set["rate_max"].is_null(), "{set}");
    until("the second's end", 20, || Ok(records(&gateway, "session-close")?.len() == 1))?;
    ensure!(!run(&mut gateway.sftp_command(), b"pwd\n")?.status.success(), "the server's limit is back");
    drop(first);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|half| char::from_digit(half.into(), 16))
        .collect()
}

/// Lists the root through a balancer that says this.
fn through(gateway: &Gateway, header: &[u8]) -> Result<bool> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/proxy_header.py");
    let proxy = format!("ProxyCommand=/usr/bin/python3 {script} {} {}", gateway.sftp_port(), hex(header));
    let mut sftp = Command::new("sftp");
    sftp.args(gateway.ssh_options()).args(["-o", &proxy, "-b", "-"]);
    Ok(run(sftp.arg(format!("{}@127.0.0.1", gateway.user)), b"pwd\n")?.status.success())
}

fn version_2(source: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &source, &[192, 0, 2, 1, 0x13, 0x88, 0, 22]].concat()
}

#[test]
fn a_trusted_balancer_says_from_where_a_client_comes() -> Result<()> {
    let gateway = Gateway::start_configured(|text| {
        let trusted = "proxy_from = [\"127.0.0.1/32\"]\n";
        text.replace("[sftp]\n", &format!("[sftp]\n{trusted}"))
            .replace("[webdav]\n", &format!("[webdav]\n{trusted}"))
    })?;
    let last_login = |gateway: &Gateway| -> Result<(Value, Value)> {
        let login = records(gateway, "login")?.pop().context("a login")?;
        Ok((login["source"].clone(), login["outcome"].clone()))
    };
    ensure!(through(&gateway, b"PROXY TCP4 127.0.0.77 192.0.2.1 5000 22\r\n")?);
    assert_eq!(last_login(&gateway)?, ("127.0.0.77".into(), "done".into()));
    ensure!(through(&gateway, &version_2([127, 0, 0, 78]))?);
    assert_eq!(last_login(&gateway)?, ("127.0.0.78".into(), "done".into()));
    ensure!(through(&gateway, b"PROXY UNKNOWN\r\n")?, "the balancer itself");
    // The demo's key is good from loopback only: what the balancer says counts.
    ensure!(!through(&gateway, &version_2([203, 0, 113, 9]))?);
    // Required: whoever says nothing of the kind, or nonsense, does not get as far as a greeting.
    for begin in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"]
    {
        let mut stream = TcpStream::connect(&gateway.sftp)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(begin)?;
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said));
        ensure!(said.is_empty(), "{begin:?} was answered: {said:?}");
    }
    let mut silent = TcpStream::connect(&gateway.sftp)?;
    silent.set_read_timeout(Some(Duration::from_secs(30)))?;
    assert_eq!(silent.read(&mut [0; 10])?, 0, "closed without a word");
    assert_eq!(gateway.curl_status(&["--haproxy-protocol", &gateway.url("/")])?, 200);
    ensure!(!run(gateway.curl().arg(gateway.url("/")), b"")?.status.success(), "curl without a header");
    Ok(())
}

#[test]
fn a_header_of_nobody_trusted_is_no_address() -> Result<()> {
    let gateway = Gateway::start()?;
    for header in [b"PROXY TCP4 127.0.0.77 192.0.2.1 5000 22\r\n".to_vec(), version_2([127, 0, 0, 78])] {
        ensure!(!through(&gateway, &header)?, "{header:?}");
    }
    ensure!(!run(gateway.curl().args(["--haproxy-protocol", &gateway.url("/")]), b"")?.status.success());
    gateway.sftp_batch("pwd\n")?;
    let sources: BTreeSet<String> = records(&gateway, "login")?
        .iter()
        .filter_map(|record| record["source"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(sources, BTreeSet::from(["127.0.0.1".to_owned()]));
    Ok(())
}
