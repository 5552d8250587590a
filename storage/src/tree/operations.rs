//! The operations of a tree, each one transaction.

use minicbor::bytes::ByteVec;

use super::change::{Change, check_name};
use super::upload::{OpenFile, OpenHold};
use super::{AttributeChange, Attributes, Kind, Properties, Replace, Vault};
use crate::allowance::Amounts;
use crate::audit::RecordDraft;
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::{ContentId, InodeId};
use crate::index::Table;
use crate::limits::{LINK_BYTES_MAX, LINKS_MAX, NAME_BYTES_MAX, PROPERTIES_BYTES_MAX};
use crate::rows::{Content, DentryRow, InodeRow, decode, dentry_key, inode_key};

const MODE_MASK: u32 = 0o7777;

impl InodeRow {
    pub(crate) fn attributes(&self, inode: InodeId) -> Attributes {
        let size = match self.kind {
            Kind::File => self.content.size,
            Kind::SymbolicLink => self.target.as_ref().map_or(0, |target| target.len() as u64),
            Kind::Directory => 0,
        };
        Attributes {
            inode,
            kind: self.kind,
            size,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            atime: self.atime,
            mtime: self.touched.unwrap_or(self.mtime),
            ctime: self.touched.map_or(self.ctime, |touched| touched.max(self.ctime)),
            links: self.links,
            content: self.content.id,
            blake3: self.content.blake3,
            incomplete: self.incomplete,
            has_properties: !self.properties.is_empty(),
        }
    }

    pub(crate) fn into_properties(self) -> Properties {
        self.properties.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    pub(crate) fn apply(&mut self, change: &AttributeChange) {
        self.mode = change.mode.map_or(self.mode, |mode| mode & MODE_MASK);
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        self.atime = change.atime.unwrap_or(self.atime);
        self.mtime = change.mtime.unwrap_or(self.mtime);
    }
}

impl Change<'_> {
    /// A new inode with one name.
    #[expect(clippy::too_many_arguments, reason = "what a kind of inode has beside its name differs")]
    pub(crate) fn create(
        &mut self,
        parent: InodeId,
        name: &[u8],
        kind: Kind,
        attributes: &AttributeChange,
        content: Option<Content>,
        target: Option<Vec<u8>>,
    ) -> Result<InodeId, StoreError> {
        check_name(name)?;
        self.directory(parent)?;
        if self.dentry(parent, name)?.is_some() {
            return Err(StoreError::Exists);
        }
        let inode = InodeId(self.txn.next_number());
        let content = content.unwrap_or_else(|| Content::empty(ContentId(inode.0)));
        let mut row = InodeRow::new(kind, self.moment(), content);
        row.target = target.map(ByteVec::from);
        row.parent = (kind == Kind::Directory).then_some(parent);
        row.apply(attributes);
        self.add_inode(inode, &row)?;
        self.add_dentry(parent, name, inode, kind)?;
        Ok(inode)
    }

    /// Makes room at a target name, as `replace` allows. `from` is what will come there.
    pub(crate) fn clear_target(
        &mut self,
        from: &DentryRow,
        to: InodeId,
        name: &[u8],
        replace: Replace,
    ) -> Result<(), StoreError> {
        let Some(target) = self.dentry(to, name)? else { return Ok(()) };
        match replace {
            Replace::Never => Err(StoreError::Exists),
            Replace::Tree => self.unlink_tree(to, &target),
            Replace::Posix => match (from.kind, target.kind) {
                (Kind::Directory, Kind::Directory) if !self.is_empty(target.inode)? => {
                    Err(StoreError::NotEmpty)
                }
                (Kind::Directory, Kind::Directory) => self.unlink(to, &target),
                (Kind::Directory, _) => Err(StoreError::NotADirectory),
                (_, Kind::Directory) => Err(StoreError::IsADirectory),
                _ => self.unlink(to, &target),
            },
        }
    }

    /// Whether `inode` is `above` or lies below it.
    pub(crate) fn is_below(&self, mut inode: InodeId, above: InodeId) -> Result<bool, StoreError> {
        loop {
            if inode == above {
                return Ok(true);
            }
            match self.inode(inode)?.parent {
                Some(parent) => inode = parent,
                None => return Ok(false),
            }
        }
    }

    fn copy_tree(
        &mut self,
        from: InodeId,
        to: InodeId,
        name: &[u8],
        deep: bool,
    ) -> Result<InodeId, StoreError> {
        let source = self.inode(from)?;
        let content = match source.kind {
            Kind::File => Some(self.share_content(&source.content)?),
            Kind::Directory | Kind::SymbolicLink => None,
        };
        let attributes = AttributeChange {
            mode: Some(source.mode),
            uid: Some(source.uid),
            gid: Some(source.gid),
            atime: None,
            mtime: Some(source.touched.unwrap_or(source.mtime)),
        };
        let target = source.target.clone().map(Into::into);
        let made = self.create(to, name, source.kind, &attributes, content, target)?;
        if !source.properties.is_empty() {
            let old = self.inode(made)?;
            let new = InodeRow { properties: source.properties, ..old.successor() };
            self.replace_inode(made, &old, new)?;
        }
        if deep && source.kind == Kind::Directory {
            for entry in self.entries(from)? {
                self.copy_tree(entry.inode, made, &entry.name, true)?;
            }
        }
        Ok(made)
    }
}

/// With what writers wrote who have the file open.
pub(super) fn with_open_size(attributes: Attributes, open: Option<&OpenFile>) -> Attributes {
    match open {
        Some(open) if attributes.kind == Kind::File => Attributes { size: open.size(), ..attributes },
        _ => attributes,
    }
}

impl Vault {
    pub(crate) fn row(&self, inode: InodeId) -> Result<InodeRow, StoreError> {
        let bytes = self.store().get(&self.keys().records, Table::Inodes, &inode_key(self.id(), inode))?;
        decode(&bytes.ok_or(StoreError::NotFound)?)
    }

    /// The inode that a name leads to.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Attributes, StoreError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(StoreError::InvalidName);
        }
        let key = dentry_key(self.id(), parent, self.keys().name_mac(parent, name));
        match self.store().get(&self.keys().records, Table::Dentries, &key)? {
            Some(bytes) => {
                let row: DentryRow = decode(&bytes)?;
                self.attributes(row.inode)
            }
            None => match self.row(parent)?.kind {
                Kind::Directory => Err(StoreError::NotFound),
                Kind::File | Kind::SymbolicLink => Err(StoreError::NotADirectory),
            },
        }
    }

    /// The attributes of an inode; size includes what open writers have written.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn attributes(&self, inode: InodeId) -> Result<Attributes, StoreError> {
        // Whoever has it open is asked for before the row is read: a commit and close between the two would else show a size
        // that is older than what was acknowledged.
        let open = self.opened(inode);
        let attributes = self.row(inode)?.attributes(inode);
        Ok(with_open_size(attributes, open.as_ref()))
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, StoreError> {
        self.row(inode)?.target.map(Into::into).ok_or(StoreError::WrongKind)
    }

    fn create(
        &self,
        (parent, name): (InodeId, &[u8]),
        kind: Kind,
        attributes: &AttributeChange,
        target: Option<Vec<u8>>,
        mut audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        let mut change = Change::begin(self)?;
        change.may_name(parent, None)?;
        let inode = change.create(parent, name, kind, attributes, None, target)?;
        audit.object = Some(inode);
        Ok(Pending { value: inode, ticket: change.submit(audit)? })
    }

    /// Makes a directory. `attributes.mode` absent means 0755.
    ///
    /// # Errors
    /// `Exists`, `NotFound` or `NotADirectory` for the parent, `InvalidName`, `QuotaExceeded`.
    pub fn make_directory(
        &self,
        parent: InodeId,
        name: &[u8],
        attributes: &AttributeChange,
        audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        self.create((parent, name), Kind::Directory, attributes, None, audit)
    }

    /// Makes an empty file. `attributes.mode` absent means 0644.
    ///
    /// # Errors
    /// As for [`Vault::make_directory`].
    pub fn create_file(
        &self,
        parent: InodeId,
        name: &[u8],
        attributes: &AttributeChange,
        audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        self.create((parent, name), Kind::File, attributes, None, audit)
    }

    /// Makes a symbolic link to `target`, which is kept as it is.
    ///
    /// # Errors
    /// As for [`Vault::make_directory`]; `TooLarge`.
    pub fn make_link(
        &self,
        parent: InodeId,
        name: &[u8],
        target: &[u8],
        audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        if target.is_empty() || target.len() > LINK_BYTES_MAX || target.contains(&0) {
            return Err(StoreError::TooLarge("the link's target"));
        }
        self.create(
            (parent, name),
            Kind::SymbolicLink,
            &AttributeChange::default(),
            Some(target.to_vec()),
            audit,
        )
    }

    /// Adds a name to a file or link.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `IsADirectory` for a directory as source, `TooLarge`, `QuotaExceeded`.
    pub fn hard_link(
        &self,
        inode: InodeId,
        parent: InodeId,
        name: &[u8],
        mut audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        check_name(name)?;
        let mut change = Change::begin(self)?;
        let old = change.inode(inode)?;
        change.directory(parent)?;
        change.may_name(parent, None)?;
        if old.kind == Kind::Directory {
            return Err(StoreError::IsADirectory);
        }
        if change.dentry(parent, name)?.is_some() {
            return Err(StoreError::Exists);
        }
        if old.links >= LINKS_MAX {
            return Err(StoreError::TooLarge("the number of links"));
        }
        // It counts nothing itself: its file does. But where no more files may be, no more names may.
        let room = Amounts { files: 1, ..Amounts::default() };
        if let Err(refusal) = self.store().quotas().check(self.owner(), self.id(), room) {
            drop(change);
            return Err(self.refused(refusal));
        }
        let new = InodeRow { links: old.links + 1, ..old.successor() };
        change.replace_inode(inode, &old, new)?;
        change.add_dentry(parent, name, inode, old.kind)?;
        audit.object = Some(inode);
        Ok(Pending { value: (), ticket: change.submit(audit)? })
    }

    fn remove_as(
        &self,
        (parent, name): (InodeId, &[u8]),
        audit: RecordDraft,
        how: impl FnOnce(&mut Change<'_>, &DentryRow) -> Result<(), StoreError>,
    ) -> Result<Pending<()>, StoreError> {
        let mut change = Change::begin(self)?;
        change.directory(parent)?;
        let row = change.dentry(parent, name)?.ok_or(StoreError::NotFound)?;
        change.may_name(parent, Some(&row))?;
        how(&mut change, &row)?;
        let audit = RecordDraft { object: Some(row.inode), ..audit };
        Ok(Pending { value: (), ticket: change.submit(audit)? })
    }

    /// Removes a name of a file or link; open handles go on.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn remove(
        &self,
        parent: InodeId,
        name: &[u8],
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        self.remove_as((parent, name), audit, |change, row| match row.kind {
            Kind::Directory => Err(StoreError::IsADirectory),
            Kind::File | Kind::SymbolicLink => change.unlink(parent, row),
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `NotEmpty`.
    pub fn remove_directory(
        &self,
        parent: InodeId,
        name: &[u8],
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        self.remove_as((parent, name), audit, |change, row| match row.kind {
            Kind::Directory if !change.is_empty(row.inode)? => Err(StoreError::NotEmpty),
            Kind::Directory => change.unlink(parent, row),
            Kind::File | Kind::SymbolicLink => Err(StoreError::NotADirectory),
        })
    }

    /// Removes a name and all below it, as one transaction.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` for a tree whose journal would not fit a batch.
    pub fn remove_tree(
        &self,
        parent: InodeId,
        name: &[u8],
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        self.remove_as((parent, name), audit, |change, row| change.unlink_tree(parent, row))
    }

    /// Moves a name, as one transaction. Renaming a file to itself changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`, `InvalidMove`, `InvalidName`.
    pub fn rename(
        &self,
        from: (InodeId, &[u8]),
        to: (InodeId, &[u8]),
        replace: Replace,
        mut audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        check_name(to.1)?;
        let mut change = Change::begin(self)?;
        change.directory(from.0)?;
        change.directory(to.0)?;
        let row = change.dentry(from.0, from.1)?.ok_or(StoreError::NotFound)?;
        audit.object = Some(row.inode);
        if row.kind == Kind::Directory && change.is_below(to.0, row.inode)? {
            return Err(StoreError::InvalidMove);
        }
        let target = change.dentry(to.0, to.1)?;
        change.may_name(from.0, Some(&row))?;
        change.may_name(to.0, target.as_ref())?;
        let same = target.as_ref().is_some_and(|target| target.inode == row.inode);
        if same && replace != Replace::Never {
            return Ok(Pending { value: (), ticket: change.submit(audit)? });
        }
        // What lies above the source cannot be replaced by it.
        if let Some(target) = target.filter(|target| target.kind == Kind::Directory)
            && change.is_below(from.0, target.inode)?
        {
            return Err(if replace == Replace::Never { StoreError::Exists } else { StoreError::NotEmpty });
        }
        change.clear_target(&row, to.0, to.1, replace)?;
        if row.kind == Kind::Directory {
            change.drop_locks_below(row.inode)?;
        }
        change.drop_dentry(from.0, &row)?;
        change.add_dentry(to.0, to.1, row.inode, row.kind)?;
        if row.kind == Kind::Directory && from.0 != to.0 {
            let old = change.inode(row.inode)?;
            let new = InodeRow { parent: Some(to.0), ..old.successor() };
            change.replace_inode(row.inode, &old, new)?;
        }
        Ok(Pending { value: (), ticket: change.submit(audit)? })
    }

    /// Copies a file, link or (with `deep`) a tree under a new name: content is shared, not copied. One transaction.
    ///
    /// # Errors
    /// As for [`Vault::rename`]; `QuotaExceeded`.
    pub fn copy(
        &self,
        from: InodeId,
        to: (InodeId, &[u8]),
        replace: Replace,
        deep: bool,
        mut audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        check_name(to.1)?;
        // What is still being written goes along.
        if let Some(open) = self.opened(from).filter(OpenFile::is_dirty) {
            drop(open.commit(super::upload::Completion::Whole, audit.clone())?);
        }
        let mut change = Change::begin(self)?;
        let source = change.inode(from)?;
        change.directory(to.0)?;
        if source.kind == Kind::Directory && change.is_below(to.0, from)? {
            return Err(StoreError::InvalidMove);
        }
        if let Some(target) = change.dentry(to.0, to.1)?
            && (target.inode == from
                || (target.kind == Kind::Directory
                    && source
                        .parent
                        .is_some_and(|parent| change.is_below(parent, target.inode).unwrap_or(true))))
        {
            return Err(StoreError::InvalidMove);
        }
        change.may_name(to.0, change.dentry(to.0, to.1)?.as_ref())?;
        let row =
            DentryRow { name: to.1.to_vec().into(), inode: from, kind: source.kind, begin: change.moment() };
        change.clear_target(&row, to.0, to.1, replace)?;
        let made = change.copy_tree(from, to.0, to.1, deep)?;
        audit.object = Some(made);
        Ok(Pending { value: made, ticket: change.submit(audit)? })
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_attributes(
        &self,
        inode: InodeId,
        attributes: &AttributeChange,
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        self.set_metadata(inode, attributes, &[], audit)
    }

    /// All properties of an inode: opaque name -> opaque value.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn properties(&self, inode: InodeId) -> Result<Properties, StoreError> {
        Ok(self.row(inode)?.into_properties())
    }

    /// Sets (`Some`) and removes (`None`) properties, all or nothing.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge`.
    pub fn set_properties(
        &self,
        inode: InodeId,
        changes: &[(Vec<u8>, Option<Vec<u8>>)],
        audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        self.set_metadata(inode, &AttributeChange::default(), changes, audit)
    }

    /// Changes attributes, and sets (`Some`) and removes (`None`) properties in the order given: all or nothing.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge`.
    pub fn set_metadata(
        &self,
        inode: InodeId,
        attributes: &AttributeChange,
        properties: &[(Vec<u8>, Option<Vec<u8>>)],
        mut audit: RecordDraft,
    ) -> Result<Pending<()>, StoreError> {
        let open = self.opened(inode);
        // A time set while the file is written is the client's last word until it writes again.
        let mut held = open.as_ref().map(OpenHold::take);
        let mut change = Change::begin(self)?;
        change.may_change(inode, None)?;
        let old = change.inode(inode)?;
        let mut new = old.successor();
        new.apply(attributes);
        for (name, value) in properties {
            let name = ByteVec::from(name.clone());
            match value {
                Some(value) => drop(new.properties.insert(name, value.clone().into())),
                None => drop(new.properties.remove(&name)),
            }
        }
        let bytes: usize = new.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        if !properties.is_empty() && bytes > PROPERTIES_BYTES_MAX {
            return Err(StoreError::TooLarge("the properties"));
        }
        change.replace_inode(inode, &old, new)?;
        audit.object = Some(inode);
        let ticket = change.submit(audit)?;
        if let (Some(hold), true) = (held.as_mut(), attributes.mtime.is_some()) {
            hold.time_was_set();
        }
        Ok(Pending { value: (), ticket })
    }
}
