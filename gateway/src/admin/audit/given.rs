//! What whoever verifies brings along: checkpoints and the key, kept elsewhere.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// What an offline verification is given.
#[derive(Debug, Default)]
pub struct Given {
    /// Files of checkpoints that were kept elsewhere.
    pub checkpoints: Vec<PathBuf>,
    /// The file of the key that verifies, kept elsewhere; the one beside the log when absent.
    pub verifier: Option<PathBuf>,
}

impl Given {
    /// Texts of the checkpoints.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn notes(&self) -> anyhow::Result<Vec<String>> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        self.checkpoints.iter().map(read).collect()
    }

    pub(super) fn verifier_line(&self, beside: &Path) -> anyhow::Result<String> {
        let path = self.verifier.as_deref().unwrap_or(beside);
        std::fs::read_to_string(path).with_context(|| format!("the key that verifies, {}", path.display()))
    }
}
