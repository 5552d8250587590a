//! What belongs to the whole store: packs, their counts, the rows of accounts, the audit log.

use super::Check;
use crate::audit::checkpoint::verifier;
use crate::audit::writer::VERIFIER;
use crate::commit::{PackCountRow, PackRow};
use crate::error::StoreError;
use crate::id::PackId;
use crate::index::Table;
use crate::log::pack::blob_name;
use crate::log::walk::{PackReader, packs};
use crate::tree::rows::decode;

impl Check<'_> {
    pub(super) fn packs(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        for pack in packs(blobs.as_ref())? {
            let bytes = blobs.open(&blob_name(pack))?.len()?;
            self.packs.insert(pack, bytes);
            if PackReader::open(blobs.as_ref(), self.store.packs_key(), pack)?.is_err() {
                self.report.find(format!("pack {pack}: its header is damaged"));
            }
        }
        self.report.packs = self.packs.len() as u64;
        self.rows((&[self.store.system_key()], Table::Packs), &[], |own, at, row| {
            let pack = at.try_into().map(|pack| PackId(u64::from_be_bytes(pack)));
            let (Ok(pack), Ok(row)) = (pack, decode::<PackRow>(row)) else {
                return own.report.find("a pack's record is not readable".to_owned());
            };
            if row.removed.is_none() && !own.packs.contains_key(&pack) {
                own.report.find(format!("pack {pack} is missing"));
            }
        })
    }

    pub(super) fn pack_counts(&mut self) -> Result<(), StoreError> {
        let mut counted = std::mem::take(&mut self.live);
        self.rows((&[self.store.system_key()], Table::PackCounts), &[], |own, at, row| {
            let pack = at.try_into().map(|pack| PackId(u64::from_be_bytes(pack)));
            let (Ok(pack), Ok(row)) = (pack, decode::<PackCountRow>(row)) else {
                return own.report.find("a pack's count is not readable".to_owned());
            };
            let live = counted.remove(&pack).unwrap_or(0);
            if live != row.live {
                own.report.find(format!("pack {pack} counts {} bytes in use and has {live}", row.live));
            }
        })?;
        for pack in counted.keys() {
            self.report.find(format!("pack {pack} has no count of the bytes in use"));
        }
        Ok(())
    }

    pub(super) fn system_rows(&mut self) -> Result<(), StoreError> {
        let key = self.store.system_key();
        for table in [
            Table::Customers,
            Table::Users,
            Table::Credentials,
            Table::Incidents,
            Table::Garbage,
            Table::Fragmented,
        ] {
            self.rows((&[key], table), &[], |_, _, _| {})?;
        }
        Ok(())
    }

    pub(super) fn audit(&mut self) -> Result<(), StoreError> {
        let report =
            crate::audit::verify::verify(self.store.blobs().as_ref(), &self.store.audit_public_key())?;
        if let Some(damage) = report.damage {
            self.report.find(format!("the audit log: {damage}"));
        }
        let held = self.store.blobs().open(VERIFIER)?;
        let line = verifier(&self.store.audit_public_key());
        let mut found = vec![0; line.len()];
        let same = held.len()? == line.len() as u64
            && held.read_at(0, &mut found).is_ok()
            && found == line.as_bytes();
        if !same {
            self.report.find("the audit log's public key beside it is not its own".to_owned());
        }
        Ok(())
    }
}
