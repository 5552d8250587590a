//! What must hold for any bytes: one function for each parser of what clients send. The fuzz targets search for bytes that
//! break one; `replay.rs` runs all that were ever found interesting.

use bytes::Bytes;
use coffre::limits::{IF_LISTS_MAX, SFTP_FRAME_BYTES_MAX, SFTP_IDS_MAX, XML_BYTES_MAX, XML_DEPTH_MAX};
use coffre::sftp::attributes::{self, Owners};
use coffre::sftp::reply::Reply;
use coffre::sftp::wire::{Assembly, Frame, HandleRequest, PathRequest, Request, ServerRequest, parse};
use coffre::vfs::point::{Spelling, name_of, time_of};
use coffre::vfs::{Attributes, ContentId, InodeId, Kind, UnixNanos, VaultPath};
use coffre::webdav::headers;
use coffre::webdav::locks::{token_of, token_uri};
use coffre::webdav::request::Request as WebRequest;
use coffre::webdav::xml::{self, Element, Node};
use coffre_auth::credential::app_token::AppToken;
use coffre_auth::credential::recovery::RecoveryCode;
use coffre_auth::credential::ssh_certificate::{Authority, Claim};
use coffre_auth::credential::tls_certificate::ClientCertificate;
use coffre_auth::credential::totp::TotpSecret;
use coffre_auth::limits::{CERTIFICATE_KEY_ID_BYTES_MAX, CERTIFICATE_SLACK_SECS, TLS_SUBJECT_CHARS_MAX};
use coffre_auth::{CredentialId, CustomerId};
use coffre_storage::audit::proof::{ConsistencyProof, InclusionProof};
use coffre_storage::audit::record::{RECORD_BYTES_MAX, decode_record, outline};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Frames of a stream that comes in pieces of `piece` bytes, and whether the stream broke.
fn frames(stream: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let (mut assembly, mut frames) = (Assembly::default(), Vec::new());
    for mut bytes in stream.chunks(piece.max(1)) {
        while !bytes.is_empty() {
            match assembly.feed(&mut bytes) {
                Ok(frame) => frames.extend(frame),
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// Strings of a request.
fn strings(request: &Request) -> Vec<&Bytes> {
    match request {
        Request::OnHandle(handle, request) => match request {
            HandleRequest::Write { data, .. } => vec![handle, data],
            HandleRequest::CopyData { to, .. } => vec![handle, to],
            HandleRequest::CheckFile(check) => vec![handle, &check.algorithms],
            HandleRequest::Close
            | HandleRequest::Read { .. }
            | HandleRequest::FStat
            | HandleRequest::FSetStat { .. }
            | HandleRequest::ReadDir
            | HandleRequest::FStatVfs
            | HandleRequest::FSync => vec![handle],
        },
        Request::OnPath(request) => match request {
            PathRequest::Rename { from, to } | PathRequest::PosixRename { from, to } => vec![from, to],
            PathRequest::HardLink { existing, path } => vec![existing, path],
            PathRequest::Symlink { first, second } => vec![first, second],
            PathRequest::CheckFile { path, check } => vec![path, &check.algorithms],
            PathRequest::Open { path, .. }
            | PathRequest::LStat { path }
            | PathRequest::SetStat { path, .. }
            | PathRequest::LSetStat { path, .. }
            | PathRequest::OpenDir { path }
            | PathRequest::Remove { path }
            | PathRequest::MkDir { path, .. }
            | PathRequest::RmDir { path }
            | PathRequest::RealPath { path }
            | PathRequest::ExpandPath { path }
            | PathRequest::Stat { path }
            | PathRequest::StatVfs { path }
            | PathRequest::ReadLink { path } => vec![path],
        },
        Request::OfServer(ServerRequest::HomeDirectory { user }) => vec![user],
        Request::OfServer(ServerRequest::UsersGroupsById { users, groups }) => {
            assert!(users.len() <= SFTP_IDS_MAX && groups.len() <= SFTP_IDS_MAX);
            Vec::new()
        }
        Request::OfServer(ServerRequest::Limits) | Request::Unknown => Vec::new(),
    }
}

/// A stream of packets means the same in whatever pieces it comes; no frame is larger than it may be; a request holds no more
/// than its frame; after a framing error nothing is understood.
///
/// # Panics
/// When it does not hold.
pub(super) fn packets(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let (whole, broken) = frames(stream, stream.len());
    assert_eq!((&whole, broken), (&frames(stream, usize::from(*piece)).0, frames(stream, 1).1));
    for frame in whole {
        assert!((1..=SFTP_FRAME_BYTES_MAX as usize).contains(&frame.len()));
        let len = frame.len();
        match parse(frame) {
            Ok(Frame::Request(_, Ok(request))) => {
                assert!(strings(&request).iter().map(|string| string.len() + 4).sum::<usize>() <= len);
            }
            Ok(Frame::Request(_, Err(_)) | Frame::Init(_)) => {}
            Err(_) => assert!(len < 5, "a packet with a number is answered under it"),
        }
    }
}

/// What is taken for a path has one spelling, which means itself, and names that lead nowhere else.
///
/// # Panics
/// When it does not hold.
pub(super) fn paths(bytes: &[u8]) {
    let Ok(path) = VaultPath::parse(bytes) else { return };
    let spelt = path.to_bytes();
    assert!(spelt.starts_with(b"/") && spelt.len() <= bytes.len() + 1);
    assert!(VaultPath::parse(&spelt).map_or(spelt.len() > 4096, |again| again == path));
    for name in path.components() {
        assert!((1..=255).contains(&name.len()) && !name.contains(&0) && !name.contains(&b'/'));
        assert!(name != b"." && name != b"..");
    }
    if let Some((above, name)) = path.split_last() {
        assert!(above.join(name).map_or(spelt.len() > 4096, |again| again == path));
        assert!(path.starts_with(&above) && !above.starts_with(&path));
    }
    assert_eq!(
        VaultPath::parse_within(bytes),
        Ok(path.clone()),
        "only what climbs is understood in two ways"
    );
    assert!(path.starts_with(&VaultPath::root()));
}

/// Attributes of any kind are taken or refused; what is taken can be shown again, in an answer and as a line of a listing.
///
/// # Panics
/// When it does not hold.
pub(super) fn attributes(bytes: &[u8]) {
    let frame = [&[9, 0, 0, 0, 7, 0, 0, 0, 2][..], b"/a", bytes].concat();
    let Ok(Frame::Request(7, Ok(Request::OnPath(PathRequest::SetStat { attributes: sent, .. })))) =
        parse(frame.into())
    else {
        return;
    };
    let change = sent.change();
    assert!(change.mode.is_none_or(|mode| mode <= 0o7777));
    let own = Attributes {
        inode: InodeId(1),
        kind: Kind::File,
        size: sent.size.unwrap_or(0),
        mode: change.mode.unwrap_or(0),
        uid: change.uid.unwrap_or(0),
        gid: change.gid.unwrap_or(0),
        atime: change.atime.unwrap_or(UnixNanos(i64::MIN)),
        mtime: change.mtime.unwrap_or(UnixNanos(i64::MAX)),
        ctime: UnixNanos(0),
        links: u32::MAX,
        content: ContentId(0),
        blake3: None,
        incomplete: false,
        has_properties: false,
    };
    let mut reply = Reply::attributes(7);
    attributes::put(&mut reply, &own);
    let shown = reply.finish();
    if let Some((atime, mtime)) = sent.times {
        let times = [atime.to_be_bytes(), mtime.to_be_bytes()].concat();
        assert!(shown.ends_with(&times), "times come back as they were sent");
    }
    let owners = Owners { user: "user".to_owned(), group: "customer".to_owned() };
    let line = attributes::long_name(b"na\xffme", &own, &owners, change.atime.unwrap_or(UnixNanos(i64::MIN)));
    assert!(line.ends_with(b" na\xffme") && !line.contains(&b'\n'));
}

/// What is taken for a moment has a name that means the same moment.
///
/// # Panics
/// When it does not hold.
pub(super) fn moments(bytes: &[u8]) {
    let Some(time) = time_of(bytes) else { return };
    for spelling in [Spelling::Colons, Spelling::NoColons] {
        assert_eq!(time_of(name_of(time, spelling).as_bytes()), Some(time));
    }
}

fn header(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
}

fn depth_of(element: &Element) -> usize {
    1 + element.elements().map(depth_of).max().unwrap_or(0)
}

/// The element without what writing it anew may change: text in pieces, and the order of attributes.
fn canonical(element: &Element) -> Element {
    let mut children: Vec<Node> = Vec::new();
    for child in &element.children {
        match (children.last_mut(), child) {
            (Some(Node::Text(before)), Node::Text(text)) => before.push_str(text),
            (_, Node::Text(text)) => children.push(Node::Text(text.clone())),
            (_, Node::Element(element)) => children.push(Node::Element(canonical(element))),
        }
    }
    children.retain(|child| *child != Node::Text(String::new()));
    let mut attributes = element.attributes.clone();
    attributes.sort();
    Element { name: element.name.clone(), attributes, children }
}

/// What is taken for XML is bounded, and what is stored of it reads back as the same elements.
///
/// # Panics
/// When it does not hold.
pub(super) fn xml_bodies(bytes: &[u8]) {
    let Ok(root) = xml::parse(bytes) else { return };
    assert!(bytes.len() <= XML_BYTES_MAX && depth_of(&root) <= XML_DEPTH_MAX);
    for property in root.elements() {
        let inner = property.inner_xml();
        let again = format!("<p xmlns=\"\">{inner}</p>");
        match xml::parse(again.as_bytes()) {
            Ok(read) => assert_eq!(canonical(&read).children, canonical(property).children, "{inner}"),
            // Written out it may be longer.
            Err(error) => assert_eq!(error, xml::XmlError::TooLarge, "{inner}"),
        }
    }
}

/// An `If` header is read as a bounded number of lists, none of them empty, or refused.
///
/// # Panics
/// When it does not hold.
pub(super) fn conditions(bytes: &[u8]) {
    let Some(sent) = header("if", bytes) else { return };
    let Ok(lists) = headers::if_lists(&sent) else { return };
    assert!((1..=IF_LISTS_MAX).contains(&lists.len()));
    let tagged = lists.iter().filter(|list| list.resource.is_some()).count();
    assert!(tagged == 0 || tagged == lists.len(), "lists with and without a resource are not mixed");
    for list in &lists {
        assert!(!list.conditions.is_empty());
        for condition in &list.conditions {
            if let headers::StateToken::Lock(uri) = &condition.state
                && let Some(token) = token_of(uri)
            {
                assert_eq!(token_uri(token), uri.to_ascii_lowercase());
            }
        }
    }
    for name in ["if-match", "if-none-match", "lock-token", "timeout", "depth", "overwrite"] {
        let Some(sent) = header(name, bytes) else { continue };
        let secs = headers::timeout(&sent).as_secs();
        assert!((1..=coffre::limits::LOCK_SECS_MAX).contains(&secs));
        drop((headers::if_match(&sent), headers::depth(&sent), headers::overwrite(&sent)));
        drop((headers::if_none_match(&sent), headers::lock_token(&sent)));
    }
}

/// A Destination leads to a path of this host that means itself, or nowhere.
///
/// # Panics
/// When it does not hold.
pub(super) fn destinations(bytes: &[u8]) {
    let Some(sent) = header("destination", bytes) else { return };
    let Ok(path) = headers::destination(&sent, Some("files.example:8443"), &["other.example".to_owned()])
    else {
        return;
    };
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let ours = ["files.example:8443", "other.example"].iter().any(|host| text.contains(host));
    assert!(ours || text.trim().starts_with('/'), "another host's: {text}");
    is_itself(&path);
}

/// What is taken for a URL's path is written as an href that leads to the same names.
///
/// # Panics
/// When it does not hold.
pub(super) fn urls(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = headers::path(text) else { return };
    is_itself(&path);
}

fn is_itself(path: &VaultPath) {
    for name in path.components() {
        assert!((1..=255).contains(&name.len()) && !name.contains(&0) && !name.contains(&b'/'));
        assert!(name != b"." && name != b"..");
    }
    let href = WebRequest::href(path, false);
    assert!(href.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte)), "{href}");
    assert_eq!(headers::path(&href).ok().as_ref(), Some(path), "{href}");
}

/// A range lies inside of what there is.
///
/// # Panics
/// When it does not hold.
pub(super) fn ranges(bytes: &[u8]) {
    let Some((size, spec)) = bytes.split_first_chunk::<8>() else { return };
    let size = u64::from_be_bytes(*size);
    let Some(sent) = header("range", spec) else { return };
    if let headers::Range::Part(from, to) = headers::range(&sent, size) {
        assert!(from < to && to <= size);
    }
}

/// A record that reads whole says in its first fields what it says as a whole; proofs that read come back as they were.
pub(crate) fn audit(bytes: &[u8]) {
    if let Some(record) = decode_record(bytes).filter(|_| bytes.len() <= RECORD_BYTES_MAX) {
        let seen = outline(bytes);
        // Fields in another order than they are written in are read whole only.
        if let Some(seen) = seen {
            assert_eq!((seen.number, seen.utc), (record.number, record.utc));
        }
        assert!(record.sealed_details.as_ref().is_none_or(|details| details.len() <= bytes.len()));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(proof) = InclusionProof::parse(text) {
        assert_eq!(InclusionProof::parse(&proof.text()).as_ref(), Some(&proof));
        for size in [0, 1, proof.index.saturating_add(1), u64::MAX] {
            assert!(proof.root(size).is_none() || proof.index < size);
        }
    }
    if let Some(proof) = ConsistencyProof::parse(text) {
        assert_eq!(ConsistencyProof::parse(&proof.text()), Some(proof));
    }
}

/// Bytes of the secret that one-time codes are matched against: RFC 6238 appendix B.
const TOTP_SECRET: &[u8; 20] = b"12345678901234567890";

/// What people and programs type to prove who they are: an app token, a recovery code, a one-time code. The first eight bytes are
/// a time.
///
/// # Panics
/// When something is read as what it is not.
pub(crate) fn secrets(bytes: &[u8]) {
    let (time, text) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], bytes));
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Some(token) = AppToken::parse(text) {
        assert_eq!(token.expose(), text, "a token has one spelling");
        assert!(text.contains(&token.id().0), "it says which it is");
        let mac = token.mac(&[1; 32]);
        assert!(token.matches(&[1; 32], &mac) && !token.matches(&[2; 32], &mac));
    }
    if let Some(code) = RecoveryCode::parse(text) {
        let shown = code.expose();
        assert_eq!(RecoveryCode::parse(&shown), Some(code.clone()), "as it is shown it is read");
        let (own, other) = (code.mac(&[1; 32]).into(), [0; 32].into());
        assert_eq!(code.place(&[1; 32], &[other, own]), Some(1));
    }
    let mut encoded = vec![0x54];
    encoded.extend_from_slice(TOTP_SECRET);
    let secret = minicbor::decode::<TotpSecret>(&encoded);
    assert!(secret.is_ok(), "a secret of 20 bytes");
    let Ok(secret) = secret else { return };
    let now = i64::from_le_bytes(*time);
    if let Some(step) = secret.matching_step(text, now, None) {
        assert!((step - now.div_euclid(30)).abs() <= 1, "not of another time");
        assert_eq!(text.bytes().filter(u8::is_ascii_digit).count(), 6);
        assert_eq!(secret.matching_step(text, now, Some(step)), None, "not twice");
    }
}

/// A second of the twenty-third century, which nanoseconds in 63 bits still reach.
const LAST_SECS: u64 = 9_000_000_000;

/// Certificates of users, as they come: for TLS in DER, and of OpenSSH.
///
/// # Panics
/// When one is taken for what it is not.
pub(crate) fn certificates(bytes: &[u8]) {
    if let Ok(shown) = ClientCertificate::read(bytes) {
        assert_eq!(ClientCertificate::read(bytes), Ok(shown.clone()), "it says one thing");
        assert!(shown.subject.chars().count() <= TLS_SUBJECT_CHARS_MAX);
        assert!(!shown.is_live(shown.ends), "dead at the instant it ends");
        let longer = [bytes, &[0]].concat();
        assert!(ClientCertificate::read(&longer).is_err(), "nothing stands behind it");
    }
    let Ok(certificate) = ssh_key::Certificate::from_bytes(bytes) else { return };
    let Ok(claim) = Claim::read(&certificate) else { return };
    assert!(certificate.cert_type().is_user() && !certificate.valid_principals().is_empty());
    assert!(claim.key_id.len() <= CERTIFICATE_KEY_ID_BYTES_MAX);
    assert!(certificate.critical_options().keys().all(|name| name == "source-address"));
    let authority = Authority {
        id: CredentialId("fuzz".to_owned()),
        customer: CustomerId([1; 16]),
        key: claim.authority_key.clone(),
        fingerprint: String::new(),
        life_secs_max: 86_400,
        rights: None,
        networks: Vec::new(),
        created: 0,
        expires: None,
        revoked: None,
    };
    let source = std::net::Ipv4Addr::LOCALHOST.into();
    let at = |secs: u64| i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    let begun = at(certificate.valid_after());
    assert!(claim.check(&authority, &["\0nobody"], source, begun).is_err(), "for those whom it names only");
    // Beyond what a clock of ours can say nothing is told apart.
    if certificate.valid_before() > LAST_SECS {
        return;
    }
    for name in certificate.valid_principals() {
        if claim.check(&authority, &[name], source, begun).is_ok() {
            let life = certificate.valid_before() - certificate.valid_after();
            assert!(life <= 86_400 + CERTIFICATE_SLACK_SECS, "for a day");
            assert!(claim.check(&authority, &[name], source, at(certificate.valid_before())).is_err());
        }
    }
}
