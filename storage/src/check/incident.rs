//! Incidents about stored bytes that are damaged.

use crate::commit::{Store, Txn};
use crate::error::StoreError;
use crate::id::{ChunkId, InodeId, PackId, VaultId};
use crate::index::Table;
use crate::rows::{IncidentRow, encode};
use crate::tree::Vault;

/// Stored bytes are not what was written.
const DAMAGE: u8 = 3;

/// Raises one within a transaction.
pub(crate) fn raise(
    store: &Store,
    txn: &mut Txn<'_>,
    vault: Option<&Vault>,
    _pack: PackId,
    _chunk: Option<ChunkId>,
    _text: String,
) -> Result<(), StoreError> {
    let vault = vault.map_or(VaultId([0; 16]), Vault::id);
    let row = IncidentRow { time: txn.time(), kind: DAMAGE, vault, inode: InodeId(0) };
    let number = txn.next_number();
    txn.put(store.system_key(), Table::Incidents, &number.to_be_bytes(), &encode(&row)?);
    Ok(())
}
