//! Copies out of the past: what was comes back under a new name, its content shared with history.

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;

use super::change::{Change, check_name};
use super::{AttributeChange, Kind, PastVault, Replace};
use crate::audit::RecordDraft;
use crate::commit::Pending;
use crate::error::StoreError;
use crate::id::InodeId;
use crate::rows::{DentryRow, InodeRow};

/// Names asked of a directory of the past at a time.
const PIECE: usize = 256;

impl Change<'_> {
    /// A new inode with one name and what another had: attributes, properties, and the same content.
    pub(crate) fn create_alike(
        &mut self,
        parent: InodeId,
        name: &[u8],
        (model, mtime): (&InodeRow, crate::time::UnixNanos),
        properties: &BTreeMap<ByteVec, ByteVec>,
    ) -> Result<InodeId, StoreError> {
        let content = match model.kind {
            Kind::File => Some(self.share_content(&model.content)?),
            Kind::Directory | Kind::SymbolicLink => None,
        };
        let attributes = AttributeChange {
            mode: Some(model.mode),
            uid: Some(model.uid),
            gid: Some(model.gid),
            atime: Some(model.atime),
            mtime: Some(mtime),
        };
        let target = model.target.clone().map(Into::into);
        let made = self.create(parent, name, model.kind, &attributes, content, target)?;
        if !properties.is_empty() || model.incomplete {
            let old = self.inode(made)?;
            let properties = properties.clone();
            let new = InodeRow { properties, incomplete: model.incomplete, ..old.successor() };
            self.replace_inode(made, &old, new)?;
        }
        Ok(made)
    }
}

impl PastVault {
    /// As [`Vault::copy`](super::Vault::copy), from the past into the present: content is shared, not copied.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`, `InvalidName`, `QuotaExceeded`, `TooLarge`.
    pub fn copy(
        &self,
        from: InodeId,
        to: (InodeId, &[u8]),
        replace: Replace,
        deep: bool,
        mut audit: RecordDraft,
    ) -> Result<Pending<InodeId>, StoreError> {
        check_name(to.1)?;
        // Before the transaction: pruning takes them in this order too.
        let _calm = self.calm()?;
        let mut change = Change::begin(self.present())?;
        let source = self.row(from)?;
        change.directory(to.0)?;
        change.may_name(to.0, change.dentry(to.0, to.1)?.as_ref())?;
        let named =
            DentryRow { name: to.1.to_vec().into(), inode: from, kind: source.kind, begin: change.moment() };
        change.clear_target(&named, to.0, to.1, replace)?;
        let made = self.copy_below(&mut change, from, to, deep)?;
        audit.object = Some(made);
        Ok(Pending { value: made, ticket: change.submit(audit)? })
    }

    fn copy_below(
        &self,
        change: &mut Change<'_>,
        from: InodeId,
        (to, name): (InodeId, &[u8]),
        deep: bool,
    ) -> Result<InodeId, StoreError> {
        let source = self.row(from)?;
        let mtime = self.shown(from, &source)?.mtime;
        let made = change.create_alike(to, name, (&source, mtime), &source.properties)?;
        if !deep || source.kind != Kind::Directory {
            return Ok(made);
        }
        let mut cursor = None;
        loop {
            let (entries, next) = self.list(from, cursor, PIECE)?;
            for entry in entries {
                self.copy_below(change, entry.attributes.inode, (made, &entry.name), true)?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(made);
            }
        }
    }
}
