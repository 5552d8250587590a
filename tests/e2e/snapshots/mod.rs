//! Earlier states below `/.snapshots`, seen by the programs people have, and changed by none of them.

mod moments;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::moments::Instant;
use coffre_tests::{Gateway, Listing, Names, listing, run_ok, sample_tree};
use tempfile::TempDir;

/// A gateway with a tree that was there once, and is not any more.
struct Once {
    gateway: Gateway,
    work: TempDir,
    was: Instant,
    tree: Listing,
}

impl Once {
    fn new() -> Result<Self> {
        let gateway = Gateway::start()?;
        let work = tempfile::tempdir()?;
        let here = work.path().join("here");
        sample_tree(&here, Names::Utf8)?;
        gateway.sftp_batch(&format!(
            "mkdir tree\nput -pr {}/. tree\nmkdir links\nsymlink /tree/chunk links/absolute\n\
             symlink ../tree/a/b/../b/c links/relative\n",
            here.display()
        ))?;
        let (was, tree) = (Instant::now(), listing(&here)?);
        let other = work.path().join("other");
        write_file(&other, b"other", 1_700_000_000)?;
        let other = other.display();
        gateway.sftp_batch(&format!(
            "put {other} tree/chunk\nput {other} tree/medium.bin\nrm tree/empty\nrename tree/many tree/few\n\
             rename tree/a tree/few/a\nchmod 600 tree/zeros\nput {other} tree/new\n"
        ))?;
        Ok(Self { gateway, work, was, tree })
    }

    fn back(&self, name: &str) -> Result<PathBuf> {
        let back = self.work.path().join(name);
        fs::create_dir(&back)?;
        Ok(back)
    }

    /// Compares what a client brought.
    fn same(&self, what: &str, back: &Path, times: Times) -> Result<()> {
        let (mut expected, mut got) = (self.tree.clone(), listing(back)?);
        if times == Times::Lost {
            expected.values_mut().chain(got.values_mut()).for_each(|line| line.1 = 0);
        }
        same_listing(what, &expected, &got)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Kept,
    /// Plain WebDAV does not carry them.
    Lost,
}

#[test]
fn sftp_and_scp_get_a_tree_as_it_was() -> Result<()> {
    let once = Once::new()?;
    let (gateway, was) = (&once.gateway, once.was);
    let back = once.back("sftp")?;
    gateway.sftp_batch(&format!("get -pr {}/. {}\n", was.path("tree"), back.display()))?;
    once.same("sftp", &back, Times::Kept)?;
    let through = once.work.path().join("through");
    gateway.sftp_batch(&format!("get {} {}\n", was.path("links/absolute"), through.display()))?;
    ensure!(fs::read(through)? == noise(1, 65_536), "an absolute link leaves its moment");
    let back = once.back("scp")?;
    let remote = format!("{}@127.0.0.1:{}", gateway.user, was.plain_path("tree"));
    run_ok(Command::new("scp").args(gateway.ssh_options()).arg("-pr").arg(&remote).arg(&back))?;
    once.same("scp", &back.join("tree"), Times::Kept)?;
    let listed = gateway.sftp_batch(&format!("ls -ln {}\n", was.path("tree")))?.text();
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).map(str::to_owned);
    let zeros = line("/zeros").with_context(|| listed.clone())?;
    ensure!(zeros.starts_with("-rw-r--r--") && zeros.contains("1500000"), "{zeros}");
    ensure!(line("/many").is_some() && line("/few").is_none() && line("/new").is_none(), "{listed}");
    Ok(())
}

#[test]
fn snapshots_are_listed_where_they_are_asked_for_and_nowhere_else() -> Result<()> {
    let once = Once::new()?;
    let gateway = &once.gateway;
    gateway.admin(&["vault", "snapshot", "demo/demo", "before-move", "--keep", "1d"])?;
    let root = gateway.sftp_batch("ls -la /\n")?.text();
    ensure!(!root.contains(".snapshots") && root.contains("tree"), "{root}");
    let listed = gateway.sftp_batch("ls -l /.snapshots\n")?.text();
    ensure!(listed.contains("before-move"), "{listed}");
    let find = |path: &str, depth: &str| {
        let mut curl = gateway.curl();
        curl.args(["--fail", "-X", "PROPFIND", "-H", &format!("Depth: {depth}")]).arg(gateway.url(path));
        Ok::<_, anyhow::Error>(run_ok(&mut curl)?.text())
    };
    ensure!(!find("", "1")?.contains("snapshots"), "PROPFIND of the root");
    ensure!(find(".snapshots", "1")?.contains("/.snapshots/before-move/"), "PROPFIND of .snapshots");
    ensure!(find(".snapshots/before-move", "0")?.contains("<D:collection/>"));
    let found = find(&once.was.plain_path("tree"), "1")?;
    for name in ["medium.bin", "many/", "Dossier%20m%C3%A9dical/", "zeros"] {
        ensure!(found.contains(&format!("tree/{name}</D:href>")), "{name} in {found}");
    }
    ensure!(!found.contains("/new</D:href>") && !found.contains("/few/"), "{found}");
    ensure!(found.contains("<D:getcontentlength>3000001</D:getcontentlength>"), "{found}");
    let page = run_ok(gateway.curl().arg("--fail").arg(gateway.url(".snapshots/")))?.text();
    ensure!(page.contains("before-move"), "{page}");
    Ok(())
}

#[test]
fn rclone_copies_and_checks_a_tree_as_it_was_over_both_protocols() -> Result<()> {
    let once = Once::new()?;
    let rclones: [(&str, Command, Command, String); 2] = [
        ("sftp", once.gateway.rclone_sftp(), once.gateway.rclone_sftp(), once.was.path("tree")),
        ("webdav", once.gateway.rclone_webdav()?, once.gateway.rclone_webdav()?, once.was.plain_path("tree")),
    ];
    for (protocol, mut copy, mut check, path) in rclones {
        let back = once.back(protocol)?;
        let remote = format!("coffre:{path}");
        run_ok(
            copy.args(["copy", "--exclude", "/absolute", "--exclude", "/relative/**", &remote]).arg(&back),
        )?;
        let times = if protocol == "sftp" { Times::Kept } else { Times::Lost };
        once.same(protocol, &back, times)?;
        let here = once.work.path().join("here");
        run_ok(check.args(["check", "--download"]).arg(&here).arg(&remote))?;
    }
    Ok(())
}

#[test]
fn curl_reads_ranges_of_a_file_as_it_was() -> Result<()> {
    let once = Once::new()?;
    let (gateway, content) = (&once.gateway, noise(2, 3_000_001));
    for url in [once.was.path("tree/medium.bin"), once.was.plain_path("tree/medium.bin")] {
        let url = gateway.url(&url);
        ensure!(run_ok(gateway.curl().arg("--fail").arg(&url))?.stdout == content, "the whole");
        for (range, part) in [("0-0", &content[..1]), ("1000000-1999999", &content[1_000_000..2_000_000])] {
            ensure!(run_ok(gateway.curl().args(["--range", range, &url]))?.stdout == part, "range {range}");
        }
        ensure!(gateway.curl_status(&["--range", "4000000-", &url])? == 416);
        let head = run_ok(gateway.curl().args(["--head", &url]))?.text().to_lowercase();
        ensure!(head.contains("content-length: 3000001"), "{head}");
    }
    // The link leads to what its target was then.
    let through = gateway.url(&once.was.plain_path("links/absolute"));
    ensure!(run_ok(gateway.curl().arg("--fail").arg(&through))?.stdout == noise(1, 65_536));
    let missing = gateway.url(&once.was.plain_path("tree/new"));
    ensure!(gateway.curl_status(&[&missing])? == 404, "what came later");
    Ok(())
}

#[test]
fn paramiko_reads_and_lists_and_every_write_of_it_is_refused() -> Result<()> {
    let once = Once::new()?;
    run_ok(
        Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/snapshots/client.py"))
            .args([once.gateway.sftp_port(), &once.gateway.user])
            .arg(&once.gateway.key_file)
            .arg(once.was.path("tree")),
    )?;
    Ok(())
}

#[test]
fn sshfs_mounts_a_moment_and_cannot_write_to_it() -> Result<()> {
    let once = Once::new()?;
    let mount = once.back("mount")?;
    let (gateway, was) = (&once.gateway, once.was);
    let mut sshfs = Command::new("sshfs");
    let mut options = gateway.ssh_options().into_iter();
    while let (Some(flag), Some(value)) = (options.next(), options.next()) {
        match flag.as_str() {
            "-i" => drop(sshfs.arg("-o").arg(format!("IdentityFile={value}"))),
            _ => drop(sshfs.arg(flag).arg(value)),
        }
    }
    // Newer versions of sshfs refuse links out of the mount by themselves: let the server follow them.
    sshfs.args(["-o", "follow_symlinks"]);
    sshfs.arg(format!("{}@127.0.0.1:{}", gateway.user, was.path(""))).arg(&mount);
    run_ok(&mut sshfs)?;
    let mounted = Mounted(mount.clone());
    once.same("mounted", &mount.join("tree"), Times::Kept)?;
    ensure!(
        fs::read(mount.join("links/absolute"))? == noise(1, 65_536),
        "an absolute link leaves its moment"
    );
    ensure!(fs::read(mount.join("links/relative/d/e/f/g/deep.txt"))? == b"deep");
    let tree = mount.join("tree");
    for outcome in [
        fs::write(tree.join("zeros"), b"x"),
        fs::write(tree.join("fresh"), b"x"),
        fs::create_dir(tree.join("directory")),
        fs::remove_file(tree.join("zeros")),
        fs::remove_dir_all(tree.join("many")),
        fs::rename(tree.join("zeros"), tree.join("ones")),
        fs::hard_link(tree.join("zeros"), tree.join("ones")),
        std::os::unix::fs::symlink("zeros", tree.join("ones")),
        fs::set_permissions(tree.join("zeros"), std::os::unix::fs::PermissionsExt::from_mode(0o600)),
    ] {
        ensure!(outcome.is_err(), "a write through the mount succeeded");
    }
    ensure!(fs::metadata(tree.join("zeros"))?.len() == 1_500_000);
    drop(mounted);
    Ok(())
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("fusermount3").arg("-uz").arg(&self.0).status());
    }
}

#[test]
fn what_was_is_copied_back_within_the_server_over_both_protocols() -> Result<()> {
    let once = Once::new()?;
    let (gateway, was) = (&once.gateway, once.was);
    gateway.sftp_batch(&format!("cp {} /chunk-again\n", was.path("tree/chunk")))?;
    ensure!(run_ok(gateway.curl().arg("--fail").arg(gateway.url("chunk-again")))?.stdout == noise(1, 65_536));
    let to = format!("Destination: {}", gateway.url("tree-again"));
    let from = gateway.url(&was.plain_path("tree"));
    ensure!(gateway.curl_status(&["-X", "COPY", "-H", &to, &from])? == 201);
    let back = once.back("back")?;
    gateway.sftp_batch(&format!("get -pr tree-again/. {}\n", back.display()))?;
    once.same("copied", &back, Times::Kept)?;
    // Over what is there.
    let to = format!("Destination: {}", gateway.url("tree/medium.bin"));
    let from = gateway.url(&was.plain_path("tree/medium.bin"));
    ensure!(gateway.curl_status(&["-X", "COPY", "-H", &to, &from])? == 204);
    let medium = run_ok(gateway.curl().arg("--fail").arg(gateway.url("tree/medium.bin")))?.stdout;
    ensure!(medium == noise(2, 3_000_001));
    Ok(())
}
