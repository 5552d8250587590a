//! Giving a vault's data back: which vault, then [`crate::export`].

use std::path::PathBuf;

use super::Answer;
use super::service::Service;
use crate::export::{self, Format, Order};

impl Service {
    /// `export`: a vault to a destination in a format.
    pub(super) fn export(
        &self,
        name: &str,
        (destination, format): (PathBuf, Format),
        at: Option<String>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Answer> {
        let record = self.vault_record(name)?;
        let order = Order {
            vault: self.store.vault(record.id)?,
            name: name.to_owned(),
            at,
            destination,
            format,
            bytes_expected: record.used_bytes,
        };
        let report = export::run(&order, &self.stop, progress)?;
        Ok(Answer { good: report.is_complete(), value: serde_json::to_value(report)? })
    }
}
