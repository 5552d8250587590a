//! Incidents: what a person must be told of. Written in the transaction that they come from where there is one.

use super::Vault;
use super::vault::END;
use crate::allowance::Limit;
use crate::commit::{Pending, Store, Txn};
use crate::error::StoreError;
use crate::id::{ChunkId, InodeId, OwnerId, PackId, VaultId};
use crate::index::Table;
use crate::limits::INCIDENTS_MAX;
use crate::rows::{IncidentKind, IncidentRow, decode, encode};
use crate::time::UnixNanos;

/// What a caller says of an incident; the store adds number and time. It holds no names of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentDraft {
    /// What it is.
    pub kind: IncidentKind,
    /// Whose.
    pub owner: Option<OwnerId>,
    /// In which vault.
    pub vault: Option<VaultId>,
    /// Which file.
    pub inode: Option<InodeId>,
    /// Of a level: per cent.
    pub value: Option<u64>,
    /// Of which limit.
    pub limit: Option<Limit>,
    /// In which pack.
    pub pack: Option<PackId>,
    /// Which chunk.
    pub chunk: Option<ChunkId>,
    /// More of it, in words.
    pub text: Option<String>,
}

impl IncidentDraft {
    /// An incident of which nothing else is known.
    pub fn new(kind: IncidentKind) -> Self {
        Self {
            kind,
            owner: None,
            vault: None,
            inode: None,
            value: None,
            limit: None,
            pack: None,
            chunk: None,
            text: None,
        }
    }
}

/// An incident as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its number; later ones have greater numbers.
    pub number: u64,
    /// When.
    pub time: UnixNanos,
    /// What.
    pub what: IncidentDraft,
}

impl IncidentKind {
    /// Its name, as people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrokenUpload => "broken-upload",
            Self::QuotaLevel => "quota",
            Self::Damage => "damage",
            Self::Backup => "backup",
            Self::Certificate => "certificate",
            Self::Witness => "witness",
        }
    }
}

impl Vault {
    /// The beginning of an incident in this vault.
    pub(crate) fn incident(&self, kind: IncidentKind) -> IncidentDraft {
        IncidentDraft { owner: Some(self.owner()), vault: Some(self.id()), ..IncidentDraft::new(kind) }
    }
}

impl Store {
    /// Adds an incident to a transaction; gives its number.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn add_incident(&self, txn: &mut Txn<'_>, incident: IncidentDraft) -> Result<u64, StoreError> {
        let IncidentDraft { kind, owner, vault, inode, value, limit, pack, chunk, text } = incident;
        let row =
            IncidentRow { time: txn.time(), kind, vault, inode, owner, value, limit, pack, chunk, text };
        let number = txn.next_number();
        txn.put(self.system_key(), Table::Incidents, &number.to_be_bytes(), &encode(&row)?);
        Ok(number)
    }

    /// Adds an incident that comes from no transaction; gives its number.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn raise_incident(&self, incident: IncidentDraft) -> Result<Pending<u64>, StoreError> {
        let mut txn = self.begin()?;
        let value = self.add_incident(&mut txn, incident)?;
        Ok(Pending { value, ticket: txn.submit()? })
    }

    /// Incidents with numbers above `after`, in order, up to `max` of them (and never more than `INCIDENTS_MAX`).
    ///
    /// # Errors
    /// The store's own errors.
    pub fn incidents(&self, after: u64, max: usize) -> Result<Vec<Incident>, StoreError> {
        let Some(from) = after.checked_add(1) else { return Ok(Vec::new()) };
        let max = max.min(INCIDENTS_MAX);
        let rows = self.range(self.system_key(), Table::Incidents, &from.to_be_bytes(), &END, max)?;
        rows.into_iter()
            .map(|(key, bytes)| {
                let number = u64::from_be_bytes(key.try_into().map_err(|_| StoreError::DamagedRecord)?);
                let row: IncidentRow = decode(&bytes)?;
                let IncidentRow { time, kind, vault, inode, owner, value, limit, pack, chunk, text } = row;
                let what = IncidentDraft { kind, owner, vault, inode, value, limit, pack, chunk, text };
                Ok(Incident { number, time, what })
            })
            .collect()
    }
}
