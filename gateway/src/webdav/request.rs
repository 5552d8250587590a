//! One request with what every method needs, and the answers they give.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full};

use super::body::Incoming;
use super::headers::IfList;
use super::settings::Live;
use super::status::{Refused, refuse};
use super::xml::{self, Element, XmlError};
use crate::limits::XML_BYTES_MAX;
use crate::vfs::{Attributes, Follow, Kind, Namespace, StoreError, VaultPath, VfsError};

/// A body on its way out.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Answer = Result<Response<Body>, Refused>;

/// What the listener knows.
#[derive(Debug)]
pub struct Shared {
    /// What may change meanwhile.
    pub settings: Live,
}

/// Where something lies for good, whoever sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The vault.
    pub vault: [u8; 16],
    /// Names inside it, outermost first.
    pub names: Vec<Vec<u8>>,
}

impl Place {
    /// Whether this is `above` or lies below it.
    pub fn is_at_or_below(&self, above: &Self) -> bool {
        self.vault == above.vault && self.names.starts_with(&above.names)
    }
}

/// A request whose sender was proven.
#[derive(Debug)]
pub struct Request {
    /// What the listener knows.
    pub shared: Arc<Shared>,
    /// The sender's files.
    pub namespace: Namespace,
    /// What it is about.
    pub path: VaultPath,
    /// The path ended with `/`.
    pub names_collection: bool,
    /// Headers.
    pub headers: HeaderMap,
    /// The `If` header.
    pub if_lists: Vec<IfList>,
    /// `Host`.
    pub host: Option<String>,
    /// Nanoseconds since 1970.
    pub now: i64,
}

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// An answer in XML.
pub fn xml_answer(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    response
}

/// A refusal in words; in XML where a standard names what should have held. The words are then where the clients that read
/// them (rclone, those of Nextcloud) look: in elements of sabre/dav.
pub fn refusal(refused: &Refused) -> Response<Body> {
    if let Some(condition) = refused.condition {
        let hrefs: Vec<String> = refused
            .hrefs
            .iter()
            .map(|href| format!("<D:href>{}</D:href>", quick_xml::escape::escape(href)))
            .collect();
        let element = match hrefs.concat() {
            hrefs if hrefs.is_empty() => format!("<D:{condition}/>"),
            hrefs => format!("<D:{condition}>{hrefs}</D:{condition}>"),
        };
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <D:error xmlns:D=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\">{element}\
             <s:exception>{condition}</s:exception><s:message>{}</s:message></D:error>\n",
            quick_xml::escape::escape(&refused.reason)
        );
        return xml_answer(refused.status, text);
    }
    let mut response = Response::new(full(format!("{}\n", refused.reason)));
    *response.status_mut() = refused.status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An entity tag: changes with every committed content.
pub fn etag(attributes: &Attributes) -> String {
    format!("\"{:x}-{:x}\"", attributes.inode.0, attributes.content.0)
}

/// Puts an entity tag into an answer's headers.
pub fn put_etag(headers: &mut HeaderMap, attributes: &Attributes) {
    if let Ok(value) = HeaderValue::try_from(etag(attributes)) {
        headers.insert(header::ETAG, value);
    }
}

/// Headers that keep a browser from running what it downloads.
pub fn put_safety(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
}

impl Request {
    /// What is there; nothing when there is nothing.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn existing(&self, path: &VaultPath) -> Result<Option<Attributes>, Refused> {
        match self.namespace.stat(path, Follow::Yes).await {
            Ok(attributes) => Ok(Some(attributes)),
            Err(VfsError::Store(StoreError::NotFound)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn found(&self) -> Result<Attributes, Refused> {
        match self.existing(&self.path).await? {
            Some(attributes) => Ok(attributes),
            None => refuse(StatusCode::NOT_FOUND, "no such file or directory"),
        }
    }

    /// Refuses when a new name's directory is not there.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn parent_is_there(&self, path: &VaultPath) -> Result<(), Refused> {
        let Some((parent, _)) = path.split_last() else { return Ok(()) };
        match self.existing(&parent).await? {
            Some(attributes) if attributes.kind == Kind::Directory => Ok(()),
            Some(_) | None => refuse(StatusCode::CONFLICT, "the directory it would be in does not exist"),
        }
    }

    /// Where a path lies.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn place(&self, path: &VaultPath) -> Result<Place, Refused> {
        let (vault, names) = self.namespace.location(path).await?;
        Ok(Place { vault: vault.0, names })
    }

    /// The whole body, bounded.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn small_body(&self, body: Incoming) -> Result<Bytes, Refused> {
        let mut stream = BodyStream::new(body);
        let mut bytes = BytesMut::new();
        while let Some(frame) = stream.next().await {
            let frame = frame.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > XML_BYTES_MAX {
                    return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB");
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes.freeze())
    }

    /// The body as XML; nothing when there is none.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn xml_body(&self, body: Incoming) -> Result<Option<Element>, Refused> {
        let bytes = self.small_body(body).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        match xml::parse(&bytes) {
            Ok(root) => Ok(Some(root)),
            Err(error @ XmlError::TooLarge) => refuse(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    /// A path as an href.
    pub fn href(path: &VaultPath, is_collection: bool) -> String {
        let mut href = String::new();
        for name in path.components() {
            href.push('/');
            push_segment(&mut href, name);
        }
        if is_collection || href.is_empty() {
            href.push('/');
        }
        href
    }
}

/// Appends a name as a segment of an href, whatever bytes it has.
pub fn push_segment(href: &mut String, name: &[u8]) {
    href.extend(percent_encoding::percent_encode(name, HREF));
}

/// What is encoded in a path segment: all but RFC 3986's unreserved characters.
const HREF: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
