//! A directory as a page for a browser: plain HTML that reads well aloud, in black and white and without scripts. Files are
//! downloads. Up to [`PAGE_SORTED_MAX`] entries are sorted; more are all shown, as they come.

use std::cmp::Reverse;
use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::headers;
use super::markup::push_text;
use super::request::{Answer, Body, Request, empty, full, push_segment};
use super::words::Words;
use crate::limits::{LISTING_PIECE, PAGE_PIECE_BYTES, PAGE_SORTED_MAX};
use crate::vfs::{DirectoryEntry, DirectoryHandle, Follow, Kind, Namespace, SNAPSHOTS, VaultPath, VfsError};

const NANOS: i64 = 1_000_000_000;
const STYLE: &str = ":root{color-scheme:light dark}\
    body{font:1rem/1.5 system-ui,sans-serif;margin:1rem auto;max-width:72rem;padding:0 1rem}\
    nav ol{display:flex;flex-wrap:wrap;list-style:none;margin:0;padding:0}\
    nav li+li::before{content:\"/\";padding:0 .5em}\
    h1,a{overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}\
    caption{padding:.5rem 0;text-align:start}\
    th,td{border-bottom:1px solid;padding:.25rem .75rem .25rem 0;text-align:start;vertical-align:top}\
    tbody th{font-weight:400}\
    .n{text-align:end;white-space:nowrap}";
/// No script, no frame, no form; the one style by its digest.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let sum = digest::digest(&digest::SHA256, STYLE.as_bytes());
    let sum = base64::engine::general_purpose::STANDARD.encode(sum);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{sum}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

fn put_headers(headers: &mut HeaderMap, words: &Words) {
    let policy = POLICY.clone().unwrap_or_else(|| HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(words.language));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "accept-language"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A directory as a page for a browser.
///
/// # Errors
/// The refusal to answer with.
pub async fn page(request: &Request, head: bool) -> Answer {
    let words = Words::of(headers::language(&request.headers));
    let mut response = empty(http::StatusCode::OK);
    put_headers(response.headers_mut(), words);
    if head {
        return Ok(response);
    }
    let mut directory = request.namespace.open_directory(&request.path).await?;
    let (mut entries, mut ended) = (Vec::new(), false);
    while !ended && entries.len() <= PAGE_SORTED_MAX {
        let read = directory.next(LISTING_PIECE).await?;
        ended = read.is_empty();
        entries.extend(followed(&request.namespace, &request.path, read).await?);
    }
    if ended {
        entries.sort_by_cached_key(|entry| {
            let is_directory = entry.attributes.kind == Kind::Directory;
            let name = String::from_utf8_lossy(&entry.name).to_lowercase();
            (Reverse(is_directory), name, entry.name.clone())
        });
    }
    let mut out = String::new();
    push_head(&mut out, &request.path, words);
    if !ended {
        let _written = writeln!(out, "<p>{}</p>", words.unsorted);
    }
    let is_empty = entries.is_empty();
    if is_empty {
        let _written = writeln!(out, "<p>{}</p>", words.empty);
    } else {
        push_table_head(&mut out, &request.path, words);
    }
    let mut rows = Rows {
        namespace: request.namespace.clone(),
        path: request.path.clone(),
        href: Request::href(&request.path, true),
        words,
        read: entries.into_iter(),
        rest: (!ended).then_some(directory),
        end: if is_empty { "</main>\n" } else { "</tbody>\n</table>\n</main>\n" },
        ended: false,
    };
    rows.push_piece(&mut out).await?;
    *response.body_mut() = if rows.ended { full(out) } else { streamed(out, rows) };
    Ok(response)
}

/// Links are what they lead to; those that lead nowhere are not shown.
async fn followed(
    namespace: &Namespace,
    path: &VaultPath,
    mut entries: Vec<DirectoryEntry>,
) -> Result<Vec<DirectoryEntry>, VfsError> {
    let mut dangling = false;
    for entry in entries.iter_mut().filter(|entry| entry.attributes.kind == Kind::SymbolicLink) {
        match namespace.stat(&path.join(&entry.name)?, Follow::Yes).await {
            Ok(found) => entry.attributes = found,
            Err(_) => dangling = true,
        }
    }
    if dangling {
        entries.retain(|entry| entry.attributes.kind != Kind::SymbolicLink);
    }
    Ok(entries)
}

/// Appends a name, whatever bytes it has: what would turn or hide the text around it is spelled out.
fn push_shown(out: &mut String, name: &[u8]) {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let hides = letter.is_control()
                || matches!(letter,
                    '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if hides {
                let _written = write!(text, "\\u{{{:x}}}", u32::from(letter));
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            let _written = write!(text, "\\x{byte:02x}");
        }
    }
    out.push_str("<bdi>");
    push_text(out, &text);
    out.push_str("</bdi>");
}

fn is_past(path: &VaultPath) -> bool {
    path.components().first().is_some_and(|name| name == SNAPSHOTS)
}

fn push_head(out: &mut String, path: &VaultPath, words: &Words) {
    let mut title = String::new();
    push_shown(&mut title, &path.to_bytes());
    // An element has no meaning in a title.
    let plain = title.replace("<bdi>", "").replace("</bdi>", "");
    let _written = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{} {plain}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<nav aria-label=\"{}\">\n<ol>\n",
        words.language, words.contents_of, words.path
    );
    let (mut href, names) = ("/".to_owned(), path.components());
    push_step(out, &href, names.is_empty(), |out| out.push_str(words.home));
    for (at, name) in names.iter().enumerate() {
        push_segment(&mut href, name);
        href.push('/');
        push_step(out, &href, at + 1 == names.len(), |out| push_shown(out, name));
    }
    let _written = write!(out, "</ol>\n</nav>\n<main>\n<h1>{} {title}</h1>\n", words.contents_of);
    if is_past(path) {
        let _written = writeln!(out, "<p>{}</p>", words.past);
    }
}

fn push_step(out: &mut String, href: &str, is_last: bool, name: impl Fn(&mut String)) {
    let here = if is_last { " aria-current=\"page\"" } else { "" };
    let _written = write!(out, "<li><a href=\"{href}\"{here}>");
    name(out);
    out.push_str("</a></li>\n");
}

fn push_table_head(out: &mut String, path: &VaultPath, words: &Words) {
    let _written = write!(out, "<table>\n<caption>{} ", words.contents_of);
    push_shown(out, &path.to_bytes());
    let _written = write!(
        out,
        "</caption>\n<thead>\n<tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\" class=\"n\">{}</th>\
         <th scope=\"col\">{}</th></tr>\n</thead>\n<tbody>\n",
        words.name, words.kind, words.size, words.changed
    );
}

/// The rest of a page on its way out.
struct Rows {
    namespace: Namespace,
    path: VaultPath,
    /// Of the directory, with its slash at the end.
    href: String,
    words: &'static Words,
    read: std::vec::IntoIter<DirectoryEntry>,
    /// Where more comes from.
    rest: Option<DirectoryHandle>,
    /// How the page ends.
    end: &'static str,
    ended: bool,
}

impl Rows {
    async fn push_piece(&mut self, out: &mut String) -> Result<(), VfsError> {
        while out.len() < PAGE_PIECE_BYTES && !self.ended {
            if let Some(entry) = self.read.next() {
                self.push_row(&entry, out);
                continue;
            }
            let read = match &mut self.rest {
                Some(directory) => directory.next(LISTING_PIECE).await?,
                None => Vec::new(),
            };
            self.ended = read.is_empty();
            self.read = followed(&self.namespace, &self.path, read).await?.into_iter();
        }
        if self.ended {
            self.push_end(out);
        }
        Ok(())
    }

    fn push_end(&self, out: &mut String) {
        out.push_str(self.end);
        if !is_past(&self.path) {
            let past = String::from_utf8_lossy(SNAPSHOTS);
            let _written = writeln!(out, "<footer><a href=\"/{past}/\">{}</a></footer>", self.words.earlier);
        }
        out.push_str("</body>\n</html>\n");
    }

    fn push_row(&self, entry: &DirectoryEntry, out: &mut String) {
        let attributes = &entry.attributes;
        let words = self.words;
        out.push_str("<tr><th scope=\"row\"><a href=\"");
        out.push_str(&self.href);
        push_segment(out, &entry.name);
        let is_directory = attributes.kind == Kind::Directory;
        out.push_str(if is_directory { "/\">" } else { "\">" });
        push_shown(out, &entry.name);
        let kind = if is_directory { words.directory } else { words.file };
        let _written = write!(out, "</a></th><td>{kind}</td><td class=\"n\">");
        if !is_directory {
            let _written = write!(out, "<data value=\"{}\" title=\"", attributes.size);
            words.push_bytes(out, attributes.size);
            out.push_str("\">");
            words.push_size(out, attributes.size);
            out.push_str("</data>");
        }
        let changed = attributes.mtime.0.div_euclid(NANOS);
        out.push_str("</td><td><time datetime=\"");
        headers::push_rfc3339(out, changed);
        out.push_str("\">");
        words.push_time(out, changed);
        out.push_str("</time></td></tr>\n");
    }
}

/// The first piece, then the others. What fails on the way breaks the page off.
fn streamed(first: String, rows: Rows) -> Body {
    let pieces = stream::unfold(Some((Some(first), rows)), |state| async move {
        let (first, mut rows) = state?;
        if let Some(first) = first {
            return Some((Ok(Frame::data(Bytes::from(first))), Some((None, rows))));
        }
        if rows.ended {
            return None;
        }
        let mut out = String::with_capacity(PAGE_PIECE_BYTES + PAGE_PIECE_BYTES / 8);
        match rows.push_piece(&mut out).await {
            Ok(()) => Some((Ok(Frame::data(Bytes::from(out))), Some((None, rows)))),
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_turns_and_hides_nothing() {
        let shown = |name: &[u8]| {
            let mut out = String::new();
            push_shown(&mut out, name);
            out
        };
        assert_eq!(shown("exe.\u{202e}fdp".as_bytes()), "<bdi>exe.\\u{202e}fdp</bdi>");
        assert_eq!(shown(b"<b>\x1b[31m\xe9&"), "<bdi>&lt;b&gt;\\u{1b}[31m\\xe9&amp;</bdi>");
        assert_eq!(shown("é שלום".as_bytes()), "<bdi>é שלום</bdi>");
    }
}
