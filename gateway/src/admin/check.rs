//! `coffre check`: what is wrong, what was done about it, and which files are concerned.

use coffre_storage::Store;
use coffre_storage::audit::{Action, Actor, Outcome, RecordDraft};
use coffre_storage::check::{CheckOptions, CheckReport, ConcernedFile, Finding, RepairReport};
use serde_json::{Map, Value, json};

use super::Answer;
use crate::accounts::Accounts;
use crate::limits::FINDINGS_SHOWN_MAX;
use crate::units::{lossless, moment};

/// Checks, and repairs where that is asked for. Works without accounts too: their records may be what is damaged.
pub(super) fn run(
    store: &Store,
    accounts: Option<&Accounts>,
    (read_data, repair): (bool, bool),
    progress: &mut dyn FnMut(u64, u64),
) -> anyhow::Result<Answer> {
    let options = CheckOptions { read_data, progress: Some(progress) };
    let names: Vec<(String, _)> = accounts.map(Accounts::vaults).transpose()?.unwrap_or_default();
    let name = |file: &ConcernedFile| {
        let found = names.iter().find(|(_, vault)| vault.id == file.vault);
        found.map_or_else(|| file.vault.to_string(), |(name, _)| name.clone())
    };
    let answer = if repair {
        let repaired = store.repair(options, &RecordDraft::new(Actor::Operator, Action::Repair))?;
        repair_answer(&repaired, &name)
    } else {
        let report = store.check(options)?;
        let mut fields = figures(&report, &name);
        list(&mut fields, "findings", &report.findings);
        let good = report.findings.is_empty();
        Answer { value: with_state(fields, if good { "clean" } else { "damaged" }), good }
    };
    let record = RecordDraft {
        outcome: if answer.good { Outcome::Done } else { Outcome::Failed },
        reason: Some(if read_data { "with data" } else { "structure" }.to_owned()),
        ..RecordDraft::new(Actor::Operator, Action::Check)
    };
    store.record(record)?.wait()?;
    Ok(answer)
}

/// What `coffre status` tells of the scrub: when the last full pass ended and what it found, and how far the present one is.
pub(super) fn scrub(store: &Store) -> anyhow::Result<Value> {
    let state = store.scrub_state()?;
    Ok(json!({
        "last_ended": state.last.map(|last| moment(last.ended.0)), "last_packs": state.last.map(|last| last.packs),
        "last_bytes": state.last.map(|last| last.bytes), "last_damaged": state.last.map(|last| last.damaged),
        "begun": state.begun.map(|begun| moment(begun.0)), "bytes": state.begun.map(|_| state.bytes),
        "damaged": state.begun.map(|_| state.damaged),
    }))
}

fn repair_answer(report: &RepairReport, name: &dyn Fn(&ConcernedFile) -> String) -> Answer {
    let mut fields = figures(&report.left, name);
    list(&mut fields, "findings", &report.found);
    list(&mut fields, "left", &report.left.findings);
    let done: Map<String, Value> =
        report.repaired.iter().map(|(kind, times)| (kind.name().to_owned(), json!(times))).collect();
    fields.insert("repaired".to_owned(), done.into());
    let good = report.left.findings.is_empty();
    let state = match good {
        true if report.found.is_empty() => "clean",
        true => "repaired",
        false => "damaged",
    };
    Answer { value: with_state(fields, state), good }
}

fn with_state(mut fields: Map<String, Value>, state: &str) -> Value {
    fields.insert("state".to_owned(), state.into());
    fields.into()
}

fn figures(report: &CheckReport, name: &dyn Fn(&ConcernedFile) -> String) -> Map<String, Value> {
    let file = |file: &ConcernedFile| {
        json!({
            "vault": name(file), "inode": file.inode.0,
            "path": file.path.as_deref().map(lossless), "moment": file.moment.map(|at| moment(at.0)),
        })
    };
    let mut fields = Map::new();
    for (key, figure) in [
        ("vaults", report.vaults),
        ("vaults_locked", report.vaults_locked.len() as u64),
        ("inodes", report.inodes),
        ("superseded", report.superseded),
        ("chunks", report.chunks),
        ("chunks_set_aside", report.chunks_set_aside),
        ("packs", report.packs),
        ("bytes_read", report.bytes_read),
        ("files_left_out", report.files_left_out),
    ] {
        fields.insert(key.to_owned(), figure.into());
    }
    fields.insert("files".to_owned(), report.files.iter().map(file).collect());
    fields
}

/// Findings in words. More than a person reads are counted.
fn list(fields: &mut Map<String, Value>, key: &str, findings: &[Finding]) {
    let mut shown: Vec<String> = findings.iter().take(FINDINGS_SHOWN_MAX).map(ToString::to_string).collect();
    if findings.len() > shown.len() {
        shown.push(format!("and {} more", findings.len() - shown.len()));
    }
    fields.insert(key.to_owned(), shown.into());
}
