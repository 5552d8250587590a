//! Requests to work and its order, which is that of draft-ietf-secsh-filexfer-02 section 6.1: requests on different handles
//! run in parallel, so do READs of one handle; WRITE, CLOSE, FSTAT, FSETSTAT and fsync of a handle run in the order in
//! which they came; operations on paths run in order, those that only look in parallel with each other, and see what was
//! written through handles before them. `order` says in which order answers leave.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::check_file;
use super::handles::Open;
use super::on_handle;
use super::on_path::Operations;
use super::order::LaneKey;
use super::reply::Reply;
use super::status::{Answer, Failure};
use super::wire::{
    Frame, HandleRequest, LinkOrder, Malformed, PathRequest, Request, RequestId, ServerRequest, WireError,
};
use crate::limits::{SFTP_DATA_BYTES_MAX, SFTP_LISTING_BYTES_MAX, SFTP_NAME_REPLY_BYTES_MAX};
use crate::vfs::Namespace;

/// A request being worked on.
pub type Running = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// What follows from a frame.
#[expect(missing_debug_implementations, reason = "a future has nothing to show")]
pub enum Effect {
    /// An answer at once.
    Reply(Bytes),
    /// An answer when it is done.
    Run {
        /// Gives the answer.
        work: Running,
        /// In which row it leaves.
        lane: Option<LaneKey>,
        /// Bytes that the answer has at most.
        answer_bytes_max: usize,
    },
}

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitInit,
    Ready,
}

/// The requests of one channel.
#[derive(Debug)]
pub struct Dispatcher {
    state: State,
    ops: Operations,
}

impl Dispatcher {
    /// Nothing said yet.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(namespace: Namespace, links: LinkOrder) -> Result<Self, getrandom::Error> {
        Ok(Self { state: State::AwaitInit, ops: Operations::new(namespace, links)? })
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
                Ok(Effect::Reply(Reply::failure(id, &Failure::MALFORMED)))
            }
            (State::Ready, Frame::Request(id, Ok(request))) => Ok(self.start(id, request)),
        }
    }

    fn start(&self, id: RequestId, request: Request) -> Effect {
        match request {
            Request::OnHandle(handle, request) => self
                .start_on_handle(id, &handle, request)
                .unwrap_or_else(|failure| Effect::Reply(Reply::failure(id, &failure))),
            Request::OnPath(request) => {
                let answer_bytes_max = match &request {
                    PathRequest::RealPath { .. }
                    | PathRequest::ExpandPath { .. }
                    | PathRequest::ReadLink { .. } => SFTP_NAME_REPLY_BYTES_MAX,
                    PathRequest::Open { .. }
                    | PathRequest::LStat { .. }
                    | PathRequest::SetStat { .. }
                    | PathRequest::LSetStat { .. }
                    | PathRequest::OpenDir { .. }
                    | PathRequest::Remove { .. }
                    | PathRequest::MkDir { .. }
                    | PathRequest::RmDir { .. }
                    | PathRequest::Stat { .. }
                    | PathRequest::StatVfs { .. }
                    | PathRequest::Rename { .. }
                    | PathRequest::PosixRename { .. }
                    | PathRequest::HardLink { .. }
                    | PathRequest::Symlink { .. } => 0,
                    PathRequest::CheckFile { .. } => SFTP_DATA_BYTES_MAX as usize,
                };
                let ops = self.ops.clone();
                let work = answered(id, async move { ops.run(id, request).await });
                Effect::Run { work, lane: None, answer_bytes_max }
            }
            Request::OfServer(request) => Effect::Reply(match request {
                ServerRequest::Limits => Reply::limits(id),
                ServerRequest::HomeDirectory { user } => self.ops.home(id, &user),
                ServerRequest::UsersGroupsById { users, groups } => self.ops.names(id, &users, &groups),
            }),
            Request::Unknown => Effect::Reply(Reply::failure(id, &Failure::UNKNOWN_REQUEST)),
        }
    }

    /// Looks handles up now, not when their turn comes: a CLOSE that follows forgets them.
    fn start_on_handle(&self, id: RequestId, name: &[u8], request: HandleRequest) -> Result<Effect, Failure> {
        let (handles, unseen) = (&self.ops.handles, Arc::clone(&self.ops.unseen));
        let run = |work, lane, answer_bytes_max| Effect::Run { work, lane, answer_bytes_max };
        Ok(match request {
            HandleRequest::Read { offset, len } => {
                let (lane, file) = handles.file(name)?;
                let len = len.min(SFTP_DATA_BYTES_MAX) as usize;
                run(answered(id, on_handle::read(id, file, offset, len)), Some(lane), len)
            }
            HandleRequest::Write { offset, data } => {
                let (_, file) = handles.file(name)?;
                run(answered(id, on_handle::seen(unseen, on_handle::write(id, file, offset, data))), None, 0)
            }
            // Forgotten now, so that what comes after does not find it; closed after what came before.
            HandleRequest::Close => {
                let open = handles.take(name).ok_or(Failure::UNKNOWN_HANDLE)?;
                run(answered(id, on_handle::close(id, open, unseen)), None, 0)
            }
            HandleRequest::FStat => {
                let (_, open) = handles.get(name).ok_or(Failure::UNKNOWN_HANDLE)?;
                run(answered(id, on_handle::stat(id, open)), None, 0)
            }
            HandleRequest::FSetStat { attributes } => {
                let (_, file) = handles.file(name)?;
                let set = on_handle::set_attributes(id, file, attributes);
                run(answered(id, on_handle::seen(unseen, set)), None, 0)
            }
            HandleRequest::ReadDir => match handles.get(name) {
                Some((_, Open::Directory(directory))) => {
                    let work = on_handle::read_directory(id, directory);
                    run(answered(id, work), None, SFTP_LISTING_BYTES_MAX)
                }
                Some((_, Open::File(_))) | None => return Err(Failure::UNKNOWN_HANDLE),
            },
            HandleRequest::FSync => {
                let (_, file) = handles.file(name)?;
                run(answered(id, on_handle::sync(id, file)), None, 0)
            }
            HandleRequest::FStatVfs => {
                let (_, open) = handles.get(name).ok_or(Failure::UNKNOWN_HANDLE)?;
                run(answered(id, on_handle::space(id, open)), None, 0)
            }
            HandleRequest::CheckFile(check) => {
                let (_, file) = handles.file(name)?;
                let answer = check_file::on_handle(id, file, check);
                run(answered(id, answer), None, SFTP_DATA_BYTES_MAX as usize)
            }
            HandleRequest::CopyData { offset, len, to, to_offset } => {
                let ((_, source), (_, target)) = (handles.file(name)?, handles.file(&to)?);
                let copy = on_handle::copy(id, (source, offset), len, (target, to_offset));
                run(answered(id, on_handle::seen(unseen, copy)), None, 0)
            }
        })
    }
}

/// A failure becomes its status.
fn answered(id: RequestId, work: impl Future<Output = Answer> + Send + 'static) -> Running {
    Box::pin(async move { work.await.unwrap_or_else(|failure| Reply::failure(id, &failure)) })
}
