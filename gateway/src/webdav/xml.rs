//! XML of requests, read into a small tree, and written back.
//!
//! Bounded before anything is built: 64 KiB, 32 levels, no DTD, no entities but the five of XML and character references.
//! Names are (namespace, local name); prefixes mean nothing.

use std::fmt::Write;

use quick_xml::NsReader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;

use super::markup::{is_char, is_name, push_attribute, push_text};
use crate::limits::{XML_BYTES_MAX, XML_DEPTH_MAX, XML_NODES_MAX};

/// The namespace of RFC 4918.
pub const DAV: &str = "DAV:";

/// The namespace of `xml:lang`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// A name with its namespace, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Namespace.
    pub space: String,
    /// Local part.
    pub local: String,
}

impl Name {
    /// Whether this is a name of RFC 4918.
    pub fn is_dav(&self, local: &str) -> bool {
        self.space == DAV && self.local == local
    }
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// Attributes without namespace declarations.
    pub attributes: Vec<(Name, String)>,
    /// What is in it.
    pub children: Vec<Node>,
}

/// A part of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, unescaped.
    Text(String),
}

/// Why bytes are no XML that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// More than 64 KiB.
    #[error("the XML body is larger than 64 KiB")]
    TooLarge,
    /// Nested too deep, or too many elements.
    #[error("the XML body is nested too deep or has too many elements")]
    TooDeep,
    /// A document type declaration.
    #[error("document type declarations and entities are not allowed")]
    Dtd,
    /// Not well-formed.
    #[error("the XML body is not well-formed")]
    Malformed,
}

impl Element {
    /// Child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child of that name of RFC 4918.
    pub fn dav(&self, local: &str) -> Option<&Self> {
        self.elements().find(|child| child.name.is_dav(local))
    }

    /// Its text, without that of its elements.
    pub fn text(&self) -> String {
        self.children
            .iter()
            .map(|node| match node {
                Node::Text(text) => text.as_str(),
                Node::Element(_) => "",
            })
            .collect()
    }

    /// Its `xml:lang`, if it has one of its own.
    pub fn language(&self) -> Option<&str> {
        let own = self.attributes.iter().find(|(name, _)| name.space == XML && name.local == "lang");
        own.map(|(_, value)| value.as_str())
    }

    /// What is in it, as XML that stands on its own.
    pub fn inner_xml(&self) -> String {
        let mut out = String::new();
        self.children.iter().for_each(|node| node.write(&mut out));
        out
    }
}

impl Node {
    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => push_text(out, text),
            Self::Element(element) => {
                let name = &element.name.local;
                let _written = write!(out, "<{name}");
                push_declared(out, "xmlns", &element.name.space);
                for (at, (name, value)) in element.attributes.iter().enumerate() {
                    match name.space.as_str() {
                        "" => push_declared(out, &name.local, value),
                        XML => push_declared(out, &format!("xml:{}", name.local), value),
                        space => {
                            push_declared(out, &format!("xmlns:a{at}"), space);
                            push_declared(out, &format!("a{at}:{}", name.local), value);
                        }
                    }
                }
                if element.children.is_empty() {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    element.children.iter().for_each(|node| node.write(out));
                    let _written = write!(out, "</{name}>");
                }
            }
        }
    }
}

fn push_declared(out: &mut String, name: &str, value: &str) {
    let _written = write!(out, " {name}=\"");
    push_attribute(out, value);
    out.push('"');
}

fn space_of(resolved: &ResolveResult<'_>) -> Result<String, XmlError> {
    match resolved {
        ResolveResult::Unbound => Ok(String::new()),
        // Binding a prefix to nothing is not allowed in XML namespaces 1.0; the default one may be undone.
        ResolveResult::Bound(space) => {
            let written = text_of(space.as_ref())?;
            let space = unescape(&written).map_err(|_| XmlError::Malformed)?;
            if space.chars().all(is_char) { Ok(space.into_owned()) } else { Err(XmlError::Malformed) }
        }
        ResolveResult::Unknown(_) => Err(XmlError::Malformed),
    }
}

fn text_of(bytes: &[u8]) -> Result<String, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Malformed)?;
    if text.chars().all(is_char) { Ok(text.to_owned()) } else { Err(XmlError::Malformed) }
}

/// Text as it stands in a document: a line ends with `\n`, however it was written (XML 1.0 section 2.11).
fn lines_of(bytes: &[u8]) -> Result<String, XmlError> {
    let text = text_of(bytes)?;
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

fn local_of(bytes: &[u8]) -> Result<String, XmlError> {
    text_of(bytes).and_then(|local| if is_name(&local) { Ok(local) } else { Err(XmlError::Malformed) })
}

fn start(reader: &NsReader<&[u8]>, tag: &BytesStart<'_>) -> Result<Element, XmlError> {
    let (space, local) = reader.resolver().resolve_element(tag.name());
    let name = Name { space: space_of(&space)?, local: local_of(local.as_ref())? };
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        let key = attribute.key.as_ref();
        if key.starts_with(b"xmlns:") && attribute.value.is_empty() {
            return Err(XmlError::Malformed);
        }
        if key == b"xmlns" || key.starts_with(b"xmlns:") {
            continue;
        }
        let (space, local) = reader.resolver().resolve_attribute(attribute.key);
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(|_| XmlError::Malformed)?
            .into_owned();
        if !value.chars().all(is_char) {
            return Err(XmlError::Malformed);
        }
        attributes.push((Name { space: space_of(&space)?, local: local_of(local.as_ref())? }, value));
    }
    Ok(Element { name, attributes, children: Vec::new() })
}

/// Reads a document.
///
/// # Errors
/// [`XmlError`].
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > XML_BYTES_MAX {
        return Err(XmlError::TooLarge);
    }
    let mut reader = NsReader::from_reader(bytes);
    reader.config_mut().check_end_names = true;
    let (mut open, mut root, mut nodes) = (Vec::<Element>::new(), None, 0_usize);
    loop {
        nodes += 1;
        if nodes > XML_NODES_MAX {
            return Err(XmlError::TooDeep);
        }
        let event = reader.read_event().map_err(|_| XmlError::Malformed)?;
        let (closed, text) = match event {
            Event::Start(tag) => {
                if open.len() >= XML_DEPTH_MAX {
                    return Err(XmlError::TooDeep);
                }
                if root.is_some() {
                    return Err(XmlError::Malformed);
                }
                open.push(start(&reader, &tag)?);
                (None, None)
            }
            Event::Empty(tag) => (Some(start(&reader, &tag)?), None),
            Event::End(_) => (Some(open.pop().ok_or(XmlError::Malformed)?), None),
            Event::Text(text) => (None, Some(lines_of(&text)?)),
            Event::CData(data) => (None, Some(lines_of(&data)?)),
            Event::GeneralRef(entity) => {
                let resolved = match entity.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
                    Some(letter) if is_char(letter) => letter.to_string(),
                    Some(_) => return Err(XmlError::Malformed),
                    None => resolve_predefined_entity(&text_of(&entity)?).ok_or(XmlError::Dtd)?.to_owned(),
                };
                (None, Some(resolved))
            }
            Event::DocType(_) => return Err(XmlError::Dtd),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) => (None, None),
            Event::Eof => break,
        };
        if let Some(text) = text {
            match open.last_mut() {
                Some(parent) => parent.children.push(Node::Text(text)),
                None if text.trim().is_empty() => {}
                None => return Err(XmlError::Malformed),
            }
        }
        if let Some(closed) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push(Node::Element(closed)),
                None if root.is_none() => root = Some(closed),
                None => return Err(XmlError::Malformed),
            }
        }
    }
    if !open.is_empty() {
        return Err(XmlError::Malformed);
    }
    root.ok_or(XmlError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_namespaces_and_values_come_back_whole() {
        let given = "<?xml version='1.0'?><p:prop xmlns:p='DAV:'><v xmlns='http://x/' p:k='1&amp;2' z='3'>a&lt;b<q xmlns=''/>&#233;</v></p:prop>";
        let root = parse(given.as_bytes()).unwrap();
        assert!(root.name.is_dav("prop"));
        let again = parse(format!("<r>{}</r>", root.inner_xml()).as_bytes()).unwrap();
        let values = |element: &Element| element.elements().next().cloned().unwrap();
        assert_eq!(values(&again), values(&root));
        assert_eq!(values(&root).text(), "a<bé");
        let spoken = parse(b"<a xml:lang='fr'>1\r\n2\r&#13;</a>").unwrap();
        assert_eq!((spoken.language(), spoken.text().as_str()), (Some("fr"), "1\n2\n\r"));
    }

    #[test]
    fn hostile_documents_are_refused_by_kind() {
        let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
        assert_eq!(parse(deep.as_bytes()), Err(XmlError::TooDeep));
        assert_eq!(parse(&vec![b' '; XML_BYTES_MAX + 1]), Err(XmlError::TooLarge));
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bb'>]><a>&b;</a>";
        assert_eq!(parse(bomb.as_bytes()), Err(XmlError::Dtd));
        assert_eq!(parse(b"<a>&xxe;</a>"), Err(XmlError::Dtd));
        for bad in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "text",
            "<x:a/>",
            "<a xmlns:b=''/>",
            "<a b='&c;'/>",
            "<a>&#1;</a>",
            "<a>\u{1}</a>",
            "<a&b/>",
            "<a b='&#2;'/>",
            "<p:1 xmlns:p='x:'/>",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(XmlError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in "(<[a-c:!?/ ='\"&;]{0,6}>|[a-z&;]{0,3}){0,12}") { drop(parse(text.as_bytes())); }
    }
}
