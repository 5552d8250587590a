//! The command line's end: over the socket of a running server, or on the store itself.

use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::listener::socket_path;
use super::service::{Life, Service};
use super::{Answer, Reply, Request, check};
use crate::accounts::Accounts;
use crate::{config, wiring};

/// Runs a request against a data directory.
///
/// # Errors
/// Whatever the service refuses; no store there; a server that broke off.
pub fn run(data: &Path, request: Request) -> anyhow::Result<Answer> {
    let mut bar = Bar::default();
    match UnixStream::connect(socket_path(data)) {
        Ok(stream) => over_socket(stream, &request, &mut bar),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let config = config::Config::load(&data.join(config::FILE_NAME)).with_context(|| {
                format!("no data directory at {}; `coffre init` makes one", data.display())
            })?;
            let store = wiring::open_store(&config)?;
            let mut progress = |done, total| bar.show(done, total);
            let result = match (Accounts::load(store.clone()), request) {
                (Ok(accounts), request) => Service::new(store.clone(), accounts, config.upkeep, Life::Alone)
                    .with_backups(config.clone())
                    .execute(request, &mut progress),
                // Records of accounts may be what is to be repaired.
                (Err(_), Request::Check { read_data, repair }) => {
                    check::run(&store, None, (read_data, repair), &mut progress)
                }
                (Err(error), _) => Err(error),
            };
            let closed = store.shutdown();
            let answer = result?;
            closed?;
            Ok(answer)
        }
        Err(error) => Err(error).context("the server's admin socket"),
    }
}

fn over_socket(mut stream: UnixStream, request: &Request, bar: &mut Bar) -> anyhow::Result<Answer> {
    // It may hold a passphrase.
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str::<Reply>(&line?)? {
            Reply::Progress { done, total } => bar.show(done, total),
            Reply::Done(answer) => return Ok(answer),
            Reply::Failed(reason) => bail!(reason),
        }
    }
    bail!("the server ended before it answered")
}

/// A progress bar on a terminal, nothing elsewhere.
#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl Bar {
    fn show(&mut self, done: u64, total: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.0.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_length(total);
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
