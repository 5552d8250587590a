//! Incidents about stored bytes that are damaged.

use crate::commit::{Store, Txn};
use crate::error::StoreError;
use crate::id::{ChunkId, PackId};
use crate::rows::IncidentKind;
use crate::tree::{IncidentDraft, Vault};

/// Raises one in the transaction that notes the damage. It holds no names.
pub(crate) fn raise(
    store: &Store,
    txn: &mut Txn<'_>,
    vault: Option<&Vault>,
    (pack, chunk): (Option<PackId>, Option<ChunkId>),
    text: String,
) -> Result<(), StoreError> {
    let incident = IncidentDraft {
        owner: vault.map(Vault::owner),
        vault: vault.map(Vault::id),
        pack,
        chunk,
        text: Some(text),
        ..IncidentDraft::new(IncidentKind::Damage)
    };
    store.add_incident(txn, incident).map(drop)
}
