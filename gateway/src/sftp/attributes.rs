//! Attributes on the wire (draft section 5) and the long names of listings (section 7).

use std::borrow::Cow;

use coffre_auth::Principal;

use super::reply::Reply;
use super::wire::WireAttributes;
use crate::vfs::{AttributeChange, Attributes, Kind, UnixNanos};

const NANOS: i64 = 1_000_000_000;
/// Permission bits that a client may set: types of files are ours.
const MODE_MASK: u32 = 0o7777;

impl WireAttributes {
    /// All but the size.
    pub fn change(self) -> AttributeChange {
        let nanos = |secs: u32| UnixNanos(i64::from(secs) * NANOS);
        AttributeChange {
            mode: self.permissions.map(|mode| mode & MODE_MASK),
            uid: self.owner.map(|(uid, _)| uid),
            gid: self.owner.map(|(_, gid)| gid),
            atime: self.times.map(|(atime, _)| nanos(atime)),
            mtime: self.times.map(|(_, mtime)| nanos(mtime)),
        }
    }
}

fn secs(time: UnixNanos) -> u32 {
    let secs = time.0.div_euclid(NANOS);
    u32::try_from(secs).unwrap_or(if secs < 0 { 0 } else { u32::MAX })
}

fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::File => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::SymbolicLink => 0o120_000,
    }
}

/// Puts all attributes that version 3 has.
pub fn put(reply: &mut Reply, attributes: &Attributes) {
    reply.u32(0xf);
    reply.u64(attributes.size);
    reply.u32(attributes.uid);
    reply.u32(attributes.gid);
    reply.u32(type_bits(attributes.kind) | (attributes.mode & MODE_MASK));
    reply.u32(secs(attributes.atime));
    reply.u32(secs(attributes.mtime));
}

/// The names that stand for the numbers of owners. A file that nobody gave an owner has number 0: it is the user's, and its
/// group is the customer. Other numbers are kept for the client that set them, and nobody here has a name for them.
#[derive(Debug)]
pub struct Owners {
    /// The session's user.
    pub user: String,
    /// Its customer.
    pub group: String,
}

impl Owners {
    /// As a session sees them.
    pub fn of(principal: &Principal) -> Self {
        Self { user: principal.user_name.clone(), group: principal.customer_name.clone() }
    }

    /// The name of an owner, if it has one.
    pub fn user(&self, uid: u32) -> Option<&str> {
        (uid == 0).then_some(&self.user)
    }

    /// The name of a group, if it has one.
    pub fn group(&self, gid: u32) -> Option<&str> {
        (gid == 0).then_some(&self.group)
    }
}

/// Seconds after which a time is shown with its year and not its hour: half a year, as `ls` has it.
const RECENT_SECS: i64 = 365 * 24 * 60 * 60 / 2;

/// A line as OpenSSH's server prints it (`ls_file`); clients parse it when they should not. Times are UTC.
pub fn long_name(name: &[u8], attributes: &Attributes, owners: &Owners, now: UnixNanos) -> Vec<u8> {
    let kind = match attributes.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::SymbolicLink => 'l',
    };
    let bit = |shift: u32, letter: char| if attributes.mode >> shift & 1 == 1 { letter } else { '-' };
    let mut mode: Vec<char> = (0..9).map(|at| bit(8 - at, ['r', 'w', 'x'][(at % 3) as usize])).collect();
    for (at, special, set, bare) in [(2, 11, 's', 'S'), (5, 10, 's', 'S'), (8, 9, 't', 'T')] {
        if attributes.mode >> special & 1 == 1 {
            mode[at] = if mode[at] == 'x' { set } else { bare };
        }
    }
    let mode: String = mode.into_iter().collect();
    let (then, now) = (attributes.mtime.0.div_euclid(NANOS), now.0.div_euclid(NANOS));
    let form = if now - RECENT_SECS < then && then <= now { "%b %e %H:%M" } else { "%b %e  %Y" };
    let time = jiff::Timestamp::from_second(then).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).strftime(form).to_string();
    let number = |id: u32| Cow::from(id.to_string());
    let user = owners.user(attributes.uid).map_or_else(|| number(attributes.uid), Cow::from);
    let group = owners.group(attributes.gid).map_or_else(|| number(attributes.gid), Cow::from);
    let (links, size) = (attributes.links, attributes.size);
    let mut line = format!("{kind}{mode}  {links:>3} {user:<8} {group:<8} {size:>8} {time} ").into_bytes();
    line.extend_from_slice(name);
    line
}

#[cfg(test)]
mod tests {
    use crate::vfs::{ContentId, InodeId};

    use super::*;

    fn attributes() -> Attributes {
        Attributes {
            inode: InodeId(1),
            kind: Kind::Directory,
            size: 5_000_000_000,
            mode: 0o4755,
            uid: 7,
            gid: 8,
            atime: UnixNanos(-1),
            mtime: UnixNanos(86_400 * NANOS),
            ctime: UnixNanos(0),
            links: 1,
            content: ContentId(0),
            blake3: None,
            incomplete: false,
            has_properties: false,
        }
    }

    fn owners() -> Owners {
        Owners { user: "alice".into(), group: "clinic-nord".into() }
    }

    fn line(attributes: &Attributes, now_secs: i64) -> String {
        let line = long_name(b"x y", attributes, &owners(), UnixNanos(now_secs * NANOS));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_long_name_reads_as_openssh_prints_it() {
        let given = attributes();
        let year = 365 * 86_400;
        assert_eq!(line(&given, year), "drwsr-xr-x    1 7        8        5000000000 Jan  2  1970 x y");
        let own = Attributes { kind: Kind::File, uid: 0, gid: 0, size: 7, links: 12, ..given };
        assert_eq!(line(&own, year), "-rwsr-xr-x   12 alice    clinic-nord        7 Jan  2  1970 x y");
    }

    #[test]
    fn a_time_of_the_last_half_year_is_shown_with_its_hour_and_others_with_their_year() {
        let given = attributes();
        let shows = |now: i64, time: &str| line(&given, now).ends_with(&format!(" {time} x y"));
        assert!(shows(86_400, "Jan  2 00:00"), "now");
        assert!(shows(86_400 + RECENT_SECS - 1, "Jan  2 00:00"));
        assert!(shows(86_400 + RECENT_SECS, "Jan  2  1970"), "half a year later");
        assert!(shows(86_399, "Jan  2  1970"), "in the future");
    }

    #[test]
    fn only_what_nobody_gave_an_owner_has_names() {
        let owners = owners();
        assert_eq!((owners.user(0), owners.group(0)), (Some("alice"), Some("clinic-nord")));
        assert_eq!((owners.user(1000), owners.group(1000)), (None, None));
    }

    #[test]
    fn times_outside_the_wire_are_clamped_and_type_bits_are_ours() {
        assert_eq!(secs(UnixNanos(-1)), 0);
        assert_eq!(secs(UnixNanos(i64::MAX)), u32::MAX);
        let sent = WireAttributes { permissions: Some(0o140_644), ..WireAttributes::default() };
        assert_eq!(sent.change().mode, Some(0o644));
    }
}
