//! `coffre restore`: a data directory from a backup, as it was when the backup was taken.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use coffre_storage::audit::Action;
use coffre_storage::recover::{ReadExtent, rebuild};
use serde_json::json;

use super::identity::Identity;
use super::{Told, Unfinished, open_rebuilt, say_step};
use crate::admin::Answer;
use crate::backup::manifest::{FileEntry, Manifest, ManifestError};
use crate::backup::secrets;
use crate::limits::BACKUP_PIECE_BYTES;
use crate::units::moment;
use crate::wiring;

/// Restores `source` into `data`, which must be empty.
///
/// # Errors
/// No whole backup; another key; damaged files, all of them named; what stops reading or writing.
pub fn restore(source: &Path, data: &Path, key_file: &Path) -> anyhow::Result<Told> {
    let key = wiring::read_gateway_key(key_file)?;
    let manifest = Manifest::read(source, &key).map_err(|error| {
        let damaged = matches!(error, ManifestError::Damaged);
        let error = anyhow::Error::new(error).context(source.display().to_string());
        if damaged { error.context(otherwise(source)) } else { error }
    })?;
    let unfinished = Unfinished::begin(data)?;
    let mut damaged = Vec::new();
    for file in &manifest.files {
        let copy = file.name.strip_prefix("packs/").map(|name| unfinished.packs().join(name));
        if !is_whole(source, file, copy.as_deref())? {
            damaged.push(file.name.clone());
        }
    }
    if !damaged.is_empty() {
        bail!("damaged in the backup: {}; {}", damaged.join(", "), otherwise(source));
    }
    let configuration = manifest
        .files
        .iter()
        .find_map(|file| file.name.strip_suffix(secrets::CONFIGURATION))
        .context("the backup holds no configuration")?;
    let identity = Identity::from_backup(&source.join(configuration), &key)?;
    let config = identity.settle(&unfinished.directory, key_file, &key)?;
    // An interrupted later backup may have added to what this one holds.
    let lengths = manifest.files.iter().filter(|file| file.name.starts_with("audit/"));
    let lengths = lengths.map(|file| (file.name.clone(), file.bytes)).collect();
    let former_audit = wiring::audit_part(&source.join("audit"), lengths);
    let mut last = "";
    let report = rebuild(&wiring::store_options(&config)?, Some(former_audit.as_ref()), &mut |step, _| {
        say_step(step, &mut last);
    })?;
    let store = open_rebuilt(&config, Action::Restore)?;
    let looked = store.find_losses(ReadExtent::Places, &mut |_| {});
    let verified = store.verify_audit();
    store.shutdown()?;
    let (losses, verified) = (looked?, verified?);
    let mut wrong = report.losses.clone();
    wrong.extend(verified.damage.map(|damage| format!("the audit log: {damage}")));
    if report.commit < manifest.commit || report.next_record < manifest.records {
        wrong.push(format!(
            "the backup was taken at commit {} with {} audit records; {} and {} are there",
            manifest.commit, manifest.records, report.commit, report.next_record
        ));
    }
    if !losses.files.is_empty() || losses.damaged_rows > 0 {
        wrong.push(format!(
            "{} files were not whole when the backup was taken; `coffre check` tells more",
            losses.files.len()
        ));
    }
    let data = unfinished.finish(&config)?;
    let taken = moment(manifest.time);
    let good = wrong.is_empty();
    let value = json!({
        "data": data, "state": if good { "restored" } else { "restored with losses" }, "taken": taken,
        "commit_number": report.commit.0, "packs": report.packs, "files": manifest.files.len(),
        "audit_records": verified.records, "losses": wrong, "remarks": report.remarks,
    });
    let mut lines = vec![
        format!("restored into {}: the state of {taken}, commit {}", data.display(), report.commit),
        format!(
            "{} packs, {} audit records; host keys and certificate are the same",
            report.packs, verified.records
        ),
    ];
    lines.extend(wrong.iter().map(|wrong| format!("LOST  {wrong}")));
    lines.extend(report.remarks.iter().map(|remark| format!("note  {remark}")));
    Ok(Told { answer: Answer { value, good }, lines })
}

fn otherwise(source: &Path) -> String {
    format!(
        "`coffre recover --packs {} --key FILE --to DIR` saves what can be saved",
        source.join("packs").display()
    )
}

/// Compares a file with what the manifest says of it, and copies it on the way.
fn is_whole(source: &Path, entry: &FileEntry, copy: Option<&Path>) -> anyhow::Result<bool> {
    let path = source.join(&entry.name);
    let Ok(mut file) = File::open(&path) else { return Ok(false) };
    let mut out = match copy {
        None => None,
        Some(copy) => {
            let made = File::options().write(true).create_new(true).mode(0o600).open(copy);
            Some(made.with_context(|| format!("creating {}", copy.display()))?)
        }
    };
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; BACKUP_PIECE_BYTES];
    let mut left = entry.bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        // A disk that does not read is damage too.
        let read = match file.read(&mut piece[..len]) {
            Ok(0) | Err(_) => return Ok(false),
            Ok(read) => read,
        };
        hasher.update(&piece[..read]);
        if let (Some(out), Some(copy)) = (&mut out, copy) {
            out.write_all(&piece[..read]).with_context(|| format!("writing {}", copy.display()))?;
        }
        left -= read as u64;
    }
    if let Some(out) = out {
        out.sync_all()?;
    }
    Ok(*hasher.finalize().as_bytes() == entry.hash)
}
