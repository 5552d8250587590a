//! What is searched is found, no more and no less.

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;
use serde_json::Value;

fn search(gateway: &Gateway, asked: &[&str]) -> Result<Vec<Value>> {
    let finished = gateway.admin(&[&["--json", "audit", "search"], asked].concat())?;
    finished.text().lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

fn seen(rows: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row["action"]), text(&row["details"]["path"]))).collect()
}

#[test]
fn a_search_finds_exactly_what_is_asked_for_and_is_a_record_itself() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let before = gateway.coffre_json(&["status"])?["time"].as_str().context("a time")?.to_owned();
    gateway.sftp_batch(&format!("mkdir plans\nmkdir plans2\nput {} plans/file\n", file.display()))?;
    ensure!(gateway.curl_status(&["-T", &file.display().to_string(), &gateway.url("plans/dav")])? == 201);
    ensure!(gateway.curl_status(&["--user", "demo:cofr_wrong", &gateway.url("plans/dav")])? == 401);
    let between = gateway.coffre_json(&["status"])?["time"].as_str().context("a time")?.to_owned();
    gateway.sftp_batch("rm plans/file\n")?;

    let pair = |action: &str, path: &str| (action.to_owned(), path.to_owned());
    let made = search(&gateway, &["--action", "directory-create", "--user", "demo"])?;
    ensure!(
        seen(&made) == [pair("directory-create", "/plans"), pair("directory-create", "/plans2")],
        "{made:?}"
    );
    let below = search(
        &gateway,
        &[
            "--path",
            "/plans/",
            "--outcome",
            "done",
            "--action",
            "file-write",
            "--action",
            "remove",
            "--newest",
        ],
    )?;
    let expected =
        [pair("remove", "/plans/file"), pair("file-write", "/plans/dav"), pair("file-write", "/plans/file")];
    ensure!(seen(&below) == expected, "{below:?}");
    let dav = search(&gateway, &["--path", "/plans", "--protocol", "webdav", "--action", "file-write"])?;
    ensure!(seen(&dav) == [pair("file-write", "/plans/dav")], "{dav:?}");
    let refused = search(&gateway, &["--outcome", "refused"])?;
    ensure!(seen(&refused) == [pair("login", "")], "{refused:?}");
    let late = search(&gateway, &["--from", &between, "--action", "remove", "--action", "file-write"])?;
    ensure!(seen(&late) == [pair("remove", "/plans/file")], "{late:?}");
    let early = search(&gateway, &["--from", &before, "--to", &between, "--action", "remove"])?;
    ensure!(early.is_empty(), "{early:?}");
    // One session, and one credential: what it did, and nothing else.
    let (session, credential) = (made[0]["session"].as_str(), made[0]["credential"].as_str());
    let of_session = search(&gateway, &["--session", session.context("a session")?])?;
    ensure!(of_session.iter().all(|row| row["session"] == made[0]["session"]) && of_session.len() >= 4);
    let of_credential = search(&gateway, &["--credential", credential.context("a credential")?])?;
    ensure!(of_credential.len() > of_session.len(), "both sessions over SFTP");
    ensure!(of_credential[0]["action"] == "credential-add", "how it came to be: {of_credential:?}");
    ensure!(of_credential[1..].iter().all(|row| row["protocol"] == "sftp"), "{of_credential:?}");
    // In pages, and cut at what is asked for.
    let all = search(&gateway, &["--customer", "demo"])?;
    ensure!(search(&gateway, &["--customer", "demo", "-n", "2"])? == all[..2]);
    let newest = search(&gateway, &["--customer", "demo", "--newest", "-n", "1"])?;
    ensure!(
        newest[0]["action"] == "audit-read"
            && newest[0]["details"]["note"].as_str().is_some_and(|asked| asked.contains("demo"))
    );
    ensure!(newest[0]["actor"] == "operator", "the customer sees who read its log: {newest:?}");
    let reads = search(&gateway, &["--action", "audit-read"])?;
    ensure!(reads.len() >= 11, "each search is a record: {}", reads.len());
    for (asked, said) in [
        (["--action", "walk"], "no action `walk`"),
        (["--outcome", "good"], "none of done, refused, failed"),
        (["--user", "nobody"], "no user nobody"),
        (["--session", "1"], "no session"),
        (["--customer", "nobody"], "nobody"),
    ] {
        let finished = gateway.coffre(&[&["audit", "search"], &asked[..]].concat())?;
        ensure!(!finished.status.success() && finished.stderr.contains(said), "{}", finished.stderr);
    }
    Ok(())
}
