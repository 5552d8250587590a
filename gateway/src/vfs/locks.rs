//! Locks at the door: taken, refreshed, given back and seen by path. Whether one stands in the way of a change is the
//! store's decision, made in the transaction of the change (`coffre_storage::tree::lock`); what is asked here before is for
//! an early and friendly answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_auth::Rights;
use coffre_storage::audit::Action;
use coffre_storage::tree::lock::{LockDraft, LockTarget};
use coffre_storage::{Pending, Vault};

use super::resolve::{Inside, Node};
use super::tree::Tree;
use super::{
    Attributes, Bearer, Follow, InodeId, LockDepth, LockRecord, LockScope, LockToken, Namespace, RecordDraft,
    Rest, StoreError, UnixNanos, VaultId, VaultPath, VfsError,
};

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Content or properties of what is there.
    Itself,
    /// A name comes, goes or moves, with all below it.
    Name,
}

/// A lock that a client asks for.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// Fresh randomness.
    pub token: LockToken,
    /// Exclusive or shared.
    pub scope: LockScope,
    /// How far down.
    pub depth: LockDepth,
    /// When it ends.
    pub expires: UnixNanos,
    /// What the client says of its owner.
    pub owner: String,
}

/// A lock as it is seen from a path.
#[derive(Debug, Clone)]
pub struct SeenLock {
    /// The lock.
    pub record: LockRecord,
    /// What it is on, in the namespace of whoever looks.
    pub root: VaultPath,
}

/// What is at a path, and the locks that cover it.
#[derive(Debug, Clone, Default)]
pub struct LocksSeen {
    /// In which vault; none above every mount, and in the past.
    pub vault: Option<VaultId>,
    /// What is there; nothing for a free name.
    pub attributes: Option<Attributes>,
    /// Locks on it and deep ones above it.
    pub itself: Vec<SeenLock>,
    inherited: Vec<SeenLock>,
    members: BTreeMap<InodeId, Vec<SeenLock>>,
}

impl LocksSeen {
    /// Locks that cover what has its name in this directory.
    pub fn of_member(&self, inode: InodeId) -> Vec<SeenLock> {
        let own = self.members.get(&inode).map(Vec::as_slice).unwrap_or_default();
        own.iter().chain(&self.inherited).cloned().collect()
    }
}

/// Where a path leads in a vault of the present.
struct Covered {
    vault: Vault,
    mount: usize,
    existing: Option<Inside>,
    /// The directory of the name; none of a root.
    parent: Option<InodeId>,
    name: Vec<u8>,
    /// Names inside the vault.
    names: Vec<Vec<u8>>,
    real: VaultPath,
}

impl Covered {
    fn inode(&self) -> Option<InodeId> {
        self.existing.as_ref().map(|existing| existing.attributes.inode)
    }

    /// What is there, for what covers it.
    fn place(&self) -> Result<(InodeId, Option<InodeId>), StoreError> {
        Ok((self.inode().ok_or(StoreError::LockUnknown)?, self.parent))
    }

    /// The path of a lock's root, seen from `path`, which leads here.
    fn root_of(&self, path: &VaultPath, lock: &LockRecord) -> VaultPath {
        let seen = path.components();
        let names = if self.names.starts_with(&lock.path) {
            let above = self.names.len() - lock.path.len();
            seen.get(..seen.len().saturating_sub(above)).unwrap_or_default().to_vec()
        } else if lock.path.starts_with(&self.names) {
            let below = lock.path.get(self.names.len()..).unwrap_or_default();
            seen.iter().chain(below).cloned().collect()
        } else {
            seen.to_vec()
        };
        VaultPath::from_components(names)
    }

    fn seen(&self, path: &VaultPath, locks: Vec<LockRecord>) -> Vec<SeenLock> {
        let seen = |record: LockRecord| SeenLock { root: self.root_of(path, &record), record };
        locks.into_iter().map(seen).collect()
    }
}

impl Namespace {
    /// The same namespace for a request that gives these tokens: what it changes must be allowed by locks.
    #[must_use]
    pub fn with_tokens(&self, tokens: Vec<LockToken>) -> Self {
        let bearer = Arc::new(Bearer::new(self.holder(), tokens));
        Self { bearer: Some(bearer), ..self.clone() }
    }

    /// What is changed from now on rests on this too.
    pub fn rest_on(&self, rest: Rest) {
        if let Some(bearer) = &self.bearer {
            bearer.rest_on(rest);
        }
    }

    /// Who holds the locks of this session: its user.
    pub fn holder(&self) -> [u8; 16] {
        self.session.principal.user.0
    }

    /// The vault as this namespace changes it.
    pub(super) fn in_hands(&self, vault: Vault) -> Vault {
        match &self.bearer {
            Some(bearer) => vault.borne_by(Arc::clone(bearer)),
            None => vault,
        }
    }

    /// A vault of which an inode is changed that was reached by a path without links.
    pub(super) fn reached_by(&self, real: &VaultPath, vault: &Vault) -> Result<Vault, VfsError> {
        let above = real.split_last().filter(|_| self.bearer.is_some());
        match above.map(|(above, _)| self.resolve(&above, Follow::Yes)).transpose()?.map(|above| above.node) {
            Some(Node::Inside(above)) if above.tree.id() == vault.id() => {
                Ok(vault.within(above.attributes.inode))
            }
            Some(_) | None => Ok(vault.clone()),
        }
    }

    /// Where a path leads, its last name perhaps missing; nothing above every mount and in the past.
    fn covered(&self, path: &VaultPath, follow: Follow) -> Result<Option<Covered>, VfsError> {
        let resolved = match self.place(path, follow) {
            Ok(place) => {
                let (_, names) = self.lies_at(&place.path);
                return Ok(Some(Covered {
                    vault: place.parent.vault,
                    mount: place.parent.mount,
                    existing: place.existing,
                    parent: Some(place.parent.inode),
                    name: place.name,
                    names,
                    real: place.path,
                }));
            }
            Err(VfsError::MountPoint) => self.resolve(path, follow)?,
            Err(VfsError::Store(StoreError::ReadOnly)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Node::Inside(inside) = resolved.node else { return Ok(None) };
        let Tree::Present(vault) = &inside.tree else { return Ok(None) };
        let (_, names) = self.lies_at(&resolved.path);
        Ok(Some(Covered {
            vault: vault.clone(),
            mount: inside.mount,
            existing: Some(inside),
            parent: None,
            name: Vec::new(),
            names,
            real: resolved.path,
        }))
    }

    /// What is at a path and the locks that cover it; with `members`, those on what a directory holds too.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn locks(&self, path: &VaultPath, members: bool) -> Result<LocksSeen, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let covered = match own.covered(&path, Follow::Yes) {
                Ok(Some(covered)) => covered,
                Ok(None) | Err(VfsError::Store(StoreError::NotFound | StoreError::NotADirectory)) => {
                    return Ok(LocksSeen::default());
                }
                Err(error) => return Err(error),
            };
            let locks = match (covered.inode(), covered.parent) {
                (Some(inode), parent) => covered.vault.locks_over(inode, parent)?,
                // A free name has what its directory passes down.
                (None, Some(parent)) => {
                    let mut above = covered.vault.locks_over(parent, None)?;
                    above.retain(|lock| lock.depth == LockDepth::Infinity);
                    above
                }
                (None, None) => Vec::new(),
            };
            let mut seen = LocksSeen {
                vault: Some(covered.vault.id()),
                itself: covered.seen(&path, locks),
                attributes: covered.existing.as_ref().map(|existing| existing.attributes.clone()),
                ..LocksSeen::default()
            };
            if let (true, Some(directory)) = (members, covered.inode()) {
                let deep = |lock: &&SeenLock| lock.record.depth == LockDepth::Infinity;
                seen.inherited = seen.itself.iter().filter(deep).cloned().collect();
                for lock in covered.seen(&path, covered.vault.locks_in(directory)?) {
                    seen.members.entry(lock.record.inode).or_default().push(lock);
                }
            }
            Ok(seen)
        })
        .await
    }

    /// Takes a lock; where nothing is, an empty file comes to be. True when it did.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn lock(&self, path: &VaultPath, wanted: LockRequest) -> Result<(SeenLock, bool), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::LockSet, &path), move |own| {
            let covered = own.covered(&path, Follow::Yes)?.ok_or(VfsError::MountPoint)?;
            let target = match (covered.inode(), covered.parent) {
                (Some(inode), None) => LockTarget::Root(inode),
                (Some(_), Some(parent)) => LockTarget::Name(parent, &covered.name),
                (None, Some(parent)) => LockTarget::Free(parent, &covered.name),
                (None, None) => return Err(StoreError::NotFound.into()),
            };
            match &covered.existing {
                Some(existing) => own.permit_change(existing, Rights::Overwrite)?,
                None => own.mount(covered.mount)?.permit_create()?,
            };
            let draft = LockDraft {
                token: wanted.token,
                holder: own.holder(),
                scope: wanted.scope,
                depth: wanted.depth,
                expires: wanted.expires,
                path: covered.names.clone(),
                owner: wanted.owner,
            };
            let record = own.about_lock(Action::LockSet, &covered);
            let taken = covered.vault.lock(target, draft, record)?;
            let is_new = covered.existing.is_none();
            if is_new {
                let object = (covered.vault.id(), taken.value.inode);
                own.vfs.inner.fresh.note(object, &own.session.principal.credential, own.now());
            }
            let root = covered.root_of(&path, &taken.value);
            let seen = SeenLock { record: taken.value, root };
            Ok(Pending { value: (seen, is_new), ticket: taken.ticket })
        })
        .await
    }

    fn about_lock(&self, action: Action, covered: &Covered) -> RecordDraft {
        RecordDraft {
            vault: Some(covered.vault.id()),
            object: covered.inode(),
            ..self.about(action, &covered.real)
        }
    }

    /// Gives this user's lock that covers a path more time.
    ///
    /// # Errors
    /// [`VfsError`]: `LockUnknown`, `LockOfAnother`.
    pub async fn refresh_lock(
        &self,
        path: &VaultPath,
        token: LockToken,
        expires: UnixNanos,
    ) -> Result<SeenLock, VfsError> {
        let path = path.clone();
        self.change(self.about(Action::LockSet, &path), move |own| {
            let covered = own.covered(&path, Follow::Yes)?.ok_or(StoreError::LockUnknown)?;
            let record = own.about_lock(Action::LockSet, &covered);
            let given =
                covered.vault.refresh_lock(covered.place()?, (token, own.holder()), expires, record)?;
            let root = covered.root_of(&path, &given.value);
            Ok(Pending { value: SeenLock { record: given.value, root }, ticket: given.ticket })
        })
        .await
    }

    /// Gives this user's lock that covers a path back.
    ///
    /// # Errors
    /// [`VfsError`]: `LockUnknown`, `LockOfAnother`.
    pub async fn unlock(&self, path: &VaultPath, token: LockToken) -> Result<(), VfsError> {
        let path = path.clone();
        self.change(self.about(Action::LockRelease, &path), move |own| {
            let covered = own.covered(&path, Follow::Yes)?.ok_or(StoreError::LockUnknown)?;
            let record = own.about_lock(Action::LockRelease, &covered);
            Ok(covered.vault.unlock(covered.place()?, (token, own.holder()), record)?)
        })
        .await
    }

    /// The root of the lock that stands in the way of a change, if one does.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn lock_in_the_way(
        &self,
        path: &VaultPath,
        reach: Reach,
    ) -> Result<Option<VaultPath>, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            let follow = if reach == Reach::Name { Follow::No } else { Follow::Yes };
            let Some(covered) = own.covered(&path, follow)? else { return Ok(None) };
            let asked = match (reach, covered.parent) {
                (Reach::Name, Some(parent)) => covered.vault.may_name(parent, &covered.name),
                (Reach::Name, None) | (Reach::Itself, _) => {
                    covered.vault.may_change(covered.inode(), covered.parent)
                }
            };
            match asked {
                Ok(()) => Ok(None),
                Err(StoreError::Locked { inode }) => own.lock_root(&covered, &path, inode).map(Some),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The root of the lock that keeps a new one from being given, seen from a path.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn conflicting_lock(&self, path: &VaultPath, inode: InodeId) -> Result<VaultPath, VfsError> {
        let path = path.clone();
        self.audited_brief(self.about(Action::Stat, &path), move |own| {
            match own.covered(&path, Follow::Yes)? {
                Some(covered) => own.lock_root(&covered, &path, inode),
                None => Ok(path),
            }
        })
        .await
    }

    fn lock_root(&self, covered: &Covered, path: &VaultPath, inode: InodeId) -> Result<VaultPath, VfsError> {
        self.live()?;
        let lock = covered.vault.locks()?.into_iter().find(|lock| lock.inode == inode);
        // Given back meanwhile, if there is none.
        Ok(lock.map_or_else(|| path.clone(), |lock| covered.root_of(path, &lock)))
    }
}
