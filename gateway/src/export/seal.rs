//! The end of an export: sums, signature, report.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use coffre_storage::keys::GatewayLabel;
use coffre_storage::note;
use coffre_storage::time::UnixNanos;
use rustix::fs::OFlags;

use super::destination::{Destination, State};
use super::manifest::{Counts, Line, LineKind, Summary, read_line, sum_line};
use super::{
    ExportError, MANIFEST, NotExported, ORIGIN, Order, Report, SIGNATURE, SUMS, VERIFIER, moment_text,
};
use crate::limits::EXPORT_NAMED_MAX;
use crate::units::{hex, lossless};

/// What a manifest tells as a whole.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) not_exported: Vec<NotExported>,
    /// Numbers of lines that are none, the first of them.
    pub(super) unreadable: Option<u64>,
}

/// Reads a manifest line by line: tells `each` where a line begins and what it says, and `sums` the lines of `SHA256SUMS`.
pub(super) fn scan(
    manifest: File,
    sums: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    each: &mut dyn FnMut(u64, &Line),
) -> std::io::Result<Tally> {
    let mut reader = BufReader::new(manifest);
    let (mut tally, mut bytes, mut at, mut number) = (Tally::default(), Vec::new(), 0, 0);
    loop {
        let len = read_line(&mut reader, &mut bytes)?;
        if len == 0 {
            return Ok(tally);
        }
        number += 1;
        let Some(line) = Line::parse(&bytes) else {
            tally.unreadable = tally.unreadable.or(Some(number));
            at += len;
            continue;
        };
        let path = line.path.bytes().unwrap_or_default();
        tally.counts.add(&line);
        if let (LineKind::File, true, Some(sha256)) = (line.kind, line.is_exported(), &line.sha256) {
            sums(&sum_line(sha256, &path))?;
        }
        if let Some(reason) =
            line.not_exported.as_ref().filter(|_| tally.not_exported.len() < EXPORT_NAMED_MAX)
        {
            tally.not_exported.push(NotExported { path: lossless(&path), reason: reason.clone() });
        }
        each(at, &line);
        at += len;
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn file_sha256(mut file: impl Read) -> std::io::Result<(String, u64)> {
    let (mut hash, mut piece, mut bytes) = (Context::new(&SHA256), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hex(hash.finish().as_ref()), bytes)),
            len => {
                hash.update(piece.get(..len).unwrap_or_default());
                bytes += len as u64;
            }
        }
    }
}

fn verifier_of(order: &Order) -> String {
    note::verifier(ORIGIN, &order.vault.store().audit_public_key())
}

fn report_of(order: &Order, state: &State, tally: Tally) -> Report {
    let Counts { files, directories, symbolic_links, bytes, not_exported } = tally.counts;
    Report {
        state: if not_exported == 0 { "exported" } else { "incomplete" },
        vault: order.name.clone(),
        destination: order.destination.clone(),
        format: order.format.name(),
        moment: moment_text(UnixNanos(state.moment)),
        commit_number: state.commit,
        files,
        directories,
        symbolic_links,
        bytes,
        not_exported,
        not_exported_paths: tally.not_exported,
        verifier: verifier_of(order).trim_end().to_owned(),
    }
}

/// The report of an export whose signature is there.
pub(super) fn report(order: &Order, state: &State, destination: &Destination) -> Result<Report, ExportError> {
    let tally = destination.io(destination
        .file(MANIFEST, OFlags::RDONLY)
        .and_then(|manifest| scan(manifest, &mut |_| Ok(()), &mut |_, _| {})))?;
    Ok(report_of(order, state, tally))
}

/// Writes the sums of what the manifest tells, and signs both. Without its signature an export is not finished.
pub(super) fn seal(order: &Order, state: &State, destination: &Destination) -> Result<Report, ExportError> {
    let tally = destination.io((|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut sums = BufWriter::new(destination.file(SUMS, flags)?);
        let manifest = destination.file(MANIFEST, OFlags::RDONLY)?;
        let tally = scan(manifest, &mut |line| sums.write_all(line), &mut |_, _| {})?;
        sums.flush()?;
        sums.get_ref().sync_all()?;
        Ok(tally)
    })())?;
    let sha256 = |name| destination.io(destination.file(name, OFlags::RDONLY).and_then(file_sha256));
    let summary = Summary {
        vault: order.name.clone(),
        vault_id: order.vault.id().to_string(),
        moment: UnixNanos(state.moment),
        commit: state.commit,
        format: order.format.name().to_owned(),
        counts: tally.counts,
        manifest_sha256: sha256(MANIFEST)?.0,
        sums_sha256: sha256(SUMS)?.0,
        signed: order.vault.store().clock_now(),
    };
    let seed = order.vault.store().gateway_key().derive(GatewayLabel::AuditSigning);
    let signed = note::sign(ORIGIN, &summary.body(), &seed).ok_or(ExportError::Key)?;
    destination.put(VERIFIER, verifier_of(order).as_bytes())?;
    destination.put(SIGNATURE, signed.as_bytes())?;
    Ok(report_of(order, state, tally))
}
