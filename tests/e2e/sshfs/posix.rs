//! What programs expect of a disk one call at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::mount::NO_CACHES;
use coffre_tests::{Gateway, Mount};

#[test]
fn a_file_that_was_made_read_only_is_written_through_its_handle() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let path = mount.path().join("object");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path)?;
    file.write_all(&noise(1, 300_000))?;
    file.sync_all()?;
    file.write_all(b"and on")?;
    drop(file);
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o7777 == 0o444);
    let content = fs::read(&path)?;
    ensure!(content[..300_000] == noise(1, 300_000) && content[300_000..] == *b"and on");
    Ok(())
}

#[test]
fn a_file_that_is_removed_while_open_is_read_and_written_on() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, &[])?;
    let path = mount.path().join("going");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    file.write_all(b"before ")?;
    fs::remove_file(&path)?;
    ensure!(!path.exists(), "the name is gone");
    file.write_all(b"after")?;
    file.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    ensure!(text == "before after", "{text}");
    // The name is free for another.
    fs::write(&path, "another")?;
    drop(file);
    ensure!(fs::read_to_string(&path)? == "another");
    fs::remove_file(&path)?;
    mount.unmount()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let left: Vec<_> =
        fs::read_dir(mount.path())?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(left.is_empty(), "left {left:?}");
    Ok(())
}

#[test]
fn appending_adds_at_the_end_whatever_was_read_before() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let path = mount.path().join("log");
    fs::write(&path, "one\n")?;
    let mut log = OpenOptions::new().read(true).append(true).open(&path)?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    ensure!(text == "one\n");
    log.seek(SeekFrom::Start(0))?;
    log.write_all(b"two\n")?;
    OpenOptions::new().append(true).open(&path)?.write_all(b"three\n")?;
    log.write_all(b"four\n")?;
    drop(log);
    ensure!(fs::read_to_string(&path)? == "one\ntwo\nthree\nfour\n", "{}", fs::read_to_string(&path)?);
    Ok(())
}

#[test]
fn hard_and_symbolic_links_lead_to_one_content() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let at = |name: &str| mount.path().join(name);
    fs::create_dir(at("directory"))?;
    fs::write(at("file"), "first")?;
    fs::hard_link(at("file"), at("directory/hard"))?;
    // Debian's sshfs refuses targets that are absolute or climb (CVE-2026-47187): one that goes down.
    symlink("directory/hard", at("soft"))?;
    symlink("nowhere", at("dangling"))?;
    fs::write(at("directory/hard"), "second")?;
    ensure!(fs::read_to_string(at("file"))? == "second");
    ensure!(fs::read_to_string(at("soft"))? == "second");
    OpenOptions::new().append(true).open(at("soft"))?.write_all(b" and third")?;
    ensure!(fs::read_to_string(at("directory/hard"))? == "second and third");
    fs::remove_file(at("file"))?;
    ensure!(fs::read_to_string(at("directory/hard"))? == "second and third");
    fs::rename(at("directory/hard"), at("directory/moved"))?;
    ensure!(fs::metadata(at("soft")).is_err(), "its target is gone");
    ensure!(fs::symlink_metadata(at("dangling"))?.is_symlink());
    ensure!(fs::read_link(at("dangling"))?.as_os_str() == "nowhere");
    ensure!(fs::hard_link(at("directory/moved"), at("dangling")).is_err(), "a name that is taken");
    Ok(())
}

#[test]
fn holes_truncation_and_writing_past_the_end_read_as_zeros() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let path = mount.path().join("sparse");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    file.write_all_at(b"end", 5 << 30)?;
    ensure!(file.metadata()?.len() == (5 << 30) + 3);
    let mut piece = [1; 4096];
    file.read_exact_at(&mut piece, (5 << 30) - 4096)?;
    ensure!(piece == [0; 4096], "a hole");
    file.set_len(10)?;
    file.write_all_at(b"x", 20)?;
    drop(file);
    ensure!(fs::read(&path)? == [&[0_u8; 20][..], b"x"].concat());
    Ok(())
}

#[test]
fn errors_are_those_of_a_disk() -> Result<()> {
    use std::io::ErrorKind;
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let at = |name: &str| mount.path().join(name);
    fs::create_dir_all(at("full/inner"))?;
    fs::write(at("file"), "x")?;
    let kind = |result: std::io::Result<()>| result.err().map(|error| error.kind());
    ensure!(kind(File::open(at("missing")).map(drop)) == Some(ErrorKind::NotFound));
    ensure!(kind(fs::create_dir(at("missing/inner"))) == Some(ErrorKind::NotFound));
    ensure!(kind(fs::remove_file(at("missing"))) == Some(ErrorKind::NotFound));
    ensure!(kind(fs::create_dir(at("full"))) == Some(ErrorKind::AlreadyExists));
    ensure!(kind(File::create_new(at("file")).map(drop)) == Some(ErrorKind::AlreadyExists));
    ensure!(kind(fs::remove_dir(at("full"))).is_some(), "a directory that is not empty stays");
    ensure!(at("full/inner").is_dir());
    ensure!(kind(fs::rename(at("full"), at("full/inner/deeper"))).is_some(), "not into itself");
    ensure!(kind(fs::write(at("n".repeat(256).as_str()), "x")).is_some(), "a name that is too long");
    ensure!(fs::metadata(at("full"))?.is_dir() && fs::metadata(at("file"))?.size() == 1);
    Ok(())
}

#[test]
fn times_and_permissions_are_what_was_set() -> Result<()> {
    let gateway = Gateway::start()?;
    let mount = Mount::new(&gateway, NO_CACHES)?;
    let path = mount.path().join("file");
    fs::write(&path, "x")?;
    let file = OpenOptions::new().write(true).open(&path)?;
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    file.set_times(fs::FileTimes::new().set_modified(moment).set_accessed(moment))?;
    drop(file);
    for mode in [0o600, 0o755, 0o444, 0o4711, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        ensure!(fs::metadata(&path)?.permissions().mode() & 0o7777 == mode, "{mode:o}");
    }
    ensure!(fs::metadata(&path)?.modified()? == moment, "chmod does not touch it");
    fs::write(&path, "y")?;
    ensure!(fs::metadata(&path)?.modified()? > moment, "writing does");
    Ok(())
}
