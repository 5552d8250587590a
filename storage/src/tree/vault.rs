//! Vaults: made, listed, opened.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::held::HeldLocks;
use super::{Kind, Vault, VaultInner, VaultRecord};
use crate::allowance::Allowance;
use crate::audit::RecordDraft;
use crate::commit::{OpenedVault, Pending, Store, Txn, Unlocked};
use crate::error::StoreError;
use crate::frame::Compression;
use crate::id::{ContentId, InodeId, OwnerId, VaultId};
use crate::index::Table;
use crate::keys::{ManagedSlot, RootKey, Slot, SlotError, SlotRow, VaultKeys};
use crate::rows::{
    Content, InodeRow, Moment, UsageRow, VaultRow, decode, encode, inode_key, slot_key, usage_key,
};
use crate::time::UnixNanos;

pub(super) const END: [u8; 33] = [0xff; 33];

/// What is said of a vault that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewVault<'n> {
    /// Whose it is.
    pub owner: OwnerId,
    /// Its name among the owner's.
    pub name: &'n str,
    /// How long superseded states are kept.
    pub retention_secs: u64,
    /// What it may hold.
    pub allowance: Allowance,
}

impl Store {
    /// Creates a vault with a fresh root key in a managed slot.
    ///
    /// # Errors
    /// `Exists` when the owner has a vault of that name; the store's own errors.
    pub fn create_vault(
        &self,
        owner: OwnerId,
        name: &str,
        retention_secs: u64,
        audit: RecordDraft,
    ) -> Result<Pending<VaultId>, StoreError> {
        self.create_vault_within(owner, name, retention_secs, Allowance::default(), audit)
    }

    /// The same with limits.
    ///
    /// # Errors
    /// As for [`Store::create_vault`].
    pub fn create_vault_within(
        &self,
        owner: OwnerId,
        name: &str,
        retention_secs: u64,
        allowance: Allowance,
        audit: RecordDraft,
    ) -> Result<Pending<VaultId>, StoreError> {
        let managed = |id, root: &RootKey| -> Result<_, StoreError> {
            Ok((Some(ManagedSlot::seal(id, root, self.gateway_key())?), Vec::new()))
        };
        self.create_vault_by(NewVault { owner, name, retention_secs, allowance }, managed, audit)
    }

    /// Creates a vault whose key its customer holds: it is locked, and the slots that `slots` makes for its root key are the
    /// only ways in.
    ///
    /// # Errors
    /// `VaultUnavailable` when a slot cannot be made, or there is none; as for [`Store::create_vault`].
    pub fn create_customer_vault(
        &self,
        new: NewVault<'_>,
        slots: impl FnOnce(VaultId, &RootKey) -> Result<Vec<Slot>, SlotError>,
        audit: RecordDraft,
    ) -> Result<Pending<VaultId>, StoreError> {
        let made = |id, root: &RootKey| match slots(id, root) {
            Ok(slots) if !slots.is_empty() => Ok((None, slots)),
            Ok(_) | Err(SlotError) => Err(StoreError::VaultUnavailable(id)),
        };
        self.create_vault_by(new, made, audit)
    }

    fn create_vault_by(
        &self,
        NewVault { owner, name, retention_secs, allowance }: NewVault<'_>,
        ways: impl FnOnce(VaultId, &RootKey) -> Result<(Option<ManagedSlot>, Vec<Slot>), StoreError>,
        mut audit: RecordDraft,
    ) -> Result<Pending<VaultId>, StoreError> {
        let (id, root) = (VaultId::random()?, RootKey::generate()?);
        // Before the writer lock: stretching a passphrase takes its time.
        let (managed, slots) = ways(id, &root)?;
        let keys = VaultKeys::derive(id, &root);
        let mut txn = self.begin()?;
        for (_, bytes) in txn.range(self.system_key(), Table::Vaults, &[], &END, usize::MAX)? {
            let row: VaultRow = decode(&bytes)?;
            if row.owner == owner && row.name == name && row.erased.is_none() {
                return Err(StoreError::Exists);
            }
        }
        let now = txn.time();
        let row = VaultRow {
            owner,
            name: name.to_owned(),
            created: now,
            retention_secs,
            managed,
            bytes_max: allowance.bytes_max,
            files_max: allowance.files_max,
            stored_max: allowance.stored_max,
            shortening: None,
            holds: None,
            compression: None,
            erased: None,
            pruned: None,
            recount_due: None,
        };
        txn.put(self.system_key(), Table::Vaults, &id.0, &encode(&row)?);
        txn.put(
            self.system_key(),
            Table::Usage,
            &usage_key(owner, id),
            &encode(&UsageRow { bytes: 0, inodes: 1, unique: Some(0), stored: Some(0) })?,
        );
        let begin = Moment { commit: txn.number(), time: now };
        let root_directory = InodeRow::new(Kind::Directory, begin, Content::empty(ContentId(0)));
        txn.put(&keys.records, Table::Inodes, &inode_key(id, InodeId::ROOT), &encode(&root_directory)?);
        // Numbers begin above the root's.
        while txn.next_number() < InodeId::ROOT.0 {}
        for slot in slots {
            put_slot(&mut txn, self, id, slot)?;
        }
        audit.vault = Some(id);
        txn.audit(audit, None);
        let ticket = txn.submit()?;
        // Nobody has opened it yet: what it holds is counted by its limits from the first file on.
        self.quotas().allow_vault(id, allowance);
        Ok(Pending { value: id, ticket })
    }

    /// Every vault.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn vaults(&self) -> Result<Vec<VaultRecord>, StoreError> {
        let rows = self.range(self.system_key(), Table::Vaults, &[], &END, usize::MAX)?;
        rows.into_iter()
            .map(|(key, bytes)| {
                let id = VaultId(key.try_into().map_err(|_| StoreError::DamagedRecord)?);
                let row: VaultRow = decode(&bytes)?;
                let usage = self.get(self.system_key(), Table::Usage, &usage_key(row.owner, id))?;
                let usage = usage.map(|bytes| decode::<UsageRow>(&bytes)).transpose()?.unwrap_or_default();
                Ok(VaultRecord {
                    allowance: row.allowance(),
                    id,
                    owner: row.owner,
                    created: row.created,
                    retention_secs: row.effective_retention_secs(self.clock_now()),
                    used_bytes: usage.bytes,
                    used_inodes: usage.inodes,
                    unique_bytes: usage.unique.unwrap_or(0),
                    stored_bytes: usage.stored.unwrap_or(0),
                    compression: row.compression(),
                    erased: row.erased,
                    managed: row.managed.is_some(),
                    name: row.name,
                })
            })
            .collect()
    }

    /// The vaults that somebody has opened.
    pub(crate) fn opened_vaults(&self) -> Vec<Vault> {
        let vaults = self.inner.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        let inner =
            vaults.values().filter_map(|found| Arc::clone(&found.vault).downcast::<VaultInner>().ok());
        inner.map(|inner| Vault { inner, bearer: None, within: None }).collect()
    }

    /// Opens a vault; the same object for every caller, so that all see one content for an open file.
    ///
    /// # Errors
    /// `VaultLocked`, `VaultUnavailable`; the store's own errors.
    pub fn vault(&self, id: VaultId) -> Result<Vault, StoreError> {
        let mut vaults = self.inner.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        if vaults.get(&id).and_then(|found| found.unlocked).is_some_and(|unlocked| unlocked.closing) {
            return Err(StoreError::VaultLocked(id));
        }
        if let Some(found) = vaults.get(&id)
            && let Ok(inner) = Arc::clone(&found.vault).downcast::<VaultInner>()
        {
            return Ok(Vault { inner, bearer: None, within: None });
        }
        let unavailable = || StoreError::VaultUnavailable(id);
        let row = self.get(self.system_key(), Table::Vaults, &id.0)?.ok_or_else(unavailable)?;
        let row: VaultRow = decode(&row)?;
        let root = match (&row.managed, row.erased) {
            (Some(slot), _) => slot.open(id, self.gateway_key()).map_err(|_| unavailable())?,
            (None, Some(_)) => return Err(unavailable()),
            (None, None) => return Err(StoreError::VaultLocked(id)),
        };
        let opened = self.opened(&row, Arc::new(VaultKeys::derive(id, &root)), None);
        let inner = Arc::clone(&opened.vault).downcast::<VaultInner>().map_err(|_| unavailable())?;
        vaults.insert(id, opened);
        Ok(Vault { inner, bearer: None, within: None })
    }

    pub(super) fn lock_vaults(&self) -> MutexGuard<'_, HashMap<VaultId, OpenedVault>> {
        self.inner.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one object of a vault that is open.
    pub(super) fn opened(
        &self,
        row: &VaultRow,
        keys: Arc<VaultKeys>,
        until: Option<UnixNanos>,
    ) -> OpenedVault {
        let inner = Arc::new(VaultInner {
            store: self.clone(),
            owner: row.owner,
            keys: Arc::clone(&keys),
            open: Mutex::default(),
            past: Mutex::default(),
            kept: Mutex::default(),
            pruning: RwLock::default(),
            views: Mutex::default(),
            compressed: AtomicBool::new(row.compression() == Compression::Lz4),
            closed: AtomicBool::new(false),
            claims: Arc::default(),
            locks: HeldLocks::new(Arc::clone(&self.inner.locks)),
        });
        let unlocked = until.map(|until| Unlocked { until, closing: false });
        OpenedVault { keys, vault: inner, unlocked }
    }
}

/// Puts a slot under a fresh number.
pub(super) fn put_slot(txn: &mut Txn<'_>, store: &Store, id: VaultId, slot: Slot) -> Result<u64, StoreError> {
    let number = txn.next_number();
    let row = SlotRow { slot, created: txn.time() };
    txn.put(store.system_key(), Table::Slots, &slot_key(id, number), &encode(&row)?);
    Ok(number)
}
