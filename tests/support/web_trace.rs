//! WebDAV requests as a client sends them, header by header, for clients that do not run here: their requests do.

use anyhow::{Context, Result, ensure};

use crate::{Gateway, RawHttp};

/// A client of the demo user: each request has its usual headers.
#[derive(Debug, Clone, Copy)]
pub struct WebTrace<'g> {
    gateway: &'g Gateway,
    headers: &'g str,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct WebAnswer {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, whole.
    pub body: String,
}

impl WebAnswer {
    fn read(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        let mut answer = Self { status, head: head.to_owned(), body: body.to_owned() };
        if answer.header("transfer-encoding").is_some() {
            answer.body = unchunked(body)?;
        }
        Ok(answer)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What stands in the first element of that name, as answers write it (`D:getetag`).
    pub fn element(&self, tag: &str) -> Option<&str> {
        let (_, after) = self.body.split_once(&format!("<{tag}>"))?;
        after.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
    }

    /// The lock's token.
    ///
    /// # Errors
    /// When there is none.
    pub fn lock_token(&self) -> Result<String> {
        let token = self.header("lock-token").with_context(|| format!("a token in {}", self.head))?;
        Ok(token.trim_matches(['<', '>']).to_owned())
    }
}

/// A chunked body without its chunks' lengths; all of it is there, or it is an error.
fn unchunked(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").context("a chunk's length")?;
        let length = usize::from_str_radix(length.trim(), 16)?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..length).context("a whole chunk")?);
        rest = after.get(length + 2..).context("the end of a chunk")?;
    }
}

impl<'g> WebTrace<'g> {
    /// A client that sends these headers (each with its CRLF) with each request.
    pub fn new(gateway: &'g Gateway, headers: &'g str) -> Self {
        Self { gateway, headers }
    }

    /// Sends a request, and expects a status.
    ///
    /// # Errors
    /// Another status, or none.
    pub fn ask(self, line: &str, headers: &str, body: &[u8], expected: u16) -> Result<WebAnswer> {
        let mut raw = RawHttp::connect(self.gateway)?;
        let own = self.headers;
        let length = if body.is_empty() && !line.starts_with("PUT") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        raw.request(line, &format!("Connection: close\r\n{own}{headers}{length}"))?;
        raw.send(body)?;
        Self::expect(&mut raw, line, expected)
    }

    /// The same without a credential.
    ///
    /// # Errors
    /// Another status, or none.
    pub fn ask_before_login(self, line: &str, headers: &str, expected: u16) -> Result<WebAnswer> {
        let mut raw = RawHttp::connect(self.gateway)?;
        let own = self.headers;
        raw.request_without_credentials(line, &format!("Connection: close\r\n{own}{headers}"))?;
        Self::expect(&mut raw, line, expected)
    }

    /// Sends a body in chunks, without its length.
    ///
    /// # Errors
    /// Another status, or none.
    pub fn ask_chunked(
        self,
        line: &str,
        headers: &str,
        chunks: &[&[u8]],
        expected: u16,
    ) -> Result<WebAnswer> {
        let mut raw = RawHttp::connect(self.gateway)?;
        let own = self.headers;
        raw.request(line, &format!("Connection: close\r\n{own}{headers}Transfer-Encoding: chunked\r\n"))?;
        for chunk in chunks {
            raw.send(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            raw.send(chunk)?;
            raw.send(b"\r\n")?;
        }
        raw.send(b"0\r\n\r\n")?;
        Self::expect(&mut raw, line, expected)
    }

    fn expect(raw: &mut RawHttp, line: &str, expected: u16) -> Result<WebAnswer> {
        let answer = WebAnswer::read(&raw.rest()?).with_context(|| line.to_owned())?;
        ensure!(answer.status == expected, "{line} was answered {}\n{}", answer.head, answer.body);
        Ok(answer)
    }
}
