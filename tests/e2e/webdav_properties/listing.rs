//! PROPFIND: what comes, how much of it, and how it is written.

use anyhow::{Context, Result, ensure};
use coffre::webdav::xml;
use coffre_tests::files::write_file;
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{Gateway, RawHttp, RawSftp, WebTrace, run_ok};

use super::{asked, make_many};

/// What ten listings may take of memory, however long they are and however slowly they are read: held whole, each would take
/// 35 MiB.
const LISTINGS_BYTES_MAX: u64 = 64 << 20;

#[test]
fn a_listing_of_100_000_entries_streams_and_a_reader_that_stops_costs_no_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir /many\n")?;
    make_many(&gateway, "/many", 100_000)?;
    let before = gateway.resident_bytes()?;
    // Eight readers ask and read nothing.
    let mut stopped = Vec::new();
    for _ in 0..8 {
        let mut raw = RawHttp::connect(&gateway)?;
        raw.request("PROPFIND /many", "Depth: 1\r\nContent-Length: 0\r\nConnection: close\r\n")?;
        ensure!(raw.status()? == Some(207));
        stopped.push(raw);
    }
    let mut curl = gateway.curl();
    curl.args(["-X", "PROPFIND", "-H", "Depth: 1"]).arg(gateway.url("many"));
    let listed = run_ok(&mut curl)?.text();
    ensure!(listed.matches("<D:response>").count() == 100_001, "every entry, and the directory itself");
    ensure!(listed.ends_with("</D:multistatus>\n"), "the answer is whole");
    for number in [0, 50_000, 99_999] {
        ensure!(listed.contains(&format!("<D:href>/many/entry-{number:06}/</D:href>")), "{number}");
    }
    // The page for a browser shows all of them too.
    let page = run_ok(gateway.curl().arg(gateway.url("many/")))?.text();
    ensure!(page.matches("<th scope=\"row\">").count() == 100_000 && page.ends_with("</html>\n"));
    ensure!(page.contains("shown in no order"), "it says that they are not sorted");
    let after = gateway.resident_bytes()?;
    ensure!(after < before + LISTINGS_BYTES_MAX, "{} KiB more than before", (after - before) >> 10);
    // One of those who stopped goes on: nothing was lost.
    let late = stopped.pop().context("a reader")?.rest()?;
    let text = String::from_utf8_lossy(&late);
    ensure!(text.matches("<D:response>").count() > 99_000 && text.contains("</D:multistatus>"));
    Ok(())
}

#[test]
fn an_entry_for_windows_takes_less_than_350_bytes() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    for number in 0..200 {
        write_file(&work.path().join(format!("Report of the year {number:04}.docx")), b"x", 1_700_000_000)?;
    }
    gateway.sftp_batch(&format!("mkdir Reports\nput {}/*.docx Reports/\n", work.path().display()))?;
    let windows =
        WebTrace::new(&gateway, "User-Agent: Microsoft-WebDAV-MiniRedir/10.0.22631\r\ntranslate: f\r\n");
    let listed = windows.ask("PROPFIND /Reports", "Depth: 1\r\n", b"", 207)?;
    let entries = listed.body.matches("<D:response>").count();
    ensure!(entries == 201, "{entries}");
    ensure!(listed.body.len() / entries < 350, "{} bytes an entry", listed.body.len() / entries);
    for wanted in ["getcontentlength", "getlastmodified", "creationdate", "resourcetype"] {
        ensure!(listed.body.contains(&format!("<D:{wanted}")), "{wanted}");
    }
    Ok(())
}

#[test]
fn what_was_asked_for_comes_and_nothing_else_and_what_is_not_there_is_404_in_its_propstat() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir dir\n")?;
    WebTrace::new(&gateway, "").ask("PUT /dir/file", "", b"content", 201)?;
    let some = asked(&gateway, "/dir/file", 0, "<getcontentlength/><x xmlns='urn:x'/><getcontenttype/>")?;
    let good = "<D:propstat><D:prop><D:getcontentlength>7</D:getcontentlength></D:prop>\
                <D:status>HTTP/1.1 200 OK</D:status></D:propstat>";
    let missing = "<D:propstat><D:prop><x xmlns=\"urn:x\"/><getcontenttype xmlns=\"DAV:\"/></D:prop>\
                   <D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>";
    ensure!(some.body.contains(good) && some.body.contains(missing), "{}", some.body);
    ensure!(some.header("content-length").is_some(), "a short answer has a length: {}", some.head);
    // Nothing found: one propstat. Nothing asked: one too.
    let none = asked(&gateway, "/dir", 1, "<x xmlns='urn:x'/>")?;
    ensure!(none.body.matches("<D:propstat>").count() == 2 && !none.body.contains("200 OK"), "{}", none.body);
    let empty = asked(&gateway, "/dir", 0, "")?;
    ensure!(
        empty.body.matches("<D:propstat>").count() == 1 && empty.body.contains("200 OK"),
        "{}",
        empty.body
    );
    // Files have no quota, collections no length.
    let dir = asked(&gateway, "/dir", 1, "<getcontentlength/><quota-used-bytes/><getetag/>")?;
    ensure!(dir.body.matches("404 Not Found").count() == 2, "{}", dir.body);
    // Names without values; all with one more.
    let trace = WebTrace::new(&gateway, "Depth: 0\r\n");
    let names = trace.ask("PROPFIND /dir/file", "", b"<propfind xmlns='DAV:'><propname/></propfind>", 207)?;
    ensure!(
        names.body.contains("<D:getetag/>") && names.body.contains("<D:lockdiscovery/>"),
        "{}",
        names.body
    );
    ensure!(!names.body.contains("quota"), "{}", names.body);
    let body = b"<propfind xmlns='DAV:'><allprop/><include><supportedlock/></include></propfind>";
    let all = trace.ask("PROPFIND /dir/file", "", body, 207)?;
    ensure!(all.body.contains("<D:getetag>") && all.body.contains("<D:lockentry>"), "{}", all.body);
    let bare = trace.ask("PROPFIND /dir/file", "", b"", 207)?;
    ensure!(bare.body.contains("<D:getetag>") && !bare.body.contains("<D:lockentry>"), "{}", bare.body);
    for bad in ["<propfind xmlns='DAV:'/>", "<propfind xmlns='DAV:'><allprop/><propname/></propfind>", "<a/>"]
    {
        trace.ask("PROPFIND /dir/file", "", bad.as_bytes(), 400)?;
    }
    Ok(())
}

#[test]
fn the_entity_tag_is_the_same_everywhere_and_quoted() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    let put = trace.ask("PUT /file", "", b"content", 201)?;
    let head = trace.ask("HEAD /file", "", b"", 200)?;
    let found = asked(&gateway, "/file", 0, "<getetag/>")?;
    let tag = put.header("etag").context("a tag")?;
    ensure!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 4, "{tag}");
    ensure!(head.header("etag") == Some(tag) && found.element("D:getetag") == Some(tag), "{}", found.body);
    Ok(())
}

#[test]
fn names_of_any_bytes_come_in_answers_that_every_reader_understands() -> Result<()> {
    let gateway = Gateway::start()?;
    let names: [&[u8]; 8] = [
        b"plain (1) & co; #2?.txt",
        b"latin-1 \xe9",
        b"bell \x07 escape \x1b",
        b"<b>\"'",
        "r\u{202e}tl".as_bytes(),
        "\u{ffff}".as_bytes(),
        b"percent %41 +",
        "d\u{e9}j\u{e0} vu".as_bytes(),
    ];
    let mut raw = RawSftp::start(&gateway)?;
    for name in names {
        let path = [b"/", name].concat();
        ensure!(raw.ask(kind::MKDIR, &[&string(&path), &[0; 4]])?.status() == Some(0), "{name:?}");
    }
    let listed = asked(&gateway, "/", 1, "<displayname/><resourcetype/>")?;
    // Our own reader takes only what is well-formed, characters included.
    let root = xml::parse(listed.body.as_bytes())?;
    let hrefs: Vec<String> =
        root.elements().filter_map(|response| response.dav("href")).map(xml::Element::text).collect();
    ensure!(hrefs.len() == names.len() + 1, "{hrefs:?}");
    for href in &hrefs {
        ensure!(href.starts_with('/') && href.ends_with('/'), "a collection ends with a slash: {href}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
        ensure!(href.bytes().all(plain), "{href}");
        // And leads back to what it names.
        let own = asked(&gateway, href, 0, "<resourcetype/>")?;
        ensure!(own.body.contains(&format!("<D:href>{href}</D:href>")), "{href}: {}", own.body);
    }
    ensure!(hrefs.iter().any(|href| href == "/latin-1%20%E9/"), "{hrefs:?}");
    Ok(())
}

#[test]
fn room_is_told_of_the_collection_that_is_asked_about_also_where_all_is_asked() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "10M"])?;
    gateway.sftp_batch("mkdir dir\nmkdir dir/below\n")?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /dir/file", "", &[1; 1000], 201)?;
    let all = trace.ask("PROPFIND /dir", "Depth: 1\r\n", b"", 207)?;
    let number = |tag: &str| all.element(tag).and_then(|number| number.parse::<u64>().ok());
    let (free, used) = (number("D:quota-available-bytes"), number("D:quota-used-bytes"));
    ensure!(
        used >= Some(1000) && free.zip(used).is_some_and(|(free, used)| free + used == 10 << 20),
        "{}",
        all.body
    );
    ensure!(all.body.matches("quota-used-bytes>").count() == 2, "of one collection only: {}", all.body);
    Ok(())
}

#[test]
fn what_windows_and_apache_call_hidden_and_executable_is_told_when_asked() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /script", "", b"#!/bin/sh", 201)?;
    let wanted = "<ishidden/><iscollection/><executable xmlns='http://apache.org/dav/props/'/>";
    let plain = asked(&gateway, "/script", 0, wanted)?;
    for (tag, value) in [("D:ishidden", "0"), ("D:iscollection", "0"), ("X:executable", "F")] {
        ensure!(plain.element(tag) == Some(value), "{tag}: {}", plain.body);
    }
    let update = "<propertyupdate xmlns='DAV:'><set><prop><executable xmlns='http://apache.org/dav/props/'>T</executable>\
                  <Win32FileAttributes xmlns='urn:schemas-microsoft-com:'>00000022</Win32FileAttributes></prop></set></propertyupdate>";
    trace.ask("PROPPATCH /script", "", update.as_bytes(), 207)?;
    let changed = asked(&gateway, "/script", 0, wanted)?;
    for (tag, value) in [("D:ishidden", "1"), ("X:executable", "T")] {
        ensure!(changed.element(tag) == Some(value), "{tag}: {}", changed.body);
    }
    let shown = gateway.sftp_batch("ls -l script\n")?.text();
    ensure!(shown.contains("-rwxr-xr-x"), "SFTP sees it: {shown}");
    Ok(())
}
