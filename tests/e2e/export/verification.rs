//! What verification finds, and what an export of damaged content leaves out.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::Action;
use coffre_storage::id::InodeId;
use coffre_tests::files::noise;
use coffre_tests::run_ok;
use serde_json::Value;

use super::fixture::*;

#[test]
fn damaged_content_is_left_out_and_named_and_everything_else_is_given_back() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.with(|_, vault| {
        put(vault, "small before", b"small")?;
        put(vault, "victim", &noise(5, 20 << 20))?;
        let victim = vault.lookup(InodeId::ROOT, b"victim")?.inode;
        drop(vault.hard_link(victim, InodeId::ROOT, b"victim too", draft(Action::LinkCreate))?);
        put(vault, "small after", b"small too")
    })?;
    let packs = fixture.path("data/store/packs");
    let pack = fs::read_dir(&packs)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.blocks()))
        .context("a pack")?;
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 10 << 20)?;
    file.write_all_at(&[byte[0] ^ 1], 10 << 20)?;
    for format in ["tree", "tar"] {
        let out = fixture.path(format);
        let finished = fixture.export_ended(&out, &["--format", format])?;
        ensure!(finished.status.code() == Some(1), "{}{}", finished.text(), finished.stderr);
        let report: Value = serde_json::from_slice(&finished.stdout)?;
        ensure!(
            report["state"] == "incomplete" && report["not_exported"] == 2 && report["files"] == 2,
            "{report}"
        );
        let reason = report["not_exported_paths"][0]["reason"].as_str().context("a reason")?;
        ensure!(reason.contains("damaged"), "{report}");
        let (good, verified) = verify(&out, &[])?;
        ensure!(good && verified["not_exported"] == 2, "{verified}");
        if format == "tar" {
            run_ok(Command::new("tar").arg("-xf").arg(out.join("export.tar")).current_dir(&out))?;
        }
        ensure!(check_sums(&out)? == 2);
        ensure!(
            fs::read(out.join("files/small after"))? == b"small too" && !out.join("files/victim").exists()
        );
    }
    Ok(())
}

/// What verification says of a path.
fn differences(destination: &Path) -> Result<Vec<String>> {
    let (good, verified) = verify(destination, &[])?;
    let found: Vec<String> = verified["different"]
        .as_array()
        .map(|all| {
            all.iter().map(|one| format!("{}: {}", one["path"], one["what"]).replace('"', "")).collect()
        })
        .unwrap_or_default();
    ensure!(good == found.is_empty() && verified["differences"] == found.len(), "{verified}");
    Ok(found)
}

/// Changes something, looks, and changes it back.
fn with_change(
    destination: &Path,
    (changed, undone): (&dyn Fn() -> Result<()>, &dyn Fn() -> Result<()>),
    expected: &[&str],
) -> Result<()> {
    ensure!(differences(destination)?.is_empty(), "before: {:?}", differences(destination)?);
    changed()?;
    let found = differences(destination)?;
    undone()?;
    let all = expected.iter().all(|wanted| found.iter().any(|found| found.contains(wanted)));
    ensure!(all && found.len() == expected.len(), "{found:?}, not {expected:?}");
    Ok(())
}

/// Flips a byte without changing times; the same again flips it back.
fn flip(path: &Path, at: u64) -> Result<()> {
    let metadata = path.metadata()?;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x20], at)?;
    let times = fs::FileTimes::new().set_accessed(metadata.accessed()?).set_modified(metadata.modified()?);
    Ok(file.set_times(times)?)
}

#[test]
fn verification_finds_a_flipped_byte_a_missing_and_an_extra_file_and_a_changed_manifest() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.fill()?;
    let out = fixture.path("out");
    let report = fixture.export(&out, &[])?;
    let files = out.join("files");
    let (large, aside) = (files.join("deep/large"), fixture.path("aside"));
    let flipped = || flip(&large, 33 << 20);
    with_change(&out, (&flipped, &flipped), &["files/deep/large: its content"])?;
    let above = files.join("deep");
    let touched = |work: &dyn Fn() -> Result<()>| {
        let times = above.metadata()?.modified()?;
        work()?;
        Ok(fs::File::open(&above)?.set_modified(times)?)
    };
    let missing = || touched(&|| Ok(fs::rename(&large, &aside)?));
    let back = || touched(&|| Ok(fs::rename(&aside, &large)?));
    with_change(&out, (&missing, &back), &["files/deep/large: it is missing"])?;
    let extra = above.join("extra");
    let added = || touched(&|| Ok(fs::write(&extra, b"x")?));
    let removed = || touched(&|| Ok(fs::remove_file(&extra)?));
    with_change(&out, (&added, &removed), &["files/deep/extra: it is extra"])?;
    let replaced = || {
        touched(&|| {
            fs::rename(&large, &aside)?;
            Ok(std::os::unix::fs::symlink(&aside, &large)?)
        })
    };
    let restored = || {
        touched(&|| {
            fs::remove_file(&large)?;
            Ok(fs::rename(&aside, &large)?)
        })
    };
    with_change(&out, (&replaced, &restored), &["files/deep/large: it is of another kind"])?;
    let manifest = out.join("manifest.jsonl");
    let text = fs::read_to_string(&manifest)?;
    let changed = || Ok(fs::write(&manifest, text.replace("\"mode\":\"6755\"", "\"mode\":\"6744\""))?);
    let unchanged = || Ok(fs::write(&manifest, &text)?);
    with_change(
        &out,
        (&changed, &unchanged),
        &["manifest.jsonl: it is not the one", "files/set-user-id: its mode"],
    )?;
    let sums = out.join("SHA256SUMS");
    let summed = || flip(&sums, 3);
    with_change(&out, (&summed, &summed), &["SHA256SUMS: it is not the one"])?;
    let signature = out.join("manifest.sig");
    let signed = fs::read_to_string(&signature)?;
    let resigned = || Ok(fs::write(&signature, signed.replace("commit ", "commit 1"))?);
    let original = || Ok(fs::write(&signature, &signed)?);
    with_change(&out, (&resigned, &original), &["manifest.sig: it is not as it was signed"])?;
    let stray = out.join("stray");
    let strayed = || Ok(fs::write(&stray, b"x")?);
    let tidied = || Ok(fs::remove_file(&stray)?);
    with_change(&out, (&strayed, &tidied), &["stray: it is extra"])?;
    // Another gateway's key is another verifier.
    let other = Fixture::new()?;
    let other = other.export(&other.path("out"), &[])?;
    let (good, verified) = verify(&out, &["--verifier", other["verifier"].as_str().context("a verifier")?])?;
    ensure!(!good && verified["differences"] == 1, "{verified}");
    ensure!(verify(&out, &["--verifier", report["verifier"].as_str().context("a verifier")?])?.0);

    Ok(())
}

#[test]
fn verification_finds_any_byte_of_an_archive_that_was_flipped_and_a_wrong_end() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.fill()?;
    let out = fixture.path("tar");
    fixture.export(&out, &["--format", "tar"])?;
    let tar = out.join("export.tar");
    let len = tar.metadata()?.len();
    for at in (0..len).step_by(usize::try_from(len / 40)?).chain([0, 257, 600, len - 1, len - 1025]) {
        flip(&tar, at)?;
        ensure!(differences(&out)?.len() == 1, "byte {at} of {len}: {:?}", differences(&out)?);
        flip(&tar, at)?;
    }
    fs::OpenOptions::new().append(true).open(&tar)?.set_len(len + 512)?;
    ensure!(differences(&out)? == ["export.tar: it does not end where it should"]);
    fs::OpenOptions::new().append(true).open(&tar)?.set_len(len / 2)?;
    ensure!(differences(&out)?.len() > 1);
    Ok(())
}
