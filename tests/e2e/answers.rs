//! When answers leave: each as soon as it is there, those of the READs of one handle in the order of the READs.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::files::{noise, sha256, write_file};
use coffre_tests::raw_sftp::{RawSftp, kind, request, string};
use coffre_tests::{Gateway, run_ok};

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;

#[test]
fn a_slow_close_holds_back_no_other_answer() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = string(&raw.open(b"/slow", WRITE | CREATE)?);
    for piece in 0..16_u64 {
        let bytes = string(&noise(piece + 1, 250 << 10));
        let written = raw.ask(kind::WRITE, &[&handle, &(piece * (250 << 10)).to_be_bytes(), &bytes])?;
        ensure!(written.status() == Some(0), "{written:?}");
    }
    // The close has bytes to seal and a disk to wait for; a look at the root has neither.
    let mut asked = request(kind::CLOSE, 9000, &[&handle]);
    (9001..9033).for_each(|id| asked.extend(request(kind::STAT, id, &[&string(b"/")])));
    raw.send(&asked)?;
    let mut answered = Vec::new();
    for _ in 0..33 {
        answered.push(raw.answer()?.context("an answer")?.id());
    }
    ensure!(answered.first() != Some(&9000), "everything waited for the close: {answered:?}");
    answered.sort_unstable();
    ensure!(answered == (9000..9033).collect::<Vec<u32>>(), "{answered:?}");
    Ok(())
}

#[test]
fn reads_of_one_handle_are_answered_in_their_order_from_a_cold_store() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("big");
    write_file(&file, &noise(7, 24 << 20), 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {0} one\nput {0} two\n", file.display()))?;
    gateway.stop()?;
    let (data, log) = (gateway.data.clone(), work.path().join("log"));
    let mut again = Gateway::start_on(&data, &log)?;
    again.keep_directory_of(gateway);
    let mut raw = RawSftp::start(&again)?;
    let handles = [string(&raw.open(b"/one", READ)?), string(&raw.open(b"/two", READ)?)];
    // Large and small reads, here and there, of two handles in turn: some are there before those asked for earlier.
    let mut asked = Vec::new();
    for id in 0..400_u32 {
        let offset = u64::from(id).wrapping_mul(7_919) % 96 * (256 << 10);
        let len: u32 = if id % 3 == 0 { 255 << 10 } else { 100 };
        let handle = &handles[usize::from(id % 2 == 1)];
        asked.extend(request(kind::READ, id, &[handle, &offset.to_be_bytes(), &len.to_be_bytes()]));
    }
    raw.send(&asked)?;
    let mut last = [None, None];
    for _ in 0..400 {
        let answer = raw.answer()?.context("an answer")?;
        ensure!(answer.kind == kind::DATA, "{:?}", answer.status());
        let of_handle = &mut last[usize::from(answer.id() % 2 == 1)];
        ensure!(*of_handle < Some(answer.id()), "{} after {of_handle:?}", answer.id());
        *of_handle = Some(answer.id());
    }
    Ok(())
}

/// OpenSSH's scp cuts a download at the first answer out of order and calls it done; the others must not mind either.
#[test]
fn downloads_of_every_client_at_once_come_whole_from_a_cold_store() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("big");
    write_file(&file, &noise(8, 96 << 20), 1_500_000_000)?;
    let want = sha256(&file)?;
    gateway.sftp_batch(&format!("put {} big\n", file.display()))?;
    gateway.stop()?;
    let (data, log) = (gateway.data.clone(), work.path().join("log"));
    let mut again = Gateway::start_on(&data, &log)?;
    again.keep_directory_of(gateway);
    let got = |name: &str| work.path().join(name).display().to_string();
    let from = format!("{}@127.0.0.1:big", again.user);
    let mut scp = Command::new("scp");
    scp.arg("-q").args(again.ssh_options()).args([&from, &got("scp")]);
    let mut sftp = Command::new("sftp");
    sftp.arg("-q").args(again.ssh_options()).args([&from, &got("sftp")]);
    let mut paramiko = Command::new("/usr/bin/python3");
    let script = "import paramiko,sys\n\
        c=paramiko.SSHClient(); c.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n\
        c.connect('127.0.0.1',int(sys.argv[1]),sys.argv[2],key_filename=sys.argv[3],allow_agent=False)\n\
        c.open_sftp().get('big',sys.argv[4]); c.close()\n";
    paramiko.args(["-c", script, again.sftp_port(), &again.user]).arg(&again.key_file).arg(got("paramiko"));
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = [scp, sftp, paramiko]
            .into_iter()
            .map(|mut client| scope.spawn(move || run_ok(&mut client)))
            .collect();
        for client in running {
            client.join().map_err(|_| anyhow::anyhow!("a client's thread"))??;
        }
        Ok(())
    })?;
    for name in ["scp", "sftp", "paramiko"] {
        ensure!(sha256(&work.path().join(name))? == want, "{name} got something else");
    }
    Ok(())
}
