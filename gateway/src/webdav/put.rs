//! PUT: bytes in. All or nothing: the old file stays until the new one is whole and has the digest that was promised.
//!
//! Order: whatever the head alone can refuse (conditions, locks, policy, quota, what cannot be read of it) comes before the
//! first byte of the body is asked for, so `Expect: 100-continue` saves its sender the way.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyStream;
use hyper::body::Body as _;

use super::body::Incoming;
use super::headers;
use super::request::{Answer, Body, Request, empty, etag, put_etag, xml_answer};
use super::status::{Refused, refuse};
use crate::limits::{PUT_PIECE_BYTES, STALL_SECS_MAX};
use crate::vfs::{
    AttributeChange, Attributes, Checksum, Kind, Precondition, Reach, UnixNanos, UploadHandle, VaultId,
    VaultPath, VfsError,
};

const NANOS: i64 = 1_000_000_000;

/// What a client says of the file that it sends.
#[derive(Debug, Clone)]
pub struct Said {
    mtime: Option<UnixNanos>,
    checksums: Vec<Checksum>,
    /// Bytes of the body, by its length or by what Finder says of one without.
    pub length: Option<u64>,
}

impl Said {
    /// Reads it off the head.
    ///
    /// # Errors
    /// 400: what cannot be read; 415: an encoding that would have to be undone.
    pub fn of(request: &Request, body: &Incoming) -> Result<Self, Refused> {
        let encoding = headers::text(&request.headers, &header::CONTENT_ENCODING)?;
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let reason = "bytes are stored as they come: Content-Encoding is not taken";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
        }
        let number = |name| match headers::text(&request.headers, &HeaderName::from_static(name))? {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => refuse(StatusCode::BAD_REQUEST, "a length is not a number of bytes"),
            },
        };
        let length = body.size_hint().exact().or(number("x-expected-entity-length")?);
        Ok(Self { checksums: headers::checksums(&request.headers)?, length, mtime: Self::mtime(request)? })
    }

    /// X-OC-Mtime.
    fn mtime(request: &Request) -> Result<Option<UnixNanos>, Refused> {
        match headers::text(&request.headers, &HeaderName::from_static("x-oc-mtime"))? {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(secs) => Ok(Some(UnixNanos(secs.saturating_mul(NANOS)))),
                Err(_) => refuse(StatusCode::BAD_REQUEST, "X-OC-Mtime is seconds since 1970"),
            },
        }
    }

    /// What of it goes to the file's attributes.
    pub fn attributes(&self) -> AttributeChange {
        AttributeChange { mtime: self.mtime, ..AttributeChange::default() }
    }

    /// What it says of the content's digests.
    pub fn checksums(&self) -> Vec<Checksum> {
        self.checksums.clone()
    }

    /// The same of a body whose length is known from elsewhere.
    #[must_use]
    pub fn of_length(&self, length: u64) -> Self {
        Self { length: Some(length), ..self.clone() }
    }

    /// Takes the body of a request into an upload, and makes it the file.
    ///
    /// # Errors
    /// The refusal to answer with: the old file stays.
    pub async fn fulfil(
        &self,
        request: &Request,
        mut upload: UploadHandle,
        body: Incoming,
        precondition: Precondition,
    ) -> Result<(Attributes, bool), Unfulfilled> {
        upload.expect(self.checksums());
        let upload = receive(request, upload, body, self.length).await?;
        upload.commit(precondition, self.attributes()).await.map_err(Unfulfilled::from)
    }
}

/// Why an upload did not become a file.
#[derive(Debug)]
pub enum Unfulfilled {
    /// Something else came than what was announced.
    Checksum,
    /// For any other reason.
    Refused(Refused),
}

impl From<Refused> for Unfulfilled {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<VfsError> for Unfulfilled {
    fn from(error: VfsError) -> Self {
        if matches!(error, VfsError::ChecksumMismatch) { Self::Checksum } else { Self::Refused(error.into()) }
    }
}

/// The answer to an upload; `path` is that of the file that it made.
///
/// # Errors
/// The refusal to answer with.
pub async fn answer(
    request: &Request,
    said: &Said,
    path: Option<&VaultPath>,
    done: Result<(Attributes, bool), Unfulfilled>,
) -> Answer {
    let (now, is_new) = match done {
        Ok(done) => done,
        Err(Unfulfilled::Refused(refused)) => return Err(refused),
        Err(Unfulfilled::Checksum) => return Ok(mismatch()),
    };
    let mut response = empty(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT });
    let headers = response.headers_mut();
    put_etag(headers, &now);
    if said.mtime.is_some() {
        headers.insert(HeaderName::from_static("x-oc-mtime"), HeaderValue::from_static("accepted"));
    }
    // Clients of ownCloud and Nextcloud know files by these.
    let asks = |name: &HeaderName| name.as_str().starts_with("oc-") || name.as_str().starts_with("x-oc-");
    if let Some(path) = path.filter(|_| request.headers.keys().any(asks)) {
        let vault = VaultId(request.place(path).await?.vault);
        if let Ok(value) = HeaderValue::try_from(format!("{:08}{vault}", now.inode.0)) {
            headers.insert(HeaderName::from_static("oc-fileid"), value);
        }
        if let Ok(value) = HeaderValue::try_from(etag(&now)) {
            headers.insert(HeaderName::from_static("oc-etag"), value);
        }
    }
    Ok(response)
}

/// A refusal as sabre/dav words it: that is where clients of ownCloud read.
fn mismatch() -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\">\
         <s:exception>Sabre\\DAV\\Exception\\BadRequest</s:exception><s:message>{}</s:message></d:error>\n",
        VfsError::ChecksumMismatch
    );
    xml_answer(StatusCode::BAD_REQUEST, text)
}

/// PUT.
///
/// # Errors
/// The refusal to answer with.
pub async fn put(request: &Request, body: Incoming) -> Answer {
    let said = Said::of(request, &body)?;
    let (_, precondition) = may_put(request).await?;
    let upload = request.namespace.begin_upload(&request.path, said.length).await?;
    let done = said.fulfil(request, upload, body, precondition).await;
    answer(request, &said, Some(&request.path), done).await
}

/// Refuses what must not come to where the request points; tells what is there, and what must still hold when the upload
/// commits.
///
/// # Errors
/// The refusal to answer with.
pub async fn may_put(request: &Request) -> Result<(Option<Attributes>, Precondition), Refused> {
    if request.names_collection {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "a directory cannot be put");
    }
    let found = request.existing(&request.path).await?;
    if found.as_ref().is_some_and(|found| found.kind == Kind::Directory) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "there is a directory of that name");
    }
    if found.is_none() {
        request.parent_is_there(&request.path).await?;
    }
    let reach = if found.is_some() { Reach::Itself } else { Reach::Name };
    request.may_change(&[(&request.path, reach)]).await?;
    // What other conditions rested on, the store looks at again by itself.
    let precondition = match headers::if_none_match(&request.headers) {
        Some(headers::Tags::Any) => Precondition::Absent,
        Some(headers::Tags::List(_)) | None => Precondition::None,
    };
    Ok((found, precondition))
}

async fn receive(
    request: &Request,
    mut upload: UploadHandle,
    body: Incoming,
    promised: Option<u64>,
) -> Result<UploadHandle, Refused> {
    let ended = request.namespace.session().ended.clone();
    let (mut stream, mut received, mut waiting) = (BodyStream::new(body), 0_u64, BytesMut::new());
    let wrong_length = || refuse(StatusCode::BAD_REQUEST, "the body is not as long as it was said to be");
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
        if promised.is_some_and(|promised| received > promised) {
            return wrong_length();
        }
        waiting.extend_from_slice(&data);
        if waiting.len() >= PUT_PIECE_BYTES {
            upload.write(waiting.split().freeze()).await?;
            waiting.reserve(PUT_PIECE_BYTES + 64 * 1024);
        }
    }
    if promised.is_some_and(|promised| promised != received) {
        return wrong_length();
    }
    if !waiting.is_empty() {
        upload.write(waiting.freeze()).await?;
    }
    Ok(upload)
}
