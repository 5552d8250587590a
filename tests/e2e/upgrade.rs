//! Data directories of earlier releases open in this one with everything that was acknowledged, and go on being used.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256, sha256_of, write_file};
use coffre_tests::fixture::{Fixture, Line, Object, Tree};
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, string};
use coffre_tests::{Gateway, run, run_ok};

/// `SSH_FX_EOF`.
const EOF: u32 = 1;
const NANOS: i64 = 1_000_000_000;
const TYPE_BITS: u32 = 0o170_000;

/// What a listing says of a name.
#[derive(Debug)]
struct Seen {
    kind: u32,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    mtime_secs: i64,
    links: u64,
    target: Option<Vec<u8>>,
}

/// Reads the fields of an answer one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("the answer is short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// A name of a NAME answer with all that version 3 says of it.
    fn entry(&mut self) -> Result<(Vec<u8>, Seen)> {
        let name = self.string()?.to_vec();
        let long = String::from_utf8_lossy(self.string()?).into_owned();
        ensure!(self.u32()? == 0xf, "all attributes are there");
        let size = u64::from_be_bytes(self.take(8)?.try_into()?);
        let owner = (self.u32()?, self.u32()?);
        let (permissions, _, mtime) = (self.u32()?, self.u32()?, self.u32()?);
        let links = long.split_whitespace().nth(1).context("links")?.parse()?;
        let (kind, mode) = (permissions & TYPE_BITS, permissions & !TYPE_BITS);
        Ok((name, Seen { kind, size, mode, owner, mtime_secs: mtime.into(), links, target: None }))
    }
}

fn names(answer: &Answer) -> Result<Vec<(Vec<u8>, Seen)>> {
    ensure!(answer.kind == kind::NAME, "{answer:?}");
    let mut fields = Fields(&answer.body);
    fields.u32()?;
    (0..fields.u32()?).map(|_| fields.entry()).collect()
}

fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Lists everything below `at`, depth first; paths are relative to it.
fn walk(raw: &mut RawSftp, at: &str) -> Result<BTreeMap<Vec<u8>, Seen>> {
    let absolute = |path: &[u8]| string(&[at.trim_end_matches('/').as_bytes(), b"/", path].concat());
    let (mut found, mut pending) = (BTreeMap::new(), vec![Vec::new()]);
    while let Some(directory) = pending.pop() {
        let opened = raw.ask(kind::OPENDIR, &[&absolute(&directory)])?;
        ensure!(opened.kind == kind::HANDLE, "{}: {opened:?}", String::from_utf8_lossy(&directory));
        let handle = string(&opened.string());
        loop {
            let answer = raw.ask(kind::READDIR, &[&handle])?;
            if answer.status() == Some(EOF) {
                break;
            }
            for (name, mut seen) in
                names(&answer)?.into_iter().filter(|(name, _)| name != b"." && name != b"..")
            {
                let path = below(&directory, &name);
                match seen.kind {
                    0o040_000 => pending.push(path.clone()),
                    0o120_000 => {
                        let answer = raw.ask(kind::READLINK, &[&absolute(&path)])?;
                        ensure!(answer.kind == kind::NAME, "{answer:?}");
                        let mut fields = Fields(&answer.body[8..]);
                        seen.target = Some(fields.string()?.to_vec());
                    }
                    _ => {}
                }
                found.insert(path, seen);
            }
        }
        raw.ask(kind::CLOSE, &[&handle])?;
    }
    Ok(found)
}

fn matches(line: &Line, seen: &Seen) -> bool {
    let object = match &line.object {
        Object::Directory => seen.kind == 0o040_000,
        Object::File { size, links, .. } => {
            seen.kind == 0o100_000 && seen.size == *size && seen.links == *links
        }
        Object::Link(target) => seen.kind == 0o120_000 && seen.target.as_ref() == Some(target),
    };
    object
        && line.mode.is_none_or(|mode| mode == seen.mode)
        && line.owner.is_none_or(|owner| owner == seen.owner)
        && line.mtime_ns.is_none_or(|mtime| mtime.div_euclid(NANOS) == seen.mtime_secs)
}

/// Names, kinds, sizes, modes, owners, times, links and targets, as an SFTP client is told them.
fn lists_as_it_was(fixture: &Fixture, gateway: &Gateway, tree: &Tree) -> Result<()> {
    let user = fixture.user(&tree.user)?;
    let options = gateway.ssh_options_with(&user.key.display().to_string());
    let mut seen = walk(&mut RawSftp::start_with(&options, &user.name)?, &tree.at)?;
    for (path, line) in &tree.lines {
        let shown = String::from_utf8_lossy(path);
        let found = seen.remove(path).with_context(|| format!("{}: {shown} is gone", tree.vault))?;
        ensure!(matches(line, &found), "{}: {shown} was {line:?} and is {found:?}", tree.vault);
    }
    // Another vault may be mounted in this one.
    let mounts: Vec<&[u8]> = fixture
        .trees
        .iter()
        .filter(|other| other.user == tree.user && other.at != tree.at)
        .map(|other| other.at.trim_start_matches('/').as_bytes())
        .collect();
    seen.retain(|path, _| {
        !fixture.unpromised.contains(path) && !mounts.iter().any(|mount| path.starts_with(mount))
    });
    ensure!(seen.is_empty(), "{}: {:?} were never there", tree.vault, seen.keys().collect::<Vec<_>>());
    Ok(())
}

/// Every content, read by OpenSSH's sftp.
fn reads_as_it_was(fixture: &Fixture, gateway: &Gateway, tree: &Tree) -> Result<()> {
    let user = fixture.user(&tree.user)?;
    let back = fixture.work().join("back");
    fs::create_dir(&back)?;
    let batch = format!("get -pr {}/. {}\n", tree.at.trim_end_matches('/'), back.display());
    let got = gateway.sftp_as(&user.name, &user.key.display().to_string(), &batch)?;
    ensure!(got.status.success(), "{}: {}", tree.vault, got.stderr);
    for (path, line) in &tree.lines {
        if let Object::File { sha256: wanted, .. } = &line.object {
            let shown = String::from_utf8_lossy(path);
            ensure!(
                sha256(&back.join(OsStr::from_bytes(path)))? == *wanted,
                "{}: {shown} has other content",
                tree.vault
            );
        }
    }
    fs::remove_dir_all(&back)?;
    Ok(())
}

fn encoded(path: &[u8]) -> String {
    path.iter().fold(String::new(), |text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text + char::from(*byte).encode_utf8(&mut [0; 4])
        } else {
            text + &format!("%{byte:02X}")
        }
    })
}

/// Every content of the demo user, and every property, read by curl.
fn serves_as_it_was(gateway: &Gateway, tree: &Tree) -> Result<()> {
    for (path, line) in &tree.lines {
        let url = gateway.url(&encoded(path));
        if let Object::File { sha256, .. } = &line.object {
            let served = run_ok(gateway.curl().arg("--fail").arg(&url))?;
            ensure!(sha256_of(&served.stdout) == *sha256, "{url} has other content");
        }
        let Some((namespace, values)) = &line.properties else { continue };
        let body = format!("<propfind xmlns='DAV:' xmlns:x='{namespace}'><prop>");
        let body =
            values.keys().fold(body, |body, name| body + &format!("<x:{name}/>")) + "</prop></propfind>";
        let mut curl = gateway.curl();
        curl.args(["-X", "PROPFIND", "-H", "Depth: 0", "--data-binary", &body, &url]);
        let answer = run_ok(&mut curl)?.text();
        for (name, value) in values {
            let escaped = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            ensure!(answer.contains(&format!(">{escaped}<")), "{url}: {name} is not {value}: {answer}");
        }
    }
    Ok(())
}

/// All trees, through both protocols.
fn everything_is_there(fixture: &Fixture, gateway: &Gateway) -> Result<()> {
    for tree in &fixture.trees {
        lists_as_it_was(fixture, gateway, tree)?;
        reads_as_it_was(fixture, gateway, tree)?;
        if tree.user == gateway.user {
            serves_as_it_was(gateway, tree)?;
        }
    }
    Ok(())
}

/// Puts a file into each tree and fetches it, or only fetches it.
fn new_files(fixture: &Fixture, gateway: &Gateway, write: bool) -> Result<()> {
    for (number, tree) in fixture.trees.iter().enumerate() {
        let (here, back) = (fixture.work().join("here"), fixture.work().join("fetched"));
        write_file(&here, &noise(number as u64 + 1, 100_000), 1_800_000_000)?;
        let path = format!("{}/written by this release", tree.at.trim_end_matches('/'));
        let put = if write { format!("put -p {} \"{path}\"\n", here.display()) } else { String::new() };
        let user = fixture.user(&tree.user)?;
        let batch = format!("{put}get \"{path}\" {}\n", back.display());
        let done = gateway.sftp_as(&user.name, &user.key.display().to_string(), &batch)?;
        ensure!(done.status.success(), "{}: {}", tree.vault, done.stderr);
        ensure!(sha256(&back)? == sha256(&here)?, "{}: {path}", tree.vault);
        fs::remove_file(&back)?;
    }
    Ok(())
}

/// What was written since is not in the expectation.
fn remove_new_files(fixture: &Fixture, gateway: &Gateway) -> Result<()> {
    for tree in fixture.trees.iter().filter(|tree| tree.at == "/") {
        let user = fixture.user(&tree.user)?;
        let key = user.key.display().to_string();
        let done = gateway.sftp_as(&user.name, &key, "rm \"written by this release\"\n")?;
        ensure!(done.status.success(), "{}", done.stderr);
    }
    Ok(())
}

fn start(fixture: &Fixture) -> Result<Gateway> {
    Gateway::start_on(&fixture.data, &fixture.log())
}

/// Opens, reads, writes, checks, and does it again after a restart.
fn goes_on(release: &str, name: &str) -> Result<()> {
    let fixture = Fixture::unpack(release, name)?;
    let mut gateway = start(&fixture)?;
    everything_is_there(&fixture, &gateway)?;
    new_files(&fixture, &gateway, true)?;
    for command in [&["check", "--read-data"][..], &["audit", "verify"]] {
        gateway.admin(command)?;
    }
    gateway.stop()?;
    gateway.admin(&["check", "--read-data"])?;
    let mut gateway = start(&fixture)?;
    new_files(&fixture, &gateway, false)?;
    remove_new_files(&fixture, &gateway)?;
    gateway.kill()?;
    let mut gateway = start(&fixture)?;
    everything_is_there(&fixture, &gateway)?;
    gateway.stop()?;
    for command in [&["check", "--read-data"][..], &["audit", "verify"]] {
        gateway.admin(command)?;
    }
    Ok(())
}

#[test]
fn a_data_directory_of_the_first_release_opens_with_everything_in_it_and_goes_on() -> Result<()> {
    goes_on("v1", "clean")
}

#[test]
fn what_a_killed_server_of_the_first_release_had_acknowledged_is_there_and_goes_on() -> Result<()> {
    goes_on("v1", "killed")
}

#[test]
fn credentials_of_the_first_release_open_what_they_opened_and_revoked_ones_nothing() -> Result<()> {
    let fixture = Fixture::unpack("v1", "clean")?;
    let gateway = start(&fixture)?;
    let logs_in = |user: &str, key: &Path, batch: &str| -> Result<bool> {
        Ok(gateway.sftp_as(user, &key.display().to_string(), batch)?.status.success())
    };
    let nurse = fixture.user("clinic/nurse")?;
    ensure!(logs_in("nurse", &nurse.key, "ls\n")?, "the key still opens");
    ensure!(
        !logs_in("nurse", nurse.revoked_key.as_ref().context("a key")?, "ls\n")?,
        "the revoked one does not"
    );
    let token = nurse.token.as_ref().context("a token")?;
    let mut curl = gateway.curl_as(&nurse.name, &token.secret);
    curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]);
    let status = run(curl.arg(gateway.url("wards/east")), b"")?.text();
    // As long as it lives it opens. Times of this form sort as text.
    let is_live =
        gateway.coffre_json(&["status"])?["time"].as_str().context("time")? < token.expires.as_str();
    ensure!(status == if is_live { "200" } else { "401" }, "the token was answered with {status}");
    let listed = gateway.admin(&["--json", "credential", "list", &nurse.name])?.text();
    let row = listed
        .lines()
        .find(|line| line.contains(&format!("\"id\":\"{}\"", token.id)))
        .context("the token")?;
    let state = if is_live { "live" } else { "expired" };
    ensure!(row.contains(&format!("\"state\":\"{state}\"")), "{row}");
    // Sees a part of a vault, and only that; changes nothing.
    let auditor = fixture.user("clinic/auditor")?;
    ensure!(logs_in("auditor", &auditor.key, "ls east\n")?, "the subtree is the root");
    ensure!(!logs_in("auditor", &auditor.key, "ls wards\n")?, "what is above it is not seen");
    ensure!(!logs_in("auditor", &auditor.key, "rm east\n")?, "it may only read");
    // Adds to the archive, and removes nothing from it.
    ensure!(!logs_in("nurse", &nurse.key, "rm archive/2019\n")?, "it may only append");
    ensure!(logs_in("nurse", &nurse.key, "ls archive/2019\n")?, "so it is there");
    Ok(())
}
