//! LOCK and UNLOCK (RFC 4918 sections 9.10 and 9.11).

use http::{HeaderName, HeaderValue, StatusCode};

use super::body::Incoming;
use super::headers::{self, Depth};
use super::locks::{active_lock, fresh_token, token_of, token_uri, until};
use super::preconditions::submitted;
use super::request::{Answer, Request, empty, xml_answer};
use super::status::{Refused, refuse};
use super::xml::Element;
use crate::vfs::{InodeId, LockDepth, LockRequest, LockScope, SeenLock, StoreError, VfsError};

/// The condition of RFC 4918 section 16 for a token that is none of the place's.
const TOKEN_MATCHES: &str = "lock-token-matches-request-uri";

/// LOCK: takes a lock, or refreshes one when there is no body. A name that is free becomes an empty file.
///
/// # Errors
/// The refusal to answer with.
pub async fn lock(request: &Request, body: Incoming) -> Answer {
    let root = request.xml_body(body).await?;
    let secs = headers::timeout(&request.headers).as_secs();
    let Some(root) = root else { return refresh(request, secs).await };
    let depth = match headers::depth(&request.headers)? {
        None | Some(Depth::Infinity) => LockDepth::Infinity,
        Some(Depth::Zero) => LockDepth::Zero,
        Some(Depth::One) => return refuse(StatusCode::BAD_REQUEST, "a lock's Depth is 0 or infinity"),
    };
    let scope = scope(&root)?;
    let owner = root.dav("owner").map(Element::inner_xml).unwrap_or_default();
    if request.existing(&request.path).await?.is_none() {
        request.parent_is_there(&request.path).await?;
    }
    request.meets_conditions().await?;
    let token = fresh_token()
        .map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no randomness available"))?;
    let wanted = LockRequest { token, scope, depth, expires: until(secs, request.now), owner };
    let (lock, is_new) = match request.namespace.lock(&request.path, wanted).await {
        Ok(given) => given,
        Err(VfsError::Store(StoreError::LockConflict { inode })) => return conflict(request, inode).await,
        // The name was taken, or went, between the question and the answer.
        Err(VfsError::Store(StoreError::Exists | StoreError::NotFound)) => {
            return refuse(StatusCode::CONFLICT, "the name changed meanwhile");
        }
        Err(error) => return Err(error.into()),
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = described(request, &lock, status);
    if let Ok(value) = HeaderValue::try_from(format!("<{}>", token_uri(lock.record.token))) {
        response.headers_mut().insert(HeaderName::from_static("lock-token"), value);
    }
    Ok(response)
}

async fn refresh(request: &Request, secs: u64) -> Answer {
    let expires = until(secs, request.now);
    for token in submitted(&request.if_lists) {
        match request.namespace.refresh_lock(&request.path, token, expires).await {
            Ok(lock) => return Ok(described(request, &lock, StatusCode::OK)),
            Err(VfsError::Store(StoreError::LockUnknown | StoreError::LockOfAnother)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused {
        condition: Some(TOKEN_MATCHES),
        ..Refused::new(StatusCode::PRECONDITION_FAILED, "there is no such lock to refresh")
    })
}

/// The refusal that names the lock in the way. Of a lock on what lies below, the answer tells of both (RFC 4918 section
/// 9.10.9).
async fn conflict(request: &Request, inode: InodeId) -> Answer {
    let root = request.namespace.conflicting_lock(&request.path, inode).await?;
    let href = Request::href(&root, false);
    if root.components().len() > request.path.components().len() {
        let own = Request::href(&request.path, true);
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\
             <D:response><D:href>{href}</D:href><D:status>HTTP/1.1 423 Locked</D:status></D:response>\
             <D:response><D:href>{own}</D:href><D:status>HTTP/1.1 424 Failed Dependency</D:status></D:response>\
             </D:multistatus>\n"
        );
        return Ok(xml_answer(StatusCode::MULTI_STATUS, text));
    }
    Err(Refused {
        condition: Some("no-conflicting-lock"),
        hrefs: vec![href],
        ..Refused::new(StatusCode::LOCKED, "the resource is locked already")
    })
}

fn scope(root: &Element) -> Result<LockScope, Refused> {
    let scope = root.dav("lockscope").filter(|_| root.name.is_dav("lockinfo"));
    let write = root.dav("locktype").is_some_and(|kind| kind.dav("write").is_some());
    match scope {
        Some(scope) if write && scope.dav("exclusive").is_some() => Ok(LockScope::Exclusive),
        Some(scope) if write && scope.dav("shared").is_some() => Ok(LockScope::Shared),
        Some(_) | None => refuse(StatusCode::BAD_REQUEST, "the body is no lockinfo of a write lock"),
    }
}

fn described(request: &Request, lock: &SeenLock, status: StatusCode) -> http::Response<super::request::Body> {
    let active = active_lock(lock, request.namespace.holder(), request.now);
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:prop xmlns:D=\"DAV:\"><D:lockdiscovery>{active}</D:lockdiscovery></D:prop>"
    );
    xml_answer(status, text)
}

/// UNLOCK.
///
/// # Errors
/// The refusal to answer with.
pub async fn unlock(request: &Request) -> Answer {
    let uri = headers::lock_token(&request.headers)?;
    let unknown = || Refused {
        condition: Some(TOKEN_MATCHES),
        ..Refused::new(StatusCode::CONFLICT, StoreError::LockUnknown.to_string())
    };
    let token = token_of(&uri).ok_or_else(unknown)?;
    match request.namespace.unlock(&request.path, token).await {
        Ok(()) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(VfsError::Store(StoreError::LockUnknown)) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}
