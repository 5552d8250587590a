//! How far the store is durable: what a copy that is taken now must hold to be whole.

use super::Store;
use crate::audit::beginning::BEGINNING;
use crate::audit::merkle::{Frontier, Hash};
use crate::audit::stream;
use crate::audit::writer::{CHECKPOINTS, CUSTOMER_CHECKPOINTS, VERIFIER, segment_name};
use crate::blob::BlobStore;
use crate::error::StoreError;
use crate::id::{BatchNumber, CommitNumber, PackId};
use crate::log::pack::blob_name;

/// Blobs and how many of their bytes are durable and will never change.
#[derive(Clone, Debug)]
pub struct DurableExtent {
    /// Each with its bytes; beyond them it may grow.
    pub blobs: Vec<(String, u64)>,
    /// Packs among them.
    pub packs: u64,
    /// The newest transaction.
    pub commit: CommitNumber,
    /// The newest batch.
    pub batch: BatchNumber,
    /// The newest pack.
    pub pack: PackId,
    /// Audit records laid out.
    pub records: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Store {
    /// Makes everything submitted so far durable and tells where it lies. Hold the packs before you ask
    /// ([`Store::hold_packs`]), for as long as you need what is told.
    ///
    /// # Errors
    /// `Poisoned`; the store's own errors.
    pub fn durable_extent(&self) -> Result<DurableExtent, StoreError> {
        let (_, position) = self.checkpoint_view()?;
        let (blobs, newest) = (self.blobs().as_ref(), PackId(position.pack));
        let mut found = Vec::new();
        for pack in crate::log::walk::packs(blobs)?.into_iter().filter(|pack| *pack <= newest) {
            let name = blob_name(pack);
            let bytes = blobs.open(&name)?.len()?;
            // A closed pack does not change any more; the newest one is whole up to the position.
            found.push((name, if pack == newest { position.offset.min(bytes) } else { bytes }));
        }
        let packs = found.len() as u64;
        let audit = &position.audit;
        for segment in stream::segments(blobs)?.into_iter().filter(|segment| *segment < audit.segment) {
            let name = segment_name(segment);
            let bytes = blobs.open(&name)?.len()?;
            found.push((name, bytes));
        }
        if audit.segment_bytes > 0 {
            found.push((segment_name(audit.segment), audit.segment_bytes));
        }
        if audit.notes_bytes > 0 {
            found.push((CHECKPOINTS.to_owned(), audit.notes_bytes));
        }
        if audit.customer_notes_bytes > 0 {
            found.push((CUSTOMER_CHECKPOINTS.to_owned(), audit.customer_notes_bytes));
        }
        for name in [VERIFIER, BEGINNING] {
            if let Some(bytes) = bytes_of(blobs, name)? {
                found.push((name.to_owned(), bytes));
            }
        }
        let edge = audit.frontier.iter().map(|hash| **hash).collect();
        let root = Frontier::from_parts(audit.records, edge).ok_or(StoreError::DamagedRecord)?.root();
        Ok(DurableExtent {
            blobs: found,
            packs,
            commit: CommitNumber(position.last_commit),
            batch: BatchNumber(position.batch),
            pack: newest,
            records: audit.records,
            root,
        })
    }
}

fn bytes_of(blobs: &dyn BlobStore, name: &str) -> std::io::Result<Option<u64>> {
    match blobs.open(name) {
        Ok(blob) => blob.len().map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
