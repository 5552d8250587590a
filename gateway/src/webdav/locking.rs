//! LOCK and UNLOCK.

use http::{HeaderName, HeaderValue, StatusCode};

use super::body::Incoming;
use super::headers::{self, Depth};
use super::locks::Reach;
use super::locks::{Lock, LockError, fresh_token, until};
use super::properties::active_lock;
use super::request::{Answer, Request, empty, xml_answer};
use super::status::{Refused, refuse};
use super::xml::Element;
use crate::limits::LOCK_OWNER_BYTES_MAX;
use crate::vfs::{Action, Creation, DetailKey, OpenOptions, RecordDraft, StoreError, VaultId, VfsError};

impl From<LockError> for Refused {
    fn from(error: LockError) -> Self {
        let status = match error {
            LockError::Locked => StatusCode::LOCKED,
            LockError::Unknown => StatusCode::CONFLICT,
            LockError::NotYours => StatusCode::FORBIDDEN,
            LockError::TooMany => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.to_string())
    }
}

/// LOCK: takes a lock, or refreshes one when there is no body. A name that is free becomes an empty file.
///
/// # Errors
/// The refusal to answer with.
pub async fn lock(request: &Request, body: Incoming) -> Answer {
    let root = request.xml_body(body).await?;
    let place = request.place(&request.path).await?;
    let secs = headers::timeout(&request.headers).as_secs();
    let Some(root) = root else {
        let tokens = request.submitted_tokens()?;
        return match request.shared.locks.refresh(&place, &tokens, request.user(), (secs, request.now)) {
            Ok(lock) => Ok(described(request, &lock, StatusCode::OK)),
            Err(_) => refuse(StatusCode::PRECONDITION_FAILED, "there is no such lock to refresh"),
        };
    };
    let deep = match headers::depth(&request.headers)? {
        None | Some(Depth::Infinity) => true,
        Some(Depth::Zero) => false,
        Some(Depth::One) => return refuse(StatusCode::BAD_REQUEST, "a lock's Depth is 0 or infinity"),
    };
    let exclusive = scope(&root)?;
    let owner = root.dav("owner").map(Element::inner_xml).unwrap_or_default();
    if owner.len() > LOCK_OWNER_BYTES_MAX {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the owner of the lock is too long");
    }
    let found = request.existing(&request.path).await?;
    if found.is_none() {
        request.parent_is_there(&request.path).await?;
        request.may_change(&[(&request.path, Reach::Name)]).await?;
    }
    let token = fresh_token()
        .map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no randomness available"))?;
    let deep = deep && found.as_ref().is_some_and(|found| found.kind == crate::vfs::Kind::Directory);
    let lock = Lock {
        token,
        place,
        deep,
        exclusive,
        owner,
        user: request.user(),
        expires: until(secs, request.now),
        secs,
    };
    request.shared.locks.take(lock.clone(), request.now)?;
    let status = match take(request, found.is_none(), &lock).await {
        Ok(status) => status,
        Err(refused) => {
            request.shared.locks.release(&lock.place, &lock.token, lock.user, request.now).ok();
            return Err(refused);
        }
    };
    let mut response = described(request, &lock, status);
    if let Ok(value) = HeaderValue::try_from(format!("<{}>", lock.token)) {
        response.headers_mut().insert(HeaderName::from_static("lock-token"), value);
    }
    Ok(response)
}

/// Makes the file that a free name becomes, asks policy for one that is there, and writes the lock down.
async fn take(request: &Request, is_new: bool, lock: &Lock) -> Result<StatusCode, Refused> {
    let creation = if is_new { Creation::Exclusive } else { Creation::Never };
    let mut status = StatusCode::OK;
    if is_new {
        let options = OpenOptions { write: true, creation, ..OpenOptions::default() };
        match request.namespace.open(&request.path, options).await {
            Ok(handle) => {
                handle.close().await?;
                status = StatusCode::CREATED;
            }
            Err(VfsError::Store(StoreError::Exists)) => {}
            Err(error) => return Err(error.into()),
        }
    } else {
        request.namespace.may_write(&request.path).await?;
    }
    let record = request.namespace.session().record(Action::LockSet);
    let path = DetailKey::Path;
    let vault = Some(VaultId(lock.place.vault));
    request
        .namespace
        .record(RecordDraft { vault, details: vec![(path, request.path.to_bytes())], ..record })
        .await?;
    Ok(status)
}

fn scope(root: &Element) -> Result<bool, Refused> {
    let scope = root.dav("lockscope").filter(|_| root.name.is_dav("lockinfo"));
    let write = root.dav("locktype").is_some_and(|kind| kind.dav("write").is_some());
    match scope {
        Some(scope) if write && scope.dav("exclusive").is_some() => Ok(true),
        Some(scope) if write && scope.dav("shared").is_some() => Ok(false),
        Some(_) | None => refuse(StatusCode::BAD_REQUEST, "the body is no lockinfo of a write lock"),
    }
}

fn described(request: &Request, lock: &Lock, status: StatusCode) -> http::Response<super::request::Body> {
    let active = active_lock(lock, &Request::href(&request.path, lock.deep), request.now);
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
    let token = headers::lock_token(&request.headers)?;
    let place = request.place(&request.path).await?;
    request.shared.locks.release(&place, &token, request.user(), request.now)?;
    let record = request.namespace.session().record(Action::LockRelease);
    let details = vec![(DetailKey::Path, request.path.to_bytes())];
    request.namespace.record(RecordDraft { details, ..record }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
