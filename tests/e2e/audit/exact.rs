//! One record for each action, no more and no less, refusals included.

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;
use coffre_tests::process::until;
use serde_json::Value;

/// `protocol action outcome path -> target`.
fn told(row: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let target = row["details"]["target"].as_str().map(|target| format!(" -> {target}")).unwrap_or_default();
    let path = text(&row["details"]["path"]);
    let line = [text(&row["protocol"]), text(&row["action"]), text(&row["outcome"]), path].join(" ");
    format!("{}{target}", line.trim_end())
}

#[test]
fn a_session_over_both_protocols_leaves_exactly_these_records() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, b"content", 1_500_000_000)?;
    let shown = file.display().to_string();
    let read_only = gateway.add_key("demo", work.path(), "reader", &["--rights", "read-only"])?;
    gateway.admin(&["audit", "search", "-n", "1"])?;
    let rows = || -> Result<Vec<Value>> {
        let finished = gateway.admin(&["--json", "audit", "search"])?;
        finished.text().lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    };
    let before = rows()?.len();

    gateway.sftp_batch(&format!(
        "mkdir folder\nput {shown} folder/file\nget folder/file /dev/null\nls folder\nrename folder/file folder/moved\n\
         symlink moved folder/link\nrm folder/moved\n-rm folder/missing\n-rmdir folder\nrm folder/link\nrmdir folder\n"
    ))?;
    let refused = gateway.sftp_as("demo", &read_only.secret, &format!("put {shown} refused\n"))?;
    ensure!(!refused.status.success(), "a read-only key writes nothing");
    let web = |method: &str, path: &str, more: &[&str]| {
        gateway.curl_status(&[&["-X", method], more, &[&gateway.url(path)]].concat())
    };
    ensure!(web("MKCOL", "dav/", &[])? == 201);
    ensure!(gateway.curl_status(&["-T", &shown, &gateway.url("dav/file")])? == 201);
    ensure!(web("GET", "dav/file", &[])? == 200);
    ensure!(web("PROPFIND", "dav/", &["-H", "Depth: 1"])? == 207);
    ensure!(web("COPY", "dav/file", &["-H", &format!("Destination: {}", gateway.url("dav/copy"))])? == 201);
    ensure!(web("MOVE", "dav/copy", &["-H", &format!("Destination: {}", gateway.url("dav/moved"))])? == 201);
    ensure!(web("GET", "dav/missing", &[])? == 404);
    ensure!(web("DELETE", "dav/", &[])? == 204);
    ensure!(gateway.curl_status(&["--user", "demo:cofr_wrong", &gateway.url("x")])? == 401);

    until("the sessions to be over", 20, || {
        Ok(rows()?.iter().filter(|row| row["action"] == "session-close").count() >= 2)
    })?;
    let seen: Vec<String> =
        rows()?[before..].iter().filter(|row| row["action"] != "audit-read").map(told).collect();
    ensure!(seen == EXPECTED, "{seen:#?}");
    Ok(())
}

/// What a client asks for that is not there, or not empty, changes nothing and shows nothing: it is no access.
const EXPECTED: [&str; 26] = [
    "sftp login done",
    "sftp directory-create done /folder",
    "sftp file-create done /folder/file",
    "sftp file-write done /folder/file",
    "sftp file-open done /folder/file",
    "sftp file-read done /folder/file",
    "sftp directory-list done /folder",
    "sftp rename done /folder/file -> /folder/moved",
    "sftp link-create done /folder/link -> moved",
    "sftp remove done /folder/moved",
    "sftp remove done /folder/link",
    "sftp remove done /folder",
    "sftp session-close done",
    "sftp login done",
    "sftp file-open refused /refused",
    "sftp session-close done",
    "webdav login done",
    "webdav directory-create done /dav",
    "webdav file-write done /dav/file",
    "webdav file-open done /dav/file",
    "webdav file-read done /dav/file",
    "webdav directory-list done /dav",
    "webdav copy done /dav/file -> /dav/copy",
    "webdav rename done /dav/copy -> /dav/moved",
    "webdav remove done /dav",
    "webdav login refused",
];
