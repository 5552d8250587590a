//! PROPFIND (RFC 4918 section 9.1). The answer is streamed: a piece of the listing is read and written out while the client
//! takes the one before, so a directory of any size costs the same memory, and a client that does not read holds nothing
//! up but itself. What fits one piece has a length.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::task::JoinHandle;

use super::asked::Wanted;
use super::body::Incoming;
use super::dead;
use super::headers::{self, Depth};
use super::properties::{ROOT, ROOT_END, Resource};
use super::request::{Answer, Body, Request, push_segment, xml_answer};
use crate::limits::{LISTING_DESCRIBED_PIECE, LISTING_PIECE, PROPFIND_PIECE_BYTES};
use crate::vfs::{DirectoryEntry, DirectoryHandle, Follow, Kind, LocksSeen, Properties, VaultPath, VfsError};

/// PROPFIND.
///
/// # Errors
/// The refusal to answer with.
pub async fn find(request: Request, body: Incoming) -> Answer {
    let depth = headers::depth(&request.headers)?.unwrap_or(Depth::Infinity);
    let root = request.xml_body(body).await?;
    let wanted = match &root {
        None if headers::is_windows(&request.headers) => Wanted::Brief,
        root => Wanted::of(root.as_ref())?,
    };
    let found = request.found().await?;
    // Never a truncated answer, and never a walk of the whole store. A file has no depth: PyPI's webdav4 says none of it.
    if depth == Depth::Infinity && found.kind == Kind::Directory {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
                    <D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>\n";
        return Ok(xml_answer(StatusCode::FORBIDDEN, text.to_owned()));
    }
    let space = if wanted.needs_space() { Some(request.namespace.space(&request.path).await?) } else { None };
    let dead = if found.has_properties && wanted.needs_dead() {
        request.namespace.properties(&request.path).await?
    } else {
        Properties::new()
    };
    let dead = if found.kind == Kind::File && wanted.needs_checksums() {
        with_checksums(&request, &request.path, dead).await?
    } else {
        dead
    };
    let seen = if wanted.needs_locks() {
        Some(request.namespace.locks(&request.path, depth == Depth::One).await?)
    } else {
        None
    };
    let href = Request::href(&request.path, found.kind == Kind::Directory);
    let mut out = ROOT.to_owned();
    let own = Resource {
        href: &href,
        name: request.path.components().last().map_or(&[], Vec::as_slice),
        attributes: &found,
        dead: &dead,
        space,
        locks: seen.as_ref().map_or(&[], |seen| seen.itself.as_slice()),
        viewer: request.namespace.holder(),
        now: request.now,
    };
    own.describe(&mut out, &wanted);
    if depth == Depth::Zero || found.kind != Kind::Directory {
        out.push_str(ROOT_END);
        return Ok(xml_answer(StatusCode::MULTI_STATUS, out));
    }
    let directory = Some(request.namespace.open_directory(&request.path).await?);
    let checksums = wanted.needs_checksums();
    let mut listing = Listing { request, wanted, checksums, href, seen, directory, waiting: VecDeque::new() };
    // The first piece before the status: what cannot be read is refused, not broken off.
    listing.push_piece(&mut out).await?;
    if listing.directory.is_none() {
        return Ok(xml_answer(StatusCode::MULTI_STATUS, out));
    }
    let mut response = Response::new(streamed(out, listing));
    *response.status_mut() = StatusCode::MULTI_STATUS;
    let kind = HeaderValue::from_static("application/xml; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// With the digests that are kept of a file, in the place of what a client might have set under that name.
async fn with_checksums(
    request: &Request,
    path: &VaultPath,
    mut dead: Properties,
) -> Result<Properties, VfsError> {
    let key = dead::key(&dead::checksums());
    match request.namespace.kept_digests(path).await?.map(|kept| headers::shown_checksums(&kept)) {
        None => drop(dead.remove(&key)),
        Some(shown) => {
            let inner = format!("<checksum xmlns=\"{}\">{shown}</checksum>", dead::OWNCLOUD);
            dead.insert(key, inner.into_bytes());
        }
    }
    Ok(dead)
}

/// The members of a directory on their way out.
struct Listing {
    request: Request,
    wanted: Wanted,
    checksums: bool,
    /// Of the directory, with its slash at the end.
    href: String,
    /// Locks on it and on what is in it.
    seen: Option<LocksSeen>,
    /// Nothing once all was described.
    directory: Option<DirectoryHandle>,
    /// Read and not yet described.
    waiting: VecDeque<(DirectoryEntry, Option<Properties>)>,
}

impl Listing {
    /// Appends about [`PROPFIND_PIECE_BYTES`] of members, and the answer's end behind the last one.
    async fn push_piece(&mut self, out: &mut String) -> Result<(), VfsError> {
        while out.len() < PROPFIND_PIECE_BYTES {
            if let Some((entry, dead)) = self.waiting.pop_front() {
                self.push_member(entry, dead, out).await?;
                continue;
            }
            self.read().await?;
            if self.waiting.is_empty() {
                out.push_str(ROOT_END);
                self.directory = None;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), VfsError> {
        let Some(directory) = &mut self.directory else { return Ok(()) };
        self.waiting = if self.wanted.needs_dead() {
            directory.next_described(LISTING_DESCRIBED_PIECE).await?.into()
        } else {
            let entries = directory.next(LISTING_PIECE).await?;
            entries.into_iter().map(|entry| (entry, Some(Properties::new()))).collect()
        };
        Ok(())
    }

    async fn push_member(
        &mut self,
        entry: DirectoryEntry,
        dead: Option<Properties>,
        out: &mut String,
    ) -> Result<(), VfsError> {
        let (mut attributes, mut dead) = (entry.attributes, dead);
        if attributes.kind == Kind::SymbolicLink {
            // A link is what it leads to; one that leads nowhere is not shown.
            let path = self.request.path.join(&entry.name)?;
            match self.request.namespace.stat(&path, Follow::Yes).await {
                Ok(found) => attributes = found,
                Err(_) => return Ok(()),
            }
            dead = None;
        }
        let dead = match dead {
            Some(dead) => dead,
            None if attributes.has_properties && self.wanted.needs_dead() => {
                let path = self.request.path.join(&entry.name)?;
                self.request.namespace.properties(&path).await?
            }
            None => Properties::new(),
        };
        let dead = if attributes.kind == Kind::File && self.checksums {
            let path = self.request.path.join(&entry.name)?;
            with_checksums(&self.request, &path, dead).await?
        } else {
            dead
        };
        let own = self.href.len();
        push_segment(&mut self.href, &entry.name);
        if attributes.kind == Kind::Directory {
            self.href.push('/');
        }
        let locks = self.seen.as_ref().map_or_else(Vec::new, |seen| seen.of_member(attributes.inode));
        let resource = Resource {
            href: &self.href,
            name: &entry.name,
            attributes: &attributes,
            dead: &dead,
            space: None,
            locks: &locks,
            viewer: self.request.namespace.holder(),
            now: self.request.now,
        };
        resource.describe(out, &self.wanted);
        self.href.truncate(own);
        Ok(())
    }
}

type Piece = Result<(Listing, String), VfsError>;

fn ahead(mut listing: Listing) -> JoinHandle<Piece> {
    tokio::spawn(async move {
        let mut out = String::with_capacity(PROPFIND_PIECE_BYTES + PROPFIND_PIECE_BYTES / 8);
        listing.push_piece(&mut out).await?;
        Ok((listing, out))
    })
}

/// The first piece, then the others, one described ahead. What fails on the way breaks the answer off: it is never short.
fn streamed(first: String, listing: Listing) -> Body {
    let state = Some((first, listing.directory.is_some().then(|| ahead(listing))));
    let pieces = stream::unfold(state, |state| async move {
        let (piece, next) = state?;
        let state = match next {
            None => None,
            Some(next) => match next.await {
                Ok(Ok((listing, out))) => Some((out, listing.directory.is_some().then(|| ahead(listing)))),
                Ok(Err(error)) => return Some((Err(std::io::Error::other(error.to_string())), None)),
                Err(error) => return Some((Err(std::io::Error::other(error.to_string())), None)),
            },
        };
        Some((Ok(Frame::data(Bytes::from(piece))), state))
    });
    StreamBody::new(pieces).boxed_unsync()
}
