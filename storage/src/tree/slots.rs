//! Key slots of vaults, and customer-held vaults: those without a managed slot. Such a vault is locked until somebody brings
//! its root key, and from the moment at which it is locked again.
//!
//! A change of slots is one transaction: no crash leaves a vault with fewer ways in than one of its two states had. A root
//! key is believed only when it opens the vault's own root directory.
//!
//! Locking has two steps. From the first on nobody gets the vault any more, and whoever has it open may still end
//! what it was at; from the second on nothing is changed or read through what is left, and the keys are gone.

use std::sync::Arc;

use super::Vault;
use super::vault::{END, put_slot};
use crate::audit::RecordDraft;
use crate::commit::{Pending, Store};
use crate::error::StoreError;
use crate::id::{InodeId, VaultId};
use crate::index::Table;
use crate::keys::{Passphrase, RootKey, Slot, SlotRow, VaultKeys};
use crate::limits::SLOTS_MAX;
use crate::rows::{InodeRow, VaultRow, after_prefix, decode, inode_key, slot_key};
use crate::time::UnixNanos;

/// Who holds a vault's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The gateway does: there is a managed slot.
    Managed,
    /// The customer does, and nobody has unlocked it.
    Locked,
    /// The customer does; it is unlocked until then.
    Unlocked(UnixNanos),
}

/// A slot that is not the gateway's.
#[derive(Clone, Debug)]
pub struct SlotRecord {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub created: UnixNanos,
    /// What it is.
    pub slot: Slot,
}

/// Why slots are not changed, or a vault is not unlocked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SlotsError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No slot of the vault opens with this.
    #[error("this does not open the vault")]
    WrongKey,
    /// The vault has no such slot.
    #[error("there is no such slot")]
    Unknown,
    /// The slot is the last way into the vault.
    #[error(
        "it is the last way into the vault: without it nothing in the vault can be read by anybody, ever"
    )]
    LastWay,
    /// The gateway holds the key: there is nothing to unlock.
    #[error("the gateway holds the key of this vault")]
    Managed,
    /// The vault has as many slots as it may.
    #[error("the vault has too many slots")]
    TooMany,
}

impl Store {
    fn customer_held(&self, id: VaultId) -> Result<VaultRow, SlotsError> {
        let row = self.get(self.system_key(), Table::Vaults, &id.0)?;
        let row: VaultRow = decode(&row.ok_or(StoreError::VaultUnavailable(id))?)?;
        match (&row.managed, row.erased) {
            (Some(_), _) => Err(SlotsError::Managed),
            (None, Some(_)) => Err(StoreError::VaultUnavailable(id).into()),
            (None, None) => Ok(row),
        }
    }

    /// The slots of a vault that are not the gateway's, oldest first.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn slots(&self, id: VaultId) -> Result<Vec<SlotRecord>, StoreError> {
        let rows = self.range(self.system_key(), Table::Slots, &id.0, &after_prefix(&id.0), usize::MAX)?;
        rows.into_iter()
            .map(|(key, bytes)| {
                let number = key.last_chunk().ok_or(StoreError::DamagedRecord)?;
                let SlotRow { slot, created } = decode(&bytes)?;
                Ok(SlotRecord { number: u64::from_be_bytes(*number), created, slot })
            })
            .collect()
    }

    /// The root key, by a passphrase: each passphrase slot is tried. Costs what Argon2id costs.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub fn open_slot(&self, id: VaultId, passphrase: &Passphrase) -> Result<(u64, RootKey), SlotsError> {
        for SlotRecord { number, slot, .. } in self.slots(id)? {
            if let Slot::Passphrase(slot) = slot
                && let Ok(root) = slot.open(id, passphrase)
            {
                self.verify_root(id, &root)?;
                return Ok((number, root));
            }
        }
        Err(SlotsError::WrongKey)
    }

    /// Whether a root key is this vault's: it opens its root directory.
    ///
    /// # Errors
    /// `WrongKey`; the store's own errors.
    pub fn verify_root(&self, id: VaultId, root: &RootKey) -> Result<(), SlotsError> {
        let keys = VaultKeys::derive(id, root);
        let key = inode_key(id, InodeId::ROOT);
        let sealed = self.sealed(Table::Inodes, &key)?.ok_or(StoreError::DamagedRecord)?;
        let opened = keys.records.open(Table::Inodes, &key, &sealed).ok_or(SlotsError::WrongKey)?;
        decode::<InodeRow>(&opened)?;
        Ok(())
    }

    /// Adds a slot to a customer-held vault. Returns its number.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub fn add_slot(&self, id: VaultId, slot: Slot, audit: RecordDraft) -> Result<Pending<u64>, SlotsError> {
        self.replace_slot(id, None, slot, audit)
    }

    /// Adds a slot and takes another away in the same transaction: after any crash one of the two is there.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub fn replace_slot(
        &self,
        id: VaultId,
        old: Option<u64>,
        slot: Slot,
        audit: RecordDraft,
    ) -> Result<Pending<u64>, SlotsError> {
        let mut txn = self.begin()?;
        self.customer_held(id)?;
        let present = self.slots(id)?;
        if let Some(old) = old {
            present.iter().find(|slot| slot.number == old).ok_or(SlotsError::Unknown)?;
            txn.delete(Table::Slots, &slot_key(id, old));
        } else if present.len() >= SLOTS_MAX {
            return Err(SlotsError::TooMany);
        }
        let number = put_slot(&mut txn, self, id, slot)?;
        txn.audit(RecordDraft { vault: Some(id), ..audit }, None);
        Ok(Pending { value: number, ticket: txn.submit()? })
    }

    /// Takes a slot away; the last one only when `even_the_last`.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub fn remove_slot(
        &self,
        id: VaultId,
        number: u64,
        even_the_last: bool,
        audit: RecordDraft,
    ) -> Result<Pending<()>, SlotsError> {
        let mut txn = self.begin()?;
        self.customer_held(id)?;
        let present = self.slots(id)?;
        let removed = present.iter().find(|slot| slot.number == number).ok_or(SlotsError::Unknown)?;
        // A token ends with its credential: it is no way in to count on.
        let lasts = |slot: &SlotRecord| !matches!(slot.slot, Slot::Token(_));
        let others = present.iter().any(|slot| slot.number != number && lasts(slot));
        if lasts(removed) && !others && !even_the_last {
            return Err(SlotsError::LastWay);
        }
        txn.delete(Table::Slots, &slot_key(id, number));
        txn.audit(RecordDraft { vault: Some(id), ..audit }, None);
        Ok(Pending { value: (), ticket: txn.submit()? })
    }

    /// Who holds a vault's key now.
    ///
    /// # Errors
    /// `VaultUnavailable`; the store's own errors.
    pub fn held(&self, id: VaultId) -> Result<Held, StoreError> {
        match self.customer_held(id) {
            Err(SlotsError::Managed) => Ok(Held::Managed),
            Err(SlotsError::Store(error)) => Err(error),
            Err(_) => Err(StoreError::VaultUnavailable(id)),
            Ok(_) => {
                let vaults = self.lock_vaults();
                let opened = vaults.get(&id).and_then(|opened| opened.unlocked.as_ref());
                Ok(match opened {
                    Some(unlocked) if !unlocked.closing => Held::Unlocked(unlocked.until),
                    Some(_) | None => Held::Locked,
                })
            }
        }
    }

    /// Unlocks a customer-held vault until a time; one that is unlocked already gets the new time.
    ///
    /// # Errors
    /// `WrongKey` when the root key is another vault's; [`SlotsError`].
    pub fn unlock_vault(
        &self,
        id: VaultId,
        root: &RootKey,
        until: UnixNanos,
        audit: RecordDraft,
    ) -> Result<(), SlotsError> {
        let row = self.customer_held(id)?;
        self.verify_root(id, root)?;
        self.record(RecordDraft { vault: Some(id), ..audit })?.wait()?;
        let mut vaults = self.lock_vaults();
        match vaults.get_mut(&id).map(|opened| opened.unlocked.as_mut()) {
            Some(Some(unlocked)) if unlocked.closing => return Err(StoreError::VaultLocked(id).into()),
            Some(Some(unlocked)) => unlocked.until = until,
            Some(None) | None => {
                let keys = Arc::new(VaultKeys::derive(id, root));
                vaults.insert(id, self.opened(&row, keys, Some(until)));
            }
        }
        Ok(())
    }

    /// The first step of locking: nobody gets the vault any more. False when it is not unlocked.
    pub fn begin_locking(&self, id: VaultId) -> bool {
        let mut vaults = self.lock_vaults();
        match vaults.get_mut(&id).and_then(|opened| opened.unlocked.as_mut()) {
            Some(unlocked) => {
                unlocked.closing = true;
                true
            }
            None => false,
        }
    }

    /// The second step: what is left of it changes and reads nothing more, and its keys are forgotten.
    ///
    /// # Errors
    /// `Poisoned`: the keys are forgotten all the same.
    pub fn finish_locking(&self, id: VaultId) -> Result<(), StoreError> {
        let found =
            self.lock_vaults().get(&id).and_then(|opened| opened.unlocked.as_ref()?.closing.then_some(()));
        if found.is_none() {
            return Ok(());
        }
        // Under the writer lock: nobody's change comes after this.
        let turn = self.begin();
        if let Some(vault) = self.opened_vaults().into_iter().find(|vault| vault.id() == id) {
            vault.close_for_good();
        }
        self.forget_vault(id);
        turn.map(drop)
    }

    /// Vaults whose time is over, and those that are being locked.
    pub fn vaults_to_lock(&self, now: UnixNanos) -> (Vec<VaultId>, Vec<VaultId>) {
        let (mut over, mut closing) = (Vec::new(), Vec::new());
        for (id, opened) in self.lock_vaults().iter() {
            match &opened.unlocked {
                Some(unlocked) if unlocked.closing => closing.push(*id),
                Some(unlocked) if unlocked.until <= now => over.push(*id),
                Some(_) | None => {}
            }
        }
        (over, closing)
    }

    /// Customer-held vaults that nobody has unlocked.
    ///
    /// # Errors
    /// The store's own errors.
    pub fn locked_vaults(&self) -> Result<Vec<VaultId>, StoreError> {
        let mut locked = Vec::new();
        for (key, bytes) in self.range(self.system_key(), Table::Vaults, &[], &END, usize::MAX)? {
            let row: VaultRow = decode(&bytes)?;
            let id = VaultId(key.try_into().map_err(|_| StoreError::DamagedRecord)?);
            if row.managed.is_none() && row.erased.is_none() && !self.lock_vaults().contains_key(&id) {
                locked.push(id);
            }
        }
        Ok(locked)
    }
}

impl Vault {
    /// Refuses what comes after the vault was locked or erased.
    pub(crate) fn still_open(&self) -> Result<(), StoreError> {
        if self.is_closed() { Err(self.closed_error()) } else { Ok(()) }
    }

    pub(crate) fn closed_error(&self) -> StoreError {
        match self.store().held(self.id()) {
            Ok(_) => StoreError::VaultLocked(self.id()),
            Err(error) => error,
        }
    }
}
