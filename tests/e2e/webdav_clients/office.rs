//! Word and Excel, which open a document by its address: what they send to lock, read, save and let go.

use anyhow::{Result, ensure};
use coffre_tests::{Gateway, WebTrace};

const HEADERS: &str =
    "User-Agent: Microsoft Office Word 2014\r\nX-Office-Major-Version: 16\r\nX-MSGETWEBURL: t\r\n";
const LOCK: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:lockinfo xmlns:D=\"DAV:\">\
    <D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>\
    <D:owner><D:href>Jeanne Dupont</D:href></D:owner></D:lockinfo>";

#[test]
fn office_locks_reads_saves_twice_and_reopens() -> Result<()> {
    let gateway = Gateway::start()?;
    let office = WebTrace::new(&gateway, HEADERS);
    office.ask("PUT /report.docx", "", b"first", 201)?;
    office.ask_before_login("OPTIONS /", "", 401)?;
    let what = office.ask("OPTIONS /", "", b"", 200)?;
    ensure!(what.header("ms-author-via") == Some("DAV"), "{}", what.head);
    for method in ["LOCK", "UNLOCK", "PUT", "PROPPATCH", "MOVE"] {
        ensure!(what.header("allow").is_some_and(|all| all.contains(method)), "{method}: {}", what.head);
    }
    office.ask("HEAD /report.docx", "", b"", 200)?;
    let lock =
        office.ask("LOCK /report.docx", "Depth: 0\r\nTimeout: Second-3600\r\n", LOCK.as_bytes(), 200)?;
    let token = lock.lock_token()?;
    let holding = format!("If: (<{token}>)\r\n");
    let opened = office.ask("GET /report.docx", "", b"", 200)?;
    ensure!(opened.body == "first", "{}", opened.body);
    let mut tag = opened.header("etag").unwrap_or_default().to_owned();
    for content in ["second", "third, longer"] {
        office.ask("LOCK /report.docx", &format!("{holding}Timeout: Second-3600\r\n"), b"", 200)?;
        let saved = office.ask("PUT /report.docx", &holding, content.as_bytes(), 204)?;
        let now = saved.header("etag").unwrap_or_default().to_owned();
        ensure!(now != tag && now.starts_with('"'), "{now} after {tag}");
        tag = now;
    }
    // Somebody else sees that it is locked, and by whom no more than that.
    WebTrace::new(&gateway, "").ask("PUT /report.docx", "", b"other", 423)?;
    office.ask("UNLOCK /report.docx", &format!("Lock-Token: <{token}>\r\n"), b"", 204)?;
    // It reopens from its cache: what it says of that cache must not make the answer empty unless it is the same.
    let old = opened.header("etag").unwrap_or_default();
    let again = office.ask("GET /report.docx", &format!("If-None-Match: {old}\r\n"), b"", 200)?;
    ensure!(again.body == "third, longer", "{}", again.body);
    Ok(())
}
