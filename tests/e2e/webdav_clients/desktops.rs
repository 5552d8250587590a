//! GNOME's gvfs, and request by request what it sends where files are renamed and replaced.

use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace, run_ok};

const HEADERS: &str = "User-Agent: gvfs/1.50.3\r\nAccept-Language: fr, en;q=0.9\r\nTranslate: f\r\n";
const STAT: &str = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n <D:propfind xmlns:D=\"DAV:\">\n  <D:prop>\n\
    <D:creationdate/>\n<D:displayname/>\n<D:getcontentlength/>\n<D:getcontenttype/>\n<D:getetag/>\n<D:getlastmodified/>\n\
    <D:resourcetype/>\n  </D:prop>\n </D:propfind>";
const ROOM: &str = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n <D:propfind xmlns:D=\"DAV:\">\n  <D:prop>\n\
    <D:quota-available-bytes/>\n<D:quota-used-bytes/>\n  </D:prop>\n </D:propfind>";

#[test]
fn gnome_mounts_stores_renames_and_removes() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/webdav_clients/gvfs_session.sh");
    let place = gateway.webdav.replacen("https://", &format!("davs://{}@", gateway.user), 1);
    run_ok(
        Command::new("dbus-run-session")
            .args(["--", script, place.trim_end_matches('/'), &gateway.token])
            .env("XDG_RUNTIME_DIR", work.path())
            .current_dir(work.path()),
    )?;
    Ok(())
}

#[test]
fn gvfs_mounts_lists_saves_and_renames_without_overwriting() -> Result<()> {
    let gateway = Gateway::start()?;
    let gvfs = WebTrace::new(&gateway, HEADERS);
    gvfs.ask_before_login("OPTIONS /", "", 401)?;
    gvfs.ask("OPTIONS /", "", b"", 200)?;
    gvfs.ask("PROPFIND /", "Depth: 0\r\n", STAT.as_bytes(), 207)?;
    let room = gvfs.ask("PROPFIND /", "Depth: 0\r\n", ROOM.as_bytes(), 207)?;
    ensure!(
        room.element("D:quota-used-bytes").is_some() && !room.body.contains("404 Not Found"),
        "{}",
        room.body
    );
    for name in [".Trash", ".hidden", "autorun.inf", ".xdg-volume-info"] {
        gvfs.ask(&format!("PROPFIND /{name}"), "Depth: 0\r\n", STAT.as_bytes(), 404)?;
    }
    gvfs.ask("MKCOL /Nouveau%20dossier", "", b"", 201)?;
    gvfs.ask("PUT /Nouveau%20dossier/lettre.odt", "", b"content", 201)?;
    let listed = gvfs.ask("PROPFIND /Nouveau%20dossier", "Depth: 1\r\n", STAT.as_bytes(), 207)?;
    ensure!(listed.body.contains("<D:displayname>lettre.odt</D:displayname>"), "{}", listed.body);
    ensure!(listed.body.contains("<D:href>/Nouveau%20dossier/</D:href>"), "{}", listed.body);
    // What kind of file it is says its name: gvfs would believe a type that we do not know.
    ensure!(!listed.body.contains("octet-stream"), "{}", listed.body);
    // A save replaces what was read, and nothing else.
    let tag = listed.element("D:getetag").unwrap_or_default();
    gvfs.ask("PUT /Nouveau%20dossier/lettre.odt", &format!("If-Match: {tag}\r\n"), b"content 2", 204)?;
    gvfs.ask("PUT /Nouveau%20dossier/lettre.odt", &format!("If-Match: {tag}\r\n"), b"content 3", 412)?;
    gvfs.ask("PUT /Nouveau%20dossier/other.odt", "", b"other", 201)?;
    let onto = |name: &str, overwrite: char| {
        format!(
            "Destination: {}\r\nOverwrite: {overwrite}\r\n",
            gateway.url(&format!("Nouveau%20dossier/{name}"))
        )
    };
    gvfs.ask("MOVE /Nouveau%20dossier/lettre.odt", &onto("other.odt", 'F'), b"", 412)?;
    gvfs.ask("MOVE /Nouveau%20dossier/lettre.odt", &onto("renamed.odt", 'F'), b"", 201)?;
    gvfs.ask("COPY /Nouveau%20dossier/renamed.odt", &onto("other.odt", 'T'), b"", 204)?;
    let read = gvfs.ask("GET /Nouveau%20dossier/other.odt", "", b"", 200)?;
    ensure!(read.body == "content 2", "{}", read.body);
    gvfs.ask("DELETE /Nouveau%20dossier/", "", b"", 204)?;
    Ok(())
}
