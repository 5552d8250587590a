//! How a resource is described with its properties, ours and those that clients keep with it (RFC 4918 section 14.24).
//! Compact: Windows reads at most a megabyte of a listing.

use std::fmt::Write;

use super::asked::{Asked, Meaning, Wanted};
use super::dead;
use super::headers;
use super::live::{EXECUTABLE_BITS, Live};
use super::locks::active_lock;
use super::markup::push_text;
use super::request::etag;
use crate::vfs::{Attributes, Kind, Properties, SeenLock, SpaceState};

const NANOS: i64 = 1_000_000_000;
/// What every answer declares: the namespaces of our own properties, and that of Windows.
pub const ROOT: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\" \
                        xmlns:X=\"http://apache.org/dav/props/\" xmlns:Z=\"urn:schemas-microsoft-com:\">\n";
/// The end of an answer that began with [`ROOT`].
pub const ROOT_END: &str = "</D:multistatus>\n";

/// A resource that is described.
#[derive(Debug)]
pub struct Resource<'r> {
    /// Its address, percent-encoded.
    pub href: &'r str,
    /// Its own name; nothing at the root.
    pub name: &'r [u8],
    /// What is known of it.
    pub attributes: &'r Attributes,
    /// What clients keep with it.
    pub dead: &'r Properties,
    /// Room where it lies, where that was asked.
    pub space: Option<SpaceState>,
    /// Locks on it.
    pub locks: &'r [SeenLock],
    /// Who looks at them.
    pub viewer: [u8; 16],
    /// Nanoseconds since 1970.
    pub now: i64,
}

impl Resource<'_> {
    fn is_collection(&self) -> bool {
        self.attributes.kind == Kind::Directory
    }

    /// Whether it has a property of ours.
    fn has(&self, live: Live) -> bool {
        match live {
            Live::ContentLength | Live::EntityTag | Live::Executable => !self.is_collection(),
            Live::QuotaAvailable | Live::QuotaUsed => self.is_collection() && self.space.is_some(),
            Live::ResourceType
            | Live::LastModified
            | Live::CreationDate
            | Live::DisplayName
            | Live::SupportedLock
            | Live::LockDiscovery
            | Live::IsHidden
            | Live::IsCollection => true,
        }
    }

    /// Appends what stands in the element of a property that it has.
    fn push_value(&self, out: &mut String, live: Live) {
        let number = |out: &mut String, number: u64| {
            let _written = write!(out, "{number}");
        };
        let flag = |out: &mut String, yes: bool| out.push(if yes { '1' } else { '0' });
        match live {
            Live::ResourceType if self.is_collection() => out.push_str("<D:collection/>"),
            Live::ResourceType => {}
            Live::ContentLength => number(out, self.attributes.size),
            Live::LastModified => headers::push_date(out, self.attributes.mtime.0.div_euclid(NANOS)),
            Live::CreationDate => headers::push_rfc3339(out, self.attributes.ctime.0.div_euclid(NANOS)),
            Live::EntityTag => push_text(out, &etag(self.attributes)),
            Live::DisplayName => push_text(out, &String::from_utf8_lossy(self.name)),
            Live::SupportedLock => ["exclusive", "shared"].iter().for_each(|scope| {
                let _written = write!(
                    out,
                    "<D:lockentry><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
                );
            }),
            Live::LockDiscovery => {
                self.locks.iter().for_each(|lock| out.push_str(&active_lock(lock, self.viewer, self.now)));
            }
            Live::QuotaAvailable => number(out, self.space.map_or(0, |space| space.free_bytes)),
            Live::QuotaUsed => number(out, self.space.map_or(0, |space| space.used_bytes)),
            Live::IsHidden => flag(out, dead::is_hidden(self.dead)),
            Live::IsCollection => flag(out, self.is_collection()),
            Live::Executable => {
                out.push(if self.attributes.mode & EXECUTABLE_BITS == 0 { 'F' } else { 'T' });
            }
        }
    }

    /// Appends a property of ours, if it has it.
    fn push_live(&self, out: &mut String, live: Live) -> bool {
        if !self.has(live) {
            return false;
        }
        let tag = live.tag();
        let start = out.len();
        let _written = write!(out, "<{tag}>");
        let inside = out.len();
        self.push_value(out, live);
        if out.len() == inside {
            out.truncate(start);
            let _written = write!(out, "<{tag}/>");
        } else {
            let _written = write!(out, "</{tag}>");
        }
        true
    }

    fn push_dead(&self, out: &mut String, key: &[u8], value: &[u8]) {
        dead::push(out, key, value, self.attributes.mtime);
    }

    fn push_asked(&self, out: &mut String, asked: &Asked) -> bool {
        let stored = asked.key.as_ref().and_then(|key| Some((key, self.dead.get(key)?)));
        match (stored, &asked.meaning) {
            (Some((key, value)), _) => self.push_dead(out, key, value),
            (None, Meaning::Live(live)) => return self.push_live(out, *live),
            (None, Meaning::Dead) => return false,
        }
        true
    }

    fn push_all(&self, out: &mut String, more: &[Asked]) {
        for live in Live::of_allprop() {
            self.push_live(out, live);
        }
        // npm's `webdav` looks for them here, against RFC 4331 section 3: of the collection that was asked about only.
        for live in [Live::QuotaAvailable, Live::QuotaUsed] {
            self.push_live(out, live);
        }
        if !self.locks.is_empty() {
            self.push_live(out, Live::LockDiscovery);
        }
        self.dead.iter().for_each(|(key, value)| self.push_dead(out, key, value));
        for asked in more {
            if let Meaning::Live(live) = asked.meaning
                && asked.key.as_ref().is_none_or(|key| !self.dead.contains_key(key))
            {
                self.push_live(out, live);
            }
        }
    }

    /// Windows keeps no entity tags, and of what it set itself needs only what nothing else says.
    fn push_brief(&self, out: &mut String) {
        let quota = [Live::QuotaAvailable, Live::QuotaUsed];
        let own = Live::of_allprop().filter(|live| *live != Live::EntityTag).chain(quota);
        for live in own {
            self.push_live(out, live);
        }
        if !self.locks.is_empty() {
            self.push_live(out, Live::LockDiscovery);
        }
        for (key, value) in self.dead.iter().filter(|(key, _)| !dead::is_said_otherwise(key)) {
            self.push_dead(out, key, value);
        }
    }

    fn push_names(&self, out: &mut String) {
        for live in Live::all().filter(|live| self.has(*live)) {
            let _written = write!(out, "<{}/>", live.tag());
        }
        self.dead.keys().for_each(|key| dead::push_key(out, key));
    }

    /// Appends its `response` element, which always has a `propstat`.
    pub fn describe(&self, out: &mut String, wanted: &Wanted) {
        let _written = write!(out, "<D:response><D:href>{}</D:href>", self.href);
        let start = out.len();
        out.push_str(PROPSTAT);
        let inside = out.len();
        let mut missing = Vec::new();
        match wanted {
            Wanted::Names => self.push_names(out),
            Wanted::All(more) => self.push_all(out, more),
            Wanted::Brief => self.push_brief(out),
            Wanted::These(names) => {
                missing.extend(names.iter().filter(|asked| !self.push_asked(out, asked)));
            }
        }
        if out.len() > inside || missing.is_empty() {
            push_propstat_end(out, "200 OK", None);
        } else {
            out.truncate(start);
        }
        if !missing.is_empty() {
            out.push_str(PROPSTAT);
            missing.iter().for_each(|asked| out.push_str(&asked.absent));
            push_propstat_end(out, "404 Not Found", None);
        }
        out.push_str("</D:response>\n");
    }
}

/// The beginning of a `propstat`; properties follow.
pub const PROPSTAT: &str = "<D:propstat><D:prop>";

/// Appends the end of a `propstat`: how it went, and what should have held where a standard names it.
pub fn push_propstat_end(out: &mut String, status: &str, condition: Option<&str>) {
    let _written = write!(out, "</D:prop><D:status>HTTP/1.1 {status}</D:status>");
    if let Some(condition) = condition {
        let _written = write!(out, "<D:error><D:{condition}/></D:error>");
    }
    out.push_str("</D:propstat>");
}
