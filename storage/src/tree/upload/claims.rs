//! Segments that somebody who writes has put on the disk before a content lists them.
//!
//! A row of `Table::Uploads` holds such a segment as a content would. While its claim lives, the row has an owner; when the
//! claim is gone and the row is still there, nobody is left who could commit it, and reclaim releases it: after a restart,
//! every one. Who commits deletes the rows in the same transaction, and lets go of the claims after it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::SegmentId;

/// The claims of one vault.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    segments: Mutex<HashSet<SegmentId>>,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashSet<SegmentId>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a segment, within the transaction that makes it.
    pub(super) fn claim(self: &Arc<Self>, segment: SegmentId) -> Claim {
        self.lock().insert(segment);
        Claim { claims: Arc::clone(self), segment }
    }

    /// Whether somebody may still commit a segment. A no is final, where the writer lock is held.
    pub(crate) fn has(&self, segment: SegmentId) -> bool {
        self.lock().contains(&segment)
    }
}

/// The one who may commit a segment.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    segment: SegmentId,
}

impl Claim {
    pub(super) fn segment(&self) -> SegmentId {
        self.segment
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_claimed_until_its_claim_is_dropped() {
        let claims = Arc::new(Claims::default());
        let claim = claims.claim(SegmentId(7));
        assert!(claims.has(SegmentId(7)) && !claims.has(SegmentId(8)));
        drop(claim);
        assert!(!claims.has(SegmentId(7)));
    }
}
