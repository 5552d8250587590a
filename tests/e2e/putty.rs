//! PuTTY's `psftp` and `pscp`: writes of 4 KiB, resuming without truncation, and its own order of algorithms.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Finished, Gateway, Names, listing, run_ok, sample_tree};

/// The demo user's key in PuTTY's form, and the host keys as it wants to be told them.
struct Putty<'g> {
    gateway: &'g Gateway,
    home: PathBuf,
    hosts: Vec<String>,
}

impl<'g> Putty<'g> {
    fn new(gateway: &'g Gateway, home: &Path) -> Result<Self> {
        let key = home.join("key.ppk");
        run_ok(Command::new("puttygen").arg(&gateway.key_file).args(["-O", "private", "-o"]).arg(&key))?;
        let told = run_ok(Command::new("ssh-keygen").arg("-lf").arg(&gateway.known_hosts))?.text();
        let hosts = told.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect();
        Ok(Self { gateway, home: home.to_owned(), hosts })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-batch", "-P", self.gateway.sftp_port(), "-i"]).arg(self.home.join("key.ppk"));
        command.args(self.hosts.iter().flat_map(|host| ["-hostkey", host])).env("HOME", &self.home);
        command
    }

    fn psftp(&self, script: &str) -> Result<Finished> {
        let path = self.home.join("script");
        fs::write(&path, script)?;
        let mut command = self.command("psftp");
        run_ok(command.arg("-b").arg(path).arg(format!("{}@127.0.0.1", self.gateway.user)))
    }
}

#[test]
fn what_is_offered_to_an_old_library_is_not_offered_to_others_who_would_take_it() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let putty = Putty::new(&gateway, work.path())?;
    let script = work.path().join("script");
    fs::write(&script, "pwd\n")?;
    let mut psftp = putty.command("psftp");
    let told = run_ok(psftp.arg("-v").arg("-b").arg(script).arg(format!("{}@127.0.0.1", gateway.user)))?;
    let macs: Vec<&str> = told.stderr.lines().filter(|line| line.contains("MAC algorithm")).collect();
    ensure!(macs.len() == 2 && macs.iter().all(|line| line.contains("ETM")), "{macs:?} {}", told.stderr);
    Ok(())
}

#[test]
fn psftp_moves_a_tree_there_and_back() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    // psftp takes names with quotes and newlines from its script only in its own quoting; mput -r takes them as they are.
    let putty = Putty::new(&gateway, work.path())?;
    putty.psftp(&format!("lcd {}\nput -r here there\nget -r there back\n", work.path().display()))?;
    // It sets no times.
    let (mut sent, mut got) = (listing(&here)?, listing(&back)?);
    sent.values_mut().chain(got.values_mut()).for_each(|line| line.1 = 0);
    same_listing("there and back", &sent, &got)
}

#[test]
fn psftp_resumes_where_a_transfer_stopped() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let content = noise(60, 3_000_000);
    let (part, whole) = (work.path().join("part"), work.path().join("whole"));
    write_file(&part, &content[..1_234_567], 1_700_000_000)?;
    write_file(&whole, &content, 1_700_000_000)?;
    write_file(&work.path().join("back"), &content[..7_777], 1_700_000_000)?;
    let putty = Putty::new(&gateway, work.path())?;
    let lcd = format!("lcd {}\n", work.path().display());
    putty.psftp(&format!("{lcd}put part big\nreput whole big\nreget big back\n"))?;
    ensure!(fs::read(work.path().join("back"))? == content, "both ways resumed");
    let listed =
        putty.psftp("mkdir d\nmv big d/moved\nchmod 600 d/moved\nls d\ndel d/moved\nrmdir d\nls\n")?.text();
    ensure!(
        listed.contains("-rw-------") && listed.contains("3000000") && listed.contains("moved"),
        "{listed}"
    );
    Ok(())
}

#[test]
fn pscp_copies_both_ways_and_keeps_times() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (file, back) = (work.path().join("file"), work.path().join("back"));
    write_file(&file, &noise(61, 8 << 20), 1_500_000_000)?;
    let putty = Putty::new(&gateway, work.path())?;
    let remote = format!("{}@127.0.0.1:/copied", gateway.user);
    run_ok(putty.command("pscp").args(["-p", "-q"]).arg(&file).arg(&remote))?;
    run_ok(putty.command("pscp").args(["-p", "-q"]).arg(&remote).arg(&back))?;
    ensure!(fs::read(&file)? == fs::read(&back)?);
    ensure!(fs::metadata(&file)?.modified()? == fs::metadata(&back)?.modified()?);
    Ok(())
}
