//! Programs that write many files, or one file in their own way: tar, rsync, an editor, df.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, same_listing, sha256, write_file};
use coffre_tests::mount::NO_CACHES;
use coffre_tests::{Gateway, Mount, Names, listing, run_ok, sample_tree};

#[test]
fn tar_packs_and_unpacks_in_a_mount() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::AnyByte)?;
    std::os::unix::fs::symlink("b/c", here.join("a/link"))?;
    let archive = work.path().join("archive.tar");
    run_ok(Command::new("tar").arg("-C").arg(&here).arg("-cf").arg(&archive).arg("."))?;

    let mount = Mount::new(&gateway, &[])?;
    let there = mount.path().join("there");
    fs::create_dir(&there)?;
    run_ok(Command::new("tar").arg("-C").arg(&there).arg("-xf").arg(&archive))?;
    same_listing("unpacked", &listing(&here)?, &listing(&there)?)?;
    mount.unmount()?;

    let mount = Mount::new(&gateway, &[])?;
    let again = mount.path().join("again.tar");
    run_ok(Command::new("tar").arg("-C").arg(mount.path().join("there")).arg("-cf").arg(&again).arg("."))?;
    let back = work.path().join("back");
    fs::create_dir(&back)?;
    run_ok(Command::new("tar").arg("-C").arg(&back).arg("-xf").arg(&again))?;
    same_listing("packed and unpacked", &listing(&here)?, &listing(&back)?)
}

#[test]
fn rsync_brings_changes_into_files_in_place() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let here = work.path().join("here");
    sample_tree(&here, Names::Utf8)?;
    let image = here.join("image");
    let mut content = noise(40, 8 << 20);
    write_file(&image, &content, 1_700_000_000)?;
    let mount = Mount::new(&gateway, &[])?;
    let there = mount.path().join("there");
    let rsync = |mount: &Path| -> Result<String> {
        let mut command = Command::new("rsync");
        command.args([
            "-a",
            "--inplace",
            "--no-whole-file",
            "--delete",
            "--stats",
            "--no-owner",
            "--no-group",
        ]);
        Ok(run_ok(command.arg(format!("{}/", here.display())).arg(mount.join("there")))?.text())
    };
    rsync(mount.path())?;
    same_listing("the first time", &listing(&here)?, &listing(&there)?)?;
    for round in 1..=2 {
        for at in [0, 1 << 20, (5 << 20) + 17, content.len() - 5000] {
            content[at..at + 5000].copy_from_slice(&noise(50 + round, 5000));
        }
        if round == 2 {
            content.truncate(6 << 20);
            fs::remove_dir_all(here.join("many"))?;
        }
        write_file(&image, &content, 1_700_000_000 + round)?;
        let told = rsync(mount.path())?;
        let literal = told.lines().find_map(|line| line.strip_prefix("Literal data: "));
        let literal: u64 =
            literal.and_then(|text| text.split(' ').next()).context("literal")?.replace(',', "").parse()?;
        ensure!(literal < 1 << 20, "only what changed was written: {told}");
        same_listing("after an edit", &listing(&here)?, &listing(&there)?)?;
    }
    mount.unmount()?;
    let mount = Mount::new(&gateway, &[])?;
    same_listing("after a new mount", &listing(&here)?, &listing(&mount.path().join("there"))?)
}

#[test]
fn an_editor_saves_by_renaming_and_never_shows_half_a_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let (mount, other) = (Mount::new(&gateway, &[])?, Mount::new(&gateway, NO_CACHES)?);
    let at = |name: &str| mount.path().join(name);
    fs::write(at("notes.txt"), "version 0")?;
    for round in 1..=10 {
        let text = format!("version {round}").repeat(round);
        // vim with backupcopy=no: the old file becomes the backup, the new one is written and synced, the backup goes.
        let mut swap = fs::OpenOptions::new().write(true).create_new(true).open(at(".notes.txt.swp"))?;
        swap.write_all(b"unsaved")?;
        fs::rename(at("notes.txt"), at("notes.txt~"))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(at("notes.txt"))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::set_permissions(at("notes.txt"), fs::metadata(at("notes.txt~"))?.permissions())?;
        fs::remove_file(at("notes.txt~"))?;
        drop(swap);
        fs::remove_file(at(".notes.txt.swp"))?;
        ensure!(fs::read_to_string(other.path().join("notes.txt"))? == text, "round {round}");

        // What most others do: a temporary file that replaces the old one.
        let newer = format!("{text} and more");
        fs::write(at(".notes.txt.tmp"), &newer)?;
        fs::rename(at(".notes.txt.tmp"), at("notes.txt"))?;
        ensure!(fs::read_to_string(other.path().join("notes.txt"))? == newer, "round {round}, renamed over");
    }
    let names: Vec<_> =
        fs::read_dir(other.path())?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(names == ["notes.txt"], "nothing else is left: {names:?}");
    Ok(())
}

#[test]
fn df_tells_the_room_of_a_mount() -> Result<()> {
    let gateway = Gateway::start_configured(|config| config)?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "1G"])?;
    let mount = Mount::new(&gateway, &[])?;
    let columns = |more: &[&str]| -> Result<Vec<u64>> {
        let told = run_ok(Command::new("df").args(["-P", "-B", "1"]).args(more).arg(mount.path()))?.text();
        let line = told.lines().nth(1).context("a second line")?;
        Ok(line.split_whitespace().skip(1).take(3).map(|column| column.parse().unwrap_or(0)).collect())
    };
    let before = columns(&[])?;
    ensure!(before[0] == 1 << 30, "{before:?}");
    fs::write(mount.path().join("file"), noise(1, 100 << 20))?;
    let after = columns(&[])?;
    let used = after[1] - before[1];
    ensure!(used.abs_diff(100 << 20) <= 1 << 20, "{before:?} {after:?}");
    ensure!(before[2] - after[2] == used, "what is used is not free: {before:?} {after:?}");
    Ok(())
}

#[test]
fn large_files_come_back_whole_through_a_new_mount() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let mount = Mount::new(&gateway, &[])?;
    let sizes = [8_000_000, 8 << 20, (8 << 20) + 1, 65_536 * 1001 + 17];
    for (number, size) in sizes.into_iter().enumerate() {
        let file = work.path().join(number.to_string());
        write_file(&file, &noise(number as u64, size), 1_700_000_000)?;
        run_ok(Command::new("cp").arg("-p").arg(&file).arg(mount.path()))?;
    }
    mount.unmount()?;
    let mount = Mount::new(&gateway, &[])?;
    for number in 0..sizes.len() {
        let name = number.to_string();
        ensure!(sha256(&work.path().join(&name))? == sha256(&mount.path().join(&name))?, "{name}");
    }
    same_listing("sizes and times", &listing(work.path())?, &listing(mount.path())?)
}
