//! Records that do not open, or are missing, are looked for in the log: its journal and its exports hold every record that
//! was ever put, as it is stored, for as long as their packs are there. The newest one counts.

use std::collections::HashMap;

use super::{Repair, RepairKind};
use crate::audit::Action;
use crate::check::{BLOCK, Finding};
use crate::error::StoreError;
use crate::id::{BatchNumber, PackId, VaultId};
use crate::index::Table;
use crate::limits::REPAIR_ROWS_MAX;
use crate::log::export::ExportPart;
use crate::log::walk::{PackReader, packs};
use crate::rows::{chunk_key, inode_key, segment_key};

type At = (Table, Vec<u8>);

/// What the log said last of a key: as of which batch, and the value, or that it was deleted.
type Newest = HashMap<At, Option<(BatchNumber, Option<Vec<u8>>)>>;

/// The keys whose records are wanted.
fn wanted(findings: &[Finding]) -> Newest {
    let wanted = findings.iter().filter_map(|finding| match finding {
        // Counts of packs are not in the journal, and old ones of an export are wrong.
        Finding::Record { table: Table::PackCounts, .. } => None,
        Finding::Record { table, key } => Some((*table, key.clone())),
        Finding::ChunkMissing { vault, chunk, .. } => Some((Table::Chunks, chunk_key(*vault, *chunk))),
        Finding::SegmentMissing { vault, segment } => Some((Table::Segments, segment_key(*vault, *segment))),
        Finding::NameTarget { vault, inode, .. } => Some((Table::Inodes, inode_key(*vault, *inode))),
        Finding::NameParent { vault, parent, .. } => Some((Table::Inodes, inode_key(*vault, *parent))),
        _ => None,
    });
    wanted.map(|at| (at, None)).collect()
}

impl Repair<'_> {
    /// Puts back what the log has; tells whether anything was.
    pub(super) fn restore(&mut self, findings: &[Finding]) -> Result<bool, StoreError> {
        let mut newest = wanted(findings);
        if newest.is_empty() {
            return Ok(false);
        }
        self.store.checkpoint()?;
        for pack in packs(self.store.blobs().as_ref())? {
            self.search(pack, &mut newest)?;
        }
        let mut found: Vec<(At, Vec<u8>)> = newest
            .into_iter()
            .filter_map(|(at, newest)| Some((at, newest?.1?)))
            .filter(|((table, key), sealed)| self.opens(*table, key, sealed))
            .collect();
        found.sort();
        let mut restored = 0;
        for step in found.chunks(REPAIR_ROWS_MAX) {
            let mut txn = self.store.begin()?;
            let mut put = 0;
            for ((table, key), sealed) in step {
                // Meanwhile somebody may have written it anew.
                let now = txn.sealed(*table, key)?;
                if !now.is_some_and(|now| self.opens(*table, key, &now)) {
                    txn.put_sealed(*table, key, sealed.clone());
                    put += 1;
                }
            }
            if put > 0 {
                txn.audit(
                    self.record(Action::Repair, None, format!("{put} records restored from the log")),
                    None,
                );
                txn.submit()?.wait()?;
                restored += put;
                if step.iter().any(|((table, _), _)| *table == Table::Locks) {
                    self.store.opened_vaults().iter().for_each(|vault| vault.held_locks().forget());
                }
            }
        }
        self.count(RepairKind::RecordRestored, restored);
        Ok(restored > 0)
    }

    /// Whether a stored value opens under the key that its table stands under.
    fn opens(&self, table: Table, key: &[u8], sealed: &[u8]) -> bool {
        if self.store.system_key().open(table, key, sealed).is_some() {
            return true;
        }
        let vault = key.first_chunk().copied().map(VaultId).and_then(|id| self.store.vault(id).ok());
        vault.is_some_and(|vault| vault.keys().records.open(table, key, sealed).is_some())
    }

    fn search(&self, pack: PackId, newest: &mut Newest) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        let reader = match PackReader::open(blobs.as_ref(), self.store.packs_key(), pack) {
            Ok(Ok(reader)) => reader,
            Ok(Err(_)) => match self.store.pack_row(pack)? {
                Some(row) => PackReader::with_salt(blobs.as_ref(), self.store.packs_key(), pack, row.salt)?,
                None => return Ok(()),
            },
            // What the disk does not give is no help.
            Err(_) => return Ok(()),
        };
        let mut at = Some(BLOCK);
        while let Some(offset) = at {
            if let (Ok(Some((header, _))), Ok(Some((meta, _)))) =
                (reader.header_at(offset), reader.meta_at(offset))
            {
                for change in meta.changes {
                    note(newest, &(change.table, change.key), header.number, change.value);
                }
                // An export holds what was there at its base, wherever in the log it stands.
                if let Some(part) = meta.export.as_deref().and_then(ExportPart::decode) {
                    for (table, key, value) in part.rows {
                        note(newest, &(table, key), part.base, Some(value));
                    }
                }
            }
            at = reader.batch_behind(offset);
        }
        Ok(())
    }
}

fn note(newest: &mut Newest, at: &At, batch: BatchNumber, value: Option<Vec<u8>>) {
    if let Some(known) = newest.get_mut(at)
        && known.as_ref().is_none_or(|(known, _)| *known <= batch)
    {
        *known = Some((batch, value));
    }
}
