//! Moments as paths below `/.snapshots`.

use std::time::SystemTime;

use anyhow::{Context, Result};
use coffre::vfs::UnixNanos;
use coffre::vfs::point::{Spelling, name_of};

/// A moment that a test comes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(UnixNanos);

impl Instant {
    /// This one: after all that was acknowledged, before all that will be asked.
    ///
    /// # Errors
    /// When the clock stands before 1970.
    pub fn now() -> Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
        Ok(Self(UnixNanos(i64::try_from(since.as_nanos())?)))
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
