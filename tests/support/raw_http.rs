//! HTTP over TLS byte by byte: what no polite client sends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Gateway;

/// Seconds a read may take.
const ANSWER_SECS_MAX: u64 = 60;

/// One TLS connection to the WebDAV listener.
#[derive(Debug)]
pub struct RawHttp {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    authorization: String,
}

impl RawHttp {
    /// Connects, with the demo user's token at hand.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn connect(gateway: &Gateway) -> Result<Self> {
        Self::connect_offering(gateway, &[], b"")
    }

    /// The same, offering protocols by their names in a handshake, before which it says something else.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn connect_offering(gateway: &Gateway, protocols: &[&str], before: &[u8]) -> Result<Self> {
        let host = gateway.webdav.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&gateway.ca_file)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = host.rsplit_once(':').context("a port")?.0.to_owned();
        let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name)?)?;
        let mut socket = TcpStream::connect(&host)?;
        socket.set_read_timeout(Some(Duration::from_secs(ANSWER_SECS_MAX)))?;
        socket.write_all(before)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let authorization = Self::authorization(gateway);
        Ok(Self { stream: StreamOwned::new(connection, socket), host, authorization })
    }

    /// What the demo user's requests have as their `Authorization`.
    pub fn authorization(gateway: &Gateway) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", gateway.user, gateway.token)))
    }

    /// What was agreed to be spoken, if anything was.
    pub fn protocol(&self) -> Option<String> {
        self.stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        Some(self.stream.conn.peer_certificates()?.first()?.to_vec())
    }

    /// Credentials as `Authorization` has them, and the authority.
    pub fn credentials(&self) -> (String, String) {
        (self.authorization.clone(), self.host.clone())
    }

    /// Fills a piece of memory; false when the server closed before.
    ///
    /// # Errors
    /// When the server is silent.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Result<bool> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if is_end(error.kind()) => Ok(false),
            Err(error) => Err(error).context("no answer and no end"),
        }
    }

    /// Sends a request line, `Host`, `Authorization`, the caller's headers (each with its CRLF) and the empty line.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn request(&mut self, line: &str, headers: &str) -> Result<()> {
        let credentials = format!("Authorization: {}\r\n", self.authorization);
        self.request_without_credentials(line, &format!("{credentials}{headers}"))
    }

    /// The same without `Authorization`.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn request_without_credentials(&mut self, line: &str, headers: &str) -> Result<()> {
        let head = format!("{line} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.host);
        self.send(head.as_bytes())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        Ok(())
    }

    /// The status of the next answer, after its head was read; nothing when the server closed instead.
    ///
    /// # Errors
    /// When the server is silent, or answers something that is not HTTP.
    pub fn status(&mut self) -> Result<Option<u16>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => head.push(byte[0]),
                Err(error) if is_end(error.kind()) => return Ok(None),
                Err(error) => return Err(error).context("no answer and no end"),
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let status = text.split(' ').nth(1).with_context(|| text.clone())?;
        Ok(Some(status.parse().with_context(|| text.clone())?))
    }

    /// Everything until the server closes (send `Connection: close`).
    ///
    /// # Errors
    /// When the server stays silent.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut piece = vec![0; 65_536];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(all),
                Ok(len) => all.extend_from_slice(&piece[..len]),
                Err(error) if is_end(error.kind()) => return Ok(all),
                Err(error) => return Err(error).context("no answer and no end"),
            }
        }
    }

    /// Sends one request with its body on a connection of its own; returns the answer's head and body as text.
    ///
    /// # Errors
    /// When the server is silent. A connection closed before the answer is empty text.
    pub fn exchange(gateway: &Gateway, line: &str, headers: &str, body: &[u8]) -> Result<String> {
        let mut raw = Self::connect(gateway)?;
        let length = format!("Content-Length: {}\r\nConnection: close\r\n{headers}", body.len());
        // The server may refuse on the head and close: that is an answer, not an error of the test.
        drop(raw.request(line, &length).and_then(|()| raw.send(body)));
        Ok(String::from_utf8_lossy(&raw.rest()?).into_owned())
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

/// The status in the text that [`RawHttp::exchange`] returned; 0 when there is none.
pub fn status_of(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
