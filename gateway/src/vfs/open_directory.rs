//! Open directories: what no vault holds first, then the vault's names in batches.

use std::collections::VecDeque;

use coffre_auth::Rights;
use coffre_storage::StoreError;
use coffre_storage::tree::{Cursor, Entry};

use super::resolve::{Inside, Node, Resolved};
use super::snapshots::SNAPSHOTS;
use super::tree::Tree;
use super::{
    Attributes, DirectoryEntry, InodeId, Kind, Namespace, Properties, SpaceState, UnixNanos, VfsError,
    blocking,
};

impl From<Entry> for DirectoryEntry {
    fn from(entry: Entry) -> Self {
        Self { name: entry.name, attributes: entry.attributes }
    }
}

/// An open directory of one session.
#[derive(Debug)]
pub struct DirectoryHandle {
    namespace: Namespace,
    node: Node,
    /// What no vault holds, shown first: mount points in it, or points in time.
    ahead: VecDeque<DirectoryEntry>,
    shadowed: Vec<Vec<u8>>,
    cursor: Option<Cursor>,
    ended: bool,
}

impl DirectoryHandle {
    pub(super) fn open(own: &Namespace, resolved: Resolved) -> Result<Self, VfsError> {
        let ahead: VecDeque<DirectoryEntry> = match &resolved.node {
            Node::Snapshots => own.points()?.into(),
            Node::Above(_) | Node::Inside(_) => own.mount_entries(&resolved.path, &resolved.when)?.into(),
        };
        if let Node::Inside(inside) = &resolved.node {
            if inside.attributes.kind != Kind::Directory {
                return Err(StoreError::NotADirectory.into());
            }
            own.permit_read(inside, Rights::List)?;
        }
        let mut shadowed: Vec<Vec<u8>> = ahead.iter().map(|entry| entry.name.clone()).collect();
        if resolved.when.inner(resolved.path.components()).is_empty() {
            shadowed.push(SNAPSHOTS.to_vec());
        }
        let ended = !matches!(resolved.node, Node::Inside(_));
        let (namespace, node) = (own.clone(), resolved.node);
        Ok(Self { namespace, node, ahead, shadowed, cursor: None, ended })
    }

    pub(super) fn inside(&self) -> Option<&Inside> {
        match &self.node {
            Node::Inside(inside) => Some(inside),
            Node::Above(_) | Node::Snapshots => None,
        }
    }

    /// The next up to `max` entries (without `.` and `..`); empty at the end.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn next(&mut self, max: usize) -> Result<Vec<DirectoryEntry>, VfsError> {
        let ahead = self.next_ahead(max)?;
        if !ahead.is_empty() {
            return Ok(ahead);
        }
        self.next_inside(move |tree, inode, cursor| tree.list(inode, cursor, max), |entry| entry)
            .await
            .map(|entries| entries.into_iter().map(DirectoryEntry::from).collect())
    }

    /// As [`next`](Self::next), each with its properties; nothing in their place where they were not read along.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn next_described(
        &mut self,
        max: usize,
    ) -> Result<Vec<(DirectoryEntry, Option<Properties>)>, VfsError> {
        let ahead = self.next_ahead(max)?;
        if !ahead.is_empty() {
            return Ok(ahead.into_iter().map(|entry| (entry, None)).collect());
        }
        let list = move |tree: &Tree, inode, cursor: Option<Cursor>| tree.list_described(inode, cursor, max);
        let entries = self.next_inside(list, |(entry, _)| entry).await?;
        Ok(entries.into_iter().map(|(entry, properties)| (entry.into(), Some(properties))).collect())
    }

    fn next_ahead(&mut self, max: usize) -> Result<Vec<DirectoryEntry>, VfsError> {
        self.namespace.live()?;
        let count = self.ahead.len().min(max);
        Ok(self.ahead.drain(..count).collect())
    }

    async fn next_inside<T: Send + 'static>(
        &mut self,
        list: impl Fn(&Tree, InodeId, Option<Cursor>) -> Result<(Vec<T>, Option<Cursor>), StoreError>
        + Copy
        + Send
        + 'static,
        entry: fn(&T) -> &Entry,
    ) -> Result<Vec<T>, VfsError> {
        while !self.ended {
            let Some(inside) = self.inside().cloned() else { break };
            let (cursor, vault) = (self.cursor, inside.tree.id());
            let shows_all = self.namespace.shows_all(&inside);
            let (mut entries, next) =
                blocking(move || Ok(list(&inside.tree, inside.attributes.inode, cursor)?)).await?;
            self.cursor = next;
            self.ended = next.is_none();
            entries.retain(|listed| {
                let entry = entry(listed);
                !self.shadowed.contains(&entry.name)
                    && (shows_all || self.namespace.made((vault, entry.attributes.inode)))
            });
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    }

    /// The store's time, to show the entries' times by.
    pub fn now(&self) -> UnixNanos {
        self.namespace.now()
    }

    /// Space where it lies.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn space(&self) -> Result<SpaceState, VfsError> {
        self.namespace.space_of(self.inside().map(|inside| inside.tree.id())).await
    }

    /// Attributes of the directory itself.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn attributes(&self) -> Result<Attributes, VfsError> {
        match self.inside().cloned() {
            None => Ok(self.namespace.attributes_of(&self.node)),
            Some(inside) => blocking(move || Ok(inside.tree.attributes(inside.attributes.inode)?)).await,
        }
    }
}
