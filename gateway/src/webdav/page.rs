//! A directory as a page for a browser.

use http::{HeaderValue, header};
use quick_xml::escape::escape;

use super::headers;
use super::request::{Answer, Request, empty, full, put_safety};
use crate::limits::{LISTING_PIECE, PAGE_ENTRIES_MAX};
use crate::vfs::Kind;

const NANOS: i64 = 1_000_000_000;

/// A directory as a page for a browser.
///
/// # Errors
/// The refusal to answer with.
pub async fn page(request: &Request, head: bool) -> Answer {
    let mut response = empty(http::StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    put_safety(response.headers_mut());
    if head {
        return Ok(response);
    }
    let mut directory = request.namespace.open_directory(&request.path).await?;
    let mut rows: Vec<(bool, String, String)> = Vec::new();
    loop {
        let entries = directory.next(LISTING_PIECE).await?;
        if entries.is_empty() || rows.len() >= PAGE_ENTRIES_MAX {
            break;
        }
        for entry in entries {
            let is_directory = entry.attributes.kind == Kind::Directory;
            let shown = String::from_utf8_lossy(&entry.name).into_owned();
            let href = Request::href(&request.path.join(&entry.name)?, is_directory);
            let (slash, size) =
                if is_directory { ("/", String::new()) } else { ("", entry.attributes.size.to_string()) };
            let date = headers::date(entry.attributes.mtime.0.div_euclid(NANOS));
            let row = format!(
                "<tr><td><a href=\"{}\">{}{slash}</a></td><td>{size}</td><td>{date}</td></tr>\n",
                escape(&href),
                escape(&shown)
            );
            rows.push((!is_directory, shown, row));
        }
    }
    rows.sort();
    let title = String::from_utf8_lossy(&request.path.to_bytes()).into_owned();
    let mut text = format!(
        "<!DOCTYPE html><html><head><title>{0}</title><style>body{{font-family:sans-serif}}td{{padding:0 1em}}</style></head>\
         <body><h1>{0}</h1><table>\n",
        escape(&title)
    );
    if !request.path.components().is_empty() {
        text.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    rows.iter().for_each(|(_, _, row)| text.push_str(row));
    text.push_str("</table></body></html>\n");
    *response.body_mut() = full(text);
    Ok(response)
}
