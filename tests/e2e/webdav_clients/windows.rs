//! Windows' `WebClient` (`\\host@SSL\DavWWWRoot`), request by request.

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace};

const HEADERS: &str = "User-Agent: Microsoft-WebDAV-MiniRedir/10.0.22631\r\ntranslate: f\r\n";
const LOCK: &str = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\
    <D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>\
    <D:owner><D:href>PC\\user</D:href></D:owner></D:lockinfo>";
const CREATED: &str = "Tue, 24 Nov 2020 10:00:01 GMT";
const MODIFIED: &str = "Tue, 24 Nov 2020 10:00:03 GMT";

fn times() -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\
         <D:propertyupdate xmlns:D=\"DAV:\" xmlns:Z=\"urn:schemas-microsoft-com:\"><D:set><D:prop>\
         <Z:Win32CreationTime>{CREATED}</Z:Win32CreationTime>\
         <Z:Win32LastAccessTime>{CREATED}</Z:Win32LastAccessTime>\
         <Z:Win32LastModifiedTime>{MODIFIED}</Z:Win32LastModifiedTime>\
         <Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
    )
    .into_bytes()
}

#[test]
fn windows_asks_what_the_server_is_before_it_logs_in_and_nobody_else_is_told() -> Result<()> {
    let gateway = Gateway::start()?;
    let windows = WebTrace::new(&gateway, HEADERS);
    for path in ["/", "/no/such/path/", "/.snapshots/"] {
        let told = windows.ask_before_login(&format!("OPTIONS {path}"), "", 200)?;
        ensure!(told.header("ms-author-via") == Some("DAV"), "{}", told.head);
        ensure!(told.header("dav").is_some_and(|classes| classes.starts_with("1, 2")), "{}", told.head);
        ensure!(told.body.is_empty(), "{}", told.body);
    }
    // Only that, and only without a credential: a wrong one is refused.
    windows.ask_before_login("OPTIONS /", "Authorization: Basic eDp5\r\n", 401)?;
    for line in ["PROPFIND /", "GET /", "HEAD /", "PUT /x", "LOCK /x"] {
        let refused = windows.ask_before_login(line, "Depth: 0\r\nContent-Length: 0\r\n", 401)?;
        ensure!(
            refused.header("www-authenticate").is_some_and(|how| how.starts_with("Basic")),
            "{}",
            refused.head
        );
    }
    for agent in ["davfs2/1.6.1 neon/0.32.5", "Microsoft Office Protocol Discovery", "curl/8"] {
        let headers = format!("User-Agent: {agent}\r\n");
        let refused = WebTrace::new(&gateway, &headers).ask_before_login("OPTIONS /", "", 401)?;
        ensure!(refused.header("dav").is_none(), "{}", refused.head);
    }
    Ok(())
}

#[test]
fn windows_stores_a_file_with_its_times_and_finds_it_again() -> Result<()> {
    let gateway = Gateway::start()?;
    let windows = WebTrace::new(&gateway, HEADERS);
    windows.ask("MKCOL /Documents", "", b"", 201)?;
    // Every parent, then what is to be made.
    for path in ["/", "/Documents", "/Documents/"] {
        windows.ask(&format!("PROPFIND {path}"), "Depth: 0\r\n", b"", 207)?;
    }
    for name in ["desktop.ini", "AutoRun.inf", "Thumbs.db", "folder.jpg", "letter.docx"] {
        windows.ask(&format!("PROPFIND /Documents/{name}"), "Depth: 0\r\n", b"", 404)?;
    }
    windows.ask("PUT /Documents/letter.docx", "", b"", 201)?;
    let locked =
        windows.ask("LOCK /Documents/letter.docx", "Timeout: Second-3600\r\n", LOCK.as_bytes(), 200)?;
    let token = locked.lock_token()?;
    ensure!(
        locked.element("D:lockdiscovery").is_some_and(|lock| lock.contains("PC\\user")),
        "{}",
        locked.body
    );
    let holding = format!("If: (<{token}>)\r\n");
    windows.ask("PROPPATCH /Documents/letter.docx", &holding, &times(), 207)?;
    windows.ask("HEAD /Documents/letter.docx", "", b"", 200)?;
    let written = windows.ask("PUT /Documents/letter.docx", &holding, b"Dear Sir", 204)?;
    let set = windows.ask("PROPPATCH /Documents/letter.docx", &holding, &times(), 207)?;
    ensure!(set.body.contains("HTTP/1.1 200 OK") && !set.body.contains("HTTP/1.1 4"), "{}", set.body);
    windows.ask("UNLOCK /Documents/letter.docx", &format!("Lock-Token: <{token}>\r\n"), b"", 204)?;

    let listed = windows.ask("PROPFIND /Documents", "Depth: 1\r\n", b"", 207)?;
    for (name, value) in [("Z:Win32CreationTime", CREATED), ("Z:Win32FileAttributes", "00000020")] {
        ensure!(listed.element(name) == Some(value), "{name} in {}", listed.body);
    }
    let all = WebTrace::new(&gateway, "Depth: 0\r\n").ask("PROPFIND /Documents/letter.docx", "", b"", 207)?;
    for (name, value) in [("Z:Win32LastAccessTime", CREATED), ("Z:Win32LastModifiedTime", MODIFIED)] {
        ensure!(all.element(name) == Some(value), "{name} in {}", all.body);
    }
    ensure!(listed.body.contains(&format!("<D:getlastmodified>{MODIFIED}<")), "{}", listed.body);
    ensure!(listed.body.contains("<D:getcontentlength>8<"), "{}", listed.body);
    let read = windows.ask("GET /Documents/letter.docx", "", b"", 200)?;
    ensure!(read.body == "Dear Sir" && read.header("last-modified") == Some(MODIFIED), "{}", read.head);
    ensure!(read.header("etag") == written.header("etag"), "times are no content: {}", read.head);

    // Saved again under a lock, renamed, thrown away.
    windows.ask(
        "MOVE /Documents/letter.docx",
        &format!("Destination: {}\r\nOverwrite: F\r\n", gateway.url("Documents/old%20letter.docx")),
        b"",
        201,
    )?;
    let moved = windows.ask("PROPFIND /Documents/old%20letter.docx", "Depth: 0\r\n", b"", 207)?;
    ensure!(moved.element("Z:Win32CreationTime") == Some(CREATED), "{}", moved.body);
    windows.ask("DELETE /Documents/old%20letter.docx", "", b"", 204)?;
    windows.ask("PROPFIND /Documents/old%20letter.docx", "Depth: 0\r\n", b"", 404)?;
    Ok(())
}

#[test]
fn a_time_of_windows_that_is_no_longer_true_is_not_shown() -> Result<()> {
    let gateway = Gateway::start()?;
    let windows = WebTrace::new(&gateway, HEADERS);
    windows.ask("PUT /note.txt", "", b"one", 201)?;
    windows.ask("PROPPATCH /note.txt", "", &times(), 207)?;
    let shown = gateway.sftp_batch("ls -l note.txt\n")?.text();
    ensure!(shown.contains("2020"), "SFTP shows the same time: {shown}");
    // Another client writes: the stored time would be a lie.
    let work = tempfile::tempdir()?;
    let file = work.path().join("note");
    std::fs::write(&file, b"two, longer")?;
    gateway.sftp_batch(&format!("put {} note.txt\n", file.display()))?;
    let now = WebTrace::new(&gateway, "").ask("PROPFIND /note.txt", "Depth: 0\r\n", b"", 207)?;
    ensure!(now.element("Z:Win32LastModifiedTime") == now.element("D:getlastmodified"), "{}", now.body);
    ensure!(now.element("Z:Win32LastModifiedTime") != Some(MODIFIED), "{}", now.body);
    ensure!(now.element("Z:Win32CreationTime") == Some(CREATED), "{}", now.body);
    Ok(())
}
