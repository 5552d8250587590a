//! The old `scp` (`scp -O`), both ways, and what no honest half of its protocol sends.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::process::{Finished, wait};
use coffre_tests::{Gateway, Names, listing, run, run_ok, sample_tree};

fn scp(gateway: &Gateway, options: &str) -> Command {
    let mut scp = Command::new("scp");
    scp.arg("-O").args(gateway.ssh_options()).args(options.split_whitespace());
    scp
}

fn remote(gateway: &Gateway, path: &str) -> String {
    format!("{}@127.0.0.1:{path}", gateway.user)
}

#[test]
fn a_tree_goes_up_and_comes_back_with_its_bytes_modes_and_times() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::AnyByte)?;
    // The client writes a newline in a name in its own way.
    fs::remove_file(here.join("new\nline"))?;
    fs::create_dir(&back)?;
    run_ok(scp(&gateway, "-rp").arg(&here).arg(remote(&gateway, "/new")))?;
    run_ok(scp(&gateway, "-rp").arg(remote(&gateway, "/new")).arg(&back))?;
    same_listing("under a new name", &listing(&here)?, &listing(&back.join("new"))?)?;
    // Into what is there: a directory of its name in it, and files in place of those that are there.
    run_ok(scp(&gateway, "-rp").arg(&here).arg(remote(&gateway, "/new")))?;
    run_ok(scp(&gateway, "-rp").arg(&here).arg(remote(&gateway, "/new")))?;
    run_ok(scp(&gateway, "-rp").arg(remote(&gateway, "/new/here")).arg(&back))?;
    same_listing("into a directory", &listing(&here)?, &listing(&back.join("here"))?)
}

#[test]
fn files_go_where_scp_puts_them_and_refusals_are_told() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, other, back) = (work.path().join("file"), work.path().join("other"), work.path().join("back"));
    write_file(&file, &noise(1, 9_000_000), 1_400_000_000)?;
    write_file(&other, b"", 1_400_000_000)?;
    gateway.sftp_batch("mkdir d\n")?;
    run_ok(scp(&gateway, "").arg(&file).arg(remote(&gateway, "one")))?;
    run_ok(scp(&gateway, "").args([&file, &other]).arg(remote(&gateway, "~/d")))?;
    run_ok(scp(&gateway, "").arg(&other).arg(remote(&gateway, "'d/a b'")))?;
    for path in ["one", "/d/file"] {
        run_ok(scp(&gateway, "").arg(remote(&gateway, path)).arg(&back))?;
        ensure!(fs::read(&back)? == fs::read(&file)?, "{path}");
    }
    run_ok(scp(&gateway, "").arg(remote(&gateway, r"d/a\ b")).arg(&back))?;
    assert_eq!(fs::read(&back)?.len(), 0, "shorter than what was there");
    let refused = |command: &mut Command, reason: &str| -> Result<Finished> {
        let finished = run(command, b"")?;
        ensure!(!finished.status.success() && finished.stderr.contains(reason), "{}", finished.stderr);
        Ok(finished)
    };
    refused(scp(&gateway, "").arg(remote(&gateway, "missing")).arg(&back), "No such file")?;
    refused(scp(&gateway, "").arg(remote(&gateway, "d")).arg(&back), "not a regular file")?;
    refused(scp(&gateway, "").args([&file, &other]).arg(remote(&gateway, "one")), "Not a directory")?;
    refused(scp(&gateway, "").arg(&file).arg(remote(&gateway, "none/x")), "No such file")?;
    refused(scp(&gateway, "").arg(remote(&gateway, "d/*")).arg(&back), "not expanded")?;
    // One that cannot be had does not keep the others.
    let some = work.path().join("some");
    fs::create_dir(&some)?;
    let list = ["one", "missing", "d/file"].map(|path| remote(&gateway, path));
    refused(scp(&gateway, "").args(list).arg(&some), "No such file")?;
    ensure!(some.join("one").exists() && some.join("file").exists(), "the others came");
    Ok(())
}

#[test]
fn scp_is_held_to_the_rights_of_its_credential() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"before", 1_400_000_000)?;
    run_ok(scp(&gateway, "").arg(&file).arg(remote(&gateway, "/file")))?;
    let key = work.path().join("key");
    run_ok(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    let public = key.with_extension("pub");
    gateway.coffre_json(&[
        "credential",
        "add-key",
        "demo/demo",
        &public.display().to_string(),
        "--machine",
        "--from",
        "127.0.0.0/8",
        "--rights",
        "read-only",
    ])?;
    let restricted = |command: &mut Command| {
        let options: Vec<String> = gateway.ssh_options();
        let own = options.iter().map(|option| {
            if *option == gateway.key_file.display().to_string() {
                key.display().to_string()
            } else {
                option.clone()
            }
        });
        command.arg("-O").args(own.collect::<Vec<_>>());
    };
    let mut read = Command::new("scp");
    restricted(&mut read);
    run_ok(read.arg(remote(&gateway, "/file")).arg(work.path().join("back")))?;
    for target in ["/file", "/other"] {
        let mut write = Command::new("scp");
        restricted(&mut write);
        let finished = run(write.arg(&file).arg(remote(&gateway, target)), b"")?;
        ensure!(!finished.status.success(), "{target}");
        ensure!(finished.stderr.contains("Permission denied"), "{}", finished.stderr);
    }
    Ok(())
}

/// One half of the protocol, by hand.
struct Raw {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Raw {
    fn start(gateway: &Gateway, line: &str) -> Result<Self> {
        let mut ssh = Command::new("ssh");
        ssh.args(gateway.ssh_options()).args(["-o", "LogLevel=ERROR"]);
        ssh.arg(format!("{}@127.0.0.1", gateway.user)).arg(line);
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin")?;
        stdin.write_all(bytes)?;
        Ok(stdin.flush()?)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stdout.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// What is said until the end, and the status.
    fn end(mut self) -> Result<(Vec<u8>, Option<i32>)> {
        self.stdin = None;
        let mut said = Vec::new();
        self.stdout.read_to_end(&mut said)?;
        Ok((said, wait(&mut self.child, 30)?.code()))
    }
}

#[test]
fn names_that_lead_elsewhere_end_an_upload_and_nothing_is_written() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir in\nmkdir out\n")?;
    for line in [
        "C0644 3 ../out/x",
        "C0644 3 ..",
        "C0644 3 .",
        "C0644 3 ",
        "C0644 3 /out/x",
        "C0644 3 a/b",
        "C0644 3 a\0b",
        "D0755 0 ..",
        "D0755 0 ../out/d",
        "C0644 -3 x",
        "C99999 3 x",
        "C0644 99999999999999999999999 x",
        "E",
        "nonsense",
        "\u{2}gone",
    ] {
        let mut raw = Raw::start(&gateway, "scp -r -t in")?;
        assert_eq!(raw.byte()?, 0);
        raw.send(&[line.as_bytes(), b"\nabc\0"].concat())?;
        let (said, status) = raw.end()?;
        ensure!(said.first() == Some(&2) && status == Some(1), "{line:?}: {said:?}, {status:?}");
    }
    let mut raw = Raw::start(&gateway, "scp -t in")?;
    raw.send(b"D0755 0 d\n")?;
    let (said, status) = raw.end()?;
    ensure!(said.starts_with(b"\0\x02") && status == Some(1), "a directory without -r: {said:?}");
    let listed = gateway.sftp_batch("ls -1 in\nls -1 out\n")?.text();
    let lines: Vec<&str> = listed.lines().filter(|line| !line.starts_with("sftp>")).collect();
    ensure!(lines.is_empty(), "{lines:?}");
    Ok(())
}

#[test]
fn a_line_or_a_size_without_end_takes_no_memory_and_a_directory_must_be_closed() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = Raw::start(&gateway, "scp -t /")?;
    raw.send(&b"C".repeat(100_000))?;
    let (said, status) = raw.end()?;
    ensure!(said.starts_with(b"\0\x02") && status == Some(1), "{said:?}");
    let mut raw = Raw::start(&gateway, "scp -t huge")?;
    assert_eq!(raw.byte()?, 0);
    raw.send(b"C0644 9000000000000000000 x\n")?;
    assert_eq!(raw.byte()?, 0);
    raw.send(b"a little")?;
    assert_eq!(raw.end()?.1, Some(1), "cut short");
    let mut raw = Raw::start(&gateway, "scp -r -t d")?;
    raw.send(b"D0755 0 d\n")?;
    assert_eq!(raw.end()?.1, Some(1), "a directory that was not closed");
    Ok(())
}

#[test]
fn an_upload_that_breaks_stays_as_incomplete_and_the_client_that_is_gone_is_noticed() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    for (name, ending) in
        [("cut", &b""[..]), ("unsaid", b"abcdef"), ("failed", b"abcdef\x01could not read on\n")]
    {
        let mut raw = Raw::start(&gateway, &format!("scp -t {name}"))?;
        assert_eq!(raw.byte()?, 0);
        raw.send(&[b"C0644 9 x\nabc", ending].concat())?;
        let (said, status) = raw.end()?;
        assert_eq!(status, Some(1), "{name}");
        // What could not be read is no failure of ours: the other half knows of it.
        assert_eq!(said.len(), if name == "failed" { 2 } else { 1 }, "{name}: {said:?}");
    }
    let broken = || -> Result<usize> {
        let told = gateway.coffre(&["--json", "incidents"])?.text();
        Ok(told.lines().filter(|line| line.contains("broken-upload")).count())
    };
    coffre_tests::process::until("three incidents", 20, || Ok(broken()? == 3))?;
    let size = |name: &str| -> Result<u64> {
        let back = work.path().join(name);
        gateway.sftp_batch(&format!("get {name} {}\n", back.display()))?;
        Ok(fs::metadata(back)?.len())
    };
    assert_eq!((size("cut")?, size("unsaid")?, size("failed")?), (3, 9, 9));
    Ok(())
}

#[test]
fn links_are_followed_but_not_in_circles() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_400_000_000)?;
    gateway.sftp_batch(&format!(
        "mkdir d\nmkdir d/e\nput {} d/file\nsymlink file d/link\nsymlink .. d/e/up\nsymlink nowhere d/broken\n",
        file.display()
    ))?;
    let back = work.path().join("back");
    let finished = run(scp(&gateway, "-r").arg(remote(&gateway, "/d")).arg(&back), b"")?;
    ensure!(!finished.status.success() && finished.stderr.contains("around it"), "{}", finished.stderr);
    let read = |name: &str| fs::read(Path::new(&back).join(name));
    assert_eq!((read("file")?, read("link")?), (b"content".to_vec(), b"content".to_vec()));
    ensure!(back.join("e").exists() && !back.join("e/up").exists() && !back.join("broken").exists());
    Ok(())
}
