//! Giving a vault's data back: which vault, then [`crate::export`].

use std::path::PathBuf;

use anyhow::Context;

use super::Answer;
use super::service::Service;
use crate::export::{self, Format, Order};

impl Service {
    /// `export`: a vault to a destination in a format.
    pub(super) fn export(
        &self,
        vault: &str,
        (destination, format): (PathBuf, Format),
        at: Option<String>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Answer> {
        let vaults = self.accounts.vaults()?;
        let found = vaults.into_iter().find(|(name, _)| name == vault);
        let (name, found) = found.with_context(|| format!("no vault `{vault}`"))?;
        let (vault, bytes_expected) = (self.store.vault(found.id)?, found.used_bytes);
        let order = Order { vault, name, at, destination, format, bytes_expected };
        let report = export::run(&order, &self.stop, progress)?;
        Ok(Answer { good: report.is_complete(), value: serde_json::to_value(report)? })
    }
}
