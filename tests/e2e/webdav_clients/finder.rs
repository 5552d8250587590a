//! The Finder of macOS (`WebDAVFS`), request by request.

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace};

const HEADERS: &str = "User-Agent: WebDAVFS/3.0.0 (03008000) Darwin/23.1.0 (x86_64)\r\nAccept: */*\r\n";
const LOCK: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <D:lockinfo xmlns:D=\"DAV:\">\n<D:lockscope><D:exclusive/></D:lockscope>\n<D:locktype><D:write/></D:locktype>\n\
    <D:owner>\n<D:href>http://www.apple.com/webdav_fs/</D:href>\n</D:owner>\n</D:lockinfo>\n";
const STAT: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\">\n<D:prop>\n\
    <D:getlastmodified/>\n<D:getcontentlength/>\n<D:creationdate/>\n<D:resourcetype/>\n</D:prop>\n</D:propfind>\n";
const QUOTA: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\">\n<D:prop>\n\
    <D:quota-available-bytes/>\n<D:quota-used-bytes/>\n<D:quota/>\n<D:quotaused/>\n</D:prop>\n</D:propfind>\n";

/// How it stores one fork of a file.
fn stored(finder: WebTrace<'_>, path: &str, content: &[u8]) -> Result<()> {
    finder.ask(&format!("PROPFIND {path}"), "Depth: 0\r\n", STAT.as_bytes(), 404)?;
    finder.ask(&format!("PUT {path}"), "", b"", 201)?;
    let timeout = "Depth: 0\r\nTimeout: Second-600\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n";
    let token = finder.ask(&format!("LOCK {path}"), timeout, LOCK.as_bytes(), 200)?.lock_token()?;
    let holding = format!("If: (<{token}>)\r\n");
    let halves: Vec<&[u8]> = content.chunks(content.len().div_ceil(2).max(1)).collect();
    let length = format!("{holding}X-Expected-Entity-Length: {}\r\n", content.len());
    finder.ask_chunked(&format!("PUT {path}"), &length, &halves, 204)?;
    finder.ask(&format!("PROPFIND {path}"), "Depth: 0\r\n", STAT.as_bytes(), 207)?;
    // It holds on to the lock while it goes on writing.
    finder.ask(&format!("LOCK {path}"), &format!("{holding}Timeout: Second-600\r\n"), b"", 200)?;
    finder.ask(&format!("UNLOCK {path}"), &format!("Lock-Token: <{token}>\r\n"), b"", 204)?;
    Ok(())
}

#[test]
fn finder_mounts_writable_and_stores_both_forks_in_chunks() -> Result<()> {
    let gateway = Gateway::start()?;
    let finder = WebTrace::new(&gateway, HEADERS);
    finder.ask_before_login("OPTIONS /", "", 401)?;
    // Without class 2 it mounts read-only.
    let classes = finder.ask("OPTIONS /", "", b"", 200)?;
    ensure!(classes.header("dav").is_some_and(|classes| classes.starts_with("1, 2")), "{}", classes.head);
    let room = finder.ask("PROPFIND /", "Depth: 0\r\n", QUOTA.as_bytes(), 207)?;
    let bytes = |tag: &str| room.element(tag).and_then(|number| number.parse::<u64>().ok());
    ensure!(
        bytes("D:quota-available-bytes") > Some(0) && bytes("D:quota-used-bytes").is_some(),
        "{}",
        room.body
    );
    ensure!(room.body.contains("404 Not Found"), "names of a draft are unknown: {}", room.body);
    for path in
        ["/.DS_Store", "/.hidden", "/mach_kernel", "/.Spotlight-V100", "/.metadata_never_index", "/._."]
    {
        finder.ask(&format!("PROPFIND {path}"), "Depth: 0\r\n", STAT.as_bytes(), 404)?;
    }
    let picture = vec![7; 300_000];
    stored(finder, "/picture.png", &picture)?;
    stored(finder, "/._picture.png", &[0, 5, 22, 7, 0, 2, 0, 0])?;
    stored(finder, "/.DS_Store", b"Bud1")?;
    let listed = finder.ask("PROPFIND /", "Depth: 1\r\n", STAT.as_bytes(), 207)?;
    for name in ["picture.png", "._picture.png", ".DS_Store"] {
        ensure!(listed.body.contains(&format!("<D:href>/{name}</D:href>")), "{name} in {}", listed.body);
    }
    ensure!(listed.body.contains("<D:getcontentlength>300000<"), "{}", listed.body);
    let part = finder.ask("GET /picture.png", "Range: bytes=0-9\r\n", b"", 206)?;
    ensure!(part.body.len() == 10, "{}", part.head);
    Ok(())
}
