//! Named snapshots: moments of a vault that are kept whole for as long as somebody wants, whatever the retention.

use super::Vault;
use crate::audit::RecordDraft;
use crate::commit::Pending;
use crate::error::StoreError;
use crate::index::Table;
use crate::limits::{SNAPSHOT_NAME_BYTES_MAX, SNAPSHOTS_MAX};
use crate::rows::{Moment, SnapshotRow, after_prefix, decode, encode, snapshot_key};
use crate::time::UnixNanos;

/// A named snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Number from the store's sequence.
    pub number: u64,
    /// Its name, unique in its vault.
    pub name: String,
    /// The moment it shows.
    pub time: UnixNanos,
    /// From when on it is gone; absent: kept until it is deleted.
    pub expires: Option<UnixNanos>,
}

fn is_name(name: &str) -> bool {
    (1..=SNAPSHOT_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
        && !name.starts_with(['.', '-'])
        // What begins like a year is a time.
        && !name.bytes().take(4).all(|byte| byte.is_ascii_digit())
}

impl Vault {
    fn snapshot_rows(&self) -> Result<Vec<(u64, SnapshotRow)>, StoreError> {
        let prefix = self.id().0;
        let rows = self.store().range(
            &self.keys().records,
            Table::Snapshots,
            &prefix,
            &after_prefix(&prefix),
            usize::MAX,
        )?;
        rows.into_iter()
            .map(|(at, bytes)| {
                let number = at.last_chunk().ok_or(StoreError::DamagedRecord)?;
                Ok((u64::from_be_bytes(*number), decode(&bytes)?))
            })
            .collect()
    }

    /// Moments that named snapshots keep now, expired ones not among them.
    pub(crate) fn kept_moments(&self) -> Result<Vec<Moment>, StoreError> {
        let now = self.store().clock_now();
        let rows = self.snapshot_rows()?.into_iter().map(|(_, row)| row);
        Ok(rows.filter(|row| row.expires.is_none_or(|expires| expires > now)).map(|row| row.moment).collect())
    }

    /// Named snapshots, oldest first, expired ones not among them.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRecord>, StoreError> {
        let now = self.store().clock_now();
        let shown = self.snapshot_rows()?.into_iter().map(|(number, row)| SnapshotRecord {
            number,
            name: row.name,
            time: row.moment.time,
            expires: row.expires,
        });
        Ok(shown.filter(|snapshot| snapshot.expires.is_none_or(|expires| expires > now)).collect())
    }

    /// Makes a named snapshot of the present. Names have 1 to 64 of `A-Z a-z 0-9 . _ - @` and do not begin like a year.
    ///
    /// # Errors
    /// `InvalidName`, `Exists`; `TooLarge` when there are too many.
    pub fn add_snapshot(
        &self,
        name: &str,
        expires: Option<UnixNanos>,
        audit: RecordDraft,
    ) -> Result<Pending<SnapshotRecord>, StoreError> {
        if !is_name(name) {
            return Err(StoreError::InvalidName);
        }
        let mut txn = self.store().begin()?;
        let present = self.snapshot_rows()?;
        let now = txn.time();
        let live = |row: &SnapshotRow| row.expires.is_none_or(|expires| expires > now);
        if present.iter().any(|(_, row)| row.name == name && live(row)) {
            return Err(StoreError::Exists);
        }
        if present.len() >= SNAPSHOTS_MAX {
            return Err(StoreError::TooLarge("the number of snapshots"));
        }
        let row = SnapshotRow {
            name: name.to_owned(),
            moment: Moment { commit: txn.number(), time: txn.time() },
            expires,
        };
        let number = txn.next_number();
        let records = &self.keys().records;
        txn.put(records, Table::Snapshots, &snapshot_key(self.id(), number), &encode(&row)?);
        for (expired, _) in present.iter().filter(|(_, row)| !live(row)) {
            txn.delete(Table::Snapshots, &snapshot_key(self.id(), *expired));
        }
        let made = SnapshotRecord { number, name: row.name, time: row.moment.time, expires };
        txn.audit(RecordDraft { vault: Some(self.id()), ..audit }, Some(&self.keys().audit));
        Ok(Pending { value: made, ticket: txn.submit()? })
    }

    /// Lets a named snapshot go at `when` (at once in the past): until then it is kept.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn expire_snapshot(
        &self,
        name: &str,
        when: UnixNanos,
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        let mut txn = self.store().begin()?;
        let now = txn.time();
        let found = self
            .snapshot_rows()?
            .into_iter()
            .find(|(_, row)| row.name == name && row.expires.is_none_or(|expires| expires > now));
        let (number, mut row) = found.ok_or(StoreError::NotFound)?;
        row.expires = Some(row.expires.map_or(when, |expires| expires.min(when)));
        let key = snapshot_key(self.id(), number);
        txn.put(&self.keys().records, Table::Snapshots, &key, &encode(&row)?);
        txn.audit(RecordDraft { vault: Some(self.id()), ..audit }, Some(&self.keys().audit));
        Ok(Pending { value: (), ticket: txn.submit()? })
    }
}
