//! Dead properties (RFC 4918 section 4): what clients keep with us, as it is stored (storage/FORMAT.md section 4) and as it
//! is shown again. The key is namespace, zero byte, local name; the value is the XML inside the element, after its language
//! between two zero bytes where it has one.

use std::fmt::Write;

use super::headers;
use super::markup::push_attribute;
use super::xml::{Element, Name};
use crate::vfs::{Properties, UnixNanos};

const NANOS: i64 = 1_000_000_000;
/// The namespace of what Windows sets, and the prefix that answers declare for it.
pub const WIN32: &str = "urn:schemas-microsoft-com:";
/// The namespace in which clients of ownCloud ask for digests.
pub const OWNCLOUD: &str = "http://owncloud.org/ns";
const WIN32_PREFIX: &str = "Z";

/// Under which a property is stored.
pub fn key(name: &Name) -> Vec<u8> {
    format!("{}\0{}", name.space, name.local).into_bytes()
}

/// Digests of a file, as clients of ownCloud ask for them: ours, and shown as if they were kept with it.
pub fn checksums() -> Name {
    Name { space: OWNCLOUD.to_owned(), local: "checksums".to_owned() }
}

fn name_of(key: &[u8]) -> (&str, &str) {
    let text = std::str::from_utf8(key).unwrap_or_default();
    text.split_once('\0').unwrap_or(("", text))
}

/// What is stored of an element; `language` is what holds around it.
pub fn value(element: &Element, language: Option<&str>) -> Vec<u8> {
    let inner = element.inner_xml();
    match element.language().or(language) {
        Some(language) => format!("\0{language}\0{inner}").into_bytes(),
        None => inner.into_bytes(),
    }
}

fn parts_of(value: &[u8]) -> (Option<&str>, &str) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    match text.strip_prefix('\0').and_then(|rest| rest.split_once('\0')) {
        Some((language, inner)) => (Some(language), inner),
        None => (None, text),
    }
}

/// Appends an element of that name, empty or not. Answers declare the prefix for names of Windows, which come with every
/// file that it made.
fn push_element(out: &mut String, (space, local): (&str, &str), language: Option<&str>, inner: &str) {
    let prefixed = space == WIN32;
    if prefixed {
        let _written = write!(out, "<{WIN32_PREFIX}:{local}");
    } else {
        let _written = write!(out, "<{local} xmlns=\"");
        push_attribute(out, space);
        out.push('"');
    }
    if let Some(language) = language {
        out.push_str(" xml:lang=\"");
        push_attribute(out, language);
        out.push('"');
    }
    if inner.is_empty() {
        out.push_str("/>");
        return;
    }
    let _written = if prefixed {
        write!(out, ">{inner}</{WIN32_PREFIX}:{local}>")
    } else {
        write!(out, ">{inner}</{local}>")
    };
}

/// Appends an empty element of that name.
pub fn push_name(out: &mut String, name: &Name) {
    push_element(out, (&name.space, &name.local), None, "");
}

/// Appends an empty element of the name under which something is stored.
pub fn push_key(out: &mut String, key: &[u8]) {
    push_element(out, name_of(key), None, "");
}

/// Appends a stored property. Windows' own time of the last change is shown as it was sent as long as it is true: a file
/// that was written since has another.
pub fn push(out: &mut String, key: &[u8], value: &[u8], mtime: UnixNanos) {
    let (name, (language, inner)) = (name_of(key), parts_of(value));
    if name == (WIN32, "Win32LastModifiedTime") {
        let secs = mtime.0.div_euclid(NANOS);
        if headers::parse_date(inner).is_some_and(|sent| sent != secs) {
            return push_element(out, name, language, &headers::date(secs));
        }
    }
    push_element(out, name, language, inner);
}

/// Whether Windows stores under this key what `getlastmodified` says too, or what it does not show.
pub fn is_said_otherwise(key: &[u8]) -> bool {
    let (space, local) = name_of(key);
    space == WIN32 && matches!(local, "Win32LastModifiedTime" | "Win32LastAccessTime")
}

/// Whether the attributes that Windows gave a file say that it is hidden.
pub fn is_hidden(dead: &Properties) -> bool {
    const HIDDEN: u32 = 2;
    let stored = dead.get(format!("{WIN32}\0Win32FileAttributes").as_bytes());
    let bits = stored.and_then(|value| u32::from_str_radix(parts_of(value).1.trim(), 16).ok());
    bits.is_some_and(|bits| bits & HIDDEN != 0)
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn shown(body: &str, language: Option<&str>, mtime: i64) -> String {
        let element = xml::parse(body.as_bytes()).unwrap();
        let mut out = String::new();
        push(&mut out, &key(&element.name), &value(&element, language), UnixNanos(mtime * NANOS));
        out
    }

    #[test]
    fn a_property_comes_back_with_its_language_and_what_is_in_it() {
        let given = "<p:n xmlns:p='urn:a&amp;b' p:lost='1'>x<q xmlns='urn:q' k='v'/></p:n>";
        let want = "<n xmlns=\"urn:a&amp;b\" xml:lang=\"fr\">x<q xmlns=\"urn:q\" k=\"v\"/></n>";
        assert_eq!(shown(given, Some("fr"), 0), want);
        assert_eq!(
            shown("<n xmlns='u:' xml:lang='de'/>", Some("fr"), 0),
            "<n xmlns=\"u:\" xml:lang=\"de\"/>"
        );
        assert_eq!(shown("<n/>", None, 0), "<n xmlns=\"\"/>");
    }

    #[test]
    fn a_time_of_windows_is_shown_as_sent_until_the_file_changes() {
        let sent = "<Win32LastModifiedTime xmlns='urn:schemas-microsoft-com:'>Sun, 06 Nov 1994 08:49:37 GMT</Win32LastModifiedTime>";
        assert!(shown(sent, None, 784_111_777).contains("08:49:37"));
        assert!(shown(sent, None, 784_111_779).contains("08:49:39"));
    }
}
