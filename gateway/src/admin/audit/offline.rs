//! Verification without a server and without a secret: of a copy of the log.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coffre_storage::audit::checkpoint::parse_verifier;
use coffre_storage::audit::verify::{Against, verify_against};

use super::{kept_notes, verdict};
use crate::admin::Answer;
use crate::wiring;

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

    fn verifier_line(&self, beside: &Path) -> anyhow::Result<String> {
        let path = self.verifier.as_deref().unwrap_or(beside);
        std::fs::read_to_string(path).with_context(|| format!("the key that verifies, {}", path.display()))
    }
}

/// Verifies a copy offline. With the public key that lies beside the log, whoever could replace the whole copy could replace
/// that key too: give the one noted elsewhere, or compare them.
///
/// # Errors
/// No audit log there; reading failed.
pub fn verify_copy(directory: &Path, given: &Given) -> anyhow::Result<Answer> {
    let inner = wiring::store_directory(directory);
    let root = if inner.join("audit").is_dir() { inner } else { directory.to_owned() };
    if !root.join("audit").is_dir() {
        bail!("no audit log in {}", directory.display());
    }
    let line = given.verifier_line(&root.join("audit/checkpoint.pub"))?;
    let key = parse_verifier(&line).context("no verifier key of an audit log")?;
    let against = Against { until: None, kept: kept_notes(&given.notes()?, &key)? };
    let mut answer = verdict(&verify_against(wiring::blobs_at(&root)?.as_ref(), &key, against)?);
    if let Some(fields) = answer.value.as_object_mut() {
        fields.insert("verifier".to_owned(), line.trim().into());
    }
    Ok(answer)
}
