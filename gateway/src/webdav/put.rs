//! PUT: bytes in. All or nothing: the old file stays until the new one is whole.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyStream;
use hyper::body::Body as _;

use super::body::Incoming;
use super::headers;
use super::locks::Reach;
use super::request::{Answer, Request, empty, etag, put_etag};
use super::status::{Refused, refuse};
use crate::limits::{PUT_PIECE_BYTES, STALL_SECS_MAX};
use crate::vfs::{AttributeChange, Attributes, Kind, Precondition, UnixNanos, VfsError};

const NANOS: i64 = 1_000_000_000;

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
