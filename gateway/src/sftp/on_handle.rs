//! Requests on open files and directories. A file's lock is fair, so that they run in the order in which they came: READs
//! together, everything else alone.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::RwLock;

use super::attributes;
use super::handles::{Open, SharedDirectory, SharedFile};
use super::reply::Reply;
use super::status::{Answer, Failure};
use super::wire::{RequestId, WireAttributes};
use crate::limits::{SFTP_DATA_BYTES_MAX, SFTP_NAMES_MAX};

/// What requests on names wait for: see `on_path`.
pub(super) type Unseen = Arc<RwLock<()>>;

/// Work that changes a file through its handle: requests on names that come after it see what it did.
pub(super) async fn seen(unseen: Unseen, work: impl Future<Output = Answer> + Send) -> Answer {
    let _unseen = unseen.read_owned().await;
    work.await
}

/// READ.
pub(super) async fn read(id: RequestId, file: SharedFile, offset: u64, len: usize) -> Answer {
    let guard = file.read().await;
    let data = Reply::data(id, len);
    let headed = data.len();
    let read = guard.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?.read_onto(offset, len, data).await?;
    if read.len() == headed && len > 0 { Err(Failure::END_OF_FILE) } else { Ok(Reply::finish_data(read)) }
}

/// WRITE.
pub(super) async fn write(id: RequestId, file: SharedFile, offset: u64, data: Bytes) -> Answer {
    let guard = file.write().await;
    guard.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?.write(offset, data).await?;
    Ok(Reply::ok(id))
}

/// fsync@openssh.com.
pub(super) async fn sync(id: RequestId, file: SharedFile) -> Answer {
    let guard = file.write().await;
    guard.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?.sync().await?;
    Ok(Reply::ok(id))
}

/// CLOSE, after all that came before it.
pub(super) async fn close(id: RequestId, open: Open, unseen: Unseen) -> Answer {
    if let Open::File(file) = open {
        let unseen = unseen.read_owned().await;
        let handle = file.write().await.take();
        // Who looks waits until it is visible, not until it is durable.
        handle.ok_or(Failure::UNKNOWN_HANDLE)?.close_holding(unseen).await?;
    }
    Ok(Reply::ok(id))
}

/// FSTAT.
pub(super) async fn stat(id: RequestId, open: Open) -> Answer {
    let found = match open {
        Open::File(file) => file.write().await.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?.attributes().await?,
        Open::Directory(directory) => directory.lock().await.handle.attributes().await?,
    };
    let mut reply = Reply::attributes(id);
    attributes::put(&mut reply, &found);
    Ok(reply.finish())
}

/// FSETSTAT.
pub(super) async fn set_attributes(id: RequestId, file: SharedFile, attributes: WireAttributes) -> Answer {
    let guard = file.write().await;
    let handle = guard.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?;
    handle.set_attributes(attributes.change(), attributes.size).await?;
    Ok(Reply::ok(id))
}

/// READDIR: the next batch.
pub(super) async fn read_directory(id: RequestId, directory: SharedDirectory) -> Answer {
    let mut directory = directory.lock().await;
    let entries = directory.handle.next(SFTP_NAMES_MAX).await?;
    let mut lines = Vec::with_capacity(entries.len() + 2);
    if let Some(own) = directory.dots.take() {
        lines.extend([&b"."[..], b".."].map(|name| (name.to_vec(), own.clone())));
    }
    lines.extend(entries.into_iter().map(|entry| (entry.name, entry.attributes)));
    if lines.is_empty() {
        return Err(Failure::END_OF_DIRECTORY);
    }
    let (owners, now) = (Arc::clone(&directory.owners), directory.handle.now());
    let mut reply = Reply::names(id, u32::try_from(lines.len()).unwrap_or(0));
    for (name, own) in &lines {
        reply.string(name);
        reply.string(&attributes::long_name(name, own, &owners, now));
        attributes::put(&mut reply, own);
    }
    Ok(reply.finish())
}

/// copy-data.
pub(super) async fn copy(id: RequestId, from: (SharedFile, u64), len: u64, to: (SharedFile, u64)) -> Answer {
    if Arc::ptr_eq(&from.0, &to.0) {
        return Err(Failure::SAME_HANDLE);
    }
    // Always in one order: two copies the other way round would wait for each other.
    let (target, source) = if Arc::as_ptr(&to.0) < Arc::as_ptr(&from.0) {
        let target = to.0.write().await;
        (target, from.0.read().await)
    } else {
        let source = from.0.read().await;
        (to.0.write().await, source)
    };
    let (target, source) =
        (target.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?, source.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?);
    let is_whole = from.1 == 0 && to.1 == 0 && (len == 0 || len >= source.attributes().await?.size);
    if is_whole && target.take_content_of(source).await? {
        return Ok(Reply::ok(id));
    }
    let mut done: u64 = 0;
    // A length of 0 means to the end.
    while len == 0 || done < len {
        let left = if len == 0 { u64::MAX } else { len - done };
        let piece = usize::try_from(left.min(u64::from(SFTP_DATA_BYTES_MAX))).unwrap_or(0);
        let bytes = source.read(from.1.checked_add(done).ok_or(Failure::TOO_FAR)?, piece).await?;
        if bytes.is_empty() {
            break;
        }
        let read = bytes.len() as u64;
        target.write(to.1.checked_add(done).ok_or(Failure::TOO_FAR)?, bytes).await?;
        done += read;
    }
    Ok(Reply::ok(id))
}

/// fstatvfs@openssh.com.
pub(super) async fn space(id: RequestId, open: Open) -> Answer {
    let space = match open {
        Open::File(file) => file.read().await.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?.space().await?,
        Open::Directory(directory) => directory.lock().await.handle.space().await?,
    };
    Ok(Reply::space(id, &space))
}
