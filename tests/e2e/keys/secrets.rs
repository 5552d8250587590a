//! With every secret of the server, and root on its machine, a locked vault gives nothing away: not from the data directory, not
//! from a backup, not from the memory of a fresh process.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use coffre::escrow;
use coffre_storage::id::VaultId;
use coffre_storage::keys::{Passphrase, RootKey, Slot, VaultKeys};
use coffre_tests::Gateway;
use coffre_tests::files::file_holds;

use super::{CANARY, Held, SECOND, tell};

/// Which of the needles a process has in its memory.
fn in_memory(pid: u32, needles: &[Vec<u8>]) -> Result<Vec<bool>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let finders: Vec<_> = needles.iter().map(memchr::memmem::Finder::new).collect();
    let mut found = vec![false; needles.len()];
    let mut seen = 0;
    for line in read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let (range, rest) = line.split_once(' ').context("a mapping")?;
        let (begin, end) = range.split_once('-').context("a range")?;
        let (begin, end) = (u64::from_str_radix(begin, 16)?, u64::from_str_radix(end, 16)?);
        if !rest.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - begin)?];
        // A mapping may be gone by now.
        if memory.read_exact_at(&mut bytes, begin).is_ok() {
            seen += bytes.len();
            for (found, finder) in found.iter_mut().zip(&finders) {
                *found |= finder.find(&bytes).is_some();
            }
        }
    }
    ensure!(seen > 1 << 20, "the memory of a server is larger than {seen} bytes");
    Ok(found)
}

fn nowhere_below(directory: &Path, needles: &[Vec<u8>]) -> Result<()> {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry?;
        if entry.file_type().is_file() {
            ensure!(!file_holds(entry.path(), needles)?, "{}", entry.path().display());
        }
    }
    Ok(())
}

#[test]
fn with_all_secrets_of_the_server_and_root_a_locked_vault_decrypts_nothing() -> Result<()> {
    let mut held = Held::new(&[])?;
    let offline = held.work.path().join("offline");
    std::fs::create_dir(&offline)?;
    let at = |name: &str| offline.join(name).display().to_string();
    tell(&held.gateway, &["escrow", "keygen", &at("key"), "--plain"], &[])?;
    let add = ["vault", "slot", "add-escrow", "demo/held", &at("key.pub")];
    tell(&held.gateway, &add, &[super::PASSPHRASE])?;
    // The one way to the key that this test may take: the offline key.
    tell(&held.gateway, &["escrow", "envelope", "demo/held", &at("envelope")], &[])?;
    let open = ["escrow", "open", &at("envelope"), "--key", &at("key"), "--out", &at("answer")];
    tell(&held.gateway, &open, &[SECOND])?;
    let carried = escrow::answer(Path::new(&at("answer")))?;
    let Slot::Passphrase(slot) = &carried.slot else { anyhow::bail!("another slot") };
    let (vault, root) =
        (carried.vault, slot.open(carried.vault, &Passphrase::new(SECOND.as_bytes().to_vec()))?);
    let needles = needles(vault, &root);

    held.fill()?;
    let while_open = in_memory(held.gateway.pid(), &needles)?;
    ensure!(while_open[1], "an unlocked vault's content key is found, so that not to find it says something");
    let backup = held.work.path().join("backup");
    std::fs::create_dir(&backup)?;
    held.gateway.admin(&["backup", &backup.display().to_string()])?;
    held.gateway.stop()?;

    // Slots, index, packs, audit log, backup, with the gateway key beside them.
    nowhere_below(&held.gateway.data, &needles)?;
    nowhere_below(&backup, &needles)?;
    the_store_itself_stays_locked(&held.gateway.data, vault)?;

    // A fresh process that has been asked for everything.
    let again = Gateway::start_on(&held.gateway.data, &held.gateway.log)?;
    let stopped = std::mem::replace(&mut held.gateway, again);
    held.gateway.keep_directory_of(stopped);
    ensure!(!held.sftp("ls held/there\n")?.status.success());
    ensure!(held.status(&[], "held/there")? == 423);
    held.gateway.admin(&["check", "--read-data"])?;
    held.gateway.admin(&["audit", "tail", "--lines", "1000"])?;
    let found = in_memory(held.gateway.pid(), &needles)?;
    ensure!(found.iter().all(|found| !found), "{found:?}");
    Ok(())
}

/// The root key, a key that comes from it, contents and names.
fn needles(vault: VaultId, root: &RootKey) -> Vec<Vec<u8>> {
    let keys = VaultKeys::derive(vault, root);
    vec![root.expose().expose().to_vec(), keys.content.expose().to_vec(), CANARY.as_bytes().to_vec()]
}

/// What whoever has the data directory and all its secrets gets by the product's own code.
fn the_store_itself_stays_locked(data: &Path, vault: VaultId) -> Result<()> {
    let config = coffre::config::Config::load(&data.join("coffre.toml"))?;
    let store = coffre::wiring::open_store(&config)?;
    let record = store.vaults()?.into_iter().find(|record| record.id == vault).context("the vault")?;
    ensure!(!record.managed, "no slot is the gateway's");
    let opened = store.vault(vault).err().map(|error| error.to_string());
    ensure!(opened.as_deref() == Some("this vault is locked"), "{opened:?}");
    let guessed = store.open_slot(vault, &Passphrase::new(std::fs::read(data.join("secrets/gateway.key"))?));
    ensure!(guessed.is_err());
    store.shutdown()?;
    Ok(())
}
