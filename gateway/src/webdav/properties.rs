//! PROPFIND and PROPPATCH (RFC 4918 sections 9.1 and 9.2). Properties that a client sets are kept as they came; our own
//! are computed. Answers are compact: Windows reads at most a megabyte of a listing.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::StatusCode;
use quick_xml::escape::escape;

use super::body::Incoming;
use super::headers::{self, Depth};
use super::locks::{Lock, Place, Reach};
use super::request::{Answer, Request, etag, xml_answer};
use super::status::{Refused, refuse};
use super::xml::{Element, Name};
use crate::limits::LISTING_PIECE;
use crate::vfs::{AttributeChange, Attributes, Follow, Kind, SpaceState, UnixNanos, VaultPath};

const NANOS: i64 = 1_000_000_000;
/// The namespace of the times that Windows sets.
const WIN32: &str = "urn:schemas-microsoft-com:";
/// Our own properties; those in the first part belong to `allprop`.
const LIVE: [&str; 11] = [
    "resourcetype",
    "getcontentlength",
    "getlastmodified",
    "creationdate",
    "getetag",
    "getcontenttype",
    "displayname",
    "supportedlock",
    "lockdiscovery",
    "quota-available-bytes",
    "quota-used-bytes",
];
const ALLPROP: usize = 6;
const HEADER: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";

type Dead = BTreeMap<Vec<u8>, Vec<u8>>;

fn stored_key(name: &Name) -> Vec<u8> {
    format!("{}\0{}", name.space, name.local).into_bytes()
}

fn name_of(key: &[u8]) -> Name {
    let text = String::from_utf8_lossy(key);
    let (space, local) = text.split_once('\0').unwrap_or(("", &text));
    Name { space: space.to_owned(), local: local.to_owned() }
}

/// What a PROPFIND asks for.
enum Wanted {
    All(Vec<Name>),
    Names,
    These(Vec<Name>),
}

impl Wanted {
    fn of(root: Option<&Element>) -> Result<Self, Refused> {
        let Some(root) = root else { return Ok(Self::All(Vec::new())) };
        let names = |list: &Element| list.elements().map(|wanted| wanted.name.clone()).collect();
        if !root.name.is_dav("propfind") {
            return refuse(StatusCode::BAD_REQUEST, "the body is no propfind");
        }
        if let Some(list) = root.dav("prop") {
            return Ok(Self::These(names(list)));
        }
        match (root.dav("propname"), root.dav("allprop")) {
            (Some(_), None) => Ok(Self::Names),
            (None, Some(_)) => Ok(Self::All(root.dav("include").map(names).unwrap_or_default())),
            (Some(_), Some(_)) | (None, None) => {
                refuse(StatusCode::BAD_REQUEST, "the propfind asks for nothing")
            }
        }
    }

    fn needs_dead(&self) -> bool {
        match self {
            Self::All(_) | Self::Names => true,
            Self::These(names) => {
                names.iter().any(|name| live(name).is_none() || name.local == "displayname")
            }
        }
    }

    fn names(&self, local: &str) -> bool {
        match self {
            Self::All(more) | Self::These(more) => more.iter().any(|name| name.is_dav(local)),
            Self::Names => false,
        }
    }
}

fn live(name: &Name) -> Option<&'static str> {
    LIVE.iter().find(|known| name.is_dav(known)).copied()
}

/// A resource that is described.
struct Described<'r> {
    path: &'r VaultPath,
    attributes: &'r Attributes,
    dead: &'r Dead,
    space: Option<SpaceState>,
    locks: Vec<Lock>,
    now: i64,
}

impl Described<'_> {
    fn is_collection(&self) -> bool {
        self.attributes.kind == Kind::Directory
    }

    /// The inner XML of one of our own properties; nothing when the resource does not have it.
    fn live(&self, local: &str) -> Option<String> {
        let file = !self.is_collection();
        Some(match local {
            "resourcetype" if file => String::new(),
            "resourcetype" => "<D:collection/>".to_owned(),
            "getcontentlength" if file => self.attributes.size.to_string(),
            "getcontenttype" if file => "application/octet-stream".to_owned(),
            "getetag" if file => escape(etag(self.attributes)).into_owned(),
            "getlastmodified" => headers::date(self.attributes.mtime.0.div_euclid(NANOS)),
            "creationdate" => {
                let secs = self.attributes.ctime.0.div_euclid(NANOS);
                jiff::Timestamp::from_second(secs).map_or_else(|_| String::new(), |time| time.to_string())
            }
            "displayname" => {
                let name = self.path.components().last().map(|name| String::from_utf8_lossy(name).into_owned());
                escape(name.unwrap_or_default()).into_owned()
            }
            "supportedlock" => ["exclusive", "shared"].iter().fold(String::new(), |mut out, scope| {
                let _written = write!(
                    out,
                    "<D:lockentry><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
                );
                out
            }),
            "lockdiscovery" => {
                let href = Request::href(self.path, self.is_collection());
                self.locks.iter().map(|lock| active_lock(lock, &href, self.now)).collect()
            }
            "quota-available-bytes" => self.space.filter(|_| !file)?.free_bytes.to_string(),
            "quota-used-bytes" => self.space.filter(|_| !file)?.used_bytes.to_string(),
            _ => return None,
        })
    }

    fn put_dead(out: &mut String, name: &Name, inner: &str) {
        let (local, space) = (&name.local, escape(&name.space));
        let _written = if inner.is_empty() {
            write!(out, "<{local} xmlns=\"{space}\"/>")
        } else {
            write!(out, "<{local} xmlns=\"{space}\">{inner}</{local}>")
        };
    }

    fn put(&self, out: &mut String, name: &Name) -> bool {
        if let Some(value) = self.dead.get(&stored_key(name)) {
            Self::put_dead(out, name, &String::from_utf8_lossy(value));
            return true;
        }
        let Some((local, value)) = live(name).and_then(|local| Some((local, self.live(local)?))) else {
            return false;
        };
        let _written = if value.is_empty() {
            write!(out, "<D:{local}/>")
        } else {
            write!(out, "<D:{local}>{value}</D:{local}>")
        };
        true
    }

    /// A `response` element.
    fn describe(&self, out: &mut String, wanted: &Wanted) {
        let href = Request::href(self.path, self.is_collection());
        let _written = write!(out, "<D:response><D:href>{}</D:href>", escape(&href));
        let (mut found, mut missing) = (String::new(), String::new());
        match wanted {
            Wanted::Names => {
                for local in LIVE.iter().filter(|local| self.live(local).is_some()) {
                    let _written = write!(found, "<D:{local}/>");
                }
                self.dead.keys().for_each(|key| Self::put_dead(&mut found, &name_of(key), ""));
            }
            Wanted::All(more) => {
                for local in LIVE.iter().take(ALLPROP) {
                    self.put(&mut found, &Name::dav(local));
                }
                if self.space.is_some() {
                    for local in ["quota-available-bytes", "quota-used-bytes"] {
                        self.put(&mut found, &Name::dav(local));
                    }
                }
                if !self.locks.is_empty() {
                    self.put(&mut found, &Name::dav("lockdiscovery"));
                }
                for (key, value) in self
                    .dead
                    .iter()
                    .filter(|(key, _)| live(&name_of(key)).is_none_or(|known| known == "displayname"))
                {
                    Self::put_dead(&mut found, &name_of(key), &String::from_utf8_lossy(value));
                }
                for name in
                    more.iter().filter(|name| LIVE.iter().skip(ALLPROP).any(|local| name.is_dav(local)))
                {
                    self.put(&mut found, name);
                }
            }
            Wanted::These(names) => {
                for name in names {
                    if !self.put(&mut found, name) {
                        Self::put_dead(&mut missing, name, "");
                    }
                }
            }
        }
        if !found.is_empty() || missing.is_empty() {
            propstat(out, &found, "200 OK");
        }
        if !missing.is_empty() {
            propstat(out, &missing, "404 Not Found");
        }
        out.push_str("</D:response>\n");
    }
}

fn propstat(out: &mut String, properties: &str, status: &str) {
    let _written = write!(
        out,
        "<D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"
    );
}

/// A lock as `activelock`.
pub fn active_lock(lock: &Lock, href: &str, now: i64) -> String {
    let scope = if lock.exclusive { "exclusive" } else { "shared" };
    let depth = if lock.deep { "infinity" } else { "0" };
    let left = lock.expires.saturating_sub(now).max(0) / NANOS;
    format!(
        "<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope><D:depth>{depth}</D:depth>\
         <D:owner>{}</D:owner><D:timeout>Second-{left}</D:timeout><D:locktoken><D:href>{}</D:href></D:locktoken>\
         <D:lockroot><D:href>{}</D:href></D:lockroot></D:activelock>",
        lock.owner,
        escape(&lock.token),
        escape(href)
    )
}

/// Locks as their own user sees them; others see that there is one, not its token.
fn shown_locks(request: &Request, place: &Place) -> Vec<Lock> {
    let mut locks = request.shared.locks.on(place, request.now);
    for lock in locks.iter_mut().filter(|lock| lock.user != request.user()) {
        "opaquelocktoken:hidden".clone_into(&mut lock.token);
        lock.owner = String::new();
    }
    locks
}

/// PROPFIND.
///
/// # Errors
/// The refusal to answer with.
pub async fn find(request: &Request, body: Incoming) -> Answer {
    let members = match headers::depth(&request.headers)? {
        Some(Depth::Zero) => false,
        Some(Depth::One) => true,
        // Never a truncated answer, and never a walk of the whole store.
        None | Some(Depth::Infinity) => {
            let text = format!("{HEADER}<D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>");
            return Ok(xml_answer(StatusCode::FORBIDDEN, text));
        }
    };
    let wanted = Wanted::of(request.xml_body(body).await?.as_ref())?;
    let found = request.found().await?;
    let mut out = format!("{HEADER}<D:multistatus xmlns:D=\"DAV:\">\n");
    let wants_space = matches!(wanted, Wanted::All(_))
        || wanted.names("quota-available-bytes")
        || wanted.names("quota-used-bytes");
    let space = if wants_space { Some(request.namespace.space(&request.path).await?) } else { None };
    let place = request.place(&request.path).await?;
    let dead = dead_of(request, &request.path, &found, &wanted).await?;
    let locks = shown_locks(request, &place);
    Described { path: &request.path, attributes: &found, dead: &dead, space, locks, now: request.now }
        .describe(&mut out, &wanted);
    if members && found.kind == Kind::Directory {
        list(request, (&wanted, &place), &mut out).await?;
    }
    out.push_str("</D:multistatus>\n");
    Ok(xml_answer(StatusCode::MULTI_STATUS, out))
}

async fn dead_of(
    request: &Request,
    path: &VaultPath,
    attributes: &Attributes,
    wanted: &Wanted,
) -> Result<Dead, Refused> {
    if attributes.has_properties && wanted.needs_dead() {
        Ok(request.namespace.properties(path).await?)
    } else {
        Ok(Dead::new())
    }
}

async fn list(
    request: &Request,
    (wanted, place): (&Wanted, &Place),
    out: &mut String,
) -> Result<(), Refused> {
    let mut directory = request.namespace.open_directory(&request.path).await?;
    loop {
        let entries = directory.next(LISTING_PIECE).await?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            let path = request.path.join(&entry.name)?;
            // A link is what it leads to; one that leads nowhere is not shown.
            let attributes = match entry.attributes.kind {
                Kind::SymbolicLink => match request.namespace.stat(&path, Follow::Yes).await {
                    Ok(attributes) => attributes,
                    Err(_) => continue,
                },
                Kind::File | Kind::Directory => entry.attributes,
            };
            let dead = dead_of(request, &path, &attributes, wanted).await?;
            let mut below = place.clone();
            below.names.push(entry.name);
            let locks = shown_locks(request, &below);
            let described = Described {
                path: &path,
                attributes: &attributes,
                dead: &dead,
                space: None,
                locks,
                now: request.now,
            };
            described.describe(out, wanted);
        }
    }
}

/// One instruction of a PROPPATCH.
struct Patch {
    name: Name,
    /// Its new value, or nothing to remove it.
    value: Option<Element>,
}

fn patches(root: &Element) -> Result<Vec<Patch>, Refused> {
    if !root.name.is_dav("propertyupdate") {
        return refuse(StatusCode::BAD_REQUEST, "the body is no propertyupdate");
    }
    let mut all = Vec::new();
    for step in root.elements() {
        let sets = match (step.name.is_dav("set"), step.name.is_dav("remove")) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => continue,
        };
        let list =
            step.dav("prop").ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "a step has no prop"))?;
        all.extend(
            list.elements()
                .map(|element| Patch { name: element.name.clone(), value: sets.then(|| element.clone()) }),
        );
    }
    if all.is_empty() {
        refuse(StatusCode::BAD_REQUEST, "the propertyupdate changes nothing")
    } else {
        Ok(all)
    }
}

/// The time that a property sets, if it is one that sets the file's own.
fn time_of(patch: &Patch) -> Option<UnixNanos> {
    let is_time = patch.name.is_dav("getlastmodified")
        || patch.name.is_dav("lastmodified")
        || (patch.name.space == WIN32 && patch.name.local == "Win32LastModifiedTime");
    let text = patch.value.as_ref().filter(|_| is_time)?.text();
    let secs = headers::parse_date(&text).or_else(|| text.trim().parse().ok())?;
    Some(UnixNanos(secs.saturating_mul(NANOS)))
}

/// PROPPATCH: all or nothing.
///
/// # Errors
/// The refusal to answer with.
pub async fn patch(request: &Request, body: Incoming) -> Answer {
    let Some(root) = request.xml_body(body).await? else {
        return refuse(StatusCode::BAD_REQUEST, "the body is empty");
    };
    let patches = patches(&root)?;
    let found = request.found().await?;
    request.may_change(&[(&request.path, Reach::Itself)]).await?;
    let is_protected = |patch: &Patch| {
        live(&patch.name).is_some_and(|local| local != "displayname") && time_of(patch).is_none()
    };
    let mut out = format!(
        "{HEADER}<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{}</D:href>",
        escape(Request::href(&request.path, found.kind == Kind::Directory))
    );
    let listed = |chosen: &dyn Fn(&Patch) -> bool| {
        let mut names = String::new();
        patches
            .iter()
            .filter(|patch| chosen(patch))
            .for_each(|patch| Described::put_dead(&mut names, &patch.name, ""));
        names
    };
    if patches.iter().any(is_protected) {
        propstat(&mut out, &listed(&is_protected), "403 Forbidden");
        let others = listed(&|patch| !is_protected(patch));
        if !others.is_empty() {
            propstat(&mut out, &others, "424 Failed Dependency");
        }
    } else {
        apply(request, &patches).await?;
        propstat(&mut out, &listed(&|_| true), "200 OK");
    }
    out.push_str("</D:response></D:multistatus>\n");
    Ok(xml_answer(StatusCode::MULTI_STATUS, out))
}

async fn apply(request: &Request, patches: &[Patch]) -> Result<(), Refused> {
    // The file's own time is not kept twice.
    let kept = patches.iter().filter(|patch| !patch.name.is_dav("getlastmodified"));
    let changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = kept
        .map(|patch| {
            (stored_key(&patch.name), patch.value.as_ref().map(|value| value.inner_xml().into_bytes()))
        })
        .collect();
    if !changes.is_empty() {
        request.namespace.set_properties(&request.path, changes).await?;
    }
    if let Some(mtime) = patches.iter().rev().find_map(time_of) {
        let change = AttributeChange { mtime: Some(mtime), ..AttributeChange::default() };
        request.namespace.set_attributes(&request.path, change, None, Follow::Yes).await?;
    }
    Ok(())
}
