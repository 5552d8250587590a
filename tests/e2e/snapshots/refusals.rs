//! Whatever would change an earlier state is refused, and the refusal is written down.

use anyhow::{Result, ensure};
use coffre_tests::files::write_file;
use coffre_tests::{run, run_ok};

use super::{Once, Times};

/// The reason that every refusal gives.
const REASON: &str = "snapshots are read-only";

#[test]
fn every_change_below_snapshots_is_refused_over_both_protocols_and_written_down() -> Result<()> {
    let once = Once::new()?;
    over_sftp(&once)?;
    over_webdav(&once)?;
    let (gateway, was) = (&once.gateway, once.was);
    let (inside, there) = (was.path("tree"), was.plain_path("tree/zeros"));
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

fn over_sftp(once: &Once) -> Result<()> {
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
    Ok(())
}

fn over_webdav(once: &Once) -> Result<()> {
    let (gateway, was) = (&once.gateway, once.was);
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
    Ok(())
}
