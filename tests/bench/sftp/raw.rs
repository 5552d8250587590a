//! SFTP requests of our own, where a client's would measure the client.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use coffre_tests::RawSftp;
use coffre_tests::raw_sftp::{Answer, kind, request, string};

use crate::server::Server;

/// Opens of one session under way while it makes files.
const OPENING_MAX: usize = 32;
/// Sessions that make files.
const MAKERS: usize = 4;
/// `SSH_FXF_WRITE | SSH_FXF_CREAT | SSH_FXF_TRUNC`
const CREATE: u32 = 0x1a;

/// A session of its own on a server.
pub(crate) fn session(server: &Server) -> Result<RawSftp> {
    RawSftp::start_with(&server.ssh_options(&[]), server.user())
}

/// Makes a directory with so many empty files.
pub(crate) fn fill(server: &Server, directory: &str, count: usize) -> Result<()> {
    let path = format!("{}{directory}", server.root);
    let made = session(server)?.ask(kind::MKDIR, &[&string(path.as_bytes()), &0_u32.to_be_bytes()])?;
    ensure!(made.status() == Some(0), "mkdir answered {made:?}");
    thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| {
                let path = &path;
                scope.spawn(move || make(server, path, &mut (maker..count).step_by(MAKERS)))
            })
            .collect();
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| anyhow::anyhow!("a maker"))?)
    })
}

/// Makes the files of these numbers: each is opened, and closed once there is a handle.
fn make(server: &Server, directory: &str, numbers: &mut dyn Iterator<Item = usize>) -> Result<()> {
    let mut raw = session(server)?;
    let (mut id, mut waiting) = (0_u32, 0_usize);
    let mut ask = |raw: &mut RawSftp, kind: u8, rest: &[&[u8]]| {
        id += 1;
        raw.send(&request(kind, id, rest))
    };
    loop {
        while waiting < OPENING_MAX {
            let Some(number) = numbers.next() else { break };
            let name = string(format!("{directory}/entry-{number:08}.dat").as_bytes());
            ask(&mut raw, kind::OPEN, &[&name, &CREATE.to_be_bytes(), &0_u32.to_be_bytes()])?;
            waiting += 1;
        }
        if waiting == 0 {
            return Ok(());
        }
        let answer: Answer = raw.answer()?.context("the server closed the channel")?;
        if answer.kind == kind::HANDLE {
            ask(&mut raw, kind::CLOSE, &[&string(&answer.string())])?;
        } else {
            ensure!(answer.status() == Some(0), "making a file was answered with {answer:?}");
            waiting -= 1;
        }
    }
}

/// Milliseconds that each of so many STATs took, one after the other.
pub(crate) fn stats(raw: &mut RawSftp, path: &str, count: usize) -> Result<Vec<f64>> {
    let path = string(path.as_bytes());
    (0..count)
        .map(|_| {
            let begin = Instant::now();
            let answer = raw.ask(kind::STAT, &[&path])?;
            ensure!(answer.kind == kind::ATTRS, "stat was answered with {answer:?}");
            Ok(begin.elapsed().as_secs_f64() * 1000.0)
        })
        .collect()
}
