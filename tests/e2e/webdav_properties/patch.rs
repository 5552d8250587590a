//! PROPPATCH: what clients keep with files.

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace};

use super::asked;

const WANTED: &str =
    "<author xmlns='urn:one'/><author xmlns='urn:two'/><author xmlns=''/><tags xmlns='urn:one'/>";
const SET: &str = "<D:propertyupdate xmlns:D='DAV:' xmlns:a='urn:one' xmlns:b='urn:two' xml:lang='fr'><D:set><D:prop>\
    <a:author>Zo\u{e9} &lt;&amp;&gt;</a:author><b:author xml:lang='de'>Jürgen</b:author><author/>\
    <a:tags>\n <b:tag at='1' b:at='2'>x</b:tag>y<![CDATA[<z>]]></a:tags></D:prop></D:set></D:propertyupdate>";

/// What was set, as it must come back.
fn is_there(gateway: &Gateway, path: &str) -> Result<()> {
    let found = asked(gateway, path, 0, WANTED)?;
    for wanted in [
        "<author xmlns=\"urn:one\" xml:lang=\"fr\">Zo\u{e9} &lt;&amp;&gt;</author>",
        "<author xmlns=\"urn:two\" xml:lang=\"de\">Jürgen</author>",
        "<author xmlns=\"\" xml:lang=\"fr\"/>",
        "<tags xmlns=\"urn:one\" xml:lang=\"fr\">\n <tag xmlns=\"urn:two\" at=\"1\"",
        ">x</tag>y&lt;z&gt;</tags>",
    ] {
        ensure!(found.body.contains(wanted), "{path}: {wanted} in {}", found.body);
    }
    ensure!(!found.body.contains("404 Not Found"), "{}", found.body);
    Ok(())
}

#[test]
fn properties_of_any_namespace_language_and_shape_survive_copy_move_and_restart() -> Result<()> {
    let mut gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir dir\n")?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /dir/file", "", b"content", 201)?;
    for path in ["/dir", "/dir/file"] {
        let set = trace.ask(&format!("PROPPATCH {path}"), "", SET.as_bytes(), 207)?;
        ensure!(set.body.contains("200 OK") && set.body.matches("<D:status>").count() == 1, "{}", set.body);
        is_there(&gateway, path)?;
    }
    let to = |path: &str| format!("Destination: {}\r\n", gateway.url(path));
    trace.ask("COPY /dir", &to("copied"), b"", 201)?;
    trace.ask("MOVE /copied/file", &to("copied/moved"), b"", 201)?;
    // Content that comes anew leaves them.
    trace.ask("PUT /copied/moved", "", b"other", 204)?;
    let (data, log) = (gateway.data.clone(), gateway.log.clone());
    gateway.stop()?;
    let mut again = Gateway::start_on(&data, &log)?;
    again.keep_directory_of(gateway);
    for path in ["/dir", "/dir/file", "/copied", "/copied/moved"] {
        is_there(&again, path)?;
    }
    // All of them, by name, and gone when removed.
    let trace = WebTrace::new(&again, "");
    let all = trace.ask("PROPFIND /copied/moved", "Depth: 0\r\n", b"", 207)?;
    ensure!(all.body.matches("author").count() == 5, "{}", all.body);
    let remove = "<propertyupdate xmlns='DAV:'><remove><prop><author xmlns='urn:one'/><never xmlns='urn:x'/></prop></remove></propertyupdate>";
    let removed = trace.ask("PROPPATCH /copied/moved", "", remove.as_bytes(), 207)?;
    ensure!(removed.body.contains("200 OK") && !removed.body.contains("404 Not Found"), "{}", removed.body);
    let left = asked(&again, "/copied/moved", 0, "<author xmlns='urn:one'/><author xmlns='urn:two'/>")?;
    ensure!(left.body.contains("404 Not Found") && left.body.contains("J\u{fc}rgen"), "{}", left.body);
    Ok(())
}

#[test]
fn one_protected_property_leaves_all_as_it_was() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /file", "", b"content", 201)?;
    for (protected, status) in [
        ("<getetag>\"1\"</getetag>", "403 Forbidden"),
        ("<resourcetype><collection/></resourcetype>", "403 Forbidden"),
        ("<lockdiscovery/>", "403 Forbidden"),
        ("<quota-used-bytes>0</quota-used-bytes>", "403 Forbidden"),
        ("<getlastmodified>yesterday</getlastmodified>", "409 Conflict"),
        ("<executable xmlns='http://apache.org/dav/props/'>yes</executable>", "409 Conflict"),
    ] {
        let body = format!(
            "<propertyupdate xmlns='DAV:'><set><prop><good xmlns='urn:x'>1</good></prop></set>\
             <set><prop>{protected}</prop></set></propertyupdate>"
        );
        let refused = trace.ask("PROPPATCH /file", "", body.as_bytes(), 207)?;
        ensure!(refused.body.contains(status), "{protected}: {}", refused.body);
        let others = "<good xmlns=\"urn:x\"/></D:prop><D:status>HTTP/1.1 424 Failed Dependency";
        ensure!(refused.body.contains(others) && !refused.body.contains("200 OK"), "{}", refused.body);
        let named = refused.body.contains("<D:error><D:cannot-modify-protected-property/></D:error>");
        ensure!(named == status.starts_with("403"), "{}", refused.body);
    }
    let found = asked(&gateway, "/file", 0, "<good xmlns='urn:x'/>")?;
    ensure!(found.body.contains("404 Not Found") && !found.body.contains("200 OK"), "{}", found.body);
    Ok(())
}

#[test]
fn a_change_of_properties_and_times_is_one() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /file", "", b"content", 201)?;
    let value = "x".repeat(40_000);
    let body = |number: u32| {
        format!(
            "<propertyupdate xmlns='DAV:'><set><prop><n{number} xmlns='urn:x'>{value}</n{number}>\
             <getlastmodified>Tue, 24 Nov 2020 10:00:0{number} GMT</getlastmodified></prop></set></propertyupdate>"
        )
    };
    let first = trace.ask("PROPPATCH /file", "", body(1).as_bytes(), 207)?;
    ensure!(first.body.contains("200 OK"), "{}", first.body);
    // The second does not fit: neither it nor the time that came with it is there.
    let second = trace.ask("PROPPATCH /file", "", body(2).as_bytes(), 207)?;
    ensure!(
        second.body.contains("507 Insufficient Storage") && !second.body.contains("200 OK"),
        "{}",
        second.body
    );
    let found = asked(&gateway, "/file", 0, "<n2 xmlns='urn:x'/><getlastmodified/>")?;
    ensure!(found.element("D:getlastmodified") == Some("Tue, 24 Nov 2020 10:00:01 GMT"), "{}", found.body);
    ensure!(found.body.contains("404 Not Found"), "{}", found.body);
    // What replaces something fits; what is larger than any body may be is refused as a whole.
    let again = trace.ask("PROPPATCH /file", "", body(1).as_bytes(), 207)?;
    ensure!(again.body.contains("200 OK"), "{}", again.body);
    let huge = format!(
        "<propertyupdate xmlns='DAV:'><set><prop><n xmlns='urn:x'>{}</n></prop></set></propertyupdate>",
        "x".repeat(70_000)
    );
    trace.ask("PROPPATCH /file", "", huge.as_bytes(), 413)?;
    Ok(())
}

#[test]
fn names_and_characters_that_would_break_the_answers_of_others_are_refused() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    trace.ask("PUT /file", "", b"content", 201)?;
    for inside in [
        "<a&b xmlns='urn:x'/>",
        "<1 xmlns='urn:x'/>",
        "<p:a:b xmlns:p='urn:x'/>",
        "<v xmlns='urn:x'>&#1;</v>",
        "<v xmlns='urn:x'>\u{1}</v>",
        "<v xmlns='urn:x' k='&#2;'/>",
        "<v xmlns='urn:x'>&#xfffe;</v>",
    ] {
        let body = format!("<propertyupdate xmlns='DAV:'><set><prop>{inside}</prop></set></propertyupdate>");
        trace.ask("PROPPATCH /file", "", body.as_bytes(), 400)?;
    }
    let tricky = "<propertyupdate xmlns='DAV:'><set><prop><v xmlns='urn:\"&gt;&lt;injected/&gt;'>]]&gt;&#13;</v></prop></set></propertyupdate>";
    trace.ask("PROPPATCH /file", "", tricky.as_bytes(), 207)?;
    let all = trace.ask("PROPFIND /file", "Depth: 0\r\n", b"", 207)?;
    ensure!(!all.body.contains("<injected") && all.body.contains("]]&gt;&#13;</v>"), "{}", all.body);
    coffre::webdav::xml::parse(all.body.as_bytes())?;
    Ok(())
}
