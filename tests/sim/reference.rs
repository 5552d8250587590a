//! A tree of files in memory that does what POSIX says: what the door to files is compared with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use coffre::vfs::{Creation, Kind, Replace};

/// Symbolic links followed in one path.
const LINKS_MAX: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    Exists,
    Loop,
    Other,
}

/// Shared by copies of the whole until one of them writes.
pub(crate) type FileContent = Arc<Vec<u8>>;

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    File(FileContent),
    Directory(BTreeMap<Vec<u8>, usize>),
    Link(Vec<u8>),
}

impl Shape {
    pub(crate) fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

#[derive(Debug, Clone)]
struct Node {
    shape: Shape,
    links: u32,
    mode: Option<u32>,
    mtime: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) links: u32,
    pub(crate) mode: Option<u32>,
    pub(crate) mtime: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reference {
    nodes: Vec<Node>,
    dirty: BTreeSet<usize>,
}

const ROOT: usize = 0;

impl Default for Reference {
    fn default() -> Self {
        let root = Node { shape: Shape::directory(), links: 1, mode: None, mtime: None };
        Self { nodes: vec![root], dirty: BTreeSet::new() }
    }
}

/// A name in a directory, and what is there.
struct Place {
    parent: usize,
    name: Vec<u8>,
    found: Option<usize>,
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Reference {
    fn entries(&self, inode: usize) -> Option<&BTreeMap<Vec<u8>, usize>> {
        match &self.nodes[inode].shape {
            Shape::Directory(entries) => Some(entries),
            Shape::File(_) | Shape::Link(_) => None,
        }
    }

    #[expect(clippy::panic, reason = "the reference itself would be wrong")]
    fn entries_mut(&mut self, inode: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[inode].shape {
            Shape::Directory(entries) => entries,
            Shape::File(_) | Shape::Link(_) => panic!("not a directory"),
        }
    }

    fn content(&self, inode: usize) -> &[u8] {
        match &self.nodes[inode].shape {
            Shape::File(content) => content,
            Shape::Directory(_) | Shape::Link(_) => &[],
        }
    }

    #[expect(clippy::panic, reason = "the reference itself would be wrong")]
    fn content_mut(&mut self, inode: usize) -> &mut Vec<u8> {
        match &mut self.nodes[inode].shape {
            Shape::File(content) => Arc::make_mut(content),
            Shape::Directory(_) | Shape::Link(_) => panic!("not a file"),
        }
    }

    fn place(&self, path: &[u8], follow: bool) -> Result<Place, Problem> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let mut pending: VecDeque<Vec<u8>> = split(path).into();
        // Where we are: the directory of each level, with the name that led there.
        let mut above: Vec<(usize, Vec<u8>)> = Vec::new();
        let (mut at, mut links) = (ROOT, 0);
        while let Some(name) = pending.pop_front() {
            let entries = self.entries(at).ok_or(Problem::Missing)?;
            let Some(next) = entries.get(&name).copied() else {
                return if pending.is_empty() {
                    Ok(Place { parent: at, name, found: None })
                } else {
                    Err(Problem::Missing)
                };
            };
            match &self.nodes[next].shape {
                Shape::Link(target) if follow || !pending.is_empty() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Problem::Loop);
                    }
                    if target.starts_with(b"/") {
                        above.clear();
                        at = ROOT;
                    }
                    for name in split(target).into_iter().rev() {
                        pending.push_front(name);
                    }
                }
                Shape::Link(_) | Shape::File(_) | Shape::Directory(_) => {
                    above.push((at, name));
                    at = next;
                }
            }
        }
        let (parent, name) = above.pop().ok_or(Problem::Other)?;
        Ok(Place { parent, name, found: Some(at) })
    }

    fn at(&self, path: &[u8], follow: bool) -> Result<usize, Problem> {
        self.place(path, follow)?.found.ok_or(Problem::Missing)
    }

    fn free(&self, path: &[u8]) -> Result<Place, Problem> {
        let place = self.place(path, false)?;
        if place.found.is_some() { Err(Problem::Exists) } else { Ok(place) }
    }

    fn taken(&self, path: &[u8]) -> Result<(Place, usize), Problem> {
        let place = self.place(path, false)?;
        let found = place.found.ok_or(Problem::Missing)?;
        Ok((place, found))
    }

    fn add(&mut self, place: Place, shape: Shape) -> usize {
        let inode = self.nodes.len();
        self.nodes.push(Node { shape, links: 1, mode: None, mtime: None });
        self.entries_mut(place.parent).insert(place.name, inode);
        inode
    }

    fn unlink(&mut self, parent: usize, name: &[u8]) {
        if let Some(inode) = self.entries_mut(parent).remove(name) {
            self.nodes[inode].links -= 1;
            for (name, _) in self.entries(inode).cloned().unwrap_or_default() {
                self.unlink(inode, &name);
            }
        }
    }

    fn holds(&self, above: usize, inode: usize) -> bool {
        above == inode
            || self
                .entries(above)
                .is_some_and(|entries| entries.values().any(|below| self.holds(*below, inode)))
    }

    pub(crate) fn open(&mut self, path: &[u8], creation: Creation, truncate: bool) -> Result<usize, Problem> {
        let place = self.place(path, creation != Creation::Exclusive)?;
        match place.found {
            Some(_) if creation == Creation::Exclusive => Err(Problem::Exists),
            Some(inode) if matches!(self.nodes[inode].shape, Shape::File(_)) => {
                if truncate {
                    self.truncate(inode, 0);
                    self.dirty(inode);
                }
                Ok(inode)
            }
            Some(_) => Err(Problem::Other),
            None if creation != Creation::Never => Ok(self.add(place, Shape::File(Arc::default()))),
            None => Err(Problem::Missing),
        }
    }

    pub(crate) fn size(&self, inode: usize) -> u64 {
        self.content(inode).len() as u64
    }

    pub(crate) fn write(&mut self, inode: usize, offset: u64, bytes: &[u8]) {
        let (from, content) = (index(offset), self.content_mut(inode));
        if content.len() < from + bytes.len() {
            content.resize(from + bytes.len(), 0);
        }
        content[from..from + bytes.len()].copy_from_slice(bytes);
        self.dirty(inode);
    }

    pub(crate) fn read(&self, inode: usize, offset: u64, len: usize) -> Vec<u8> {
        self.content(inode).iter().skip(index(offset)).take(len).copied().collect()
    }

    pub(crate) fn truncate(&mut self, inode: usize, size: u64) {
        self.content_mut(inode).resize(index(size), 0);
    }

    pub(crate) fn dirty(&mut self, inode: usize) {
        self.nodes[inode].mtime = None;
        self.dirty.insert(inode);
    }

    pub(crate) fn clean(&mut self, inode: usize) {
        self.dirty.remove(&inode);
    }

    pub(crate) fn is_anything_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(crate) fn is_dirty_at(&self, path: &[u8]) -> bool {
        self.at(path, true).is_ok_and(|inode| self.dirty.contains(&inode))
    }

    pub(crate) fn make(&mut self, path: &[u8], shape: Shape) -> Result<(), Problem> {
        let place = self.free(path)?;
        self.add(place, shape);
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), Problem> {
        let (place, found) = self.taken(path)?;
        if self.entries(found).is_some() {
            return Err(Problem::Other);
        }
        self.unlink(place.parent, &place.name);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, path: &[u8]) -> Result<(), Problem> {
        let (place, found) = self.taken(path)?;
        match self.entries(found) {
            // Told as the wire tells it: not a directory is a missing directory.
            None => Err(Problem::Missing),
            Some(entries) if !entries.is_empty() => Err(Problem::Other),
            Some(_) => {
                self.unlink(place.parent, &place.name);
                Ok(())
            }
        }
    }

    pub(crate) fn remove_tree(&mut self, path: &[u8]) -> Result<(), Problem> {
        let (place, _) = self.taken(path)?;
        self.unlink(place.parent, &place.name);
        Ok(())
    }

    /// Whether what is at a target may give way to `from`.
    fn gives_way(&self, from: usize, target: usize, replace: Replace) -> Result<(), Problem> {
        match (replace, self.entries(from), self.entries(target)) {
            (Replace::Never, ..) => Err(Problem::Exists),
            (Replace::Tree, ..) | (Replace::Posix, None, None) => Ok(()),
            (Replace::Posix, Some(_), Some(entries)) if entries.is_empty() => Ok(()),
            (Replace::Posix, Some(_), None) => Err(Problem::Missing),
            (Replace::Posix, ..) => Err(Problem::Other),
        }
    }

    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8], replace: Replace) -> Result<(), Problem> {
        let (source, moved) = self.taken(from)?;
        let target = self.place(to, false)?;
        if target.found.is_some() && replace == Replace::Never {
            return Err(Problem::Exists);
        }
        if self.holds(moved, target.parent) {
            return Err(Problem::Other);
        }
        if target.found == Some(moved) {
            return Ok(());
        }
        if let Some(found) = target.found {
            if self.holds(found, source.parent) {
                return Err(Problem::Other);
            }
            self.gives_way(moved, found, replace)?;
            self.unlink(target.parent, &target.name);
        }
        self.entries_mut(source.parent).remove(&source.name);
        self.entries_mut(target.parent).insert(target.name, moved);
        Ok(())
    }

    pub(crate) fn copy(
        &mut self,
        from: &[u8],
        to: &[u8],
        replace: Replace,
        deep: bool,
    ) -> Result<(), Problem> {
        let named = self.place(from, true)?;
        let source = named.found.ok_or(Problem::Missing)?;
        let target = self.place(to, false)?;
        if target.found.is_some() && replace == Replace::Never {
            return Err(Problem::Exists);
        }
        if self.entries(source).is_some() && self.holds(source, target.parent) {
            return Err(Problem::Other);
        }
        if let Some(found) = target.found {
            if found == source || self.entries(found).is_some() && self.holds(found, named.parent) {
                return Err(Problem::Other);
            }
            self.gives_way(source, found, replace)?;
            self.unlink(target.parent, &target.name);
        }
        self.copy_below(source, target, deep);
        Ok(())
    }

    fn copy_below(&mut self, source: usize, target: Place, deep: bool) {
        let shape = match &self.nodes[source].shape {
            Shape::Directory(_) => Shape::directory(),
            shape @ (Shape::File(_) | Shape::Link(_)) => shape.clone(),
        };
        let made = self.add(target, shape);
        self.nodes[made].mode = self.nodes[source].mode;
        if deep {
            for (name, below) in self.entries(source).cloned().unwrap_or_default() {
                self.copy_below(below, Place { parent: made, name, found: None }, true);
            }
        }
    }

    pub(crate) fn hard_link(&mut self, existing: &[u8], path: &[u8]) -> Result<(), Problem> {
        let inode = self.at(existing, false)?;
        let place = self.free(path)?;
        if self.entries(inode).is_some() {
            return Err(Problem::Other);
        }
        self.nodes[inode].links += 1;
        self.entries_mut(place.parent).insert(place.name, inode);
        Ok(())
    }

    pub(crate) fn may_upload(&self, path: &[u8]) -> Result<(), Problem> {
        match self.place(path, true)?.found {
            Some(inode) if self.entries(inode).is_some() => Err(Problem::Other),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn upload(&mut self, path: &[u8], bytes: Vec<u8>) -> Result<(), Problem> {
        let place = self.place(path, true)?;
        match place.found {
            Some(inode) => {
                *self.content_mut(inode) = bytes;
                self.nodes[inode].mtime = None;
            }
            None => drop(self.add(place, Shape::File(Arc::new(bytes)))),
        }
        Ok(())
    }

    pub(crate) fn set_attributes(&mut self, path: &[u8], mode: u32, mtime: i64) -> Result<(), Problem> {
        let inode = self.at(path, true)?;
        self.nodes[inode].mode = Some(mode);
        self.nodes[inode].mtime = Some(mtime);
        Ok(())
    }

    pub(crate) fn truncate_at(&mut self, path: &[u8], size: u64) -> Result<(), Problem> {
        let inode = self.at(path, true)?;
        if self.entries(inode).is_some() {
            return Err(Problem::Other);
        }
        self.truncate(inode, size);
        self.nodes[inode].mtime = None;
        self.clean(inode);
        Ok(())
    }

    pub(crate) fn stat(&self, path: &[u8], follow: bool) -> Result<Seen, Problem> {
        let node = &self.nodes[self.at(path, follow)?];
        let (kind, size) = match &node.shape {
            Shape::File(content) => (Kind::File, content.len() as u64),
            Shape::Directory(_) => (Kind::Directory, 0),
            Shape::Link(target) => (Kind::SymbolicLink, target.len() as u64),
        };
        // A directory's time moves with its entries.
        let mtime = node.mtime.filter(|_| kind == Kind::File);
        Ok(Seen { kind, size, links: node.links, mode: node.mode, mtime })
    }

    pub(crate) fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
        let entries = self.entries(self.at(path, true)?).ok_or(Problem::Missing)?;
        Ok(entries.keys().cloned().collect())
    }

    /// A link's target.
    pub(crate) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        match &self.nodes[self.at(path, false).ok()?].shape {
            Shape::Link(target) => Some(target),
            Shape::File(_) | Shape::Directory(_) => None,
        }
    }

    /// Every path with the content of files.
    pub(crate) fn whole_tree(&self) -> Vec<(Vec<u8>, Option<FileContent>)> {
        let (mut found, mut pending) = (Vec::new(), vec![(Vec::new(), ROOT)]);
        while let Some((path, inode)) = pending.pop() {
            for (name, below) in self.entries(inode).into_iter().flatten() {
                let path = [&path[..], b"/", name].concat();
                let content = match &self.nodes[*below].shape {
                    Shape::File(content) => Some(Arc::clone(content)),
                    Shape::Directory(_) | Shape::Link(_) => None,
                };
                found.push((path.clone(), content));
                pending.push((path, *below));
            }
        }
        found
    }
}
