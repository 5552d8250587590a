//! A WebDAV user who says exactly what he wants: curl with a method, headers and a body.

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run};

/// A body that asks for a lock.
pub(super) fn lockinfo(scope: &str) -> String {
    format!(
        "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype>\
         <D:owner><D:href>mailto:dr@clinic.example</D:href></D:owner></D:lockinfo>"
    )
}

/// A user of a gateway.
#[derive(Clone, Copy)]
pub(super) struct User<'g> {
    pub(super) gateway: &'g Gateway,
    name: &'g str,
    token: &'g str,
}

/// What was answered: status, head and body.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Reply {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Refuses any other status.
    pub(super) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text);
        Ok(self)
    }

    /// The lock token in angle brackets, as the header has it.
    pub(super) fn token(&self) -> Result<String> {
        Ok(self.header("lock-token").context("a Lock-Token header")?.to_owned())
    }
}

impl<'g> User<'g> {
    /// The demo user.
    pub(super) fn demo(gateway: &'g Gateway) -> Self {
        Self { gateway, name: &gateway.user, token: &gateway.token }
    }

    pub(super) fn new(gateway: &'g Gateway, name: &'g str, token: &'g str) -> Self {
        Self { gateway, name, token }
    }

    /// Sends one request.
    pub(super) fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Reply> {
        let mut curl = self.gateway.curl_as(self.name, self.token);
        curl.args(["--include", "--path-as-is", "--request", method, "-H", "Expect:"]);
        if !body.is_empty() {
            curl.args(["--data-binary", "@-"]);
        }
        for header in headers {
            curl.args(["-H", header]);
        }
        let finished = run(curl.arg(self.gateway.url(path)), body.as_bytes())?;
        ensure!(finished.status.success(), "{method} {path}: {}", finished.stderr);
        let text = finished.text().replace("\r\n", "\n");
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context(text.clone())?;
        Ok(Reply { status, text })
    }

    /// Puts a file.
    pub(super) fn put(&self, path: &str, headers: &[&str], content: &str) -> Result<Reply> {
        self.send("PUT", path, headers, content)
    }

    /// The content of a file.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let reply = self.send("GET", path, &[], "")?.expect(200)?;
        Ok(reply.text.split_once("\n\n").context("a body")?.1.to_owned())
    }

    /// Takes an exclusive lock; its token.
    pub(super) fn lock(&self, path: &str, depth: &str) -> Result<String> {
        let reply = self.send("LOCK", path, &[&format!("Depth: {depth}")], &lockinfo("exclusive"))?;
        ensure!(matches!(reply.status, 200 | 201), "LOCK {path}: {}", reply.text);
        reply.token()
    }

    /// The entity tag of a file, with its quotes.
    pub(super) fn etag(&self, path: &str) -> Result<String> {
        let reply = self.send("GET", path, &[], "")?.expect(200)?;
        Ok(reply.header("etag").context("an ETag")?.to_owned())
    }

    /// Destination, as a header.
    pub(super) fn destination(&self, path: &str) -> String {
        format!("Destination: {}", self.gateway.url(path))
    }
}

/// An `If` header that gives a token.
pub(super) fn with(token: &str) -> String {
    format!("If: ({token})")
}
