//! Programs that lock what they edit: cadaver, davfs2, git.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::exerciser::Exerciser;
use coffre_tests::{Gateway, run, run_ok, until};
use tempfile::TempDir;

use super::dav::{User, lockinfo, with};

/// Operations of the exerciser: each is a request to the kernel, few are one to the server.
const OPERATIONS: usize = 400;

/// A command that takes root's rights, which mounting davfs2 does.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    }
}

fn private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// A directory for the login that programs look up by host.
fn home(gateway: &Gateway) -> Result<TempDir> {
    let home = TempDir::new()?;
    let login = format!("machine 127.0.0.1 login {} password {}\n", gateway.user, gateway.token);
    private(&home.path().join(".netrc"), &login)?;
    Ok(home)
}

/// A gateway mounted with davfs2, which keeps no file longer than its program does.
struct Davfs(TempDir);

impl Davfs {
    fn new(gateway: &Gateway) -> Result<Self> {
        let at = TempDir::new()?;
        let path = |name: &str| at.path().join(name);
        // It gives up root's rights before it reads the certificate.
        fs::set_permissions(at.path(), fs::Permissions::from_mode(0o755))?;
        fs::copy(&gateway.ca_file, path("ca.pem"))?;
        fs::set_permissions(path("ca.pem"), fs::Permissions::from_mode(0o644))?;
        fs::create_dir(path("mounted"))?;
        private(&path("secrets"), &format!("{} {} {}\n", gateway.webdav, gateway.user, gateway.token))?;
        let (ca, secrets) = (path("ca.pem").display().to_string(), path("secrets").display().to_string());
        private(
            &path("conf"),
            &format!(
                "use_locks 1\nask_auth 0\ntrust_ca_cert {ca}\nsecrets {secrets}\ndelay_upload 0\n\
                 gui_optimize 0\nfile_refresh 0\ndir_refresh 1\n"
            ),
        )?;
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let options = format!("conf={},uid={uid},gid={gid}", path("conf").display());
        let mut mount = as_root("mount.davfs");
        run_ok(mount.arg(&gateway.webdav).arg(path("mounted")).args(["-o", &options]))?;
        Ok(Self(at))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("mounted").join(name)
    }

    /// Lets it go when all was sent.
    fn unmount(self) -> Result<()> {
        run_ok(as_root("umount").arg(self.path(""))).context("unmounting")?;
        Ok(())
    }
}

impl Drop for Davfs {
    fn drop(&mut self) {
        // An error says that it is unmounted.
        drop(run(as_root("umount").args(["-l", "-q"]).arg(self.path("")), b""));
    }
}

#[test]
fn davfs2_passes_the_file_system_exerciser_and_edits_under_locks() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    let mounted = Davfs::new(&gateway)?;
    let exercised = Exerciser::new(mounted.path("exercised"), 7)?.run(OPERATIONS)?;
    // An office suite: a lock file beside it, the new text under another name, which then takes the old one's place.
    fs::write(mounted.path("letter.odt"), "first")?;
    fs::write(mounted.path(".~lock.letter.odt#"), "somebody")?;
    ensure!(fs::read_to_string(mounted.path("letter.odt"))? == "first");
    fs::write(mounted.path("letter.tmp"), "second")?;
    fs::rename(mounted.path("letter.tmp"), mounted.path("letter.odt"))?;
    fs::remove_file(mounted.path(".~lock.letter.odt#"))?;
    // Open for writing it is locked; nobody else changes it.
    let mut open = fs::OpenOptions::new().append(true).open(mounted.path("letter.odt"))?;
    open.write_all(b", and more")?;
    user.put("letter.odt", &[], "by somebody else")?.expect(423)?;
    user.send("LOCK", "letter.odt", &[], &lockinfo("exclusive"))?.expect(423)?;
    drop(open);
    until("what was written is there", 30, || Ok(user.get("letter.odt")? == "second, and more"))?;
    until("the lock is given back", 30, || Ok(user.put("letter.odt", &[], "free again")?.status == 204))?;
    // The other way round: what somebody else has locked is not written over.
    let token = user.lock("letter.odt", "0")?;
    let written = fs::write(mounted.path("letter.odt"), "over the lock");
    ensure!(user.get("letter.odt")? == "free again", "{written:?}");
    user.put("letter.odt", &[&with(&token)], "the holder's")?.expect(204)?;
    user.send("UNLOCK", "letter.odt", &[&format!("Lock-Token: {token}")], "")?.expect(204)?;
    mounted.unmount()?;
    let stored = run_ok(gateway.curl().arg("--fail").arg(gateway.url("exercised")))?.stdout;
    ensure!(stored == exercised, "{} bytes are stored, {} were written", stored.len(), exercised.len());
    user.send("GET", ".~lock.letter.odt%23", &[], "")?.expect(404)?;
    ensure!(gateway.coffre(&["vault", "locks", "demo/demo"])?.text().trim().is_empty());
    Ok(())
}

fn git(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).args(arguments).env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "somebody")
            .env(format!("GIT_{who}_EMAIL"), "somebody@example");
    }
    command
}

/// A repository with some commits.
fn repository(at: &Path) -> Result<()> {
    fs::create_dir_all(at.join("below"))?;
    run_ok(&mut git(at, &["init", "--quiet", "--initial-branch=master"]))?;
    for number in 1..=5 {
        fs::write(at.join(format!("file{number}")), number.to_string())?;
        fs::write(at.join(format!("below/file{number}")), number.to_string().repeat(9000))?;
        run_ok(&mut git(at, &["add", "--all"]))?;
        run_ok(&mut git(at, &["commit", "--quiet", "--message", &number.to_string()]))?;
    }
    Ok(())
}

#[test]
fn git_clones_onto_davfs2_and_the_clone_is_whole() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = TempDir::new()?;
    let original = work.path().join("original");
    repository(&original)?;
    let mounted = Davfs::new(&gateway)?;
    let clone = mounted.path("clone").display().to_string();
    run_ok(&mut git(work.path(), &["clone", "--quiet", "--no-hardlinks", "original", &clone]))?;
    mounted.unmount()?;
    // Looked at elsewhere: davfs2 cannot list a directory on every kernel.
    let fetched = work.path().join("fetched");
    run_ok(gateway.rclone_webdav()?.args(["copy", "coffre:clone"]).arg(&fetched))?;
    run_ok(&mut git(&fetched, &["fsck", "--strict"]))?;
    let commit = |at: &Path| Ok::<_, anyhow::Error>(run_ok(&mut git(at, &["rev-parse", "HEAD"]))?.text());
    ensure!(commit(&fetched)? == commit(&original)?);
    ensure!(run_ok(&mut git(&fetched, &["diff", "HEAD"]))?.text().is_empty());
    Ok(())
}

#[test]
fn git_pushes_over_webdav_under_a_lock() -> Result<()> {
    let gateway = Gateway::start()?;
    let (work, home) = (TempDir::new()?, home(&gateway)?);
    let original = work.path().join("original");
    repository(&original)?;
    run_ok(&mut git(work.path(), &["init", "--quiet", "--bare", "shared.git"]))?;
    run_ok(&mut git(&work.path().join("shared.git"), &["update-server-info"]))?;
    let directories = "--create-empty-src-dirs";
    run_ok(
        gateway
            .rclone_webdav()?
            .args(["copy", directories, "shared.git", "coffre:shared.git"])
            .current_dir(work.path()),
    )?;
    let url = gateway.url("shared.git");
    let named = url.replace("https://", &format!("https://{}:{}@", gateway.user, gateway.token));
    let over_https = |at: &Path, arguments: &[&str]| {
        let mut command = git(at, arguments);
        command.env("GIT_SSL_CAINFO", &gateway.ca_file).env("HOME", home.path());
        run_ok(&mut command)
    };
    over_https(&original, &["push", &named, "master"])?;
    fs::write(original.join("file1"), "changed")?;
    run_ok(&mut git(&original, &["commit", "--quiet", "--all", "--message", "more"]))?;
    over_https(&original, &["push", &named, "master"])?;
    over_https(work.path(), &["clone", "--quiet", &url, "again"])?;
    let again = work.path().join("again");
    ensure!(fs::read_to_string(again.join("file1"))? == "changed");
    run_ok(&mut git(&again, &["fsck", "--strict"]))?;
    let audit = gateway.coffre(&["audit", "tail", "-n", "500"])?.text();
    ensure!(audit.contains("lock-set") && audit.contains("lock-release"), "it pushed without a lock");
    ensure!(gateway.coffre(&["vault", "locks", "demo/demo"])?.text().trim().is_empty());
    Ok(())
}

#[test]
fn cadaver_locks_edits_and_unlocks() -> Result<()> {
    let gateway = Gateway::start()?;
    let home = home(&gateway)?;
    fs::write(home.path().join("letter"), "first\n")?;
    let editor = home.path().join("editor");
    fs::write(&editor, "#!/bin/sh\necho 'edited under a lock' >> \"$1\"\ntouch -d 'next minute' \"$1\"\n")?;
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o700))?;
    // By the time of the file it knows whether it was edited; on a terminal it asks whether the certificate is to be trusted.
    let session = |commands: &str| -> Result<String> {
        let mut command = Command::new("script");
        command.args([
            "--quiet",
            "--return",
            "--command",
            &format!("cadaver {}", gateway.webdav),
            "/dev/null",
        ]);
        command.current_dir(home.path()).env("HOME", home.path()).env("EDITOR", &editor).env("TERM", "dumb");
        Ok(run(&mut command, format!("y\n{commands}\nquit\n").as_bytes())?.text())
    };
    let user = User::demo(&gateway);
    let text =
        session("put letter\nlock letter\ndiscover letter\nput letter\npropset letter author somebody")?;
    ensure!(text.contains("Locking `letter': succeeded") && text.contains("Scope: exclusive"), "{text}");
    ensure!(!text.contains("failed"), "{text}");
    // It gives its locks back neither by itself, and one of nobody's is not in the way of its next session.
    let shown = gateway.coffre(&["vault", "locks", "demo/demo"])?.text();
    if shown.contains("/letter") {
        user.put("letter", &[], "over it")?.expect(423)?;
        let text = session("steal letter\nunlock letter")?;
        ensure!(text.contains("Unlocking `letter': succeeded"), "{text}");
    }
    let text = session(
        "edit letter\ncat letter\npropget letter author\nmkcol folder\nmove letter folder/moved\nls folder",
    )?;
    ensure!(text.contains("edited under a lock") && text.contains("somebody"), "{text}");
    ensure!(!text.contains("failed"), "{text}");
    ensure!(user.get("folder/moved")? == "first\nedited under a lock\n");
    ensure!(gateway.coffre(&["vault", "locks", "demo/demo"])?.text().trim().is_empty());
    Ok(())
}
