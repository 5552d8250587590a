//! Many small files: curl with eight transfers at once, and rclone with as many.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use coffre_tests::measure::small::{figures, file_name, same, uploads};
use coffre_tests::measure::{Plan, Table, Target, timed_with_cpu};
use tempfile::TempDir;

use crate::server::{Server, start_all};

/// What curl is to do: send so many files of a directory to one of the server's.
pub(crate) fn puts(server: &Server, files: &Path, to: &str, count: usize) -> String {
    (0..count).map(file_name).fold(String::new(), |mut list, name| {
        let (from, url) = (files.join(&name), server.url(&format!("{to}/{name}")));
        let _written =
            writeln!(list, "upload-file = \"{}\"\nurl = \"{url}\"\noutput = \"/dev/null\"", from.display());
        list
    })
}

fn gets(server: &Server, from: &str, files: &Path, count: usize) -> String {
    (0..count).map(file_name).fold(String::new(), |mut list, name| {
        let (url, to) = (server.url(&format!("{from}/{name}")), files.join(&name));
        let _written = writeln!(list, "url = \"{url}\"\noutput = \"{}\"", to.display());
        list
    })
}

/// `curl --parallel --parallel-max 8`
pub(crate) fn curl(plan: &Plan, table: &mut Table) -> Result<()> {
    let wall = [Target::FasterThanAll];
    let mut put = figures(plan, "PUT, curl -Z --parallel-max 8", &wall, &[]);
    let mut get = figures(plan, "GET, curl -Z --parallel-max 8", &wall, &[]);
    let back = TempDir::with_prefix_in("bench.", &plan.client)?;
    let put_all = |server: &Server, files: &Path, round: usize| {
        let to = format!("r{round}");
        server.make_directory(&to)?;
        timed_with_cpu(server, &mut server.curl_parallel(), &puts(server, files, &to, plan.files))
    };
    let mut get_all = |server: &Server, files: &Path, round: usize| -> Result<()> {
        let to = back.path().join("got");
        fs::create_dir(&to)?;
        let list = gets(server, &format!("r{round}"), &to, plan.files);
        get.add(server.side, timed_with_cpu(server, &mut server.curl_parallel(), &list)?);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, &start_all(&plan.work, &plan.sides)?, &mut put, &put_all, &mut get_all)?;
    table.add(put.rows().into_iter().chain(get.rows()));
    table.note("Coffre's files are durable when the client is told so; the peers' lie in the page cache.");
    Ok(())
}

/// `rclone copy --transfers 8`: Debian's is paced by itself, so the server's CPU is what tells.
pub(crate) fn rclone(plan: &Plan, table: &mut Table) -> Result<()> {
    let cpu = [Target::FasterThanAll];
    let mut up = figures(plan, "rclone copy --transfers 8 to it", &[], &cpu);
    let mut down = figures(plan, "rclone copy --transfers 8 from it", &[], &cpu);
    let back = TempDir::with_prefix_in("bench.", &plan.client)?;
    let remote = |round: usize| format!("bench:r{round}");
    let upload = |server: &Server, files: &Path, round: usize| {
        let mut copy = server.rclone_client()?;
        timed_with_cpu(server, copy.args(["copy", "--transfers", "8"]).arg(files).arg(remote(round)), "")
    };
    let mut download = |server: &Server, files: &Path, round: usize| -> Result<()> {
        let to = back.path().join("got");
        let mut copy = server.rclone_client()?;
        copy.args(["copy", "--transfers", "8"]).arg(remote(round)).arg(&to);
        down.add(server.side, timed_with_cpu(server, &mut copy, "")?);
        same(server, files, &to)?;
        fs::remove_dir_all(&to)?;
        Ok(())
    };
    uploads(plan, &start_all(&plan.work, &plan.sides)?, &mut up, &upload, &mut download)?;
    table.add(up.rows().into_iter().chain(down.rows()));
    Ok(())
}
