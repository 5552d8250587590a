//! How long superseded states are kept, and what keeps them longer.
//!
//! A longer retention counts at once; a shorter one after a grace time, in which somebody may notice and take it back. A
//! legal hold on a vault, or on a part of one, keeps the whole vault's history until the last hold is lifted.

use super::Vault;
use crate::audit::RecordDraft;
use crate::commit::{Pending, Store};
use crate::error::StoreError;
use crate::frame::Compression;
use crate::id::{InodeId, VaultId};
use crate::index::Table;
use crate::limits::{HOLD_REASON_BYTES_MAX, HOLDS_MAX};
use crate::rows::{CompressionSetting, HoldRow, Shortening, VaultRow, decode, encode};
use crate::time::UnixNanos;

/// What keeps the past of a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionState {
    /// How long superseded states are kept, seconds.
    pub retention_secs: u64,
    /// A shorter time that has been asked for, and from when on it counts.
    pub shortening: Option<(u64, UnixNanos)>,
    /// Legal holds, oldest first.
    pub holds: Vec<HoldRecord>,
    /// The oldest moment that can be looked at, named snapshots aside.
    pub whole_since: UnixNanos,
}

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// Its number.
    pub number: u64,
    /// What it was asked for: the root for the whole vault.
    pub inode: InodeId,
    /// Since when.
    pub since: UnixNanos,
    /// Why.
    pub reason: String,
}

impl Store {
    /// Changes a vault's row with its audit record.
    pub(crate) fn change_vault<T>(
        &self,
        id: VaultId,
        audit: RecordDraft,
        change: impl FnOnce(&mut VaultRow, UnixNanos, &mut dyn FnMut() -> u64) -> Result<T, StoreError>,
    ) -> Result<Pending<T>, StoreError> {
        self.change_vault_and(id, audit, &[], change)
    }

    /// The same, and other rows go in the same transaction.
    pub(crate) fn change_vault_and<T>(
        &self,
        id: VaultId,
        audit: RecordDraft,
        deleted: &[(Table, Vec<u8>)],
        change: impl FnOnce(&mut VaultRow, UnixNanos, &mut dyn FnMut() -> u64) -> Result<T, StoreError>,
    ) -> Result<Pending<T>, StoreError> {
        let mut txn = self.begin()?;
        let found = txn.get(self.system_key(), Table::Vaults, &id.0)?;
        let mut row: VaultRow = decode(&found.ok_or(StoreError::VaultUnavailable(id))?)?;
        let now = txn.time();
        let value = change(&mut row, now, &mut || txn.next_number())?;
        txn.put(self.system_key(), Table::Vaults, &id.0, &encode(&row)?);
        for (table, key) in deleted {
            txn.delete(*table, key);
        }
        txn.audit(RecordDraft { vault: Some(id), ..audit }, None);
        Ok(Pending { value, ticket: txn.submit()? })
    }
}

impl Vault {
    /// What keeps its past now.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn retention(&self) -> Result<RetentionState, StoreError> {
        let (row, now) = (self.vault_row()?, self.store().clock_now());
        let holds = row.holds.iter().flatten().map(|hold| HoldRecord {
            number: hold.number,
            inode: hold.inode,
            since: hold.since,
            reason: hold.reason.clone(),
        });
        Ok(RetentionState {
            retention_secs: row.effective_retention_secs(now),
            shortening: row.shortening.filter(|shorter| shorter.at > now).map(|s| (s.retention_secs, s.at)),
            holds: holds.collect(),
            whole_since: row.whole_since(now),
        })
    }

    /// Sets how long superseded states are kept. Returns from when on it counts: a shorter time waits for `grace_secs`.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn set_retention(
        &self,
        retention_secs: u64,
        grace_secs: u64,
        audit: RecordDraft,
    ) -> Result<Pending<UnixNanos>, StoreError> {
        self.store().change_vault(self.id(), audit, |row, now, _| {
            let present = row.effective_retention_secs(now);
            row.retention_secs = present.max(retention_secs);
            if retention_secs >= present {
                row.shortening = None;
                return Ok(now);
            }
            let grace = i64::try_from(grace_secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
            let at = UnixNanos(now.0.saturating_add(grace));
            row.shortening = Some(Shortening { retention_secs, at });
            Ok(at)
        })
    }

    /// Places a legal hold on the vault, or on what lies below an inode. Returns its number.
    ///
    /// # Errors
    /// `NotFound` for the inode; `TooLarge` for a long reason or too many holds.
    pub fn add_hold(
        &self,
        inode: InodeId,
        reason: &str,
        audit: RecordDraft,
    ) -> Result<Pending<u64>, StoreError> {
        if reason.len() > HOLD_REASON_BYTES_MAX {
            return Err(StoreError::TooLarge("the reason"));
        }
        self.row(inode)?;
        self.store().change_vault(self.id(), audit, |row, since, next| {
            let holds = row.holds.get_or_insert_default();
            if holds.len() >= HOLDS_MAX {
                return Err(StoreError::TooLarge("the number of holds"));
            }
            let number = next();
            holds.push(HoldRow { number, inode, since, reason: reason.to_owned() });
            Ok(number)
        })
    }

    /// Lifts a legal hold.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn lift_hold(&self, number: u64, audit: RecordDraft) -> Result<Pending<()>, StoreError> {
        self.store().change_vault(self.id(), audit, |row, _, _| {
            let holds = row.holds.get_or_insert_default();
            let before = holds.len();
            holds.retain(|hold| hold.number != number);
            if holds.len() < before { Ok(()) } else { Err(StoreError::NotFound) }
        })
    }

    /// Whether chunks written from now on are compressed.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn set_compression(
        &self,
        compression: Compression,
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        let done = self.store().change_vault(self.id(), audit, |row, _, _| {
            row.compression = Some(match compression {
                Compression::Off => CompressionSetting::Off,
                Compression::Lz4 => CompressionSetting::Lz4,
            });
            Ok(())
        })?;
        self.compress(compression);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OwnerId;

    const DAY: i64 = 86_400_000_000_000;

    fn row() -> VaultRow {
        VaultRow {
            owner: OwnerId([1; 16]),
            name: "v".to_owned(),
            created: UnixNanos(0),
            retention_secs: 30 * 86_400,
            managed: None,
            shortening: None,
            holds: None,
            compression: None,
            erased: None,
            pruned: None,
            recount_due: None,
            bytes_max: None,
            files_max: None,
            stored_max: None,
        }
    }

    #[test]
    fn a_shorter_retention_counts_when_its_grace_has_passed() {
        let at = UnixNanos(100 * DAY);
        let row = VaultRow { shortening: Some(Shortening { retention_secs: 86_400, at }), ..row() };
        assert_eq!(row.window_start(UnixNanos(at.0 - 1)), UnixNanos(70 * DAY - 1));
        assert_eq!(row.window_start(at), UnixNanos(99 * DAY));
    }

    #[test]
    fn what_was_pruned_does_not_come_back_with_a_longer_retention_or_a_hold() {
        let case = HoldRow { number: 1, inode: InodeId::ROOT, since: UnixNanos(0), reason: String::new() };
        let pruned = VaultRow { pruned: Some(UnixNanos(90 * DAY)), ..row() };
        assert_eq!(pruned.whole_since(UnixNanos(100 * DAY)), UnixNanos(90 * DAY));
        assert_eq!(pruned.whole_since(UnixNanos(200 * DAY)), UnixNanos(170 * DAY));
        let held = VaultRow { holds: Some(vec![case]), ..pruned };
        assert_eq!(held.whole_since(UnixNanos(200 * DAY)), UnixNanos(90 * DAY));
    }
}
