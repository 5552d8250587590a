//! A drop box takes files and shows nothing of what others put there.

use std::fs;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Names, listing, run, run_ok, sample_tree};

use super::Narrow;

#[test]
fn a_drop_box_takes_files_and_shows_nothing_of_others_over_sftp() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, own) = (work.path().join("file"), work.path().join("own"));
    write_file(&file, b"of somebody else", 1_500_000_000)?;
    write_file(&own, &noise(3, 700_000), 1_600_000_000)?;
    gateway.sftp_batch(&format!(
        "mkdir inbox\nput {} inbox/secret-name\nmkdir inbox/below\nln -s inbox/secret-name link\n",
        file.display()
    ))?;
    gateway.admin(&["vault", "snapshot", "demo/demo", "kept"])?;
    let narrow = Narrow::new(&gateway, work.path(), "drop-box")?;
    let sftp = |batch: &str| gateway.sftp_as(&gateway.user, &narrow.key, batch);

    let put =
        sftp(&format!("cd inbox\nput -p {} mine\nput {} below/mine\nls -l\n", own.display(), own.display()))?;
    ensure!(put.status.success(), "{}{}", put.text(), put.stderr);
    let text = put.text();
    let listed: Vec<&str> = text.lines().filter(|line| !line.starts_with("sftp>")).collect();
    ensure!(listed.len() == 1 && listed[0].ends_with(" mine"), "only what it made itself: {listed:?}");

    let got = work.path().join("got");
    for refused in [
        format!("get inbox/secret-name {}", got.display()),
        format!("get inbox/mine {}", got.display()),
        format!("get link {}", got.display()),
        format!("put {} inbox/secret-name", own.display()),
        "rm inbox/secret-name".to_owned(),
        "rm inbox/mine".to_owned(),
        "rmdir inbox/below".to_owned(),
        "chmod 600 inbox/secret-name".to_owned(),
        "rename inbox/secret-name inbox/moved".to_owned(),
        "rename inbox/mine inbox/secret-name".to_owned(),
        "ln inbox/secret-name inbox/second".to_owned(),
        "ls -l inbox/secret-name".to_owned(),
        format!("get /.snapshots/kept/inbox/secret-name {}", got.display()),
    ] {
        let finished = sftp(&format!("{refused}\n"))?;
        ensure!(!finished.status.success(), "{refused}: {}", finished.text());
        ensure!(fs::metadata(&got).map_or(true, |got| !got.is_file()), "{refused}");
    }
    let then = sftp("ls /.snapshots/kept/inbox\n")?.text();
    ensure!(!then.contains("secret-name"), "{then}");
    // A name that somebody else's file has, and one that nothing has: the same words.
    for verb in ["ls -l", "rm", "chmod 600"] {
        let words = |name: &str| -> Result<String> {
            Ok(sftp(&format!("{verb} inbox/{name}\n"))?.stderr.replace(name, "NAME"))
        };
        ensure!(words("secret-name")? == words("other-name")?, "{verb}: {}", words("secret-name")?);
    }
    let back = work.path().join("back");
    gateway.sftp_batch(&format!(
        "get inbox/mine {}\nget inbox/secret-name {}\n",
        back.display(),
        got.display()
    ))?;
    ensure!(fs::read(&back)? == fs::read(&own)?, "what was dropped is there, whole");
    ensure!(fs::read(&got)? == b"of somebody else", "what was there is as it was");
    Ok(())
}

#[test]
fn rclone_fills_a_drop_box_over_both_protocols_and_verifies_what_it_sent() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    gateway.sftp_batch("mkdir inbox\n")?;
    let narrow = Narrow::new(&gateway, work.path(), "drop-box")?;
    run_ok(narrow.rclone_sftp(&gateway).arg("copy").arg(&here).arg("coffre:inbox/by-sftp"))?;
    run_ok(narrow.rclone_webdav(&gateway)?.arg("copy").arg(&here).arg("coffre:inbox/by-webdav"))?;
    // Another of the same rights sees nothing of it.
    let other = Narrow::new(
        &gateway,
        &{
            fs::create_dir(work.path().join("o"))?;
            work.path().join("o")
        },
        "drop-box",
    )?;
    let seen = run(other.rclone_sftp(&gateway).args(["lsf", "-R", "coffre:inbox"]), b"")?;
    ensure!(seen.text().trim().is_empty(), "{}", seen.text());
    let seen = run(other.rclone_webdav(&gateway)?.args(["lsf", "-R", "coffre:inbox"]), b"")?;
    ensure!(seen.text().trim().is_empty(), "{}", seen.text());
    run_ok(gateway.rclone_sftp().args(["copy", "coffre:inbox/by-sftp"]).arg(&back))?;
    same_listing("by SFTP", &listing(&here)?, &listing(&back)?)?;
    run_ok(gateway.rclone_sftp().arg("check").arg(&here).args(["coffre:inbox/by-webdav", "--download"]))?;
    Ok(())
}

#[test]
fn a_drop_box_shows_nothing_of_others_over_webdav() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let from = file.display().to_string();
    gateway.sftp_batch(&format!("mkdir inbox\nput {from} inbox/secret-name\n"))?;
    let narrow = Narrow::new(&gateway, work.path(), "drop-box")?;
    let url = |path: &str| gateway.url(path);
    let status = |arguments: &[&str]| narrow.status(&gateway, arguments);
    ensure!(status(&["-T", &from, &url("inbox/mine")])? == 201);
    let listed =
        run_ok(narrow.curl(&gateway).args(["-X", "PROPFIND", "-H", "Depth: 1", &url("inbox")]))?.text();
    ensure!(listed.contains("mine") && !listed.contains("secret-name"), "{listed}");
    let page = run_ok(narrow.curl(&gateway).arg(url("inbox/")))?.text();
    ensure!(page.contains("mine") && !page.contains("secret-name"), "{page}");
    let depth = ["-X", "PROPFIND", "-H", "Depth: 0"];
    for name in ["secret-name", "nothing-there"] {
        let at = url(&format!("inbox/{name}"));
        ensure!(status(&[&at])? == 404, "GET {name}");
        ensure!(status(&["--head", &at])? == 404, "HEAD {name}");
        ensure!(status(&[&depth[..], &[&at]].concat())? == 404, "PROPFIND {name}");
        ensure!(status(&["-X", "DELETE", &at])? == 404, "DELETE {name}");
        let to = format!("Destination: {}", url("inbox/stolen"));
        ensure!(status(&["-X", "MOVE", "-H", &to, &at])? == 404, "MOVE {name}");
        ensure!(status(&["-X", "COPY", "-H", &to, &at])? == 404, "COPY {name}");
    }
    ensure!(status(&["-T", &from, &url("inbox/secret-name")])? == 403, "a name that is taken");
    ensure!(status(&[&url("inbox/mine")])? == 403, "not even one's own is read back");
    ensure!(status(&[&depth[..], &[&url("inbox/mine")]].concat())? == 207, "one's own is seen");
    Ok(())
}

#[test]
fn rights_of_mount_and_credential_meet_and_the_narrower_wins() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} there\n", file.display()))?;
    for (at, (of_mount, of_credential, may_read, may_create)) in [
        ("read-only", "read-write", true, false),
        ("read-write", "read-only", true, false),
        ("drop-box", "append-only", false, true),
        ("append-only", "drop-box", false, true),
        ("read-only", "drop-box", false, false),
        ("drop-box", "read-only", false, false),
        ("append-only", "append-only", true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("demo/meets-{at}");
        gateway.admin(&["user", "add", &user, "--mount", &format!("/=demo,{of_mount}")])?;
        let key =
            gateway.add_key(&user, work.path(), &format!("key-{at}"), &["--rights", of_credential])?.secret;
        let user = format!("meets-{at}");
        let got = work.path().join(format!("got-{at}"));
        let read = gateway.sftp_as(&user, &key, &format!("get there {}\n", got.display()))?;
        ensure!(read.status.success() == may_read, "{of_mount} and {of_credential}: {}", read.stderr);
        let put = gateway.sftp_as(&user, &key, &format!("put {} new-{at}\n", file.display()))?;
        ensure!(put.status.success() == may_create, "{of_mount} and {of_credential}: {}", put.stderr);
        let removed = gateway.sftp_as(&user, &key, "rm there\n")?;
        ensure!(!removed.status.success(), "{of_mount} and {of_credential}");
    }
    Ok(())
}
