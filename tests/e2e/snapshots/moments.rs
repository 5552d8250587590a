//! Which moments there are, how they are named, and whose they show.

use anyhow::{Result, ensure};
use coffre_tests::files::write_file;
use coffre_tests::moments::Instant;
use coffre_tests::raw_sftp::{RawSftp, kind, string};
use coffre_tests::{Gateway, run_ok};

use super::Once;

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
    for path in ["%2e%2e/%2e%2e/%2e%2e/etc/passwd", "%00", "2026%2F11", "9999-99-99T99-99-99Z/tree"] {
        let status = gateway.curl_status(&["--path-as-is", &gateway.url(&format!(".snapshots/{path}"))])?;
        ensure!(matches!(status, 400 | 404), "{path}: {status}");
    }
    gateway.sftp_batch(&format!("ls {}\n", was.path("tree")))?;
    Ok(())
}

#[test]
fn a_link_that_climbs_ends_at_the_root_of_its_moment() -> Result<()> {
    let once = Once::new()?;
    let gateway = &once.gateway;
    let mut raw = RawSftp::start(gateway)?;
    for target in ["../../../../tree/new", "/tree/new", "/.snapshots"] {
        let (link, later) = ("/tree/climbing", "/tree/new");
        gateway.sftp_batch(&format!("ln -s {target} {link}\n"))?;
        let now = Instant::now();
        gateway.sftp_batch(&format!("rename {later} /away\n"))?;
        let seen = raw.ask(kind::STAT, &[&string(now.path(link).as_bytes())])?;
        let expected = if target == "/.snapshots" { kind::STATUS } else { kind::ATTRS };
        ensure!(seen.kind == expected, "{target}: {seen:?}");
        gateway.sftp_batch(&format!("rename /away {later}\nrm {link}\n"))?;
    }
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
    let first = Instant::now();
    gateway.admin(&["vault", "add", "c/new"])?;
    put(&format!("put {file} d/two\n"))?;
    let second = Instant::now();
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
