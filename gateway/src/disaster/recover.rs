//! `coffre recover`: a data directory from packs alone, and an exact account of what is lost.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coffre_storage::Store;
use coffre_storage::audit::{Action, DetailKey, Record};
use coffre_storage::keys::GatewayKey;
use coffre_storage::recover::{Losses, LostFile, ReadExtent, RebuildReport, rebuild};
use serde_json::{Value, json};

use super::identity::Identity;
use super::{Told, Unfinished, open_rebuilt, say_step};
use crate::accounts::Accounts;
use crate::admin::Answer;
use crate::limits::{BACKUP_PIECE_BYTES, RECOVER_BLOCK_BYTES};
use crate::units::{lossless, moment};
use crate::wiring;

/// What to recover from, and into.
#[derive(Debug)]
pub struct RecoverOptions {
    /// The directory of the packs; never written to.
    pub packs: PathBuf,
    /// The gateway key.
    pub key_file: PathBuf,
    /// The new data directory.
    pub to: PathBuf,
    /// A former audit directory; the one beside the packs when absent.
    pub audit: Option<PathBuf>,
    /// Whether every frame is opened.
    pub extent: ReadExtent,
}

/// Where host keys and certificate came from.
#[derive(Clone, Copy)]
enum Origin {
    Kept,
    New,
}

/// Recovers. Damage is told, not refused.
///
/// # Errors
/// No packs; a key that opens none of them; a target that is not empty; what stops writing.
pub fn recover(options: &RecoverOptions) -> anyhow::Result<Told> {
    let key = wiring::read_gateway_key(&options.key_file)?;
    let packs = pack_directory(&options.packs)?;
    let target = std::path::absolute(&options.to)?;
    if target.starts_with(packs.canonicalize()?) {
        bail!("{} is inside the directory of the packs, which is not written to", target.display());
    }
    let unfinished = Unfinished::begin(&target)?;
    let mut losses = copy_packs(&packs, &unfinished.packs())?;
    let (identity, origin) = identity_near(&packs, &key)?;
    let config = identity.settle(&unfinished.directory, &options.key_file, &key)?;
    let audit = options.audit.clone().or_else(|| beside(&packs, "audit"));
    let former_audit = audit.as_deref().map(wiring::audit_at);
    let mut last = "";
    let report = rebuild(&wiring::store_options(&config)?, former_audit.as_deref(), &mut |step, _| {
        say_step(step, &mut last);
    })
    .with_context(|| format!("recovering from {}", packs.display()))?;
    let store = open_rebuilt(&config, Action::Recover)?;
    let looked = look(&store, options.extent, &report);
    store.shutdown()?;
    let found = looked?;
    losses.extend(report.losses.iter().cloned());
    losses
        .extend(found.losses.closed.iter().map(|vault| format!("vault {vault} does not open with this key")));
    if found.losses.damaged_rows > 0 {
        losses.push(format!("{} rows of the index do not open", found.losses.damaged_rows));
    }
    let data = unfinished.finish(&config)?;
    Ok(tell(options, (&data, origin), &report, &losses, &found))
}

/// The directory that holds `*.pack`: the one that was named, or the one below it.
fn pack_directory(named: &Path) -> anyhow::Result<PathBuf> {
    let holds_packs = |directory: &PathBuf| {
        fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| is_pack(&entry.path())))
    };
    let below = [named.to_owned(), named.join("packs"), named.join("store/packs")];
    below.into_iter().find(holds_packs).with_context(|| format!("there are no packs in {}", named.display()))
}

fn is_pack(path: &Path) -> bool {
    let named = path.file_stem().and_then(|stem| stem.to_str());
    path.extension().is_some_and(|ending| ending == "pack")
        && named.is_some_and(|stem| stem.len() == 16 && u64::from_str_radix(stem, 16).is_ok())
}

/// A directory beside that of the packs.
fn beside(packs: &Path, name: &str) -> Option<PathBuf> {
    Some(packs.canonicalize().ok()?.parent()?.join(name)).filter(|path| path.is_dir())
}

/// The configuration near the packs: of the data directory, or of the backup, that they lie in; else a new one.
fn identity_near(packs: &Path, key: &GatewayKey) -> anyhow::Result<(Identity, Origin)> {
    let home = packs.canonicalize()?;
    let data_directory = home.parent().and_then(Path::parent);
    if let Some(found) = data_directory.and_then(|home| Identity::from_data_directory(home).ok()) {
        return Ok((found, Origin::Kept));
    }
    let mut configs: Vec<PathBuf> = beside(packs, "config")
        .and_then(|config| fs::read_dir(config).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    configs.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()));
    let found = configs.iter().rev().find_map(|config| Identity::from_backup(config, key).ok());
    match found {
        Some(found) => Ok((found, Origin::Kept)),
        None => Ok((Identity::fresh()?, Origin::New)),
    }
}

/// Copies every pack. A block that the disk does not read becomes zeros, and is told.
fn copy_packs(from: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    let mut told = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let (true, Some(name)) = (is_pack(&path), path.file_name()) else { continue };
        let copy = to.join(name);
        let unread = copy_what_reads(&path, &copy).with_context(|| format!("copying {}", path.display()))?;
        if unread > 0 {
            told.push(format!("{}: {unread} bytes could not be read", path.display()));
        }
    }
    fs::File::open(to)?.sync_all()?;
    Ok(told)
}

fn copy_what_reads(from: &Path, to: &Path) -> anyhow::Result<u64> {
    let (source, mut copy) =
        (File::open(from)?, File::options().write(true).create_new(true).mode(0o600).open(to)?);
    let bytes = source.metadata()?.len();
    let mut piece = vec![0; BACKUP_PIECE_BYTES];
    let (mut at, mut unread) = (0, 0);
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(piece.len());
        let piece = &mut piece[..len];
        if source.read_exact_at(piece, at).is_err() {
            let mut offset = at;
            for block in piece.chunks_mut(RECOVER_BLOCK_BYTES) {
                if source.read_exact_at(block, offset).is_err() {
                    block.fill(0);
                    unread += block.len() as u64;
                }
                offset += block.len() as u64;
            }
        }
        copy.write_all(piece)?;
        at += len as u64;
    }
    copy.sync_all()?;
    Ok(unread)
}

/// What was found out about the rebuilt store.
struct Found {
    losses: Losses,
    /// Full names of vaults, by identifier.
    vaults: Vec<(String, coffre_storage::id::VaultId)>,
    changes: Vec<Value>,
}

fn look(store: &Store, extent: ReadExtent, report: &RebuildReport) -> anyhow::Result<Found> {
    let losses = store.find_losses(extent, &mut |_| {})?;
    store.set_aside(&losses.chunks)?;
    // Rows of accounts may be among what is lost: then vaults go by their own names.
    let vaults =
        Accounts::load(store.clone()).and_then(|accounts| Ok(accounts.vaults()?)).unwrap_or_default();
    let vaults = vaults.into_iter().map(|(name, record)| (name, record.id)).collect();
    let changes = report.unbacked.iter().filter(|record| is_change(record.draft.action));
    Ok(Found { losses, vaults, changes: changes.map(|record| change_row(store, record)).collect() })
}

fn is_change(action: Action) -> bool {
    !matches!(
        action,
        Action::StoreOpen
            | Action::StoreShutdown
            | Action::VaultOpen
            | Action::Login
            | Action::SessionOpen
            | Action::SessionClose
            | Action::FileOpen
            | Action::FileRead
            | Action::DirectoryList
            | Action::LockSet
            | Action::LockRelease
            | Action::LockBreak
            | Action::VaultUnlock
            | Action::VaultLock
            | Action::SlotExport
            | Action::LocksRead
            | Action::AuditRead
            | Action::Check
            | Action::Stat
            | Action::HistoryPrune
            | Action::PackRemove
            | Action::Backup
    )
}

/// What an audit record tells of a change that no pack has.
fn change_row(store: &Store, record: &Record) -> Value {
    let vault = record.draft.vault.and_then(|vault| store.vault(vault).ok());
    let key = vault.as_ref().map_or_else(|| store.audit_details_key(), coffre_storage::Vault::audit_key);
    let details = record.open_details(key).or_else(|| record.open_details(store.audit_details_key()));
    let text = |wanted: DetailKey| {
        details.iter().flatten().find(|(key, _)| *key == wanted).map(|(_, bytes)| lossless(bytes))
    };
    json!({
        "record": record.number.0, "time": moment(record.utc.0), "action": record.draft.action.name(),
        "outcome": record.draft.outcome.name(), "path": text(DetailKey::Path), "target": text(DetailKey::Target),
        "vault": record.draft.vault.map(|vault| vault.to_string()), "inode": record.draft.object.map(|inode| inode.0),
    })
}

fn file_row(file: &LostFile, vaults: &[(String, coffre_storage::id::VaultId)]) -> Value {
    let vault = vaults.iter().find(|(_, id)| *id == file.vault_id).map_or(&file.vault, |(name, _)| name);
    json!({
        "vault": vault, "path": file.path.as_deref().map(lossless), "inode": file.inode.0, "lost": file.kind.name(),
    })
}

fn tell(
    options: &RecoverOptions,
    (data, origin): (&Path, Origin),
    report: &RebuildReport,
    losses: &[String],
    found: &Found,
) -> Told {
    let locked = found.losses.locked.iter().map(|id| {
        let name = found.vaults.iter().find(|(_, known)| known == id).map_or_else(|| id.to_string(), |(name, _)| name.clone());
        format!("note  vault {name} is locked: unlock it and run `coffre check --repair --read-data` to know whether it is whole")
    });
    let locked: Vec<String> = locked.collect();
    let files: Vec<Value> = found.losses.files.iter().map(|file| file_row(file, &found.vaults)).collect();
    let good = losses.is_empty() && files.is_empty();
    let identity = match origin {
        Origin::Kept => "kept",
        Origin::New => "new",
    };
    let mut lines = vec![
        format!("recovered into {}: commit {}, {} packs", data.display(), report.commit, report.packs),
        match report.base {
            Some(base) => format!(
                "the index: {} rows of the export at batch {base}, then {} batches",
                report.rows, report.batches
            ),
            None => format!("the index: {} batches, from the first one on", report.batches),
        },
        format!(
            "the audit log: records {} to {}, {} signed checkpoints kept",
            report.first_record,
            report.next_record.saturating_sub(1),
            report.checkpoints
        ),
        match origin {
            Origin::Kept => "host keys and certificate are the same".to_owned(),
            Origin::New => "host keys and certificate are NEW: tell the clients; see coffre.toml".to_owned(),
        },
    ];
    lines.extend(report.remarks.iter().map(|remark| format!("note  {remark}")));
    lines.extend(locked);
    lines.extend(losses.iter().map(|loss| format!("LOST  {loss}")));
    let text = |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
    lines.extend(
        files.iter().map(|row| {
            format!("LOST  {} of {}:{}", text(row, "lost"), text(row, "vault"), text(row, "path"))
        }),
    );
    lines.extend(found.changes.iter().map(|row| {
        let (time, action) = (text(row, "time"), text(row, "action"));
        format!("LOST  {time} {action} {}", text(row, "path"))
    }));
    let of_locked = if found.losses.locked.is_empty() { "" } else { "; of locked vaults nobody knows yet" };
    let known = match (good, options.extent) {
        (true, ReadExtent::Everything) => "nothing is lost: every file was read and is whole".to_owned(),
        (true, ReadExtent::Places) => {
            "nothing is missing; `coffre check --read-data` opens every piece".to_owned()
        }
        (false, ReadExtent::Everything) => "every other file was read and is whole".to_owned(),
        (false, ReadExtent::Places) => {
            "of every other file nothing is missing; `coffre check --read-data` opens every piece".to_owned()
        }
    };
    lines.push(known + of_locked);
    let value = json!({
        "data": data, "state": if good { "whole" } else { "recovered with losses" }, "commit_number": report.commit.0,
        "packs": report.packs, "export_base": report.base.map(|base| base.0), "rows": report.rows,
        "batches": report.batches, "first_audit_record": report.first_record, "audit_records": report.next_record,
        "checkpoints": report.checkpoints, "identity": identity, "losses": losses, "remarks": report.remarks,
        "files": files, "changes": found.changes,
    });
    Told { answer: Answer { value, good }, lines }
}
