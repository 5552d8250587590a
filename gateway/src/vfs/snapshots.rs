//! `/.snapshots`: every earlier moment that the user's vaults can show, as directories that nobody can change. It is at
//! the root of each namespace and is not listed there. A name below it is a time (`point`) or that of a named snapshot;
//! below that lies the whole namespace as it was, with the mounts and the read rights of today.

use std::collections::{BTreeMap, BTreeSet};

use coffre_storage::audit::Protocol;
use coffre_storage::id::VaultId;
use coffre_storage::{StoreError, Vault};

use super::point::{Spelling, name_of, time_of};
use super::{DirectoryEntry, Namespace, UnixNanos, VfsError};
use crate::limits::{SNAPSHOT_DAYS_MAX, SNAPSHOT_HOURS};

/// The directory's name.
pub const SNAPSHOTS: &[u8] = b".snapshots";

const HOUR_NANOS: i64 = 3_600_000_000_000;
const DAY_NANOS: i64 = 24 * HOUR_NANOS;

/// A moment that was asked for: of all vaults, or, by a snapshot's name, of each vault that has one of that name.
#[derive(Clone, Debug)]
pub(super) struct Point {
    time: UnixNanos,
    own: Vec<(VaultId, UnixNanos)>,
}

impl Point {
    /// When a vault is looked at.
    pub(super) fn of(&self, vault: VaultId) -> UnixNanos {
        self.own.iter().find(|(known, _)| *known == vault).map_or(self.time, |(_, time)| *time)
    }

    /// When what belongs to no vault is looked at.
    pub(super) fn time(&self) -> UnixNanos {
        self.time
    }
}

impl Namespace {
    /// Vaults of the user's mounts, each once. One that cannot be opened has nothing to show; where all that could be shown is
    /// locked, that is said.
    fn mounted_vaults(&self) -> Result<Vec<Vault>, VfsError> {
        let ids: BTreeSet<[u8; 16]> = self.mounts().iter().map(|mount| mount.vault).collect();
        let mut vaults = Vec::with_capacity(ids.len());
        let mut locked = None;
        for id in ids {
            match self.vfs.inner.store.vault(VaultId(id)) {
                Ok(vault) => vaults.push(vault),
                Err(StoreError::VaultUnavailable(_)) => {}
                Err(error @ StoreError::VaultLocked(_)) => locked = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match locked {
            Some(error) if vaults.is_empty() => Err(error.into()),
            Some(_) | None => Ok(vaults),
        }
    }

    /// The moment that a name below `/.snapshots` stands for.
    pub(super) fn point(&self, name: &[u8]) -> Result<Option<Point>, VfsError> {
        if let Some(time) = time_of(name) {
            return Ok(Some(Point { time, own: Vec::new() }));
        }
        let mut own = Vec::new();
        for vault in self.mounted_vaults()? {
            let found = vault.snapshots()?.into_iter().find(|snapshot| snapshot.name.as_bytes() == name);
            own.extend(found.map(|snapshot| (vault.id(), snapshot.time)));
        }
        Ok(own.first().map(|(_, time)| *time).map(|time| Point { time, own }))
    }

    /// What a listing of `/.snapshots` shows: named snapshots, the last hours, and the days that are kept.
    pub(super) fn points(&self) -> Result<Vec<DirectoryEntry>, VfsError> {
        let spelling = match self.session.protocol {
            Protocol::Webdav => Spelling::NoColons,
            Protocol::Sftp | Protocol::Local => Spelling::Colons,
        };
        let (now, mut since, mut named) = (self.now(), None, BTreeMap::new());
        for vault in self.mounted_vaults()? {
            let shown = vault.shown_since()?;
            since = Some(since.map_or(shown, |since: UnixNanos| since.min(shown)));
            named.extend(vault.snapshots()?.into_iter().map(|snapshot| (snapshot.name, snapshot.time)));
        }
        let mut points: Vec<(String, UnixNanos)> = named.into_iter().collect();
        if let Some(since) = since {
            points.extend(usual(since, now).into_iter().map(|time| (name_of(time, spelling), time)));
        }
        Ok(points
            .into_iter()
            .map(|(name, time)| DirectoryEntry {
                name: name.into_bytes(),
                attributes: self.above_attributes(Some(time)),
            })
            .collect())
    }
}

/// Whole hours of the last day and midnights, oldest first, none older than `since`.
fn usual(since: UnixNanos, now: UnixNanos) -> BTreeSet<UnixNanos> {
    let back = |step: i64, count: i64| {
        let last = now.0.div_euclid(step) * step;
        (0..count).map_while(move |at| last.checked_sub(at.checked_mul(step)?).map(UnixNanos))
    };
    back(HOUR_NANOS, SNAPSHOT_HOURS)
        .chain(back(DAY_NANOS, SNAPSHOT_DAYS_MAX))
        .filter(|time| *time >= since)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_points_are_hours_of_a_day_and_midnights_that_are_kept() {
        let now = UnixNanos(20_000 * DAY_NANOS + 10 * HOUR_NANOS + 5);
        let hours: Vec<UnixNanos> = usual(UnixNanos(now.0 - DAY_NANOS), now).into_iter().collect();
        assert_eq!(hours.len(), 24);
        assert_eq!(hours.last(), Some(&UnixNanos(20_000 * DAY_NANOS + 10 * HOUR_NANOS)));
        assert_eq!(hours.first(), Some(&UnixNanos(19_999 * DAY_NANOS + 11 * HOUR_NANOS)));
        let month = usual(UnixNanos(now.0 - 30 * DAY_NANOS), now);
        // One of the last 30 midnights is an hour of the last day too.
        assert_eq!(month.len(), 24 + 29);
        assert!(usual(now, now).is_empty());
    }
}
