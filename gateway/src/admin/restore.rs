//! `coffre vault restore`: puts a state of a vault back.

use anyhow::{Context, bail};
use coffre_storage::audit::Action;
use coffre_storage::time::UnixNanos;
use coffre_storage::{StoreError, Vault};
use serde_json::{Value, json};

use super::service::Service;
use super::snapshot::operator;
use crate::units::parse_moment;
use crate::vfs::VaultPath;
use crate::vfs::point::{Spelling, name_of, time_of};

/// When: a time as `/.snapshots` takes it, a date, or a snapshot's name.
fn moment(vault: &Vault, at: &str) -> anyhow::Result<UnixNanos> {
    if let Some(time) = time_of(at.as_bytes()) {
        return Ok(time);
    }
    if let Some(snapshot) = vault.snapshots()?.into_iter().find(|snapshot| snapshot.name == at) {
        return Ok(snapshot.time);
    }
    match parse_moment(at) {
        Ok(nanos) => Ok(UnixNanos(nanos)),
        Err(_) => bail!("`{at}` is neither a time such as 2026-11-22T10:00:00Z nor a snapshot of this vault"),
    }
}

impl Service {
    /// Puts what was at a path back there, or under another path.
    pub(super) fn vault_restore(
        &self,
        (vault, path): (&str, &str),
        (at, to): (&str, Option<&str>),
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Value> {
        let record = self.vault_record(vault)?;
        let opened = self.store.vault(record.id)?;
        let source = VaultPath::parse(path.as_bytes())?;
        let target = to.map(|to| VaultPath::parse(to.as_bytes())).transpose()?;
        let time = moment(&opened, at)?;
        let shown = name_of(time, Spelling::Colons);
        let past = match opened.at(time) {
            Ok(past) => past,
            Err(StoreError::NotFound) => {
                let since = name_of(opened.shown_since()?, Spelling::Colons);
                bail!(
                    "{vault} keeps nothing of {shown}: it shows moments from {since} until now, and its snapshots"
                );
            }
            Err(error) => return Err(error.into()),
        };
        let audit = operator(Action::Restored, &record);
        let target_names = target.as_ref().map(VaultPath::components);
        let report = match past.restore(source.components(), target_names, &audit, progress) {
            Ok(report) => report,
            Err(StoreError::NotFound) if target.is_some() => {
                bail!("there was no {path} at {shown}, or the directory of the new path does not exist")
            }
            Err(StoreError::NotFound) => bail!("there was no {path} at {shown}"),
            Err(StoreError::Exists) => bail!("{} exists already", to.unwrap_or(path)),
            Err(StoreError::NotADirectory) => {
                bail!("a file is where a directory above {path} was: restore that directory")
            }
            Err(error) => {
                return Err(error)
                    .context("the restore is not complete; what was put back stays, run it again");
            }
        };
        Ok(json!({
            "vault": vault, "path": path, "to": to, "at": shown, "restored": report.restored, "removed": report.removed,
            "unchanged": report.unchanged, "bytes": report.bytes,
        }))
    }
}
