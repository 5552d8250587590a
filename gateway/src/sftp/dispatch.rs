//! Requests to operations and back. The order is that of draft-ietf-secsh-filexfer-02 section 6.1: reads of a handle run in
//! parallel; writes, CLOSE, FSTAT, FSETSTAT and fsync of a handle run in the order in which they came; operations on
//! paths run in order, those that only look in parallel with each other. What came before an operation on a path and
//! changes a file through its handle is visible to it: sshfs does not wait for its WRITEs and CLOSEs before it asks for a
//! size, and keeps the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use russh_sftp::protocol::{OpenFlags, StatusCode};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::attributes;
use super::handles::{Handles, Open, OpenDirectory, SharedFile};
use super::status;
use super::wire::{Extended, Frame, Malformed, Reply, Request, RequestId, WireAttributes, WireError};
use crate::limits::{SFTP_DATA_BYTES_MAX, SFTP_FRAME_BYTES_MAX, SFTP_HANDLES_MAX, SFTP_NAMES_MAX};
use crate::vfs::{
    Creation, FileRoom, Follow, Namespace, OpenOptions, Replace, SpaceState, VaultPath, VfsError,
};

/// A request being worked on.
pub type Running = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// What follows from a frame.
#[expect(missing_debug_implementations, reason = "a future has nothing to show")]
pub enum Effect {
    /// An answer at once.
    Reply(Bytes),
    /// An answer when it is done; holds this many bytes until then.
    Run(Running, usize),
}

impl Effect {
    fn run(work: impl Future<Output = Bytes> + Send + 'static, bytes: usize) -> Self {
        Self::Run(Box::pin(work), bytes)
    }
}

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitInit,
    Ready,
}

/// Which of SYMLINK's two paths is the target. The draft says the second; OpenSSH and who follows it send it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOrder {
    /// As OpenSSH sends it.
    TargetFirst,
    /// As the draft says.
    LinkFirst,
}

impl LinkOrder {
    /// By the identification string of the client: these keep the draft's order with servers that are not OpenSSH.
    pub fn of_client(ident: &[u8]) -> Self {
        let standard = [&b"AsyncSSH"[..], b"WinSCP", b"SSHJ", b"PuTTY"];
        let is_standard = standard.iter().any(|name| ident.windows(name.len()).any(|part| part == *name));
        if is_standard { Self::LinkFirst } else { Self::TargetFirst }
    }
}

/// The requests of one channel.
#[derive(Debug)]
pub struct Dispatcher {
    state: State,
    links: LinkOrder,
    ops: Operations,
}

#[derive(Debug, Clone)]
struct Operations {
    namespace: Namespace,
    handles: Arc<Handles>,
    /// Order of operations on paths.
    paths: Arc<RwLock<()>>,
    /// Held for reading by what changes files through handles, until it is visible. The lock is fair.
    unseen: Arc<RwLock<()>>,
}

/// Why a request has no good answer.
enum Failure {
    Status(StatusCode, &'static str),
    Vfs(VfsError),
}

impl From<VfsError> for Failure {
    fn from(error: VfsError) -> Self {
        Self::Vfs(error)
    }
}

impl From<crate::vfs::path::PathError> for Failure {
    fn from(error: crate::vfs::path::PathError) -> Self {
        Self::Vfs(error.into())
    }
}

const UNKNOWN_HANDLE: Failure = Failure::Status(StatusCode::Failure, "no such handle");

impl Failure {
    fn reply(&self, id: RequestId) -> Bytes {
        match self {
            Self::Status(code, reason) => Reply::status(id, *code, reason),
            Self::Vfs(error) => {
                let (code, reason) = status::of(error);
                Reply::status(id, code, &reason)
            }
        }
    }
}

fn ok(id: RequestId) -> Bytes {
    Reply::status(id, StatusCode::Ok, "Success")
}

impl Dispatcher {
    /// Nothing said yet.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(namespace: Namespace, links: LinkOrder) -> Result<Self, getrandom::Error> {
        let ops =
            Operations { namespace, handles: Handles::new()?, paths: Arc::default(), unseen: Arc::default() };
        Ok(Self { state: State::AwaitInit, links, ops })
    }

    /// Whether no file or directory is open.
    pub fn is_idle(&self) -> bool {
        self.ops.handles.is_empty()
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`WireError::OutOfOrder`]: the channel ends.
    pub fn accept(&mut self, frame: Frame) -> Result<Effect, WireError> {
        match (self.state, frame) {
            (State::AwaitInit, Frame::Init(_)) => {
                self.state = State::Ready;
                Ok(Effect::Reply(Reply::version()))
            }
            (State::AwaitInit, Frame::Request(..)) | (State::Ready, Frame::Init(_)) => {
                Err(WireError::OutOfOrder)
            }
            (State::Ready, Frame::Request(id, Err(Malformed))) => {
                Ok(Effect::Reply(Reply::status(id, StatusCode::BadMessage, "the request is malformed")))
            }
            (State::Ready, Frame::Request(id, Ok(Request::Unknown))) => Ok(Effect::Reply(Reply::status(
                id,
                StatusCode::OpUnsupported,
                "the request is not known here",
            ))),
            (State::Ready, Frame::Request(id, Ok(request))) => Ok(self.start(id, request)),
        }
    }

    fn start(&self, id: RequestId, request: Request) -> Effect {
        let (ops, links) = (self.ops.clone(), self.links);
        let unseen = Arc::clone(&ops.unseen);
        let data_max = SFTP_DATA_BYTES_MAX as usize;
        match request {
            Request::Read { handle, offset, len } => {
                let len = usize::try_from(len).unwrap_or(data_max).min(data_max);
                self.on_file(id, &handle, |file| Effect::run(answered(id, read(id, file, offset, len)), len))
            }
            Request::Write { handle, offset, data } => {
                let held = data.len();
                self.on_file(id, &handle, |file| {
                    Effect::run(seen(id, unseen, write(id, file, offset, data)), held)
                })
            }
            // Forgotten now, so that what comes after does not find it; closed after what came before.
            Request::Close { handle } => match ops.handles.take(&handle) {
                Some(open) => Effect::run(answered(id, close(id, open, unseen)), 0),
                None => Effect::Reply(UNKNOWN_HANDLE.reply(id)),
            },
            Request::FStat { handle } => {
                self.on(id, &handle, |open| Effect::run(answered(id, stat_handle(id, open)), 0))
            }
            Request::FSetStat { handle, attributes } => self.on_file(id, &handle, |file| {
                Effect::run(seen(id, unseen, set_handle_attributes(id, file, attributes)), 0)
            }),
            Request::ReadDir { handle } => {
                self.on(id, &handle, |open| Effect::run(answered(id, read_directory(id, open)), 0))
            }
            Request::Extended(Extended::FSync { handle }) => {
                self.on_file(id, &handle, |file| Effect::run(answered(id, sync(id, file)), 0))
            }
            Request::Extended(Extended::FStatVfs { handle }) => self.on(id, &handle, |_| {
                Effect::run(answered(id, async move { ops.space(id, VaultPath::root()).await }), 0)
            }),
            Request::Extended(Extended::CopyData { from, offset, len, to, to_offset }) => {
                self.on_file(id, &from, |source| {
                    self.on_file(id, &to, |target| {
                        let copy = copy_data(id, (source, offset), len, (target, to_offset));
                        Effect::run(seen(id, unseen, copy), 0)
                    })
                })
            }
            request @ (Request::Open { .. }
            | Request::LStat { .. }
            | Request::SetStat { .. }
            | Request::OpenDir { .. }
            | Request::Remove { .. }
            | Request::MkDir { .. }
            | Request::RmDir { .. }
            | Request::RealPath { .. }
            | Request::Stat { .. }
            | Request::Rename { .. }
            | Request::ReadLink { .. }
            | Request::Symlink { .. }
            | Request::Extended(_)
            | Request::Unknown) => {
                Effect::run(answered(id, async move { ops.run(id, request, links).await }), 0)
            }
        }
    }

    /// Looks a handle up now, not when its turn comes: a CLOSE that follows forgets it.
    fn on(&self, id: RequestId, handle: &[u8], effect: impl FnOnce(Open) -> Effect) -> Effect {
        match self.ops.handles.get(handle) {
            Some(open) => effect(open),
            None => Effect::Reply(UNKNOWN_HANDLE.reply(id)),
        }
    }

    fn on_file(&self, id: RequestId, handle: &[u8], effect: impl FnOnce(SharedFile) -> Effect) -> Effect {
        match self.ops.handles.file(handle) {
            Some(file) => effect(file),
            None => Effect::Reply(UNKNOWN_HANDLE.reply(id)),
        }
    }
}

/// Work that changes a file through its handle: operations on paths that come after it see what it did.
async fn seen(id: RequestId, unseen: Arc<RwLock<()>>, work: impl Future<Output = Answer> + Send) -> Bytes {
    let _unseen = unseen.read_owned().await;
    answered(id, work).await
}

/// A failure becomes its status.
async fn answered(id: RequestId, work: impl Future<Output = Answer> + Send) -> Bytes {
    work.await.unwrap_or_else(|failure| failure.reply(id))
}

type Answer = Result<Bytes, Failure>;

async fn read(id: RequestId, file: SharedFile, offset: u64, len: usize) -> Answer {
    let guard = file.read().await;
    let data = Reply::data(id, len);
    let headed = data.len();
    let read = guard.as_ref().ok_or(UNKNOWN_HANDLE)?.read_onto(offset, len, data).await?;
    Ok(if read.len() == headed && len > 0 {
        Reply::status(id, StatusCode::Eof, "end of file")
    } else {
        Reply::finish_data(read)
    })
}

async fn write(id: RequestId, file: SharedFile, offset: u64, data: Bytes) -> Answer {
    let guard = file.write().await;
    guard.as_ref().ok_or(UNKNOWN_HANDLE)?.write(offset, data).await?;
    Ok(ok(id))
}

async fn sync(id: RequestId, file: SharedFile) -> Answer {
    let guard = file.write().await;
    guard.as_ref().ok_or(UNKNOWN_HANDLE)?.sync().await?;
    Ok(ok(id))
}

async fn close(id: RequestId, open: Open, unseen: Arc<RwLock<()>>) -> Answer {
    if let Open::File(file) = open {
        let unseen = unseen.read_owned().await;
        let handle = file.write().await.take();
        // Who looks waits until it is visible, not until it is durable.
        handle.ok_or(UNKNOWN_HANDLE)?.close_holding(unseen).await?;
    }
    Ok(ok(id))
}

async fn stat_handle(id: RequestId, open: Open) -> Answer {
    let found = match open {
        Open::File(file) => file.write().await.as_ref().ok_or(UNKNOWN_HANDLE)?.attributes().await?,
        Open::Directory(directory) => directory.lock().await.handle.attributes().await?,
    };
    let mut reply = Reply::attributes(id);
    attributes::put(&mut reply, &found);
    Ok(reply.finish())
}

async fn set_handle_attributes(id: RequestId, file: SharedFile, attributes: WireAttributes) -> Answer {
    let guard = file.write().await;
    let handle = guard.as_ref().ok_or(UNKNOWN_HANDLE)?;
    handle.set_attributes(attributes.change(), attributes.size).await?;
    Ok(ok(id))
}

async fn read_directory(id: RequestId, open: Open) -> Answer {
    let Open::Directory(directory) = open else { return Err(UNKNOWN_HANDLE) };
    let mut directory = directory.lock().await;
    let entries = directory.handle.next(SFTP_NAMES_MAX).await?;
    let mut lines = Vec::with_capacity(entries.len() + 2);
    if let Some(own) = directory.dots.take() {
        lines.extend([&b"."[..], b".."].map(|name| (name.to_vec(), own.clone())));
    }
    lines.extend(entries.into_iter().map(|entry| (entry.name, entry.attributes)));
    if lines.is_empty() {
        return Ok(Reply::status(id, StatusCode::Eof, "end of directory"));
    }
    let mut reply = Reply::names(id, u32::try_from(lines.len()).unwrap_or(0));
    for (name, own) in &lines {
        reply.string(name);
        reply.string(&attributes::long_name(name, own));
        attributes::put(&mut reply, own);
    }
    Ok(reply.finish())
}

async fn copy_data(id: RequestId, from: (SharedFile, u64), len: u64, to: (SharedFile, u64)) -> Answer {
    const TOO_FAR: Failure = Failure::Status(StatusCode::Failure, "the offset is too large");
    if Arc::ptr_eq(&from.0, &to.0) {
        return Err(Failure::Status(StatusCode::Failure, "a file cannot be copied through one handle"));
    }
    // Always in one order: two copies the other way round would wait for each other.
    let (target, source) = if Arc::as_ptr(&to.0) < Arc::as_ptr(&from.0) {
        let target = to.0.write().await;
        (target, from.0.read().await)
    } else {
        let source = from.0.read().await;
        (to.0.write().await, source)
    };
    let (target, source) = (target.as_ref().ok_or(UNKNOWN_HANDLE)?, source.as_ref().ok_or(UNKNOWN_HANDLE)?);
    let is_whole = from.1 == 0 && to.1 == 0 && (len == 0 || len >= source.attributes().await?.size);
    if is_whole && target.take_content_of(source).await? {
        return Ok(ok(id));
    }
    let mut done: u64 = 0;
    // A length of 0 means to the end.
    while len == 0 || done < len {
        let left = if len == 0 { u64::MAX } else { len - done };
        let piece = usize::try_from(left.min(u64::from(SFTP_DATA_BYTES_MAX))).unwrap_or(0);
        let bytes = source.read(from.1.checked_add(done).ok_or(TOO_FAR)?, piece).await?;
        if bytes.is_empty() {
            break;
        }
        let read = bytes.len() as u64;
        target.write(to.1.checked_add(done).ok_or(TOO_FAR)?, bytes).await?;
        done += read;
    }
    Ok(ok(id))
}

impl Operations {
    async fn looking(&self) -> OwnedRwLockReadGuard<()> {
        drop(self.unseen.write().await);
        Arc::clone(&self.paths).read_owned().await
    }

    async fn changing(&self) -> OwnedRwLockWriteGuard<()> {
        drop(self.unseen.write().await);
        Arc::clone(&self.paths).write_owned().await
    }

    async fn run(&self, id: RequestId, request: Request, links: LinkOrder) -> Answer {
        let namespace = &self.namespace;
        match request {
            Request::Open { path, pflags, attributes } => self.open(id, &path, pflags, attributes).await,
            Request::OpenDir { path } => self.open_directory(id, &path).await,
            Request::LStat { path } => self.stat(id, &path, Follow::No).await,
            Request::Stat { path } => self.stat(id, &path, Follow::Yes).await,
            Request::SetStat { path, attributes } => {
                self.set_attributes(id, &path, attributes, Follow::Yes).await
            }
            Request::Remove { path } => {
                let _order = self.changing().await;
                namespace.remove(&VaultPath::parse(&path)?).await?;
                Ok(ok(id))
            }
            Request::MkDir { path, attributes } => {
                let _order = self.changing().await;
                namespace.make_directory(&VaultPath::parse(&path)?, attributes.change()).await?;
                Ok(ok(id))
            }
            Request::RmDir { path } => {
                let _order = self.changing().await;
                namespace.remove_directory(&VaultPath::parse(&path)?).await?;
                Ok(ok(id))
            }
            Request::RealPath { path } => self.real_path(id, &path).await,
            Request::Rename { from, to } => self.rename(id, &from, &to, Replace::Never).await,
            Request::ReadLink { path } => {
                let _order = self.looking().await;
                let target = namespace.read_link(&VaultPath::parse(&path)?).await?;
                Ok(one_name(id, &target))
            }
            Request::Symlink { first, second } => {
                let (link, target) = match links {
                    LinkOrder::TargetFirst => (second, first),
                    LinkOrder::LinkFirst => (first, second),
                };
                let _order = self.changing().await;
                namespace.make_link(&VaultPath::parse(&link)?, &target).await?;
                Ok(ok(id))
            }
            Request::Extended(extended) => self.extended(id, extended).await,
            // Answered before they get here.
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Close { .. }
            | Request::FStat { .. }
            | Request::FSetStat { .. }
            | Request::ReadDir { .. }
            | Request::Unknown => Err(UNKNOWN_HANDLE),
        }
    }

    async fn extended(&self, id: RequestId, request: Extended) -> Answer {
        match request {
            Extended::PosixRename { from, to } => self.rename(id, &from, &to, Replace::Posix).await,
            Extended::StatVfs { path } => self.space(id, VaultPath::parse(&path)?).await,
            Extended::HardLink { existing, path } => {
                let _order = self.changing().await;
                self.namespace.hard_link(&VaultPath::parse(&existing)?, &VaultPath::parse(&path)?).await?;
                Ok(ok(id))
            }
            Extended::LSetStat { path, attributes } => {
                self.set_attributes(id, &path, attributes, Follow::No).await
            }
            Extended::Limits => {
                let mut reply = Reply::extended(id);
                let handles = u64::try_from(SFTP_HANDLES_MAX).unwrap_or(0);
                let (frame, data) = (u64::from(SFTP_FRAME_BYTES_MAX), u64::from(SFTP_DATA_BYTES_MAX));
                [frame, data, data, handles].into_iter().for_each(|limit| reply.u64(limit));
                Ok(reply.finish())
            }
            Extended::ExpandPath { path } => {
                let path = match path.strip_prefix(b"~") {
                    Some(rest) if rest.is_empty() || rest.first() == Some(&b'/') => path.slice(1..),
                    Some(_) => {
                        return Err(Failure::Status(StatusCode::NoSuchFile, "there are no other homes"));
                    }
                    None => path,
                };
                self.real_path(id, &path).await
            }
            // Answered before they get here.
            Extended::FStatVfs { .. } | Extended::FSync { .. } | Extended::CopyData { .. } => {
                Err(UNKNOWN_HANDLE)
            }
            Extended::HomeDirectory => Ok(one_name(id, b"/")),
            Extended::UsersGroupsById { users, groups } => {
                // An empty name for each: the client shows the number.
                let mut reply = Reply::extended(id);
                for count in [users, groups] {
                    reply.string(&vec![0; 4 * count as usize]);
                }
                Ok(reply.finish())
            }
        }
    }

    async fn open(&self, id: RequestId, path: &[u8], flags: u32, attributes: WireAttributes) -> Answer {
        let place =
            self.handles.reserve().ok_or(Failure::Status(StatusCode::Failure, "too many open handles"))?;
        let flags = OpenFlags::from_bits_truncate(flags);
        let has = |flag| flags.contains(flag);
        let creation = match (has(OpenFlags::CREATE), has(OpenFlags::EXCLUDE)) {
            (false, _) => Creation::Never,
            (true, false) => Creation::IfMissing,
            (true, true) => Creation::Exclusive,
        };
        let options = OpenOptions {
            read: has(OpenFlags::READ),
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
        let place =
            self.handles.reserve().ok_or(Failure::Status(StatusCode::Failure, "too many open handles"))?;
        let _order = self.looking().await;
        let handle = self.namespace.open_directory(&VaultPath::parse(path)?).await?;
        let dots = Some(handle.attributes().await?);
        let open = OpenDirectory { handle, dots };
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
        Ok(ok(id))
    }

    async fn real_path(&self, id: RequestId, path: &[u8]) -> Answer {
        let _order = self.looking().await;
        let real = self.namespace.real_path(&VaultPath::parse(path)?).await?;
        Ok(one_name(id, &real.to_bytes()))
    }

    async fn rename(&self, id: RequestId, from: &[u8], to: &[u8], replace: Replace) -> Answer {
        let _order = self.changing().await;
        self.namespace.rename(&VaultPath::parse(from)?, &VaultPath::parse(to)?, replace).await?;
        Ok(ok(id))
    }

    async fn space(&self, id: RequestId, path: VaultPath) -> Answer {
        let _order = self.looking().await;
        Ok(statvfs(id, self.namespace.space(&path).await?))
    }
}

fn one_name(id: RequestId, name: &[u8]) -> Bytes {
    let mut reply = Reply::names(id, 1);
    reply.string(name);
    reply.string(name);
    reply.u32(0);
    reply.finish()
}

fn statvfs(id: RequestId, space: SpaceState) -> Bytes {
    const BLOCK: u64 = 4096;
    /// Where files are not limited: as many as anybody asks for.
    const UNLIMITED: FileRoom = FileRoom { total: u32::MAX as u64, free: u32::MAX as u64 };
    const NAME_BYTES_MAX: u64 = 255;
    let mut reply = Reply::extended(id);
    let (total, free) = (space.total_bytes / BLOCK, space.free_bytes / BLOCK);
    let files = space.files.unwrap_or(UNLIMITED);
    for field in [BLOCK, BLOCK, total, free, free, files.total, files.free, files.free, 0, 0, NAME_BYTES_MAX]
    {
        reply.u64(field);
    }
    reply.finish()
}
