//! GET and HEAD: bytes out, one piece read ahead.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::headers::{self, Range};
use super::page::page;
use super::request::{Answer, Body, Request, empty, etag, full, put_etag, put_safety};
use super::status::Refused;
use crate::limits::GET_PIECE_BYTES;
use crate::vfs::{Attributes, FileHandle, Kind, OpenOptions, VfsError};

const NANOS: i64 = 1_000_000_000;

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// GET and HEAD.
///
/// # Errors
/// The refusal to answer with.
pub async fn get(request: &Request, head: bool) -> Answer {
    let found = request.found().await?;
    if found.kind == Kind::Directory {
        return page(request, head).await;
    }
    let modified = found.mtime.0.div_euclid(NANOS);
    if let Some(refused) = precondition_of_read(request, &found, modified)? {
        return Ok(refused);
    }
    let fresh = match headers::text(&request.headers, &header::IF_RANGE)? {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == etag(&found),
        Some(date) => headers::parse_date(date) == Some(modified),
    };
    let range = if fresh && !head { headers::range(&request.headers, found.size) } else { Range::Whole };
    let mut response = empty(StatusCode::OK);
    let (from, to) = match range {
        Range::Whole => (0, found.size),
        Range::Part(from, to) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            insert(
                response.headers_mut(),
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{}", to - 1, found.size),
            );
            (from, to)
        }
        Range::Unsatisfiable => {
            let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            insert(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{}", found.size));
            return Ok(response);
        }
    };
    let headers = response.headers_mut();
    put_etag(headers, &found);
    put_safety(headers);
    insert(headers, header::LAST_MODIFIED, headers::date(modified));
    insert(headers, header::CONTENT_LENGTH, (to - from).to_string());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if !head {
        let handle = request
            .namespace
            .open(&request.path, OpenOptions { read: true, ..OpenOptions::default() })
            .await?;
        // The first piece before the status: what is damaged is refused, not broken off.
        *response.body_mut() = download(handle, from, to).await?;
    }
    Ok(response)
}

/// 304 or 412, if a condition says so.
fn precondition_of_read(
    request: &Request,
    found: &Attributes,
    modified: i64,
) -> Result<Option<Response<Body>>, Refused> {
    let tag = etag(found);
    let since = |name| -> Result<Option<i64>, Refused> {
        Ok(headers::text(&request.headers, name)?.and_then(headers::parse_date))
    };
    if let Some(tags) = headers::if_match(&request.headers)? {
        if !tags.matches(&tag) {
            return Ok(Some(empty(StatusCode::PRECONDITION_FAILED)));
        }
    } else if since(&header::IF_UNMODIFIED_SINCE)?.is_some_and(|since| modified > since) {
        return Ok(Some(empty(StatusCode::PRECONDITION_FAILED)));
    }
    let unchanged = match headers::if_none_match(&request.headers) {
        Some(tags) => tags.matches(&tag),
        None => since(&header::IF_MODIFIED_SINCE)?.is_some_and(|since| modified <= since),
    };
    Ok(unchanged.then(|| {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        put_etag(response.headers_mut(), found);
        response
    }))
}

type Piece = Result<Bytes, VfsError>;

fn ahead(handle: &Arc<FileHandle>, at: u64, to: u64) -> tokio::task::JoinHandle<Piece> {
    let (handle, len) =
        (Arc::clone(handle), usize::try_from(to - at).unwrap_or(usize::MAX).min(GET_PIECE_BYTES));
    tokio::spawn(async move { handle.read(at, len).await })
}

/// The bytes of a file, one piece read ahead. A file that shrinks meanwhile breaks the answer off, never pads it.
async fn download(handle: FileHandle, from: u64, to: u64) -> Result<Body, Refused> {
    if from == to {
        handle.close().await?;
        return Ok(full(Bytes::new()));
    }
    let handle = Arc::new(handle);
    let first =
        handle.read(from, usize::try_from(to - from).unwrap_or(usize::MAX).min(GET_PIECE_BYTES)).await?;
    let broken = |why: String| std::io::Error::other(why);
    let state = (handle, from, Some(tokio::spawn(async move { Piece::Ok(first) })));
    let pieces = stream::unfold(state, move |(handle, at, next)| async move {
        let next = next?;
        let piece = match next.await {
            Ok(Ok(piece)) if piece.is_empty() => Err(broken("the file became shorter".to_owned())),
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(broken(error.to_string())),
            Err(_) => Err(broken("the read was interrupted".to_owned())),
        };
        match piece {
            Err(error) => Some((Err(error), (handle, at, None))),
            Ok(piece) => {
                let at = at + piece.len() as u64;
                let next = (at < to).then(|| ahead(&handle, at, to));
                Some((Ok(Frame::data(piece)), (handle, at, next)))
            }
        }
    });
    Ok(StreamBody::new(pieces).boxed_unsync())
}
