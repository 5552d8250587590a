//! Commands over SSH: what rclone and people use to verify uploads, and nothing more.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::process::Finished;
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, string};
use coffre_tests::{Gateway, Names, run, run_ok, sample_tree, until};

/// Runs a command line through `ssh`.
pub(crate) fn exec(gateway: &Gateway, line: &str, input: &[u8]) -> Result<Finished> {
    let mut ssh = Command::new("ssh");
    ssh.args(gateway.ssh_options()).args(["-o", "LogLevel=ERROR"]);
    run(ssh.arg(format!("{}@127.0.0.1", gateway.user)).arg(line), input)
}

fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// Records of one action, newest last.
fn records(gateway: &Gateway, action: &str) -> Result<Vec<serde_json::Value>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record["action"] == action).collect())
}

#[test]
fn digest_commands_print_what_coreutils_print() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let names =
        ["plain", "a b", "it's", "back\\slash", "new\nline", "return\r", "$HOME;id", "-dash", "empty"];
    for (seed, name) in (1_u64..).zip(names) {
        let len = if name == "empty" { 0 } else { 70_000 * seed };
        write_file(&work.path().join(name), &noise(seed, usize::try_from(len)?), 1_500_000_000)?;
    }
    run_ok(gateway.rclone_sftp().args(["copy"]).arg(work.path()).arg("coffre:"))?;
    // rclone shows some of the names in another way: these go as they are.
    for name in ["back\\slash", "new\nline", "return\r"] {
        let path = work.path().join(name);
        let put = Command::new("/usr/bin/python3")
            .args(["-c", PUT, gateway.sftp_port(), &gateway.user])
            .args([&gateway.key_file, &path])
            .arg(name)
            .status()?;
        ensure!(put.success(), "paramiko put {name:?}");
    }
    for program in ["md5sum", "sha1sum", "sha256sum"] {
        for options in ["--", "-b --"] {
            let list = names.map(quoted).join(" ");
            let there = exec(&gateway, &format!("{program} {options} {list}"), b"")?;
            let mut here = Command::new(program);
            let here = run_ok(here.current_dir(work.path()).args(options.split(' ')).args(names))?;
            ensure!(there.status.success(), "{program}: {}", there.stderr);
            assert_eq!(there.text(), here.text(), "{program} {options}");
        }
    }
    let missing = exec(&gateway, "md5sum plain missing / plain", b"")?;
    assert_eq!((missing.status.code(), missing.text().lines().count()), (Some(1), 2));
    let said: Vec<&str> = missing.stderr.lines().collect();
    assert_eq!(said, ["md5sum: missing: No such file or directory", "md5sum: /: Is a directory"]);
    let of_input = exec(&gateway, "sha256sum", b"abc")?.text();
    ensure!(of_input.starts_with("ba7816bf") && of_input.ends_with("  -\n"), "{of_input}");
    Ok(())
}

const PUT: &str = "
import sys, paramiko
port, user, key, path, name = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect('127.0.0.1', int(port), user, key_filename=key, allow_agent=False, look_for_keys=False)
client.open_sftp().put(path, '/' + name)
";

#[test]
fn rclone_finds_the_digests_by_itself_and_verifies_with_them() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::Utf8)?;
    let copied = run_ok(gateway.rclone_sftp().args(["copy", "-vv"]).arg(&here).arg("coffre:tree"))?;
    ensure!(copied.stderr.contains("md5 = "), "uploads were verified: {}", copied.stderr);
    let checked = run_ok(gateway.rclone_sftp().args(["check", "-vv"]).arg(&here).arg("coffre:tree"))?;
    let without = checked.stderr.lines().filter(|line| line.contains("could not be checked")).count();
    ensure!(checked.stderr.contains("md5 = ") && without == 0, "{}", checked.stderr);
    let sums = |remote: &dyn AsRef<Path>| -> Result<Vec<String>> {
        // Of several at once those that are quicker than its own search for `sha1sum` give up.
        let mut hashsum = gateway.rclone_sftp();
        hashsum.args(["hashsum", "sha1", "--transfers", "1"]).arg(remote.as_ref());
        let told = run_ok(&mut hashsum)?.text();
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    assert_eq!(sums(&"coffre:tree")?, sums(&here)?);
    fs::write(here.join("chunk"), b"changed")?;
    let differs = run(gateway.rclone_sftp().arg("check").arg(&here).arg("coffre:tree"), b"")?;
    ensure!(!differs.status.success(), "a difference is found");
    Ok(())
}

#[test]
fn a_digest_is_computed_once_and_is_always_that_of_the_present_content() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("f");
    let sum = |gateway: &Gateway| -> Result<String> {
        Ok(exec(gateway, "sha256sum f", b"")?.text().split(' ').next().unwrap_or_default().to_owned())
    };
    let put = |seed: u64| -> Result<String> {
        write_file(&file, &noise(seed, 3_000_000), 1_500_000_000)?;
        gateway.sftp_batch(&format!("put {} f\n", file.display()))?;
        let told = run_ok(Command::new("sha256sum").arg(&file))?.text();
        Ok(told.split(' ').next().unwrap_or_default().to_owned())
    };
    let first = put(1)?;
    assert_eq!((sum(&gateway)?, sum(&gateway)?), (first.clone(), first));
    ensure!(exec(&gateway, "md5sum f", b"")?.status.success());
    let read: Vec<u64> =
        records(&gateway, "file-read")?.iter().filter_map(|record| record["bytes"].as_u64()).collect();
    assert_eq!(read, [3_000_000, 0, 0], "the file was read for the first answer only");
    let second = put(2)?;
    assert_eq!(sum(&gateway)?, second);
    Ok(())
}

#[test]
fn digests_of_huge_files_let_others_through_and_end_with_their_clients() -> Result<()> {
    const SIZE: u64 = 1 << 40;
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = raw.open(b"/huge", 2 | 8)?;
    let size = [&1_u32.to_be_bytes()[..], &SIZE.to_be_bytes()].concat();
    ensure!(raw.ask(kind::FSETSTAT, &[&string(&handle), &size])?.status() == Some(0));
    ensure!(raw.ask(kind::CLOSE, &[&string(&handle)])?.status() == Some(0));
    let small = raw.open(b"/small", 2 | 8)?;
    ensure!(raw.ask(kind::CLOSE, &[&string(&small)])?.status() == Some(0));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut ssh = Command::new("ssh");
        ssh.args(gateway.ssh_options()).arg(format!("{}@127.0.0.1", gateway.user)).arg("sha1sum huge");
        clients.push(ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    until("four at work", 30, || Ok(records(&gateway, "command")?.len() == 4))?;
    ensure!(exec(&gateway, "md5sum small", b"")?.text().starts_with("d41d8cd9"), "a small one in between");
    for client in &mut clients {
        client.kill()?;
        client.wait()?;
    }
    let ended = || -> Result<Vec<u64>> {
        let read = records(&gateway, "file-read")?;
        let bytes = read.iter().filter_map(|record| record["bytes"].as_u64());
        Ok(bytes.filter(|bytes| *bytes > 0).collect())
    };
    until("the end of all four", 30, || Ok(ended()?.len() == 4))?;
    ensure!(ended()?.iter().all(|bytes| *bytes < SIZE), "none read it all");
    Ok(())
}

#[test]
fn hundreds_of_commands_fit_in_one_connection() -> Result<()> {
    let gateway = Gateway::start()?;
    run_ok(
        Command::new("/usr/bin/python3")
            .args(["-c", MANY, gateway.sftp_port(), &gateway.user])
            .arg(&gateway.key_file),
    )?;
    Ok(())
}

/// Closes its channels at once, then waits for the server to do it.
const MANY: &str = "
import sys, paramiko
port, user, key = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect('127.0.0.1', int(port), user, key_filename=key, allow_agent=False, look_for_keys=False)
for turn in range(300):
    channel = client.get_transport().open_session()
    channel.exec_command('pwd')
    assert channel.recv_exit_status() == 0
    if turn >= 40:
        channel.close()
    else:
        assert channel.recv(10) == b'/\\n' and channel.recv(10) == b''
        while not channel.closed:
            channel.status_event.wait(0.01)
";

#[test]
fn what_is_no_command_here_is_refused_with_a_reason_and_written_down() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir d\n")?;
    let refused = [
        ("id", 127),
        ("/bin/sh -c id", 127),
        ("rm -rf d", 127),
        ("ls", 127),
        ("md5sum d; id", 1),
        ("md5sum `id`", 1),
        ("md5sum \"$(id)\"", 1),
        ("md5sum d > e", 1),
        ("md5sum *", 1),
        ("md5sum 'd", 1),
        ("sha256sum -c d", 1),
        ("df -h", 1),
        ("scp d e", 1),
        ("scp -S sh -t d", 1),
        ("scp -t -r", 1),
    ];
    for (line, status) in refused {
        let finished = exec(&gateway, line, b"")?;
        assert_eq!(finished.status.code(), Some(status), "{line}");
        ensure!(finished.text().is_empty() && !finished.stderr.is_empty(), "{line}: {}", finished.stderr);
    }
    let long = format!("md5sum {}", "a".repeat(40_000));
    assert_eq!(exec(&gateway, &long, b"")?.status.code(), Some(1), "too long");
    let written = records(&gateway, "command")?;
    assert_eq!(written.len(), refused.len() + 1);
    ensure!(written.iter().all(|record| record["outcome"] == "refused"), "{written:#?}");
    exec(&gateway, "md5sum d", b"")?;
    let done = records(&gateway, "command")?.pop();
    ensure!(done.as_ref().is_some_and(|record| record["outcome"] == "done"), "{done:?}");
    ensure!(!gateway.log_text().contains("md5sum"), "what was asked for is in no ordinary log");
    Ok(())
}

#[test]
fn a_command_ends_with_its_status_then_eof_then_close() -> Result<()> {
    let gateway = Gateway::start()?;
    for line in ["pwd", "md5sum missing", "nothing", "scp -f missing"] {
        let mut ssh = Command::new("ssh");
        ssh.args(gateway.ssh_options()).args(["-o", "LogLevel=DEBUG2"]);
        let told = run(ssh.arg(format!("{}@127.0.0.1", gateway.user)).arg(line), b"\0")?.stderr;
        let at = |what: &str| told.find(what);
        let order = [at("rtype exit-status"), at("rcvd eof"), at("rcvd close")];
        ensure!(order.iter().all(Option::is_some) && order.is_sorted(), "{line}: {order:?}\n{told}");
    }
    assert_eq!(exec(&gateway, "pwd", b"")?.text(), "/\n");
    let space = exec(&gateway, "df -k /", b"")?.text();
    let fields: Vec<&str> = space.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(fields.len() == 6 && fields[1].parse::<u64>()? > 0, "{space}");
    Ok(())
}

#[test]
fn paramiko_checks_files_and_blocks_without_reading_them() -> Result<()> {
    let gateway = Gateway::start()?;
    run_ok(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/paramiko_check.py"))
            .args([gateway.sftp_port(), &gateway.user])
            .arg(&gateway.key_file),
    )?;
    Ok(())
}

#[test]
fn check_file_answers_as_the_draft_says_and_refuses_what_it_must() -> Result<()> {
    const EXTENDED_REPLY: u8 = 201;
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("f");
    write_file(&file, b"abc", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} f\nmkdir d\n", file.display()))?;
    let mut raw = RawSftp::start(&gateway)?;
    let mut check = |name: &str, algorithms: &str, range: (u64, u64), block: u32| -> Result<Answer> {
        let (offset, len) = range;
        raw.ask(
            kind::EXTENDED,
            &[
                &string(b"check-file-name"),
                &string(name.as_bytes()),
                &string(algorithms.as_bytes()),
                &offset.to_be_bytes(),
                &len.to_be_bytes(),
                &block.to_be_bytes(),
            ],
        )
    };
    let whole = check("/f", "crc32,md5,sha1", (0, 0), 0)?;
    assert_eq!((whole.kind, whole.string()), (EXTENDED_REPLY, b"md5".to_vec()));
    let expected =
        [0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72];
    assert_eq!(whole.body[11..], expected, "the digest stands there as it is");
    let part = check("/f", "sha512", (1, 1), 0)?;
    assert_eq!(part.body.len(), 4 + 4 + 6 + 64);
    for (name, algorithms, range, block, status) in [
        ("/f", "crc32", (0, 0), 0, 8),
        ("/f", "md5", (0, 0), 255, 4),
        ("/f", "md5", (4, 0), 0, 1),
        ("/d", "md5", (0, 0), 0, 4),
        ("/missing", "md5", (0, 0), 0, 2),
        ("/f", "md5", (u64::MAX, u64::MAX), 256, 1),
    ] {
        let answer = check(name, algorithms, range, block)?;
        assert_eq!(answer.status(), Some(status), "{name} {algorithms} {range:?} {block}");
    }
    Ok(())
}

#[test]
fn a_connection_of_a_thousand_commands_ends_between_two_of_them_and_not_beneath_an_open_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let finished = run_ok(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/commands_client.py"))
            .args([gateway.sftp_port(), &gateway.user])
            .args([&gateway.key_file, &gateway.known_hosts])
            .arg("1100"),
    )?;
    println!("{}", finished.text());
    let held = run_ok(gateway.rclone_sftp().args(["cat", "coffre:held"]))?;
    ensure!(held.stdout == b"content", "{:?}", held.text());
    Ok(())
}

#[test]
fn rclone_verifies_more_uploads_than_a_connection_has_commands_and_notices_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    fs::create_dir(&here)?;
    for number in 0..2_200_u64 {
        fs::write(here.join(format!("{number:04}")), noise(number + 1, 100))?;
    }
    // One transfer at a time: every digest comes over the same connection.
    let mut copy = gateway.rclone_sftp();
    copy.args(["copy", "--transfers", "1", "--checkers", "1", "--retries", "1"]);
    run_ok(copy.arg(&here).arg("coffre:many"))?;
    let mut check = gateway.rclone_sftp();
    run_ok(check.args(["check", "--checkers", "2", "--retries", "1"]).arg(&here).arg("coffre:many"))?;
    Ok(())
}
