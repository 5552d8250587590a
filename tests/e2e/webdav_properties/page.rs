//! The page that a browser gets of a directory.

use anyhow::{Context, Result, ensure};
use coffre_tests::raw_sftp::{kind, string};
use coffre_tests::{Gateway, RawSftp, WebTrace, run_ok};

#[test]
fn a_directory_is_a_page_that_reads_well_sorted_and_in_the_readers_language() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "");
    gateway.sftp_batch(
        "mkdir zoo\nmkdir \"a & b\"\nmkdir \"a & b/empty\"\nsymlink zoo link\nsymlink nowhere dangling\n",
    )?;
    for (name, len) in [("b.txt", 1), ("A.txt", 1_234_567), ("c%20d.txt", 0)] {
        trace.ask(&format!("PUT /{name}"), "", &vec![1; len], 201)?;
    }
    let page = trace.ask("GET /", "Accept-Language: de, en;q=0.5\r\n", b"", 200)?;
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-language", "en"),
        ("vary", "accept-language"),
        ("x-content-type-options", "nosniff"),
    ] {
        ensure!(page.header(name) == Some(value), "{name}: {}", page.head);
    }
    let policy = page.header("content-security-policy").context("a policy")?;
    ensure!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    ensure!(!page.body.contains("<script") && !page.body.contains(" style="), "{}", page.body);
    // Directories first, then files, whatever the case of their letters.
    let rows: Vec<&str> = page.body.split("<th scope=\"row\">").skip(1).collect();
    let order = ["a &amp; b", "link", "zoo", "A.txt", "b.txt", "c d.txt"];
    ensure!(rows.len() == order.len(), "{}", page.body);
    for (row, name) in rows.iter().zip(order) {
        ensure!(row.contains(&format!("<bdi>{name}</bdi>")), "{name}: {row}");
    }
    ensure!(
        rows[0].contains("href=\"/a%20%26%20b/\"") && rows[0].contains("<td>Directory</td>"),
        "{}",
        rows[0]
    );
    let size = "<data value=\"1234567\" title=\"1,234,567\u{a0}bytes\">1.2\u{a0}MB</data>";
    ensure!(rows[3].contains(size) && rows[3].contains("<time datetime=\"20"), "{}", rows[3]);
    for needed in [
        "<html lang=\"en\">",
        "<title>Contents of /</title>",
        "<caption>",
        "<th scope=\"col\">Name</th>",
        "<main>",
        "href=\"/.snapshots/\"",
    ] {
        ensure!(page.body.contains(needed), "{needed}: {}", page.body);
    }
    let french = trace.ask("GET /a%20%26%20b/empty/", "Accept-Language: fr-CA, en;q=0.5\r\n", b"", 200)?;
    for needed in [
        "<html lang=\"fr\">",
        "Ce dossier est vide.",
        "aria-label=\"Chemin\"",
        "<a href=\"/a%20%26%20b/\">",
        "aria-current=\"page\"",
    ] {
        ensure!(french.body.contains(needed), "{needed}: {}", french.body);
    }
    ensure!(!french.body.contains("<table"), "{}", french.body);
    // HEAD says what GET says.
    let head = trace.ask("HEAD /", "", b"", 200)?;
    ensure!(head.header("content-security-policy") == Some(policy) && head.body.is_empty(), "{}", head.head);
    let file = trace.ask("GET /b.txt", "", b"", 200)?;
    ensure!(file.header("content-disposition") == Some("attachment"), "{}", file.head);
    ensure!(!file.head.contains("unsafe"), "{}", file.head);
    Ok(())
}

#[test]
fn a_page_shows_names_of_any_bytes_and_they_turn_and_hide_nothing() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    for name in [&b"exe.\xe2\x80\xaefdp"[..], b"\x1b[31mred", b"<img src=x onerror=alert(1)>", b"old \xe9"] {
        let path = [b"/", name].concat();
        ensure!(raw.ask(kind::MKDIR, &[&string(&path), &[0; 4]])?.status() == Some(0), "{name:?}");
    }
    let page = run_ok(gateway.curl().arg(gateway.url("")))?.text();
    for shown in ["exe.\\u{202e}fdp", "\\u{1b}[31mred", "&lt;img src=x onerror=alert(1)&gt;", "old \\xe9"] {
        ensure!(page.contains(&format!("<bdi>{shown}</bdi>")), "{shown}: {page}");
    }
    ensure!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains('\u{1b}'), "{page}");
    ensure!(page.contains("href=\"/old%20%E9/\""), "{page}");
    let below = run_ok(gateway.curl().args(["--fail"]).arg(gateway.url("exe.%E2%80%AEfdp/")))?.text();
    ensure!(!below.contains('\u{202e}') && below.contains("empty"), "{below}");
    Ok(())
}

#[test]
fn earlier_states_are_browsed_with_their_dates_and_downloaded() -> Result<()> {
    let gateway = Gateway::start()?;
    let trace = WebTrace::new(&gateway, "Accept-Language: en\r\n");
    trace.ask("PUT /file", "", b"first", 201)?;
    gateway.admin(&["vault", "snapshot", "demo/demo", "before"])?;
    trace.ask("PUT /file", "", b"second", 204)?;
    let points = trace.ask("GET /.snapshots/", "", b"", 200)?;
    ensure!(points.body.contains("href=\"/.snapshots/before/\""), "{}", points.body);
    ensure!(
        points.body.contains(" UTC</time>") && points.body.contains("Nothing here can be changed"),
        "{}",
        points.body
    );
    let then = trace.ask("GET /.snapshots/before/", "", b"", 200)?;
    ensure!(then.body.contains("href=\"/.snapshots/before/file\""), "{}", then.body);
    let file = trace.ask("GET /.snapshots/before/file", "Range: bytes=0-2\r\n", b"", 206)?;
    ensure!(file.body == "fir", "{}", file.body);
    Ok(())
}
