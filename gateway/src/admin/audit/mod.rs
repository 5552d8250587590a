//! The audit log for those who read it: the newest records, searches, verification. Whoever reads it leaves a record too.

mod bundle;
mod dossier;
mod given;
pub mod offline;
mod prove;
mod query;
mod rows;

use std::collections::VecDeque;

use anyhow::{Context, bail};
use coffre_storage::audit::search::search;
use coffre_storage::audit::stream::for_each_record;
use coffre_storage::audit::verify::Kept;
use coffre_storage::audit::{Action, Actor, DetailKey, Record, RecordDraft, VerifyReport};
use serde_json::{Value, json};

use super::Answer;
use super::service::Service;
use crate::limits::{AUDIT_PAGE_RECORDS_MAX, AUDIT_TAIL_LINES_MAX};
use crate::witness;
pub use given::Given;
pub use query::{Place, Query};
pub use rows::Details;
use rows::Reading;

impl Service {
    /// Verifies the log, and holds it against notes that were kept elsewhere, the witness' newest among them.
    pub(super) fn audit_verify(&self, kept: &[String]) -> anyhow::Result<Answer> {
        let witness = self.backing.as_ref().and_then(|config| config.audit.witness.as_deref());
        let witnessed =
            witness.map(witness::newest).transpose().context("the audit log's witness")?.flatten();
        let public = self.store.audit_public_key();
        let mut kept = kept_notes(kept, &public)?;
        kept.extend(
            witnessed
                .map(|text| Kept::verify(&text, &public).context("the witness is of another log"))
                .transpose()?,
        );
        let report = self.store.verify_audit_against(kept)?;
        self.note(Action::AuditRead, "verify", report.damage.is_none())?;
        Ok(verdict(&report))
    }

    /// The newest records.
    pub(super) fn audit_tail(&self, lines: u32) -> anyhow::Result<Value> {
        if lines > AUDIT_TAIL_LINES_MAX {
            bail!("at most {AUDIT_TAIL_LINES_MAX} lines at a time");
        }
        self.note(Action::AuditRead, "tail", true)?;
        self.store.checkpoint()?;
        let mut kept: VecDeque<Record> = VecDeque::new();
        let broken = for_each_record(self.store.blobs().as_ref(), &mut |_, record| {
            if kept.len() >= lines as usize {
                kept.pop_front();
            }
            kept.push_back(record);
            true
        })?;
        if let Some(at) = broken {
            bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
        }
        let reading = Reading::new(&self.store, &self.accounts);
        Ok(kept.iter().skip_while(|_| lines == 0).map(|record| reading.row(record)).collect())
    }

    /// A page of what a query finds.
    pub(super) fn audit_search(&self, query: &Query, place: Place) -> anyhow::Result<Answer> {
        let records_max = usize::try_from(place.records_max).unwrap_or(usize::MAX);
        if records_max > AUDIT_PAGE_RECORDS_MAX {
            bail!("at most {AUDIT_PAGE_RECORDS_MAX} records at a time");
        }
        let wanted = query.resolve(&self.accounts)?;
        self.note_reading("search", wanted.customer(), &serde_json::to_string(query)?)?;
        self.store.checkpoint()?;
        let _held = self.store.hold_packs();
        let reading = Reading::new(&self.store, &self.accounts);
        let (span, order) = (wanted.span(place), place.order());
        let found = search(self.store.blobs().as_ref(), &span, order, records_max, &mut |record| {
            wanted.takes(record) && wanted.takes_path(|| reading.details(record))
        })?;
        if let Some(at) = found.broken {
            bail!("the audit log is damaged at record {at}; run `coffre audit verify`");
        }
        Ok(found.records.iter().map(|record| reading.row(record)).collect::<Value>().into())
    }

    /// A record of somebody's reading the log: of one customer's part, or of the whole.
    pub(super) fn note_reading(
        &self,
        what: &str,
        customer: Option<[u8; 16]>,
        asked: &str,
    ) -> anyhow::Result<()> {
        let record = RecordDraft {
            customer,
            reason: Some(what.to_owned()),
            details: vec![(DetailKey::Note, asked.as_bytes().to_vec())],
            ..RecordDraft::new(Actor::Operator, Action::AuditRead)
        };
        self.store.record(record)?.wait()?;
        Ok(())
    }
}

/// Notes that somebody kept, read with the log's key.
fn kept_notes(texts: &[String], public: &[u8; 32]) -> anyhow::Result<Vec<Kept>> {
    let kept = texts.iter().enumerate().map(|(nth, text)| {
        Kept::verify(text, public)
            .with_context(|| format!("checkpoint {} given: it is not signed by this log's key", nth + 1))
    });
    kept.collect()
}

fn verdict(report: &VerifyReport) -> Answer {
    let good = report.damage.is_none();
    let value = json!({
        "state": match (good, report.begins) {
            (true, 0) => "verified",
            // What was lost before a recovery was signed as lost: what is there is all that can be verified.
            (true, _) => "verified from its first record on",
            (false, _) => "damaged",
        },
        "begins_at": (report.begins > 0).then_some(report.begins), "records": report.records, "checkpoints": report.checkpoints,
        "customers": report.customers, "customer_checkpoints": report.customer_checkpoints,
        "uncovered": report.uncovered, "damage": report.damage, "at": report.at.map(|at| at.0),
    });
    Answer { value, good }
}
