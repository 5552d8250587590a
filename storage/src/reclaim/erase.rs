//! Erasing a vault for good: its key slot first, then everything that was ever written about it.
//!
//! The order: the slot goes from the vault's row, durably, so that nothing opens the vault any more; its rows go from every
//! table; the open pack is closed, the index written into the log anew; each older pack that holds a frame or a journal
//! row of the vault (the slot among them) is emptied of what belongs to others, overwritten and unlinked at once; the
//! index file is written anew and the old one overwritten. Interrupted, the same call goes on from where it was.

use std::collections::BTreeSet;

use super::repack::{Emptied, Removal};
use super::{ExportPolicy, Flow, Interrupted, Pass, ReclaimOptions, ReclaimReport};
use crate::audit::{Action, Actor, RecordDraft};
use crate::commit::Store;
use crate::error::StoreError;
use crate::id::{CommitNumber, OwnerId, PackId, VaultId};
use crate::index::{Change, Table};
use crate::limits::{BLOCK_BYTES, ERASE_ROWS_MAX};
use crate::log::batch::Meta;
use crate::log::export::ExportPart;
use crate::log::walk::{PackReader, packs};
use crate::note;
use crate::rows::{ChunkRow, UsageRow, VaultRow, after_prefix, decode, slot_key, usage_key};
use crate::time::UnixNanos;
use crate::tree::{SlotRecord, Vault};

/// The name in every certificate of erasure.
pub const CERTIFICATE_ORIGIN: &str = "coffre/erasure";

/// What an erasure did, and what it could not do yet.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// The vault.
    pub vault: VaultId,
    /// Its name.
    pub name: String,
    /// Whose it was.
    pub owner: OwnerId,
    /// When its slot was destroyed.
    pub erased: UnixNanos,
    /// The newest transaction at the end.
    pub commit: CommitNumber,
    /// Index records deleted by this call.
    pub rows: u64,
    /// Packs overwritten and unlinked by this call.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs with traces of the vault that are still there: something is still being written into them, or they are damaged.
    pub packs_left: Vec<PackId>,
}

/// Tables whose keys begin with the vault.
const OF_VAULT: [Table; 13] = [
    Table::Inodes,
    Table::Dentries,
    Table::InodeHistory,
    Table::DentryHistory,
    Table::Segments,
    Table::Chunks,
    Table::Locks,
    Table::Snapshots,
    Table::Fragmented,
    Table::Uploads,
    Table::Shares,
    Table::Digests,
    Table::Slots,
];

/// Whether a row belongs to a vault.
fn is_of(vault: VaultId, table: Table, key: &[u8]) -> bool {
    let at = |from: usize| key.get(from..from + 16) == Some(&vault.0[..]);
    match table {
        Table::Garbage => at(8),
        Table::Usage => at(16),
        Table::Vaults
        | Table::Inodes
        | Table::Dentries
        | Table::InodeHistory
        | Table::DentryHistory
        | Table::Segments
        | Table::Chunks
        | Table::Locks
        | Table::Snapshots
        | Table::Fragmented
        | Table::Uploads
        | Table::Shares
        | Table::Digests
        | Table::Slots => at(0),
        Table::Store
        | Table::Customers
        | Table::Users
        | Table::Credentials
        | Table::Authorities
        | Table::CertificateRevocations
        | Table::Packs
        | Table::Incidents
        | Table::AuditDetails
        | Table::PackCounts
        | Table::AuditTrees => false,
    }
}

fn mentions(meta: &Meta, vault: VaultId) -> bool {
    let exported = || {
        let part = meta.export.as_deref().and_then(ExportPart::decode);
        part.is_some_and(|part| part.rows.iter().any(|(table, key, _)| is_of(vault, *table, key)))
    };
    meta.frames.iter().any(|frame| frame.vault == vault)
        || meta.changes.iter().any(|Change { table, key, .. }| is_of(vault, *table, key))
        || exported()
}

impl Store {
    /// Erases a vault. Whoever has it open must have been sent away before. `progress` is told packs done and packs in all.
    ///
    /// # Errors
    /// `Held` by a legal hold; `VaultUnavailable` when there is none; the store's own errors: what was done stays done.
    pub fn erase_vault(
        &self,
        id: VaultId,
        audit: RecordDraft,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Erasure, StoreError> {
        let _turn = self.wait_for_reclaim();
        let opened = self.vault(id).ok();
        let row = self.destroy_slot(id, opened.as_ref(), audit)?;
        let mut erasure = Erasure {
            vault: id,
            name: row.name.clone(),
            owner: row.owner,
            erased: row.erased.unwrap_or(UnixNanos(0)),
            commit: CommitNumber(0),
            rows: self.delete_rows(id, row.owner)?,
            packs: 0,
            bytes: 0,
            packs_left: Vec::new(),
        };
        // Everything that was written about the vault lies before this pack; nothing more is.
        let until = self.next_pack()?;
        self.record(RecordDraft {
            vault: Some(id),
            reason: Some("its records are deleted; packs follow".to_owned()),
            ..RecordDraft::new(Actor::System, Action::VaultErase)
        })?
        .wait()?;
        // Handles on which nothing is unsaved, and those of the vault that is gone, let go of what they had seen.
        for vault in self.opened_vaults().iter().chain(&opened) {
            vault.renew_handles();
        }
        let export = self.export_index(&mut |_| {})?.export;
        let options =
            ReclaimOptions { live_percent_max: 100, grace_secs: 0, export: ExportPolicy::WhenNeeded };
        let mut pace = |_: &ReclaimReport, _| Flow::GoOn;
        let mut pass = Pass { store: self, options, report: ReclaimReport::default(), pace: &mut pace };
        match pass.discard_packs((id, until), export.base_pack, &mut erasure, progress) {
            Ok(()) | Err(Interrupted::Stopped) => {}
            Err(Interrupted::Failed(error)) => return Err(error),
        }
        self.checkpoint()?;
        self.index().rewrite()?;
        erasure.commit = self.last_commit();
        Ok(erasure)
    }

    /// The signed certificate of an erasure that left nothing. `copies` are the backups that were purged.
    ///
    /// # Errors
    /// `Randomness` when the signing key is none.
    pub fn erasure_certificate(&self, erasure: &Erasure, copies: &[String]) -> Result<String, StoreError> {
        let Erasure { vault, name, owner, erased, commit, .. } = erasure;
        let mut body = format!(
            "{CERTIFICATE_ORIGIN}\nvault {vault} {name}\ncustomer {owner}\nslots destroyed {}\n\
             packs and index overwritten by {}\ncommit {commit}\n",
            erased.0,
            self.clock_now().0
        );
        for copy in copies {
            // One line for each, whatever a path holds.
            body.push_str("copy purged ");
            body.extend(copy.chars().flat_map(char::escape_default));
            body.push('\n');
        }
        note::sign(CERTIFICATE_ORIGIN, &body, &self.signing_seed()).ok_or(StoreError::Randomness)
    }

    /// Takes the key slot away, durably. What was erased before stays as it is.
    fn destroy_slot(
        &self,
        id: VaultId,
        opened: Option<&Vault>,
        audit: RecordDraft,
    ) -> Result<VaultRow, StoreError> {
        // Slots are the vault's only ways in: they go with its row.
        let slots = self.slots(id)?;
        let row = self
            .change_vault_and(id, audit, &slots_keys(id, &slots), |row, now, _| {
                if row.holds.as_ref().is_some_and(|holds| !holds.is_empty()) {
                    return Err(StoreError::Held);
                }
                // Under the writer lock: nobody's change comes after this.
                if let Some(vault) = opened {
                    vault.close_for_good();
                }
                row.managed = None;
                row.shortening = None;
                row.erased = row.erased.or(Some(now));
                Ok(row.clone())
            })?
            .wait()?;
        self.forget_vault(id);
        self.checkpoint()?;
        Ok(row)
    }

    fn delete_rows(&self, id: VaultId, owner: OwnerId) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for table in OF_VAULT {
            deleted += self.delete_range(id, table, &id.0, &after_prefix(&id.0))?;
        }
        deleted += self.delete_range(id, Table::Garbage, &[], &[0xff; 64])?;
        let key = usage_key(owner, id);
        if let Some(bytes) = self.get(self.system_key(), Table::Usage, &key)? {
            let usage: UsageRow = decode(&bytes)?;
            let mut txn = self.begin()?;
            txn.delete(Table::Usage, &key);
            let settled = self.uncount(&mut txn, (owner, id), &usage)?;
            let ticket = txn.submit()?;
            settled.keep();
            ticket.wait()?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn delete_range(&self, id: VaultId, table: Table, from: &[u8], to: &[u8]) -> Result<u64, StoreError> {
        let (mut from, mut deleted) = (from.to_vec(), 0);
        loop {
            let piece = self.sealed_range(table, &from, to, ERASE_ROWS_MAX)?;
            let Some((last, _)) = piece.last() else { return Ok(deleted) };
            from = [&last[..], &[0]].concat();
            let mut txn = self.begin()?;
            for (key, sealed) in piece.iter().filter(|(key, _)| is_of(id, table, key)) {
                // What format 1 sealed for the vault opens no more; its pack's count is put right when the pack goes.
                if table == Table::Chunks
                    && let Some(row) = self.system_key().open(table, key, sealed)
                {
                    let row: ChunkRow = decode(&row)?;
                    txn.count(row.place.pack, -i64::from(row.place.stored_bytes));
                }
                txn.delete(table, key);
                deleted += 1;
            }
            txn.submit()?.wait()?;
        }
    }
}

impl Pass<'_> {
    /// Empties, overwrites and unlinks every pack before `until` that says anything of the vault. What the log's export of
    /// the index does not cover stays, and is told of.
    fn discard_packs(
        &mut self,
        (id, until): (VaultId, PackId),
        covered: PackId,
        erasure: &mut Erasure,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Interrupted> {
        let older: BTreeSet<PackId> =
            packs(self.store.blobs().as_ref())?.into_iter().filter(|pack| *pack < until).collect();
        let total = older.len() as u64;
        for (done, pack) in older.into_iter().enumerate() {
            progress(done as u64, total);
            match self.trace_of(id, pack)? {
                Trace::None => continue,
                Trace::GivenUp => {}
                Trace::Found => {
                    let free = pack < covered && self.store.is_settled(pack) && !self.store.packs_are_held();
                    if !free || matches!(self.empty(pack)?, Emptied::Damaged) {
                        erasure.packs_left.push(pack);
                        continue;
                    }
                    self.store.checkpoint()?;
                    self.settle_count(pack)?;
                }
                Trace::Unreadable => {
                    erasure.packs_left.push(pack);
                    continue;
                }
            }
            let Some(row) = self.store.pack_row(pack)? else { continue };
            let before = self.report.bytes_freed;
            self.remove(pack, row, Removal::Overwrite)?;
            erasure.packs += 1;
            erasure.bytes += self.report.bytes_freed - before;
        }
        progress(total, total);
        Ok(())
    }

    /// An emptied pack counts nothing in use.
    fn settle_count(&mut self, pack: PackId) -> Result<(), StoreError> {
        let live = i64::try_from(self.store.live_bytes(pack)).unwrap_or(i64::MAX);
        if live > 0 {
            let mut txn = self.store.begin()?;
            txn.count(pack, -live);
            txn.submit()?.wait()?;
        }
        Ok(())
    }

    fn trace_of(&self, id: VaultId, pack: PackId) -> Result<Trace, StoreError> {
        let (blobs, key) = (self.store.blobs(), self.store.packs_key());
        if self.store.pack_row(pack)?.is_some_and(|row| row.removed.is_some()) {
            return Ok(Trace::GivenUp);
        }
        let Ok(reader) = PackReader::open(blobs.as_ref(), key, pack)? else { return Ok(Trace::Unreadable) };
        let mut offset = BLOCK_BYTES as u64;
        while let Some((meta, end)) = reader.meta_at(offset)? {
            if mentions(&meta, id) {
                return Ok(Trace::Found);
            }
            offset = end;
        }
        let whole = reader.footer_at(key, offset)?.is_some();
        Ok(if whole { Trace::None } else { Trace::Unreadable })
    }
}

fn slots_keys(id: VaultId, slots: &[SlotRecord]) -> Vec<(Table, Vec<u8>)> {
    slots.iter().map(|slot| (Table::Slots, slot_key(id, slot.number))).collect()
}

/// What a pack says of a vault.
enum Trace {
    None,
    Found,
    /// It was emptied and given up; perhaps it is overwritten in part.
    GivenUp,
    Unreadable,
}
