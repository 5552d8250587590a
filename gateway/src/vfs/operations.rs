//! Operations on names: each resolves, asks for a permit, changes storage with its audit record, and waits until both
//! are durable.

use coffre_auth::Rights;
use coffre_auth::principal::Refusal;
use coffre_storage::audit::{Action, DetailKey, Outcome, RecordDraft};
use coffre_storage::id::VaultId;
use coffre_storage::upload::{Completion, Upload};
use coffre_storage::{Pending, StoreError, Vault};

use super::point::{Spelling, name_of};
use super::resolve::{Inside, Node, Parent, Place, When};
use super::snapshots::SNAPSHOTS;
use super::space;
use super::tree::Tree;
use super::{
    AttributeChange, Attributes, DirectoryEntry, DirectoryHandle, FileHandle, Follow, Kind, Namespace,
    OpenOptions, Precondition, Properties, Replace, SpaceState, VaultPath, VfsError, blocking, brief,
    durable, durable_value,
};
use crate::limits::COPY_PIECE_BYTES;
use crate::session::SharedSession;

impl Namespace {
    /// Whose.
    pub fn session(&self) -> &SharedSession {
        &self.session
    }

    pub(super) fn live(&self) -> Result<(), VfsError> {
        if self.session.is_live() { Ok(()) } else { Err(VfsError::SessionEnded) }
    }

    /// A record of this session about a path.
    pub(super) fn about(&self, action: Action, path: &VaultPath) -> RecordDraft {
        let path = self.own_path(path).to_bytes();
        RecordDraft { details: vec![(DetailKey::Path, path)], ..self.session.record(action) }
    }

    pub(super) fn about_inside(&self, action: Action, path: &VaultPath, inside: &Inside) -> RecordDraft {
        let mut record = RecordDraft {
            vault: Some(inside.tree.id()),
            object: Some(inside.attributes.inode),
            ..self.about(action, path)
        };
        if let Some(moment) = inside.tree.moment() {
            // A named snapshot's path does not tell when.
            let note = format!("as of {}", name_of(moment, Spelling::Colons));
            record.details.push((DetailKey::Note, note.into_bytes()));
        }
        record
    }

    fn about_place(&self, action: Action, place: &Place) -> RecordDraft {
        RecordDraft { vault: Some(place.parent.vault.id()), ..self.about(action, &place.path) }
    }

    /// Runs `work` on the pool; writes down refusals and failures; waits for what it changed to be durable.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        refused: RecordDraft,
        work: impl FnOnce(&Self) -> Result<Pending<T>, VfsError> + Send + 'static,
    ) -> Result<T, VfsError> {
        durable_value(self.audited(refused, work).await?).await
    }

    /// Runs `work` on the pool; writes down refusals and failures.
    pub(super) async fn audited<T: Send + 'static>(
        &self,
        refused: RecordDraft,
        work: impl FnOnce(&Self) -> Result<T, VfsError> + Send + 'static,
    ) -> Result<T, VfsError> {
        self.live()?;
        let own = self.clone();
        self.written_down(refused, blocking(move || work(&own)).await).await
    }

    /// The same for what is brief.
    pub(super) async fn audited_brief<T: Send + 'static>(
        &self,
        refused: RecordDraft,
        work: impl FnOnce(&Self) -> Result<T, VfsError> + Send + 'static,
    ) -> Result<T, VfsError> {
        self.live()?;
        let own = self.clone();
        self.written_down(refused, brief(move || work(&own)).await).await
    }

    async fn written_down<T>(
        &self,
        refused: RecordDraft,
        result: Result<T, VfsError>,
    ) -> Result<T, VfsError> {
        if let Err(error) = &result
            && let Some(outcome) = error.outcome()
        {
            let is_hidden = matches!(error, VfsError::Hidden);
            let reason = if is_hidden { Refusal::DropBox.to_string() } else { error.to_string() };
            self.record(RecordDraft { outcome, reason: Some(reason), ..refused }).await?;
        }
        match result {
            Err(VfsError::Hidden) => Err(StoreError::NotFound.into()),
            other => other,
        }
    }

    /// Attributes.
    ///
    /// # Errors
    /// [`VfsError`], here and below.
    pub async fn stat(&self, path: &VaultPath, follow: Follow) -> Result<Attributes, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let resolved = own.resolve(&path, follow)?;
            if let Node::Inside(inside) = &resolved.node {
                own.permit_read(inside, Rights::List)?;
            }
            Ok(own.attributes_of(&resolved.node))
        })
        .await
    }

    /// Opens or creates a file; the audit record of the open is durable before the first byte is read. What this makes
    /// is durable when the handle is synced or closed.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn open(&self, path: &VaultPath, options: OpenOptions) -> Result<FileHandle, VfsError> {
        let path = path.clone();
        let (record, truncate) = (self.about(Action::FileOpen, &path), options.truncate);
        let handle =
            self.audited_brief(record.clone(), move |own| FileHandle::open(own, &path, &options)).await?;
        if truncate && handle.is_to_be_cut() {
            return self.audited(record, move |_| handle.cut()).await;
        }
        Ok(handle)
    }

    /// Opens a file to read one content of it, whatever is written to it meanwhile. Directories of all kinds:
    /// `IsADirectory`.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn open_still(&self, path: &VaultPath) -> Result<FileHandle, VfsError> {
        let path = path.clone();
        let options = OpenOptions { read: true, still: true, ..OpenOptions::default() };
        self.audited_brief(self.about(Action::FileOpen, &path), move |own| {
            FileHandle::open_resolved(own, own.resolve(&path, Follow::Yes)?, &options)
        })
        .await
    }

    /// Opens a directory for listing (mount points below it included). Its record is durable when this returns.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn open_directory(&self, path: &VaultPath) -> Result<DirectoryHandle, VfsError> {
        let given = path.clone();
        let handle = self
            .audited(self.about(Action::DirectoryList, path), move |own| {
                let resolved = own.resolve(&given, Follow::Yes)?;
                DirectoryHandle::open(own, resolved)
            })
            .await?;
        let record = match handle.inside() {
            Some(inside) => self.about_inside(Action::DirectoryList, path, inside),
            None => self.about(Action::DirectoryList, path),
        };
        self.record(record).await?;
        Ok(handle)
    }

    /// mkdir.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn make_directory(
        &self,
        path: &VaultPath,
        attributes: AttributeChange,
    ) -> Result<(), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::DirectoryCreate, &path), move |own| {
            let place = own.new_place(&path)?;
            own.permit_create(&place)?;
            let record = own.about_place(Action::DirectoryCreate, &place);
            let parent = &place.parent;
            let made = parent.vault.make_directory(parent.inode, &place.name, &attributes, record)?;
            own.note_fresh(&place, made.value);
            Ok(Pending { value: (), ticket: made.ticket })
        })
        .await
    }

    /// A place whose name is free, or why not.
    fn new_place(&self, path: &VaultPath) -> Result<Place, VfsError> {
        let place = match self.place(path, Follow::No) {
            Ok(place) => place,
            Err(VfsError::MountPoint) if self.resolve(path, Follow::No).is_ok() => {
                return Err(StoreError::Exists.into());
            }
            Err(error) => return Err(error),
        };
        if place.existing.is_some() { Err(StoreError::Exists.into()) } else { Ok(place) }
    }

    /// A place that is taken, by what may go away or be moved.
    fn taken_place(&self, path: &VaultPath) -> Result<(Place, Inside), VfsError> {
        let place = self.place(path, Follow::No)?;
        let existing = place.existing.clone().ok_or(StoreError::NotFound)?;
        if self.holds_mount(&place.path) {
            return Err(VfsError::MountPoint);
        }
        Ok((place, existing))
    }

    async fn remove_by(
        &self,
        path: &VaultPath,
        how: fn(&Place, RecordDraft) -> Result<Pending<()>, StoreError>,
    ) -> Result<(), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::Remove, &path), move |own| {
            let (place, existing) = own.taken_place(&path)?;
            own.permit_change(&existing, Rights::Delete)?;
            Ok(how(&place, own.about_place(Action::Remove, &place))?)
        })
        .await
    }

    /// unlink of a file or link.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn remove(&self, path: &VaultPath) -> Result<(), VfsError> {
        self.remove_by(path, |place, record| {
            place.parent.vault.remove(place.parent.inode, &place.name, record)
        })
        .await
    }

    /// rmdir.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn remove_directory(&self, path: &VaultPath) -> Result<(), VfsError> {
        self.remove_by(path, |place, record| {
            place.parent.vault.remove_directory(place.parent.inode, &place.name, record)
        })
        .await
    }

    /// Removes a file, or a directory and all below it, in one transaction (WebDAV DELETE).
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn remove_tree(&self, path: &VaultPath) -> Result<(), VfsError> {
        self.remove_by(path, |place, record| {
            place.parent.vault.remove_tree(place.parent.inode, &place.name, record)
        })
        .await
    }

    /// Moves a name. Across vaults: `CrossDevice`.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn rename(&self, from: &VaultPath, to: &VaultPath, replace: Replace) -> Result<(), VfsError> {
        let (from, to) = (from.clone(), to.clone());
        let mut draft = self.about(Action::Rename, &from);
        draft.details.push((DetailKey::Target, to.to_bytes()));
        self.change(draft, move |own| own.rename_now(&from, &to, replace)).await
    }

    fn rename_now(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        replace: Replace,
    ) -> Result<Pending<()>, VfsError> {
        let (source, moved) = self.taken_place(from)?;
        let target = self.place(to, Follow::No)?;
        if self.holds_mount(&target.path) {
            return Err(VfsError::MountPoint);
        }
        if source.parent.vault.id() != target.parent.vault.id() {
            return Err(VfsError::CrossDevice);
        }
        self.permit_change(&moved, Rights::Rename)?;
        self.permit_create(&target)?;
        match &target.existing {
            Some(_) if replace == Replace::Never => return Err(StoreError::Exists.into()),
            // What is replaced is removed: a fresh file may take the place of nothing but another fresh one.
            Some(existing) if existing.object() != moved.object() => {
                if self.permit_change(existing, Rights::Delete).is_err() {
                    self.permit_change(existing, Rights::Overwrite)?;
                }
            }
            Some(_) | None => {}
        }
        let mut record = self.about_place(Action::Rename, &source);
        record.details.push((DetailKey::Target, target.path.to_bytes()));
        let pending = source.parent.vault.rename(
            (source.parent.inode, &source.name),
            (target.parent.inode, &target.name),
            replace,
            record,
        )?;
        self.vfs.inner.fresh.renamed(moved.object());
        Ok(pending)
    }

    /// Copies (content shared inside one vault; across vaults the bytes are copied). `deep`: with everything below.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        replace: Replace,
        deep: bool,
    ) -> Result<(), VfsError> {
        let (from, to) = (from.clone(), to.clone());
        let mut draft = self.about(Action::Copy, &from);
        draft.details.push((DetailKey::Target, to.to_bytes()));
        self.change(draft, move |own| own.copy_now(&from, &to, replace, deep)).await
    }

    fn copy_now(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        replace: Replace,
        deep: bool,
    ) -> Result<Pending<()>, VfsError> {
        let (real, source) = self.inside(from, Follow::Yes)?;
        self.permit_read(&source, Rights::Read)?;
        if source.attributes.kind == Kind::Directory && deep && self.holds_mount_inside(&real) {
            return Err(VfsError::MountPoint);
        }
        let target = self.place(to, Follow::No)?;
        if self.holds_mount(&target.path) {
            return Err(VfsError::MountPoint);
        }
        self.permit_create(&target)?;
        if let Some(existing) = &target.existing {
            if replace == Replace::Never {
                return Err(StoreError::Exists.into());
            }
            self.permit_change(existing, Rights::Overwrite)?;
        }
        // What holds the source cannot give way to its copy.
        if target.existing.is_some() && real.starts_with(&target.path) {
            return Err(StoreError::InvalidMove.into());
        }
        let mut record = self.about_inside(Action::Copy, &real, &source);
        record.details.push((DetailKey::Target, target.path.to_bytes()));
        if source.tree.id() == target.parent.vault.id() {
            let to = (target.parent.inode, target.name.as_slice());
            let made = match &source.tree {
                Tree::Present(vault) => vault.copy(source.attributes.inode, to, replace, deep, record),
                Tree::Past(past) => past.copy(source.attributes.inode, to, replace, deep, record),
            }?;
            self.note_fresh(&target, made.value);
            return Ok(Pending { value: (), ticket: made.ticket });
        }
        self.copy_across(&source, &target, replace, deep, &record)
    }

    /// The content of a file on its way into another vault.
    fn upload_of(&self, source: &Inside, vault: &Vault) -> Result<Upload, VfsError> {
        let open = source.tree.open(source.attributes.inode)?;
        let mut upload = vault.begin_upload()?;
        loop {
            self.live()?;
            let piece = open.read_at(upload.size(), COPY_PIECE_BYTES)?;
            if piece.is_empty() {
                return Ok(upload);
            }
            upload.write(&piece)?;
        }
    }

    /// Copies into another vault, bytes and all: one transaction a file, so a failure leaves what came before it.
    fn copy_across(
        &self,
        source: &Inside,
        target: &Place,
        replace: Replace,
        deep: bool,
        record: &RecordDraft,
    ) -> Result<Pending<()>, VfsError> {
        let (vault, parent) = (&target.parent.vault, target.parent.inode);
        let record = RecordDraft { vault: Some(vault.id()), object: None, ..record.clone() };
        let clear = || match target.existing {
            Some(_) if replace == Replace::Tree => {
                vault.remove_tree(parent, &target.name, record.clone()).map(drop)
            }
            Some(_) | None => Ok(()),
        };
        let attributes = AttributeChange {
            mode: Some(source.attributes.mode),
            uid: Some(source.attributes.uid),
            gid: Some(source.attributes.gid),
            atime: None,
            mtime: Some(source.attributes.mtime),
        };
        match source.attributes.kind {
            Kind::SymbolicLink => {
                let link = source.tree.read_link(source.attributes.inode)?;
                clear()?;
                let made = vault.make_link(parent, &target.name, &link, record)?;
                Ok(Pending { value: (), ticket: made.ticket })
            }
            Kind::File => {
                let upload = self.upload_of(source, vault)?;
                // What was there stays until all that comes in its place was taken.
                clear()?;
                let made = upload.commit((parent, &target.name), Precondition::None, &attributes, record)?;
                self.note_fresh(target, made.value.0);
                Ok(Pending { value: (), ticket: made.ticket })
            }
            Kind::Directory => {
                clear()?;
                let mut made = vault.make_directory(parent, &target.name, &attributes, record.clone())?;
                self.note_fresh(target, made.value);
                let inside = Parent { mount: target.parent.mount, vault: vault.clone(), inode: made.value };
                let mut cursor = None;
                #[expect(clippy::while_immutable_condition, reason = "it breaks at the last entry")]
                while deep {
                    let (entries, next) = source.tree.list(source.attributes.inode, cursor, 256)?;
                    for entry in entries {
                        let below = Inside {
                            mount: source.mount,
                            tree: source.tree.clone(),
                            attributes: entry.attributes,
                        };
                        let place = Place {
                            parent: inside.clone(),
                            path: target.path.join(&entry.name)?,
                            name: entry.name,
                            existing: None,
                        };
                        made.ticket = self.copy_across(&below, &place, replace, true, &record)?.ticket;
                    }
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
                Ok(Pending { value: (), ticket: made.ticket })
            }
        }
    }

    /// A link's target, as it was given.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn read_link(&self, path: &VaultPath) -> Result<Vec<u8>, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let (_, inside) = own.inside(&path, Follow::No)?;
            own.permit_read(&inside, Rights::List)?;
            Ok(inside.tree.read_link(inside.attributes.inode)?)
        })
        .await
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn make_link(&self, path: &VaultPath, target: &[u8]) -> Result<(), VfsError> {
        let (path, target) = (path.clone(), target.to_vec());
        let mut draft = self.about(Action::LinkCreate, &path);
        draft.details.push((DetailKey::Target, target.clone()));
        self.change(draft, move |own| {
            let place = own.new_place(&path)?;
            own.permit_create(&place)?;
            let mut record = own.about_place(Action::LinkCreate, &place);
            record.details.push((DetailKey::Target, target.clone()));
            let made = place.parent.vault.make_link(place.parent.inode, &place.name, &target, record)?;
            own.note_fresh(&place, made.value);
            Ok(Pending { value: (), ticket: made.ticket })
        })
        .await
    }

    /// Adds a name to a file.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn hard_link(&self, existing: &VaultPath, path: &VaultPath) -> Result<(), VfsError> {
        let (existing, path) = (existing.clone(), path.clone());
        let mut draft = self.about(Action::LinkCreate, &existing);
        draft.details.push((DetailKey::Target, path.to_bytes()));
        self.change(draft, move |own| {
            let (real, source) = own.changeable(&existing, Follow::No)?;
            let place = own.new_place(&path)?;
            if source.tree.id() != place.parent.vault.id() {
                return Err(VfsError::CrossDevice);
            }
            own.permit_read(&source, Rights::Read)?;
            // Through a new name an append-only or read-only mount could be circumvented: it changes the inode itself.
            own.permit_change(&source, Rights::SetAttributes)?;
            own.permit_create(&place)?;
            let mut record = own.about_inside(Action::LinkCreate, &real, &source);
            record.details.push((DetailKey::Target, place.path.to_bytes()));
            let parent = place.parent.inode;
            Ok(source.tree.present()?.hard_link(source.attributes.inode, parent, &place.name, record)?)
        })
        .await
    }

    /// Changes attributes; with `size`, truncates too.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn set_attributes(
        &self,
        path: &VaultPath,
        change: AttributeChange,
        size: Option<u64>,
        follow: Follow,
    ) -> Result<(), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::AttributesSet, &path), move |own| {
            let (real, inside) = own.changeable(&path, follow)?;
            own.set_attributes_of(&real, &inside, &change, size)
        })
        .await
    }

    pub(super) fn set_attributes_of(
        &self,
        path: &VaultPath,
        inside: &Inside,
        change: &AttributeChange,
        size: Option<u64>,
    ) -> Result<Pending<()>, VfsError> {
        let (vault, mut pending) = (self.reached_by(path, inside.tree.present()?)?, None);
        if let Some(size) = size {
            self.permit_change(inside, Rights::Overwrite)?;
            let open = vault.open(inside.attributes.inode)?;
            open.truncate(size)?;
            let mut record = self.about_inside(Action::FileWrite, path, inside);
            record.bytes = Some(size);
            pending = Some(open.commit(Completion::Whole, record)?);
        }
        if *change != AttributeChange::default() || pending.is_none() {
            self.permit_change(inside, Rights::SetAttributes)?;
            let record = self.about_inside(Action::AttributesSet, path, inside);
            pending = Some(vault.set_attributes(inside.attributes.inode, change, record)?);
        }
        pending.ok_or(VfsError::Interrupted)
    }

    /// The path with links resolved and mounts crossed (SFTP REALPATH: the last component may be missing).
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn real_path(&self, path: &VaultPath) -> Result<VaultPath, VfsError> {
        let path = path.clone();
        self.audited(self.about(Action::Stat, &path), move |own| match own.real(&path) {
            // Clients ask for what they are about to make.
            Err(VfsError::Store(StoreError::NotFound)) => Ok(path),
            other => other,
        })
        .await
    }

    /// Whether policy lets this session write to what is there (a lock is asked for).
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn may_write(&self, path: &VaultPath) -> Result<(), VfsError> {
        let path = path.clone();
        self.audited(self.about(Action::LockSet, &path), move |own| {
            let (_, inside) = own.changeable(&path, Follow::Yes)?;
            own.permit_change(&inside, Rights::Overwrite).map(drop)
        })
        .await
    }

    /// Refuses a change at or below `/.snapshots`, for protocols that look at what is there before they change it.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn is_present(&self, action: Action, path: &VaultPath) -> Result<(), VfsError> {
        if self.own_names(path).first().is_none_or(|name| name != SNAPSHOTS) {
            return Ok(());
        }
        let error = VfsError::from(StoreError::ReadOnly);
        self.record(self.refusal(action, path, &error.to_string())).await?;
        Err(error)
    }

    /// Where a path lies for good: its vault and the names inside it, the same for every user who sees it. The last name
    /// may be missing and is not followed.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn location(&self, path: &VaultPath) -> Result<(VaultId, Vec<Vec<u8>>), VfsError> {
        let path = self.own_path(path);
        self.audited(self.about(Action::Stat, &path), move |own| {
            let real = match path.split_last() {
                None => path,
                Some((above, name)) => own.real(&above)?.join(name)?,
            };
            Ok(own.lies_at(&real))
        })
        .await
    }

    /// Space where `path` lies.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn space(&self, path: &VaultPath) -> Result<SpaceState, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let vault = match own.resolve(&path, Follow::Yes)?.node {
                Node::Above(_) | Node::Snapshots => None,
                Node::Inside(inside) => Some(inside.tree.id()),
            };
            own.space_in(vault)
        })
        .await
    }

    /// Space in a vault, or above all vaults.
    fn space_in(&self, vault: Option<VaultId>) -> Result<SpaceState, VfsError> {
        let store = &self.vfs.inner.store;
        let owner = coffre_storage::id::OwnerId(self.session.principal.customer.0);
        let vault = vault.map(|vault| store.quotas().vault(vault));
        let disk_free = store.blobs().free_bytes().map_err(StoreError::from)?;
        Ok(space::state(&store.quotas().customer(owner), vault.as_ref(), disk_free))
    }

    /// Space in a vault in which something is open.
    pub(super) async fn space_of(&self, vault: Option<VaultId>) -> Result<SpaceState, VfsError> {
        self.live()?;
        let own = self.clone();
        blocking(move || own.space_in(vault)).await
    }

    /// All properties of an object.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn properties(&self, path: &VaultPath) -> Result<Properties, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let resolved = own.resolve(&path, Follow::Yes)?;
            match resolved.node {
                Node::Above(_) | Node::Snapshots => Ok(Properties::new()),
                Node::Inside(inside) => {
                    own.permit_read(&inside, Rights::List)?;
                    Ok(inside.tree.properties(inside.attributes.inode)?)
                }
            }
        })
        .await
    }

    /// Sets and removes properties and changes attributes, all or nothing.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn set_properties(
        &self,
        path: &VaultPath,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        attributes: AttributeChange,
    ) -> Result<(), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::PropertiesSet, &path), move |own| {
            let (real, inside) = own.changeable(&path, Follow::Yes)?;
            own.permit_change(&inside, Rights::SetAttributes)?;
            let record = own.about_inside(Action::PropertiesSet, &real, &inside);
            let vault = own.reached_by(&real, inside.tree.present()?)?;
            Ok(vault.set_metadata(inside.attributes.inode, &attributes, &changes, record)?)
        })
        .await
    }

    /// Records a refusal or another event that the protocol saw before it reached an operation; durable when this returns.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn record(&self, record: RecordDraft) -> Result<(), VfsError> {
        let store = self.vfs.inner.store.clone();
        let pending = brief(move || Ok(store.record(record)?)).await?;
        durable(pending.ticket).await
    }

    /// A refusal of this session about a path, for the protocols' own checks.
    pub fn refusal(&self, action: Action, path: &VaultPath, reason: &str) -> RecordDraft {
        RecordDraft { outcome: Outcome::Refused, reason: Some(reason.to_owned()), ..self.about(action, path) }
    }
}

/// Mount points seen from above.
impl Namespace {
    /// Mount points in a directory, as entries of it. A moment shows those that it had.
    pub(super) fn mount_entries(
        &self,
        path: &VaultPath,
        when: &When,
    ) -> Result<Vec<DirectoryEntry>, VfsError> {
        let inner = when.inner(path.components());
        let mut entries = Vec::new();
        for (name, index) in self.mounts_below(inner) {
            if inner.is_empty() && name == SNAPSHOTS {
                continue;
            }
            let names: Vec<Vec<u8>> = path.components().iter().cloned().chain([name.clone()]).collect();
            let node = match index {
                Some(index) if matches!(when, When::Now) => {
                    self.mount_root(index, when).map(|inside| Some(Node::Inside(inside)))
                }
                Some(_) | None => self.step(when, &Node::Above(None), &names),
            };
            // The name is the user's, not the vault's: what is behind it says for itself that it is locked.
            let node = match node {
                Err(VfsError::Store(StoreError::VaultLocked(_))) => Some(Node::Above(when.time())),
                other => other?,
            };
            if let Some(node) = node {
                entries.push(DirectoryEntry { name, attributes: self.attributes_of(&node) });
            }
        }
        Ok(entries)
    }
}
