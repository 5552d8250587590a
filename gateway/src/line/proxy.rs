//! The PROXY protocol, versions 1 and 2: a balancer in front says from where a connection comes
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! It is asked for, and required, from the networks of the configuration only. From anybody else its bytes are what any other
//! bytes are: no greeting of SSH, no handshake of TLS.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{PROXY_BYTES_MAX, PROXY_LINE_BYTES_MAX};

/// Before each header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Before each header of version 1.
const WORD: &[u8] = b"PROXY ";

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// What came is none.
    #[error("the balancer sent no PROXY header")]
    Absent,
    /// What came is one, and wrong.
    #[error("the balancer's PROXY header is malformed")]
    Malformed,
    /// The connection ended before.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads a header, and not a byte behind it. Nothing when the balancer speaks for itself (its health check).
///
/// # Errors
/// [`ProxyError`]: the connection is of no use then.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyError> {
    let mut head = [0; SIGNATURE.len()];
    stream.read_exact(&mut head).await?;
    if head == SIGNATURE {
        return binary(stream).await;
    }
    if !head.starts_with(WORD) {
        return Err(ProxyError::Absent);
    }
    let mut line = head.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= PROXY_LINE_BYTES_MAX {
            return Err(ProxyError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    text(&line)
}

/// A line of version 1, with its end.
fn text(line: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let line = line.strip_suffix("\r\n").ok_or(ProxyError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    // What follows UNKNOWN is to be ignored.
    if let ["PROXY", "UNKNOWN", ..] = words.as_slice() {
        return Ok(None);
    }
    let ["PROXY", family, source, destination, source_port, port] = words.as_slice() else {
        return Err(ProxyError::Malformed);
    };
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        let address = text.parse().map_err(|_| ProxyError::Malformed)?;
        match (*family, address) {
            ("TCP4", IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_)) => Ok(address),
            _ => Err(ProxyError::Malformed),
        }
    };
    let is_port =
        |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse::<u16>().is_ok();
    address(destination)?;
    if !is_port(source_port) || !is_port(port) {
        return Err(ProxyError::Malformed);
    }
    address(source).map(Some)
}

/// What follows the signature of version 2.
async fn binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyError> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let len = usize::from(stream.read_u16().await?);
    if len > PROXY_BYTES_MAX {
        return Err(ProxyError::Malformed);
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        // LOCAL: whatever the addresses are.
        (0x20, _) => Ok(None),
        // Source, destination, two ports; more may follow.
        (0x21, 0x11) if len >= 12 => {
            Ok(rest.first_chunk().map(|source: &[u8; 4]| Ipv4Addr::from(*source).into()))
        }
        (0x21, 0x21) if len >= 36 => {
            Ok(rest.first_chunk().map(|source: &[u8; 16]| Ipv6Addr::from(*source).into()))
        }
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The address, and how much was left unread.
    async fn read(bytes: &[u8]) -> Result<(Option<IpAddr>, usize), ProxyError> {
        let mut rest = bytes;
        let found = read_header(&mut rest).await?;
        Ok((found, rest.len()))
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_tell_the_source_and_take_nothing_behind_them() {
        let four: IpAddr = "203.0.113.9".parse().unwrap();
        let six: IpAddr = "2001:db8::9".parse().unwrap();
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 22\r\n".to_vec(), Some(four)),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 5000 22\r\n".to_vec(), Some(six)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it is\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 1, 0, 22]), Some(four)),
            (version_2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 1, 0, 22, 4, 0, 1, 0]), Some(four)),
            (
                version_2(
                    0x21,
                    0x21,
                    &[&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 20]].concat(),
                ),
                Some(six),
            ),
            (version_2(0x20, 0x00, &[]), None),
        ] {
            let stream = [&header[..], b"SSH-2.0-client\r\n"].concat();
            assert_eq!(read(&stream).await.unwrap(), (expected, 16), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for absent in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"] {
            assert!(matches!(read(absent).await, Err(ProxyError::Absent)), "{absent:?}");
        }
        for malformed in [
            &b"PROXY TCP4 203.0.113.9 192.0.2.1 5000\r\n"[..],
            b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
            b"PROXY TCP6 203.0.113.9 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 70000 22\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 +5 22\r\n",
            b"PROXY TCP4  203.0.113.9 192.0.2.1 5 22\r\n",
            b"PROXY UDP4 203.0.113.9 192.0.2.1 5 22\r\n",
            b"PROXY nonsense of some length here\r\n",
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat(),
            &version_2(0x11, 0x11, &[0; 12]),
            &version_2(0x22, 0x11, &[0; 12]),
            &version_2(0x21, 0x12, &[0; 12]),
            &version_2(0x21, 0x31, &[0; 216]),
            &version_2(0x21, 0x11, &[0; 11]),
            &version_2(0x21, 0x21, &[0; 35]),
            &version_2(0x20, 0x00, &[0; 3000]),
        ] {
            assert!(matches!(read(malformed).await, Err(ProxyError::Malformed)), "{malformed:?}");
        }
        assert!(matches!(read(b"PROXY TCP4 1").await, Err(ProxyError::Io(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80), signed: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let head = if signed { &SIGNATURE[..] } else { WORD };
            drop(runtime.block_on(read(&[head, &bytes].concat())));
        }
    }
}
