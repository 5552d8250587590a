//! Many small files: `sftp` recursively, rclone with eight transfers, `cp -r` into a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use coffre_tests::measure::small::{figures, same, uploads};
use coffre_tests::measure::{Figures, Plan, Side, Table, Target, timed_with_cpu};
use tempfile::TempDir;

use crate::server::{Server, start_all};

fn rows(plan: &Plan, what: &str) -> Figures {
    figures(plan, what, &[Target::FasterThanAll], &[])
}

/// `sftp put -r`, `sftp get -r`
pub(crate) fn sftp(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut put = rows(plan, "sftp put -r");
    let mut get = rows(plan, "sftp get -r");
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
        let spent = timed_with_cpu(server, &mut server.sftp(&[]), &batch)?;
        get.add(server.side, spent);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, &start_all(&plan.work, &plan.sides)?, &mut put, &put_all, &mut get_all)?;
    table.add(put.rows().into_iter().chain(get.rows()));
    table.note(
        "Coffre's files are durable when the client is told so; the peers' lie in the page cache. The rows with \
         fsync after each file say what the same promise costs the peers.",
    );
    Ok(())
}

/// `sftp put -r -f`: the client asks for durability, and OpenSSH gives it.
pub(crate) fn durable(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut put = rows(plan, "sftp put -r -f (fsync after each file)");
    // rclone has no fsync, and the client then asks for none.
    let sides: Vec<Side> = plan.sides.iter().copied().filter(|side| *side != Side::Rclone).collect();
    let plan = Plan { sides, ..plan.clone() };
    let put_all = |server: &Server, files: &Path, round: usize| {
        let to = format!("{}r{round}", server.root);
        let batch = format!("mkdir {to}\nput -rf {}/. {to}\n", files.display());
        timed_with_cpu(server, &mut server.sftp(&[]), &batch)
    };
    uploads(&plan, &start_all(&plan.work, &plan.sides)?, &mut put, &put_all, &mut |_, _, _| Ok(()))?;
    table.add(put.rows());
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
    let mut up = rows(plan, &format!("rclone copy --transfers 8 to it, {how}"));
    let mut down = rows(plan, &format!("rclone copy --transfers 8 from it, {how}"));
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
        let spent = timed_with_cpu(server, copy(server).arg(remote(server, round)).arg(&to), "")?;
        down.add(server.side, spent);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, &start_all(&plan.work, &plan.sides)?, &mut up, &upload, &mut download)?;
    table.add(up.rows().into_iter().chain(down.rows()));
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
    let mut into = rows(plan, "cp -r into sshfs");
    let mut out = rows(plan, "cp -r out of sshfs");
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
        let spent = copy(server, &mount.join(format!("r{round}")), &got)?;
        out.add(server.side, spent);
        same(server, files, &got)?;
        fs::remove_dir_all(&got)?;
        Ok(())
    };
    uploads(plan, &start_all(&plan.work, &plan.sides)?, &mut into, &copy_in, &mut copy_out)?;
    table.add(into.rows().into_iter().chain(out.rows()));
    Ok(())
}
