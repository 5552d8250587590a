//! How file bytes move over WebDAV: checksums, parts of files, uploads in parts, ranges, what is refused before a body comes, and
//! what a transfer may hold of memory.

mod bounds;
mod checksums;
mod expect;
mod partial;
mod parts;
mod ranges;
mod readers;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run, run_ok};

/// An answer as curl prints it with `--include`.
struct Answered {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request with curl; `body`, if any, is sent as it is.
fn ask_as(
    mut curl: Command,
    (method, url): (&str, &str),
    headers: &[&str],
    body: Option<&[u8]>,
) -> Result<Answered> {
    curl.args(["--include", "--request", method]);
    if method == "HEAD" {
        curl.arg("--head");
    }
    for header in headers {
        curl.args(["--header", header]);
    }
    // No wait for a 100 that may not come.
    curl.args(["--header", "Expect:"]);
    if body.is_some() {
        curl.args(["--data-binary", "@-", "--header", "Content-Type: application/octet-stream"]);
    }
    let said = run(curl.arg(url), body.unwrap_or_default())?.stdout;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok(Answered { status, head, body: said[end + 4..].to_vec() })
}

fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&[u8]>,
) -> Result<Answered> {
    ask_as(gateway.curl(), (method, &gateway.url(path)), headers, body)
}

/// A PUT that must succeed.
fn put(gateway: &Gateway, path: &str, content: &[u8]) -> Result<()> {
    let answer = ask(gateway, "PUT", path, &[], Some(content))?;
    ensure!(matches!(answer.status, 201 | 204), "PUT {path}: {} {}", answer.head, answer.text());
    Ok(())
}

fn get(gateway: &Gateway, path: &str) -> Result<Vec<u8>> {
    Ok(run_ok(gateway.curl().arg("--fail").arg(gateway.url(path)))?.stdout)
}

fn holds(gateway: &Gateway, path: &str, content: &[u8]) -> Result<()> {
    let found = get(gateway, path)?;
    ensure!(found == content, "{path} holds {} other bytes", found.len());
    Ok(())
}

/// A digest as one of coreutils' programs prints it.
fn sum(program: &str, content: &[u8]) -> Result<String> {
    let said = run(&mut Command::new(program), content)?.text();
    Ok(said.split(' ').next().context("a digest")?.to_owned())
}

/// Records of the audit log, the newest last.
fn records(gateway: &Gateway) -> Result<Vec<serde_json::Value>> {
    let said = gateway.admin(&["--json", "audit", "tail", "--lines", "1000"])?.text();
    said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
