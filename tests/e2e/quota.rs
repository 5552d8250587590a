//! Limits of customers and vaults as clients and operators see them, what is told of them, and closure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, write_file};
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{Finished, Gateway, RawHttp, RawSftp, run, run_ok, until, wait};
use serde_json::Value;

/// `SSH_FXF_WRITE | SSH_FXF_CREAT`.
const WRITE_CREATE: u32 = 0x02 | 0x08;

/// A customer of a test's own, with a vault `v`, a user and both kinds of credential.
struct Clinic {
    gateway: Gateway,
    token: String,
    key: String,
    work: tempfile::TempDir,
}

const USER: &str = "ann";

impl Clinic {
    fn new(gateway: Gateway, customer: &[&str], vault: &[&str]) -> Result<Self> {
        let work = tempfile::tempdir()?;
        gateway.admin(&[&["customer", "add", "clinic"], customer].concat())?;
        gateway.admin(&[&["vault", "add", "clinic/v"], vault].concat())?;
        gateway.admin(&["user", "add", "clinic/ann"])?;
        let token = gateway.add_token("clinic/ann", &[])?.secret;
        let key = gateway.add_key("clinic/ann", work.path(), "ann", &[])?.secret;
        Ok(Self { gateway, token, key, work })
    }

    fn file(&self, seed: u64, len: usize) -> Result<PathBuf> {
        let path = self.work.path().join(format!("{seed}-{len}"));
        write_file(&path, &noise(seed, len), 1_500_000_000).map(|()| path)
    }

    fn curl(&self) -> Command {
        self.gateway.curl_as(USER, &self.token)
    }

    /// A PUT: its status, and what it said.
    fn put(&self, from: &Path, to: &str) -> Result<(u16, String)> {
        let mut curl = self.curl();
        curl.args(["--write-out", "\n%{http_code}", "-T"]).arg(from).arg(self.gateway.url(to));
        // The server may answer and close before curl has sent it all: its code is there all the same.
        let said = run(&mut curl, b"")?.text();
        let (body, code) = said.rsplit_once('\n').context("a code")?;
        Ok((code.parse()?, body.to_owned()))
    }

    fn status(&self, method: &str, path: &str) -> Result<u16> {
        let mut curl = self.curl();
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}", "-X", method]);
        Ok(run_ok(curl.arg(self.gateway.url(path)))?.text().parse()?)
    }

    fn sftp(&self, batch: &str) -> Result<Finished> {
        self.gateway.sftp_as(USER, &self.key, batch)
    }

    fn raw(&self) -> Result<RawSftp> {
        RawSftp::start_with(&self.gateway.ssh_options_with(&self.key), USER)
    }

    fn shown(&self, field: &str) -> Result<u64> {
        let shown = self.gateway.coffre_json(&["customer", "show", "clinic"])?;
        shown[field].as_u64().with_context(|| format!("{field} in {shown}"))
    }

    fn vault_shown(&self, field: &str) -> Result<u64> {
        let shown = self.gateway.coffre_json(&["vault", "show", "clinic/v"])?;
        shown[field].as_u64().with_context(|| format!("{field} in {shown}"))
    }

    /// Percentages that were told of the customer, by limit.
    fn told(&self) -> Result<Vec<(String, u64)>> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(incidents(&self.gateway, &[])?
            .iter()
            .filter(|row| row["kind"] == "quota" && row["customer"] == "clinic")
            .map(|row| (text(row, "limit"), row["percent"].as_u64().unwrap_or(0)))
            .collect())
    }

    fn rclone(&self, protocol: &str) -> Result<Command> {
        let mut command = if protocol == "sftp" {
            let mut command = self.gateway.rclone_sftp();
            command.env("RCLONE_CONFIG_COFFRE_KEY_FILE", &self.key);
            command
        } else {
            let obscured = run_ok(Command::new("rclone").args(["obscure", &self.token]))?.text();
            let mut command = self.gateway.rclone_webdav()?;
            command.env("RCLONE_CONFIG_COFFRE_PASS", obscured.trim());
            command
        };
        command.env("RCLONE_CONFIG_COFFRE_USER", USER);
        Ok(command)
    }
}

fn incidents(gateway: &Gateway, arguments: &[&str]) -> Result<Vec<Value>> {
    let finished = gateway.admin(&[&["--json", "incidents"], arguments].concat())?;
    finished.text().lines().map(|line| serde_json::from_str(line).context("a line")).collect()
}

/// Statvfs over SFTP: block size, blocks, free blocks, files, free files.
fn statvfs(raw: &mut RawSftp) -> Result<[u64; 5]> {
    let answer = raw.ask(kind::EXTENDED, &[&string(b"statvfs@openssh.com"), &string(b"/")])?;
    let field = |at: usize| -> Result<u64> {
        let from = 4 + 8 * at;
        let bytes = answer.body.get(from..from + 8).with_context(|| format!("{answer:?}"))?;
        Ok(u64::from_be_bytes(bytes.try_into()?))
    };
    Ok([field(1)?, field(2)?, field(3)?, field(5)?, field(6)?])
}

/// Quota properties over WebDAV: available, used.
fn quota_properties(clinic: &Clinic) -> Result<(u64, u64)> {
    let body = "<propfind xmlns='DAV:'><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>";
    let mut curl = clinic.curl();
    curl.args(["-X", "PROPFIND", "-H", "Depth: 0", "--data", body]);
    let said = run_ok(curl.arg(clinic.gateway.url("")))?.text();
    let number = |name: &str| -> Result<u64> {
        let (_, rest) = said.split_once(&format!("<D:{name}>")).with_context(|| said.clone())?;
        Ok(rest.split('<').next().unwrap_or_default().parse()?)
    };
    Ok((number("quota-available-bytes")?, number("quota-used-bytes")?))
}

/// What a write over SFTP is answered: code and reason.
fn write_over_sftp(clinic: &Clinic, name: &[u8], bytes: &[u8]) -> Result<(u32, String)> {
    let mut raw = clinic.raw()?;
    let handle = raw.open(name, WRITE_CREATE)?;
    let mut answer = (0, String::new());
    for (at, piece) in bytes.chunks(200_000).enumerate() {
        let offset = (at as u64 * 200_000).to_be_bytes();
        let found = raw.ask(kind::WRITE, &[&string(&handle), &offset, &string(piece)])?;
        if found.status() != Some(0) {
            // A status has its code where another answer has a length.
            let text = String::from_utf8_lossy(found.body.get(12..).unwrap_or_default()).into_owned();
            answer = (found.status().unwrap_or(0), text);
            break;
        }
    }
    raw.ask(kind::CLOSE, &[&string(&handle)])?;
    Ok(answer)
}

#[test]
fn quota_one_byte_over_is_refused_by_both_protocols_and_both_say_which_limit() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &["--bytes-max", "1M"], &["--bytes-max", "600K"])?;
    let gateway = &clinic.gateway;
    let (exact, over) = (clinic.file(1, 600 << 10)?, clinic.file(2, (600 << 10) + 1)?);
    let (status, reason) = clinic.put(&over, "over")?;
    ensure!(status == 507, "{status}");
    ensure!(reason.contains("the quota of 614400 bytes of the vault is used up"), "{reason}");
    ensure!(reason.contains("<D:quota-not-exceeded/>"), "{reason}");
    let (code, reason) = write_over_sftp(&clinic, b"/over", &fs::read(&over)?)?;
    ensure!(code == 4 && reason.contains("the quota of 614400 bytes of the vault is used up"), "{reason}");
    ensure!(clinic.sftp("rm over\n")?.status.success());
    ensure!(clinic.put(&exact, "exact")?.0 == 201, "to the last byte");
    // The same length again in its place, over both protocols.
    ensure!(clinic.put(&clinic.file(3, 600 << 10)?, "exact")?.0 == 204, "an overwrite over WebDAV");
    let put = clinic.sftp(&format!("put {} exact\n", clinic.file(4, 600 << 10)?.display()))?;
    ensure!(put.status.success(), "an overwrite over SFTP: {}", put.stderr);
    ensure!(clinic.put(&clinic.file(5, 1)?, "one")?.1.contains("of the vault"));
    gateway.admin(&["vault", "set", "clinic/v", "--bytes-max", "none"])?;
    let (status, reason) = clinic.put(&clinic.file(6, 500_000)?, "more")?;
    ensure!(status == 507 && reason.contains("the quota of 1048576 bytes of the customer"), "{reason}");
    let (code, reason) = write_over_sftp(&clinic, b"/more", &noise(7, 500_000))?;
    ensure!(code == 4 && reason.contains("the quota of 1048576 bytes of the customer"), "{reason}");
    ensure!(clinic.sftp("rm more\n")?.status.success());
    gateway.admin(&["customer", "set", "clinic", "--bytes-max", "none"])?;
    ensure!(clinic.put(&clinic.file(6, 500_000)?, "more")?.0 == 201, "without limits");
    ensure!(clinic.shown("bytes_used")? == 614_400 + 500_000);
    gateway.admin(&["check"])?;
    Ok(())
}

#[test]
fn quota_refuses_a_put_of_known_length_before_its_body() -> Result<()> {
    let mut clinic = Clinic::new(Gateway::start()?, &["--bytes-max", "1M"], &["--stored-max", "400K"])?;
    ensure!(clinic.put(&clinic.file(1, 399 << 10)?, "most")?.0 == 201);
    ensure!(clinic.put(&clinic.file(2, 400)?, "more")?.0 == 201);
    clinic.gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "300K"])?;
    (clinic.gateway.user, clinic.gateway.token) = (USER.to_owned(), clinic.token.clone());
    for (length, limit) in [(2_000_000, "of the customer"), (1000, "stored bytes of the vault")] {
        let mut raw = RawHttp::connect(&clinic.gateway)?;
        raw.request("PUT /new", &format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"))?;
        let said = String::from_utf8_lossy(&raw.rest()?).into_owned();
        ensure!(said.starts_with("HTTP/1.1 507 ") && said.contains(limit), "{length}: {said}");
    }
    Ok(())
}

#[test]
fn quota_is_never_passed_by_parallel_uploads_over_both_protocols() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &["--bytes-max", "2M", "--files-max", "12"], &[])?;
    let gateway = &clinic.gateway;
    let limit = 2 << 20;
    let taken = std::thread::scope(|scope| {
        let clinic = &clinic;
        let uploads: Vec<_> = (0..12_u64)
            .map(|number| {
                scope.spawn(move || -> Result<u64> {
                    let file = clinic.file(number + 1, 300_000)?;
                    if number % 2 == 0 {
                        let (status, reason) = clinic.put(&file, &format!("w{number}"))?;
                        ensure!(matches!(status, 201 | 507), "{status}: {reason}");
                        return Ok(if status == 201 { 300_000 } else { 0 });
                    }
                    let put = clinic.sftp(&format!("put {} s{number}\n", file.display()))?;
                    Ok(if put.status.success() { 300_000 } else { 0 })
                })
            })
            .collect();
        uploads
            .into_iter()
            .map(|upload| upload.join().map_err(|_| anyhow::anyhow!("an uploader panicked"))?)
            .sum::<Result<u64>>()
    })?;
    ensure!((300_000..=limit).contains(&taken), "{taken} bytes were taken");
    let listed = clinic.sftp("ls -ln\n")?.text();
    let sum: u64 = listed
        .lines()
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok())
        .sum();
    ensure!(sum >= taken && sum <= limit, "{sum} bytes are there, {taken} were taken: {listed}");
    ensure!(clinic.shown("bytes_used")? == sum, "what is counted is what is there");
    gateway.admin(&["check"])?;
    Ok(())
}

#[test]
fn quota_counts_no_holes_and_gets_back_what_an_abort_held() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &["--bytes-max", "1M"], &[])?;
    let gateway = &clinic.gateway;
    // A file of 8 GiB with one byte in it.
    let mut raw = clinic.raw()?;
    let handle = raw.open(b"/sparse", WRITE_CREATE)?;
    let offset = (8_u64 << 30).to_be_bytes();
    ensure!(raw.ask(kind::WRITE, &[&string(&handle), &offset, &string(b"x")])?.status() == Some(0));
    ensure!(raw.ask(kind::CLOSE, &[&string(&handle)])?.status() == Some(0));
    ensure!(clinic.shown("bytes_used")? == 1);
    let (code, _) = write_over_sftp(&clinic, b"/sparse", &noise(1, 1 << 20))?;
    ensure!(code == 4, "1 MiB into the hole was taken");
    ensure!(clinic.sftp("rm sparse\n")?.status.success());
    let big = clinic.file(2, 1 << 20)?;
    for _ in 0..3 {
        let mut upload = clinic
            .curl()
            .args(["--limit-rate", "20K", "-T"])
            .arg(&big)
            .arg(gateway.url("aborted"))
            .stderr(Stdio::null())
            .spawn()?;
        until("the upload holds its bytes", 30, || Ok(quota_properties(&clinic)?.0 == 0))?;
        ensure!(clinic.put(&clinic.file(3, 1)?, "one")?.0 == 507, "what another upload holds was given away");
        upload.kill()?;
        upload.wait()?;
        until("the bytes are given back", 30, || Ok(quota_properties(&clinic)?.0 == 1 << 20))?;
    }
    ensure!(clinic.put(&big, "whole")?.0 == 201, "after the aborts");
    Ok(())
}

#[test]
fn quota_of_files_holds_for_everything_that_makes_one() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &["--files-max", "4"], &[])?;
    let gateway = &clinic.gateway;
    let file = clinic.file(1, 1000)?;
    let from = file.display();
    ensure!(clinic.put(&file, "one")?.0 == 201);
    ensure!(clinic.sftp(&format!("put {from} two\nmkdir d\nsymlink one l\n"))?.status.success());
    ensure!(clinic.shown("files_used")? == 4);
    for refused in [
        format!("put {from} n\n"),
        "mkdir n\n".to_owned(),
        "symlink one n\n".to_owned(),
        "ln one n\n".to_owned(),
        "cp one n\n".to_owned(),
    ] {
        ensure!(!clinic.sftp(&refused)?.status.success(), "{refused}");
    }
    let (status, reason) = clinic.put(&file, "n")?;
    ensure!(status == 507 && reason.contains("the quota of 4 files of the customer is used up"), "{reason}");
    ensure!(clinic.status("MKCOL", "n")? == 507);
    let mut copy = clinic.curl();
    copy.args(["--output", "/dev/null", "--write-out", "%{http_code}", "-X", "COPY", "-H"]);
    copy.arg(format!("Destination: {}", gateway.url("n"))).arg(gateway.url("one"));
    ensure!(run_ok(&mut copy)?.text() == "507");
    ensure!(clinic.put(&clinic.file(2, 2000)?, "one")?.0 == 204, "an overwrite makes no file");
    ensure!(clinic.sftp("rename one three\nrm l\nmkdir e\n")?.status.success());
    ensure!(!clinic.sftp("mkdir f\n")?.status.success());
    gateway.admin(&["customer", "set", "clinic", "--files-max", "5"])?;
    ensure!(clinic.sftp("mkdir f\n")?.status.success());
    gateway.admin(&["vault", "set", "clinic/v", "--files-max", "5"])?;
    gateway.admin(&["customer", "set", "clinic", "--files-max", "none"])?;
    ensure!(clinic.put(&file, "n")?.1.contains("the quota of 5 files of the vault"));
    Ok(())
}

#[test]
fn quota_of_stored_bytes_counts_history_and_never_refuses_a_deletion() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &[], &["--stored-max", "1M"])?;
    let gateway = &clinic.gateway;
    let file = clinic.file(1, 600_000)?;
    ensure!(clinic.put(&file, "a")?.0 == 201);
    let (status, reason) = clinic.put(&clinic.file(2, 600_000)?, "a")?;
    ensure!(status == 507, "an overwrite keeps what it replaces: {status}");
    ensure!(
        reason
            .contains("the quota of 1048576 stored bytes of the vault, earlier states included, is used up"),
        "{reason}"
    );
    let (code, reason) = write_over_sftp(&clinic, b"/b", &noise(3, 600_000))?;
    ensure!(code == 4 && reason.contains("stored bytes of the vault"), "{reason}");
    gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "1"])?;
    ensure!(clinic.put(&clinic.file(4, 10)?, "c")?.0 == 507, "new content");
    let batch = "rename a z\nchmod 600 z\nmkdir d\nln z d/hard\nrm b\nrm d/hard\nrmdir d\nrm z\n";
    let changed = clinic.sftp(batch)?;
    ensure!(changed.status.success(), "{}", changed.stderr);
    gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "2M"])?;
    ensure!(clinic.put(&file, "a")?.0 == 201);
    gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "1"])?;
    ensure!(clinic.status("DELETE", "a")? == 204);
    ensure!(clinic.shown("bytes_used")? == 0 && clinic.vault_shown("bytes_stored")? >= 600_000);
    Ok(())
}

#[test]
fn quota_is_what_df_and_quota_properties_and_rclone_show() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &["--bytes-max", "64M", "--files-max", "100"], &[])?;
    let gateway = &clinic.gateway;
    ensure!(clinic.put(&clinic.file(1, 4 << 20)?, "four")?.0 == 201);
    let mib = |blocks: u64, bytes: u64| (blocks * bytes) >> 20;
    let mut raw = clinic.raw()?;
    let [block, total, free, files, free_files] = statvfs(&mut raw)?;
    ensure!((mib(total, block), mib(free, block), files, free_files) == (64, 60, 100, 99));
    ensure!(quota_properties(&clinic)? == (60 << 20, 4 << 20));
    // The vault's limits are tighter now.
    gateway.admin(&["vault", "set", "clinic/v", "--bytes-max", "16M", "--files-max", "10"])?;
    let [block, total, free, files, free_files] = statvfs(&mut raw)?;
    ensure!((mib(total, block), mib(free, block), files, free_files) == (16, 12, 10, 9));
    ensure!(quota_properties(&clinic)? == (12 << 20, 4 << 20));
    let df = clinic.sftp("df\ndf -i\n")?.text();
    ensure!(df.contains("16384") && df.contains("12288") && df.contains("25%"), "{df}");
    ensure!(
        df.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().starts_with(&["10", "1", "9"]))
    );
    for protocol in ["sftp", "webdav"] {
        let about = run_ok(clinic.rclone(protocol)?.args(["about", "--json", "coffre:"]))?.text();
        let about: Value = serde_json::from_str(&about)?;
        ensure!(about["free"] == 12 << 20 && about["used"] == 4 << 20, "{protocol}: {about}");
    }
    // What is stored is tighter still; and where nothing limits, the disk does.
    gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "5M"])?;
    let (available, used) = quota_properties(&clinic)?;
    ensure!(available < 1 << 20 && used > 4 << 20 && available + used == 5 << 20, "{available} {used}");
    gateway.admin(&["vault", "set", "clinic/v", "--stored-max", "none", "--bytes-max", "none"])?;
    gateway.admin(&["customer", "set", "clinic", "--bytes-max", "none"])?;
    ensure!(quota_properties(&clinic)?.0 > 64 << 20);
    Ok(())
}

#[test]
fn quota_levels_are_told_once_and_a_restart_tells_nothing_again() -> Result<()> {
    let (data, log) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (data, log) = (data.path().join("data"), log.path().join("server.log"));
    let started = Gateway::start_on(&data, &log)?;
    let mut clinic = Clinic::new(started, &["--bytes-max", "1000"], &["--files-max", "10"])?;
    let level = |limit: &str, percent: u64| (limit.to_owned(), percent);
    let mut told = vec![level("customer-bytes", 80)];
    ensure!(clinic.put(&clinic.file(1, 850)?, "a")?.0 == 201);
    ensure!(clinic.told()? == told);
    for _ in 0..3 {
        ensure!(clinic.put(&clinic.file(2, 400)?, "b")?.0 == 507);
        ensure!(write_over_sftp(&clinic, b"/c", &noise(3, 400))?.0 == 4);
    }
    told.push(level("customer-bytes", 100));
    ensure!(clinic.told()? == told, "{:?}", clinic.told()?);
    clinic.gateway.stop()?;
    clinic.gateway = Gateway::start_on(&data, &log)?;
    ensure!(clinic.put(&clinic.file(2, 400)?, "b")?.0 == 507);
    ensure!(clinic.told()? == told, "a restart told again: {:?}", clinic.told()?);
    ensure!(clinic.status("DELETE", "a")? == 204);
    ensure!(clinic.put(&clinic.file(4, 960)?, "a")?.0 == 201);
    told.push(level("customer-bytes", 95));
    ensure!(clinic.told()? == told, "{:?}", clinic.told()?);
    // Another limit has levels of its own: 8 and 10 of 10 files.
    clinic.gateway.admin(&["customer", "set", "clinic", "--bytes-max", "none"])?;
    for number in 0..8 {
        ensure!(clinic.put(&clinic.file(5, 1)?, &format!("f{number}"))?.0 == 201);
    }
    told.extend([level("vault-files", 80), level("vault-files", 100)]);
    ensure!(clinic.told()? == told, "{:?}", clinic.told()?);
    // A limit that is set below what is used is told of too.
    clinic.gateway.admin(&["customer", "set", "clinic", "--bytes-max", "1200"])?;
    told.push(level("customer-bytes", 80));
    ensure!(clinic.told()? == told, "{:?}", clinic.told()?);
    clinic.gateway.stop()?;
    clinic.gateway = Gateway::start_on(&data, &log)?;
    ensure!(clinic.told()? == told);
    let gateway = &clinic.gateway;
    let all = incidents(gateway, &[])?;
    let second = all[1]["id"].as_u64().context("id")?.to_string();
    ensure!(incidents(gateway, &["--after", &second, "-n", "1"])? == all[2..3], "the one after the second");
    ensure!(incidents(gateway, &["-n", "1"])? == all[all.len() - 1..], "the newest");
    let shown = gateway.admin(&["incidents"])?.text();
    ensure!(shown.contains("the quota of the customer's bytes is used to 80 %"), "{shown}");
    ensure!(shown.contains("clinic/v") && shown.contains("is used up: more is refused"), "{shown}");
    gateway.admin(&["check"])?;
    Ok(())
}

#[test]
fn a_closed_customer_is_out_of_every_protocol_within_a_second_and_back_when_reopened() -> Result<()> {
    let clinic = Clinic::new(Gateway::start()?, &[], &[])?;
    let gateway = &clinic.gateway;
    ensure!(clinic.put(&clinic.file(1, 1000)?, "kept")?.0 == 201);
    let big = clinic.file(2, 32 << 20)?;
    let mut idle = clinic.raw()?;
    let mut writing = clinic.raw()?;
    let handle = writing.open(b"/writing", WRITE_CREATE)?;
    let got = clinic.work.path().join("got");
    ensure!(clinic.put(&big, "big")?.0 == 201);
    let mut download = clinic
        .curl()
        .args(["--limit-rate", "1M", "--output"])
        .arg(&got)
        .arg(gateway.url("big"))
        .stderr(Stdio::null())
        .spawn()?;
    let mut upload = clinic
        .curl()
        .args(["--limit-rate", "1M", "-T"])
        .arg(&big)
        .arg(gateway.url("uploaded"))
        .stderr(Stdio::null())
        .spawn()?;
    until("the download is under way", 30, || {
        Ok(fs::metadata(&got).is_ok_and(|metadata| metadata.len() > 1 << 19))
    })?;
    let written = |writing: &mut RawSftp, at: u64| {
        writing.ask(kind::WRITE, &[&string(&handle), &at.to_be_bytes(), &string(b"x")])
    };
    ensure!(written(&mut writing, 0)?.status() == Some(0));
    let closed = gateway.coffre_json(&["customer", "close", "clinic"])?;
    let started = Instant::now();
    ensure!(!written(&mut writing, 1).is_ok_and(|answer| answer.status() == Some(0)), "a write was taken");
    writing.read_to_end()?;
    idle.read_to_end()?;
    let ended = started.elapsed();
    ensure!(ended < Duration::from_secs(1), "the sessions lived for {ended:?}");
    ensure!(closed["state"] == "closed" && closed["closed"].is_string(), "{closed}");
    ensure!(clinic.status("GET", "kept")? == 401);
    ensure!(clinic.put(&clinic.file(3, 10)?, "new")?.0 == 401);
    ensure!(!clinic.sftp("ls\n")?.status.success(), "a key opens SFTP");
    let mut by_token = gateway.sftp_with_password(USER, &clinic.token);
    ensure!(!run(&mut by_token, b"ls\n")?.status.success(), "a token opens SFTP");
    ensure!(!wait(&mut download, 20)?.success(), "the download went on");
    wait(&mut upload, 20)?;
    let sessions = gateway.coffre_json(&["status"])?;
    ensure!(sessions["sessions"].as_u64().is_some_and(|live| live <= 1), "{sessions}");
    let reopened = gateway.coffre_json(&["customer", "reopen", "clinic"])?;
    ensure!(reopened["state"] == "live" && reopened["closed"].is_null(), "{reopened}");
    ensure!(clinic.status("GET", "kept")? == 200 && clinic.status("GET", "uploaded")? == 404);
    ensure!(clinic.sftp("ls kept\n")?.status.success());
    let tail = gateway.admin(&["--json", "audit", "tail", "-n", "200"])?.text();
    for action in ["customer-close", "customer-reopen"] {
        ensure!(tail.contains(&format!("\"action\":\"{action}\"")), "{action} is not in the audit log");
    }
    Ok(())
}

#[test]
fn limits_are_set_shown_audited_and_kept() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (data, log) = (work.path().join("data"), work.path().join("server.log"));
    let mut gateway = Gateway::start_on(&data, &log)?;
    gateway.admin(&[
        "customer",
        "add",
        "clinic",
        "--users-max",
        "1",
        "--bytes-max",
        "10G",
        "--files-max",
        "1000",
    ])?;
    gateway.admin(&[
        "vault",
        "add",
        "clinic/v",
        "--bytes-max",
        "1G",
        "--files-max",
        "9",
        "--stored-max",
        "2G",
    ])?;
    gateway.admin(&["user", "add", "clinic/ann"])?;
    ensure!(!gateway.coffre(&["user", "add", "clinic/bob"])?.status.success(), "a second user");
    let set = gateway.coffre_json(&[
        "customer",
        "set",
        "clinic",
        "--users-max",
        "2",
        "--files-max",
        "none",
        "--expires",
        "2100-01-01",
    ])?;
    ensure!(set["users_max"] == 2 && set["bytes_max"] == 10_u64 << 30 && set["files_max"].is_null(), "{set}");
    gateway.admin(&["user", "add", "clinic/bob"])?;
    let set =
        gateway.coffre_json(&["vault", "set", "clinic/v", "--files-max", "8", "--bytes-max", "none"])?;
    ensure!(set["files_max"] == 8 && set["bytes_max"].is_null() && set["stored_max"] == 2_u64 << 30, "{set}");
    let customer = gateway.coffre_json(&["customer", "show", "clinic"])?;
    let vault = gateway.coffre_json(&["vault", "show", "clinic/v"])?;
    ensure!(customer["users"] == 2 && customer["vaults"] == serde_json::json!(["clinic/v"]), "{customer}");
    let tail = gateway.admin(&["--json", "audit", "tail", "-n", "50"])?.text();
    for (action, said) in [
        (
            "customer-change",
            "users at most 2, bytes 10737418240, files none, sessions none, bytes a second none, expires 2100-01-01T00:00:00Z",
        ),
        ("vault-change", "bytes at most none, files 8, stored bytes 2147483648"),
    ] {
        let found = tail.lines().any(|line| line.contains(action) && line.contains(said));
        ensure!(found, "{action} with {said} is not in {tail}");
    }
    gateway.stop()?;
    let mut gateway = Gateway::start_on(&data, &log)?;
    ensure!(gateway.coffre_json(&["customer", "show", "clinic"])? == customer);
    ensure!(gateway.coffre_json(&["vault", "show", "clinic/v"])? == vault);
    // The same without a server.
    gateway.stop()?;
    ensure!(gateway.coffre_json(&["vault", "show", "clinic/v"])? == vault);
    gateway.admin(&["customer", "close", "clinic"])?;
    ensure!(gateway.coffre_json(&["customer", "show", "clinic"])?["state"] == "closed");
    Ok(())
}

#[test]
fn limits_of_what_is_not_there_and_limits_that_are_none_are_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    for refused in [
        &["customer", "show", "nobody"][..],
        &["customer", "set", "nobody", "--bytes-max", "1"],
        &["customer", "close", "nobody"],
        &["customer", "reopen", "nobody"],
        &["vault", "set", "demo/w", "--bytes-max", "1"],
        &["incidents", "-n", "1000000"],
    ] {
        ensure!(gateway.coffre(refused)?.status.code() == Some(1), "{refused:?}");
    }
    ensure!(gateway.coffre(&["customer", "set", "demo", "--bytes-max", "much"])?.status.code() == Some(2));
    Ok(())
}
