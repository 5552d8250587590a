//! Repairs of what belongs to the whole store: what vaults use, what of packs is in use, packs themselves, the sequence.

use std::collections::BTreeMap;

use super::{Incomplete, Repair, RepairKind};
use crate::allowance::Amounts;
use crate::audit::Action;
use crate::check::{BLOCK, Finding, UsageCounts, pack_of};
use crate::commit::{PackDamage, PackRow};
use crate::error::StoreError;
use crate::id::{OwnerId, PackId, VaultId};
use crate::index::Table;
use crate::limits::BLOCK_BYTES;
use crate::log::pack::{PackFooter, PackHeader, blob_name};
use crate::log::walk::PackReader;
use crate::quota::{Asking, Growth};
use crate::rows::{UsageRow, decode, encode, usage_key};

impl Repair<'_> {
    pub(super) fn correct_counts(
        &mut self,
        findings: &[Finding],
        incomplete: &Incomplete,
    ) -> Result<(), StoreError> {
        self.correct_references(findings, incomplete)?;
        let (mut packs, mut numbers) = (Vec::new(), 0);
        for finding in findings {
            match finding {
                Finding::Usage { vault, owner, said, found } if !incomplete.has(*vault) => {
                    self.count_usage((*owner, *vault), *said, *found)?;
                }
                Finding::UsageOfNobody { key } => self.forget_usage(key)?,
                Finding::PackCount { pack, count } => packs.push((*pack, count.growth())),
                // The count in memory is right: it is written again with any change.
                Finding::Record { table: Table::PackCounts, key } => packs.push((pack_of(key)?, 0)),
                Finding::Number { number, .. } => numbers = numbers.max(*number),
                _ => {}
            }
        }
        if !packs.is_empty() {
            let mut txn = self.store.begin()?;
            for (pack, growth) in &packs {
                txn.count(*pack, *growth);
            }
            let reason = format!("{} {}", packs.len(), RepairKind::PackCounted.name());
            txn.audit(self.record(Action::Repair, None, reason), None);
            txn.submit()?.wait()?;
            self.count(RepairKind::PackCounted, packs.len() as u64);
        }
        if numbers > 0 {
            let mut txn = self.store.begin()?;
            txn.skip_numbers(numbers);
            txn.audit(self.record(Action::Repair, None, RepairKind::NumbersSkipped.name().to_owned()), None);
            txn.submit()?.wait()?;
            self.count(RepairKind::NumbersSkipped, 1);
        }
        Ok(())
    }

    fn count_usage(
        &mut self,
        (owner, vault): (OwnerId, VaultId),
        said: Option<UsageCounts>,
        found: UsageCounts,
    ) -> Result<(), StoreError> {
        let mut txn = self.store.begin()?;
        let key = usage_key(owner, vault);
        let now = match txn.get(self.store.system_key(), Table::Usage, &key) {
            // Nobody could count on one that is damaged.
            Ok(row) => row.and_then(|row| decode::<UsageRow>(&row).ok()).map(UsageCounts::from),
            Err(StoreError::DamagedRecord) => None,
            Err(error) => return Err(error),
        };
        let (before, said) = (now.unwrap_or_default(), said.unwrap_or_default());
        let moved = |now: u64, said: u64, found: u64| (now.saturating_add(found)).saturating_sub(said);
        let after = UsageCounts {
            bytes: moved(before.bytes, said.bytes, found.bytes),
            inodes: moved(before.inodes, said.inodes, found.inodes),
            unique: moved(before.unique, said.unique, found.unique),
            stored: moved(before.stored, said.stored, found.stored),
        };
        let row = UsageRow {
            bytes: after.bytes,
            inodes: after.inodes,
            unique: Some(after.unique),
            stored: Some(after.stored),
        };
        txn.put(self.store.system_key(), Table::Usage, &key, &encode(&row)?);
        let reason = RepairKind::UsageCounted.name().to_owned();
        txn.audit(self.record(Action::Repair, Some(vault), reason), None);
        let amounts = |counts: UsageCounts| Amounts {
            bytes: counts.bytes,
            files: counts.inodes.saturating_sub(1),
            stored: counts.stored,
        };
        let growth = Growth { added: amounts(after), removed: amounts(before), held: Amounts::default() };
        // Nobody is asked: it only says what is.
        let settled = self.store.quotas().settle(owner, vault, growth, Asking::Nobody).ok();
        if let (Some(settled), Ok(vault)) = (&settled, self.store.vault(vault)) {
            vault.tell_settled(&mut txn, settled)?;
        }
        let ticket = txn.submit()?;
        if let Some(settled) = settled {
            settled.keep();
        }
        ticket.wait()?;
        self.count(RepairKind::UsageCounted, 1);
        Ok(())
    }

    fn forget_usage(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let mut txn = self.store.begin()?;
        txn.delete(Table::Usage, key);
        let reason = RepairKind::UsageCounted.name().to_owned();
        txn.audit(self.record(Action::Repair, None, reason), None);
        txn.submit()?.wait()?;
        self.count(RepairKind::UsageCounted, 1);
        Ok(())
    }

    /// Packs that are gone, now that all that lay in them is set aside.
    pub(super) fn give_up_packs(&mut self, findings: &[Finding]) -> Result<(), StoreError> {
        for finding in findings {
            let Finding::PackMissing { pack, .. } = finding else { continue };
            self.change_pack(*pack, RepairKind::PackSettled, |row, now| row.removed = Some(now))?;
        }
        Ok(())
    }

    /// Headers and footers say nothing that is not known elsewhere: they are written again. Of a pack with other damage
    /// all that cannot be read has been set aside by now: it is noted that it is settled. Returns what stays as it is.
    pub(super) fn mend_packs(
        &mut self,
        findings: &[Finding],
        read_data: bool,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut packs: BTreeMap<PackId, Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            match finding {
                Finding::PackHeader { pack }
                | Finding::Batch { pack, .. }
                | Finding::BatchOrder { pack, .. }
                | Finding::Footer { pack, .. }
                | Finding::PackTail { pack }
                | Finding::PackNoted { pack }
                | Finding::PackUnreadable { pack, .. } => packs.entry(*pack).or_default().push(finding),
                _ => {}
            }
        }
        let locked =
            self.locked || findings.iter().any(|finding| matches!(finding, Finding::VaultUnavailable { .. }));
        let mut left = Vec::new();
        for (pack, findings) in packs {
            let Some(row) = self.store.pack_row(pack)? else {
                left.extend(findings.into_iter().cloned());
                continue;
            };
            let mut unmended = Vec::new();
            for finding in findings {
                let mended = match finding {
                    Finding::PackHeader { .. } => self.write_header(pack, &row)?,
                    Finding::Footer { offset, .. } => self.write_footer(pack, &row, *offset)?,
                    _ => false,
                };
                if !mended {
                    unmended.push(finding.clone());
                }
            }
            if unmended.is_empty() {
                continue;
            }
            // What a locked vault has in it nobody could look at, and without the data nobody has looked.
            if locked || !read_data {
                left.extend(unmended);
            } else if unmended.iter().all(|finding| matches!(finding, Finding::PackNoted { .. })) {
                // All of it was read again, and is whole now.
                self.change_pack(pack, RepairKind::PackMended, |row, _| row.damage = None)?;
            } else {
                self.change_pack(pack, RepairKind::PackSettled, |row, now| {
                    let found = row.damage.map_or(now, |damage| damage.found);
                    row.damage = Some(PackDamage { found, settled: Some(now) });
                })?;
            }
        }
        Ok(left)
    }

    fn change_pack(
        &mut self,
        pack: PackId,
        kind: RepairKind,
        change: impl FnOnce(&mut PackRow, crate::time::UnixNanos),
    ) -> Result<(), StoreError> {
        let mut txn = self.store.begin()?;
        let found = txn.get(self.store.system_key(), Table::Packs, &pack.0.to_be_bytes())?;
        // A pack that nobody ever knew has no record, and nothing in it.
        let Some(found) = found else { return Ok(()) };
        let mut row: PackRow = decode(&found)?;
        change(&mut row, txn.time());
        self.store.put_pack_row(&mut txn, pack, &row)?;
        txn.audit(self.record(Action::Repair, None, format!("pack {pack}: {}", kind.name())), None);
        txn.submit()?.wait()?;
        self.count(kind, 1);
        Ok(())
    }

    fn write_header(&mut self, pack: PackId, row: &PackRow) -> Result<bool, StoreError> {
        let header = PackHeader { pack, salt: row.salt };
        self.mend(pack, 0, &header.encode(self.store.packs_key()))
    }

    /// Only where nothing but the footer is missing: every batch before it was whole.
    fn write_footer(&mut self, pack: PackId, row: &PackRow, offset: u64) -> Result<bool, StoreError> {
        let key = self.store.packs_key();
        let reader = PackReader::with_salt(self.store.blobs().as_ref(), key, pack, row.salt)?;
        if reader.bytes != offset + BLOCK {
            return Ok(false);
        }
        let (mut at, mut batches, mut last) = (BLOCK, 0, crate::id::BatchNumber(0));
        while let Some((header, _)) = reader.header_at(at)? {
            at += u64::from(header.blocks) * BLOCK_BYTES as u64;
            batches += 1;
            last = header.number;
        }
        if at != offset {
            return Ok(false);
        }
        let footer = PackFooter { pack, end: offset, batches, last };
        self.mend(pack, offset, &footer.encode(key, &row.salt))
    }

    fn mend(&mut self, pack: PackId, offset: u64, block: &[u8]) -> Result<bool, StoreError> {
        let blob = self.store.blobs().open(&blob_name(pack))?;
        // A disk that does not take it is left to `PackSettled`.
        if blob.write_at(offset, block).and_then(|()| blob.sync()).is_err() {
            return Ok(false);
        }
        let reason = format!("pack {pack}: {}", RepairKind::PackMended.name());
        self.store.record(self.record(Action::Repair, None, reason))?.wait()?;
        self.count(RepairKind::PackMended, 1);
        Ok(true)
    }
}
