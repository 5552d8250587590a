//! curl over SFTP (libssh2).

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::{Gateway, run, run_ok};
use tempfile::TempDir;

/// A curl with the demo user's key, in a home that knows the host.
fn curl(gateway: &Gateway, home: &TempDir) -> Result<Command> {
    let ssh = home.path().join(".ssh");
    fs::create_dir_all(&ssh)?;
    fs::copy(&gateway.known_hosts, ssh.join("known_hosts"))?;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--user", &format!("{}:", gateway.user), "--key"]);
    command.arg(&gateway.key_file).env("HOME", home.path());
    Ok(command)
}

#[test]
fn curl_uploads_downloads_resumes_and_sends_commands_over_sftp() -> Result<()> {
    let gateway = Gateway::start()?;
    let home = tempfile::tempdir()?;
    let at = |path: &str| format!("sftp://127.0.0.1:{}/{path}", gateway.sftp_port());
    let file = home.path().join("file");
    let content = noise(5, 9_000_000);
    write_file(&file, &content, 1_500_000_000)?;
    let ok = |arguments: &[&str]| -> Result<Vec<u8>> {
        Ok(run_ok(curl(&gateway, &home)?.args(arguments))?.stdout)
    };
    let local = file.display().to_string();

    ok(&["-T", &local, "--ftp-create-dirs", &at("new/directories/file.bin")])?;
    ensure!(ok(&[&at("new/directories/file.bin")])? == content, "there and back");
    ensure!(
        ok(&["--range", "1000000-1999999", &at("new/directories/file.bin")])?
            == content[1_000_000..2_000_000]
    );
    ensure!(ok(&["--range", "-77", &at("new/directories/file.bin")])? == content[content.len() - 77..]);

    // A download goes on, an upload goes on, and one is appended to the other.
    let part = home.path().join("part");
    write_file(&part, &content[..1_234_567], 1_500_000_000)?;
    let part_name = part.display().to_string();
    ok(&["-T", &part_name, &at("resumed")])?;
    ok(&["-T", &local, "--continue-at", "-", &at("resumed")])?;
    ensure!(ok(&[&at("resumed")])? == content, "an upload that went on");
    ok(&["--continue-at", "-", "--output", &part_name, &at("resumed")])?;
    ensure!(fs::read(&part)? == content, "a download that went on");
    write_file(&part, b"tail", 1_500_000_000)?;
    ok(&["-T", &part_name, "--append", &at("resumed")])?;
    ensure!(ok(&[&at("resumed")])? == [&content[..], b"tail"].concat(), "appended");

    let commands = [
        "mkdir /made",
        "rename /resumed /made/moved",
        "chmod 640 /made/moved",
        "symlink /made/moved /made/link",
        "rm /new/directories/file.bin",
        "rmdir /new/directories",
    ];
    let mut quoting = curl(&gateway, &home)?;
    quoting.args(commands.iter().flat_map(|command| ["--quote", command]));
    let listed = run_ok(quoting.arg(at("made/")))?.text();
    ensure!(listed.contains("-rw-r-----") && listed.contains("moved") && listed.contains("link"), "{listed}");
    ensure!(ok(&[&at("made/link")])?.len() == content.len() + 4, "through the link");
    let missing = run(curl(&gateway, &home)?.arg(at("missing")), b"")?;
    ensure!(
        missing.status.code() == Some(78),
        "a missing file is that: {} {}",
        missing.status,
        missing.stderr
    );
    Ok(())
}
