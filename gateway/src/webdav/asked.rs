//! What a PROPFIND asks for (RFC 4918 section 9.1), read once for all resources of its answer.

use http::StatusCode;

use super::dead;
use super::live::Live;
use super::status::{Refused, refuse};
use super::xml::{Element, Name};

/// Whose property a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Ours.
    Live(Live),
    /// One that a client may have set.
    Dead,
}

/// A property that is asked for by its name.
#[derive(Debug)]
pub struct Asked {
    /// Whose it is.
    pub meaning: Meaning,
    /// Under which a client's own value is stored, where it may have one.
    pub key: Option<Vec<u8>>,
    /// How an answer says that it is not there.
    pub absent: String,
}

impl Asked {
    fn new(name: &Name) -> Self {
        let mut absent = String::new();
        dead::push_name(&mut absent, name);
        let meaning = Live::of(name).map_or(Meaning::Dead, Meaning::Live);
        let may_be_stored = matches!(meaning, Meaning::Dead | Meaning::Live(Live::DisplayName));
        Self { meaning, key: may_be_stored.then(|| dead::key(name)), absent }
    }
}

/// What is asked for.
#[derive(Debug)]
pub enum Wanted {
    /// The usual ones of ours, all that clients set, and these.
    All(Vec<Asked>),
    /// What Windows reads of all, in few bytes.
    Brief,
    /// Names only.
    Names,
    /// These.
    These(Vec<Asked>),
}

impl Wanted {
    /// Reads the body; nothing in it asks for all.
    ///
    /// # Errors
    /// 400.
    pub fn of(root: Option<&Element>) -> Result<Self, Refused> {
        let Some(root) = root else { return Ok(Self::All(Vec::new())) };
        if !root.name.is_dav("propfind") {
            return refuse(StatusCode::BAD_REQUEST, "the body is no propfind");
        }
        let asked = |list: &Element| list.elements().map(|wanted| Asked::new(&wanted.name)).collect();
        match (root.dav("prop"), root.dav("propname"), root.dav("allprop")) {
            (Some(list), None, None) => Ok(Self::These(asked(list))),
            (None, Some(_), None) => Ok(Self::Names),
            (None, None, Some(_)) => Ok(Self::All(root.dav("include").map(asked).unwrap_or_default())),
            _ => refuse(StatusCode::BAD_REQUEST, "the propfind asks for nothing, or for several things"),
        }
    }

    fn asks(&self, which: &[Live]) -> bool {
        match self {
            Self::All(asked) | Self::These(asked) => asked
                .iter()
                .any(|asked| matches!(asked.meaning, Meaning::Live(live) if which.contains(&live))),
            Self::Brief | Self::Names => false,
        }
    }

    /// Whether what clients set must be read.
    pub fn needs_dead(&self) -> bool {
        match self {
            Self::All(_) | Self::Brief | Self::Names => true,
            Self::These(asked) => {
                self.asks(&[Live::IsHidden]) || asked.iter().any(|asked| asked.key.is_some())
            }
        }
    }

    /// Whether digests are shown.
    pub fn needs_checksums(&self) -> bool {
        let key = dead::key(&dead::checksums());
        match self {
            Self::These(asked) => asked.iter().any(|asked| asked.key.as_ref() == Some(&key)),
            Self::All(_) | Self::Brief | Self::Names => false,
        }
    }

    /// Whether locks are shown.
    pub fn needs_locks(&self) -> bool {
        matches!(self, Self::All(_) | Self::Brief) || self.asks(&[Live::LockDiscovery])
    }

    /// Whether room is shown.
    pub fn needs_space(&self) -> bool {
        matches!(self, Self::All(_) | Self::Brief | Self::Names)
            || self.asks(&[Live::QuotaAvailable, Live::QuotaUsed])
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn of(inside: &str) -> Result<Wanted, Refused> {
        Wanted::of(Some(
            &xml::parse(format!("<propfind xmlns='DAV:'>{inside}</propfind>").as_bytes()).unwrap(),
        ))
    }

    #[test]
    fn only_what_is_needed_is_read() {
        let few = of("<prop><getetag/><resourcetype/></prop>").unwrap();
        assert!(!few.needs_dead() && !few.needs_locks() && !few.needs_space());
        let own = of("<prop><displayname/><x xmlns='urn:'/></prop>").unwrap();
        assert!(own.needs_dead() && !own.needs_locks());
        let all = Wanted::of(None).unwrap();
        assert!(all.needs_dead() && all.needs_locks() && all.needs_space());
        assert!(of("<allprop/><include><supportedlock/></include>").unwrap().asks(&[Live::SupportedLock]));
    }

    #[test]
    fn a_propfind_that_asks_for_nothing_or_two_things_is_refused() {
        for bad in ["", "<x/>", "<prop/><allprop/>", "<propname/><allprop/>", "<prop/><propname/>"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(Wanted::of(Some(&xml::parse(b"<propfind/>").unwrap())).is_err());
    }
}
