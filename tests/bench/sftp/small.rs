//! Many small files: `sftp` recursively, rclone with eight transfers, `cp -r` into a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use coffre_tests::files::noise;
use coffre_tests::run_ok;
use tempfile::TempDir;

use crate::large::sync;
use crate::server::{Server, Side, start_all, timed_with_cpu};
use crate::table::{Samples, Table, Target};
use crate::{Plan, order};

/// Bytes of a small file.
const FILE_BYTES: usize = 4096;

/// Makes the files of a round, new content each time.
fn make_files(directory: &Path, count: usize, round: usize) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir(directory)?;
    let content = noise(round as u64 + 1, count * FILE_BYTES);
    for (number, piece) in content.chunks(FILE_BYTES).enumerate() {
        fs::write(directory.join(format!("{number:05}")), piece)?;
    }
    Ok(())
}

fn same(server: &Server, sent: &Path, got: &Path) -> Result<()> {
    if run_ok(Command::new("diff").arg("-rq").arg(sent).arg(got)).is_err() {
        bail!("{} gave back something else", server.side);
    }
    Ok(())
}

/// One side's work in one round: its wall time, and the server's CPU.
type Work<'w> = dyn Fn(&Server, &Path, usize) -> Result<(f64, f64)> + 'w;

/// Runs one kind of upload in rounds; calls `after` with each server and the directory that was filled.
fn uploads(
    plan: &Plan,
    (wall, cpu): (&mut Samples, &mut Samples),
    work: &Work<'_>,
    after: &mut dyn FnMut(&Server, &Path, usize) -> Result<()>,
) -> Result<()> {
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let files = here.path().join("files");
    let servers = start_all(&plan.work, &plan.sides)?;
    for round in 0..plan.rounds {
        make_files(&files, plan.files, round)?;
        sync()?;
        for at in order(servers.len(), round) {
            let (seconds, spent) = work(&servers[at], &files, round)?;
            wall.add(servers[at].side, seconds);
            cpu.add(servers[at].side, spent);
            sync()?;
        }
        wall.tell(round);
        cpu.tell(round);
        for at in order(servers.len(), round) {
            after(&servers[at], &files, round)?;
        }
    }
    Ok(())
}

fn rows(plan: &Plan, what: &str) -> (Samples, Samples) {
    let what = format!("{} files of {} KiB, {what}", plan.files, FILE_BYTES / 1024);
    (Samples::new(&what, "s", &[Target::FasterThanAll]), Samples::new(&what, "server CPU s", &[]))
}

/// `sftp put -r`, `sftp get -r`
pub(crate) fn sftp(plan: &Plan, table: &mut Table) -> Result<()> {
    let (mut put, mut put_cpu) = rows(plan, "sftp put -r");
    let (mut get, mut get_cpu) = rows(plan, "sftp get -r");
    let back = TempDir::with_prefix_in("bench.", &plan.client)?;
    let put_all = |server: &Server, files: &Path, round: usize| {
        let to = format!("{}r{round}", server.root);
        let batch = format!("mkdir {to}\nput -r {}/. {to}\n", files.display());
        timed_with_cpu(server, &mut server.sftp(&[]), &batch)
    };
    let mut get_all = |server: &Server, files: &Path, round: usize| -> Result<()> {
        let to = back.path().join("got");
        fs::create_dir(&to)?;
        let batch = format!("get -r {}r{round}/. {}\n", server.root, to.display());
        let (wall, cpu) = timed_with_cpu(server, &mut server.sftp(&[]), &batch)?;
        get.add(server.side, wall);
        get_cpu.add(server.side, cpu);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, (&mut put, &mut put_cpu), &put_all, &mut get_all)?;
    table.add([put, put_cpu, get, get_cpu]);
    table.note(
        "Coffre's files are durable when the client is told so; the peers' lie in the page cache. The rows with \
         fsync after each file say what the same promise costs the peers.",
    );
    Ok(())
}

/// `sftp put -r -f`: the client asks for durability, and OpenSSH gives it.
pub(crate) fn durable(plan: &Plan, table: &mut Table) -> Result<()> {
    let (mut wall, mut cpu) = rows(plan, "sftp put -r -f (fsync after each file)");
    // rclone has no fsync, and the client then asks for none.
    let sides: Vec<Side> = plan.sides.iter().copied().filter(|side| *side != Side::Rclone).collect();
    let plan = Plan { sides, ..plan.clone() };
    let put_all = |server: &Server, files: &Path, round: usize| {
        let to = format!("{}r{round}", server.root);
        let batch = format!("mkdir {to}\nput -rf {}/. {to}\n", files.display());
        timed_with_cpu(server, &mut server.sftp(&[]), &batch)
    };
    uploads(&plan, (&mut wall, &mut cpu), &put_all, &mut |_, _, _| Ok(()))?;
    table.add([wall, cpu]);
    Ok(())
}

/// rclone, without asking the server for digests of what was sent.
pub(crate) fn rclone(plan: &Plan, table: &mut Table) -> Result<()> {
    rclone_copies(plan, table, "no digests", &["--sftp-disable-hashcheck"])
}

/// rclone as it comes: it has the server compute a digest of each file by `exec`, where the server does that.
pub(crate) fn rclone_verified(plan: &Plan, table: &mut Table) -> Result<()> {
    rclone_copies(plan, table, "digests where the server has them", &[])
}

fn rclone_copies(plan: &Plan, table: &mut Table, how: &str, more: &[&str]) -> Result<()> {
    let (mut up, mut up_cpu) = rows(plan, &format!("rclone copy --transfers 8 to it, {how}"));
    let (mut down, mut down_cpu) = rows(plan, &format!("rclone copy --transfers 8 from it, {how}"));
    let back = TempDir::with_prefix_in("bench.", &plan.client)?;
    let copy = |server: &Server| {
        let mut command = server.rclone_client();
        command.args(["copy", "--transfers", "8"]).args(more);
        command
    };
    let remote = |server: &Server, round: usize| format!("bench:{}r{round}", server.root);
    let upload = |server: &Server, files: &Path, round: usize| {
        timed_with_cpu(server, copy(server).arg(files).arg(remote(server, round)), "")
    };
    let mut download = |server: &Server, files: &Path, round: usize| -> Result<()> {
        let to = back.path().join("got");
        let (wall, cpu) = timed_with_cpu(server, copy(server).arg(remote(server, round)).arg(&to), "")?;
        down.add(server.side, wall);
        down_cpu.add(server.side, cpu);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, (&mut up, &mut up_cpu), &upload, &mut download)?;
    table.add([up, up_cpu, down, down_cpu]);
    Ok(())
}

/// A mount that goes with its value.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(coffre_tests::run(Command::new("fusermount3").arg("-u").arg(&self.0), b""));
    }
}

/// `cp -r` into an sshfs mount, and out of it.
pub(crate) fn sshfs(plan: &Plan, table: &mut Table) -> Result<()> {
    let (mut into, mut into_cpu) = rows(plan, "cp -r into sshfs");
    let (mut out, mut out_cpu) = rows(plan, "cp -r out of sshfs");
    let here = TempDir::with_prefix_in("bench.", &plan.client)?;
    let (mount, got) = (here.path().join("mount"), here.path().join("got"));
    fs::create_dir(&mount)?;
    let copy = |server: &Server, from: &Path, to: &Path| -> Result<(f64, f64)> {
        server.sshfs(&mount)?;
        // Dropped, and with it every cache, before the files are read through the next mount.
        let _mounted = Mounted(mount.clone());
        timed_with_cpu(server, Command::new("cp").arg("-r").arg(from).arg(to), "")
    };
    let copy_in =
        |server: &Server, files: &Path, round: usize| copy(server, files, &mount.join(format!("r{round}")));
    let mut copy_out = |server: &Server, files: &Path, round: usize| -> Result<()> {
        let (wall, cpu) = copy(server, &mount.join(format!("r{round}")), &got)?;
        out.add(server.side, wall);
        out_cpu.add(server.side, cpu);
        same(server, files, &got)?;
        fs::remove_dir_all(&got)?;
        Ok(())
    };
    uploads(plan, (&mut into, &mut into_cpu), &copy_in, &mut copy_out)?;
    table.add([into, into_cpu, out, out_cpu]);
    Ok(())
}
