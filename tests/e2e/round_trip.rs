//! Real files go in over one protocol and come back over each, with their content and times.

use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{Names, noise, same_listing, sample_tree, sha256, write_file};
use coffre_tests::{Gateway, Listing, listing, run_ok};

/// Files taken from the system's own documentation.
const DOCUMENTS_MAX: usize = 1500;
/// Size of the large file.
const LARGE_BYTES: u64 = 2 << 30;

/// A tree as a real machine has it: its documentation, and everything that makes names and sizes hard.
fn real_tree(root: &Path) -> Result<()> {
    sample_tree(root, Names::AnyByte)?;
    let mut taken = 0;
    for entry in walkdir::WalkDir::new("/usr/share/doc").sort_by_file_name() {
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_file() {
            continue;
        }
        let to = root.join("doc").join(entry.path().strip_prefix("/usr/share/doc")?);
        fs::create_dir_all(to.parent().context("parent")?)?;
        fs::copy(entry.path(), &to)?;
        let times = FileTimes::new().set_modified(entry.metadata()?.modified()?);
        File::options().write(true).open(&to)?.set_times(times)?;
        taken += 1;
        if taken == DOCUMENTS_MAX {
            break;
        }
    }
    ensure!(taken > 50, "this system has documentation");
    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(200 << 20)?;
    sparse.write_all_at(b"island", 123 << 20)?;
    drop(sparse);
    write_file(&root.join("year 1970"), b"old", 1)?;
    Ok(())
}

/// 2 GiB: islands of noise in zeros, so that it costs the disk a tenth of that.
fn large_file(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(LARGE_BYTES)?;
    for island in 0..16 {
        file.write_all_at(&noise(island + 1, 12 << 20), island * (LARGE_BYTES / 16) + island * 4097)?;
    }
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_234_567_890)))?;
    Ok(())
}

fn encoded(name: &[u8]) -> String {
    name.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else if write!(text, "%{byte:02X}").is_err() {
            text.clear();
        }
        text
    })
}

/// A curl configuration: one transfer after the other, eight at a time; local names are numbers, so that curl's own
/// quoting is not what is tested.
fn curl_all(gateway: &Gateway, work: &Path, transfers: &[String]) -> Result<()> {
    let common = format!(
        "silent\nshow-error\nfail\ncacert = \"{}\"\nuser = \"{}:{}\"\n",
        gateway.ca_file.display(),
        gateway.user,
        gateway.token
    );
    for (number, part) in transfers.chunks(500).enumerate() {
        let config = work.join(format!("curl-{number}"));
        let stanzas: Vec<String> = part.iter().map(|transfer| format!("{common}{transfer}")).collect();
        fs::write(&config, stanzas.join("next\n"))?;
        run_ok(Command::new("curl").args(["--parallel", "--parallel-max", "8", "--config"]).arg(&config))?;
    }
    Ok(())
}

#[derive(Default)]
struct Entries {
    directories: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
}

fn entries(root: &Path) -> Result<Entries> {
    let mut found = Entries::default();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let name = entry.path().strip_prefix(root)?.as_os_str().as_bytes().to_vec();
        if entry.file_type().is_dir() { found.directories.push(name) } else { found.files.push(name) }
    }
    Ok(found)
}

fn under(root: &Path, name: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(name))
}

/// Uploads a tree over WebDAV, with its times.
fn dav_upload(gateway: &Gateway, work: &Path, here: &Path, to: &str) -> Result<()> {
    let Entries { directories, files } = entries(here)?;
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url(to)])? == 201);
    for directory in directories {
        let url = gateway.url(&format!("{to}/{}", encoded(&directory)));
        ensure!(gateway.curl_status(&["-X", "MKCOL", &url])? == 201, "{url}");
    }
    let staging = work.join("staging");
    fs::create_dir_all(&staging)?;
    let mut transfers = Vec::new();
    for (number, name) in files.iter().enumerate() {
        let local = staging.join(number.to_string());
        fs::hard_link(under(here, name), &local)?;
        let mtime = fs::metadata(&local)?.mtime();
        let url = gateway.url(&format!("{to}/{}", encoded(name)));
        transfers.push(format!(
            "upload-file = \"{}\"\nurl = \"{url}\"\nheader = \"X-OC-Mtime: {mtime}\"\noutput = \"/dev/null\"\n",
            local.display()
        ));
    }
    curl_all(gateway, work, &transfers)?;
    fs::remove_dir_all(&staging)?;
    Ok(())
}

/// Downloads what `like` lists over WebDAV; times by Last-Modified.
fn dav_listing(gateway: &Gateway, work: &Path, from: &str, like: &Listing) -> Result<Listing> {
    let staging = work.join("fetched");
    fs::create_dir_all(&staging)?;
    let files: Vec<&Vec<u8>> =
        like.iter().filter(|(_, line)| line.0 != "dir").map(|(name, _)| name).collect();
    let transfers: Vec<String> = files
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let url = gateway.url(&format!("{from}/{}", encoded(name)));
            format!(
                "url = \"{url}\"\noutput = \"{}\"\nremote-time\n",
                staging.join(number.to_string()).display()
            )
        })
        .collect();
    curl_all(gateway, work, &transfers)?;
    let mut found: Listing = like
        .iter()
        .filter(|(_, line)| line.0 == "dir")
        .map(|(name, line)| (name.clone(), line.clone()))
        .collect();
    for (number, name) in files.into_iter().enumerate() {
        let local = staging.join(number.to_string());
        // curl makes no file for an empty body without one to write.
        if !local.exists() {
            found.insert(name.clone(), ("no file came".to_owned(), 0));
            continue;
        }
        found.insert(name.clone(), (sha256(&local)?, fs::metadata(&local)?.mtime()));
    }
    fs::remove_dir_all(&staging)?;
    Ok(found)
}

#[test]
fn a_real_tree_comes_back_over_each_protocol_and_across_them() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    real_tree(&here)?;
    let sent = listing(&here)?;
    gateway.sftp_batch(&format!("mkdir by-sftp\nput -pr {}/. by-sftp\n", here.display()))?;
    dav_upload(&gateway, work.path(), &here, "by-dav")?;
    let log = gateway.log.clone();
    for pass in ["at once", "after a restart"] {
        for tree in ["by-sftp", "by-dav"] {
            let back = work.path().join("back");
            fs::create_dir(&back)?;
            gateway.sftp_batch(&format!("get -pr {tree}/. {}\n", back.display()))?;
            same_listing(&format!("{tree}, read by sftp, {pass}"), &sent, &listing(&back)?)?;
            fs::remove_dir_all(&back)?;
            let fetched = dav_listing(&gateway, work.path(), tree, &sent)?;
            same_listing(&format!("{tree}, read by WebDAV, {pass}"), &sent, &fetched)?;
        }
        if pass == "at once" {
            gateway.stop()?;
            let again = Gateway::start_on(&gateway.data, &log)?;
            // The first keeps the directory; both end with the test.
            let first = std::mem::replace(&mut gateway, again);
            gateway.keep_directory_of(first);
        }
    }
    Ok(())
}

#[test]
fn a_file_of_2_gib_comes_back_over_each_protocol_and_across_them() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (large, back) = (work.path().join("large"), work.path().join("back"));
    large_file(&large)?;
    let hash = sha256(&large)?;
    gateway.sftp_batch(&format!("put -p {} by-sftp\n", large.display()))?;
    let header = "X-OC-Mtime: 1234567890";
    ensure!(
        gateway.curl_status(&["-T", &large.display().to_string(), "-H", header, &gateway.url("by-dav")])?
            == 201
    );
    for name in ["by-sftp", "by-dav"] {
        gateway.sftp_batch(&format!("get -p {name} {}\n", back.display()))?;
        ensure!(sha256(&back)? == hash, "{name} read by sftp differs");
        ensure!(fs::metadata(&back)?.mtime() == 1_234_567_890, "{name}: mtime by sftp");
        fs::remove_file(&back)?;
        run_ok(
            gateway.curl().args(["--fail", "--remote-time", "--output"]).arg(&back).arg(gateway.url(name)),
        )?;
        ensure!(sha256(&back)? == hash, "{name} read by WebDAV differs");
        ensure!(fs::metadata(&back)?.mtime() == 1_234_567_890, "{name}: mtime by WebDAV");
        fs::remove_file(&back)?;
    }
    Ok(())
}

#[test]
fn an_upload_of_one_protocol_replaces_the_others_and_is_seen_by_both() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, back) = (work.path().join("file"), work.path().join("back"));
    let url = gateway.url("shared");
    for (turn, len) in [(1_u64, 300_000), (2, 10), (3, 70_000), (4, 0), (5, 2_000_000)] {
        let content = noise(turn, len);
        write_file(&file, &content, 1_500_000_000 + turn)?;
        if turn % 2 == 0 {
            gateway.sftp_batch(&format!("put {} shared\n", file.display()))?;
        } else {
            ensure!(matches!(gateway.curl_status(&["-T", &file.display().to_string(), &url])?, 201 | 204));
        }
        gateway.sftp_batch(&format!("get shared {}\n", back.display()))?;
        ensure!(fs::read(&back)? == content, "turn {turn} by sftp");
        ensure!(run_ok(gateway.curl().arg("--fail").arg(&url))?.stdout == content, "turn {turn} by WebDAV");
    }
    Ok(())
}
