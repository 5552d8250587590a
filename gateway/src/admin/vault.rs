//! What is asked about one vault: its figures, how long its past is kept, legal holds; and reclaim.

use anyhow::Context;
use coffre_storage::Vault;
use coffre_storage::audit::{Action, Actor, RecordDraft};
use coffre_storage::frame::Compression;
use coffre_storage::id::InodeId;
use coffre_storage::reclaim::{ExportPolicy, Flow};
use coffre_storage::tree::{Held, VaultRecord};
use serde_json::{Value, json};

use super::service::{Service, vault_row};
use crate::units::{moment, path_names};

fn changed(what: String) -> RecordDraft {
    RecordDraft { reason: Some(what), ..RecordDraft::new(Actor::Operator, Action::VaultChange) }
}

impl Service {
    pub(super) fn vault_record(&self, name: &str) -> anyhow::Result<VaultRecord> {
        let all = self.accounts.vaults()?;
        let found = all.into_iter().find(|(known, vault)| known == name && vault.erased.is_none());
        found.map(|(_, record)| record).with_context(|| format!("no vault `{name}`"))
    }

    pub(super) fn vault(&self, name: &str) -> anyhow::Result<Vault> {
        Ok(self.store.vault(self.vault_record(name)?.id)?)
    }

    pub(super) fn vault_show(&self, name: &str) -> anyhow::Result<Value> {
        let record = self.vault_record(name)?;
        let mut shown = vault_row(name, &record);
        if let Some(fields) = shown.as_object_mut().filter(|_| !record.managed) {
            let (state, until) = match self.store.held(record.id)? {
                Held::Unlocked(until) => ("unlocked", Some(moment(until.0))),
                Held::Managed | Held::Locked => ("locked", None),
            };
            fields.insert("state".to_owned(), state.into());
            fields.insert("unlocked_until".to_owned(), until.into());
        }
        if let (Ok(vault), Some(fields)) = (self.store.vault(record.id), shown.as_object_mut()) {
            let state = vault.retention()?;
            let holds: Vec<Value> = state
                .holds
                .iter()
                .map(|hold| {
                    json!({ "number": hold.number, "inode": hold.inode.0, "since": moment(hold.since.0),
                            "reason": hold.reason })
                })
                .collect();
            let shorter = state.shortening.map(|(secs, at)| json!({ "secs": secs, "from": moment(at.0) }));
            fields.insert("retention_shortening".to_owned(), shorter.into());
            fields.insert("whole_since".to_owned(), moment(state.whole_since.0).into());
            fields.insert("holds".to_owned(), holds.into());
        }
        Ok(shown)
    }

    pub(super) fn vault_retention(&self, name: &str, retention_secs: u64) -> anyhow::Result<Value> {
        let record = changed(format!("retention {retention_secs} s"));
        let grace = self.upkeep.retention_grace_secs;
        let from = self.vault(name)?.set_retention(retention_secs, grace, record)?.wait()?;
        Ok(json!({ "vault": name, "retention_secs": retention_secs, "from": moment(from.0) }))
    }

    pub(super) fn vault_hold(&self, name: &str, path: &str, reason: &str) -> anyhow::Result<Value> {
        let vault = self.vault(name)?;
        let mut inode = InodeId::ROOT;
        for part in path_names(path) {
            inode = vault.lookup(inode, part.as_bytes()).with_context(|| format!("`{path}`"))?.inode;
        }
        let number = vault.add_hold(inode, reason, changed("a legal hold".to_owned()))?.wait()?;
        Ok(json!({ "vault": name, "number": number, "path": path, "reason": reason }))
    }

    pub(super) fn vault_lift(&self, name: &str, number: u64) -> anyhow::Result<Value> {
        let lifted = self.vault(name)?.lift_hold(number, changed(format!("legal hold {number} lifted")));
        lifted.with_context(|| format!("hold {number}"))?.wait()?;
        Ok(json!({ "vault": name, "number": number, "state": "lifted" }))
    }

    pub(super) fn vault_compression(&self, name: &str, on: bool) -> anyhow::Result<Value> {
        let (compression, word) = if on { (Compression::Lz4, "lz4") } else { (Compression::Off, "off") };
        let record = changed(format!("compression {word}"));
        self.vault(name)?.set_compression(compression, record)?.wait()?;
        Ok(json!({ "vault": name, "compression": word }))
    }

    pub(super) fn reclaim(
        &self,
        grace_secs: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Value> {
        let mut options = self.upkeep.reclaim(ExportPolicy::WhenNeeded);
        if let Some(secs) = grace_secs {
            options.grace_secs = secs;
        }
        let mut written = 0;
        let report = self.store.reclaim(options, &mut |report, bytes| {
            written += bytes;
            progress(written, written + report.bytes_freed);
            Flow::GoOn
        })?;
        self.note(Action::PackRemove, "gc", true)?;
        Ok(json!({
            "inodes_pruned": report.inodes_pruned, "names_pruned": report.names_pruned,
            "chunks_forgotten": report.chunks_forgotten, "segments_released": report.segments_released,
            "segments_rewritten": report.segments_rewritten,
            "packs_emptied": report.packs_emptied, "bytes_moved": report.bytes_moved,
            "packs_removed": report.packs_removed, "bytes_freed": report.bytes_freed,
            "packs_waiting": report.packs_waiting, "packs_damaged": report.packs_damaged,
        }))
    }
}
