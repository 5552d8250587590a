//! GET and HEAD: bytes out, one piece read ahead; a range, several in one answer (RFC 9110 section 14), or all.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::task::JoinHandle;

use super::headers::{self, Range};
use super::page::page;
use super::request::{Answer, Body, Request, empty, etag, full, put_etag, put_safety};
use super::status::Refused;
use crate::limits::GET_PIECE_BYTES;
use crate::vfs::{Attributes, FileHandle, Kind, StoreError, VfsError};

const NANOS: i64 = 1_000_000_000;
/// Of every file: nothing is run or shown by a browser.
const CONTENT_TYPE: &str = "application/octet-stream";

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// What a request that names a file is answered from: one content, whatever others do to the file meanwhile.
enum Subject {
    Directory,
    /// For its attributes alone.
    Seen(Attributes),
    Opened(FileHandle),
    /// A condition says that there is nothing to send.
    Answered(Response<Body>),
}

/// What is there. A condition is looked at before anything is opened, so that an answer without content is no access to it; and
/// again if it was another content that was opened then.
async fn subject(request: &Request, head: bool) -> Result<Subject, Refused> {
    let seen = if head || is_conditional(&request.headers) {
        let found = request.found().await?;
        if found.kind == Kind::Directory {
            return Ok(Subject::Directory);
        }
        if let Some(answer) = precondition_of_read(request, &found)? {
            return Ok(Subject::Answered(answer));
        }
        if head {
            return Ok(Subject::Seen(found));
        }
        Some(found)
    } else {
        None
    };
    let opened = match request.namespace.open_still(&request.path).await {
        Ok(opened) => opened,
        Err(VfsError::Store(StoreError::IsADirectory)) => return Ok(Subject::Directory),
        Err(error) => return Err(error.into()),
    };
    if seen.is_some_and(|seen| etag(&seen) != etag(opened.opened_as()))
        && let Some(answer) = precondition_of_read(request, opened.opened_as())?
    {
        opened.close().await?;
        return Ok(Subject::Answered(answer));
    }
    Ok(Subject::Opened(opened))
}

fn is_conditional(headers: &HeaderMap) -> bool {
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// GET and HEAD.
///
/// # Errors
/// The refusal to answer with.
pub async fn get(request: &Request, head: bool) -> Answer {
    let (found, opened) = match subject(request, head).await? {
        Subject::Directory => return page(request, head).await,
        Subject::Answered(answer) => return Ok(answer),
        Subject::Seen(found) => (found, None),
        Subject::Opened(opened) => (opened.opened_as().clone(), Some(opened)),
    };
    let modified = modified(&found);
    let fresh = match headers::text(&request.headers, &header::IF_RANGE)? {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == etag(&found),
        Some(date) => headers::parse_date(date) == Some(modified),
    };
    let range = if fresh && !head { headers::range(&request.headers, found.size) } else { Range::Whole };
    let mut response = empty(StatusCode::PARTIAL_CONTENT);
    let mut content_type = HeaderValue::from_static(CONTENT_TYPE);
    let pieces = match range {
        Range::Whole => {
            *response.status_mut() = StatusCode::OK;
            Pieces::of(0, found.size)
        }
        Range::Part(from, to) => {
            let shown = format!("bytes {from}-{}/{}", to - 1, found.size);
            insert(response.headers_mut(), header::CONTENT_RANGE, shown);
            Pieces::of(from, to)
        }
        Range::Parts(parts) => {
            let boundary = boundary()?;
            if let Ok(value) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
                content_type = value;
            }
            Pieces::of_parts(&parts, found.size, &boundary)
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
    insert(headers, header::CONTENT_LENGTH, pieces.len().to_string());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(opened) = opened {
        // The first piece before the status: what is damaged is refused, not broken off.
        *response.body_mut() = download(opened, pieces).await?;
    }
    Ok(response)
}

/// Seconds since 1970.
fn modified(found: &Attributes) -> i64 {
    found.mtime.0.div_euclid(NANOS)
}

/// 304 or 412, if a condition says so.
fn precondition_of_read(request: &Request, found: &Attributes) -> Result<Option<Response<Body>>, Refused> {
    let (tag, modified) = (etag(found), modified(found));
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

/// What separates the parts of an answer: random, so that no stored content can hold it.
fn boundary() -> Result<String, Refused> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no randomness available"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What an answer is made of, in order.
enum Step {
    /// What stands around a part.
    Text(Bytes),
    /// Bytes of the file, from, to.
    Read(u64, u64),
}

struct Pieces(VecDeque<Step>);

impl Pieces {
    fn of(from: u64, to: u64) -> Self {
        Self((from < to).then_some(Step::Read(from, to)).into_iter().collect())
    }

    /// RFC 9110 section 14.6.
    fn of_parts(parts: &[(u64, u64)], size: u64, boundary: &str) -> Self {
        let mut steps = VecDeque::new();
        for (from, to) in parts {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Range: bytes {from}-{}/{size}\r\n\r\n",
                to - 1
            );
            steps.push_back(Step::Text(head.into()));
            steps.push_back(Step::Read(*from, *to));
        }
        steps.push_back(Step::Text(format!("\r\n--{boundary}--\r\n").into()));
        Self(steps)
    }

    fn len(&self) -> u64 {
        let len = |step: &Step| match step {
            Step::Text(text) => text.len() as u64,
            Step::Read(from, to) => to - from,
        };
        self.0.iter().map(len).sum()
    }

    /// The next bytes of the file to be read.
    fn next_read(&self) -> Option<(u64, usize)> {
        self.0.iter().find_map(|step| match step {
            Step::Text(_) => None,
            Step::Read(from, to) => {
                Some((*from, usize::try_from(to - from).unwrap_or(usize::MAX).min(GET_PIECE_BYTES)))
            }
        })
    }
}

type Piece = Result<Bytes, VfsError>;

/// An answer on its way: at most one piece is read ahead of what the client has taken.
struct Download {
    handle: Arc<FileHandle>,
    pieces: Pieces,
    /// The next bytes of the file, being read.
    ahead: Option<JoinHandle<Piece>>,
}

impl Download {
    fn read_ahead(&mut self) {
        self.ahead = self.pieces.next_read().map(|(at, len)| {
            let handle = Arc::clone(&self.handle);
            tokio::spawn(async move { handle.read(at, len).await })
        });
    }

    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        match self.pieces.0.pop_front()? {
            Step::Text(text) => Some(Ok(text)),
            Step::Read(at, to) => {
                let broken = |why: String| Some(Err(std::io::Error::other(why)));
                let piece = match self.ahead.take()?.await {
                    // Never padded.
                    Ok(Ok(piece)) if piece.is_empty() => return broken("the file became shorter".to_owned()),
                    Ok(Ok(piece)) => piece,
                    Ok(Err(error)) => return broken(error.to_string()),
                    Err(_) => return broken("the read was interrupted".to_owned()),
                };
                let at = at + piece.len() as u64;
                if at < to {
                    self.pieces.0.push_front(Step::Read(at, to));
                }
                self.read_ahead();
                Some(Ok(piece))
            }
        }
    }
}

/// The bytes of a file, one piece read ahead. A file that shrinks meanwhile breaks the answer off, never pads it.
async fn download(handle: FileHandle, pieces: Pieces) -> Result<Body, Refused> {
    let Some((at, len)) = pieces.next_read() else {
        handle.close().await?;
        return Ok(full(Bytes::new()));
    };
    let first = handle.read(at, len).await?;
    let first = tokio::spawn(async move { Piece::Ok(first) });
    let download = Download { handle: Arc::new(handle), pieces, ahead: Some(first) };
    let pieces = stream::unfold(Some(download), |download| async move {
        let mut download = download?;
        let piece = download.next().await?;
        let rest = piece.is_ok().then_some(download);
        Some((piece.map(Frame::data), rest))
    });
    Ok(StreamBody::new(pieces).boxed_unsync())
}
