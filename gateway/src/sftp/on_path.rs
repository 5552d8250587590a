//! Requests on names, in the order in which they came: those that only look run together, those that change something alone.

use std::sync::Arc;

use bytes::Bytes;
use russh_sftp::protocol::OpenFlags;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::attributes::{self, Owners};
use super::check_file;
use super::handles::{Handles, Open, OpenDirectory};
use super::reply::Reply;
use super::status::{Answer, Failure};
use super::wire::{CheckFile, LinkOrder, PathRequest, RequestId, WireAttributes};
use crate::vfs::{Creation, Follow, Namespace, OpenOptions, Replace, VaultPath};

/// What requests on names need.
#[derive(Debug, Clone)]
pub(super) struct Operations {
    namespace: Namespace,
    links: LinkOrder,
    owners: Arc<Owners>,
    pub(super) handles: Arc<Handles>,
    /// Fair: who asks for it gets it in the order of asking.
    turns: Arc<RwLock<()>>,
    /// Held for reading by what changes files through handles, until that is visible. Fair too: what comes after it by name
    /// sees it. sshfs does not wait for its WRITEs and CLOSEs before it asks for a size, and keeps the answer.
    pub(super) unseen: Arc<RwLock<()>>,
}

impl Operations {
    /// Nothing open.
    pub(super) fn new(namespace: Namespace, links: LinkOrder) -> Result<Self, getrandom::Error> {
        let owners = Arc::new(Owners::of(&namespace.session().principal));
        Ok(Self {
            namespace,
            links,
            owners,
            handles: Handles::new()?,
            turns: Arc::default(),
            unseen: Arc::default(),
        })
    }

    /// home-directory: everybody's own home, and no other, is known.
    pub(super) fn home(&self, id: RequestId, user: &[u8]) -> Bytes {
        if user.is_empty() || user == self.owners.user.as_bytes() {
            Reply::name(id, b"/")
        } else {
            Reply::failure(id, &Failure::NO_OTHER_HOMES)
        }
    }

    /// users-groups-by-id@openssh.com: an empty name for what has none, and clients show the number.
    pub(super) fn names(&self, id: RequestId, users: &[u32], groups: &[u32]) -> Bytes {
        let mut reply = Reply::extended(id);
        reply.strings(users.iter().map(|uid| self.owners.user(*uid).unwrap_or_default()));
        reply.strings(groups.iter().map(|gid| self.owners.group(*gid).unwrap_or_default()));
        reply.finish()
    }

    /// Reading takes as long as the file is: what changes names waits for the opening only.
    async fn check(&self, id: RequestId, path: &[u8], check: &CheckFile) -> Answer {
        let options = OpenOptions { read: true, ..OpenOptions::default() };
        let file = {
            let _order = self.looking().await;
            self.namespace.open(&VaultPath::parse(path)?, options).await?
        };
        check_file::answer_and_close(id, file, check).await
    }

    async fn looking(&self) -> OwnedRwLockReadGuard<()> {
        drop(self.unseen.write().await);
        Arc::clone(&self.turns).read_owned().await
    }

    async fn changing(&self) -> OwnedRwLockWriteGuard<()> {
        drop(self.unseen.write().await);
        Arc::clone(&self.turns).write_owned().await
    }

    /// Runs a request in its turn.
    pub(super) async fn run(&self, id: RequestId, request: PathRequest) -> Answer {
        let namespace = &self.namespace;
        match request {
            PathRequest::Open { path, pflags, attributes } => self.open(id, &path, pflags, attributes).await,
            PathRequest::OpenDir { path } => self.open_directory(id, &path).await,
            PathRequest::LStat { path } => self.stat(id, &path, Follow::No).await,
            PathRequest::Stat { path } => self.stat(id, &path, Follow::Yes).await,
            PathRequest::SetStat { path, attributes } => {
                self.set_attributes(id, &path, attributes, Follow::Yes).await
            }
            PathRequest::LSetStat { path, attributes } => {
                self.set_attributes(id, &path, attributes, Follow::No).await
            }
            PathRequest::Remove { path } => {
                let _order = self.changing().await;
                namespace.remove(&VaultPath::parse(&path)?).await?;
                Ok(Reply::ok(id))
            }
            PathRequest::MkDir { path, attributes } => {
                let _order = self.changing().await;
                namespace.make_directory(&VaultPath::parse(&path)?, attributes.change()).await?;
                Ok(Reply::ok(id))
            }
            PathRequest::RmDir { path } => {
                let _order = self.changing().await;
                namespace.remove_directory(&VaultPath::parse(&path)?).await?;
                Ok(Reply::ok(id))
            }
            PathRequest::RealPath { path } => self.real_path(id, &path).await,
            PathRequest::ExpandPath { path } => match path.strip_prefix(b"~") {
                Some(rest) if rest.is_empty() || rest.first() == Some(&b'/') => {
                    self.real_path(id, rest).await
                }
                Some(_) => Err(Failure::NO_OTHER_HOMES),
                None => self.real_path(id, &path).await,
            },
            PathRequest::Rename { from, to } => self.rename(id, &from, &to, Replace::Never).await,
            PathRequest::PosixRename { from, to } => self.rename(id, &from, &to, Replace::Posix).await,
            PathRequest::HardLink { existing, path } => {
                let _order = self.changing().await;
                namespace.hard_link(&VaultPath::parse(&existing)?, &VaultPath::parse(&path)?).await?;
                Ok(Reply::ok(id))
            }
            PathRequest::ReadLink { path } => {
                let _order = self.looking().await;
                let target = namespace.read_link(&VaultPath::parse(&path)?).await?;
                Ok(Reply::name(id, &target))
            }
            PathRequest::Symlink { first, second } => {
                let (link, target) = match self.links {
                    LinkOrder::TargetFirst => (second, first),
                    LinkOrder::LinkFirst => (first, second),
                };
                let _order = self.changing().await;
                namespace.make_link(&VaultPath::parse(&link)?, &target).await?;
                Ok(Reply::ok(id))
            }
            PathRequest::CheckFile { path, check } => self.check(id, &path, &check).await,
            PathRequest::StatVfs { path } => {
                let _order = self.looking().await;
                Ok(Reply::space(id, &namespace.space(&VaultPath::parse(&path)?).await?))
            }
        }
    }

    async fn open(&self, id: RequestId, path: &[u8], flags: u32, attributes: WireAttributes) -> Answer {
        let place = self.handles.reserve().ok_or(Failure::TOO_MANY_HANDLES)?;
        let flags = OpenFlags::from_bits_truncate(flags);
        let has = |flag| flags.contains(flag);
        let creation = match (has(OpenFlags::CREATE), has(OpenFlags::EXCLUDE)) {
            (false, _) => Creation::Never,
            (true, false) => Creation::IfMissing,
            (true, true) => Creation::Exclusive,
        };
        let options = OpenOptions {
            read: has(OpenFlags::READ),
            verify: false,
            still: false,
            write: has(OpenFlags::WRITE) || has(OpenFlags::APPEND),
            append: has(OpenFlags::APPEND),
            truncate: has(OpenFlags::TRUNCATE),
            creation,
            attributes: attributes.change(),
        };
        let path = VaultPath::parse(path)?;
        let handle = if creation == Creation::Never {
            let _order = self.looking().await;
            self.namespace.open(&path, options).await?
        } else {
            let _order = self.changing().await;
            self.namespace.open(&path, options).await?
        };
        Ok(Reply::handle(id, &place.fill(Open::File(Arc::new(RwLock::new(Some(handle)))))))
    }

    async fn open_directory(&self, id: RequestId, path: &[u8]) -> Answer {
        let place = self.handles.reserve().ok_or(Failure::TOO_MANY_HANDLES)?;
        let _order = self.looking().await;
        let handle = self.namespace.open_directory(&VaultPath::parse(path)?).await?;
        let dots = Some(handle.attributes().await?);
        let open = OpenDirectory { handle, dots, owners: Arc::clone(&self.owners) };
        Ok(Reply::handle(id, &place.fill(Open::Directory(Arc::new(tokio::sync::Mutex::new(open))))))
    }

    async fn stat(&self, id: RequestId, path: &[u8], follow: Follow) -> Answer {
        let _order = self.looking().await;
        let found = self.namespace.stat(&VaultPath::parse(path)?, follow).await?;
        let mut reply = Reply::attributes(id);
        attributes::put(&mut reply, &found);
        Ok(reply.finish())
    }

    async fn set_attributes(
        &self,
        id: RequestId,
        path: &[u8],
        attributes: WireAttributes,
        follow: Follow,
    ) -> Answer {
        let _order = self.changing().await;
        let path = VaultPath::parse(path)?;
        self.namespace.set_attributes(&path, attributes.change(), attributes.size, follow).await?;
        Ok(Reply::ok(id))
    }

    async fn real_path(&self, id: RequestId, path: &[u8]) -> Answer {
        let _order = self.looking().await;
        let real = self.namespace.real_path(&VaultPath::parse_within(path)?).await?;
        Ok(Reply::name(id, &real.to_bytes()))
    }

    async fn rename(&self, id: RequestId, from: &[u8], to: &[u8], replace: Replace) -> Answer {
        let _order = self.changing().await;
        self.namespace.rename(&VaultPath::parse(from)?, &VaultPath::parse(to)?, replace).await?;
        Ok(Reply::ok(id))
    }
}
