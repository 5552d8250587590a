//! Moments as paths below `/.snapshots`.

use coffre::clock::SystemClock;
use coffre::vfs::UnixNanos;
use coffre::vfs::point::{Spelling, name_of};
use coffre_storage::time::Clock;

/// A moment that a test comes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(UnixNanos);

impl Instant {
    /// This one: after all that was acknowledged, before all that will be asked.
    pub fn now() -> Self {
        Self(SystemClock.now())
    }

    /// `2026-11-22T10:00:00.5Z`
    pub fn name(self) -> String {
        name_of(self.0, Spelling::Colons)
    }

    /// The same without colons.
    pub fn plain_name(self) -> String {
        name_of(self.0, Spelling::NoColons)
    }

    /// `/.snapshots/<name>/<path>`
    pub fn path(self, path: &str) -> String {
        format!("/.snapshots/{}/{}", self.name(), path.trim_start_matches('/'))
    }

    /// The same without colons.
    pub fn plain_path(self, path: &str) -> String {
        format!("/.snapshots/{}/{}", self.plain_name(), path.trim_start_matches('/'))
    }
}
