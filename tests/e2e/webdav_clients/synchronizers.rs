//! Programs that keep notes and archives in step: Joplin, `KeePass`, Zotero; and sitecopy, which runs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace, run, run_ok};

#[test]
fn joplin_sends_a_tag_without_quotes_and_still_writes() -> Result<()> {
    let gateway = Gateway::start()?;
    let joplin = WebTrace::new(&gateway, "User-Agent: Joplin/2.12\r\n");
    joplin.ask("MKCOL /.sync", "", b"", 201)?;
    joplin.ask("MKCOL /.sync", "", b"", 405)?;
    joplin.ask("GET /note.md", "If-None-Match: JoplinIgnore-123\r\n", b"", 404)?;
    joplin.ask("PUT /note.md", "If-None-Match: JoplinIgnore-123\r\n", b"a note", 201)?;
    joplin.ask("PUT /note.md", "If-None-Match: JoplinIgnore-456\r\n", b"a new note", 204)?;
    let read = joplin.ask("GET /note.md", "If-None-Match: JoplinIgnore-789\r\n", b"", 200)?;
    ensure!(read.body == "a new note", "{}", read.body);
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><d:propfind xmlns:d=\"DAV:\"><d:prop>\
        <d:getlastmodified/><d:resourcetype/></d:prop></d:propfind>";
    let listed = joplin.ask("PROPFIND /", "Depth: 1\r\n", body.as_bytes(), 207)?;
    ensure!(listed.body.contains("/note.md<") && listed.body.contains("/.sync/<"), "{}", listed.body);
    Ok(())
}

#[test]
fn keepass_and_zotero_write_aside_and_move_over() -> Result<()> {
    let gateway = Gateway::start()?;
    let client = WebTrace::new(&gateway, "User-Agent: KeePass\r\n");
    client.ask("GET /vault.kdbx", "", b"", 404)?;
    client.ask("HEAD /vault.kdbx", "", b"", 404)?;
    let onto = format!("Destination: {}\r\nOverwrite: T\r\n", gateway.url("vault.kdbx"));
    for (content, status) in [("first", 201), ("second", 204)] {
        client.ask("PUT /vault.kdbx.tmp", "", content.as_bytes(), 201)?;
        client.ask("MOVE /vault.kdbx.tmp", &onto, b"", status)?;
        client.ask("HEAD /vault.kdbx.tmp", "", b"", 404)?;
        let read = client.ask("GET /vault.kdbx", "", b"", 200)?;
        ensure!(read.body == content, "{}", read.body);
    }
    // Zotero removes the old one first where it was told to.
    client.ask("DELETE /vault.kdbx", "", b"", 204)?;
    client.ask("DELETE /vault.kdbx", "", b"", 404)?;
    Ok(())
}

#[test]
fn sitecopy_brings_a_site_in_step() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let site = work.path().join("site");
    fs::create_dir_all(site.join("images"))?;
    fs::write(site.join("index.html"), b"<p>one</p>")?;
    fs::write(site.join("images/a.png"), vec![3; 70_000])?;
    gateway.sftp_batch("mkdir www\n")?;
    let (host, port) = gateway
        .webdav
        .trim_start_matches("https://")
        .trim_end_matches('/')
        .rsplit_once(':')
        .unwrap_or_default();
    let settings = format!(
        "site coffre\n  server {host}\n  port {port}\n  protocol webdav\n  http secure\n  username {}\n  password {}\n  \
         local {}\n  remote /www/\n  safe\n",
        gateway.user,
        gateway.token,
        site.display()
    );
    let settings_file = work.path().join("sitecopyrc");
    fs::write(&settings_file, settings)?;
    let state = work.path().join("state");
    fs::create_dir(&state)?;
    for private in [&settings_file, &state] {
        run_ok(Command::new("chmod").arg("go-rwx").arg(private))?;
    }
    let sitecopy = |action: &str| {
        let mut command = Command::new("sitecopy");
        // It asks whether to trust a certificate that its library does not.
        command.env("SSL_CERT_FILE", &gateway.ca_file).arg("-r").arg(&settings_file).arg("-p").arg(&state);
        let finished = run(command.args([action, "coffre"]), b"y\n")?;
        ensure!(finished.status.success(), "{action}: {}\n{}", finished.text(), finished.stderr);
        Ok(())
    };
    sitecopy("--initialize")?;
    sitecopy("--update")?;
    ensure!(run_ok(gateway.curl().arg(gateway.url("www/index.html")))?.stdout == b"<p>one</p>");
    ensure!(run_ok(gateway.curl().arg(gateway.url("www/images/a.png")))?.stdout.len() == 70_000);
    fs::write(site.join("index.html"), b"<p>two, longer</p>")?;
    fs::remove_dir_all(site.join("images"))?;
    sitecopy("--update")?;
    ensure!(run_ok(gateway.curl().arg(gateway.url("www/index.html")))?.stdout == b"<p>two, longer</p>");
    sitecopy("--fetch")?;
    Ok(())
}
