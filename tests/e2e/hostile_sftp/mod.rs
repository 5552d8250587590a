//! What attackers do over an SFTP channel, byte by byte.

mod endings;
mod floods;
mod frames;
mod handles;
mod paths;

use std::time::{Duration, Instant};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;
use coffre_tests::raw_sftp::{RawSftp, kind, string};

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;

/// Memory that a flood may not reach: the bound of the acceptance list.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;

fn with_victim() -> Result<Gateway> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"the victim's content", 1_500_000_000)?;
    gateway.sftp_batch(&format!("put {} victim\n", file.display()))?;
    Ok(gateway)
}

fn content(gateway: &Gateway, path: &str) -> Result<Vec<u8>> {
    let work = tempfile::tempdir()?;
    let got = work.path().join("got");
    gateway.sftp_batch(&format!("get {path} {}\n", got.display()))?;
    Ok(std::fs::read(&got)?)
}

fn assert_victim(gateway: &Gateway) -> Result<()> {
    let found = content(gateway, "victim")?;
    ensure!(found == b"the victim's content", "the victim holds {found:?}");
    Ok(())
}

/// Seconds in which another session's request is answered, on a machine where other tests run too.
const NOTICED_SECS: u64 = 10;

/// Another session, which works all the time and must not notice anything.
struct Witness {
    over: Arc<AtomicBool>,
    session: JoinHandle<Result<(u32, Duration)>>,
}

impl Witness {
    fn start(gateway: &Gateway) -> Result<Self> {
        let mut raw = RawSftp::start(gateway)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let session = std::thread::spawn(move || {
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            while !until.load(Ordering::Relaxed) {
                let started = Instant::now();
                let handle = string(&raw.open(b"/victim", READ)?);
                let read = raw.ask(kind::READ, &[&handle, &0_u64.to_be_bytes(), &100_u32.to_be_bytes()])?;
                ensure!(read.string() == b"the victim's content", "{read:?}");
                ensure!(raw.ask(kind::CLOSE, &[&handle])?.status() == Some(0));
                slowest = slowest.max(started.elapsed());
                rounds += 1;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok((rounds, slowest))
        });
        Ok(Self { over, session })
    }

    /// What it saw; and the server is the one that was started, and says nothing of a panic.
    fn noticed_nothing(self, gateway: &Gateway) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let (rounds, slowest) =
            self.session.join().map_err(|_| anyhow::anyhow!("the witness's thread"))??;
        println!("the other session: {rounds} rounds, the slowest took {slowest:?}");
        ensure!(rounds > 0 && slowest < Duration::from_secs(NOTICED_SECS), "it took {slowest:?}");
        ensure!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
        assert_victim(gateway)
    }
}

/// Looks at the server's memory while a flood runs against it.
fn watch_memory(gateway: &Gateway) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(6);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gateway.resident_bytes()?);
        ensure!(most < RESIDENT_BYTES_MAX, "the server holds {} MiB", most >> 20);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("the server held {} MiB", most >> 20);
    Ok(())
}
