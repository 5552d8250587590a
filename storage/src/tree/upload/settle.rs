//! What is written is put on the disk before its commit when it is much: a commit's transaction stays small then, and so
//! does what is held in memory, however long a stream is.
//!
//! Changed segments are stored as they are, in transactions of a bounded size that nobody waits for and no reader sees. Each
//! is held by a row of `Table::Uploads` until a content lists it, or its claim is gone (`claims`). A segment that is changed
//! again afterwards is put in its own place: nobody else knows it.

use super::editor::Editor;
use super::extents::Changed;
use crate::error::StoreError;
use crate::limits::{SETTLE_EXTENTS, SETTLE_EXTENTS_PIECE};
use crate::tree::change::Change;

impl Editor {
    /// Whether it is time to settle.
    pub(super) fn is_much(&mut self) -> bool {
        let (chunks, extents) = (self.vault.store().settle_chunks(), self.extents.changed_count());
        self.unsaved_extents.set(extents);
        let extents_max = if self.unsaved_extents.is_over() { chunks } else { chunks * SETTLE_EXTENTS };
        // Not before the first new chunk: the segment that it changes may be as long as that.
        self.unsettled >= chunks || self.unsettled > 0 && extents >= extents_max
    }

    /// Stores what was changed in the extents. What is dirty stays so.
    ///
    /// # Errors
    /// The store's own errors: what was not stored is still in memory.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        let epoch = self.vault.store().epoch();
        loop {
            let piece = self.extents.changed_piece(SETTLE_EXTENTS_PIECE);
            if piece.is_empty() {
                break;
            }
            self.settle_piece(piece)?;
        }
        self.staged.clear();
        self.reserve.forget_staged();
        self.unsettled = 0;
        self.unsaved_extents.set(0);
        // All that was seen before is referred to now.
        self.extents.forget_unchanged();
        self.epoch = epoch;
        self.hold_again()
    }

    fn settle_piece(&mut self, piece: Vec<Changed>) -> Result<(), StoreError> {
        let vault = self.vault.clone();
        let mut change = Change::begin(&vault)?;
        let mut settled = Vec::new();
        for Changed { at, owned, extents } in piece {
            let claim = match owned {
                _ if extents.is_empty() => None,
                Some(segment) => {
                    change.rewrite_segment(segment, extents, &self.staged)?;
                    None
                }
                None => {
                    let segment = change.add_segment(extents, &self.staged)?;
                    change.hold_segment(segment);
                    Some(vault.claims().claim(segment))
                }
            };
            settled.push((at, claim));
        }
        let before = self.reservation.held().stored;
        drop(change.submit_settling(&mut self.reservation)?);
        self.reserve.staged_are_stored(before.saturating_sub(self.reservation.held().stored));
        for (at, claim) in settled {
            self.extents.settled_at(at, claim);
        }
        Ok(())
    }
}
