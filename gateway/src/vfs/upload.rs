//! Uploads that become visible in one step.

use bytes::Bytes;
use coffre_storage::StoreError;
use coffre_storage::audit::{Action, RecordDraft};
use coffre_storage::upload::Upload;
use tokio::task::JoinHandle;

use super::{AttributeChange, Attributes, Namespace, Precondition, VaultPath, VfsError, durable_value};

/// An upload under way. Dropped without [`UploadHandle::commit`], nothing happened.
#[derive(Debug)]
pub struct UploadHandle {
    namespace: Namespace,
    path: VaultPath,
    /// The upload, or the piece that is being sealed with it.
    state: UploadState,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is the usual one")]
enum UploadState {
    Idle(Upload),
    Sealing(JoinHandle<Result<Upload, StoreError>>),
    Failed,
}

impl UploadHandle {
    pub(super) fn new(namespace: Namespace, path: VaultPath, upload: Upload) -> Self {
        Self { namespace, path, state: UploadState::Idle(upload) }
    }

    async fn settled(&mut self) -> Result<Upload, VfsError> {
        match std::mem::replace(&mut self.state, UploadState::Failed) {
            UploadState::Idle(upload) => Ok(upload),
            UploadState::Sealing(task) => Ok(task.await.map_err(|_| VfsError::Interrupted)??),
            UploadState::Failed => Err(VfsError::Interrupted),
        }
    }

    /// Takes the next bytes; sealing runs on the pool, one piece ahead.
    ///
    /// # Errors
    /// [`VfsError`]: the upload is lost then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), VfsError> {
        self.namespace.live()?;
        let mut upload = match self.settled().await {
            Ok(upload) => upload,
            Err(error) => return Err(self.failed(error).await),
        };
        self.state =
            UploadState::Sealing(tokio::task::spawn_blocking(move || upload.write(&bytes).map(|()| upload)));
        Ok(())
    }

    /// Makes it the file, durable when this returns; true when the name is new.
    ///
    /// # Errors
    /// [`VfsError`]: nothing changed then.
    pub async fn commit(
        mut self,
        precondition: Precondition,
        attributes: AttributeChange,
    ) -> Result<(Attributes, bool), VfsError> {
        let upload = match self.settled().await {
            Ok(upload) => upload,
            Err(error) => return Err(self.failed(error).await),
        };
        let path = self.path.clone();
        let pending = self
            .namespace
            .audited(self.namespace.about(Action::FileWrite, &self.path), move |own| {
                let place = own.upload_place(&path)?;
                let (vault, parent) = (&place.parent.vault, place.parent.inode);
                let record =
                    RecordDraft { vault: Some(vault.id()), ..own.about(Action::FileWrite, &place.path) };
                let done = upload.commit((parent, &place.name), precondition, &attributes, record)?;
                let (inode, new) = done.value;
                if new {
                    own.note_fresh(&place, inode);
                }
                let attributes = vault.attributes(inode)?;
                Ok(coffre_storage::Pending { value: (attributes, new), ticket: done.ticket })
            })
            .await?;
        durable_value(pending).await
    }

    async fn failed(&mut self, error: VfsError) -> VfsError {
        match error.outcome() {
            Some(outcome) => {
                let record = self.namespace.about(Action::FileWrite, &self.path);
                let record = RecordDraft { outcome, reason: Some(error.to_string()), ..record };
                self.namespace.record(record).await.err().unwrap_or(error)
            }
            None => error,
        }
    }
}
