//! From a path of the namespace to an inode of a vault: mounts crossed, symbolic links resolved inside the namespace.

use std::collections::VecDeque;

use coffre_auth::Mount;
use coffre_storage::id::VaultId;
use coffre_storage::{StoreError, Vault};

use super::{Attributes, ContentId, Follow, InodeId, Kind, Namespace, UnixNanos, VaultPath, VfsError};
use crate::limits::LINK_DEPTH_MAX;

/// Where a name leads.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A directory that exists only because mounts lie below it.
    Above,
    /// An inode of a vault.
    Inside(Inside),
}

/// An inode reached through a mount.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// Which of the principal's mounts.
    pub(super) mount: usize,
    pub(super) vault: Vault,
    pub(super) attributes: Attributes,
}

impl Inside {
    pub(super) fn object(&self) -> (VaultId, InodeId) {
        (self.vault.id(), self.attributes.inode)
    }
}

/// A resolved path.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// Without links.
    pub(super) path: VaultPath,
    /// What is there.
    pub(super) node: Node,
}

/// A name in a directory of a vault, taken or not.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) parent: Inside,
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

impl Namespace {
    pub(super) fn mounts(&self) -> &[Mount] {
        &self.session.principal.mounts
    }

    pub(super) fn mount(&self, index: usize) -> Result<&Mount, VfsError> {
        self.mounts().get(index).ok_or(VfsError::Store(StoreError::NotFound))
    }

    /// Attributes of a directory that only mounts make.
    pub(super) fn above_attributes(&self) -> Attributes {
        let started = self.vfs.inner.started;
        Attributes {
            inode: InodeId(0),
            kind: Kind::Directory,
            size: 0,
            mode: 0o555,
            uid: 0,
            gid: 0,
            atime: started,
            mtime: started,
            ctime: started,
            links: 1,
            content: ContentId(0),
            blake3: None,
            incomplete: false,
            has_properties: false,
        }
    }

    pub(super) fn now(&self) -> UnixNanos {
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

    /// The vault and the names inside it of a path without links. Above every mount: no vault.
    pub(super) fn lies_at(&self, path: &VaultPath) -> (VaultId, Vec<Vec<u8>>) {
        let names = path.components();
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
    pub(super) fn mount_root(&self, index: usize) -> Result<Inside, VfsError> {
        let mount = self.mount(index)?;
        let vault = self.vfs.inner.store.vault(VaultId(mount.vault))?;
        let mut attributes = vault.attributes(InodeId::ROOT)?;
        for name in &mount.subtree {
            attributes = vault.lookup(attributes.inode, name)?;
        }
        if attributes.kind != Kind::Directory {
            return Err(StoreError::NotADirectory.into());
        }
        Ok(Inside { mount: index, vault, attributes })
    }

    /// What a name leads to from `node`; `path` is the whole path with the name.
    fn step(&self, node: &Node, path: &[Vec<u8>]) -> Result<Option<Node>, VfsError> {
        let Some((name, above)) = path.split_last() else { return self.top().map(Some) };
        let mounted = self.mounts_below(above).into_iter().find(|(known, _)| known == name);
        if let Some((_, Some(index))) = mounted {
            return Ok(Some(Node::Inside(self.mount_root(index)?)));
        }
        if let Node::Inside(inside) = node {
            match inside.vault.lookup(inside.attributes.inode, name) {
                Ok(attributes) => {
                    return Ok(Some(Node::Inside(Inside {
                        mount: inside.mount,
                        vault: inside.vault.clone(),
                        attributes,
                    })));
                }
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(mounted.map(|_| Node::Above))
    }

    fn top(&self) -> Result<Node, VfsError> {
        match self.mounts().iter().position(|mount| mount.path.is_empty()) {
            Some(index) => self.mount_root(index).map(Node::Inside),
            None => Ok(Node::Above),
        }
    }

    fn walk(&self, path: &VaultPath, follow: Follow) -> Result<Walked, VfsError> {
        let mut pending: VecDeque<Vec<u8>> = path.components().iter().cloned().collect();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut nodes = vec![self.top()?];
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                // Only a link's target holds this; above the root is the root, as everywhere.
                b".." => {
                    if names.pop().is_some() {
                        nodes.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(node) = nodes.last() else { return Err(VfsError::LinkLoop) };
            names.push(name);
            let Some(next) = self.step(node, &names)? else {
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
                    .then(|| inside.vault.read_link(inside.attributes.inode)),
                Node::Inside(_) | Node::Above => None,
            };
            match link {
                Some(target) => {
                    let target = target?;
                    links += 1;
                    if links > LINK_DEPTH_MAX {
                        return Err(VfsError::LinkLoop);
                    }
                    names.pop();
                    if target.first() == Some(&b'/') {
                        names.clear();
                        nodes.truncate(1);
                    }
                    for name in target.split(|byte| *byte == b'/').rev() {
                        pending.push_front(name.to_vec());
                    }
                }
                None => nodes.push(next),
            }
        }
        let node = nodes.pop().ok_or(VfsError::LinkLoop)?;
        Ok(Walked::Found(Resolved { path: VaultPath::from_components(names), node }))
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
            Node::Above => Err(VfsError::MountPoint),
        }
    }

    /// The name at the end of a path, whose directory exists. The last name itself is followed only on demand.
    pub(super) fn place(&self, path: &VaultPath, follow: Follow) -> Result<Place, VfsError> {
        let (path, existing) = match self.walk(path, follow)? {
            Walked::Missing { above: Node::Inside(parent), path, name } => {
                if parent.attributes.kind != Kind::Directory {
                    return Err(StoreError::NotADirectory.into());
                }
                return Ok(Place { parent, name, existing: None, path });
            }
            Walked::Found(Resolved { path, node: Node::Inside(inside) }) => (path, inside),
            Walked::Missing { above: Node::Above, .. }
            | Walked::Found(Resolved { node: Node::Above, .. }) => {
                return Err(VfsError::MountPoint);
            }
        };
        let (above, name) = path.split_last().ok_or(VfsError::MountPoint)?;
        if self.mounts_below(above.components()).iter().any(|(known, index)| known == name && index.is_some())
        {
            return Err(VfsError::MountPoint);
        }
        let (_, parent) = self.inside(&above, Follow::Yes)?;
        Ok(Place { parent, name: name.to_vec(), existing: Some(existing), path: path.clone() })
    }
}
