//! Earlier states below `/.snapshots`, seen by the programs people have, and changed by none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::moments::Instant;
use coffre_tests::raw_sftp::{RawSftp, kind, string};
use coffre_tests::{Gateway, Listing, Names, listing, run, run_ok, sample_tree};
use tempfile::TempDir;

/// The reason that every refusal gives.
const REASON: &str = "snapshots are read-only";

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
        let (was, tree) = (Instant::now()?, listing(&here)?);
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
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/snapshots_client.py"))
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
        fs::set_permissions(
            tree.join("zeros"),
            fs::Permissions::from(std::os::unix::fs::PermissionsExt::from_mode(0o600)),
        ),
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
fn every_change_below_snapshots_is_refused_over_both_protocols_and_written_down() -> Result<()> {
    let once = Once::new()?;
    let (gateway, was) = (&once.gateway, once.was);
    let file = once.work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let (file, moment, inside) = (file.display().to_string(), was.path(""), was.path("tree"));
    let mut refusals = 0;
    for change in [
        format!("put {file} {inside}/zeros"),
        format!("put {file} {inside}/fresh"),
        format!("put {file} {moment}fresh"),
        format!("reput {file} {inside}/chunk"),
        format!("rm {inside}/zeros"),
        format!("rmdir {inside}/many"),
        format!("mkdir {inside}/fresh"),
        format!("mkdir {moment}.snapshots"),
        format!("rename {inside}/zeros {inside}/ones"),
        format!("rename {inside}/zeros /ones"),
        format!("rename /tree/new {inside}/ones"),
        format!("rename /tree/new {inside}/zeros"),
        format!("chmod 600 {inside}/zeros"),
        format!("ln {inside}/zeros /ones"),
        format!("ln /tree/new {inside}/ones"),
        format!("ln -s zeros {inside}/ones"),
        format!("cp /tree/new {inside}/ones"),
        "mkdir /.snapshots".to_owned(),
        "rmdir /.snapshots".to_owned(),
        "rm /.snapshots".to_owned(),
        "mkdir /.snapshots/fresh".to_owned(),
        format!("put {file} /.snapshots"),
        format!("put {file} /.snapshots/fresh"),
        "rename /.snapshots /renamed".to_owned(),
        "rename /tree/new /.snapshots".to_owned(),
        "rename /tree /.snapshots".to_owned(),
        "ln -s tree /.snapshots".to_owned(),
        "chmod 700 /.snapshots".to_owned(),
    ] {
        let finished = run(&mut gateway.sftp_command(), format!("{change}\n").as_bytes())?;
        ensure!(!finished.status.success(), "sftp {change}");
        refusals += usize::from(finished.stderr.contains("Permission denied"));
    }
    ensure!(refusals >= 24, "{refusals} were refused for want of permission");
    let lock = "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>";
    let patch = "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><x xmlns='y'>z</x></D:prop></D:set></D:propertyupdate>";
    let there = was.plain_path("tree/zeros");
    let beside = |path: &str| format!("Destination: {}", gateway.url(path));
    let (out, into) = (beside("moved"), beside(&was.plain_path("tree/ones")));
    let over = beside(&there);
    for (method, path, more) in [
        ("PUT", there.as_str(), vec!["--data-binary", "x"]),
        ("PUT", &was.plain_path("tree/fresh"), vec!["--data-binary", "x"]),
        ("PUT", "/.snapshots", vec!["--data-binary", "x"]),
        ("DELETE", &there, vec![]),
        ("DELETE", "/.snapshots", vec![]),
        ("DELETE", &was.plain_path(""), vec![]),
        ("MKCOL", &was.plain_path("tree/fresh"), vec![]),
        ("MKCOL", "/.snapshots", vec![]),
        ("MKCOL", "/.snapshots/fresh", vec![]),
        ("MOVE", &there, vec!["-H", &out]),
        ("MOVE", "/tree/new", vec!["-H", &into]),
        ("MOVE", "/tree/new", vec!["-H", &over]),
        ("COPY", "/tree/new", vec!["-H", &into]),
        ("COPY", "/tree/new", vec!["-H", &over]),
        ("PROPPATCH", &there, vec!["--data-binary", patch]),
        ("LOCK", &there, vec!["--data-binary", lock]),
        ("LOCK", "/.snapshots", vec!["--data-binary", lock]),
        ("LOCK", &was.plain_path("tree/fresh"), vec!["--data-binary", lock]),
    ] {
        let mut curl = gateway.curl();
        curl.args(["--write-out", "%{http_code}", "-X", method]).args(&more).arg(gateway.url(path));
        let said = run_ok(&mut curl)?.text();
        ensure!(said.contains(REASON) && said.ends_with("403"), "{method} {path} {more:?}: {said}");
    }
    let back = once.back("after")?;
    gateway.sftp_batch(&format!("get -pr {inside}/. {}\n", back.display()))?;
    once.same("after all that", &back, Times::Kept)?;
    let records = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    for (action, path) in [
        ("file-open", format!("{inside}/zeros")),
        ("remove", format!("{inside}/zeros")),
        ("directory-create", "/.snapshots".to_owned()),
        ("rename", "/.snapshots".to_owned()),
        ("attributes-set", format!("{inside}/zeros")),
        ("link-create", format!("{inside}/zeros")),
        ("file-write", there.clone()),
        ("properties-set", there.clone()),
        ("lock-set", there.clone()),
        ("copy", was.plain_path("tree/ones")),
    ] {
        let found = records
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .any(|record| {
                record["action"] == action
                    && record["outcome"] == "refused"
                    && record["reason"] == REASON
                    && record["details"]["path"] == path.as_str()
            });
        ensure!(found, "no refusal of {action} on {path}");
    }
    // A read is written down with its moment.
    let read = records.lines().any(|line| line.contains("file-read") && line.contains(&was.name()));
    ensure!(read, "no read of {}", was.name());
    Ok(())
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

#[test]
fn no_spelling_of_a_moment_leads_anywhere_else() -> Result<()> {
    let once = Once::new()?;
    let (gateway, was) = (&once.gateway, once.was);
    let mut raw = RawSftp::start(gateway)?;
    let no_such_file = |path: &[u8]| -> Result<()> {
        let mut raw = RawSftp::start(gateway)?;
        for asked in [kind::STAT, kind::LSTAT, kind::OPENDIR] {
            let answer = raw.ask(asked, &[&string(path)])?;
            ensure!(answer.status() == Some(2), "{}: {answer:?}", path.escape_ascii());
        }
        Ok(())
    };
    for name in [
        "9999-99-99",
        "9999-99-99T99:99:99Z",
        "9999-12-31T23:59:59Z",
        "-2026-11-22T10:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:60Z",
        "2016-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "2026-11-22T10:00:60Z",
        "2026-11-22T10:00:00",
        "2262-04-12T00:00:00Z",
        "1677-09-21T00:00:00Z",
        "2200-01-01T00:00:00+23:59",
        "nothing-of-that-name",
        "\u{ff12}026",
        "2026-11-22T10:00:00.99999999999999999999999999999999999999999999999999999999999999999999999999Z",
        "*",
        "%00",
    ] {
        no_such_file(format!("/.snapshots/{name}").as_bytes())?;
        no_such_file(format!("/.snapshots/{name}/tree").as_bytes())?;
    }
    for path in
        [was.path(".snapshots"), was.path(&format!(".snapshots/{}", was.name())), was.path("no/where")]
    {
        no_such_file(path.as_bytes())?;
    }
    no_such_file(format!("/.snapshots/.snapshots/{}/tree", was.name()).as_bytes())?;
    no_such_file(format!("/tree/.snapshots/{}", was.name()).as_bytes())?;
    no_such_file(b"/.snapshots/\xff\xfe/\xff")?;
    // What is no path at all.
    for path in [
        &b"/.snapshots/a\0b"[..],
        &[b"/.snapshots/", &[b'2'; 256][..]].concat(),
        &[b"/.snapshots/", &b"2026/".repeat(1000)[..]].concat(),
        b"/.snapshots/../../x",
    ] {
        let answer = raw.ask(kind::STAT, &[&string(path)])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{}: {answer:?}", path.escape_ascii());
    }
    // Climbing inside a path ends at the root of the present, as everywhere.
    let up = format!("{}/../../../tree/new", was.path("tree"));
    ensure!(raw.ask(kind::STAT, &[&string(up.as_bytes())])?.kind == kind::ATTRS);
    // Climbing through a link ends at the root of the moment.
    for target in ["../../../../tree/new", "/tree/new", "/.snapshots"] {
        let (link, later) = ("/tree/climbing", "/tree/new");
        gateway.sftp_batch(&format!("ln -s {target} {link}\n"))?;
        let now = Instant::now()?;
        gateway.sftp_batch(&format!("rename {later} /away\n"))?;
        let seen = raw.ask(kind::STAT, &[&string(now.path(link).as_bytes())])?;
        let expected = if target == "/.snapshots" { kind::STATUS } else { kind::ATTRS };
        ensure!(seen.kind == expected, "{target}: {seen:?}");
        gateway.sftp_batch(&format!("rename /away {later}\nrm {link}\n"))?;
    }
    for path in ["%2e%2e/%2e%2e/%2e%2e/etc/passwd", "%00", "2026%2F11", "9999-99-99T99-99-99Z/tree"] {
        let status = gateway.curl_status(&["--path-as-is", &gateway.url(&format!(".snapshots/{path}"))])?;
        ensure!(matches!(status, 400 | 404), "{path}: {status}");
    }
    gateway.sftp_batch(&format!("ls {}\n", was.path("tree")))?;
    Ok(())
}

#[test]
fn a_moment_shows_the_mounts_of_today_with_the_vaults_of_then() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let file = file.display().to_string();
    gateway.admin(&["customer", "add", "c"])?;
    gateway.admin(&["vault", "add", "c/old"])?;
    gateway.admin(&["user", "add", "c/all", "--mount", "/=old"])?;
    let all = gateway.add_key("c/all", work.path(), "all", &[])?.secret;
    let put = |batch: &str| -> Result<()> {
        let finished = gateway.sftp_as("all", &all, batch)?;
        ensure!(finished.status.success(), "{}", finished.stderr);
        Ok(())
    };
    put(&format!("mkdir d\nput {file} d/one\nput {file} hidden\n"))?;
    let first = Instant::now()?;
    gateway.admin(&["vault", "add", "c/new"])?;
    put(&format!("put {file} d/two\n"))?;
    let second = Instant::now()?;
    put("rm d/one\nrm d/two\n")?;
    let mounts = ["--mount", "/of/d=old:d,read-only", "--mount", "/of/new=new"];
    gateway.admin(&[&["user", "add", "c/part"], &mounts[..]].concat())?;
    let part = gateway.add_key("c/part", work.path(), "part", &[])?.secret;
    let list = |path: &str| -> Result<String> {
        let finished = gateway.sftp_as("part", &part, &format!("ls -1 {path}\n"))?;
        ensure!(finished.status.success(), "{path}: {}", finished.stderr);
        let names = finished.text();
        let names = names
            .lines()
            .filter(|line| !line.starts_with("sftp>"))
            .map(|line| line.trim_end().rsplit('/').next().unwrap_or_default().to_owned());
        Ok(names.collect::<Vec<_>>().join(" "))
    };
    ensure!(list(&first.path(""))? == "of", "the root of then");
    ensure!(list(&first.path("of"))? == "d", "a vault that was not there: {}", list(&first.path("of"))?);
    ensure!(list(&first.path("of/d"))? == "one");
    ensure!(list(&second.path("of"))? == "d new");
    ensure!(list(&second.path("of/d"))? == "one two");
    for path in [first.path("hidden"), first.path("of/new"), first.path("d"), first.path("of/d/../../hidden")]
    {
        let finished = gateway.sftp_as("part", &part, &format!("ls {path}\n"))?;
        ensure!(!finished.status.success(), "{path}: {}", finished.text());
    }
    // Named after a moment of one vault; the other one is shown at the same time.
    gateway.admin(&["vault", "snapshot", "c/old", "here"])?;
    ensure!(list("/.snapshots")?.contains("here"));
    ensure!(list("/.snapshots/here/of")? == "d new");
    let refused = gateway.coffre(&["user", "add", "c/other", "--mount", "/.snapshots/x=old"])?;
    ensure!(!refused.status.success() && refused.stderr.contains("snapshots"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn named_snapshots_are_made_listed_and_let_go_after_a_grace_time() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"before", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} f\n", file.display()))?;
    let made = gateway.coffre_json(&["vault", "snapshot", "demo/demo", "month-end"])?;
    ensure!(made["name"] == "month-end" && made["expires"].is_null(), "{made}");
    write_file(&file, b"after", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} f\n", file.display()))?;
    let seen = |gateway: &Gateway| -> Result<Vec<u8>> {
        let url = gateway.url(".snapshots/month-end/f");
        Ok(run_ok(gateway.curl().arg("--fail").arg(url))?.stdout)
    };
    ensure!(seen(&gateway)? == b"before");
    for (name, reason) in
        [("month-end", "exists"), ("2026-report", "not a snapshot's name"), (".x", "not a snapshot's name")]
    {
        let refused = gateway.coffre(&["vault", "snapshot", "demo/demo", name])?;
        ensure!(!refused.status.success() && refused.stderr.contains(reason), "{name}: {}", refused.stderr);
    }
    let refused = gateway.coffre(&["vault", "snapshot", "demo/demo", "missing", "--delete"])?;
    ensure!(!refused.status.success() && refused.stderr.contains("no snapshot"), "{}", refused.stderr);
    // Without a server too.
    gateway.stop()?;
    let kept = gateway.coffre_json(&["vault", "snapshot", "demo/demo", "week", "--keep", "7d"])?;
    ensure!(kept["expires"].is_string(), "{kept}");
    let gone = gateway.coffre_json(&["vault", "snapshot", "demo/demo", "month-end", "--delete"])?;
    ensure!(gone["name"] == "month-end" && gone["expires"].is_string(), "{gone}");
    let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
    again.keep_directory_of(gateway);
    ensure!(seen(&again)? == b"before", "a deleted snapshot stays for its grace time");
    let listed = again.admin(&["--json", "vault", "snapshots", "demo/demo"])?.text();
    ensure!(listed.contains("month-end") && listed.contains("week"), "{listed}");
    let records = again.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    for action in ["snapshot-add", "snapshot-delete"] {
        ensure!(records.contains(&format!("\"action\":\"{action}\"")), "no record of {action}");
    }
    Ok(())
}
