//! Permits at the door: what policy says of an object, and what a refusal looks like from outside.

use coffre_auth::permit::{Permit, action};
use coffre_auth::principal::Refusal;
use coffre_auth::{Mount, Rights, Subject};
use coffre_storage::id::VaultId;

use super::resolve::{Inside, Place};
use super::{InodeId, Kind, Namespace, VfsError};

fn subject(inside: &Inside, is_fresh: bool) -> Subject {
    match inside.attributes.kind {
        _ if is_fresh => Subject::Fresh,
        Kind::Directory => Subject::Directory,
        Kind::File | Kind::SymbolicLink => Subject::File,
    }
}

/// What a refusal looks like from outside. Whether a drop box holds a file that somebody else put there is not told; that
/// a name is taken is, to who wants to make something of that name.
fn hidden(refusal: Refusal, right: Rights, subject: Subject) -> VfsError {
    match right {
        Rights::Create | Rights::Overwrite => refusal.into(),
        Rights::List
        | Rights::Read
        | Rights::Verify
        | Rights::Delete
        | Rights::Rename
        | Rights::SetAttributes => match refusal {
            Refusal::DropBox if subject == Subject::File => VfsError::Hidden,
            Refusal::DropBox | Refusal::ReadOnly | Refusal::AppendOnly | Refusal::Nothing => refusal.into(),
        },
    }
}

impl Namespace {
    pub(super) fn is_fresh(&self, inside: &Inside) -> bool {
        self.made(inside.object())
    }

    /// Whether the session's credential made this, within its grace time.
    pub(super) fn made(&self, object: (VaultId, InodeId)) -> bool {
        self.vfs.inner.fresh.is_fresh(object, &self.session.principal.credential, self.now())
    }

    /// Whether names in a listing of this mount are for the principal.
    pub(super) fn shows_all(&self, inside: &Inside) -> bool {
        self.mount(inside.mount).is_ok_and(Mount::shows_all)
    }

    pub(super) fn permit_read(
        &self,
        inside: &Inside,
        right: Rights,
    ) -> Result<Permit<action::Read>, VfsError> {
        let mount = self.mount(inside.mount)?;
        let subject = subject(inside, !mount.shows_all() && self.is_fresh(inside));
        mount.permit_read(right, subject).map_err(|refusal| hidden(refusal, right, subject))
    }

    pub(super) fn permit_change(
        &self,
        inside: &Inside,
        right: Rights,
    ) -> Result<Permit<action::Change>, VfsError> {
        let fresh = match right {
            Rights::Rename => self.vfs.inner.fresh.may_rename(
                inside.object(),
                &self.session.principal.credential,
                self.now(),
            ),
            Rights::List
            | Rights::Read
            | Rights::Verify
            | Rights::Create
            | Rights::Overwrite
            | Rights::Delete
            | Rights::SetAttributes => self.is_fresh(inside),
        };
        let subject = subject(inside, fresh);
        let mount = self.mount(inside.mount)?;
        mount.permit_change(right, subject).map_err(|refusal| hidden(refusal, right, subject))
    }

    pub(super) fn permit_create(&self, place: &Place) -> Result<Permit<action::Change>, VfsError> {
        Ok(self.mount(place.parent.mount)?.permit_create()?)
    }

    pub(super) fn note_fresh(&self, place: &Place, inode: InodeId) {
        let object = (place.parent.vault.id(), inode);
        self.vfs.inner.fresh.note(object, &self.session.principal.credential, self.now());
    }
}
