//! Attributes on the wire (draft section 5) and the long names of listings (section 7).

use super::wire::{Reply, WireAttributes};
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

/// A line as `ls -l` prints it; clients parse it when they should not.
pub fn long_name(name: &[u8], attributes: &Attributes) -> Vec<u8> {
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
    let time = jiff::Timestamp::from_second(attributes.mtime.0.div_euclid(NANOS))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%b %e  %Y").to_string();
    let (links, uid, gid, size) = (attributes.links, attributes.uid, attributes.gid, attributes.size);
    let mut line = format!("{kind}{mode} {links:>4} {uid:<8} {gid:<8} {size:>8} {time} ").into_bytes();
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

    #[test]
    fn a_long_name_reads_as_ls_prints_it() {
        let line = String::from_utf8(long_name(b"x y", &attributes())).unwrap();
        assert_eq!(line, "drwsr-xr-x    1 7        8        5000000000 Jan  2  1970 x y");
    }

    #[test]
    fn times_outside_the_wire_are_clamped_and_type_bits_are_ours() {
        assert_eq!(secs(UnixNanos(-1)), 0);
        assert_eq!(secs(UnixNanos(i64::MAX)), u32::MAX);
        let sent = WireAttributes { permissions: Some(0o140_644), ..WireAttributes::default() };
        assert_eq!(sent.change().mode, Some(0o644));
    }
}
