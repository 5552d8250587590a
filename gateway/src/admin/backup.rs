//! `coffre backup`, as the service does it: in the server's own process while one runs.

use std::path::Path;

use anyhow::{Context, bail};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, RecordDraft};
use coffre_storage::tree::{IncidentDraft, IncidentKind};
use serde_json::json;

use super::Answer;
use super::service::Service;
use crate::backup::{self, Verify};
use crate::config::Config;
use crate::units::moment;

impl Service {
    /// A service that can take backups, of this configuration too.
    #[must_use]
    pub fn with_backups(mut self, config: Config) -> Self {
        self.backing = Some(Box::new(config));
        self
    }

    pub(super) fn backup(
        &self,
        destination: &Path,
        verify_all: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Answer> {
        let config = self.backing.as_ref().context("no backups here")?;
        let verify = if verify_all { Verify::All } else { Verify::Written };
        let taken = backup::take(&self.store, config, destination, verify, &mut |done, total| {
            progress(done, total);
            if self.stop.is_cancelled() {
                bail!("the server stops; the former backup, if there was one, is whole");
            }
            Ok(())
        });
        let path = destination.as_os_str().as_encoded_bytes().to_vec();
        let record = RecordDraft {
            bytes: taken.as_ref().ok().map(|summary| summary.bytes),
            outcome: if taken.is_ok() { Outcome::Done } else { Outcome::Failed },
            details: vec![(DetailKey::Path, path)],
            ..RecordDraft::new(Actor::Operator, Action::Backup)
        };
        let noted = self.store.record(record).and_then(coffre_storage::Pending::wait);
        if let Err(error) = &taken {
            let text = Some(format!("{error:#}"));
            let incident = IncidentDraft { text, ..IncidentDraft::new(IncidentKind::Backup) };
            drop(self.store.raise_incident(incident)?);
        }
        let summary = taken?;
        noted?;
        let manifest = &summary.manifest;
        Ok(json!({
            "backup": destination, "state": "whole", "time": moment(manifest.time), "commit_number": manifest.commit.0,
            "packs": summary.packs, "files": manifest.files.len(), "bytes": summary.bytes,
            "bytes_written": summary.written, "files_removed": summary.removed, "audit_records": manifest.records,
        })
        .into())
    }
}
