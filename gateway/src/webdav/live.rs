//! Properties that are ours and computed (RFC 4918 section 15, RFC 4331, and two of Apache's and Windows').

use super::xml::{DAV, Name};

/// Any of the three bits that let somebody run a file.
pub const EXECUTABLE_BITS: u32 = 0o111;
/// The namespace of Apache's own properties.
const APACHE: &str = "http://apache.org/dav/props/";

/// A property of ours. `getcontenttype` is none of them: all content is bytes to us, and desktops (gvfs) guess better from
/// the name where nobody tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Collection or not.
    ResourceType,
    /// Bytes of a file.
    ContentLength,
    /// Last change of the content.
    LastModified,
    /// Last change of the record: when it was made is not kept. As Apache has it.
    CreationDate,
    /// The entity tag of a file.
    EntityTag,
    /// The name, unless a client has set another.
    DisplayName,
    /// Kinds of locks.
    SupportedLock,
    /// Locks.
    LockDiscovery,
    /// Bytes still writable, of a collection.
    QuotaAvailable,
    /// Bytes used, of a collection.
    QuotaUsed,
    /// Whether Windows hides it.
    IsHidden,
    /// Whether it is a collection, as a number.
    IsCollection,
    /// Whether a file may be run: Apache's, which davfs2 asks for and sets.
    Executable,
}

/// Each with its name as answers write it.
const LIVE: [(Live, &str); 13] = [
    (Live::ResourceType, "D:resourcetype"),
    (Live::ContentLength, "D:getcontentlength"),
    (Live::LastModified, "D:getlastmodified"),
    (Live::CreationDate, "D:creationdate"),
    (Live::EntityTag, "D:getetag"),
    (Live::DisplayName, "D:displayname"),
    (Live::SupportedLock, "D:supportedlock"),
    (Live::LockDiscovery, "D:lockdiscovery"),
    (Live::QuotaAvailable, "D:quota-available-bytes"),
    (Live::QuotaUsed, "D:quota-used-bytes"),
    (Live::IsHidden, "D:ishidden"),
    (Live::IsCollection, "D:iscollection"),
    (Live::Executable, "X:executable"),
];
/// So many of them belong to `allprop`: what the others say is in the name, the same for all, or rarely asked.
const ALLPROP: usize = 5;
/// Those whose namespace is `DAV:`.
const IN_DAV: usize = 12;

impl Live {
    /// The property of that name, if it is one of ours.
    pub fn of(name: &Name) -> Option<Self> {
        let (in_dav, others) = LIVE.split_at(IN_DAV);
        let among = if name.space == DAV {
            in_dav
        } else if name.space == APACHE {
            others
        } else {
            return None;
        };
        let known = among.iter().find(|(_, tag)| tag.get(2..) == Some(name.local.as_str()));
        known.map(|(live, _)| *live)
    }

    /// Its name as answers write it.
    pub fn tag(self) -> &'static str {
        LIVE.iter().find(|(live, _)| *live == self).map_or("", |(_, tag)| tag)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        LIVE.iter().map(|(live, _)| *live)
    }

    /// Those that belong to `allprop`.
    pub fn of_allprop() -> impl Iterator<Item = Self> {
        Self::all().take(ALLPROP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_found_under_its_own_namespace_only() {
        let of = |space: &str, local: &str| Live::of(&Name { space: space.into(), local: local.into() });
        assert_eq!(of("DAV:", "getetag"), Some(Live::EntityTag));
        assert_eq!(of(APACHE, "executable"), Some(Live::Executable));
        for (space, local) in [("DAV:", "executable"), (APACHE, "getetag"), ("", "getetag"), ("DAV:", "D")] {
            assert_eq!(of(space, local), None, "{space} {local}");
        }
        for (live, tag) in LIVE {
            assert_eq!(live.tag(), tag);
        }
    }
}
