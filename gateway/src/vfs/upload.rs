//! Uploads that become visible in one step: whole files, parts of files, and parts of uploads (`parts`).
//!
//! What the client said about the digest of its bytes is computed as they come in, beside the sealing, and compared before
//! the commit: a mismatch changes nothing.

use bytes::Bytes;
use coffre_auth::Rights;
use coffre_storage::audit::{Action, DetailKey, RecordDraft};
use coffre_storage::id::InodeId;
use coffre_storage::upload::Upload;
use coffre_storage::{Pending, StoreError, Vault};
use tokio::task::JoinHandle;

use super::digest::{Algorithm, Digests, Hasher, keep};
use super::resolve::Place;
use super::{
    AttributeChange, Attributes, Edit, EditOffset, Follow, Kind, Namespace, Precondition, VaultPath,
    VfsError, durable_value,
};

/// A digest that a client says its bytes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Of which kind.
    pub algorithm: Algorithm,
    /// The digest.
    pub digest: Vec<u8>,
}

/// Where a part goes.
#[derive(Debug, Clone)]
pub(super) struct PartPlace {
    pub(super) vault: Vault,
    pub(super) directory: InodeId,
    pub(super) name: Vec<u8>,
    /// As records show it.
    pub(super) shown: Vec<u8>,
}

impl PartPlace {
    fn record(&self, namespace: &Namespace, action: Action) -> RecordDraft {
        RecordDraft {
            vault: Some(self.vault.id()),
            details: vec![(DetailKey::Name, self.shown.clone())],
            ..namespace.session().record(action)
        }
    }
}

/// Where an upload goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// To a path, whatever is there at the commit.
    Path(VaultPath),
    /// To a part of an upload.
    Part(PartPlace),
}

impl Target {
    fn record(&self, namespace: &Namespace) -> RecordDraft {
        match self {
            Self::Path(path) => namespace.about(Action::FileWrite, path),
            Self::Part(part) => part.record(namespace, Action::PartWrite),
        }
    }
}

/// An upload under way. Dropped without [`UploadHandle::commit`], nothing happened.
#[derive(Debug)]
pub struct UploadHandle {
    namespace: Namespace,
    target: Target,
    /// The upload, or the piece that is being sealed with it.
    state: UploadState,
    expected: Vec<Checksum>,
    /// The bytes that come are all that the file will hold.
    is_whole: bool,
    received: u64,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is the usual one")]
enum UploadState {
    Idle(Receiving),
    Sealing(JoinHandle<Result<Receiving, StoreError>>),
    Failed,
}

#[derive(Debug)]
struct Receiving {
    upload: Upload,
    /// Where the next bytes go.
    at: u64,
    hashers: Vec<(Algorithm, Hasher)>,
}

impl Receiving {
    fn take(mut self, bytes: &Bytes) -> Result<Self, StoreError> {
        self.hashers.iter_mut().for_each(|(_, hasher)| hasher.update(bytes));
        self.upload.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(self)
    }
}

/// The algorithms that are computed to verify these. Who compares by SHA-1 compares by MD5 as well: rclone sends one and
/// asks for the other.
pub(super) fn computed_for(expected: &[Checksum]) -> Vec<(Algorithm, Hasher)> {
    let mut wanted: Vec<Algorithm> = expected.iter().map(|checksum| checksum.algorithm).collect();
    for (one, other) in [(Algorithm::Sha1, Algorithm::Md5), (Algorithm::Md5, Algorithm::Sha1)] {
        if wanted.contains(&one) && !wanted.contains(&other) {
            wanted.push(other);
        }
    }
    wanted.into_iter().map(|algorithm| (algorithm, Hasher::new(algorithm))).collect()
}

/// The digests, if what was expected of them holds.
pub(super) fn verified(
    hashers: Vec<(Algorithm, Hasher)>,
    expected: &[Checksum],
) -> Result<Digests, VfsError> {
    let mut digests = Digests::default();
    for (algorithm, hasher) in hashers {
        let digest = hasher.finish();
        let differs = |checksum: &&Checksum| checksum.algorithm == algorithm && checksum.digest != digest;
        if expected.iter().any(|checksum| differs(&checksum)) {
            return Err(VfsError::ChecksumMismatch);
        }
        keep(&mut digests, algorithm, &digest);
    }
    Ok(digests)
}

impl UploadHandle {
    pub(super) fn new(namespace: Namespace, target: Target, upload: Upload) -> Self {
        let state = UploadState::Idle(Receiving { upload, at: 0, hashers: Vec::new() });
        Self { namespace, target, state, expected: Vec::new(), is_whole: true, received: 0 }
    }

    /// The same for bytes that go to an offset of what is there.
    pub(super) fn new_at(namespace: Namespace, path: VaultPath, upload: Upload, at: u64) -> Self {
        let state = UploadState::Idle(Receiving { upload, at, hashers: Vec::new() });
        let target = Target::Path(path);
        Self { namespace, target, state, expected: Vec::new(), is_whole: false, received: 0 }
    }

    /// Says which digests the bytes of this upload have, before the first of them.
    pub fn expect(&mut self, expected: Vec<Checksum>) {
        if let UploadState::Idle(receiving) = &mut self.state {
            receiving.hashers = computed_for(&expected);
            self.expected = expected;
        }
    }

    async fn settled(&mut self) -> Result<Receiving, VfsError> {
        match std::mem::replace(&mut self.state, UploadState::Failed) {
            UploadState::Idle(receiving) => Ok(receiving),
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
        let receiving = match self.settled().await {
            Ok(receiving) => receiving,
            Err(error) => return Err(self.failed(error).await),
        };
        self.received += bytes.len() as u64;
        self.state = UploadState::Sealing(tokio::task::spawn_blocking(move || receiving.take(&bytes)));
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
        let Receiving { mut upload, hashers, .. } = match self.settled().await {
            Ok(receiving) => receiving,
            Err(error) => return Err(self.failed(error).await),
        };
        match verified(hashers, &self.expected) {
            Ok(digests) if self.is_whole => upload.tell_digests(digests),
            Ok(_) => {}
            Err(error) => return Err(self.failed(error).await),
        }
        let (target, received) = (self.target.clone(), self.received);
        let pending = self
            .namespace
            .audited(self.target.record(&self.namespace), move |own| {
                own.commit_upload(upload, &target, received, precondition, &attributes)
            })
            .await?;
        durable_value(pending).await
    }

    async fn failed(&mut self, error: VfsError) -> VfsError {
        match error.outcome() {
            Some(outcome) => {
                let record = self.target.record(&self.namespace);
                let record = RecordDraft { outcome, reason: Some(error.to_string()), ..record };
                self.namespace.record(record).await.err().unwrap_or(error)
            }
            None => error,
        }
    }
}

impl Namespace {
    /// Starts an upload that becomes visible in one step (WebDAV PUT). Policy, parent, quota and room of `size_hint` bytes
    /// are asked now.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn begin_upload(
        &self,
        path: &VaultPath,
        size_hint: Option<u64>,
    ) -> Result<UploadHandle, VfsError> {
        let path = path.clone();
        self.audited(self.about(Action::FileWrite, &path), move |own| {
            let place = own.place(&path, Follow::Yes)?;
            match &place.existing {
                Some(existing) if existing.attributes.kind == Kind::Directory => {
                    return Err(StoreError::IsADirectory.into());
                }
                Some(existing) => own.permit_change(existing, Rights::Overwrite)?,
                None => own.permit_create(&place)?,
            };
            own.has_room(size_hint)?;
            let replaced = place.existing.as_ref().map(|existing| existing.attributes.inode);
            let vault = &place.parent.vault;
            vault.may_change(replaced, Some(place.parent.inode))?;
            let upload = vault.begin_upload_at(replaced, size_hint)?;
            Ok(UploadHandle::new(own.clone(), Target::Path(path), upload))
        })
        .await
    }

    /// Refuses what the disk has no room for.
    pub(super) fn has_room(&self, bytes: Option<u64>) -> Result<(), VfsError> {
        let free = || self.vfs.inner.store.blobs().free_bytes().map_err(StoreError::from);
        match bytes {
            Some(bytes) if free()? < bytes => Err(StoreError::DiskFull.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Starts a change of `length` bytes of a file that becomes visible in one step. Tells what the file holds now: the
    /// commit's precondition is that it still does.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn begin_edit(
        &self,
        path: &VaultPath,
        offset: EditOffset,
        length: u64,
    ) -> Result<Edit, VfsError> {
        let path = path.clone();
        self.audited(self.about(Action::FileWrite, &path), move |own| {
            let existing = own.place(&path, Follow::Yes)?.existing.ok_or(StoreError::NotFound)?;
            own.permit_change(&existing, Rights::Overwrite)?;
            own.has_room(Some(length))?;
            let (mut upload, content) = existing.tree.present()?.begin_edit(existing.attributes.inode)?;
            let size = upload.size();
            let at = match offset {
                EditOffset::Start(at) => Some(at).filter(|at| *at <= size),
                EditOffset::BeforeEnd(bytes) => size.checked_sub(bytes),
            };
            let Some(at) = at else { return Ok(Edit::OutOfReach { size }) };
            upload.expect_growth(at.saturating_add(length).saturating_sub(size))?;
            Ok(Edit::Begun { upload: UploadHandle::new_at(own.clone(), path, upload, at), content })
        })
        .await
    }

    /// The place of an upload at its commit: the tree may have changed since it began.
    pub(super) fn upload_place(&self, path: &VaultPath) -> Result<Place, VfsError> {
        let place = self.place(path, Follow::Yes)?;
        match &place.existing {
            Some(existing) => self.permit_change(existing, Rights::Overwrite)?,
            None => self.permit_create(&place)?,
        };
        Ok(place)
    }

    pub(super) fn commit_upload(
        &self,
        upload: Upload,
        target: &Target,
        received: u64,
        precondition: Precondition,
        attributes: &AttributeChange,
    ) -> Result<Pending<(Attributes, bool)>, VfsError> {
        let (vault, done) = match target {
            Target::Path(path) => {
                let place = self.upload_place(path)?;
                let (vault, parent) = (place.parent.vault.clone(), place.parent.inode);
                let record = RecordDraft {
                    vault: Some(vault.id()),
                    bytes: Some(received),
                    ..self.about(Action::FileWrite, &place.path)
                };
                let done = upload.commit((parent, &place.name), precondition, attributes, record)?;
                if done.value.1 {
                    self.note_fresh(&place, done.value.0);
                }
                (vault, done)
            }
            Target::Part(part) => {
                let record = part.record(self, Action::PartWrite);
                let done = upload.commit((part.directory, &part.name), precondition, attributes, record)?;
                (part.vault.clone(), done)
            }
        };
        let (inode, new) = done.value;
        Ok(Pending { value: (vault.attributes(inode)?, new), ticket: done.ticket })
    }
}
