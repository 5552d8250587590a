//! The storage engine alone: durable 4 KiB files a second, by eight writers that each wait for each file.
//!
//! `cargo bench -p coffre-tests --bench engine [DIRECTORY]`: the directory is on the disk to measure.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{InodeId, OwnerId};
use coffre_storage::keys::GatewayKey;
use coffre_storage::limits::PACK_BYTES;
use coffre_storage::time::{Clock, UnixNanos};
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::Completion;
use coffre_storage::{Store, StoreOptions, Vault};
use coffre_tests::files::noise;

const WRITERS: u64 = 8;
const FILES_PER_WRITER: u64 = 2500;
const FILE_BYTES: usize = 4096;
const ROUNDS: u64 = 5;

/// Time since the program began: enough for stamps in a store that is thrown away.
#[derive(Debug)]
struct Elapsed(Instant);

impl Elapsed {
    fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Clock for Elapsed {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_800_000_000_000_000_000 + i64::try_from(self.nanos()).unwrap_or(i64::MAX / 4))
    }

    fn boot_nanos(&self) -> u64 {
        self.nanos()
    }
}

fn draft(action: Action) -> RecordDraft {
    RecordDraft::new(Actor::System, action)
}

fn options(directory: &Path, gateway_key: &GatewayKey) -> Result<StoreOptions> {
    Ok(StoreOptions {
        directory: directory.to_owned(),
        blobs: Arc::new(DiskBlobs::new(directory)?),
        index: IndexChoice::Redb,
        clock: Arc::new(Elapsed(Instant::now())),
        gateway_key: gateway_key.clone(),
        pack_bytes: PACK_BYTES,
        reserve_bytes: 0,
    })
}

fn write_files(vault: &Vault, writer: u64, round: u64) -> Result<()> {
    for number in 0..FILES_PER_WRITER {
        let name = format!("{round}-{writer}-{number}");
        let content = noise((round << 40) | (writer << 32) | (number + 1), FILE_BYTES);
        let created = vault.create_file(
            InodeId::ROOT,
            name.as_bytes(),
            &AttributeChange::default(),
            draft(Action::FileCreate),
        )?;
        let file = vault.open(created.value)?;
        file.write_at(0, &content)?;
        // Durable when this returns: what a client waits for at CLOSE.
        file.commit(Completion::Whole, draft(Action::FileWrite))?.wait()?;
    }
    Ok(())
}

fn round(vault: &Vault, number: u64) -> Result<Duration> {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write_files(vault, writer, number))).collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })?;
    Ok(begin.elapsed())
}

fn main() -> Result<()> {
    let wanted = std::env::args_os().skip(1).find(|argument| argument != "--bench");
    let parent = wanted.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let home = tempfile::tempdir_in(&parent).context("the directory to measure")?;
    let key = GatewayKey::generate()?;
    Store::create(&options(home.path(), &key)?)?;
    let store = Store::open(options(home.path(), &key)?)?;
    let vault = store.create_vault(OwnerId([1; 16]), "bench", 0, draft(Action::VaultAdd))?.wait()?;
    let vault = store.vault(vault)?;
    let mut rates = Vec::new();
    for number in 0..ROUNDS {
        let took = round(&vault, number)?;
        let rate = u128::from(WRITERS * FILES_PER_WRITER) * 1000 / took.as_millis().max(1);
        println!("round {number}: {rate} durable files of 4 KiB a second");
        rates.push(rate);
    }
    rates.sort_unstable();
    let last = format!("{}-0-{}", ROUNDS - 1, FILES_PER_WRITER - 1);
    ensure!(
        vault.lookup(InodeId::ROOT, last.as_bytes())?.size == FILE_BYTES as u64,
        "the last file is there"
    );
    println!("median: {} a second, {WRITERS} writers", rates[rates.len() / 2]);
    store.shutdown()?;
    Ok(())
}
