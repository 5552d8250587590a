//! The storage engine alone, without network or protocols.
//!
//! `cargo bench -p coffre-tests --bench engine -- NAME [DIRECTORY [SIZE]]`: NAME and SIZE as in `tests/bench/run`, the
//! directory is on the disk to measure. Memory is the gateway's: the same allocator with the same settings.

mod storage;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use storage::{again, history, many, random, small, stream};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let name = arguments.next().context("NAME: stream, small, many, listing, again, random or history")?;
    let parent: PathBuf = arguments.next().map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), Into::into);
    let size: Option<u64> = match arguments.next() {
        Some(size) => Some(size.to_str().and_then(|size| size.parse().ok()).context("SIZE is a number")?),
        None => None,
    };
    match name.to_str() {
        Some("stream") => stream::run(&parent, size.unwrap_or(1024)),
        Some("small") => small::run(&parent, size.unwrap_or(20_000)),
        Some("many") => many::run(&parent, size.unwrap_or(1_000_000)),
        // What `many` starts and kills.
        Some("many-child") => many::child(&parent, size.context("how many files")?),
        Some("listing") => many::listing(&parent, size.unwrap_or(1_000_000)),
        Some("again") => again::run(&parent, size.unwrap_or(1024)),
        Some("random") => random::run(&parent, size.unwrap_or(512)),
        Some("history") => history::run(&parent),
        _ => bail!("no measurement is called {}", name.display()),
    }
}
