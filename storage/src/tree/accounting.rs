//! Limits and what is used of them, in the index: counted at open, changed by the operator, told of when a level is reached.
//!
//! A level is reached by a transaction, so its incident is in that transaction, and what is used says after a restart which
//! levels are behind. A refusal changes nothing in use: that it was told of is a row of its own, until what was wanted would
//! fit.

use super::vault::END;
use super::{IncidentDraft, Vault};
use crate::allowance::{Allowance, Amounts, Limit};
use crate::audit::RecordDraft;
use crate::commit::{Pending, Store, Txn};
use crate::error::StoreError;
use crate::id::{OwnerId, VaultId};
use crate::index::Table;
use crate::quota::{Asking, Crossing, Growth, Refusal, Settled};
use crate::rows::{IncidentKind, UsageRow, VaultRow, after_prefix, decode, encode};

/// Rows of `Table::Store` that begin so: this | limit | owner | vault.
const REFUSED: &[u8] = b"refused";
/// In place of the vault where the limit is the customer's.
const NO_VAULT: VaultId = VaultId([0; 16]);

/// A change of a limit that holds since its transaction; without [`Allowed::keep`] the old one holds again.
#[derive(Debug)]
#[must_use = "a limit whose transaction is durable is kept"]
pub struct Allowed {
    store: Store,
    /// The limit before, until the new one is kept.
    before: Option<(Account, Allowance)>,
}

#[derive(Clone, Copy, Debug)]
enum Account {
    Customer(OwnerId),
    Vault(VaultId),
}

impl Allowed {
    /// The transaction was submitted.
    pub fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        match self.before {
            Some((Account::Customer(owner), before)) => {
                drop(self.store.quotas().allow_customer(owner, before));
            }
            Some((Account::Vault(vault), before)) => drop(self.store.quotas().allow_vault(vault, before)),
            None => {}
        }
    }
}

impl VaultRow {
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance { bytes_max: self.bytes_max, files_max: self.files_max, stored_max: self.stored_max }
    }
}

impl UsageRow {
    fn amounts(&self) -> Amounts {
        Amounts {
            bytes: self.bytes,
            // The root is nobody's file.
            files: self.inodes.saturating_sub(1),
            stored: self.stored.unwrap_or(0),
        }
    }
}

/// The row that tells of a refusal.
fn refused_key(owner: OwnerId, vault: VaultId, limit: Limit) -> Vec<u8> {
    let vault = match limit {
        Limit::CustomerBytes | Limit::CustomerFiles => NO_VAULT,
        Limit::VaultBytes | Limit::VaultFiles | Limit::VaultStored => vault,
    };
    [REFUSED, &[limit as u8], &owner.0, &vault.0].concat()
}

fn parse_refused_key(key: &[u8]) -> Option<(Limit, OwnerId, VaultId)> {
    let (limit, ids) = key.strip_prefix(REFUSED)?.split_first()?;
    let limit = Limit::ALL.into_iter().find(|known| *known as u8 == *limit)?;
    let (owner, vault) = ids.split_first_chunk::<16>()?;
    Some((limit, OwnerId(*owner), VaultId(vault.try_into().ok()?)))
}

impl Vault {
    /// Tells of a refusal, once until it is over; gives the error to answer with. Takes the writer lock.
    pub(crate) fn refused(&self, refusal: Refusal) -> StoreError {
        let store = self.store();
        if store.quotas().note_refusal(self.owner(), self.id(), refusal)
            && self.tell_refusal(refusal).is_err()
        {
            // Not told: the next refusal tries again.
            store.quotas().set_refused(self.owner(), self.id(), refusal.limit, None);
        }
        refusal.into()
    }

    /// Writes down what a transaction's change of the counters means: levels that were reached, refusals that are over.
    pub(crate) fn tell_settled(&self, txn: &mut Txn<'_>, settled: &Settled<'_>) -> Result<(), StoreError> {
        self.store().tell_levels(txn, (self.owner(), Some(self.id())), &settled.crossed)?;
        Store::end_refusals(txn, self.owner(), self.id(), &settled.over);
        Ok(())
    }

    fn tell_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        let store = self.store();
        let mut txn = store.begin()?;
        let reached = [Crossing { limit: refusal.limit, percent: 100 }];
        store.tell_levels(&mut txn, (self.owner(), Some(self.id())), &reached)?;
        let key = refused_key(self.owner(), self.id(), refusal.limit);
        txn.put(store.system_key(), Table::Store, &key, &encode(&refusal.wanted)?);
        txn.submit().map(drop)
    }
}

impl Store {
    /// Adds an incident for each level that was reached.
    fn tell_levels(
        &self,
        txn: &mut Txn<'_>,
        (owner, vault): (OwnerId, Option<VaultId>),
        crossed: &[Crossing],
    ) -> Result<(), StoreError> {
        for Crossing { limit, percent } in crossed {
            let of_customer = matches!(limit, Limit::CustomerBytes | Limit::CustomerFiles);
            let incident = IncidentDraft {
                owner: Some(owner),
                vault: vault.filter(|_| !of_customer),
                value: Some(*percent),
                limit: Some(*limit),
                ..IncidentDraft::new(IncidentKind::QuotaLevel)
            };
            self.add_incident(txn, incident)?;
        }
        Ok(())
    }

    fn end_refusals(txn: &mut Txn<'_>, owner: OwnerId, vault: VaultId, over: &[(Limit, u64)]) {
        for (limit, _) in over {
            txn.delete(Table::Store, &refused_key(owner, vault, *limit));
        }
    }

    /// Sets a customer's limits within the transaction that writes them down: they hold at once, and levels that are
    /// reached by them are told of in it.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn allow_customer(
        &self,
        txn: &mut Txn<'_>,
        owner: OwnerId,
        allowance: Allowance,
    ) -> Result<Allowed, StoreError> {
        let before = self.quotas().customer(owner).allowance;
        let (crossed, over) = self.quotas().allow_customer(owner, allowance);
        let allowed = Allowed { store: self.clone(), before: Some((Account::Customer(owner), before)) };
        self.tell_levels(txn, (owner, None), &crossed)?;
        Self::end_refusals(txn, owner, NO_VAULT, &over);
        Ok(allowed)
    }

    /// Sets a vault's limits.
    ///
    /// # Errors
    /// `VaultUnavailable`; the store's own errors.
    pub fn set_vault_allowance(
        &self,
        id: VaultId,
        change: impl FnOnce(Allowance) -> Allowance,
        mut audit: RecordDraft,
    ) -> Result<Pending<Allowance>, StoreError> {
        let mut txn = self.begin()?;
        let row = txn.get(self.system_key(), Table::Vaults, &id.0)?;
        let mut row: VaultRow = decode(&row.ok_or(StoreError::VaultUnavailable(id))?)?;
        let allowance = change(row.allowance());
        (row.bytes_max, row.files_max, row.stored_max) =
            (allowance.bytes_max, allowance.files_max, allowance.stored_max);
        txn.put(self.system_key(), Table::Vaults, &id.0, &encode(&row)?);
        let before = self.quotas().vault(id).allowance;
        let (crossed, over) = self.quotas().allow_vault(id, allowance);
        let allowed = Allowed { store: self.clone(), before: Some((Account::Vault(id), before)) };
        self.tell_levels(&mut txn, (row.owner, Some(id)), &crossed)?;
        Self::end_refusals(&mut txn, row.owner, id, &over);
        audit.vault = Some(id);
        txn.audit(audit, None);
        let ticket = txn.submit()?;
        allowed.keep();
        Ok(Pending { value: allowance, ticket })
    }

    /// Counts a vault no more, within the transaction that takes its usage row away.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(crate) fn uncount(
        &self,
        txn: &mut Txn<'_>,
        (owner, id): (OwnerId, VaultId),
        usage: &UsageRow,
    ) -> Result<Settled<'_>, StoreError> {
        let growth = Growth { removed: usage.amounts(), ..Growth::default() };
        let settled = self.quotas().settle(owner, id, growth, Asking::Nobody)?;
        Self::end_refusals(txn, owner, id, &settled.over);
        for limit in [Limit::VaultBytes, Limit::VaultFiles, Limit::VaultStored] {
            txn.delete(Table::Store, &refused_key(owner, id, limit));
        }
        Ok(settled)
    }

    /// Loads what is in use, the limits of vaults, and which refusals were told of.
    pub(crate) fn load_usage(&self) -> Result<(), StoreError> {
        for (key, bytes) in self.range(self.system_key(), Table::Usage, &[], &END, usize::MAX)? {
            let (owner, vault) = key.split_first_chunk::<16>().ok_or(StoreError::DamagedRecord)?;
            let vault = VaultId(vault.try_into().map_err(|_| StoreError::DamagedRecord)?);
            self.quotas().count(OwnerId(*owner), vault, decode::<UsageRow>(&bytes)?.amounts());
        }
        for (key, bytes) in self.range(self.system_key(), Table::Vaults, &[], &END, usize::MAX)? {
            let id = VaultId(key.try_into().map_err(|_| StoreError::DamagedRecord)?);
            drop(self.quotas().allow_vault(id, decode::<VaultRow>(&bytes)?.allowance()));
        }
        let (from, to) = (REFUSED, after_prefix(REFUSED));
        for (key, bytes) in self.range(self.system_key(), Table::Store, from, &to, usize::MAX)? {
            let (limit, owner, vault) = parse_refused_key(&key).ok_or(StoreError::DamagedRecord)?;
            self.quotas().set_refused(owner, vault, limit, Some(decode::<u64>(&bytes)?));
        }
        Ok(())
    }
}
