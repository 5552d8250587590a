//! What belongs to the whole store: packs, their counts, the rows of accounts, the audit log.

use std::collections::BTreeMap;

use super::{Check, Count, Finding, number_of, pack_of};
use crate::audit::checkpoint::verifier;
use crate::audit::verify::{Against, verify_against};
use crate::audit::writer::VERIFIER;
use crate::commit::{PackCountRow, PackRow};
use crate::error::StoreError;
use crate::id::CommitNumber;
use crate::index::Table;
use crate::keys::SlotRow;
use crate::log::pack::blob_name;
use crate::log::walk::{PackReader, packs};
use crate::rows::{IncidentRow, decode};

impl Check<'_> {
    pub(super) fn packs(&mut self) -> Result<(), StoreError> {
        let mut rows = BTreeMap::new();
        self.rows((&[self.store.system_key()], Table::Packs), &[], |_, at, row| {
            rows.insert(pack_of(at)?, decode::<PackRow>(row)?);
            Ok(())
        })?;
        let blobs = self.store.blobs();
        for pack in packs(blobs.as_ref())? {
            let bytes = match blobs.open(&blob_name(pack)).and_then(|blob| blob.len()) {
                Ok(bytes) => bytes,
                // It was given up just now.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            self.packs.insert(pack, bytes);
            match PackReader::open(blobs.as_ref(), self.store.packs_key(), pack) {
                Ok(Ok(_)) => {}
                _ if rows.get(&pack).is_some_and(PackRow::is_settled) => {}
                // The newest is being made.
                Ok(Err(_)) if pack.0 > self.position.pack => {}
                Ok(Err(_)) => self.find(Finding::PackHeader { pack }),
                Err(_) => self.find(Finding::PackUnreadable { pack, offset: 0 }),
            }
        }
        self.report.packs = self.packs.len() as u64;
        for (pack, row) in rows {
            if row.removed.is_none() && !self.packs.contains_key(&pack) {
                self.missing.entry(pack).or_default();
            }
            if row.removed.is_none() && row.damage.is_some() && !row.is_settled() {
                self.find(Finding::PackNoted { pack });
            }
        }
        Ok(())
    }

    /// Packs that are not there, now that it is known how many chunks lay in them.
    pub(super) fn missing_packs(&mut self) {
        for (pack, chunks) in std::mem::take(&mut self.missing) {
            self.find(Finding::PackMissing { pack, chunks });
        }
    }

    pub(super) fn pack_counts(&mut self) -> Result<(), StoreError> {
        let mut counted = std::mem::take(&mut self.live);
        self.rows((&[self.store.system_key()], Table::PackCounts), &[], |own, at, row| {
            let (pack, row) = (pack_of(at)?, decode::<PackCountRow>(row)?);
            if let Some(count) = Count::differs(row.live, counted.remove(&pack).unwrap_or(0)) {
                own.find(Finding::PackCount { pack, count });
            }
            Ok(())
        })?;
        for (pack, found) in counted {
            if let Some(count) = Count::differs(0, found) {
                self.find(Finding::PackCount { pack, count });
            }
        }
        Ok(())
    }

    pub(super) fn system_rows(&mut self) -> Result<(), StoreError> {
        let key = self.store.system_key();
        for table in [
            Table::Customers,
            Table::Users,
            Table::Credentials,
            Table::Authorities,
            Table::CertificateRevocations,
            Table::Garbage,
            Table::Fragmented,
            Table::Uploads,
        ] {
            self.rows((&[key], table), &[], |_, _, _| Ok(()))?;
        }
        self.rows((&[key], Table::Slots), &[], |own, at, row| {
            decode::<SlotRow>(row)?;
            own.number(Table::Slots, number_of(at)?);
            Ok(())
        })?;
        self.rows((&[key], Table::Incidents), &[], |own, at, row| {
            decode::<IncidentRow>(row)?;
            own.number(Table::Incidents, pack_of(at)?.0);
            Ok(())
        })
    }

    pub(super) fn audit(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        let public = self.store.audit_public_key();
        let against = Against { until: Some(&self.position.audit), ..Against::default() };
        let report = verify_against(blobs.as_ref(), &public, against)?;
        match report.damage {
            Some(damage) => self.find(Finding::AuditLog { damage }),
            None => {
                if let Some(count) =
                    Count::differs(self.position.audit.records, report.begins + report.records)
                {
                    self.find(Finding::AuditCount { count });
                }
            }
        }
        let store = CommitNumber(self.position.last_commit);
        if let Some(signed) = report.commit.filter(|signed| *signed > store) {
            self.find(Finding::AuditAhead { signed, store });
        }
        let line = verifier(&public);
        let mut found = vec![0; line.len()];
        let same = blobs.open(VERIFIER).is_ok_and(|held| {
            held.len().is_ok_and(|bytes| bytes == line.len() as u64)
                && held.read_at(0, &mut found).is_ok()
                && found == line.as_bytes()
        });
        if !same {
            self.find(Finding::AuditKey);
        }
        Ok(())
    }
}
