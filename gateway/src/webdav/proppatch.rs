//! PROPPATCH (RFC 4918 section 9.2): what clients keep with a resource, and the times and the right to run a file, in one
//! transaction. All or nothing: one instruction that cannot be followed leaves all as it was.

use http::StatusCode;

use super::body::Incoming;
use super::dead::{self, WIN32};
use super::headers;
use super::live::{EXECUTABLE_BITS, Live};
use super::properties::{PROPSTAT, ROOT, ROOT_END, push_propstat_end};
use super::request::{Answer, Request, xml_answer};
use super::status::{Refused, refuse};
use super::xml::{Element, Name};
use crate::vfs::{AttributeChange, Attributes, Kind, Reach, StoreError, UnixNanos, VfsError};

const NANOS: i64 = 1_000_000_000;

/// One instruction.
struct Patch {
    name: Name,
    /// What is set, and its language where that is said around it; nothing to remove it.
    value: Option<(Element, Option<String>)>,
}

/// The instructions in their order.
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
        let Some(list) = step.dav("prop") else {
            return refuse(StatusCode::BAD_REQUEST, "a step has no prop");
        };
        let language = list.language().or_else(|| step.language()).or_else(|| root.language());
        all.extend(list.elements().map(|element| Patch {
            name: element.name.clone(),
            value: sets.then(|| (element.clone(), language.map(str::to_owned))),
        }));
    }
    if all.is_empty() {
        refuse(StatusCode::BAD_REQUEST, "the propertyupdate changes nothing")
    } else {
        Ok(all)
    }
}

/// Why an instruction cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The property is computed.
    Protected,
    /// The value is none for this property.
    Value,
    /// What is kept with one resource has a bound.
    Room,
}

impl Obstacle {
    fn status(self) -> &'static str {
        match self {
            Self::Protected => "403 Forbidden",
            Self::Value => "409 Conflict",
            Self::Room => "507 Insufficient Storage",
        }
    }

    fn condition(self) -> Option<&'static str> {
        match self {
            Self::Protected => Some("cannot-modify-protected-property"),
            Self::Value | Self::Room => None,
        }
    }
}

/// What all instructions together change.
#[derive(Default)]
struct Changes {
    attributes: AttributeChange,
    properties: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn time_of(text: &str) -> Option<UnixNanos> {
    let secs = headers::parse_date(text).or_else(|| text.trim().parse().ok())?;
    secs.checked_mul(NANOS).map(UnixNanos)
}

impl Changes {
    fn add(&mut self, patch: &Patch, found: &Attributes, digests: &str) -> Result<(), Obstacle> {
        let text = patch.value.as_ref().map(|(element, _)| element.text());
        if patch.name == dead::checksums() {
            return if says_again(patch, digests) { Ok(()) } else { Err(Obstacle::Protected) };
        }
        match (Live::of(&patch.name), text) {
            (None | Some(Live::DisplayName), text) => {
                let stored =
                    patch.value.as_ref().map(|(element, language)| dead::value(element, language.as_deref()));
                self.properties.push((dead::key(&patch.name), stored));
                if let Some(time) = text.as_deref().and_then(time_of) {
                    self.add_time(&patch.name, time);
                }
            }
            // The file's own time is not kept twice.
            (Some(Live::LastModified), Some(text)) => {
                self.attributes.mtime = Some(time_of(&text).ok_or(Obstacle::Value)?);
            }
            (Some(Live::Executable), Some(text)) => {
                let mode = self.attributes.mode.unwrap_or(found.mode);
                self.attributes.mode = Some(match (found.kind, text.trim()) {
                    (Kind::File, "T") => mode | EXECUTABLE_BITS,
                    (Kind::File, "F") => mode & !EXECUTABLE_BITS,
                    (Kind::File | Kind::Directory | Kind::SymbolicLink, _) => return Err(Obstacle::Value),
                });
            }
            (Some(_), _) => return Err(Obstacle::Protected),
        }
        Ok(())
    }

    /// Times that clients keep as properties of their own are the file's too.
    fn add_time(&mut self, name: &Name, time: UnixNanos) {
        match (name.space.as_str(), name.local.as_str()) {
            (WIN32, "Win32LastModifiedTime") => self.attributes.mtime = Some(time),
            (WIN32, "Win32LastAccessTime") => self.attributes.atime = Some(time),
            _ if name.is_dav("lastmodified") => self.attributes.mtime = Some(time),
            _ => {}
        }
    }
}

/// Whether checksums that are to be set are among those that are known, as rclone says them again along with a time.
fn says_again(patch: &Patch, known: &str) -> bool {
    let is_known = |word: &str| known.split(' ').any(|known| known.eq_ignore_ascii_case(word));
    let said = patch.value.as_ref().and_then(|(element, _)| element.elements().next().map(Element::text));
    said.is_some_and(|said| !said.trim().is_empty() && said.split_ascii_whitespace().all(is_known))
}

/// Appends a `propstat` of the names that were chosen, if there are any.
fn push_outcome(out: &mut String, names: &[&Name], status: &str, condition: Option<&str>) {
    if names.is_empty() {
        return;
    }
    out.push_str(PROPSTAT);
    names.iter().for_each(|name| dead::push_name(out, name));
    push_propstat_end(out, status, condition);
}

/// PROPPATCH.
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
    let digests = if patches.iter().any(|patch| patch.name == dead::checksums()) {
        request.namespace.kept_digests(&request.path).await?.map(|kept| headers::shown_checksums(&kept))
    } else {
        None
    };
    let digests = digests.unwrap_or_default();
    let mut changes = Changes::default();
    let mut obstacles: Vec<Option<Obstacle>> =
        patches.iter().map(|patch| changes.add(patch, &found, &digests).err()).collect();
    if obstacles.iter().all(Option::is_none) {
        match request.namespace.set_properties(&request.path, changes.properties, changes.attributes).await {
            Ok(()) => {}
            Err(VfsError::Store(StoreError::TooLarge(_))) => {
                obstacles.iter_mut().for_each(|obstacle| *obstacle = Some(Obstacle::Room));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut out = ROOT.to_owned();
    out.push_str("<D:response><D:href>");
    out.push_str(&Request::href(&request.path, found.kind == Kind::Directory));
    out.push_str("</D:href>");
    let of = |wanted: Option<Obstacle>| -> Vec<&Name> {
        let both = patches.iter().zip(&obstacles);
        both.filter(|(_, obstacle)| **obstacle == wanted).map(|(patch, _)| &patch.name).collect()
    };
    for obstacle in [Obstacle::Protected, Obstacle::Value, Obstacle::Room] {
        push_outcome(&mut out, &of(Some(obstacle)), obstacle.status(), obstacle.condition());
    }
    let failed = obstacles.iter().any(Option::is_some);
    push_outcome(&mut out, &of(None), if failed { "424 Failed Dependency" } else { "200 OK" }, None);
    out.push_str("</D:response>\n");
    out.push_str(ROOT_END);
    Ok(xml_answer(StatusCode::MULTI_STATUS, out))
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn of(inside: &str) -> Vec<Patch> {
        let body = format!("<D:propertyupdate xmlns:D='DAV:' xml:lang='fr'>{inside}</D:propertyupdate>");
        patches(&xml::parse(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn instructions_keep_their_order_and_the_language_around_them() {
        let all = of("<D:set><D:prop><a/></D:prop></D:set><D:remove><D:prop><a/></D:prop></D:remove>\
             <D:set xml:lang='de'><D:prop><b/></D:prop></D:set>");
        let languages: Vec<Option<&str>> = all
            .iter()
            .map(|patch| patch.value.as_ref().and_then(|(_, language)| language.as_deref()))
            .collect();
        assert_eq!(languages, [Some("fr"), None, Some("de")]);
    }
}
