//! Erasing a vault after its customer has gone: slot, rows, packs, index, and a signed certificate of it.

use anyhow::{Context, bail, ensure};
use coffre_storage::audit::{Action, Actor, RecordDraft};
use serde_json::json;

use super::Answer;
use super::service::Service;
use crate::units::moment;

impl Service {
    pub(super) fn vault_erase(
        &self,
        name: &str,
        confirm: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Answer> {
        if confirm != name {
            bail!("to erase `{name}` for good, repeat its name with --confirm");
        }
        let all = self.accounts.vaults()?;
        // One that was begun is gone on with; a new vault of that name comes first.
        let found = all.iter().filter(|(known, _)| known == name).min_by_key(|(_, vault)| vault.erased);
        let (_, record) = found.with_context(|| format!("no vault `{name}`"))?;
        let customers = self.accounts.customers();
        let owner = customers.iter().find(|customer| customer.id.0 == record.owner.0);
        if let Some(customer) = owner {
            ensure!(
                customer.closed.is_some(),
                "customer `{0}` is not closed; `coffre customer close {0}` ends its sessions first",
                customer.name
            );
        }
        let note = RecordDraft {
            customer: Some(record.owner.0),
            ..RecordDraft::new(Actor::Operator, Action::VaultErase)
        };
        let erasure = self.store.erase_vault(record.id, note, progress)?;
        let good = erasure.packs_left.is_empty();
        let certificate = good.then(|| self.store.erasure_certificate(&erasure, &[])).transpose()?;
        let left: Vec<String> = erasure.packs_left.iter().map(ToString::to_string).collect();
        let value = json!({
            "vault": name, "id": record.id.to_string(), "state": if good { "erased" } else { "not finished" },
            "slot_destroyed": moment(erasure.erased.0), "records_deleted": erasure.rows,
            "packs_overwritten": erasure.packs, "bytes_overwritten": erasure.bytes, "packs_left": left,
            "certificate": certificate,
        });
        Ok(Answer { value, good })
    }
}
