//! GET, HEAD and PUT: bytes out, bytes in. A PUT is all or nothing: the old file stays until the new one is whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use quick_xml::escape::escape;

use super::headers::{self, Range};
use super::locks::Reach;
use super::request::{Answer, Body, Request, empty, etag, full, put_etag};
use super::status::{Refused, refuse};
use crate::limits::{GET_PIECE_BYTES, LISTING_PIECE, PAGE_ENTRIES_MAX, PUT_PIECE_BYTES, STALL_SECS_MAX};
use crate::vfs::{
    AttributeChange, Attributes, FileHandle, Kind, OpenOptions, Precondition, UnixNanos, VfsError,
};

const NANOS: i64 = 1_000_000_000;

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Headers that keep a browser from running what it downloads.
fn put_safety(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
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

/// A directory as a page for a browser.
async fn page(request: &Request, head: bool) -> Answer {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    put_safety(response.headers_mut());
    if head {
        return Ok(response);
    }
    let mut directory = request.namespace.open_directory(&request.path).await?;
    let mut rows: Vec<(bool, String, String)> = Vec::new();
    loop {
        let entries = directory.next(LISTING_PIECE).await?;
        if entries.is_empty() || rows.len() >= PAGE_ENTRIES_MAX {
            break;
        }
        for entry in entries {
            let is_directory = entry.attributes.kind == Kind::Directory;
            let shown = String::from_utf8_lossy(&entry.name).into_owned();
            let href = Request::href(&request.path.join(&entry.name)?, is_directory);
            let (slash, size) =
                if is_directory { ("/", String::new()) } else { ("", entry.attributes.size.to_string()) };
            let date = headers::date(entry.attributes.mtime.0.div_euclid(NANOS));
            let row = format!(
                "<tr><td><a href=\"{}\">{}{slash}</a></td><td>{size}</td><td>{date}</td></tr>\n",
                escape(&href),
                escape(&shown)
            );
            rows.push((!is_directory, shown, row));
        }
    }
    rows.sort();
    let title = String::from_utf8_lossy(&request.path.to_bytes()).into_owned();
    let mut text = format!(
        "<!DOCTYPE html><html><head><title>{0}</title><style>body{{font-family:sans-serif}}td{{padding:0 1em}}</style></head>\
         <body><h1>{0}</h1><table>\n",
        escape(&title)
    );
    if !request.path.components().is_empty() {
        text.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    rows.iter().for_each(|(_, _, row)| text.push_str(row));
    text.push_str("</table></body></html>\n");
    *response.body_mut() = full(text);
    Ok(response)
}

/// PUT.
///
/// # Errors
/// The refusal to answer with.
pub async fn put(request: &Request, body: Incoming) -> Answer {
    if request.headers.contains_key(header::CONTENT_RANGE) {
        return refuse(StatusCode::BAD_REQUEST, "a part of a file cannot be put");
    }
    if request.names_collection {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "a directory cannot be put");
    }
    let found = request.existing(&request.path).await?;
    if found.as_ref().is_some_and(|found| found.kind == Kind::Directory) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "there is a directory of that name");
    }
    let precondition = precondition_of_put(request, found.as_ref())?;
    if found.is_none() {
        request.parent_is_there(&request.path).await?;
    }
    let reach = if found.is_some() { Reach::Itself } else { Reach::Name };
    request.may_change(&[(&request.path, reach)]).await?;
    let mtime = match headers::text(&request.headers, &HeaderName::from_static("x-oc-mtime"))? {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(secs) => Some(UnixNanos(secs.saturating_mul(NANOS))),
            Err(_) => return refuse(StatusCode::BAD_REQUEST, "X-OC-Mtime is seconds since 1970"),
        },
    };
    let expected = headers::text(&request.headers, &HeaderName::from_static("x-expected-entity-length"))?;
    let hint = body.size_hint().exact().or_else(|| expected.and_then(|text| text.parse().ok()));
    let upload = request.namespace.begin_upload(&request.path, hint).await?;
    let upload = receive(request, upload, body).await?;
    let change = AttributeChange { mtime, ..AttributeChange::default() };
    let (now, is_new) = upload.commit(precondition, change).await?;
    let mut response = empty(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT });
    put_etag(response.headers_mut(), &now);
    if mtime.is_some() {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-oc-mtime"), HeaderValue::from_static("accepted"));
    }
    Ok(response)
}

/// What must still hold when the upload commits.
fn precondition_of_put(request: &Request, found: Option<&Attributes>) -> Result<Precondition, Refused> {
    let failed = || refuse(StatusCode::PRECONDITION_FAILED, "the file is not the one that was meant");
    if let Some(tags) = headers::if_match(&request.headers)? {
        return match found {
            Some(found) if tags.matches(&etag(found)) => Ok(Precondition::Content(found.content)),
            Some(_) | None => failed(),
        };
    }
    match (headers::if_none_match(&request.headers), found) {
        (Some(tags), Some(found)) if tags.matches(&etag(found)) => failed(),
        (Some(headers::Tags::Any), None) => Ok(Precondition::Absent),
        (Some(_) | None, _) => Ok(Precondition::None),
    }
}

async fn receive(
    request: &Request,
    mut upload: crate::vfs::UploadHandle,
    body: Incoming,
) -> Result<crate::vfs::UploadHandle, Refused> {
    let promised = body.size_hint().exact();
    let ended = request.namespace.session().ended.clone();
    let (mut stream, mut received, mut waiting) = (BodyStream::new(body), 0_u64, BytesMut::new());
    loop {
        let frame = tokio::select! {
            () = ended.cancelled() => return Err(VfsError::SessionEnded.into()),
            frame = tokio::time::timeout(Duration::from_secs(STALL_SECS_MAX), stream.next()) => frame,
        };
        let Ok(frame) = frame else { return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not go on") };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else { return refuse(StatusCode::BAD_REQUEST, "the body broke off") };
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        waiting.extend_from_slice(&data);
        if waiting.len() >= PUT_PIECE_BYTES {
            upload.write(waiting.split().freeze()).await?;
            waiting.reserve(PUT_PIECE_BYTES + 64 * 1024);
        }
    }
    if promised.is_some_and(|promised| promised != received) {
        return refuse(StatusCode::BAD_REQUEST, "the body is not as long as it was said to be");
    }
    if !waiting.is_empty() {
        upload.write(waiting.freeze()).await?;
    }
    Ok(upload)
}
