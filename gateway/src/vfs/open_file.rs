//! Open files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coffre_auth::Rights;
use coffre_auth::permit::{Permit, action};
use coffre_storage::audit::{Action, DetailKey, RecordDraft};
use coffre_storage::upload::{Completion, OpenFile};
use coffre_storage::{StoreError, Ticket};
use tokio::sync::Mutex;

use super::digest::Turns;
use super::read_ahead::ReadAhead;
use super::resolve::{Inside, Node, Resolved};
use super::tree::Tree;
use super::{
    AttributeChange, Attributes, Coming, Creation, Follow, Kind, Namespace, OpenOptions, SpaceState,
    VaultPath, VfsError, blocking, brief, durable,
};
use crate::limits::BRIEF_BYTES_MAX;

/// An open file of one session. Dropped without [`FileHandle::close`], what was written is committed as broken.
#[derive(Debug)]
pub struct FileHandle {
    shared: Arc<Shared>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    namespace: Namespace,
    path: VaultPath,
    inside: Inside,
    file: OpenFile,
    read: Option<Permit<action::Read>>,
    write: Option<Permit<action::Change>>,
    append: bool,
    origin: Origin,
    ahead: ReadAhead,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// The record of the open, until it is durable.
    opened: Mutex<Option<Opened>>,
}

/// Whether the open made the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    New,
    Existing,
}

/// The record of an open: nobody has asked for its durability, or it is on its way.
#[derive(Debug)]
enum Opened {
    Unasked(Ticket),
    Asked(Coming),
}

impl FileHandle {
    pub(super) fn open(own: &Namespace, path: &VaultPath, options: &OpenOptions) -> Result<Self, VfsError> {
        let follow = if options.creation == Creation::Exclusive { Follow::No } else { Follow::Yes };
        let place = match options.creation {
            Creation::Never => {
                let (path, existing) = own.inside(path, follow)?;
                return Self::open_existing(own, path, existing, options);
            }
            Creation::IfMissing | Creation::Exclusive => match own.place(path, follow) {
                // A mount point is a directory: say what an open of a directory says.
                Err(VfsError::MountPoint) if own.resolve(path, follow).is_ok() => {
                    return Err(StoreError::IsADirectory.into());
                }
                other => other?,
            },
        };
        if let Some(existing) = place.existing {
            if options.creation == Creation::Exclusive {
                return Err(StoreError::Exists.into());
            }
            return Self::open_existing(own, place.path, existing, options);
        }
        let permit = own.permit_create(&place)?;
        let (vault, parent) = (&place.parent.vault, place.parent.inode);
        let record = RecordDraft { vault: Some(vault.id()), ..own.about(Action::FileCreate, &place.path) };
        let made = match vault.create_file(parent, &place.name, &options.attributes, record) {
            Ok(made) => made,
            // Another came first.
            Err(StoreError::Exists) if options.creation == Creation::IfMissing => {
                let (path, existing) = own.inside(path, follow)?;
                return Self::open_existing(own, path, existing, options);
            }
            Err(error) => return Err(error.into()),
        };
        own.note_fresh(&place, made.value);
        let inside = Inside {
            mount: place.parent.mount,
            tree: Tree::Present(vault.clone()),
            attributes: vault.attributes(made.value)?,
        };
        // What this handle itself writes it may read again.
        let read = options.read.then(|| own.permit_read(&inside, Rights::Verify)).transpose()?;
        Self::build(
            own,
            place.path.clone(),
            inside,
            (read, options.write.then_some(permit)),
            (options, Origin::New),
            made.ticket,
        )
    }

    /// What a path was resolved to, if that is a file.
    pub(super) fn open_resolved(
        own: &Namespace,
        resolved: Resolved,
        options: &OpenOptions,
    ) -> Result<Self, VfsError> {
        match resolved.node {
            Node::Inside(inside) => Self::open_existing(own, resolved.path, inside, options),
            Node::Above(_) | Node::Snapshots => Err(StoreError::IsADirectory.into()),
        }
    }

    fn open_existing(
        own: &Namespace,
        path: VaultPath,
        inside: Inside,
        options: &OpenOptions,
    ) -> Result<Self, VfsError> {
        match inside.attributes.kind {
            Kind::File => {}
            Kind::Directory => return Err(StoreError::IsADirectory.into()),
            Kind::SymbolicLink => return Err(StoreError::WrongKind.into()),
        }
        // Asking for neither is asking to read.
        let wants_read = options.read || !options.write;
        let right = if options.verify { Rights::Verify } else { Rights::Read };
        let read = wants_read.then(|| own.permit_read(&inside, right)).transpose()?;
        let write = options
            .write
            .then(|| inside.tree.present().and_then(|_| own.permit_change(&inside, Rights::Overwrite)))
            .transpose()?;
        if write.is_some() {
            // Of what is written piece by piece the lock is asked for once: when it begins.
            own.reached_by(&path, inside.tree.present()?)?.may_change(Some(inside.attributes.inode), None)?;
        }
        let record = own.about_inside(Action::FileOpen, &path, &inside);
        let opened = own.vfs.inner.store.record(record)?.ticket;
        Self::build(own, path, inside, (read, write), (options, Origin::Existing), opened)
    }

    fn build(
        own: &Namespace,
        path: VaultPath,
        inside: Inside,
        (read, write): (Option<Permit<action::Read>>, Option<Permit<action::Change>>),
        (options, origin): (&OpenOptions, Origin),
        opened: Ticket,
    ) -> Result<Self, VfsError> {
        let inode = inside.attributes.inode;
        let (file, inside) = if options.still {
            let file = inside.tree.open_still(inode)?;
            let inside = Inside { attributes: file.attributes()?, ..inside };
            (file, inside)
        } else {
            (inside.tree.open(inode)?, inside)
        };
        // Who opens to read will read, and waits less if this is under way.
        let opened =
            if write.is_none() { Opened::Asked(Coming::ask(opened)) } else { Opened::Unasked(opened) };
        let shared = Shared {
            namespace: own.clone(),
            path,
            inside,
            file,
            read,
            write,
            append: options.append,
            origin,
            ahead: ReadAhead::default(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            opened: Mutex::new(Some(opened)),
        };
        Ok(Self { shared: Arc::new(shared), closed: false })
    }

    /// Attributes as they were when it was opened.
    pub fn opened_as(&self) -> &Attributes {
        &self.shared.inside.attributes
    }

    /// Whether an open that cuts has something to cut. A file of any size: not brief.
    pub(super) fn is_to_be_cut(&self) -> bool {
        self.shared.write.is_some() && self.shared.origin == Origin::Existing
    }

    /// Cuts to nothing.
    pub(super) fn cut(self) -> Result<Self, VfsError> {
        self.shared.file.truncate(0)?;
        Ok(self)
    }

    /// Up to `len` bytes at `offset`; empty at the end.
    ///
    /// # Errors
    /// [`VfsError`], here and below.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, VfsError> {
        self.read_onto(offset, len, Vec::new()).await.map(Bytes::from)
    }

    /// As [`FileHandle::read`], behind what `into` holds already.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn read_onto(&self, offset: u64, len: usize, mut into: Vec<u8>) -> Result<Vec<u8>, VfsError> {
        let shared = &self.shared;
        shared.may_read()?;
        if let Some(soon) = shared.ahead.begin(offset, len) {
            let file = shared.file.clone();
            let len = usize::try_from(soon.end - soon.start).unwrap_or(0);
            // Nobody waits for it, and what goes wrong goes wrong again when it is read.
            tokio::task::spawn_blocking(move || drop(file.will_read(soon.start, len)));
        }
        let before = into.len();
        let result = if shared.file.is_in_memory(offset, len) {
            shared.file.read_onto(offset, len, &mut into).map(|()| into).map_err(VfsError::from)
        } else {
            let file = shared.file.clone();
            let read = move || Ok(file.read_onto(offset, len, &mut into).map(|()| into)?);
            let is_little = shared.inside.attributes.size <= BRIEF_BYTES_MAX;
            if is_little { brief(read).await } else { blocking(read).await }
        };
        // Nothing leaves before the record of the open is durable.
        shared.told().await?;
        match result {
            Ok(bytes) => {
                shared.bytes_read.fetch_add((bytes.len() - before) as u64, Ordering::Relaxed);
                Ok(bytes)
            }
            Err(error) => {
                shared.failed(Action::FileRead, &error).await?;
                Err(error)
            }
        }
    }

    /// What may be read from now on: policy allowed it, and the record of the open is durable.
    pub(super) async fn readable(&self) -> Result<&OpenFile, VfsError> {
        let shared = &self.shared;
        shared.may_read()?;
        shared.told().await?;
        Ok(&shared.file)
    }

    pub(super) fn turns(&self) -> Turns {
        self.shared.namespace.vfs.inner.hashing.clone()
    }

    /// Writes (at the end in append mode). Back-pressure: returns when the bytes are in the open file.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), VfsError> {
        let shared = &self.shared;
        shared.namespace.live()?;
        if shared.write.is_none() {
            return Err(VfsError::WrongMode);
        }
        let (file, append, len) = (shared.file.clone(), shared.append, bytes.len() as u64);
        let write =
            move || Ok(if append { file.append(&bytes).map(drop) } else { file.write_at(offset, &bytes) }?);
        // Later writes may have to wait for room in the log.
        let is_little = shared.bytes_written.load(Ordering::Relaxed).saturating_add(len) <= BRIEF_BYTES_MAX;
        let result = if is_little { brief(write).await } else { blocking(write).await };
        match result {
            Ok(()) => {
                shared.bytes_written.fetch_add(len, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                shared.failed(Action::FileWrite, &error).await?;
                Err(error)
            }
        }
    }

    /// Takes over all that `source` holds, in constant time. False when that cannot be: bytes are to be copied then.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn take_content_of(&self, source: &Self) -> Result<bool, VfsError> {
        let (shared, from) = (Arc::clone(&self.shared), Arc::clone(&source.shared));
        if shared.write.is_none() {
            return Err(VfsError::WrongMode);
        }
        source.readable().await?;
        let mut record = shared.namespace.about_inside(Action::Copy, &from.path, &from.inside);
        record.details.push((DetailKey::Target, shared.path.to_bytes()));
        let done = shared
            .namespace
            .clone()
            .audited(record.clone(), move |_| {
                let pending = shared.file.share_content_of(&from.file, record)?;
                if let Some(pending) = &pending {
                    shared.bytes_written.fetch_add(pending.value, Ordering::Relaxed);
                    from.bytes_read.fetch_add(pending.value, Ordering::Relaxed);
                }
                Ok(pending)
            })
            .await?;
        match done {
            Some(pending) => durable(pending.ticket).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Attributes now.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn attributes(&self) -> Result<Attributes, VfsError> {
        self.shared.namespace.live()?;
        let file = self.shared.file.clone();
        brief(move || Ok(file.attributes()?)).await
    }

    /// Space where it lies.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn space(&self) -> Result<SpaceState, VfsError> {
        self.shared.namespace.space_of(Some(self.shared.inside.tree.id())).await
    }

    /// FSETSTAT. A new size is durable with the next sync or close; attributes are when this returns.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn set_attributes(&self, change: AttributeChange, size: Option<u64>) -> Result<(), VfsError> {
        let shared = Arc::clone(&self.shared);
        let refused = shared.namespace.about_inside(Action::AttributesSet, &shared.path, &shared.inside);
        let pending = self
            .shared
            .namespace
            .audited(refused, move |own| {
                shared.inside.tree.present()?;
                if let Some(size) = size {
                    if shared.write.is_none() {
                        return Err(VfsError::WrongMode);
                    }
                    shared.file.truncate(size)?;
                }
                if change == AttributeChange::default() {
                    return Ok(None);
                }
                own.set_attributes_of(&shared.path, &shared.inside, &change, None).map(Some)
            })
            .await?;
        match pending {
            Some(pending) => durable(pending.ticket).await,
            None => Ok(()),
        }
    }

    /// fsync: durable when this returns.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn sync(&self) -> Result<(), VfsError> {
        self.shared.namespace.live()?;
        if self.shared.inside.tree.moment().is_some() {
            // What cannot be written to has nothing to sync.
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let pending = blocking(move || shared.commit(Completion::Whole)).await?;
        durable(pending).await
    }

    /// CLOSE: durable when this returns.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn close(self) -> Result<(), VfsError> {
        self.close_holding(()).await
    }

    /// The same; lets go of `unseen` when everybody sees what was written, which is before it is durable.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn close_holding(mut self, unseen: impl Send) -> Result<(), VfsError> {
        self.shared.namespace.live()?;
        let shared = Arc::clone(&self.shared);
        if shared.write.is_none() {
            self.closed = true;
            // Totals of a download: nobody's answer waits for them.
            let told = brief(move || shared.record_read()).await;
            return told.map(drop);
        }
        let is_little = self.shared.bytes_written.load(Ordering::Relaxed) <= BRIEF_BYTES_MAX;
        let commit = move || shared.commit(Completion::Whole);
        let ticket = if is_little { brief(commit).await? } else { blocking(commit).await? };
        self.closed = true;
        drop(unseen);
        durable(ticket).await
    }
}

impl Shared {
    /// Policy: reading is allowed, now.
    fn may_read(&self) -> Result<(), VfsError> {
        self.namespace.live()?;
        if self.read.is_none() { Err(VfsError::WrongMode) } else { Ok(()) }
    }

    /// Waits until the record of the open is durable.
    async fn told(&self) -> Result<(), VfsError> {
        match self.opened.lock().await.take() {
            Some(Opened::Unasked(ticket)) => durable(ticket).await,
            Some(Opened::Asked(coming)) => coming.here().await,
            None => Ok(()),
        }
    }

    fn commit(&self, completion: Completion) -> Result<Ticket, VfsError> {
        let mut record = self.namespace.about_inside(Action::FileWrite, &self.path, &self.inside);
        record.bytes = Some(self.bytes_written.load(Ordering::Relaxed));
        if completion == Completion::Broken {
            record.outcome = coffre_storage::audit::Outcome::Failed;
            record.reason = Some("the connection broke before the file was closed".to_owned());
        }
        if self.bytes_read.load(Ordering::Relaxed) > 0 && completion == Completion::Whole {
            drop(self.record_read()?);
        }
        Ok(self.file.commit(completion, record)?.ticket)
    }

    fn record_read(&self) -> Result<Ticket, VfsError> {
        let mut record = self.namespace.about_inside(Action::FileRead, &self.path, &self.inside);
        record.bytes = Some(self.bytes_read.load(Ordering::Relaxed));
        record.content_hash = self.inside.attributes.blake3;
        Ok(self.namespace.vfs.inner.store.record(record)?.ticket)
    }

    /// Writes down what went wrong with a read or write, once it is worth a record.
    async fn failed(&self, action: Action, error: &VfsError) -> Result<(), VfsError> {
        match error.outcome() {
            Some(outcome) => {
                let record = self.namespace.about_inside(action, &self.path, &self.inside);
                self.namespace
                    .record(RecordDraft { outcome, reason: Some(error.to_string()), ..record })
                    .await
            }
            None => Ok(()),
        }
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let finish = move || {
            let done =
                if shared.write.is_some() { shared.commit(Completion::Broken) } else { shared.record_read() };
            if let Err(error) = done {
                tracing::warn!(%error, "what a broken connection wrote could not be committed");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(finish)),
            Err(_) => finish(),
        }
    }
}
