//! What is refused, with its protocol's code, a reason that a human understands, and nothing half done.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::gateway::binary;
use coffre_tests::raw_http::status_of;
use coffre_tests::{Finished, Gateway, RawHttp, run, run_ok, wait};

/// Seconds in which a program that refuses must have said so.
const REFUSAL_SECS_MAX: u64 = 60;

#[test]
fn webdav_says_401_and_how_to_log_in_for_every_bad_credential() -> Result<()> {
    let gateway = Gateway::start()?;
    let revoked = gateway.add_token(&gateway.user, &[])?;
    gateway.admin(&["credential", "revoke", &revoked.id])?;
    let mut answers = Vec::new();
    for (user, token) in [
        (gateway.user.as_str(), "wrong"),
        (gateway.user.as_str(), ""),
        (gateway.user.as_str(), revoked.secret.as_str()),
        ("nobody", gateway.token.as_str()),
        ("", ""),
    ] {
        let finished = run_ok(gateway.curl_as(user, token).arg("--include").arg(gateway.url("")))?.text();
        ensure!(status_of(&finished) == 401, "{user}: {finished}");
        ensure!(finished.to_lowercase().contains("www-authenticate: basic realm="), "{finished}");
        answers.push(finished.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned());
    }
    // The answer does not tell an unknown user from a wrong token.
    answers.dedup();
    ensure!(answers.len() == 1 && !answers[0].is_empty(), "{answers:?}");
    for header in [
        "Authorization: Basic !!!",
        "Authorization: Bearer x",
        "Authorization: Basic",
        "Authorization: Basic eA==",
    ] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--include", "--cacert"]).arg(&gateway.ca_file).args(["-H", header]);
        let answer = run_ok(curl.arg(gateway.url("")))?.text();
        ensure!(matches!(status_of(&answer), 400 | 401), "{header}: {answer}");
    }
    Ok(())
}

#[test]
fn sftp_refuses_every_bad_password_alike() -> Result<()> {
    let gateway = Gateway::start()?;
    let revoked = gateway.add_token(&gateway.user, &[])?;
    gateway.admin(&["credential", "revoke", &revoked.id])?;
    for (user, password) in [
        (gateway.user.as_str(), "wrong"),
        (gateway.user.as_str(), ""),
        (gateway.user.as_str(), revoked.secret.as_str()),
        ("nobody", gateway.token.as_str()),
    ] {
        let finished = run(&mut gateway.sftp_with_password(user, password), b"ls\n")?;
        ensure!(!finished.status.success(), "{user} got in");
        ensure!(finished.stderr.contains("Permission denied"), "{user}: {}", finished.stderr);
    }
    let good = run(&mut gateway.sftp_with_password(&gateway.user, &gateway.token), b"ls\n")?;
    ensure!(good.status.success(), "the right token after wrong ones: {}", good.stderr);
    Ok(())
}

/// A customer with a limit, a user and both kinds of credential.
struct Small {
    token: String,
    key: String,
    user: &'static str,
}

fn small_customer(gateway: &Gateway, work: &Path, bytes: &str) -> Result<Small> {
    gateway.admin(&["customer", "add", "small", "--bytes-max", bytes])?;
    gateway.admin(&["vault", "add", "small/v"])?;
    gateway.admin(&["user", "add", "small/sam"])?;
    let token = gateway.add_token("small/sam", &[])?.secret;
    let key = gateway.add_key("small/sam", work, "sam", &[])?.secret;
    Ok(Small { token, key, user: "sam" })
}

impl Small {
    fn put(&self, gateway: &Gateway, from: &Path, to: &str) -> Result<u16> {
        let mut curl = gateway.curl_as(self.user, &self.token);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}", "-T"])
            .arg(from)
            .arg(gateway.url(to));
        // The server may answer and close before curl has sent it all: its code is there all the same.
        Ok(run(&mut curl, b"")?.text().parse()?)
    }
}

#[test]
fn one_byte_over_the_quota_is_refused_with_a_reason_and_aborted_uploads_give_their_bytes_back() -> Result<()>
{
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let small = small_customer(&gateway, work.path(), "1M")?;
    let (half, most, over) = (work.path().join("half"), work.path().join("most"), work.path().join("over"));
    write_file(&half, &noise(1, 500_000), 1_500_000_000)?;
    write_file(&most, &noise(2, 540_000), 1_500_000_000)?;
    write_file(&over, &noise(3, 2_000_000), 1_500_000_000)?;
    ensure!(small.put(&gateway, &half, "half")? == 201);
    for _ in 0..3 {
        ensure!(small.put(&gateway, &over, "over")? == 507, "over WebDAV");
        let refused =
            gateway.sftp_as(small.user, &small.key, &format!("put {} over-sftp\n", over.display()))?;
        ensure!(!refused.status.success(), "over SFTP");
        ensure!(
            refused.stderr.to_lowercase().contains("quota") || refused.stderr.contains("Failure"),
            "{}",
            refused.stderr
        );
        drop(gateway.sftp_as(small.user, &small.key, "rm over-sftp\n")?);
    }
    let mut raw = gateway.curl_as(small.user, &small.token);
    let reason = run(raw.arg("-T").arg(&over).arg(gateway.url("over")), b"")?.text();
    ensure!(reason.to_lowercase().contains("quota"), "the reason: {reason:?}");
    ensure!(small.put(&gateway, &most, "most")? == 201, "what fits after the refusals");
    ensure!(small.put(&gateway, &half, "third")? == 507, "what does not fit any more");
    let mut delete = gateway.curl_as(small.user, &small.token);
    run_ok(delete.args(["--fail", "-X", "DELETE"]).arg(gateway.url("half")))?;
    let mut read = gateway.curl_as(small.user, &small.token);
    ensure!(run_ok(read.arg("--fail").arg(gateway.url("most")))?.stdout == noise(2, 540_000));
    Ok(())
}

#[test]
fn parallel_uploads_and_late_writes_into_holes_cannot_pass_the_quota() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let small = small_customer(&gateway, work.path(), "1M")?;
    let files: Vec<PathBuf> = (0..8_u64)
        .map(|number| {
            let path = work.path().join(number.to_string());
            write_file(&path, &noise(number + 20, 300_000), 1_500_000_000).map(|()| path)
        })
        .collect::<Result<_>>()?;
    let codes = std::thread::scope(|scope| {
        let (gateway, small) = (&gateway, &small);
        let uploads: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(number, file)| scope.spawn(move || small.put(gateway, file, &format!("p{number}"))))
            .collect();
        uploads
            .into_iter()
            .map(|upload| upload.join().map_err(|_| anyhow::anyhow!("an uploader panicked"))?)
            .collect::<Result<Vec<u16>>>()
    })?;
    ensure!(codes.iter().all(|code| matches!(code, 201 | 507)), "{codes:?}");
    let taken = codes.iter().filter(|code| **code == 201).count();
    ensure!((1..=3).contains(&taken), "{taken} uploads of 300,000 bytes fit in 1 MiB: {codes:?}");
    // A hole costs nothing; what is written into it later does.
    let script = "import paramiko,sys\n\
        t=paramiko.Transport(('127.0.0.1',int(sys.argv[1])))\n\
        t.connect(username='sam',pkey=paramiko.Ed25519Key.from_private_key_file(sys.argv[2]))\n\
        s=paramiko.SFTPClient.from_transport(t)\n\
        f=s.open('holes','w+b')\n\
        f.seek(1<<30); f.write(b'end'); f.flush()\n\
        import random\n\
        try:\n\
        \x20for i in range(64):\n\
        \x20 f.seek(i<<20); f.write(random.randbytes(32768))\n\
        \x20f.close()\n\
        except IOError as e: print('refused',e)\n\
        t.close()\n";
    let written =
        run_ok(Command::new("/usr/bin/python3").args(["-c", script, gateway.sftp_port(), &small.key]))?
            .text();
    ensure!(written.contains("refused"), "2 MiB of writes into a hole fit in 1 MiB: {written}");
    Ok(())
}

#[test]
fn a_disk_without_room_refuses_content_with_a_reason_and_serves_what_is_there() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, log) = (work.path().join("data"), work.path().join("server.log"));
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let from = file.display().to_string();
    let mut gateway = Gateway::start_on(&data, &log)?;
    ensure!(gateway.curl_status(&["-T", &from, &gateway.url("kept")])? == 201);
    gateway.stop()?;
    // More than any disk has is to be kept free.
    let config = data.join("coffre.toml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, format!("{good}\n[storage]\nreserve = \"4000000T\"\n"))?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    write_file(&file, b"other content", 1_500_000_000)?;
    for name in ["new", "kept"] {
        let status = gateway.curl_status(&["-T", &from, &gateway.url(name)])?;
        ensure!(status == 507, "an upload to a full disk: {status}");
        let put = run(&mut gateway.sftp_command(), format!("put {from} {name}-2\n").as_bytes())?;
        ensure!(!put.status.success(), "an SFTP upload to a full disk: {}", put.stderr);
    }
    ensure!(run_ok(gateway.curl().arg(gateway.url("kept")))?.stdout == b"content");
    gateway.sftp_batch("ls -l kept\nrm kept\n")?;
    gateway.admin(&["customer", "add", "still-administered"])?;
    gateway.stop()?;
    fs::write(&config, good)?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    ensure!(gateway.curl_status(&["-T", &from, &gateway.url("new")])? == 201);
    gateway.admin(&["check", "--read-data"])?;
    gateway.stop()
}

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where this machine does not let us mount.
    fn mount(at: &Path, size: &str) -> Result<Option<Self>> {
        fs::create_dir(at)?;
        let options = format!("size={size},mode=0700");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at), b"")?;
        Ok(mounted.status.success().then(|| Self(at.to_owned())))
    }

    fn grow(&self, size: &str) -> Result<()> {
        run_ok(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0)).map(drop)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run_ok(Command::new("umount").arg("--lazy").arg(&self.0)) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn a_disk_that_is_really_full_takes_deletions_and_content_again_when_there_is_room() -> Result<()> {
    let work = tempfile::tempdir()?;
    let Some(disk) = SmallDisk::mount(&work.path().join("disk"), "900m")? else {
        println!("no right to mount: the disk of the test above is full by its configuration only");
        return Ok(());
    };
    let (data, log) = (disk.0.join("data"), work.path().join("server.log"));
    let mut gateway = Gateway::start_on(&data, &log)?;
    let file = work.path().join("file");
    let from = file.display().to_string();
    let mut kept = 0;
    // One pack and the reserve fit.
    let refused = loop {
        write_file(&file, &noise(kept + 1, 20 << 20), 1_500_000_000)?;
        let mut upload = gateway.curl();
        upload.args(["-i", "-H", "Expect:", "-T", &from, &gateway.url(&format!("kept-{kept}"))]);
        let answer = run(&mut upload, b"")?.text();
        match status_of(&answer) {
            201 => kept += 1,
            507 => break answer,
            other => anyhow::bail!("upload {kept}: {other}: {answer}"),
        }
        ensure!(kept < 40, "900 MB hold no {kept} files of 20 MB");
    };
    ensure!(kept >= 5 && refused.contains("the disk is full"), "after {kept} files: {refused}");
    let put = run(&mut gateway.sftp_command(), format!("put {from} over-sftp\n").as_bytes())?;
    ensure!(!put.status.success(), "an SFTP upload to a full disk: {}", put.stderr);
    // Everything that is no content goes on.
    ensure!(run_ok(gateway.curl().arg(gateway.url("kept-0")))?.stdout == noise(1, 20 << 20));
    gateway.sftp_batch("rm kept-1\nmkdir still\nrename kept-2 still/kept\nls -l\n")?;
    gateway.admin(&["customer", "add", "still-administered"])?;
    gateway.admin(&["check"])?;
    disk.grow("2g")?;
    let mut taken = false;
    for _ in 0..60 {
        // Each attempt is a change of the audit log, and with it comes a look at the disk.
        let mut upload = gateway.curl();
        upload.args(["-o", "/dev/null", "-w", "%{http_code}", "-T", &from, &gateway.url("again")]);
        // One that is refused may break off.
        taken = run(&mut upload, b"")?.text() == "201";
        if taken {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(500));
    }
    ensure!(taken, "there is room, and nothing is taken");
    gateway.admin(&["check", "--read-data"])?;
    gateway.stop()?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    ensure!(run_ok(gateway.curl().arg(gateway.url("still/kept")))?.stdout == noise(3, 20 << 20));
    gateway.stop()
}

#[test]
fn names_and_paths_that_are_too_long_are_refused_and_the_longest_are_taken() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let from = file.display().to_string();
    let (longest, over) = ("n".repeat(255), "n".repeat(256));
    ensure!(gateway.curl_status(&["-T", &from, &gateway.url(&longest)])? == 201);
    ensure!(run_ok(gateway.curl().arg(gateway.url(&longest)))?.stdout == b"content");
    let status = gateway.curl_status(&["-T", &from, &gateway.url(&over)])?;
    ensure!(matches!(status, 400 | 403 | 414 | 422), "a name of 256 bytes: {status}");
    // 126 accents are 252 bytes, 128 are 256: bytes count, not letters.
    ensure!(gateway.curl_status(&["-T", &from, &gateway.url(&"%C3%A9".repeat(126))])? == 201);
    ensure!(gateway.curl_status(&["-T", &from, &gateway.url(&"%C3%A9".repeat(128))])? >= 400);
    let put = |name: &str| run(&mut gateway.sftp_command(), format!("put {from} {name}\n").as_bytes());
    ensure!(!put(&over)?.status.success(), "a name of 256 bytes over SFTP");
    ensure!(put(&format!("{}m", "m".repeat(254)))?.status.success(), "a name of 255 bytes over SFTP");
    // Deep enough to pass 4096 bytes in all.
    let deep = format!("{}/", "d".repeat(200)).repeat(21);
    ensure!(!put(&format!("{deep}x"))?.status.success(), "a path of 4,200 bytes");
    let status = gateway.curl_status(&["-T", &from, &gateway.url(&format!("{deep}x"))])?;
    ensure!(matches!(status, 400 | 403 | 414 | 409), "a path of 4,200 bytes: {status}");
    ensure!(
        RawHttp::exchange(&gateway, &format!("GET /{}", "x".repeat(2_000_000)), "", b"")?.len() < 100_000
    );
    gateway.sftp_batch("ls\n")?;
    Ok(())
}

/// Runs a command that must end by itself with exit code 1 and a reason.
fn refused(command: &mut Command, reason: &[&str]) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(shown.clone())?;
    let status = wait(&mut child, REFUSAL_SECS_MAX).with_context(|| format!("{shown} serves"))?;
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().context("standard error")?, &mut stderr)?;
    ensure!(status.code() == Some(1), "{shown} ended with {status}: {stderr}");
    let said = stderr.to_lowercase();
    ensure!(reason.iter().any(|word| said.contains(word)), "{shown} said {stderr:?}, nothing of {reason:?}");
    ensure!(!said.contains("panicked"), "{stderr}");
    Ok(stderr)
}

fn quickstart(data: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .args(["quickstart", "--json", "--sftp", "127.0.0.1:0", "--webdav", "127.0.0.1:0", "--data"])
        .arg(data);
    Ok(command)
}

fn find(data: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(data).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() && wanted(entry.path()) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

/// A stopped data directory with one file in it.
fn stopped() -> Result<Gateway> {
    let mut gateway = Gateway::start()?;
    let finished = run(gateway.curl().args(["--fail", "-T", "-"]).arg(gateway.url("kept")), b"kept")?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    gateway.stop()?;
    Ok(gateway)
}

fn assert_kept(gateway: &Gateway) -> Result<()> {
    let again = Gateway::start_on(&gateway.data, &gateway.log)?;
    ensure!(run_ok(again.curl().arg("--fail").arg(again.url("kept")))?.stdout == b"kept");
    Ok(())
}

#[test]
fn a_second_server_on_the_same_data_directory_is_refused_and_the_first_goes_on() -> Result<()> {
    let gateway = Gateway::start()?;
    refused(&mut quickstart(&gateway.data)?, &["in use", "already", "another"])?;
    gateway.sftp_batch("mkdir still-there\n")?;
    Ok(())
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_and_left_alone() -> Result<()> {
    let gateway = stopped()?;
    let packs = find(&gateway.data, |path| path.parent().is_some_and(|parent| parent.ends_with("packs")))?;
    ensure!(!packs.is_empty(), "there are packs");
    let mut before = Vec::new();
    for pack in &packs {
        // FORMAT.md section 5: the version follows the magic number.
        let file = fs::OpenOptions::new().read(true).write(true).open(pack)?;
        let mut version = [0; 4];
        file.read_exact_at(&mut version, 8)?;
        file.write_all_at(&9_u32.to_le_bytes(), 8)?;
        before.push((file, version));
    }
    refused(&mut quickstart(&gateway.data)?, &["newer"])?;
    for (file, version) in before {
        file.write_all_at(&version, 8)?;
    }
    assert_kept(&gateway)
}

#[test]
fn a_wrong_gateway_key_is_refused_and_the_right_one_opens_again() -> Result<()> {
    let gateway = stopped()?;
    let key = find(&gateway.data, |path| path.ends_with("gateway.key"))?.pop().context("gateway.key")?;
    let right = fs::read(&key)?;
    let other = Gateway::start()?;
    let wrong =
        fs::read(find(&other.data, |path| path.ends_with("gateway.key"))?.pop().context("gateway.key")?)?;
    ensure!(right != wrong, "two gateways have one key");
    fs::write(&key, &wrong)?;
    refused(&mut quickstart(&gateway.data)?, &["key"])?;
    fs::write(&key, &right[..right.len() / 2])?;
    refused(&mut quickstart(&gateway.data)?, &["key"])?;
    fs::write(&key, &right)?;
    assert_kept(&gateway)
}

#[test]
fn secrets_are_readable_by_their_owner_only() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let gateway = Gateway::start()?;
    for path in find(&gateway.data, |path| path.extension().is_none_or(|ending| ending != "pub"))? {
        let metadata = fs::metadata(&path)?;
        let content = fs::read(&path).unwrap_or_default();
        let secret = path.extension().is_some_and(|ending| ending == "key")
            || content.windows(11).any(|window| window == b"PRIVATE KEY");
        ensure!(
            !secret || metadata.mode().trailing_zeros() >= 6,
            "{} has mode {:o}",
            path.display(),
            metadata.mode()
        );
    }
    let mode = fs::metadata(&gateway.data)?.mode();
    ensure!(mode.trailing_zeros() >= 6, "the data directory has mode {mode:o}");
    Ok(())
}

fn initialised(work: &Path) -> Result<PathBuf> {
    let data = work.join("data");
    run_ok(Command::new(binary()?).args(["init", "--data"]).arg(&data))?;
    find(&data, |path| path.extension().is_some_and(|ending| ending == "toml"))?
        .pop()
        .context("init writes a configuration")
}

#[test]
fn an_unknown_or_malformed_setting_is_refused_by_name() -> Result<()> {
    let work = tempfile::tempdir()?;
    let config = initialised(work.path())?;
    let good = fs::read_to_string(&config)?;
    for (added, word) in [
        (format!("no_such_setting = 1\n{good}"), "no_such_setting"),
        (format!("{good}\n[no_such_section]\nx = 1\n"), "no_such_section"),
        (good.replacen("[sftp]", "[sftp]\nno_such_key = true", 1), "no_such_key"),
        (good.replacen("listen", "listen = \"not an address\"\n#", 1), "listen"),
    ] {
        ensure!(added != good, "the configuration names [sftp] and its listener: {good}");
        fs::write(&config, added)?;
        refused(Command::new(binary()?).args(["serve", "--config"]).arg(&config), &[word])?;
    }
    refused(Command::new(binary()?).args(["serve", "--config", "/no/such/file.toml"]), &["no such file"])?;
    Ok(())
}

#[test]
fn init_does_not_touch_a_directory_that_holds_a_store() -> Result<()> {
    let gateway = stopped()?;
    refused(Command::new(binary()?).args(["init", "--data"]).arg(&gateway.data), &["already"])?;
    assert_kept(&gateway)
}

#[test]
fn a_port_in_use_is_refused_by_its_address() -> Result<()> {
    let work = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut command = Command::new(binary()?);
    command.args(["quickstart", "--json", "--webdav", "127.0.0.1:0", "--sftp", &address, "--data"]);
    refused(command.arg(work.path().join("data")), &["in use", &address])?;
    Ok(())
}

#[test]
fn command_lines_that_make_no_sense_end_with_usage_or_a_reason() -> Result<()> {
    let gateway = Gateway::start()?;
    let code = |arguments: &[&str]| -> Result<(Option<i32>, Finished)> {
        let finished = gateway.coffre(arguments)?;
        Ok((finished.status.code(), finished))
    };
    for arguments in
        [&["no-such-command"][..], &["user", "add"], &["credential", "add-token"], &["check", "--no-such"]]
    {
        let (found, finished) = code(arguments)?;
        ensure!(found == Some(2), "{arguments:?}: {found:?} {}", finished.stderr);
    }
    for arguments in [
        &["user", "add", "nobody/eve"][..],
        &["user", "disable", "nobody-there"],
        &["credential", "revoke", "no-such-id"],
        &["credential", "add-key", &gateway.user, "/no/such/file"],
        &["credential", "add-key", &gateway.user, "/etc/passwd"],
        &["credential", "add-token", &gateway.user, "--expires", "2000d"],
        &["vault", "add", "nobody/v"],
        &["customer", "add", "bad/name"],
        &["customer", "add", ""],
        &["customer", "add", "line\nbreak"],
    ] {
        let (found, finished) = code(arguments)?;
        ensure!(matches!(found, Some(1 | 2)), "{arguments:?}: {found:?} {}", finished.stderr);
        ensure!(!finished.stderr.trim().is_empty(), "{arguments:?} gives no reason");
        ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_mount_of_one_directory_opens_no_other_whose_name_begins_alike() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    for arguments in
        [&["customer", "add", "clinic"][..], &["vault", "add", "clinic/v"], &["user", "add", "clinic/all"]]
    {
        gateway.admin(arguments)?;
    }
    let all = gateway.add_key("clinic/all", work.path(), "all", &[])?.secret;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let batch =
        format!("mkdir share\nmkdir share2\nput {0} share/mine\nput {0} share2/theirs\n", file.display());
    let made = gateway.sftp_as("all", &all, &batch)?;
    ensure!(made.status.success(), "{}", made.stderr);
    gateway.admin(&["user", "add", "clinic/one", "--mount", "/share=v:/share"])?;
    let one = gateway.add_key("clinic/one", work.path(), "one", &[])?.secret;
    let got = work.path().join("got");
    let get = |name: &str| gateway.sftp_as("one", &one, &format!("get {name} {}\n", got.display()));
    let mine = get("/share/mine")?;
    ensure!(mine.status.success(), "{}", mine.stderr);
    fs::remove_file(&got)?;
    for name in [
        "/share2/theirs",
        "/share/../share2/theirs",
        "/share2",
        "/share/../../share2/theirs",
        "share2/theirs",
    ] {
        ensure!(!get(name)?.status.success() && !got.exists(), "{name}");
    }
    let listed = gateway.sftp_as("one", &one, "ls -1 /\n")?.text();
    ensure!(!listed.contains("share2"), "{listed}");
    Ok(())
}

#[test]
fn a_rename_across_vaults_is_refused_or_copied_whole_and_loses_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    for arguments in [&["customer", "add", "two"][..], &["vault", "add", "two/a"], &["vault", "add", "two/b"]]
    {
        gateway.admin(arguments)?;
    }
    gateway.admin(&["user", "add", "two/tom", "--mount", "/a=a", "--mount", "/b=b"])?;
    let key = gateway.add_key("two/tom", work.path(), "tom", &[])?.secret;
    let token = gateway.add_token("two/tom", &[])?.secret;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let put = gateway.sftp_as("tom", &key, &format!("put {} /a/file\n", file.display()))?;
    ensure!(put.status.success(), "{}", put.stderr);
    let renamed = gateway.sftp_as("tom", &key, "rename /a/file /b/file\n")?;
    ensure!(!renamed.status.success(), "a rename went across vaults");
    let destination = format!("Destination: {}", gateway.url("b/file"));
    let mut moved = gateway.curl_as("tom", &token);
    moved.args(["--output", "/dev/null", "--write-out", "%{http_code}", "-X", "MOVE", "-H", &destination]);
    let status = run_ok(moved.arg(gateway.url("a/file")))?.text();
    ensure!(matches!(status.as_str(), "201" | "502" | "403" | "409"), "MOVE: {status}");
    let place = if status == "201" { "b/file" } else { "a/file" };
    ensure!(
        run_ok(gateway.curl_as("tom", &token).arg("--fail").arg(gateway.url(place)))?.stdout == b"content"
    );
    Ok(())
}
