//! Connections that the gateway itself opens, to a witness or a collector of the audit log: plain, or TLS with the authorities
//! that the operator names and no others. Blocking, each step bounded in time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::limits::{OUTBOUND_SECS_MAX, STATUS_LINE_BYTES_MAX};

/// Both ways.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Whom to connect to.
#[derive(Debug, Clone)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What is asked for there.
    pub path: String,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Address {
    /// Reads `http://HOST[:PORT][/PATH]`, or `https://...`, which needs a file of authorities in PEM.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn parse(url: &str, authorities: Option<&Path>) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("http:// or https:// and a host")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err("http:// or https:// and a host".to_owned()),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if url.chars().any(|letter| letter.is_control() || letter == ' ') || authority.contains('@') {
            return Err("no credentials, spaces or control characters".to_owned());
        }
        let mut address = Self::host(authority, Some(default_port))?;
        path.clone_into(&mut address.path);
        if scheme == "https" {
            address = address.with_tls(authorities)?;
        }
        Ok(address)
    }

    fn host(authority: &str, default_port: Option<u16>) -> Result<Self, String> {
        let bad = || "HOST:PORT, or [ADDRESS]:PORT with IPv6".to_owned();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| bad())?)),
            Some(_) | None => (authority, default_port),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port: port.ok_or_else(bad)?, path: String::new(), tls: None })
    }

    fn with_tls(self, authorities: Option<&Path>) -> Result<Self, String> {
        let file = authorities.ok_or("a file of authorities is needed for TLS")?;
        let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| shown(&error))? {
            let certificate = certificate.map_err(|error| shown(&error))?;
            roots.add(certificate).map_err(|error| shown(&error))?;
        }
        if roots.is_empty() {
            return Err(shown(&"no certificate in it"));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some((name, Arc::new(config))), ..self })
    }

    /// Connects; with TLS the certificate was verified when this returns.
    ///
    /// # Errors
    /// Nobody answers in time; the certificate is not good.
    pub fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let time = Duration::from_secs(OUTBOUND_SECS_MAX);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, time) {
                Ok(stream) => stream,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            stream.set_read_timeout(Some(time))?;
            stream.set_write_timeout(Some(time))?;
            let Some((name, config)) = &self.tls else { return Ok(Box::new(stream)) };
            let mut session =
                ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
            while session.is_handshaking() {
                session.complete_io(&mut stream)?;
            }
            return Ok(Box::new(StreamOwned::new(session, stream)));
        }
        Err(failed)
    }

    /// Posts a text.
    ///
    /// # Errors
    /// As [`Address::connect`]; an answer that is not 2xx.
    pub fn post(&self, text: &str) -> io::Result<()> {
        let mut stream = self.connect()?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}:{}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.path,
            self.port,
            text.len()
        );
        stream.write_all(&[head.as_bytes(), text.as_bytes()].concat())?;
        stream.flush()?;
        let mut line = Vec::new();
        BufReader::new(stream.take(STATUS_LINE_BYTES_MAX)).read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        match status {
            Some(status) if status.starts_with('2') => Ok(()),
            Some(status) => Err(io::Error::other(format!("the answer is {status}"))),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whole_or_refused() {
        let parsed = Address::parse("http://[::1]:8080/log?x=1", None).unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.path.as_str()), ("::1", 8080, "/log?x=1"));
        let parsed = Address::parse("http://witness.example", None).unwrap();
        assert_eq!((parsed.port, parsed.path.as_str()), (80, "/"));
        for bad in [
            "witness.example",
            "ftp://witness.example/",
            "http://",
            "http://:80/",
            "http://a:port/",
            "http://user:secret@a/",
            "http://a/\r\nX: y",
            "https://a/",
        ] {
            assert!(Address::parse(bad, None).is_err(), "{bad}");
        }
    }
}
