//! OpenSSH's `sftp` and `scp`.

use std::fs;
use std::process::Command;

use anyhow::Result;
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Names, listing, run, run_ok, sample_tree};

#[test]
fn sftp_puts_and_gets_a_tree_back_byte_for_byte() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    fs::create_dir(&back)?;
    gateway.sftp_batch(&format!("mkdir tree\nput -pr {}/. tree\n", here.display()))?;
    gateway.sftp_batch(&format!("get -pr tree/. {}\n", back.display()))?;
    same_listing("there and back", &listing(&here)?, &listing(&back)?)
}

#[test]
fn sftp_keeps_names_that_are_not_utf8_apart() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::AnyByte)?;
    let back = work.path().join("back");
    fs::create_dir(&back)?;
    gateway.sftp_batch(&format!(
        "mkdir tree\nput -pr {}/. tree\nget -pr tree/. {}\n",
        here.display(),
        back.display()
    ))?;
    same_listing("there and back", &listing(&here)?, &listing(&back)?)
}

#[test]
fn sftp_renames_removes_links_and_tells_space() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let put = format!("put -p {} one\n", file.display());
    gateway.sftp_batch(&format!(
        "{put}rename one two\nsymlink two link\nln two hard\nchmod 640 two\nmkdir d\n"
    ))?;
    let listed = gateway.sftp_batch("ls -ln\ndf -h\n")?.text();
    assert!(listed.contains("two") && listed.contains("link") && listed.contains("hard"), "{listed}");
    assert!(!listed.contains(" one"), "the old name is gone: {listed}");
    assert!(listed.contains("-rw-r-----"), "{listed}");
    assert!(listed.contains("Avail") || listed.contains('%'), "{listed}");
    let through = work.path().join("through");
    gateway.sftp_batch(&format!(
        "get link {}\nrm two\nget hard {}\nrm hard\nrm link\nrmdir d\n",
        through.display(),
        through.display()
    ))?;
    assert_eq!(fs::read(&through)?, b"content");
    assert_eq!(
        gateway.sftp_batch("ls -1\n")?.text().lines().filter(|line| !line.starts_with("sftp>")).count(),
        0
    );
    Ok(())
}

#[test]
fn sftp_says_no_such_file_for_a_missing_name() -> Result<()> {
    let gateway = Gateway::start()?;
    let finished = run(&mut gateway.sftp_command(), b"get missing /dev/null\n")?;
    assert!(!finished.status.success());
    assert!(
        finished.stderr.to_lowercase().contains("not found") || finished.stderr.contains("No such file"),
        "{}",
        finished.stderr
    );
    Ok(())
}

#[test]
fn reput_after_a_cut_connection_completes_the_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("big");
    let content = noise(7, 96 << 20);
    write_file(&file, &content, 1_500_000_000)?;
    // The connection is cut by killing the client while it uploads, slowed so that it is surely under way.
    let mut client = gateway.sftp_command();
    client.args(["-l", "200000"]);
    let mut slow = Command::new("sftp");
    slow.args(gateway.ssh_options())
        .args(["-l", "160000", "-b", "-"])
        .arg(format!("{}@127.0.0.1", gateway.user));
    let script = work.path().join("script");
    fs::write(&script, format!("put {} big\n", file.display()))?;
    let mut child = slow
        .stdin(fs::File::open(&script)?)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    // Wait until some of it has arrived.
    let mut arrived = 0;
    for _ in 0..200 {
        arrived = remote_size(&gateway, "big")?;
        if arrived > 1 << 20 {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    assert!(arrived > 0, "nothing arrived before the cut");
    // What was written stays, and is not whole yet.
    let mut kept = remote_size(&gateway, "big")?;
    for _ in 0..20 {
        let again = remote_size(&gateway, "big")?;
        if again == kept {
            break;
        }
        kept = again;
    }
    assert!(kept > 0 && kept < content.len() as u64, "kept {kept}");
    let back = work.path().join("back");
    gateway.sftp_batch(&format!("reput {} big\nget big {}\n", file.display(), back.display()))?;
    assert_eq!(fs::read(&back)?.len(), content.len());
    assert!(fs::read(&back)? == content, "the completed file differs");
    Ok(())
}

fn remote_size(gateway: &Gateway, name: &str) -> Result<u64> {
    let finished = run(&mut gateway.sftp_command(), format!("ls -ln {name}\n").as_bytes())?;
    let text = finished.text();
    let size = text
        .lines()
        .filter(|line| !line.starts_with("sftp>"))
        .find_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    Ok(size.unwrap_or(0))
}

#[test]
fn scp_copies_both_ways() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, back) = (work.path().join("file"), work.path().join("back"));
    write_file(&file, &noise(9, 10_000_000), 1_500_000_000)?;
    let remote = format!("{}@127.0.0.1:/copied", gateway.user);
    run_ok(Command::new("scp").args(gateway.ssh_options()).arg("-p").arg(&file).arg(&remote))?;
    run_ok(Command::new("scp").args(gateway.ssh_options()).arg("-p").arg(&remote).arg(&back))?;
    assert!(fs::read(&file)? == fs::read(&back)?);
    assert_eq!(fs::metadata(&file)?.modified()?, fs::metadata(&back)?.modified()?);
    Ok(())
}

#[test]
fn a_shell_is_refused_and_says_why() -> Result<()> {
    let gateway = Gateway::start()?;
    let finished = run(
        Command::new("ssh").args(gateway.ssh_options()).arg(format!("{}@127.0.0.1", gateway.user)).arg("id"),
        b"",
    )?;
    assert!(!finished.status.success());
    assert!(finished.text().is_empty(), "{}", finished.text());
    Ok(())
}
