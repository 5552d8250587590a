//! Uploads in parts as Nextcloud has them ("chunked upload v2"), for rclone and desktop clients: MKCOL of an upload, PUT of its
//! parts in any order, PROPFIND to resume, MOVE of its `.file` to where the whole goes, DELETE to give it up.
//!
//! They lie at `/remote.php/dav/uploads/USER/ID`, and files also at `/remote.php/dav/files/USER/...`: clients make one address of
//! the other. Only these two are taken from the namespace, for the user of the request's own name; a directory called
//! `uploads` is the user's own. What a credential begins, no other one sees.

use std::fmt::Write as _;

use http::{HeaderName, StatusCode};
use quick_xml::escape::escape;

use super::body::Incoming;
use super::headers::{self, Depth};
use super::put::{Said, Unfulfilled, answer};
use super::request::{Answer, Request, empty, etag, xml_answer};
use super::status::{Refused, refuse};
use crate::limits::{PART_NAME_BYTES_MAX, PARTS_ID_BYTES_MAX};
use crate::vfs::{Assembly, AttributeChange, Kind, Part, Precondition, Reach, VaultPath};

const NANOS: i64 = 1_000_000_000;
/// What stands for the whole of an upload.
const WHOLE: &[u8] = b".file";

/// Where Nextcloud shows something of a user.
fn shown_at(kind: &[u8], user: &str) -> Vec<Vec<u8>> {
    // A user name on the wire may begin with its customer's.
    let user = user.rsplit('/').next().unwrap_or(user);
    vec![b"remote.php".to_vec(), b"dav".to_vec(), kind.to_vec(), user.as_bytes().to_vec()]
}

/// Where clients of Nextcloud look for a user's files.
pub fn files_at(user: &str) -> Vec<Vec<u8>> {
    shown_at(b"files", user)
}

/// What of uploads a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The collection of all of them.
    All,
    /// One upload.
    Upload(Vec<u8>),
    /// A part of one.
    Part(Vec<u8>, Vec<u8>),
    /// The whole that it will be.
    Whole(Vec<u8>),
}

/// What of a user's uploads a path names; nothing when it is a path of the namespace.
///
/// # Errors
/// 400, 404: below the uploads, and no name for one.
pub fn place(path: &VaultPath, user: &str) -> Result<Option<Place>, Refused> {
    let at = shown_at(b"uploads", user);
    let Some(rest) = path.components().strip_prefix(at.as_slice()) else { return Ok(None) };
    let id = |id: &Vec<u8>| match id.len() {
        1..=PARTS_ID_BYTES_MAX => Ok(id.clone()),
        _ => refuse(StatusCode::BAD_REQUEST, "the name of the upload is too long"),
    };
    Ok(Some(match rest {
        [] => Place::All,
        [upload] => Place::Upload(id(upload)?),
        [upload, whole] if whole == WHOLE => Place::Whole(id(upload)?),
        [upload, part] if is_part_name(part) => Place::Part(id(upload)?, part.clone()),
        [_, _] => return refuse(StatusCode::BAD_REQUEST, "a part is named by its number or its offsets"),
        _ => return refuse(StatusCode::NOT_FOUND, "an upload has parts, and nothing below them"),
    }))
}

/// A count, an offset, or two offsets: parts are put in the order of the first number.
fn is_part_name(name: &[u8]) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    name.len() <= PART_NAME_BYTES_MAX && name.splitn(2, |byte| *byte == b'-').all(is_number)
}

/// Answers a request about uploads.
///
/// # Errors
/// The refusal to answer with.
pub async fn serve(request: &Request, method: &str, place: Place, body: Incoming) -> Answer {
    match (method, place) {
        ("MKCOL", Place::Upload(id)) => begin(request, &id, body).await,
        ("PUT", Place::Part(id, name)) => {
            if request.headers.contains_key(http::header::CONTENT_RANGE) {
                return refuse(StatusCode::BAD_REQUEST, "a part of an upload is put whole");
            }
            let said = Said::of(request, &body)?;
            let upload = request.namespace.begin_part(&id, &name, said.length).await?;
            let done = said.fulfil(request, upload, body, Precondition::None).await;
            answer(request, &said, None, done).await
        }
        ("PROPFIND", Place::All) => {
            request.small_body(body).await?;
            Ok(described(&request.path, &[]))
        }
        ("PROPFIND", Place::Upload(id)) => {
            request.small_body(body).await?;
            let mut parts = request.namespace.parts(&id).await?;
            if headers::depth(&request.headers)? == Some(Depth::Zero) {
                parts.clear();
            }
            Ok(described(&request.path, &parts))
        }
        ("DELETE", Place::Upload(id)) => {
            request.namespace.abandon_parts(&id, None).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        ("DELETE", Place::Part(id, name)) => {
            request.namespace.abandon_parts(&id, Some(&name)).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        ("MOVE", Place::Whole(id)) => assemble(request, &id, body).await,
        _ => refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "uploads are begun, put in parts, listed, moved or deleted",
        ),
    }
}

/// MKCOL. Newer clients tell the target here, so that its vault keeps the parts.
async fn begin(request: &Request, id: &[u8], body: Incoming) -> Answer {
    if !request.small_body(body).await?.is_empty() {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MKCOL takes no body");
    }
    let target = if request.headers.contains_key("destination") { Some(target(request)?) } else { None };
    request.namespace.begin_parts(id, target.as_ref()).await?;
    Ok(empty(StatusCode::CREATED))
}

fn target(request: &Request) -> Result<VaultPath, Refused> {
    headers::destination(
        &request.headers,
        request.host.as_deref(),
        &request.shared.settings.now().public_names,
    )
}

/// MOVE of the whole to its target: conditions and locks are those of a PUT there.
async fn assemble(request: &Request, id: &[u8], body: Incoming) -> Answer {
    let target = target(request)?;
    let said = Said::of(request, &body)?;
    let promised = match headers::text(&request.headers, &HeaderName::from_static("oc-total-length"))? {
        None => None,
        Some(text) => match text.parse::<u64>() {
            Ok(bytes) => Some(bytes),
            Err(_) => return refuse(StatusCode::BAD_REQUEST, "OC-Total-Length is a number of bytes"),
        },
    };
    request.namespace.is_present(crate::vfs::Action::FileWrite, &target).await?;
    let found = request.existing(&target).await?;
    let precondition = match &found {
        Some(found) if found.kind == Kind::Directory => {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "there is a directory of that name");
        }
        Some(_) if !headers::overwrite(&request.headers)? => {
            return refuse(StatusCode::PRECONDITION_FAILED, "the destination exists");
        }
        // What the If header holds true must stay so.
        Some(found) if request.headers.contains_key("if") => Precondition::Content(found.content),
        Some(_) => Precondition::None,
        None if headers::overwrite(&request.headers)? => Precondition::None,
        None => Precondition::Absent,
    };
    if found.is_none() {
        request.parent_is_there(&target).await?;
    }
    let reach = if found.is_some() { Reach::Itself } else { Reach::Name };
    request.may_change(&[(&target, reach)]).await?;
    if let Some(promised) = promised {
        let there: u64 = request.namespace.parts(id).await?.iter().map(|part| part.attributes.size).sum();
        if there != promised {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                format!("the parts have {there} bytes and not {promised}"),
            ));
        }
    }
    let (attributes, expected): (AttributeChange, _) = (said.attributes(), said.checksums());
    let assembly = Assembly { target: target.clone(), precondition, attributes, expected };
    let done = request.namespace.assemble(id, assembly).await.map_err(Unfulfilled::from);
    answer(request, &said, Some(&target), done).await
}

/// A listing: what a client needs to know which parts are there.
fn described(path: &VaultPath, parts: &[Part]) -> http::Response<super::request::Body> {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">");
    let mut put = |href: &str, properties: &str| {
        let _written = write!(
            out,
            "<D:response><D:href>{}</D:href><D:propstat><D:prop>{properties}</D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
            escape(href)
        );
    };
    put(&Request::href(path, true), "<D:resourcetype><D:collection/></D:resourcetype>");
    for Part { name, attributes } in parts {
        let Ok(path) = path.join(name) else { continue };
        let properties = format!(
            "<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength><D:getetag>{}</D:getetag>\
             <D:getlastmodified>{}</D:getlastmodified>",
            attributes.size,
            escape(etag(attributes)),
            headers::date(attributes.mtime.0.div_euclid(NANOS))
        );
        put(&Request::href(&path, false), &properties);
    }
    out.push_str("</D:multistatus>\n");
    xml_answer(StatusCode::MULTI_STATUS, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_those_of_the_requests_own_user_and_nothing_else_is_taken() {
        let of = |path: &str| place(&VaultPath::parse(path.as_bytes()).unwrap(), "acme/anna");
        let at = "/remote.php/dav/uploads/anna";
        assert_eq!(of(at).unwrap(), Some(Place::All));
        assert_eq!(of(&format!("{at}/x")).unwrap(), Some(Place::Upload(b"x".to_vec())));
        assert_eq!(of(&format!("{at}/x/.file")).unwrap(), Some(Place::Whole(b"x".to_vec())));
        for part in ["1", "00007", "000000000000000-000000010485759"] {
            let found = Some(Place::Part(b"x".to_vec(), part.as_bytes().to_vec()));
            assert_eq!(of(&format!("{at}/x/{part}")).unwrap(), found);
        }
        for bad in ["a", "1-", "-1", "1-2-3", "1.5", &"1".repeat(65)] {
            assert!(of(&format!("{at}/x/{bad}")).is_err(), "{bad}");
        }
        assert!(of(&format!("{at}/{}", "x".repeat(129))).is_err());
        assert!(of(&format!("{at}/x/1/2")).is_err());
        for other in [
            "/uploads/anna/x",
            "/remote.php/dav/uploads/otto/x",
            "/remote.php/dav/files/anna/x",
            "/remote.php",
        ] {
            assert_eq!(of(other).unwrap(), None, "{other}");
        }
    }
}
