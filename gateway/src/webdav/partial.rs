//! A part of a file, in place of what is there or behind it: PUT with Content-Range (RFC 9110 section 14.5), and PATCH with
//! X-Update-Range as sabre/dav has it. A PATCH with X-Recalculate-Hash, as Nextcloud has it, changes nothing: it asks for a
//! checksum to be computed and kept; rclone does when it has set a time.
//!
//! All or nothing like a PUT of the whole: the file changes in one step when the body was whole, and only if it still holds what
//! it held at the beginning. A part begins at most where the file ends: a client that resumes what is not there is told so,
//! instead of being given a file with a hole at its head.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::body::Incoming;
use super::headers::{self, UpdateRange};
use super::put::{Said, Unfulfilled, answer, may_put};
use super::request::{Answer, Request, empty};
use super::status::{Refused, refuse};
use crate::vfs::{Attributes, ContentId, Edit, EditOffset, Precondition, UploadHandle};

/// What PATCH is written in.
const PARTIAL_UPDATE: &str = "application/x-sabredav-partialupdate";

type Done = Result<(Attributes, bool), Unfulfilled>;

/// PUT of a part.
///
/// # Errors
/// The refusal to answer with.
pub async fn put(request: &Request, body: Incoming) -> Answer {
    let (from, to) = headers::content_range(&request.headers)?;
    let (said, length) = (Said::of(request, &body)?, to - from);
    if said.length.is_some_and(|said| said != length) {
        return refuse(StatusCode::BAD_REQUEST, "the body is not as long as its Content-Range");
    }
    let said = said.of_length(length);
    let (found, _) = may_put(request).await?;
    let done = if found.is_some() {
        let begun = begin(request, EditOffset::Start(from), length).await?;
        finish(request, (&said, body), begun).await
    } else if from == 0 {
        let upload = request.namespace.begin_upload(&request.path, Some(length)).await?;
        said.fulfil(request, upload, body, Precondition::Absent).await
    } else {
        return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "there is nothing before this part");
    };
    answer(request, &said, Some(&request.path), done).await
}

/// PATCH.
///
/// # Errors
/// The refusal to answer with.
pub async fn patch(request: &Request, body: Incoming) -> Answer {
    if let Some(name) = headers::text(&request.headers, &HeaderName::from_static("x-recalculate-hash"))? {
        return recalculate(request, name).await;
    }
    let kind = headers::text(&request.headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(PARTIAL_UPDATE) {
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("a PATCH is {PARTIAL_UPDATE} with X-Update-Range"),
        ));
    }
    let range = headers::update_range(&request.headers)?;
    let said = Said::of(request, &body)?;
    let Some(length) = said.length else {
        return refuse(StatusCode::LENGTH_REQUIRED, "a PATCH needs Content-Length");
    };
    request.found().await?;
    may_put(request).await?;
    let offset = match range {
        UpdateRange::Append => EditOffset::BeforeEnd(0),
        UpdateRange::Last(bytes) => EditOffset::BeforeEnd(bytes),
        UpdateRange::From(from, to) => {
            if to.is_some_and(|to| to - from != length) {
                return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "the range is not as long as the body");
            }
            EditOffset::Start(from)
        }
    };
    let begun = begin(request, offset, length).await?;
    let done = finish(request, (&said, body), begun).await;
    answer(request, &said, Some(&request.path), done).await
}

async fn recalculate(request: &Request, name: &str) -> Answer {
    let digests = request.namespace.digests(&request.path).await?;
    let checksum = headers::shown_checksum(name, &digests)
        .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "X-Recalculate-Hash is sha1, md5 or sha256"))?;
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Ok(value) = HeaderValue::try_from(checksum) {
        response.headers_mut().insert(HeaderName::from_static("oc-checksum"), value);
    }
    Ok(response)
}

async fn begin(
    request: &Request,
    offset: EditOffset,
    length: u64,
) -> Result<(UploadHandle, ContentId), Refused> {
    match request.namespace.begin_edit(&request.path, offset, length).await? {
        Edit::Begun { upload, content } => Ok((upload, content)),
        Edit::OutOfReach { size } => Err(Refused::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("the file has {size} bytes: the part would begin outside of it"),
        )),
    }
}

async fn finish(
    request: &Request,
    (said, body): (&Said, Incoming),
    (upload, content): (UploadHandle, ContentId),
) -> Done {
    said.fulfil(request, upload, body, Precondition::Content(content)).await.map_err(|error| match error {
        // Nobody asked for it: the file changed while the part was on its way.
        Unfulfilled::Refused(refused)
            if refused.status == StatusCode::PRECONDITION_FAILED && !request.is_conditional() =>
        {
            Unfulfilled::Refused(Refused::new(StatusCode::CONFLICT, "the file changed meanwhile"))
        }
        error @ (Unfulfilled::Refused(_) | Unfulfilled::Checksum) => error,
    })
}
