//! From a path of the namespace to an inode of a vault: mounts crossed, symbolic links resolved inside the namespace, or,
//! below `/.snapshots`, inside the moment that the path names.

use std::collections::VecDeque;
use std::sync::Arc;

use coffre_auth::{Mount, Rights};
use coffre_storage::id::VaultId;
use coffre_storage::{StoreError, Vault};

use super::snapshots::{Point, SNAPSHOTS};
use super::tree::Tree;
use super::{Attributes, ContentId, Follow, InodeId, Kind, Namespace, UnixNanos, VaultPath, VfsError};
use crate::limits::LINK_DEPTH_MAX;

/// Which namespace a path leads through: today's, or the one of a moment.
#[derive(Clone, Debug)]
pub(super) enum When {
    Now,
    Then(Arc<Point>),
}

impl When {
    /// Names of a path that lead to the root of its namespace.
    fn depth(&self) -> usize {
        match self {
            Self::Now => 0,
            Self::Then(_) => 2,
        }
    }

    pub(super) fn time(&self) -> Option<UnixNanos> {
        match self {
            Self::Now => None,
            Self::Then(point) => Some(point.time()),
        }
    }

    /// What of a path lies in its namespace.
    pub(super) fn inner<'p>(&self, path: &'p [Vec<u8>]) -> &'p [Vec<u8>] {
        path.get(self.depth()..).unwrap_or_default()
    }
}

/// Where a name leads.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A directory that exists only because mounts lie below it; of a moment if not of the present.
    Above(Option<UnixNanos>),
    /// `/.snapshots` itself.
    Snapshots,
    /// An inode of a vault.
    Inside(Inside),
}

/// An inode reached through a mount.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// Which of the principal's mounts.
    pub(super) mount: usize,
    pub(super) tree: Tree,
    pub(super) attributes: Attributes,
}

impl Inside {
    pub(super) fn object(&self) -> (VaultId, InodeId) {
        (self.tree.id(), self.attributes.inode)
    }
}

/// A resolved path.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// Without links.
    pub(super) path: VaultPath,
    /// In which namespace it lies.
    pub(super) when: When,
    /// What is there.
    pub(super) node: Node,
}

/// A directory in which names may change.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    /// Which of the principal's mounts.
    pub(super) mount: usize,
    pub(super) vault: Vault,
    pub(super) inode: InodeId,
}

impl Parent {
    fn of(inside: &Inside) -> Result<Self, VfsError> {
        let vault = inside.tree.present()?.clone();
        match inside.attributes.kind {
            Kind::Directory => Ok(Self { mount: inside.mount, vault, inode: inside.attributes.inode }),
            Kind::File | Kind::SymbolicLink => Err(StoreError::NotADirectory.into()),
        }
    }
}

/// A name in a directory of a vault, taken or not.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) parent: Parent,
    /// The name.
    pub(super) name: Vec<u8>,
    /// What is there now.
    pub(super) existing: Option<Inside>,
    /// The whole path, without links above the name.
    pub(super) path: VaultPath,
}

enum Walked {
    Found(Resolved),
    Missing { above: Node, path: VaultPath, name: Vec<u8> },
}

/// Whether a moment does not have it: it had not been made, or is not kept any more.
fn is_absent(error: &VfsError) -> bool {
    matches!(error, VfsError::Store(StoreError::NotFound | StoreError::NotADirectory))
}

impl Namespace {
    /// The same, which is seen at the end of these names as well. What lies there itself is hidden behind it.
    #[must_use]
    pub fn also_at(self, names: Vec<Vec<u8>>) -> Self {
        Self { also_at: names.into(), ..self }
    }

    /// The names of a path in the namespace itself, wherever it is seen.
    pub(super) fn own_names<'p>(&self, path: &'p VaultPath) -> &'p [Vec<u8>] {
        let names = path.components();
        if self.also_at.is_empty() { names } else { names.strip_prefix(&*self.also_at).unwrap_or(names) }
    }

    /// The path in the namespace itself, wherever it is seen.
    pub(super) fn own_path(&self, path: &VaultPath) -> VaultPath {
        VaultPath::from_components(self.own_names(path).to_vec())
    }

    pub(super) fn mounts(&self) -> &[Mount] {
        &self.session.principal.mounts
    }

    pub(super) fn mount(&self, index: usize) -> Result<&Mount, VfsError> {
        self.mounts().get(index).ok_or(VfsError::Store(StoreError::NotFound))
    }

    /// Attributes of a directory that no vault holds.
    pub(super) fn above_attributes(&self, moment: Option<UnixNanos>) -> Attributes {
        let time = moment.unwrap_or(self.vfs.inner.started);
        Attributes {
            inode: InodeId(0),
            kind: Kind::Directory,
            size: 0,
            mode: 0o555,
            uid: 0,
            gid: 0,
            atime: time,
            mtime: time,
            ctime: time,
            links: 1,
            content: ContentId(0),
            blake3: None,
            incomplete: false,
            has_properties: false,
        }
    }

    /// Attributes of what is at a node.
    pub(super) fn attributes_of(&self, node: &Node) -> Attributes {
        match node {
            Node::Above(moment) => self.above_attributes(*moment),
            Node::Snapshots => self.above_attributes(None),
            Node::Inside(inside) => inside.attributes.clone(),
        }
    }

    /// The store's time.
    pub fn now(&self) -> UnixNanos {
        self.vfs.inner.store.clock_now()
    }

    /// Mounts right below a path: name and index, or no index for a directory that only leads to one.
    pub(super) fn mounts_below(&self, path: &[Vec<u8>]) -> Vec<(Vec<u8>, Option<usize>)> {
        let mut found: Vec<(Vec<u8>, Option<usize>)> = Vec::new();
        for (index, mount) in self.mounts().iter().enumerate() {
            let names: Vec<&[u8]> = mount.path.iter().map(|name| &***name).collect();
            if names.len() <= path.len() || !names.iter().zip(path).all(|(a, b)| *a == b.as_slice()) {
                continue;
            }
            let Some(name) = names.get(path.len()) else { continue };
            let exact = (names.len() == path.len() + 1).then_some(index);
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.or(exact),
                None => found.push((name.to_vec(), exact)),
            }
        }
        found
    }

    /// Whether a mount point is at the path or below it.
    pub(super) fn holds_mount(&self, path: &VaultPath) -> bool {
        let path = path.components();
        self.mounts().iter().any(|mount| {
            mount.path.len() >= path.len() && mount.path.iter().zip(path).all(|(a, b)| **a == **b)
        })
    }

    /// Whether a mount point is below a path without links, in whichever namespace it lies.
    pub(super) fn holds_mount_inside(&self, path: &VaultPath) -> bool {
        let names = path.components();
        let inner = match names.first() {
            Some(first) if first == SNAPSHOTS => names.get(2..).unwrap_or_default(),
            Some(_) | None => names,
        };
        !self.mounts_below(inner).is_empty()
    }

    /// The vault and the names inside it of a path without links. Above every mount, and in the past: no vault.
    pub(super) fn lies_at(&self, path: &VaultPath) -> (VaultId, Vec<Vec<u8>>) {
        let names = path.components();
        if names.first().is_some_and(|name| name == SNAPSHOTS) {
            return (VaultId([0; 16]), names.to_vec());
        }
        let over = |mount: &&Mount| {
            mount.path.len() <= names.len() && mount.path.iter().zip(names).all(|(a, b)| **a == **b)
        };
        match self.mounts().iter().filter(over).max_by_key(|mount| mount.path.len()) {
            None => (VaultId([0; 16]), names.to_vec()),
            Some(mount) => {
                let mut inside: Vec<Vec<u8>> = mount.subtree.iter().map(|name| name.to_vec()).collect();
                inside.extend(names.iter().skip(mount.path.len()).cloned());
                (VaultId(mount.vault), inside)
            }
        }
    }

    /// The directory that a mount shows.
    pub(super) fn mount_root(&self, index: usize, when: &When) -> Result<Inside, VfsError> {
        let mount = self.mount(index)?;
        let vault = self.in_hands(self.vfs.inner.store.vault(VaultId(mount.vault))?);
        let tree = match when {
            When::Now => Tree::Present(vault),
            When::Then(point) => Tree::Past(vault.at(point.of(vault.id()))?),
        };
        let mut attributes = tree.attributes(InodeId::ROOT)?;
        for name in &mount.subtree {
            attributes = tree.lookup(attributes.inode, name)?;
        }
        if attributes.kind != Kind::Directory {
            return Err(StoreError::NotADirectory.into());
        }
        Ok(Inside { mount: index, tree, attributes })
    }

    /// As [`Namespace::mount_root`]; nothing when a moment does not have it.
    fn mount_then(&self, index: usize, when: &When) -> Result<Option<Inside>, VfsError> {
        match self.mount_root(index, when) {
            Ok(inside) => Ok(Some(inside)),
            Err(error) if when.time().is_some() && is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a name leads to from `node`; `names` is the whole path with the name.
    pub(super) fn step(&self, when: &When, node: &Node, names: &[Vec<u8>]) -> Result<Option<Node>, VfsError> {
        let Some((name, above)) = when.inner(names).split_last() else { return Ok(None) };
        if above.is_empty() && name == SNAPSHOTS {
            // There is one in the present, and whatever has its name in an old vault stays behind it.
            return Ok(matches!(when, When::Now).then_some(Node::Snapshots));
        }
        let mounted = self.mounts_below(above).into_iter().find(|(known, _)| known == name);
        if let Some((_, Some(index))) = mounted {
            return Ok(match self.mount_then(index, when)? {
                Some(inside) => Some(Node::Inside(inside)),
                // Others below it may have been there.
                None => (!self.mounts_below(when.inner(names)).is_empty()).then(|| Node::Above(when.time())),
            });
        }
        if let Node::Inside(inside) = node {
            match inside.tree.lookup(inside.attributes.inode, name) {
                Ok(attributes) => {
                    let (mount, tree) = (inside.mount, inside.tree.clone());
                    return Ok(Some(Node::Inside(Inside { mount, tree, attributes })));
                }
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(mounted.map(|_| Node::Above(when.time())))
    }

    /// The root of a namespace; nothing when no vault can show that moment.
    fn top(&self, when: &When) -> Result<Option<Node>, VfsError> {
        if let Some(index) = self.mounts().iter().position(|mount| mount.path.is_empty())
            && let Some(inside) = self.mount_then(index, when)?
        {
            return Ok(Some(Node::Inside(inside)));
        }
        let above = Some(Node::Above(when.time()));
        if matches!(when, When::Now) {
            return Ok(above);
        }
        for index in 0..self.mounts().len() {
            match self.mount_then(index, when) {
                Ok(None) => {}
                Ok(Some(_)) | Err(VfsError::Store(StoreError::VaultLocked(_))) => return Ok(above),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn walk(&self, path: &VaultPath, follow: Follow) -> Result<Walked, VfsError> {
        let mut pending: VecDeque<Vec<u8>> = self.own_names(path).iter().cloned().collect();
        let (mut names, mut links): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        let mut when = When::Now;
        // What was is there even when the root of today is gone.
        let top = match pending.front() {
            Some(name) if name == SNAPSHOTS => Node::Above(None),
            Some(_) | None => self.top(&when)?.ok_or(StoreError::NotFound)?,
        };
        let mut nodes = vec![top];
        while let Some(name) = pending.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                // Only a link's target holds this; above the root is the root, as everywhere. A moment has its own root.
                b".." => {
                    if names.len() > when.depth() && names.pop().is_some() {
                        nodes.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(node) = nodes.last() else { return Err(VfsError::LinkLoop) };
            names.push(name);
            let next = if let (Node::Snapshots, Some(name)) = (node, names.last()) {
                match self.point(name)? {
                    None => None,
                    Some(point) => {
                        when = When::Then(Arc::new(point));
                        self.top(&when)?
                    }
                }
            } else {
                self.step(&when, node, &names)?
            };
            let Some(next) = next else {
                let (above, name) = (node.clone(), names.last().cloned().unwrap_or_default());
                let rest_is_empty = pending.iter().all(|name| matches!(name.as_slice(), b"" | b"."));
                if !rest_is_empty {
                    return Err(StoreError::NotFound.into());
                }
                return Ok(Walked::Missing { above, path: VaultPath::from_components(names), name });
            };
            let link = match &next {
                Node::Inside(inside) if inside.attributes.kind == Kind::SymbolicLink => (!pending.is_empty()
                    || follow == Follow::Yes)
                    .then(|| inside.tree.read_link(inside.attributes.inode)),
                Node::Inside(_) | Node::Above(_) | Node::Snapshots => None,
            };
            match link {
                Some(target) => {
                    if let Node::Inside(inside) = &next {
                        self.permit_read(inside, Rights::List)?;
                    }
                    let target = target?;
                    links += 1;
                    if links > LINK_DEPTH_MAX {
                        return Err(VfsError::LinkLoop);
                    }
                    names.pop();
                    if target.first() == Some(&b'/') {
                        names.truncate(when.depth());
                        nodes.truncate(when.depth() + 1);
                    }
                    for name in target.split(|byte| *byte == b'/').rev() {
                        pending.push_front(name.to_vec());
                    }
                }
                None => nodes.push(next),
            }
        }
        let node = nodes.pop().ok_or(VfsError::LinkLoop)?;
        Ok(Walked::Found(Resolved { path: VaultPath::from_components(names), when, node }))
    }

    /// What is at a path.
    pub(super) fn resolve(&self, path: &VaultPath, follow: Follow) -> Result<Resolved, VfsError> {
        match self.walk(path, follow)? {
            Walked::Found(resolved) => Ok(resolved),
            Walked::Missing { .. } => Err(StoreError::NotFound.into()),
        }
    }

    /// The path without links; a missing last name stays.
    pub(super) fn real(&self, path: &VaultPath) -> Result<VaultPath, VfsError> {
        Ok(match self.walk(path, Follow::Yes)? {
            Walked::Found(resolved) => resolved.path,
            Walked::Missing { path, .. } => path,
        })
    }

    /// An inode of a vault at a path.
    pub(super) fn inside(&self, path: &VaultPath, follow: Follow) -> Result<(VaultPath, Inside), VfsError> {
        let resolved = self.resolve(path, follow)?;
        match resolved.node {
            Node::Inside(inside) => Ok((resolved.path, inside)),
            Node::Above(None) => Err(VfsError::MountPoint),
            Node::Above(Some(_)) | Node::Snapshots => Err(StoreError::IsADirectory.into()),
        }
    }

    /// An inode of a vault at a path, which is to change: the past refuses that.
    pub(super) fn changeable(
        &self,
        path: &VaultPath,
        follow: Follow,
    ) -> Result<(VaultPath, Inside), VfsError> {
        let resolved = self.resolve(path, follow)?;
        match resolved.node {
            Node::Inside(inside) => inside.tree.present().map(drop).map(|()| (resolved.path, inside)),
            Node::Above(None) => Err(VfsError::MountPoint),
            Node::Above(Some(_)) | Node::Snapshots => Err(StoreError::ReadOnly.into()),
        }
    }

    /// The name at the end of a path, whose directory exists. The last name itself is followed only on demand.
    pub(super) fn place(&self, path: &VaultPath, follow: Follow) -> Result<Place, VfsError> {
        let (path, existing) = match self.walk(path, follow)? {
            Walked::Missing { above: Node::Inside(parent), path, name } => {
                return Ok(Place { parent: Parent::of(&parent)?, name, existing: None, path });
            }
            Walked::Found(Resolved { path, node: Node::Inside(inside), .. }) => (path, inside),
            Walked::Missing { above, .. } | Walked::Found(Resolved { node: above, .. }) => {
                return Err(match above {
                    Node::Above(None) => VfsError::MountPoint,
                    Node::Above(Some(_)) | Node::Snapshots | Node::Inside(_) => StoreError::ReadOnly.into(),
                });
            }
        };
        existing.tree.present()?;
        let (above, name) = path.split_last().ok_or(VfsError::MountPoint)?;
        if self.mounts_below(above.components()).iter().any(|(known, index)| known == name && index.is_some())
        {
            return Err(VfsError::MountPoint);
        }
        let (_, parent) = self.inside(&above, Follow::Yes)?;
        let parent = Parent::of(&parent)?;
        Ok(Place { parent, name: name.to_vec(), existing: Some(existing), path: path.clone() })
    }
}
