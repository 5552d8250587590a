//! Exports that stop in the middle and go on, and those that may not begin.

use std::fs;
use std::io::BufRead;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use coffre_tests::files::sha256;
use coffre_tests::gateway::binary;
use coffre_tests::{run, until};
use serde_json::Value;

use super::fixture::*;

/// Begins an export and kills it after the next step that it made durable, and once more.
fn kill_twice(fixture: &Fixture, destination: &Path, format: &str) -> Result<()> {
    for time in ["once", "twice"] {
        let before = lines(destination);
        let mut command = fixture.command(&["export", "c/v"])?;
        command.arg(destination).args(["--format", format]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        until("a step", 120, || Ok(lines(destination) > before || child.try_wait()?.is_some()))?;
        child.kill()?;
        ensure!(!child.wait()?.success(), "{format}: the export ended before it could be killed {time}");
    }
    Ok(())
}

/// The path of a file with one name that a manifest tells of.
fn one_file(manifest: &[u8]) -> Result<String> {
    for line in manifest.lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if let Some(path) = line["path"].as_str().filter(|path| path.ends_with("/file 7")) {
            return Ok(path.to_owned());
        }
    }
    anyhow::bail!("the first step has one of eight files of that name")
}

#[test]
fn a_killed_export_goes_on_where_it_stopped_and_ends_as_one_that_was_not() -> Result<()> {
    let fixture = Fixture::new()?;
    many(&fixture)?;
    for format in ["tree", "tar"] {
        let (whole, killed) =
            (fixture.path(&format!("{format} whole")), fixture.path(&format!("{format} killed")));
        fixture.export(&whole, &["--format", format])?;
        kill_twice(&fixture, &killed, format)?;
        ensure!(lines(&killed) > 1024 && lines(&killed) < lines(&whole), "{} lines", lines(&killed));
        let unfinished = run(Command::new(binary()?).args(["export", "--verify"]).arg(&killed), b"")?;
        ensure!(
            !unfinished.status.success() && unfinished.stderr.contains("interrupted"),
            "{}",
            unfinished.stderr
        );
        for other in [
            &["--format", if format == "tar" { "tree" } else { "tar" }][..],
            &["--format", format, "--at", "2999-01-01"],
        ] {
            let refused = fixture.export_ended(&killed, other)?;
            ensure!(refused.stderr.contains("holds an interrupted export of c/v"), "{}", refused.stderr);
        }
        let first = fs::read(killed.join("manifest.jsonl"))?;
        let finished = killed.join(one_file(&first)?);
        let before =
            finished.symlink_metadata().map(|found| (found.ino(), found.ctime(), found.ctime_nsec()));
        // A torn line at the end is no line.
        fs::OpenOptions::new()
            .append(true)
            .open(killed.join("manifest.jsonl"))?
            .write_all_at(b"{\"path\":\"fi", first.len() as u64)?;
        let report = fixture.export(&killed, &["--format", format])?;
        ensure!(report["not_exported"] == 0, "{report}");
        if format == "tree" {
            let after = finished.symlink_metadata()?;
            ensure!(
                before? == (after.ino(), after.ctime(), after.ctime_nsec()),
                "what was finished was written again"
            );
            same("continued", &seen(&whole.join("files"))?, &seen(&killed.join("files"))?)?;
        } else {
            ensure!(sha256(&killed.join("export.tar"))? == sha256(&whole.join("export.tar"))?);
        }
        for name in ["manifest.jsonl", "SHA256SUMS"] {
            ensure!(fs::read(killed.join(name))? == fs::read(whole.join(name))?, "{format}: {name}");
        }
        ensure!(!killed.join("export.state").exists());
        let (good, verified) = verify(&killed, &[])?;
        ensure!(good, "{verified}");
    }
    Ok(())
}

/// Runs in a mount namespace of its own: a disk of `$1`, an export, more room, the same export, the sums.
const SMALL_DISK: &str = r#"
set -u
mkdir -p "$3" && mount -t tmpfs -o size="$1" tmpfs "$3" || exit 90
"$4" --data "$5" export c/v "$3/out" --format "$6" && exit 91
echo "first run: $?"
mount -o remount,size="$2" "$3" || exit 92
"$4" --data "$5" export c/v "$3/out" --format "$6" || exit 93
"$4" export --verify "$3/out" || exit 94
cd "$3/out" && { [ "$6" = tree ] || tar --no-same-owner -xf export.tar 2>&1; } && sha256sum --quiet -c SHA256SUMS && echo all good
"#;

#[test]
fn a_full_disk_is_told_and_the_export_goes_on_when_it_has_grown() -> Result<()> {
    let fixture = Fixture::new()?;
    many(&fixture)?;
    let program = fixture.path("small-disk");
    fs::write(&program, SMALL_DISK)?;
    for format in ["tree", "tar"] {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh"]).arg(&program).args(["60m", "400m"]);
        command.arg(fixture.path("small")).arg(binary()?).arg(fixture.path("data")).arg(format);
        let finished = run(&mut command, b"")?;
        let said = format!("{}{}", finished.text(), finished.stderr);
        ensure!(
            finished.status.success() && said.contains("all good"),
            "{format}: {}\n{said}",
            finished.status
        );
        ensure!(said.contains("first run: 1") && said.contains("no room left"), "{format}: {said}");
    }
    Ok(())
}

#[test]
fn a_destination_that_is_in_use_or_not_empty_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let out = fixture.path("out");
    fs::create_dir(&out)?;
    fs::write(out.join("something"), b"x")?;
    let refused = fixture.export_ended(&out, &[])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("not empty"), "{}", refused.stderr);
    ensure!(fs::read_dir(&out)?.count() == 1, "nothing was written");
    let refused = fixture.export_ended(&fixture.path("absent/too"), &[])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("absent"), "{}", refused.stderr);
    let empty = fixture.path("empty");
    fs::create_dir(&empty)?;
    let held = fs::File::open(&empty)?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)?;
    let refused = fixture.export_ended(&empty, &[])?;
    ensure!(refused.stderr.contains("under way"), "{}", refused.stderr);
    drop(held);
    fixture.export(&empty, &[])?;
    let unknown = run(fixture.command(&["export", "c/none"])?.arg(fixture.path("x")), b"")?;
    ensure!(unknown.status.code() == Some(1) && unknown.stderr.contains("no vault"), "{}", unknown.stderr);
    Ok(())
}
