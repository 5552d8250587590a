//! Customer-held vaults: made, unlocked for a time, locked; their slots, and the way through an escrow.

use anyhow::{Context, bail, ensure};
use coffre_storage::audit::{Action, Actor, DetailKey, Outcome, RecordDraft};
use coffre_storage::id::VaultId;
use coffre_storage::keys::{EscrowRecipient, EscrowSlot, PassphraseSlot, RootKey, Slot};
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{SlotRecord, SlotsError, VaultRecord};
use serde_json::{Value, json};

use super::SecretText;
use super::service::{Life, Service};
use crate::escrow::{self, Carried};
use crate::limits::{PASSPHRASE_BYTES_MAX, UNLOCK_SECS_MAX};
use crate::units::{hex, moment};

/// What is asked about the keys of a vault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "key", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are the command line's own words, documented there")]
pub enum KeyRequest {
    /// `vault add --key passphrase`
    Add { retention_secs: u64, limits: super::VaultLimits, passphrase: SecretText, escrow: Option<[u8; 32]> },
    /// `vault slots`
    Slots,
    /// `vault unlock`
    Unlock { passphrase: SecretText, secs: u64 },
    /// `vault lock`
    Lock,
    /// `vault slot add-passphrase`
    AddPassphrase { passphrase: SecretText, new: SecretText },
    /// `vault slot change`
    Change { passphrase: SecretText, new: SecretText },
    /// `vault slot add-escrow`
    AddEscrow { passphrase: SecretText, recipient: [u8; 32] },
    /// `vault slot remove`
    Remove { number: u64, confirmed: bool },
    /// `escrow envelope`
    Envelope,
    /// `escrow restore`
    Restore { passphrase: SecretText, of: [u8; 16], answer: Vec<u8> },
}

/// Refuses a passphrase that somebody with a stolen disk would guess.
fn strong(passphrase: &SecretText) -> anyhow::Result<()> {
    let text = passphrase.expose();
    ensure!(text.len() <= PASSPHRASE_BYTES_MAX, "a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes");
    if zxcvbn::zxcvbn(text, &["coffre"]).score() < zxcvbn::Score::Four {
        bail!(
            "the passphrase is too weak: whoever has a copy of the disk can guess as long as he likes; take six words drawn by dice"
        );
    }
    Ok(())
}

fn slot_row(record: &SlotRecord) -> Value {
    let (kind, of) = match &record.slot {
        Slot::Passphrase(_) => ("passphrase", None),
        Slot::Token(slot) => ("token", Some(slot.credential().to_owned())),
        Slot::Escrow(slot) => ("escrow", Some(hex(&slot.recipient().0))),
    };
    json!({ "slot": record.number, "kind": kind, "of": of, "created": moment(record.created.0) })
}

fn key_record(action: Action, vault: &VaultRecord, name: &str, what: &str) -> RecordDraft {
    RecordDraft {
        customer: Some(vault.owner.0),
        vault: Some(vault.id),
        reason: (!what.is_empty()).then(|| what.to_owned()),
        details: vec![(DetailKey::Name, name.as_bytes().to_vec())],
        ..RecordDraft::new(Actor::Operator, action)
    }
}

impl Service {
    pub(super) fn vault_keys(&self, name: &str, request: KeyRequest) -> anyhow::Result<Value> {
        if let KeyRequest::Add { retention_secs, limits, passphrase, escrow } = request {
            strong(&passphrase)?;
            let recipient = escrow.map(EscrowRecipient);
            let id = self.accounts.add_customer_vault(name, retention_secs, limits, |vault, root| {
                let mut slots =
                    vec![Slot::Passphrase(PassphraseSlot::seal(vault, root, &passphrase.passphrase())?)];
                if let Some(recipient) = recipient {
                    slots.push(Slot::Escrow(EscrowSlot::seal(vault, root, recipient)?));
                }
                Ok(slots)
            })?;
            return Ok(json!({ "vault": name, "id": id.to_string(), "key": "customer", "state": "locked",
                "escrow": recipient.is_some() }));
        }
        let record = self.vault_record(name)?;
        ensure!(!record.managed, "the gateway holds the key of vault `{name}`: it has no slots of its own");
        match request {
            KeyRequest::Add { .. } => bail!("vault `{name}` is there already"),
            KeyRequest::Slots => Ok(self.store.slots(record.id)?.iter().map(slot_row).collect()),
            KeyRequest::Unlock { passphrase, secs } => self.unlock(name, &record, &passphrase, secs),
            KeyRequest::Lock => {
                let was =
                    self.accounts.lock_vault(record.id, &key_record(Action::VaultLock, &record, name, ""))?;
                Ok(json!({ "vault": name, "state": "locked", "was_unlocked": was }))
            }
            KeyRequest::AddPassphrase { passphrase, new } => {
                strong(&new)?;
                let (_, root) = self.root(name, &record, &passphrase)?;
                let slot = Slot::Passphrase(PassphraseSlot::seal(record.id, &root, &new.passphrase())?);
                self.slot_added(name, &record, None, slot, "a passphrase")
            }
            KeyRequest::Change { passphrase, new } => {
                strong(&new)?;
                let (number, root) = self.root(name, &record, &passphrase)?;
                let slot = Slot::Passphrase(PassphraseSlot::seal(record.id, &root, &new.passphrase())?);
                self.slot_added(name, &record, Some(number), slot, "a passphrase in the place of another")
            }
            KeyRequest::AddEscrow { passphrase, recipient } => {
                let (_, root) = self.root(name, &record, &passphrase)?;
                let slot = Slot::Escrow(EscrowSlot::seal(record.id, &root, EscrowRecipient(recipient))?);
                self.slot_added(name, &record, None, slot, "an escrow")
            }
            KeyRequest::Remove { number, confirmed } => self.slot_removed(name, &record, number, confirmed),
            KeyRequest::Envelope => self.envelope(name, &record),
            KeyRequest::Restore { passphrase, of, answer } => {
                ensure!(VaultId(of) == record.id, "the answer is for another vault than `{name}`");
                self.restored(name, &record, &passphrase, &answer)
            }
        }
    }

    /// The root key; a refusal is recorded.
    fn root(
        &self,
        name: &str,
        vault: &VaultRecord,
        passphrase: &SecretText,
    ) -> anyhow::Result<(u64, RootKey)> {
        match self.store.open_slot(vault.id, &passphrase.passphrase()) {
            Ok(found) => Ok(found),
            Err(SlotsError::WrongKey) => {
                let audit = key_record(Action::VaultUnlock, vault, name, "no slot opens with it");
                self.store.record(RecordDraft { outcome: Outcome::Refused, ..audit })?.wait()?;
                bail!(
                    "no passphrase slot of `{name}` opens with this; neither this gateway nor its operators can open the vault without one, or its escrow"
                )
            }
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(
        &self,
        name: &str,
        vault: &VaultRecord,
        passphrase: &SecretText,
        secs: u64,
    ) -> anyhow::Result<Value> {
        ensure!(self.life() == Life::Served, "no server runs: there is nothing that could stay unlocked");
        ensure!(secs <= UNLOCK_SECS_MAX, "a vault is unlocked for {UNLOCK_SECS_MAX} s at most");
        let (number, root) = self.root(name, vault, passphrase)?;
        let nanos = i64::try_from(secs.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        let until = UnixNanos(self.store.clock_now().0.saturating_add(nanos));
        let audit = key_record(Action::VaultUnlock, vault, name, &format!("by slot {number}, for {secs} s"));
        self.store.unlock_vault(vault.id, &root, until, audit)?;
        Ok(json!({ "vault": name, "state": "unlocked", "until": moment(until.0) }))
    }

    fn slot_added(
        &self,
        name: &str,
        vault: &VaultRecord,
        old: Option<u64>,
        slot: Slot,
        what: &str,
    ) -> anyhow::Result<Value> {
        let audit = key_record(Action::SlotAdd, vault, name, what);
        let number = self.store.replace_slot(vault.id, old, slot, audit)?.wait()?;
        Ok(json!({ "vault": name, "slot": number, "replaced": old }))
    }

    fn slot_removed(
        &self,
        name: &str,
        vault: &VaultRecord,
        number: u64,
        confirmed: bool,
    ) -> anyhow::Result<Value> {
        let audit = key_record(Action::SlotRemove, vault, name, &format!("slot {number}"));
        let removed = self.store.remove_slot(vault.id, number, confirmed, audit);
        if matches!(removed, Err(SlotsError::LastWay)) {
            bail!(
                "slot {number} is the last way into `{name}`: without it nothing in the vault can be read by anybody, ever. If that is wanted, repeat with --confirm {name}"
            );
        }
        removed?.wait()?;
        Ok(json!({ "vault": name, "slot": number, "state": "removed" }))
    }

    fn envelope(&self, name: &str, vault: &VaultRecord) -> anyhow::Result<Value> {
        let carried: Vec<Carried> = self
            .store
            .slots(vault.id)?
            .into_iter()
            .filter(|slot| matches!(slot.slot, Slot::Escrow(_)))
            .map(|slot| Carried { vault: vault.id, slot: slot.slot })
            .collect();
        if carried.is_empty() {
            bail!(
                "vault `{name}` has no escrow: without a passphrase of it nobody can open it, and neither can this gateway"
            );
        }
        self.store.record(key_record(Action::SlotExport, vault, name, "escrow envelope"))?.wait()?;
        Ok(json!({ "vault": name, "envelope": escrow::envelope(&carried)? }))
    }

    /// A new passphrase slot, from what the escrow made.
    fn restored(
        &self,
        name: &str,
        vault: &VaultRecord,
        passphrase: &SecretText,
        answer: &[u8],
    ) -> anyhow::Result<Value> {
        strong(passphrase)?;
        let Slot::Passphrase(slot) = Slot::from_bytes(answer)? else { bail!("no answer of an escrow") };
        let root = slot.open(vault.id, &passphrase.passphrase());
        let root = root.context("the answer does not open with this passphrase")?;
        self.store.verify_root(vault.id, &root)?;
        // Its own costs count, not those that the answer says.
        let slot = Slot::Passphrase(PassphraseSlot::seal(vault.id, &root, &passphrase.passphrase())?);
        self.slot_added(name, vault, None, slot, "a passphrase, given back by the escrow")
    }
}
